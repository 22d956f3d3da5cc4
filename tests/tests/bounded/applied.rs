//! Entries without snapshots are given up once all applications have applied them, and not before.

use super::cluster::{led_by_1, on_disk, three, Cluster, Counting, Record};
use omnipaxos::{
    errors::CompactionErr,
    messages::{
        sequence_paxos::{CompactionAction, PaxosMsg},
        Message,
    },
    storage::Storage,
    util::{LogEntry, NodeId},
};
use omnipaxos_harness::build;
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::path::Path;

type Servers<B> = Cluster<Record, B>;

/// Three servers led by 1 that have decided this number of entries.
fn decided(count: u64) -> Servers<MemoryStorage<Record>> {
    let mut cluster = led_by_1(|_pid| MemoryStorage::default(), |_config| {});
    append(&mut cluster, 0..count);
    cluster
}

fn append<B: Storage<Record>>(cluster: &mut Servers<B>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        cluster.server(1).append(Record::of(number, 8)).unwrap();
    }
    cluster.run(5);
}

/// What an application that has applied `from` entries reads there.
fn numbers<B: Storage<Record>>(cluster: &mut Servers<B>, pid: NodeId, from: u64) -> Vec<u64> {
    let entries = cluster.server(pid).read_decided_suffix(from).unwrap_or_default();
    let number = |entry| match entry {
        LogEntry::Decided(Record { number, .. }) => number,
        other => panic!("at server {pid}, from {from} on: {other:?}"),
    };
    entries.into_iter().map(number).collect()
}

fn compacted<B: Storage<Record>>(cluster: &Servers<B>) -> Vec<u64> {
    cluster.servers().map(|server| server.get_compacted_idx()).collect()
}

fn compact<B: Storage<Record>>(cluster: &mut Servers<B>, applied: &[(NodeId, u64)]) {
    for (pid, idx) in applied {
        cluster.server(*pid).compact(*idx).unwrap();
    }
    cluster.run(1);
}

fn holds_back<B: Storage<Record>>(cluster: &Servers<B>) -> Vec<Vec<NodeId>> {
    cluster.servers().map(|server| server.status().holds_back()).collect()
}

#[test]
fn the_slowest_application_finds_all_entries() {
    let mut cluster = decided(8);
    compact(&mut cluster, &[(1, 8)]);
    assert_eq!(compacted(&cluster), [0; 3]);
    assert_eq!(numbers(&mut cluster, 2, 3), [3, 4, 5, 6, 7]);
    compact(&mut cluster, &[(2, 3), (3, 7)]);
    assert_eq!(compacted(&cluster), [3; 3]);
    assert_eq!(numbers(&mut cluster, 2, 3), [3, 4, 5, 6, 7]);
    assert_eq!(holds_back(&cluster), vec![vec![2, 3]; 3]);
    compact(&mut cluster, &[(2, 8), (2, 5), (3, 8)]);
    assert_eq!(compacted(&cluster), [8; 3]);
    assert_eq!(holds_back(&cluster), vec![vec![]; 3]);
}

#[test]
fn what_is_not_decided_here_cannot_have_been_applied() {
    let mut cluster = decided(8);
    for pid in 1..=3 {
        let refused = cluster.server(pid).compact(9).unwrap_err();
        assert_eq!(refused, CompactionErr::UndecidedIndex(8));
        cluster.server(pid).compact(0).unwrap();
        cluster.server(pid).compact(8).unwrap();
        cluster.server(pid).compact(8).unwrap();
    }
    cluster.run(1);
    assert_eq!(compacted(&cluster), [8; 3]);
    for pid in 1..=3 {
        cluster.server(pid).compact(4).unwrap();
    }
}

#[test]
fn a_stop_sign_is_never_given_up() {
    let mut cluster = decided(8);
    let next = omnipaxos::ClusterConfig { configuration_id: 2, ..three() };
    cluster.server(1).reconfigure(next, None).unwrap();
    cluster.run(5);
    compact(&mut cluster, &[(1, 9), (2, 9), (3, 9)]);
    assert_eq!(compacted(&cluster), [8; 3]);
    assert_eq!(cluster.server(2).get_decided_idx(), 9);
    assert!(cluster.server(2).is_reconfigured().is_some());
    assert_eq!(holds_back(&cluster), vec![vec![]; 3]);
}

