//! A follower that was away.

use crate::cluster::{
    decided, led_by_1, memory, on_disk, three, Cluster, Counting, Record, Summand, Total,
};
use omnipaxos::{
    errors::CompactionErr,
    storage::{Entry, Storage},
    util::LogEntry,
    ServerConfig,
};
use omnipaxos_harness::build;
use serde::{de::DeserializeOwned, Serialize};

const MESSAGE: usize = 64 << 10;

/// What goes with the entries of a message.
const OVERHEAD: u64 = 256;

/// What does not depend on how far a follower is behind: buffers of the storage and of the network.
const CONSTANT: i64 = 256 << 10;

fn small(config: &mut ServerConfig) {
    config.max_message_bytes = MESSAGE;
}

/// As [`small`], and what is in flight to a follower is two messages.
fn small_window(config: &mut ServerConfig) {
    small(config);
    config.max_in_flight_bytes = 2 * MESSAGE;
    config.max_in_flight_entries = 2 * MESSAGE / 96;
}

/// Decides entries at the servers that are linked, 600 a tick: they fit into a message.
fn decide<T, B>(cluster: &mut Cluster<T, B>, count: u64, entry: impl Fn(u64) -> T)
where
    T: Entry + Serialize + PartialEq,
    T::Snapshot: Serialize + DeserializeOwned,
    B: Storage<T>,
{
    let from = cluster.server(1).get_decided_idx();
    for number in from..from + count {
        cluster.server(1).append(entry(number)).unwrap();
        if number % 600 == 599 {
            cluster.tick();
        }
    }
    cluster.run(30);
    assert_eq!(cluster.server(1).get_decided_idx(), from + count);
}

/// The most memory that all three servers take more while one makes up for `behind` entries, and
/// the largest message.
fn catch_up(behind: u64, change: fn(&mut ServerConfig)) -> (i64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = led_by_1(|pid| on_disk(folder.path(), pid), change);
    let entry = |number| Record::of(number, 64);
    decide(&mut cluster, 1000, entry);
    cluster.isolate(3);
    decide(&mut cluster, behind, entry);
    assert_eq!(cluster.server(3).get_decided_idx(), 1000);
    cluster.heal_all();
    cluster.network = Counting::default();
    let taken = memory(|| {
        cluster.until_decided_everywhere(1000 + behind);
    });
    let largest = cluster.network.largest();
    println!("{behind} behind: {taken:?}, the largest message {largest}");
    println!("    {:?}", cluster.network.kinds);
    let logs: Vec<Vec<Record>> = cluster.servers().map(decided).collect();
    assert!(logs.iter().all(|log| log.len() as u64 == 1000 + behind && *log == logs[0]));
    (taken.peak, largest)
}

#[test]
fn memory_does_not_grow_with_what_is_missing() {
    let message = MESSAGE as i64;
    for (name, change, window) in [
        ("a window of two messages", small_window as fn(&mut ServerConfig), 2 * message),
        ("a window of 4 MiB", small, 4 << 20),
    ] {
        let (half, of_half) = catch_up(50_000, change);
        let (all, of_all) = catch_up(100_000, change);
        println!("{name}: peaks {half} and {all}, largest {of_half} and {of_all}");
        assert!(of_half.max(of_all) <= MESSAGE as u64 + OVERHEAD, "{name}");
        // What arrives before a drain is written at once: the storage holds it encoded, twice.
        for peak in [half, all] {
            assert!(peak < 3 * window + 4 * message + CONSTANT, "{name}: {peak}");
        }
        assert!(all < half + 4 * message, "{name}: {half}, and {all} for twice as many");
    }
}

#[test]
fn a_snapshot_and_chunks_bring_up_a_server_that_lacks_what_is_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = led_by_1(|pid| on_disk(folder.path(), pid), small_window);
    let entry = |number| Summand { number, value: "7".repeat(64) };
    decide(&mut cluster, 1000, entry);
    cluster.crash(3);
    for _ in 0..4 {
        decide(&mut cluster, 5000, entry);
        for server in cluster.servers_mut() {
            let applied_idx = server.get_decided_idx();
            server.compact(applied_idx).unwrap();
            server.compact(applied_idx - 1000).unwrap();
            assert_eq!(server.get_compacted_idx(), applied_idx);
        }
    }
    decide(&mut cluster, 20_000, entry);
    let decided_idx = 41_000;
    cluster.network = Counting::default();
    cluster.start(build(&three(), 3, small_window, on_disk(folder.path(), 3)));
    let taken = memory(|| {
        cluster.until_decided_everywhere(decided_idx);
    });
    println!("a snapshot of 21,000 and 20,000 entries: {taken:?}");
    println!("    {:?}", cluster.network.kinds);
    assert!(cluster.network.largest() <= MESSAGE as u64 + OVERHEAD);
    assert!(taken.peak < 10 * MESSAGE as i64 + CONSTANT, "{taken:?}");

    for server in cluster.servers() {
        assert_eq!(server.get_compacted_idx(), 21_000);
        let mut total = Total::default();
        for entry in server.read_decided_suffix(0).unwrap() {
            match entry {
                LogEntry::Snapshotted(snapshotted) => total = snapshotted.snapshot,
                LogEntry::Decided(summand) => {
                    assert_eq!(summand.number, total.count);
                    total.count += 1;
                    total.sum += summand.number;
                }
                other => panic!("{other:?}"),
            }
        }
        let sum = decided_idx * (decided_idx - 1) / 2;
        assert_eq!(total, Total { count: decided_idx, sum });
    }
}

#[test]
fn what_some_server_lacks_is_not_trimmed() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = led_by_1(|pid| on_disk(folder.path(), pid), small_window);
    let entry = |number| Record::of(number, 64);
    decide(&mut cluster, 1000, entry);
    cluster.isolate(3);
    decide(&mut cluster, 20_000, entry);

    let refused = cluster.server(1).trim(Some(21_000)).unwrap_err();
    assert_eq!(refused, CompactionErr::NotAllDecided(1000));
    let says = refused.to_string();
    assert_eq!(says, "cannot trim beyond index 1000, the largest that every server has accepted");
    let refused = cluster.server(2).trim(Some(500)).unwrap_err();
    assert_eq!(refused, CompactionErr::NotCurrentLeader(1));
    let says = refused.to_string();
    assert!(says.starts_with("only the leader can trim") && says.contains("server 1"), "{says}");
    for pid in [1, 2] {
        assert_eq!(cluster.server(pid).get_compacted_idx(), 0);
    }
    cluster.server(1).trim(Some(1000)).unwrap();
    cluster.run(30);
    assert_eq!(cluster.server(2).get_compacted_idx(), 1000);

    cluster.heal_all();
    cluster.until_decided_everywhere(21_000);
    for server in cluster.servers() {
        let entries = server.read_decided_suffix(1000).unwrap();
        let expected = (1000..21_000).map(|number| LogEntry::Decided(entry(number)));
        assert!(entries.into_iter().eq(expected), "at {}", server.get_pid());
    }
    cluster.run(30);
    cluster.server(1).trim(Some(21_000)).unwrap();
    cluster.run(30);
    for server in cluster.servers() {
        assert_eq!(server.get_compacted_idx(), 21_000, "at {}", server.get_pid());
    }
}
