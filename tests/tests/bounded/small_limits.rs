//! Limits that are as small as can be, and different ones at each server.

use crate::cluster::{decided, led_by_1, Cluster, Record};
use omnipaxos::{errors::TryProposeErr, util::NodeId, ClusterConfig, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::collections::{BTreeMap, BTreeSet};

type InMemory = Cluster<Record, MemoryStorage<Record>>;

/// Message, in flight, pending: entries and bytes.
type Limits = [(usize, usize); 3];

fn set(config: &mut ServerConfig, [message, in_flight, pending]: Limits) {
    (config.max_message_entries, config.max_message_bytes) = message;
    (config.max_in_flight_entries, config.max_in_flight_bytes) = in_flight;
    (config.max_pending_entries, config.max_pending_bytes) = pending;
}

const ONE: Limits = [(1, 1); 3];
const FEW: Limits = [(3, 500), (2, 300), (5, 700)];
const WIDE: Limits = [(100, 1 << 20), (200, 1 << 20), (300, 1 << 20)];

fn cluster(limits: [Limits; 3]) -> InMemory {
    led_by_1(|_| MemoryStorage::default(), |config| set(config, limits[config.pid as usize - 1]))
}

/// Appends each number once, at one of the servers `at`, and waits until all are decided. What is
/// given back since too many wait is appended later; what is taken is not lost.
fn append_until_decided(cluster: &mut InMemory, at: &[NodeId], numbers: std::ops::Range<u64>) {
    let mut busy = 0_u64;
    for number in numbers.clone() {
        let pid = at[number as usize % at.len()];
        let mut record = Record::of(number, 100);
        while let Err(refused) = cluster.server(pid).try_append(record) {
            match refused {
                TryProposeErr::Busy(again) => record = again,
                other => panic!("{other}"),
            }
            busy += 1;
            assert!(busy < 100_000, "busy for ever");
            cluster.tick();
        }
    }
    let everything: BTreeSet<u64> = numbers.collect();
    for _ in 0..400 {
        let numbers = decided(cluster.server(1)).into_iter().map(|record| record.number);
        let there: BTreeSet<u64> = numbers.collect();
        if everything.is_subset(&there) {
            println!("{} entries decided, {busy} times busy", everything.len());
            return;
        }
        cluster.run(5);
    }
    panic!("not decided");
}

fn assert_same_logs(cluster: &mut InMemory) {
    let decided_idx = cluster.server(1).get_decided_idx();
    cluster.until_decided_everywhere(decided_idx);
    let logs: Vec<Vec<Record>> = cluster.servers().map(decided).collect();
    assert!(logs.iter().all(|log| *log == logs[0]));
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    logs[0].iter().for_each(|record| *times.entry(record.number).or_default() += 1);
    let twice = times.iter().find(|(_, times)| **times > 1);
    assert_eq!(twice, None, "entry and how often it is decided");
}

#[test]
fn a_few_hundred_entries_get_decided_everywhere() {
    for limits in
        [[ONE, ONE, ONE], [ONE, FEW, WIDE], [WIDE, FEW, ONE], [FEW, WIDE, ONE], [WIDE, ONE, WIDE]]
    {
        let mut cluster = cluster(limits);
        append_until_decided(&mut cluster, &[1, 2, 3], 0..300);
        assert_same_logs(&mut cluster);
        // One is away, and learns what it lacks; then another leads, with its limits.
        cluster.isolate(3);
        append_until_decided(&mut cluster, &[1, 2], 300..500);
        cluster.heal_all();
        assert_same_logs(&mut cluster);
        cluster.server(3).try_become_leader();
        cluster.run(50);
        assert_eq!(cluster.server(1).get_current_leader(), Some(3));
        append_until_decided(&mut cluster, &[1, 2, 3], 500..600);
        assert_same_logs(&mut cluster);
        assert_eq!(cluster.server(1).get_decided_idx(), 600);
    }
}

#[test]
fn a_stop_sign_gets_in_behind_a_full_queue() {
    let next = ClusterConfig { configuration_id: 2, nodes: vec![1, 2], flexible_quorum: None };
    for (limits, at) in [([ONE; 3], 1), ([ONE; 3], 2), ([FEW, WIDE, ONE], 1), ([ONE, FEW, WIDE], 3)]
    {
        let mut cluster = cluster(limits);
        let mut number = 0;
        while cluster.server(at).try_append(Record::of(number, 100)).is_ok() {
            number += 1;
        }
        cluster.server(at).try_reconfigure(next.clone(), None).unwrap();
        cluster.run(100);
        println!("{number} entries were before the stop sign at server {at}");
        for server in cluster.servers() {
            let stopsign = server.is_reconfigured().expect("the stop sign is decided");
            assert_eq!(stopsign.next_config, next);
            if at == 1 {
                assert_eq!(decided(server).len() as u64, number, "at {}", server.get_pid());
            }
        }
        let decided_idx = cluster.server(1).get_decided_idx();
        cluster.until_decided_everywhere(decided_idx);
    }
}
