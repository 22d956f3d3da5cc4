//! What an entry costs that can be counted exactly: allocations, clones, messages, bytes. The limits
//! are what was measured, so that none is exceeded unnoticed.
//!
//! `cargo test -p omnipaxos_benches --test counts -- --nocapture` prints them.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use allocation_counter::measure;
use omnipaxos::messages::{sequence_paxos::PaxosMsg, Message};
use omnipaxos_benches::{
    cluster::{deliver, replicate, Cluster, KeyValue, Pump, Wire, Work},
    contestants::Ours,
};

/// Per entry: allocations, bytes requested, clones, messages.
fn count(n: u64, group: usize, pump: Pump) -> [f64; 4] {
    let work = Work { n, bytes: 8, entries: 10_000, group, pump, wire: Wire::Moved };
    work.count::<Ours>(|run| {
        let counted = measure(run);
        [counted.count_total, counted.bytes_total]
    })
}

/// Servers, group, when messages move; then the limits: allocations, bytes requested, clones and
/// messages.
type Row = (u64, usize, Pump, [f64; 4]);

const ROWS: [Row; 5] = [
    (3, 1, Pump::UntilSilent, [1.01, 387.0, 0.0, 6.0]),
    (3, 1, Pump::OneHop, [1.01, 387.0, 0.0, 4.01]),
    (3, 100, Pump::UntilSilent, [0.03, 40.0, 0.0, 0.06]),
    (15, 1, Pump::UntilSilent, [1.01, 1672.0, 0.0, 42.0]),
    (15, 100, Pump::UntilSilent, [0.03, 50.0, 0.0, 0.42]),
];

#[test]
fn an_entry_costs_no_more_than_it_did() {
    println!("| servers | K | allocations | bytes | clones | messages |");
    println!("|---:|---:|---:|---:|---:|---:|");
    for (n, group, pump, limits) in ROWS {
        let counted = count(n, group, pump);
        let [allocations, bytes, clones, messages] = counted;
        println!(
            "| {n} | {group}, {pump:?} | {allocations:.3} | {bytes:.0} | {clones} | {messages:.2} |"
        );
        let is_within = counted.iter().zip(limits).all(|(counted, limit)| *counted <= limit);
        assert!(is_within, "{n} servers, groups of {group}: {counted:?} exceeds {limits:?}");
    }
}

#[test]
fn an_idle_drain_and_a_silent_tick_allocate_nothing() {
    let mut cluster = Ours::elected(3, Wire::Moved);
    replicate(&mut cluster, KeyValue::many(1000, 8), 1, Pump::UntilSilent);
    let (mut messages, mut quiet) = (Vec::new(), 0);
    for _ in 0..50 {
        let counted = measure(|| {
            for server in &mut cluster.servers {
                server.tick();
                server.take_outgoing_messages(&mut messages);
            }
        });
        if messages.is_empty() {
            assert_eq!(counted.count_total, 0);
            quiet += 1;
        }
        for message in messages.drain(..) {
            cluster.servers[message.get_receiver() as usize - 1].handle_incoming(message);
        }
        deliver(&mut cluster);
        let idle = measure(|| {
            for server in &mut cluster.servers {
                server.take_outgoing_messages(&mut messages);
            }
        });
        assert_eq!(idle.count_total, 0);
    }
    assert!(quiet > 30, "{quiet} ticks without heartbeats");
}

#[test]
fn what_an_accept_decide_takes_on_the_wire() {
    let mut cluster = Ours::elected(3, Wire::Moved);
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
    // Eight bytes name the storages that send and receive it: `docs/identity.md`.
    assert!(fixed <= 77 && variable <= 20, "{fixed} and {variable} bytes");
    let message = size_of::<Message<KeyValue>>();
    println!("a message in memory: {message} bytes");
    assert!(message <= 104, "{message} bytes");
}