#[test]
fn a_server_that_is_away_holds_entries_back_and_is_named() {
    let mut cluster = decided(8);
    cluster.isolate(3);
    append(&mut cluster, 8..30);
    compact(&mut cluster, &[(1, 30), (2, 30), (3, 8)]);
    cluster.run(100);
    assert_eq!(compacted(&cluster), [0; 3]);
    let status = cluster.server(2).status();
    assert_eq!((status.applied_idx, status.holds_back()), (30, vec![3]));
    let applied: Vec<_> = status.peers.iter().map(|peer| (peer.pid, peer.applied_idx)).collect();
    assert_eq!(applied, [(1, Some(30)), (3, None)]);
    cluster.heal_all();
    cluster.run(30);
    assert_eq!(compacted(&cluster), [8; 3]);
    assert_eq!(numbers(&mut cluster, 3, 8), (8..30).collect::<Vec<_>>());
    compact(&mut cluster, &[(3, 30)]);
    assert_eq!(compacted(&cluster), [30; 3]);
}

#[test]
fn another_leader_goes_on() {
    let mut cluster = decided(8);
    compact(&mut cluster, &[(1, 8), (2, 8)]);
    cluster.server(3).try_become_leader();
    cluster.run(30);
    assert_eq!(cluster.server(1).get_current_leader(), Some(3));
    compact(&mut cluster, &[(3, 6)]);
    assert_eq!(compacted(&cluster), [6; 3]);
}

/// Restarts a server over what its disk holds.
fn restart(
    cluster: &mut Servers<omnipaxos_storage::persistent_storage::PersistentStorage<Record>>,
    folder: &Path,
    pid: NodeId,
) {
    cluster.crash(pid);
    cluster.start(build(&three(), pid, |_config| {}, on_disk(folder, pid)));
    cluster.run(30);
}

#[test]
fn a_restarted_server_counts_for_what_its_application_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = led_by_1(|pid| on_disk(folder.path(), pid), |_config| {});
    append(&mut cluster, 0..8);
    compact(&mut cluster, &[(2, 8), (3, 5)]);
    restart(&mut cluster, folder.path(), 2);
    assert_eq!(cluster.server(2).status().applied_idx, 0);
    compact(&mut cluster, &[(1, 7)]);
    cluster.run(30);
    assert_eq!(compacted(&cluster), [5; 3], "server 2 is told by the leader");
    compact(&mut cluster, &[(3, 8)]);
    assert_eq!(compacted(&cluster), [7; 3]);
    for pid in 1..=3 {
        restart(&mut cluster, folder.path(), pid);
    }
    assert_eq!(compacted(&cluster), [7; 3]);
    let leader = cluster.server(1).get_current_leader().unwrap();
    for number in 8..12 {
        cluster.server(leader).append(Record::of(number, 8)).unwrap();
    }
    cluster.run(5);
    compact(&mut cluster, &[(1, 12), (2, 12)]);
    assert_eq!(compacted(&cluster), [7; 3], "what server 3 said is not known any more");
    compact(&mut cluster, &[(3, 9)]);
    assert_eq!(compacted(&cluster), [9; 3]);
}

/// Whether a message reports what an application has applied.
fn is_report(message: &Message<Record>) -> bool {
    matches!(message, Message::SequencePaxos(message) if matches!(&message.msg,
        PaxosMsg::Compaction(asked) if matches!(asked.action, CompactionAction::Applied(_))))
}

#[test]
fn reports_that_are_lost_are_repeated_until_they_are_confirmed() {
    let mut cluster = decided(8);
    for from in 1..=3 {
        cluster.server(from).compact(8).unwrap();
        let mut lost = Vec::new();
        cluster.server(from).take_outgoing_messages(&mut lost);
        assert_eq!(lost.iter().filter(|message| is_report(message)).count(), 2);
    }
    assert_eq!(compacted(&cluster), [0; 3]);
    cluster.run(30);
    assert_eq!(compacted(&cluster), [8; 3]);
    cluster.run(20);
    cluster.network = Counting::default();
    cluster.run(200);
    let kinds: Vec<_> = cluster.network.kinds.keys().copied().collect();
    assert_eq!(kinds, ["HeartbeatReply", "HeartbeatRequest"], "nothing is left to say");
}

#[test]
fn a_trim_takes_what_no_application_has_applied_since_it_was_asked_for() {
    let mut cluster = decided(8);
    cluster.server(1).trim(Some(6)).unwrap();
    cluster.run(2);
    assert_eq!(compacted(&cluster), [6; 3]);
    assert_eq!(cluster.server(2).read(3), Some(LogEntry::Trimmed(6)));
}
