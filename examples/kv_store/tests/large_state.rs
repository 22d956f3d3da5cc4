//! A state far above one frame: a server that was away gets it in pieces.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod common;

use common::{joiner::Joiner, kv_store, Asker, Cluster, TIMEOUT};
use std::time::Instant;

/// Values that together are almost twice as long as a frame may be.
const VALUES: usize = 32;
const BYTES: usize = 3_500_000;

/// `cargo test --release -p kv_store --test large_state` runs it.
#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "an unoptimised server encodes 110 MB for longer than an election timeout"
)]
fn a_server_that_was_away_gets_a_state_above_one_frame() {
    let mut cluster = Cluster::start();
    for index in 0..3 {
        cluster.kill(index);
        let file = cluster.config_file(index);
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("snapshot_every = 1000", "snapshot_every = 8");
        std::fs::write(&file, text).unwrap();
        cluster.restart(index);
    }
    cluster.change(&["put", "first", "1"]);
    cluster.kill(2);
    let mut asker = Asker::start(cluster.client_ports[..2].iter().copied(), &[]);
    for number in 0..VALUES {
        let value = char::from(b'a' + (number % 26) as u8).to_string().repeat(BYTES);
        let answer = asker.ask(&format!("put large{number} {value}"));
        assert!(answer.starts_with("ok, at index "), "{answer}");
    }
    cluster.restart(2);
    // A server that decodes the state answers late.
    let (start, keys) = (Instant::now(), format!(" {} keys", VALUES + 1));
    loop {
        let status = String::from_utf8(cluster.client(&["status"]).stdout).unwrap();
        if status.matches(&keys).count() == 3 {
            assert!(!status.contains("(0 of it in a snapshot)"), "{status}");
            break;
        }
        assert!(start.elapsed() < TIMEOUT, "not in step: {status}");
    }

    // So does a server that joins. It is killed while pieces arrive, and begins again.
    let [first, second] = [0, 1].map(|index| cluster.peer_ports[index]);
    let sources = format!("1=127.0.0.1:{first},2=127.0.0.1:{second}");
    let mut joiner = Joiner::start(&cluster, 4, &sources);
    let data = cluster.directory.path().join("joiner4");
    for _ in 0..2 {
        let start = Instant::now();
        while !data.join("snapshot.0.part").exists() {
            assert!(start.elapsed() < TIMEOUT, "no piece of the snapshot arrives");
        }
        joiner.restart();
    }
    let (start, server) = (Instant::now(), format!("127.0.0.1:{}", joiner.client_port()));
    loop {
        let output = kv_store().args(["client", "--servers", &server, "status"]).output().unwrap();
        let status = String::from_utf8(output.stdout).unwrap();
        if status.contains(&keys) {
            break;
        }
        assert!(start.elapsed() < TIMEOUT, "the server that joins lacks the state: {status}");
    }
    assert!(!data.join("snapshot.0.part").exists());
    drop(joiner);

    // The cluster continues, and the server that was away can lead and decide.
    cluster.kill(0);
    cluster.change(&["put", "last", "2"]);
    assert_eq!(cluster.ask(&["get", "last"]), "2\n");
}
