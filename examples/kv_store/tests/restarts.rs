//! Servers that are killed and come back from their disks.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod common;

use common::{kv_store, wait_for_end, Cluster, TIMEOUT};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Instant,
};

#[test]
fn a_server_that_is_killed_ten_times_comes_back_each_time() {
    let mut cluster = Cluster::start();
    let (acknowledged, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let addresses = cluster.addresses();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let number = acknowledged.load(Ordering::Relaxed).to_string();
                let put = kv_store()
                    .args(["client", "--servers", &addresses, "put", &number, &number])
                    .output()
                    .unwrap();
                assert!(put.status.success(), "{put:?}");
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        });
        let wait_for_more = |more: usize| {
            let (from, start) = (acknowledged.load(Ordering::Relaxed), Instant::now());
            while acknowledged.load(Ordering::Relaxed) < from + more {
                assert!(start.elapsed() < TIMEOUT, "nothing is acknowledged");
                std::thread::yield_now();
            }
        };
        for round in 0..10 {
            wait_for_more(3 + round % 4);
            cluster.kill(1);
            wait_for_more(1);
            cluster.restart(1);
            let start = Instant::now();
            while cluster.client(&["status"]).status.code() != Some(0) {
                assert!(start.elapsed() < TIMEOUT, "it does not come back in round {round}");
                cluster.assert_alive();
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let lines = cluster.status_in_step();
    let number = acknowledged.load(Ordering::Relaxed);
    assert!(lines[0].contains(&format!(" {number} keys, digest ")), "{number}: {lines:?}");
    for key in 0..number {
        assert_eq!(cluster.ask(&["get", &key.to_string()]), format!("{key}\n"));
    }
    // A cluster that ends as a whole comes back as a whole, too.
    for index in 0..3 {
        assert_eq!(cluster.terminate(index), Some(0));
    }
    for index in 0..3 {
        cluster.restart(index);
    }
    let start = Instant::now();
    while cluster.client(&["status"]).status.code() != Some(0) {
        assert!(start.elapsed() < TIMEOUT, "the cluster does not come back");
    }
    let again = cluster.status_in_step();
    let state = |line: &String| line.split_once("keys").unwrap().1.to_owned();
    assert_eq!(state(&again[0]), state(&lines[0]));
}

/// The configuration of server 1 with other ports, which are free, but the same data folder.
fn elsewhere(cluster: &Cluster) -> PathBuf {
    let mut text = fs::read_to_string(cluster.config_file(0)).unwrap();
    for port in [cluster.client_ports[0], cluster.peer_ports[0]] {
        let mut other = port;
        while cluster.client_ports.contains(&other) || cluster.peer_ports.contains(&other) {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            other = listener.local_addr().unwrap().port();
        }
        text = text.replace(&format!(":{port}"), &format!(":{other}"));
    }
    let file = cluster.directory.path().join("elsewhere.toml");
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_data_folder_has_one_server() {
    let mut cluster = Cluster::start();
    let file = elsewhere(&cluster);
    let second = kv_store().args(["server", "--config"]).arg(&file).output().unwrap();
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let error = String::from_utf8(second.stderr).unwrap();
    let says = format!("{} is open already", cluster.data(0).display());
    assert!(error.contains(&says) && !error.contains("panicked"), "{error}");
    cluster.assert_alive();
    cluster.change(&["put", "a", "1"]);
}

#[test]
fn a_server_whose_data_must_be_there_does_not_start_without() {
    let cluster = Cluster::start();
    let file = elsewhere(&cluster);
    let lost = cluster.directory.path().join("lost");
    let mut server = kv_store();
    server.args(["server", "--must-exist", "--data"]).arg(&lost).arg("--config").arg(&file);
    let ended = server.output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let error = String::from_utf8(ended.stderr).unwrap();
    let says = format!("{} holds no storage", lost.display());
    assert!(error.contains(&says) && !error.contains("panicked"), "{error}");
    assert!(!lost.exists(), "nothing was made");
}

#[test]
fn damaged_data_is_refused() {
    let mut cluster = Cluster::start();
    for number in 0..20 {
        cluster.ask(&["put", &number.to_string(), "a value to be damaged"]);
    }
    assert_eq!(cluster.terminate(2), Some(0));
    let log = cluster.data(2).join("commitlog").join(format!("{:020}.log", 0));
    let whole = fs::read(&log).unwrap();
    let middle = whole.len() / 2;
    let mut damaged = whole.clone();
    damaged[middle] ^= 0x10;
    fs::write(&log, &damaged).unwrap();
    cluster.restart(2);
    assert_eq!(wait_for_end(&mut cluster.servers[2]), Some(1));
    let error = fs::read_to_string(cluster.log(2)).unwrap();
    let says = format!("{} is damaged at byte", log.display());
    assert!(error.contains(&says) && !error.contains("panicked"), "{error}");
    assert_eq!(fs::read(&log).unwrap(), damaged, "a damaged log is left as it is");
    // The others continue meanwhile, and with the byte mended it is one of them again.
    cluster.ask(&["put", "meanwhile", "1"]);
    fs::write(&log, whole).unwrap();
    cluster.restart(2);
    let start = Instant::now();
    while cluster.client(&["status"]).status.code() != Some(0) {
        assert!(start.elapsed() < TIMEOUT, "it does not come back");
    }
    assert!(cluster.status_in_step()[0].contains(" 21 keys, "));
}

#[test]
fn a_server_in_memory_writes_nothing() {
    let cluster = Cluster::start();
    let data = cluster.directory.path().join("unused");
    let mut server = kv_store()
        .args(["server", "--storage", "memory", "--until-stdin-closes", "--config"])
        .arg(elsewhere(&cluster))
        .arg("--data")
        .arg(&data)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    cluster.ask(&["put", "a", "1"]);
    drop(server.stdin.take());
    assert_eq!(wait_for_end(&mut server), Some(0));
    assert!(!data.exists());
}

/// Whether a process of this id runs.
fn runs(id: &str) -> bool {
    Path::new("/proc").join(id).join("exe").exists()
}

#[test]
fn an_interrupted_demonstration_leaves_nothing_behind() {
    for signal in ["-INT", "-TERM"] {
        let mut demo = kv_store().stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut servers = Vec::new();
        let folder = loop {
            let line = lines.next().unwrap();
            if let Some((_, rest)) = line.split_once(": process ") {
                servers.push(rest.split_once(',').unwrap().0.to_owned());
            } else if let Some(folder) = line.strip_prefix("they keep their logs in ") {
                break PathBuf::from(folder);
            }
        };
        assert!(servers.len() == 3 && folder.exists());
        let id = demo.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let rest: Vec<String> = lines.collect();
        assert_eq!(wait_for_end(&mut demo), Some(1), "{rest:?}");
        assert!(!folder.exists(), "{} is left", folder.display());
        assert!(!servers.iter().any(|id| runs(id)), "servers are left");
    }
}
