//! Appends without a leader.

use crate::cluster::{decided, memory, of_three, Cluster, Record};
use omnipaxos::{errors::TryProposeErr, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;

/// An hour, with 10 ms a tick.
const HOUR: u64 = 360_000;

const EVERY: u64 = 10;

const ENTRY: usize = size_of::<Record>() + 100;

/// The most that a queue which has grown to a size may have reserved beyond it.
const CONSTANT: i64 = 64 << 10;

/// Appends for an hour at server 1 alone, then lets the others in; `leader` is who leads then.
fn an_hour_without_a_leader(name: &str, leader: u64, change: impl Fn(&mut ServerConfig)) {
    let mut limits = ServerConfig::default();
    change(&mut limits);
    let mut cluster = of_three(|_| MemoryStorage::default(), change);
    cluster.isolate(1);
    let appended = HOUR / EVERY;
    let half = |from: u64, to: u64, cluster: &mut Cluster<Record, MemoryStorage<Record>>| {
        memory(|| {
            for tick in from..to {
                if tick % EVERY == 0 {
                    cluster.server(1).append(Record::of(tick / EVERY, 100)).unwrap();
                }
                // The others are not there: only server 1 lives through this hour.
                cluster.server(1).tick();
                drop(cluster.server(1).outgoing_messages());
            }
        })
    };
    let first = half(0, HOUR / 2, &mut cluster);
    let second = half(HOUR / 2, HOUR, &mut cluster);
    let server = cluster.server(1);
    let dropped = server.dropped().proposals;
    let waiting = appended - dropped;
    println!("{name}, then {leader} leads: {waiting} wait; {first:?}, then {second:?}");
    let limit = (limits.max_pending_bytes.min(limits.max_pending_entries * ENTRY)) as i64;
    assert!(first.peak.max(first.more + second.peak) < limit + CONSTANT, "{name}");
    let fits = limits.max_pending_entries.min(limits.max_pending_bytes.div_ceil(ENTRY)) as u64;
    assert_eq!(waiting, appended.min(fits), "{name}");
    let next = Record::of(appended, 100);
    match server.try_append(next.clone()) {
        Ok(()) => assert_eq!(dropped, 0),
        Err(TryProposeErr::Busy(entry)) => assert_eq!((entry, dropped > 0), (next.clone(), true)),
        Err(other) => panic!("{other}"),
    }
    assert_eq!(server.dropped().proposals, dropped, "it was given back, not dropped");

    let mut expected: Vec<Record> = (0..waiting).map(|number| Record::of(number, 100)).collect();
    if dropped == 0 {
        expected.push(next);
    }
    cluster.heal_all();
    cluster.server(leader).try_become_leader();
    cluster.until_decided_everywhere(expected.len() as u64);
    cluster.run(100);
    for server in cluster.servers() {
        assert_eq!(server.get_current_leader(), Some(leader));
        assert!(decided(server) == expected, "{name}: {} decided", server.get_decided_idx());
        let lost = if server.get_pid() == 1 { dropped } else { 0 };
        assert_eq!(server.dropped().proposals, lost, "at {}", server.get_pid());
    }
    cluster.server(1).try_append(Record::of(0, 100)).unwrap();
}

#[test]
fn as_many_wait_as_may_and_are_decided_in_order() {
    for leader in [1, 2] {
        an_hour_without_a_leader("few entries", leader, |config| {
            config.max_pending_entries = 1000;
        });
        an_hour_without_a_leader("few bytes", leader, |config| {
            config.max_pending_bytes = 50_000;
        });
        an_hour_without_a_leader("the defaults", leader, |_| {});
    }
}
