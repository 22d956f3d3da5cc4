//! Entries over the limit of a storage, or of a setting.

use crate::cluster::{Cluster, Holds, LARGE, SMALL};
use omnipaxos::{errors::TryProposeErr, macros::Entry, proposals::Outcome, status::Role};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
struct B(Vec<u8>);

fn large() -> B {
    B(vec![2; 5000])
}

fn small() -> B {
    B(vec![1; 10])
}

fn cause(refused: Result<(), TryProposeErr<B>>) -> String {
    match refused {
        Err(TryProposeErr::Unstorable(entry, cause)) => {
            assert_eq!(entry, large(), "it is given back");
            cause
        }
        other => panic!("{other:?}"),
    }
}

const WHY: &str = "an entry of 5003 bytes exceeds the limit of 3798 bytes";

#[test]
fn an_entry_over_the_limit_is_given_back_at_every_server() {
    for servers in [1, 3, 5] {
        let mut cluster = Cluster::led_by_1(&vec![SMALL; servers]);
        for pid in 1..=servers as u64 {
            assert_eq!(cause(cluster.server(pid).try_append(large())), WHY);
            assert_eq!(cause(cluster.server(pid).propose(large()).map(drop)), WHY);
        }
        cluster.run(100);
        assert_eq!(cluster.halted(), []);
        cluster.assert_goes_on(small);
    }
}

#[test]
fn append_drops_it_and_counts_it() {
    let mut cluster = Cluster::led_by_1(&[SMALL; 3]);
    for pid in [1, 2] {
        assert!(cluster.server(pid).append(large()).is_ok(), "its errors are those of 0.2.2");
        let dropped = cluster.server(pid).dropped();
        assert_eq!((dropped.unstorable, dropped.proposals), (1, 0));
    }
    cluster.assert_goes_on(small);
}

#[test]
fn without_a_leader_too() {
    let mut cluster = Cluster::new(&[SMALL; 3]);
    assert_eq!(cause(cluster.server(1).try_append(large())), WHY);
}

