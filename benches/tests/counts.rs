//! What an entry costs that can be counted exactly: allocations, clones, messages, bytes. The limits
//! are what was measured, so that none is exceeded unnoticed.
//!
//! `cargo test -p omnipaxos_benches --test counts -- --nocapture` prints them.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use allocation_counter::measure;
use omnipaxos::{
    messages::{sequence_paxos::PaxosMsg, Message},
    storage::{Entry, NoSnapshot},
    ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{Deserialize, Serialize};
use std::cell::Cell;

thread_local! {
    static CLONES: Cell<u64> = const { Cell::new(0) };
}

/// Counts its clones.
#[derive(Debug, Serialize, Deserialize)]
struct KeyValue {
    key: u64,
    value: Vec<u8>,
}

impl Clone for KeyValue {
    fn clone(&self) -> Self {
        CLONES.set(CLONES.get() + 1);
        Self { key: self.key, value: self.value.clone() }
    }
}

impl Entry for KeyValue {
    type Snapshot = NoSnapshot;
}

type Server = OmniPaxos<KeyValue, MemoryStorage<KeyValue>>;

/// A cluster with a leader, in one thread.
struct Cluster {
    servers: Vec<Server>,
    leader: usize,
    messages: Vec<Message<KeyValue>>,
    sent: u64,
}

/// What some entries cost, per entry.
#[derive(Debug)]
struct Cost {
    allocations: f64,
    bytes: f64,
    clones: f64,
    messages: f64,
}

impl Cluster {
    fn of(n: u64) -> Self {
        let server = |pid| -> Server {
            let config = OmniPaxosConfig {
                cluster_config: ClusterConfig {
                    configuration_id: 1,
                    nodes: (1..=n).collect(),
                    ..Default::default()
                },
                server_config: ServerConfig { pid, ..Default::default() },
            };
            config.build(MemoryStorage::default()).unwrap()
        };
        let servers = (1..=n).map(server).collect();
        let mut cluster = Self { servers, leader: 0, messages: Vec::new(), sent: 0 };
        for _ in 0..100 {
            cluster.servers.iter_mut().for_each(Server::tick);
            cluster.deliver();
        }
        cluster.leader = cluster.servers[0].get_current_leader().unwrap() as usize - 1;
        cluster
    }

    /// Takes what all have to say, and then delivers it. Returns whether there was anything.
    fn hop(&mut self) -> bool {
        for server in &mut self.servers {
            server.take_outgoing_messages(&mut self.messages);
        }
        self.sent += self.messages.len() as u64;
        let any = !self.messages.is_empty();
        for message in self.messages.drain(..) {
            self.servers[message.get_receiver() as usize - 1].handle_incoming(message);
        }
        any
    }

    fn deliver(&mut self) {
        while self.hop() {}
    }

    /// Appends entries in groups of `group`, with `hops` between two groups; `None`: until all is
    /// delivered.
    fn cost(&mut self, entries: u64, group: usize, hops: Option<u32>) -> Cost {
        let log: Vec<_> = (0..entries).map(|key| KeyValue { key, value: vec![7; 8] }).collect();
        let before = self.servers[0].get_decided_idx();
        let (sent, clones) = (self.sent, CLONES.get());
        let counted = measure(|| {
            let mut log = log.into_iter();
            while log.len() > 0 {
                for entry in log.by_ref().take(group) {
                    self.servers[self.leader].append(entry).unwrap();
                }
                match hops {
                    Some(hops) => (0..hops).for_each(|_| {
                        self.hop();
                    }),
                    None => self.deliver(),
                }
            }
        });
        let messages = self.sent - sent;
        self.deliver();
        for server in &self.servers {
            assert_eq!(server.get_decided_idx(), before + entries);
        }
        let per_entry = |count: u64| count as f64 / entries as f64;
        Cost {
            allocations: per_entry(counted.count_total),
            bytes: per_entry(counted.bytes_total),
            clones: per_entry(CLONES.get() - clones),
            messages: per_entry(messages),
        }
    }
}

/// Servers, group, hops; then the limits: allocations, bytes requested, clones and messages.
type Row = (u64, usize, Option<u32>, [f64; 4]);

const ROWS: [Row; 5] = [
    (3, 1, None, [2.01, 490.0, 0.0, 6.0]),
    (3, 1, Some(1), [2.01, 490.0, 0.0, 4.01]),
    (3, 100, None, [0.08, 90.0, 0.0, 0.06]),
    (15, 1, None, [2.01, 1760.0, 0.0, 42.0]),
    (15, 100, None, [0.08, 100.0, 0.0, 0.42]),
];

#[test]
fn an_entry_costs_no_more_than_it_did() {
    println!("| servers | K | allocations | bytes | clones | messages |");
    println!("|---:|---:|---:|---:|---:|---:|");
    for (n, group, hops, limits) in ROWS {
        let mut cluster = Cluster::of(n);
        cluster.cost(10_000, group, hops);
        let cost = cluster.cost(10_000, group, hops);
        let how = if hops.is_some() { ", pipelined" } else { "" };
        println!(
            "| {n} | {group}{how} | {:.3} | {:.0} | {} | {:.2} |",
            cost.allocations, cost.bytes, cost.clones, cost.messages
        );
        let counted = [cost.allocations, cost.bytes, cost.clones, cost.messages];
        let is_within = counted.iter().zip(limits).all(|(counted, limit)| *counted <= limit);
        assert!(is_within, "{n} servers, groups of {group}: {cost:?} exceeds {limits:?}");
    }
}

#[test]
fn an_idle_drain_and_a_silent_tick_allocate_nothing() {
    let mut cluster = Cluster::of(3);
    cluster.cost(1000, 1, None);
    let mut quiet = 0;
    for _ in 0..50 {
        let counted = measure(|| {
            for server in &mut cluster.servers {
                server.tick();
                server.take_outgoing_messages(&mut cluster.messages);
            }
        });
        if cluster.messages.is_empty() {
            assert_eq!(counted.count_total, 0);
            quiet += 1;
        }
        cluster.deliver();
        let idle = measure(|| {
            for server in &mut cluster.servers {
                server.take_outgoing_messages(&mut cluster.messages);
            }
        });
        assert_eq!(idle.count_total, 0);
    }
    assert!(quiet > 30, "{quiet} ticks without heartbeats");
}

#[test]
fn what_an_accept_decide_takes_on_the_wire() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader;
    cluster.servers[leader].append(KeyValue { key: 1, value: vec![7; 8] }).unwrap();
    let messages = cluster.servers[leader].outgoing_messages();
    let accept = messages
        .iter()
        .find(|message| match message {
            Message::SequencePaxos(paxos) => matches!(paxos.msg, PaxosMsg::AcceptDecide(_)),
            Message::BLE(_) => false,
        })
        .unwrap();
    let bytes = |entry: usize, all: Vec<u8>| all.len() - entry;
    let entry = KeyValue { key: 1, value: vec![7; 8] };
    let fixed = bincode::config::legacy();
    let variable = bincode::config::standard();
    let of_entry = bincode::serde::encode_to_vec(&entry, fixed).unwrap().len();
    let fixed = bytes(of_entry, bincode::serde::encode_to_vec(accept, fixed).unwrap());
    let of_entry = bincode::serde::encode_to_vec(&entry, variable).unwrap().len();
    let variable = bytes(of_entry, bincode::serde::encode_to_vec(accept, variable).unwrap());
    println!("an AcceptDecide without its entries: {fixed} bytes, or {variable} with variable-length integers");
    assert!(fixed <= 72 && variable <= 24, "{fixed} and {variable} bytes");
    let message = size_of::<Message<KeyValue>>();
    println!("a message in memory: {message} bytes");
    assert!(message <= 112, "{message} bytes");
}
