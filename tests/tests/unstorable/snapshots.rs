//! Snapshots that bincode writes and cannot read.

use crate::cluster::{Cluster, LARGE};
use omnipaxos::{errors::TryCompactionErr, macros::Entry, storage::Snapshot, CompactionErr};
use omnipaxos_harness::OnHalt;
use omnipaxos_tests::lab::Lab;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
#[snapshot(Sum)]
struct Number(u64);

/// Cannot be read back while the sum is below 100.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sum {
    #[serde(skip_serializing_if = "Option::is_none")]
    large: Option<String>,
    sum: u64,
}

impl Sum {
    fn of(sum: u64) -> Self {
        Sum { large: (sum >= 100).then(|| "large".to_string()), sum }
    }
}

impl Snapshot<Number> for Sum {
    fn create(entries: &[Number]) -> Self {
        Sum::of(entries.iter().map(|number| number.0).sum())
    }

    fn merge(&mut self, delta: Self) {
        *self = Sum::of(self.sum + delta.sum);
    }

    fn use_snapshots() -> bool {
        true
    }
}

fn filled() -> Cluster<Number> {
    let mut cluster = Cluster::led_by_1(&[LARGE; 3]);
    for _ in 0..20 {
        cluster.server(1).try_append(Number(1)).unwrap();
    }
    cluster.run(40);
    cluster
}

#[test]
fn a_snapshot_that_cannot_be_read_back_is_not_made() {
    let mut cluster = filled();
    for pid in 1..=3 {
        let server = cluster.server(pid);
        for (refused, what) in [
            (server.try_snapshot(None, true), "snapshot"),
            (server.try_snapshot(Some(5), false), "snapshot at all"),
            (server.try_compact(10), "compact"),
        ] {
            let Err(TryCompactionErr::Unstorable(why)) = refused else {
                panic!("{what}: {refused:?}");
            };
            assert!(why.starts_with("could not read back a snapshot: "), "{why}");
        }
        assert_eq!(server.snapshot(None, true), Err(CompactionErr::TrimmedIndex(0)));
        assert_eq!(server.compact(10), Err(CompactionErr::TrimmedIndex(0)));
        assert_eq!(server.get_compacted_idx(), 0);
    }
    cluster.run(40);
    assert_eq!(cluster.halted(), []);
    // Larger ones can be read back.
    for pid in 1..=3 {
        for _ in 0..4 {
            cluster.server(pid).try_append(Number(50)).unwrap();
        }
        cluster.run(40);
    }
    for pid in 1..=3 {
        assert_eq!(cluster.server(pid).try_snapshot(None, true), Ok(()));
        cluster.run(10);
        cluster.restart(pid);
        cluster.run(40);
        assert_eq!(cluster.halted(), []);
    }
}

/// A request of another server is refused where the snapshot there cannot be stored.
#[test]
fn a_snapshot_that_another_server_asks_for_halts_nobody() {
    let mut cluster = filled();
    cluster.server(1).try_append(Number(200)).unwrap();
    cluster.run(40);
    assert_eq!(cluster.server(1).try_snapshot(None, false), Ok(()));
    // At once before that, the others are asked for less.
    assert!(cluster.server(2).try_snapshot(Some(3), false).is_err());
    cluster.run(60);
    assert_eq!(cluster.halted(), []);
    for pid in 1..=3 {
        assert_eq!(cluster.server(pid).get_compacted_idx(), 21);
    }
}

/// A follower that missed many entries is sent these, and no sum that nobody can store.
#[test]
fn a_follower_that_was_away_catches_up() {
    let mut cluster = filled();
    cluster.crash(3);
    for _ in 0..20 {
        cluster.server(1).try_append(Number(1)).unwrap();
    }
    cluster.run(40);
    cluster.elect(2);
    cluster.restart(3);
    cluster.run(100);
    assert_eq!(cluster.halted(), []);
    assert_eq!(cluster.decided(3), vec![Number(1); 40]);
    cluster.assert_goes_on(|| Number(1));
}

/// Server 3 cannot hold snapshots, and 1 has made one while 3 was away.
fn with_a_snapshot_that_3_refuses() -> Lab {
    let mut lab = Lab::new(&[1, 2, 3]);
    lab.elect(1);
    lab.crash(3);
    (0..20).for_each(|n| lab.append(1, &n.to_string()));
    lab.run(20);
    lab.disk(3).order(|orders| orders.refuses_snapshots = true);
    lab
}

#[test]
fn a_server_that_is_sent_a_snapshot_which_it_cannot_hold_says_so_and_stores_nothing() {
    let mut lab = with_a_snapshot_that_3_refuses();
    assert_eq!(lab.server(1).snapshot(Some(20), true), Ok(()));
    lab.restart(3);
    lab.on_halt = OnHalt::StaySilent;
    lab.run(40);
    let halted = lab.server(3).halted().unwrap();
    assert_eq!(halted.operation(), "hold a snapshot that another server sent");
    assert_eq!(halted.cause(), "it holds no snapshot");
    assert_eq!(lab.server(3).get_decided_idx(), 0);
    assert!(lab.server(1).halted().is_none() && lab.server(2).halted().is_none());
}

/// It is sent a sum of what it lacks, and asks for the entries instead.
#[test]
fn a_server_that_cannot_hold_a_sum_gets_the_entries() {
    let mut lab = with_a_snapshot_that_3_refuses();
    lab.elect_among(2, &[1, 2]);
    lab.restart(3);
    lab.run(60);
    assert_eq!(lab.decided(3).len(), 20);
    assert_eq!(lab.server(3).get_compacted_idx(), 0);
}