/// Every size around the limit: what is taken is written and read.
#[test]
fn what_is_taken_is_written() {
    let mut cluster = Cluster::led_by_1(&[SMALL; 3]);
    let mut taken = 0;
    for size in 3700..3900 {
        let entry = B(vec![3; size]);
        match cluster.server(1 + size as u64 % 3).try_append(entry) {
            Ok(()) => taken += 1,
            Err(TryProposeErr::Unstorable(..)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    cluster.run(100);
    assert_eq!(cluster.halted(), []);
    assert_eq!(cluster.decided(2).len(), taken);
    assert!(taken > 50 && taken < 150, "{taken}");
    cluster.assert_goes_on(small);
}

#[test]
fn the_smallest_limit_of_a_server_counts_for_all() {
    for segments in [
        vec![LARGE, LARGE, SMALL],
        vec![SMALL, LARGE, LARGE],
        vec![LARGE, SMALL, SMALL, SMALL, LARGE],
        vec![LARGE, LARGE, LARGE, LARGE, SMALL],
    ] {
        let mut cluster = Cluster::led_by_1(&segments);
        for pid in 1..=segments.len() as u64 {
            assert_eq!(cause(cluster.server(pid).try_append(large())), WHY, "server {pid}");
        }
        cluster.assert_goes_on(small);
    }
}

/// The others never got a message of it: they continue, and it reports why it cannot.
#[test]
fn a_server_with_smaller_segments_that_comes_later_halts_alone_and_says_why() {
    let mut cluster = Cluster::new(&[LARGE, LARGE, SMALL]);
    cluster.crash(3);
    cluster.elect(1);
    cluster.server(1).try_append(large()).unwrap();
    cluster.run(20);
    for _ in 0..2 {
        cluster.restart(3);
        cluster.run(60);
        let halted = cluster.halted();
        assert_eq!(halted.len(), 1, "{halted:?}");
        assert_eq!(halted[0].0, 3);
        assert!(halted[0].1.ends_with(WHY), "{halted:?}");
    }
    // Now its limit is known.
    assert_eq!(cause(cluster.server(1).try_append(large())), WHY);
    cluster.server(2).try_append(small()).unwrap();
    cluster.run(40);
    assert_eq!(cluster.decided(2), [large(), small()]);
    // Its operator gives it larger segments.
    cluster.segments.insert(3, LARGE);
    cluster.restart(3);
    cluster.run(60);
    assert_eq!(cluster.decided(3), [large(), small()]);
    cluster.server(3).try_append(large()).unwrap();
    cluster.run(40);
    cluster.assert_goes_on(small);
    assert_eq!(cluster.decided(1)[..3], [large(), small(), large()]);
}

/// Queued while it was not known that one server holds less.
#[test]
fn what_waits_is_checked_again_when_the_limit_falls() {
    let mut cluster = Cluster::new(&[LARGE, LARGE, SMALL]);
    cluster.server(1).try_append(large()).unwrap();
    let proposed = cluster.server(1).propose(large()).unwrap();
    let elsewhere = cluster.server(2).propose(large()).unwrap();
    cluster.server(2).try_append(large()).unwrap();
    cluster.elect(1);
    cluster.run(100);
    assert_eq!(cluster.halted(), []);
    for id in [proposed, elsewhere] {
        assert_eq!(cluster.outcome(id), Some(Outcome::Refused(WHY.to_string())));
    }
    for pid in [1, 2] {
        assert_eq!(cluster.server(pid).dropped().unstorable, 1);
        assert_eq!(cluster.server(pid).status().pending.entries, 0);
    }
    cluster.assert_goes_on(small);
}

fn only_1_limits(config: &mut omnipaxos::ServerConfig) {
    if config.pid == 1 {
        config.max_entry_bytes = Some(1000);
    }
}

const TOO_LARGE: &str = "an entry of about 5024 bytes exceeds max_entry_bytes, which is 1000";

#[test]
fn a_setting_limits_entries() {
    let mut cluster = Cluster::with(&[LARGE; 3], |config| config.max_entry_bytes = Some(1000));
    assert_eq!(cause(cluster.server(1).try_append(large())), TOO_LARGE);
    assert_eq!(cause(cluster.server(2).propose(large()).map(drop)), TOO_LARGE);
    cluster.assert_goes_on(small);
}

#[test]
fn what_the_leader_refuses_ends_at_its_origin() {
    let mut cluster = Cluster::with(&[LARGE; 3], only_1_limits);
    cluster.elect(1);
    let id = cluster.server(2).propose(large()).unwrap();
    for _ in 0..2 {
        // The first time it travels without an id, then with one.
        cluster.server(2).try_append(large()).unwrap();
    }
    cluster.run(30);
    assert_eq!(cluster.outcome(id), Some(Outcome::Refused(TOO_LARGE.to_string())));
    assert_eq!(cluster.server(2).dropped().unstorable, 2);
    assert_eq!(cluster.server(2).status().pending.entries, 0, "it is forwarded no more");
    assert_eq!(cluster.halted(), []);
    cluster.assert_goes_on(small);
}

#[test]
fn a_refusal_comes_back_through_a_peer() {
    let mut cluster = Cluster::with(&[LARGE; 3], only_1_limits);
    cluster.elect(1);
    cluster.cut(1, 2);
    cluster.run(60);
    if cluster.leader() == 1 {
        let id = cluster.server(2).propose(large()).unwrap();
        cluster.server(2).try_append(large()).unwrap();
        cluster.run(100);
        assert_eq!(cluster.outcome(id), Some(Outcome::Refused(TOO_LARGE.to_string())));
        assert_eq!(cluster.server(2).dropped().unstorable, 1);
    }
    cluster.heal_all();
    cluster.assert_goes_on(small);
}

/// An earlier leader took it, and it may still be decided: it is not refused before that is ruled out.
#[test]
fn what_may_be_decided_is_not_refused() {
    let mut cluster = Cluster::with(&[LARGE; 5], only_1_limits);
    cluster.elect(2);
    [1, 4, 5].into_iter().for_each(|pid| cluster.cut(2, pid));
    let id = cluster.server(2).propose(large()).unwrap();
    cluster.run(2);
    assert_eq!(cluster.server(3).get_accepted_idx(), 1, "2 and 3 hold it");
    // 4 and 5 promise server 1 without a message about its log; then 2 gets one.
    [1, 2, 4, 5].into_iter().for_each(|pid| cluster.cut(3, pid));
    cluster.network.0 = Holds::from([(1, 4, "AcceptSync"), (1, 5, "AcceptSync")]);
    cluster.server(1).try_become_leader();
    cluster.run(2);
    assert_eq!(cluster.server(1).status().role, Role::Leading);
    cluster.heal(1, 2);
    cluster.run(60);
    assert_eq!(cluster.server(2).get_accepted_idx(), 0, "it has lost the entry");
    assert_eq!(cluster.server(2).status().pending.entries, 1, "and forwards it");
    assert_eq!(cluster.outcome(id), None);
    // Server 3 has it still.
    cluster.crash(1);
    [4, 5].into_iter().for_each(|pid| cluster.heal(3, pid));
    cluster.run(100);
    assert_eq!(cluster.decided(4), [large()]);
    cluster.heal_all();
    cluster.run(60);
    assert_eq!(cluster.outcome(id), Some(Outcome::Decided(0)));
}

/// As above, but a write quorum continues without it.
#[test]
fn what_was_lost_with_an_earlier_leader_is_refused_in_the_end() {
    let mut cluster = Cluster::with(&[LARGE; 5], only_1_limits);
    cluster.elect(2);
    [1, 4, 5].into_iter().for_each(|pid| cluster.cut(2, pid));
    let id = cluster.server(2).propose(large()).unwrap();
    cluster.run(2);
    [1, 2, 4, 5].into_iter().for_each(|pid| cluster.cut(3, pid));
    cluster.server(1).try_become_leader();
    cluster.run(2);
    cluster.heal(1, 2);
    cluster.run(60);
    assert_eq!(cluster.outcome(id), Some(Outcome::Refused(TOO_LARGE.to_string())));
    cluster.heal_all();
    cluster.assert_goes_on(small);
    assert!(!cluster.decided(3).contains(&large()));
}

/// Meanwhile another leader has taken it.
#[test]
fn a_late_refusal_is_not_believed() {
    let mut cluster = Cluster::with(&[LARGE; 3], only_1_limits);
    cluster.elect(1);
    cluster.network.0 = Holds::from([(1, 2, "ProposalRejection")]);
    let id = cluster.server(2).propose(large()).unwrap();
    cluster.run(1);
    [2, 3].into_iter().for_each(|pid| cluster.cut(1, pid));
    cluster.server(3).try_become_leader();
    cluster.network.0.extend([(3, 2, "AcceptDecide")]);
    cluster.run(30);
    assert_eq!(cluster.server(3).get_accepted_idx(), 1, "it has taken the entry");
    assert_eq!(cluster.server(2).get_accepted_idx(), 0);
    assert!(cluster.release(1, 2, "ProposalRejection") > 0);
    cluster.settle();
    assert_eq!(cluster.outcome(id), None);
    cluster.release(3, 2, "AcceptDecide");
    cluster.run(60);
    assert_eq!(cluster.outcome(id), Some(Outcome::Decided(0)));
}
