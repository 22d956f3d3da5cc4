//! Stop signs with more metadata than a storage holds.

use crate::cluster::{Cluster, LARGE, SMALL};
use omnipaxos::{
    errors::ConfigError, macros::Entry, proposals::Outcome, ClusterConfig, ProposeErr,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
struct Number(u64);

fn next() -> ClusterConfig {
    ClusterConfig { configuration_id: 2, nodes: vec![1, 2, 3], flexible_quorum: None }
}

fn cause(refused: Result<(), ProposeErr<Number>>) -> String {
    match refused {
        Err(ProposeErr::ConfigError(ConfigError::InvalidConfig(what), config, Some(metadata))) => {
            assert_eq!(config, next());
            assert!(!metadata.is_empty(), "they are given back");
            what
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn too_much_metadata_is_given_back_at_every_server() {
    for segments in [[SMALL; 3], [LARGE, LARGE, SMALL], [SMALL, LARGE, LARGE]] {
        let mut cluster = Cluster::led_by_1(&segments);
        for pid in 1..=3 {
            let metadata = Some(vec![1; 10_000_000]);
            let what = cause(cluster.server(pid).reconfigure(next(), metadata));
            let start = "the stop sign cannot be stored: a stop sign with its metadata of 100";
            assert!(what.starts_with(start), "{what}");
            assert!(what.ends_with("exceeds the limit of 3798 bytes"), "{what}");
        }
        cluster.run(60);
        assert_eq!(cluster.halted(), []);
        cluster.assert_goes_on(|| Number(7));
    }
}

#[test]
fn a_setting_limits_metadata() {
    let mut cluster = Cluster::with(&[LARGE; 3], |config| config.max_entry_bytes = Some(100));
    let what = cause(cluster.server(1).reconfigure(next(), Some(vec![1; 101])));
    assert!(what.contains("exceeds max_entry_bytes"), "{what}");
}

/// The most metadata that is taken stays storable while indices grow.
#[test]
fn what_is_taken_is_written() {
    let mut size = 4096;
    let mut cluster = Cluster::led_by_1(&[SMALL; 3]);
    while cluster.server(2).reconfigure(next(), Some(vec![1; size])).is_err() {
        size -= 1;
    }
    assert!(size > 3500, "{size}");
    for n in 0..300 {
        // Some are refused once the stop sign is in the log.
        let _ = cluster.server(1).try_append(Number(n));
    }
    cluster.run(100);
    assert_eq!(cluster.halted(), []);
    for pid in 1..=3 {
        assert!(cluster.server(pid).is_reconfigured().is_some());
        cluster.restart(pid);
        cluster.run(60);
        assert_eq!(cluster.halted(), []);
        let stopsign = cluster.server(pid).is_reconfigured().unwrap();
        assert_eq!(stopsign.metadata.map(|metadata| metadata.len()), Some(size));
    }
}

/// The leader has a setting that the server where it is proposed does not have.
#[test]
fn a_forwarded_one_is_refused_and_entries_go_on() {
    let mut cluster = Cluster::with(&[LARGE; 3], |config| {
        config.max_entry_bytes = (config.pid == 1).then_some(1000);
    });
    cluster.elect(1);
    assert!(cluster.server(2).reconfigure(next(), Some(vec![1; 1001])).is_ok());
    let id = cluster.server(3).propose_reconfiguration(next(), Some(vec![1; 1002])).unwrap();
    cluster.run(60);
    assert_eq!(cluster.halted(), []);
    let why = "metadata of about 1002 bytes exceeds max_entry_bytes, which is 1000".to_string();
    assert_eq!(cluster.outcome(id), Some(Outcome::Refused(why)));
    assert_eq!(cluster.server(2).dropped().unstorable, 1);
    for pid in [1, 2] {
        cluster.server(pid).try_append(Number(1)).unwrap();
    }
    cluster.assert_goes_on(|| Number(7));
}
