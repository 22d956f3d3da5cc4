//! Runs the program as its users do: as processes that talk over TCP.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod common;

use common::{kv_store, spawn, wait_for_end, Cluster, TIMEOUT};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::Stdio,
    time::Instant,
};

#[test]
fn the_demonstration_succeeds() {
    let output = kv_store().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for says in [
        "the leader, with SIGKILL",
        "from its disk",
        "killed all 3 servers at once with SIGKILL",
        "restarted all 3 servers from their disks",
        "the leader, for good",
        "server 4, which is new, has caught up and is a member in its place",
        "of 4537 records acknowledged",
        ": seen at once at server ",
        "has transferred leadership to server",
        "the leader, with a put under way",
        "it was done once",
        "no record is missing",
    ] {
        assert!(text.contains(says), "`{says}` is not in:\n{text}");
    }
    let digests: Vec<_> = text.lines().filter_map(|line| line.split("digest ").nth(1)).collect();
    assert!(digests.len() == 3, "{text}");
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{text}");
    let folder = text.lines().find_map(|line| line.strip_prefix("they keep their logs in "));
    assert!(!std::path::Path::new(folder.unwrap()).exists(), "files are left behind");
}

#[test]
fn the_demonstration_takes_other_data_and_refuses_what_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("data.txt");
    std::fs::write(&file, "one 1\ntwo 2\nthree 3\n").unwrap();
    let output = kv_store().args(["demo", "--data"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::write(&file, "one\n").unwrap();
    let output = kv_store().args(["demo", "--data"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_client_puts_gets_deletes_and_asks_for_the_status() {
    let mut cluster = Cluster::start();
    let mut indices = vec![
        cluster.change(&["put", "colour", "green"]),
        cluster.change(&["put", "shape", "a round one"]),
    ];
    assert_eq!(cluster.ask(&["get", "colour"]), "green\n");
    indices.push(cluster.change(&["put", "colour", "blue"]));
    assert_eq!(cluster.ask(&["get", "colour"]), "blue\n");
    indices.push(cluster.change(&["delete", "colour"]));
    let nothing = cluster.client(&["get", "colour"]);
    assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
    indices.push(cluster.change(&["delete", "colour"]));
    assert!(indices.is_sorted_by(|a, b| a < b), "{indices:?}");
    assert_eq!(cluster.ask(&["get", "shape"]), "a round one\n");
    let lines = cluster.status_in_step();
    assert!(lines[0].starts_with("server 1: leader "), "{lines:?}");
    assert!(lines[0].contains(" 1 keys, digest "), "{lines:?}");
    for says in [
        "  Leading in configuration 1, promise ",
        "  Following in",
        " answers, Replicating, lacks 0",
    ] {
        // A leader may be elected before its first heartbeat round has ended, which tells who answers.
        cluster.status_says(says);
    }
    cluster.assert_alive();
}

#[test]
fn a_client_asks_again_where_a_server_is_busy() {
    let mut cluster = Cluster::start();
    for index in 0..3 {
        cluster.kill(index);
    }
    let file = cluster.config_file(0);
    let config = std::fs::read_to_string(&file).unwrap();
    let config = config.replace("[server_config]", "[server_config]\nmax_pending_entries = 1");
    std::fs::write(&file, config).unwrap();
    // Alone it has no leader: one command waits, and the other has to come again.
    cluster.restart(0);
    let server = format!("127.0.0.1:{}", cluster.client_ports[0]);
    let put = |key: &str| {
        kv_store()
            .args(["client", "--servers", &server, "put", key, "1"])
            .env("RUST_LOG", "info")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let first = put("a");
    let start = Instant::now();
    loop {
        let status = cluster.client(&["status"]).stdout;
        if String::from_utf8(status).unwrap().contains(" 1 of clients here are unanswered") {
            break;
        }
        assert!(start.elapsed() < TIMEOUT, "the first command does not wait");
    }
    let mut clients = [first, put("b")];
    let mut stderr = BufReader::new(clients[1].stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(stderr.any(|line| line.contains("it is busy")), "it was not told to ask again");
    for index in [1, 2] {
        cluster.restart(index);
    }
    stderr.for_each(drop);
    for client in clients {
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let lines = cluster.status_in_step();
    assert!(lines[0].contains(" 2 keys, digest "), "{lines:?}");
}

#[test]
fn a_watcher_sees_the_changes_under_its_prefix() {
    let cluster = Cluster::start();
    let mut watcher =
        cluster.client_command(&["watch", "a/"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = watcher.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut seen = String::new();
        let mut bytes = [0; 256];
        while !seen.contains("delete a/last") {
            let read = output.read(&mut bytes).unwrap();
            assert!(read > 0, "the watcher ended after {seen}");
            seen.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
        seen
    });
    // When the watcher has begun is not to be seen from here: put until it has seen an end.
    let start = Instant::now();
    while !reader.is_finished() {
        cluster.ask(&["put", "b/unseen", "1"]);
        cluster.ask(&["put", "a/last", "2"]);
        cluster.ask(&["delete", "a/last"]);
        assert!(start.elapsed() < TIMEOUT, "the watcher sees nothing");
    }
    let seen = reader.join().unwrap();
    assert!(!seen.contains("unseen"), "{seen}");
    watcher.kill().unwrap();
    watcher.wait().unwrap();
}

#[test]
fn garbage_harms_nothing() {
    let mut cluster = Cluster::start();
    cluster.ask(&["put", "before", "1"]);
    // As servers begin a connection: see the wire format of `omnipaxos_runtime::tcp`.
    let hello = |pid: u8| {
        [
            &b"OPXR\0\0\0\x01"[..],
            &[0; 8],
            &[0, 0, 0, 0, 0, 0, 0, pid, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0; 4],
        ]
        .concat()
    };
    let garbage: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        vec![0; 4096],
        (0..=255).cycle().take(70_000).collect(),
        // The longest length that is legal, and nothing behind it.
        [&0x0400_0002_u32.to_be_bytes()[..], &[3, 2]].concat(),
        [&0x0400_0003_u32.to_be_bytes()[..], &[3, 2]].concat(),
        // A wrong version; a truncated frame; a body of nonsense for each kind.
        vec![0, 0, 0, 3, 9, 1, 1],
        vec![0, 0, 0, 9, 3, 3, 1],
        [&[0, 0, 0, 66, 3, 2][..], &[0xfe; 64]].concat(),
        [&[0, 0, 0, 66, 3, 3][..], &[0xfe; 64]].concat(),
        // One who says hello properly, under several names, and then breaks the protocol.
        hello(1),
        hello(0),
        [&hello(2)[..], &hello(2)[..]].concat(),
        [&hello(3)[..], &[0, 0, 0, 66, 3, 2], &[0xfe; 64]].concat(),
        [&hello(99)[..], &[0xff; 64]].concat(),
    ];
    for port in cluster.client_ports.iter().chain(&cluster.peer_ports) {
        for bytes in &garbage {
            let mut stream = TcpStream::connect(("127.0.0.1", *port)).unwrap();
            // The server may close the connection before it has read all of it.
            drop(stream.write_all(bytes));
            drop(stream.shutdown(std::net::Shutdown::Write));
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            drop(stream.read_to_end(&mut Vec::new()));
        }
    }
    cluster.assert_alive();
    cluster.change(&["put", "after", "2"]);
    assert_eq!(cluster.ask(&["get", "before"]), "1\n");
    let lines = cluster.status_in_step();
    assert!(lines[0].contains(" 2 keys, digest "), "{lines:?}");
    cluster.assert_alive();
    for index in 0..3 {
        let log = std::fs::read_to_string(cluster.log(index)).unwrap();
        for says in ["closed the client connection", "tcp::listener: closed the connection from"] {
            assert!(log.contains(says), "`{says}` is not in:\n{log}");
        }
    }
}

/// Requests as clients send them, of each kind that changes nothing but keys.
fn requests(random: &mut impl FnMut(usize) -> usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for ask in [0, 1, 2, 3, 5, 6, 7_u32] {
        let (key, value) = ("k".repeat(random(40)), "v".repeat(random(400)));
        let config = bincode::config::standard();
        let mut body = vec![3, 3];
        let head = (7_u64, random(3000) as u64, 0_u64, ask);
        bincode::serde::encode_into_std_write(head, &mut body, config).unwrap();
        let strings: &[&str] = match ask {
            0 => &[&key, &value],
            1 | 2 | 3 | 5 => &[&key],
            _ => &[],
        };
        for string in strings {
            bincode::serde::encode_into_std_write(string, &mut body, config).unwrap();
        }
        frames.push([&(body.len() as u32).to_be_bytes()[..], &body].concat());
    }
    frames
}

#[test]
fn mutated_requests_harm_nothing() {
    let mut cluster = Cluster::start();
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit.max(1) as u64) as usize
    };
    let (mut answered, mut never_read) = (0, Vec::new());
    for round in 0..300 {
        let mut bytes = requests(&mut random).concat();
        for _ in 0..random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes.truncate(at + 1),
                1 => drop(
                    bytes.splice(at..at, [0, 251, 252, 253, 254, 255].into_iter().take(random(6))),
                ),
                2 => bytes[at] = [0, 1, 252, 253, 255][random(5)],
                _ => bytes[at] ^= 1 << random(8),
            }
        }
        let mut stream =
            TcpStream::connect(("127.0.0.1", cluster.client_ports[round % 3])).unwrap();
        drop(stream.write_all(&bytes));
        if round % 10 == 0 {
            // Half-open, and no answer is read.
            never_read.push(stream);
            continue;
        }
        drop(stream.shutdown(std::net::Shutdown::Write));
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut answers = Vec::new();
        drop(stream.read_to_end(&mut answers));
        answered += usize::from(!answers.is_empty());
    }
    assert!(answered > 0);
    cluster.assert_alive();
    cluster.change(&["put", "after", "2"]);
    assert_eq!(cluster.ask(&["get", "after"]), "2\n");
    cluster.status_in_step();
    for index in 0..3 {
        let log = std::fs::read_to_string(cluster.log(index)).unwrap();
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn a_client_too_many_waits_until_another_has_gone() {
    let cluster = Cluster::start();
    cluster.ask(&["put", "colour", "green"]);
    let port = cluster.client_ports[0];
    let idle: Vec<TcpStream> =
        (0..512).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let server = format!("127.0.0.1:{port}");
    let get = |timeout: &str| {
        let mut client = kv_store();
        client.args(["client", "--servers", &server, "--timeout", timeout, "get", "colour"]);
        client.output().unwrap()
    };
    assert_eq!(get("1").status.code(), Some(1));
    drop(idle);
    assert_eq!(get("20").stdout, b"green\n");
}

#[test]
fn wrong_configurations_and_arguments_are_refused() {
    let output = kv_store().args(["server", "--config", "no/such/file"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("no/such/file"), "{error}");
    assert_eq!(kv_store().arg("frobnicate").output().unwrap().status.code(), Some(2));
}

#[test]
fn a_server_without_its_port_ends_though_its_standard_input_does_not() {
    let mut cluster = Cluster::start();
    let mut second = spawn(&cluster.config_file(0), cluster.open_log(0));
    assert_eq!(wait_for_end(&mut second), Some(1));
    let error = std::fs::read_to_string(cluster.log(0)).unwrap();
    assert!(error.contains("cannot listen at"), "{error}");
    cluster.assert_alive();
}
