//! Entries over the limit of a storage.

use crate::cluster::{Cluster, SMALL};
use omnipaxos::macros::Entry;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
struct B(Vec<u8>);

fn large() -> B {
    B(vec![2; 5000])
}

fn small() -> B {
    B(vec![1; 10])
}

#[test]
fn an_entry_over_the_limit_proposed_at_a_follower_halts_nobody() {
    for servers in [3, 5] {
        let mut cluster = Cluster::led_by_1(&vec![SMALL; servers]);
        let _ = cluster.server(2).try_append(large());
        cluster.run(100);
        assert_eq!(cluster.halted(), []);
        cluster.assert_goes_on(small);
    }
}

#[test]
fn an_entry_over_the_limit_proposed_at_the_leader_halts_nobody() {
    for servers in [1, 3, 5] {
        let mut cluster = Cluster::led_by_1(&vec![SMALL; servers]);
        let _ = cluster.server(1).propose(large());
        cluster.run(100);
        assert_eq!(cluster.halted(), []);
        cluster.assert_goes_on(small);
    }
}

#[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
struct Skips {
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    value: u64,
}

#[test]
fn an_entry_that_cannot_be_read_back_halts_nobody() {
    let mut cluster = Cluster::led_by_1(&[1 << 20; 3]);
    cluster.crash(3);
    let _ = cluster.server(1).try_append(Skips { note: None, value: 1 });
    cluster.run(60);
    cluster.restart(3);
    cluster.run(200);
    assert_eq!(cluster.halted(), []);
    cluster.assert_goes_on(|| Skips { note: Some("n".into()), value: 2 });
}
