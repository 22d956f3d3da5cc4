//! Users who leave out something that the documentation requires.

use crate::cluster::{led_by_1, memory, on_disk, Cluster, Counting, Memory, Record};
use omnipaxos::{util::NodeId, ServerConfig};
use omnipaxos_storage::persistent_storage::PersistentStorage;
use std::path::Path;

/// Entries of 100 bytes by their `size_hint`.
const ENTRY: usize = size_of::<Record>() + 100;

/// What does not depend on the number of entries: buffers, and what the storage keeps at hand.
const CONSTANT: i64 = 256 << 10;

/// The ids of 10,000 entries that were forwarded, 100 in each message: a run a message, remembered
/// by index and by id at each of three servers. How many runs are remembered has a limit, too.
const IDS: i64 = 3 * 100 * 160;

const KIB: usize = 1 << 10;

fn small(config: &mut ServerConfig) {
    config.max_message_bytes = 64 * KIB;
    config.max_in_flight_bytes = 256 * KIB;
    config.max_pending_bytes = 512 * KIB;
}

/// What the limits of [`small`] allow at one server.
const LIMITS: i64 = ((64 + 256 + 512) * KIB) as i64;

type OnDisk = Cluster<Record, PersistentStorage<Record>>;

fn on_disks(folder: &Path) -> OnDisk {
    led_by_1(|pid| on_disk(folder, pid), small)
}

/// Appends 100 entries a tick at the servers `at`, until each took `count`.
fn append(cluster: &mut OnDisk, at: &[NodeId], count: u64) -> Memory {
    memory(|| {
        for number in 0..count {
            for pid in at {
                cluster.server(*pid).append(Record::of(number, 100)).unwrap();
            }
            if number % 100 == 99 {
                cluster.tick();
            }
        }
        cluster.run(30);
    })
}

/// Appends 10,000 and another 10,000, and returns the memory of those.
fn append_twice(name: &str, cluster: &mut OnDisk, at: &[NodeId]) -> (Memory, Memory) {
    let first = append(cluster, at, 10_000);
    cluster.network = Counting::default();
    let second = append(cluster, at, 10_000);
    println!("{name}: {first:?}, then {second:?}");
    (first, second)
}

/// Whether messages of the peer reach the leader.
#[derive(Copy, Clone, PartialEq)]
enum IsHeard {
    Yes,
    No,
}

#[test]
fn a_silent_peer_costs_its_leader_a_window() {
    // A server to which the leader's link is cut learns from server 2. Its report makes the leader
    // send the rest.
    for (name, cuts, is_heard) in [
        ("silent", vec![(1, 3), (2, 3), (3, 1), (3, 2)], IsHeard::No),
        ("never sent to by the leader", vec![(1, 3)], IsHeard::Yes),
        ("sent to, but not heard", vec![(3, 1), (3, 2)], IsHeard::No),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = on_disks(folder.path());
        cuts.iter().for_each(|(from, to)| cluster.cut_one_way(*from, *to));
        let (_, second) = append_twice(name, &mut cluster, &[1]);
        assert_eq!(cluster.server(1).get_decided_idx(), 20_000, "{name}");
        assert!(second.more < 64 * KIB as i64, "{name}: {second:?}");
        assert!(second.peak < LIMITS + CONSTANT, "{name}: {second:?}");

        // The second half took 130 ticks, which are 13 heartbeat rounds.
        let to_3 = cluster.network.sent[&(1, 3)];
        println!("{name}: the leader's messages to the peer meanwhile: {to_3:?}");
        if is_heard == IsHeard::No {
            assert!(to_3.messages <= 13 && to_3.largest <= 128, "{name}: {to_3:?}");
        }
        cluster.heal_all();
        cluster.until_decided_everywhere(20_000);
    }
}

#[test]
fn a_leader_that_is_never_drained_holds_what_its_limits_allow() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = on_disks(folder.path());
    cluster.set_drained(1, false);
    let (first, second) = append_twice("leader, never drained", &mut cluster, &[1]);
    assert!(first.peak < LIMITS + CONSTANT, "{first:?}");
    assert!(second.peak < CONSTANT, "it is full already: {second:?}");
    let held = (64 + 512) * KIB / ENTRY;
    // Another server leads meanwhile, and what this one had appended as the leader is dropped.
    let status = cluster.server(1).status();
    let holds = status.accepted_idx + status.waiting.entries + status.pending.entries;
    assert!(holds <= held as u64 + 2, "{holds} entries, {held} are allowed");
}

#[test]
fn a_follower_that_is_never_drained_holds_what_its_limits_allow() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = on_disks(folder.path());
    cluster.set_drained(2, false);
    let (first, second) = append_twice("follower, never drained", &mut cluster, &[1, 2]);
    assert_eq!(cluster.server(1).get_decided_idx(), 20_000);
    assert!(first.peak < LIMITS + CONSTANT, "{first:?}");
    assert!(second.peak < CONSTANT, "it is full already: {second:?}");
    assert!(cluster.server(2).dropped().proposals > 0);
    println!("the leader's messages to it meanwhile: {:?}", cluster.network.sent[&(1, 2)]);
}

#[test]
fn a_server_that_is_never_ticked_holds_what_its_limits_allow() {
    for never_ticked in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = on_disks(folder.path());
        cluster.set_ticked(never_ticked, false);
        let name = format!("server {never_ticked}, never ticked");
        let (first, second) = append_twice(&name, &mut cluster, &[1, 2]);
        for memory in [first, second] {
            assert!(memory.peak < LIMITS + CONSTANT, "{name}: {memory:?}");
        }
        assert!(second.more < CONSTANT / 4 + IDS, "{name}: {second:?}");
        println!("{name}: decided {}", cluster.server(1).get_decided_idx());
    }
}
