//! What clients are answered: reads, changes that are asked for again, and transfers.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod common;

use common::{kv_store, Asker, Cluster, TIMEOUT};
use serde::Serialize;
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Output, Stdio},
    time::Instant,
};

/// A client that knows one server only.
fn client_of(cluster: &Cluster, index: usize, options: &[&str]) -> Command {
    let address = format!("127.0.0.1:{}", cluster.client_ports[index]);
    let mut command = kv_store();
    command.args(["client", "--servers", &address]).args(options);
    command
}

fn answer(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn ask_at(cluster: &Cluster, index: usize, arguments: &[&str]) -> String {
    answer(client_of(cluster, index, arguments).output().unwrap())
}

/// What the client prints when it has failed.
fn error_at(cluster: &Cluster, index: usize, arguments: &[&str]) -> String {
    let output = client_of(cluster, index, arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The index of the leader that the servers that run agree on.
fn leader(cluster: &Cluster, running: &[usize]) -> usize {
    let start = Instant::now();
    loop {
        let named: Vec<Option<usize>> = running
            .iter()
            .map(|index| {
                let status = client_of(cluster, *index, &["status"]).output().unwrap().stdout;
                let status = String::from_utf8(status).unwrap();
                let (_, rest) = status.split_once(": leader ")?;
                rest.split_once(',')?.0.parse::<usize>().ok()
            })
            .collect();
        if let [Some(pid), ..] = named[..] {
            if named.iter().all(|other| *other == Some(pid)) && running.contains(&(pid - 1)) {
                return pid - 1;
            }
        }
        assert!(start.elapsed() < TIMEOUT, "the servers name as leader {named:?}");
    }
}

#[test]
fn a_get_sees_what_was_put_at_another_server_just_before() {
    let cluster = Cluster::start();
    for round in 0..5 {
        for (writer, reader) in [(0, 1), (1, 2), (2, 0), (0, 2), (2, 1), (1, 0)] {
            let value = format!("{round}/{writer}/{reader}");
            ask_at(&cluster, writer, &["put", "colour", &value]);
            assert_eq!(ask_at(&cluster, reader, &["get", "colour"]), format!("{value}\n"));
        }
    }
    ask_at(&cluster, 0, &["delete", "colour"]);
    for reader in 0..3 {
        let error = error_at(&cluster, reader, &["get", "colour"]);
        assert!(error.contains("there is no such key"), "{error}");
    }
}

/// At once, by the client itself, with the limit: nothing is sent.
#[test]
fn what_is_too_long_is_refused_before_it_is_sent() {
    let mut cluster = Cluster::start();
    let mut asker = Asker::start(cluster.client_ports.clone(), &[]);
    let long = "7".repeat(70_000_000);
    for (line, what) in [
        (format!("put colour {long}"), "a key and its value of 70000006 bytes"),
        (format!("put {long} green"), "a key and its value of 70000005 bytes"),
        (format!("delete {long}"), "a key of 70000000 bytes"),
        (format!("get {long}"), "a key of 70000000 bytes"),
    ] {
        let answer = asker.ask(&line);
        let expected =
            format!("error: refused, and nothing was sent: {what}: the limit is 16777216 bytes");
        assert_eq!(answer, expected);
    }
    assert_eq!(asker.ask("put colour green"), "ok, at index 0");
    // The longest is done, by every server.
    let longest = "8".repeat(16 * 1024 * 1024 - 6);
    assert_eq!(asker.ask(&format!("put colour {longest}")), "ok, at index 1");
    cluster.status_in_step();
    assert_eq!(asker.ask("get colour"), longest);
    cluster.assert_alive();
}

/// A server answers what it does not read, too, and continues with what comes after it.
#[test]
fn what_is_too_long_for_a_frame_is_answered() {
    let mut cluster = Cluster::start();
    let mut stream = TcpStream::connect(("127.0.0.1", cluster.client_ports[0])).unwrap();
    for length in [64 * 1024 * 1024 + 3_u32, 70_000_000] {
        stream.write_all(&length.to_be_bytes()).unwrap();
        let mut answered = [0; 4];
        stream.read_exact(&mut answered).unwrap();
        let mut response = vec![0; u32::from_be_bytes(answered) as usize];
        stream.read_exact(&mut response).unwrap();
        let text = String::from_utf8_lossy(&response).into_owned();
        let expected = format!("a frame of {length} bytes is longer than 67108864");
        assert!(text.contains(&expected) && text.contains("16777216"), "{text}");
        // Before the rest of it has come, and after it.
        std::io::copy(&mut std::io::repeat(7).take(length.into()), &mut stream).unwrap();
    }
    ask_at(&cluster, 0, &["put", "colour", "green"]);
    cluster.assert_alive();
}

#[test]
fn a_server_that_was_paused_reads_what_was_put_meanwhile() {
    let mut cluster = Cluster::start();
    let ports = cluster.client_ports.clone();
    let mut askers: Vec<Asker> = ports.iter().map(|port| Asker::start([*port], &[])).collect();
    for round in 0..12_usize {
        let (reader, writer) = (round % 3, (round + 1 + round % 2) % 3);
        // It is connected, and what is asked meanwhile is the first that it finds.
        askers[reader].ask("get --stale colour");
        cluster.signal(reader, "-STOP");
        let answer = askers[writer].ask(&format!("put colour {round}"));
        assert!(answer.starts_with("ok, at index "), "{answer}");
        askers[reader].send("get colour");
        cluster.signal(reader, "-CONT");
        assert_eq!(askers[reader].answer(), round.to_string(), "at server {}", reader + 1);
    }
    cluster.assert_alive();
}

#[test]
fn a_server_alone_reads_what_it_has_and_says_why_it_cannot_read_more() {
    let mut cluster = Cluster::start();
    cluster.change(&["put", "colour", "green"]);
    cluster.status_in_step();
    cluster.kill(1);
    cluster.kill(2);
    assert_eq!(ask_at(&cluster, 0, &["get", "--stale", "colour"]), "green\n");
    let error = error_at(&cluster, 0, &["--timeout", "2", "get", "colour"]);
    assert!(error.contains("no answer in time") && error.contains("cannot be read"), "{error}");
    assert!(!error.contains("--number"), "a read needs no number: {error}");
    let error = error_at(&cluster, 0, &["--timeout", "2", "put", "colour", "red"]);
    assert!(error.contains("it may be done or not"), "{error}");
    // What it advises is what has to be done, also if the command waits there still.
    let (_, name) = error.split_once("asked again with `").unwrap();
    let name: Vec<&str> = name.split_once('`').unwrap().0.split(' ').collect();
    let everywhere = cluster.client(&["--timeout", "2", "get", "colour"]);
    let error = String::from_utf8(everywhere.stderr).unwrap();
    assert!(error.contains("a server said: it cannot be read there now"), "{error}");
    cluster.restart(1);
    let again = |index: usize| {
        let arguments = [&name[..], &["put", "colour", "red"]].concat();
        ask_at(&cluster, index, &arguments)
    };
    assert_eq!(again(0), again(1));
    assert_eq!(ask_at(&cluster, 1, &["get", "colour"]), "red\n");
}

#[test]
fn a_put_that_is_asked_again_is_done_once() {
    let cluster = Cluster::start();
    let first = ask_at(&cluster, 0, &["--client", "7", "--number", "0", "put", "colour", "green"]);
    ask_at(&cluster, 1, &["put", "colour", "red"]);
    for index in 0..3 {
        let again =
            ask_at(&cluster, index, &["--client", "7", "--number", "0", "put", "colour", "green"]);
        assert_eq!(again, first);
        assert_eq!(ask_at(&cluster, index, &["get", "colour"]), "red\n");
    }
    ask_at(&cluster, 1, &["--client", "7", "--number", "1", "put", "colour", "blue"]);
    let error = error_at(&cluster, 2, &["--client", "7", "put", "colour", "green"]);
    assert!(error.contains("refused: the client has told"), "{error}");
    assert_eq!(ask_at(&cluster, 2, &["get", "colour"]), "blue\n");
}

#[test]
fn a_put_under_way_when_the_leader_is_killed_is_done_once() {
    let mut cluster = Cluster::start();
    for round in 0..5_usize {
        let killed = leader(&cluster, &[0, 1, 2]);
        let others: Vec<usize> = (0..3).filter(|index| *index != killed).collect();
        let ports = [killed, others[0], others[1]].map(|index| cluster.client_ports[index]);
        let addresses = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
        let number = round.to_string();
        let put = ["--client", "7", "--number", &number, "put", "colour", &number];
        let under_way = kv_store()
            .args(["client", "--servers", &addresses])
            .args(put)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Before it is sent, or after, or once it is answered: whichever it meets must do.
        for _ in 0..round {
            ask_at(&cluster, others[0], &["status"]);
        }
        cluster.kill(killed);
        let first = answer(under_way.wait_with_output().unwrap());
        let later = leader(&cluster, &others);
        ask_at(&cluster, later, &["put", "colour", "another"]);
        cluster.restart(killed);
        for index in 0..3 {
            assert_eq!(ask_at(&cluster, index, &put), first);
            assert_eq!(ask_at(&cluster, index, &["get", "colour"]), "another\n");
        }
    }
}

#[test]
fn leadership_is_transferred_and_back() {
    let mut cluster = Cluster::start();
    for _ in 0..3 {
        for to in 1..=3 {
            let pid = to.to_string();
            assert_eq!(cluster.ask(&["transfer", &pid]), format!("server {pid} leads now\n"));
            // It stays so, and is no news when it is asked for again.
            assert_eq!(cluster.ask(&["transfer", &pid]), format!("server {pid} leads now\n"));
            assert_eq!(leader(&cluster, &[0, 1, 2]), to - 1);
            cluster.change(&["put", "leader", &pid]);
        }
    }
    let error = error_at(&cluster, 0, &["transfer", "1"]);
    assert!(error.contains("does not lead: server 3 does"), "{error}");
    let error = error_at(&cluster, 2, &["transfer", "9"]);
    assert!(error.contains("server 9 is not a member"), "{error}");
    cluster.assert_alive();
}

#[test]
fn lines_are_answered_one_by_one() {
    let cluster = Cluster::start();
    let file = cluster.directory.path().join("lines");
    std::fs::write(&file, "put a 1\nput b 2\nget a\ndelete a\nget a\nget\nget b\n").unwrap();
    let mut command = cluster.client_command(&["lines"]);
    let text = answer(command.stdin(std::fs::File::open(file).unwrap()).output().unwrap());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 7, "{text}");
    assert!([0, 1, 3].iter().all(|at| lines[*at].starts_with("ok, at index ")), "{text}");
    assert_eq!((lines[2], lines[4], lines[6]), ("1", "error: there is no such key", "2"));
    assert!(lines[5].starts_with("error: `get` is no request: "), "{text}");
}

/// Requests without the client of this program, for what that never asks. In the order of the protocol.
#[derive(Serialize)]
#[allow(dead_code, reason = "the number of a variant is what counts")]
enum Ask {
    Put { key: String, value: String },
    Delete { key: String },
    Get { key: String },
    GetStale { key: String },
    TransferLeadership { to: u64 },
    Watch { prefix: String },
    Status,
    Members,
}

/// The numbers of answers.
const VALUE: u32 = 1;
const CHANGED: u32 = 2;
const MEMBERS: u32 = 5;
const REFUSED: u32 = 9;

fn send_raw(stream: &mut TcpStream, number: u64, ask: Ask) {
    let body = (3_u8, 3_u8, (1_u64, number, number, ask));
    let body = bincode::serde::encode_to_vec(body, bincode::config::standard()).unwrap();
    stream.write_all(&(body.len() as u32).to_be_bytes()).unwrap();
    stream.write_all(&body).unwrap();
}

/// The number of the next answer, and which one it is.
fn receive_raw(stream: &mut TcpStream) -> (u64, u32) {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    let ((_version, _kind, number, answer), _): ((u8, u8, u64, u32), usize) =
        bincode::serde::decode_from_slice(&body, bincode::config::standard()).unwrap();
    (number, answer)
}

#[test]
fn a_connection_is_served_however_often_it_asks_for_the_members() {
    let mut cluster = Cluster::start();
    let mut stream = TcpStream::connect(("127.0.0.1", cluster.client_ports[0])).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        for number in 0..1100 {
            send_raw(&mut stream, number, Ask::Members);
        }
        send_raw(&mut stream, 5000, Ask::GetStale { key: "colour".to_owned() });
    });
    loop {
        match receive_raw(&mut reader) {
            (5000, answer) => {
                assert_eq!(answer, VALUE);
                break;
            }
            (_, answer) => assert_eq!(answer, MEMBERS),
        }
    }
    sending.join().unwrap();
    cluster.assert_alive();
}

#[test]
fn a_connection_watches_64_prefixes() {
    let cluster = Cluster::start();
    let mut stream = TcpStream::connect(("127.0.0.1", cluster.client_ports[0])).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    for number in 0..65 {
        send_raw(&mut stream, number, Ask::Watch { prefix: "col".to_owned() });
    }
    assert_eq!(receive_raw(&mut stream), (64, REFUSED));
    cluster.change(&["put", "colour", "green"]);
    let mut changed: Vec<_> = (0..64).map(|_| receive_raw(&mut stream)).collect();
    changed.sort_unstable();
    assert_eq!(changed, (0..64).map(|number| (number, CHANGED)).collect::<Vec<_>>());
    // It is kept, so it is not long.
    send_raw(&mut stream, 65, Ask::Watch { prefix: "x".repeat(65537) });
    assert_eq!(receive_raw(&mut stream), (65, REFUSED));
}

/// The highest numbers are not those of requests.
#[test]
fn a_number_that_is_too_high_is_refused() {
    for number in [u64::MAX, u64::MAX - 1, u64::MAX / 2] {
        let mut command = kv_store();
        command.args(["client", "--servers", "127.0.0.1:1", "--client", "1", "--number"]);
        let output = command.arg(number.to_string()).args(["put", "a", "b"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}
