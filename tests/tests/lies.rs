//! Lies of a member: messages as real ones, with other numbers in them. Nothing is promised of
//! what the cluster decides then. But no message makes a server panic, hang, or take more memory
//! than a message of its size may.
//!
//! `LIES=1000000 cargo test --release -p omnipaxos_tests --test lies` tries more.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use allocation_counter::measure;
use omnipaxos::{messages::Message, ClusterConfig};
use omnipaxos_tests::{
    lab::{kind, Lab, Word},
    rng::Rng,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Lies in one run of the test.
const LIES: u64 = 30_000;

/// Lies to one server before it is built again.
const LIES_A_SERVER: u64 = 12;

/// What a message and its answers may allocate, over and above a few copies of the message and of
/// the log of the [`Lab`], which is a few hundred bytes.
const ALLOWANCE: u64 = 64 << 10;

/// A short run of a cluster: elections, entries, a gap, a trim, snapshots, reads, a transfer, a
/// restart, a stop sign. Returns what was in flight.
fn traffic() -> Vec<Message<Word>> {
    let mut lab = Lab::new(&[1, 2, 3]);
    let mut seen = Vec::new();
    let mut run = |lab: &mut Lab, ticks: u64| {
        for _ in 0..ticks {
            lab.tick();
            seen.extend(lab.in_flight().cloned());
        }
    };
    run(&mut lab, 30);
    for number in 0..6 {
        for pid in 1..=3 {
            lab.append(pid, &format!("{number} at {pid}"));
            let _ = lab.server(pid).propose(Word(format!("{number} followed at {pid}")));
            let _ = lab.request_read(pid);
        }
        run(&mut lab, 3);
    }
    let leader = lab.server(1).get_current_leader().unwrap();
    let (other, third) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let _ = lab.server(leader).trim(Some(2));
    let _ = lab.server(leader).snapshot(Some(5), false);
    run(&mut lab, 5);
    lab.cut(leader, third);
    for number in 0..12 {
        lab.append(leader, &format!("{number} without {third}"));
    }
    run(&mut lab, 60);
    let _ = lab.server(leader).snapshot(Some(12), true);
    lab.heal_all();
    run(&mut lab, 40);
    let _ = lab.server(leader).transfer_leadership(other, 30);
    run(&mut lab, 30);
    lab.crash(third);
    run(&mut lab, 20);
    lab.restart(third);
    lab.append(third, "after a restart");
    run(&mut lab, 40);
    lab.server(leader).try_become_leader();
    lab.append(leader, "before a quorum promised");
    run(&mut lab, 30);
    let next = ClusterConfig { configuration_id: 2, nodes: vec![1, 2, 3], flexible_quorum: None };
    let _ = lab.server(other).reconfigure(next, Some(vec![7; 3]));
    run(&mut lab, 40);
    seen
}

/// A server that is lied to, in one of several situations.
fn situation(seed: u64) -> Lab {
    let mut rng = Rng::of(&[seed, 0x7369_7475]);
    let mut lab = Lab::new(&[1, 2, 3]);
    if rng.chance(1, 8) {
        return lab;
    }
    lab.elect(1 + rng.below(3));
    for number in 0..rng.below(12) {
        lab.append(1 + rng.below(3), &number.to_string());
    }
    lab.run(rng.below(6));
    if rng.chance(1, 2) {
        lab.settle();
    }
    if rng.chance(1, 3) {
        let _ = lab.server(1 + rng.below(3)).snapshot(None, true);
    }
    match rng.below(4) {
        0 => lab.cut(1, 2),
        1 => {
            let pid = 1 + rng.below(3);
            lab.crash(pid);
            lab.restart(pid);
        }
        2 => lab.server(1 + rng.below(3)).try_become_leader(),
        _ => {}
    }
    lab
}

/// The largest message of a cluster with observers, and what may be in flight: so small that its
/// snapshots travel in pieces.
const MESSAGE: usize = 60;
const WINDOW: usize = 240;

/// Three members led by 1, observer 7 of 1 and 2, and observer 8 of 7.
fn observed() -> Lab {
    let mut lab = Lab::with(&[1, 2, 3], |config| {
        config.max_observers = 4;
        (config.max_message_bytes, config.max_in_flight_bytes) = (MESSAGE, WINDOW);
    });
    lab.elect(1);
    lab.observe(7, &[1, 2]);
    lab.observe(8, &[7]);
    lab
}

/// A short run with observers: entries, proposals, reads, ranges, a snapshot in pieces, a stop sign.
/// Returns what was in flight to them and from them.
fn traffic_of_observers() -> Vec<Message<Word>> {
    let mut lab = observed();
    let mut seen = Vec::new();
    let mut run = |lab: &mut Lab, ticks: u64| {
        for _ in 0..ticks {
            lab.tick();
            let observes =
                |message: &&Message<Word>| message.get_sender().max(message.get_receiver()) >= 7;
            seen.extend(lab.in_flight().filter(observes).cloned());
        }
    };
    run(&mut lab, 60);
    for number in 0..6 {
        lab.append(1, &number.to_string());
        for pid in [7, 8] {
            lab.append(pid, &format!("{number} at {pid}"));
            let _ = lab.server(pid).propose(Word(format!("{number} followed at {pid}")));
            let _ = lab.request_read(pid);
        }
        run(&mut lab, 10);
    }
    for is_compacted in [false, true] {
        lab.crash(7);
        for number in 0..20 {
            lab.append(1, &format!("{number} without 7"));
            run(&mut lab, 3);
        }
        if is_compacted {
            [1, 2, 3].into_iter().for_each(|pid| lab.server(pid).snapshot(None, true).unwrap());
        }
        lab.restart(7);
        run(&mut lab, 100);
    }
    let next = ClusterConfig { configuration_id: 2, nodes: vec![1, 2, 3], flexible_quorum: None };
    let _ = lab.server(8).reconfigure(next, Some(vec![7; 3]));
    run(&mut lab, 60);
    seen
}

/// Observers and their sources, in one of several situations.
fn situation_of_observers(seed: u64) -> Lab {
    let mut rng = Rng::of(&[seed, 0x6F62_7365]);
    let mut lab = observed();
    lab.run(rng.below(60));
    let away = rng.pick(&[7, 8, 0, 0]);
    lab.crash(away);
    for number in 0..rng.below(30) {
        lab.append(1, &number.to_string());
        lab.run(rng.below(3));
    }
    if rng.chance(1, 2) {
        for pid in 1..=3 {
            let _ = lab.server(pid).snapshot(None, true);
        }
    }
    if away != 0 {
        lab.restart(away);
    }
    for pid in [7, 8] {
        lab.append(pid, "waits");
        let _ = lab.request_read(pid);
    }
    lab.run(rng.below(40));
    lab
}

/// The places of all numbers, lists and options in a message.
fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, of)| places(of, &format!("{path}/{name}"), found));
        }
        Value::Array(items) => {
            found.push(path.to_string());
            items
                .iter()
                .enumerate()
                .take(4)
                .for_each(|(at, of)| places(of, &format!("{path}/{at}"), found));
        }
        Value::Number(_) | Value::Bool(_) | Value::Null => found.push(path.to_string()),
        Value::String(_) => {}
    }
}

/// The last part of a place: what it is called.
fn name_of(place: &str) -> String {
    let parts = place.rsplit('/');
    let mut names = parts.filter(|part| part.parse::<u64>().is_err());
    names.next().unwrap_or_default().to_string()
}

/// Changes what stands at one place. `others` are values that real messages have where it is
/// called the same.
fn mutate(value: &mut Value, others: &BTreeMap<String, Vec<Value>>, rng: &mut Rng) {
    let mut found = Vec::new();
    places(value, "", &mut found);
    let place = rng.pick(&found);
    let of_others = others.get(&name_of(&place));
    let Some(target) = value.pointer_mut(&place) else {
        return;
    };
    if let Some(others) = of_others.filter(|_| rng.chance(1, 3)) {
        *target = rng.pick(others);
        return;
    }
    match target {
        Value::Number(number) => {
            let before = number.as_u64().unwrap_or_default();
            let after = rng.pick(&[
                0,
                1,
                2,
                3,
                before.wrapping_add(1),
                before.wrapping_sub(1),
                before.wrapping_add(7),
                1000,
                u64::from(u32::MAX),
                u64::from(u32::MAX) - 1,
                1 << 31,
                1 << 40,
                1 << 60,
                1 << 61,
                1 << 62,
                (1 << 62) - 1,
                1 << 63,
                u64::MAX - 1,
                u64::MAX,
            ]);
            *target = after.into();
        }
        Value::Bool(is_set) => *is_set = !*is_set,
        Value::Array(items) => match rng.below(4) {
            0 => items.clear(),
            1 => drop(items.pop()),
            2 => items.reverse(),
            _ => {
                let copies = items.clone();
                (0..1 + rng.below(20)).for_each(|_| items.extend(copies.iter().take(20).cloned()));
            }
        },
        Value::Null | Value::String(_) | Value::Object(_) => {}
    }
}

fn collect(value: &Value, name: &str, known: &mut BTreeMap<String, Vec<Value>>) {
    let of_name = known.entry(name.to_string()).or_default();
    if of_name.len() < 200 {
        of_name.push(value.clone());
    }
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, of)| collect(of, name, known)),
        Value::Array(items) => items.iter().take(2).for_each(|of| collect(of, name, known)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What real messages have at places of each name.
fn by_name(values: &[Value]) -> BTreeMap<String, Vec<Value>> {
    let mut known: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    values.iter().for_each(|value| collect(value, "", &mut known));
    known
}

/// The sender and the receiver of the lies, and their content.
struct Stage {
    /// The lies of this stage: [`LIES`] divided by this number.
    share: u64,
    real: Vec<Message<Word>>,
    /// The fewest kinds of messages in these.
    kinds: usize,
    situation: fn(u64) -> Lab,
    receiver: fn(&mut Rng) -> u64,
    /// Given the receiver, and the leader that it follows, if that is another server.
    sender: fn(&mut Rng, u64, Option<u64>) -> u64,
}

#[test]
fn no_lie_panics_hangs_or_exhausts_memory() {
    tell(&Stage {
        share: 1,
        real: traffic(),
        kinds: 20,
        situation,
        receiver: |rng| 1 + rng.below(3),
        sender: |rng, to, leader| match leader {
            Some(leader) if rng.chance(2, 3) => leader,
            _ => to % 3 + 1,
        },
    });
}

#[test]
fn no_lie_to_or_of_an_observer_panics_hangs_or_exhausts_memory() {
    tell(&Stage {
        share: 3,
        real: traffic_of_observers(),
        kinds: 7,
        situation: situation_of_observers,
        receiver: |rng| rng.pick(&[1, 2, 7, 7, 8]),
        sender: |rng, to, _leader| match to {
            7 => rng.pick(&[1, 2, 8]),
            _ => 7,
        },
    });
}

fn tell(stage: &Stage) {
    let lies = std::env::var("LIES").ok().and_then(|count| count.parse().ok()).unwrap_or(LIES);
    let lies = lies / stage.share;
    let mut by_kind: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for message in &stage.real {
        by_kind.entry(kind(message)).or_default().push(serde_json::to_value(message).unwrap());
    }
    assert!(by_kind.len() >= stage.kinds, "only {:?} were sent", by_kind.keys());
    let all: Vec<Value> = by_kind.values().flatten().cloned().collect();
    let others = by_name(&all);
    let kinds: Vec<&str> = by_kind.keys().copied().collect();
    let (mut told, mut dropped, mut largest) = (0, 0, 0);
    for seed in 0..lies / LIES_A_SERVER {
        let mut rng = Rng::of(&[seed, 0x6C69_6573]);
        let mut lab = (stage.situation)(seed);
        for _ in 0..LIES_A_SERVER {
            let kind = rng.pick(&kinds);
            let mut value = rng.pick(&by_kind[kind]);
            let size = value.to_string().len() as u64;
            (0..rng.between(1, 4)).for_each(|_| mutate(&mut value, &others, &mut rng));
            // Half of the lies name a ballot that the server follows, or it would drop them.
            let to = (stage.receiver)(&mut rng);
            let n = serde_json::to_value(lab.server(to).get_promise()).unwrap();
            let body = value.pointer_mut("/SequencePaxos/msg").and_then(Value::as_object_mut);
            if let Some(slot) = body.and_then(|body| body.values_mut().next()?.get_mut("n")) {
                if slot.is_object() && rng.chance(1, 2) {
                    *slot = n.clone();
                }
            }
            let size = size.max(value.to_string().len() as u64);
            let leader = n["pid"].as_u64().filter(|leader| *leader != to && *leader > 0);
            let from = (stage.sender)(&mut rng, to, leader);
            for envelope in ["/SequencePaxos", "/BLE"] {
                if let Some(envelope) = value.pointer_mut(envelope) {
                    (envelope["from"], envelope["to"]) = (from.into(), to.into());
                }
            }
            let Ok(message) = serde_json::from_value::<Message<Word>>(value.clone()) else {
                continue;
            };
            told += 1;
            let before = lab.server(to).dropped().malformed;
            let text = value.to_string();
            let mut messages = Vec::new();
            let server = lab.server(to);
            let reported_to = std::panic::AssertUnwindSafe(|| {
                measure(|| {
                    server.handle_incoming(message);
                    server.take_outgoing_messages(&mut messages);
                    server.tick();
                    server.take_outgoing_messages(&mut messages);
                })
            });
            let taken = match std::panic::catch_unwind(reported_to) {
                Ok(info) => info.bytes_total,
                Err(_) => panic!("seed {seed}: server {to} panics at {text}"),
            };
            dropped += lab.server(to).dropped().malformed - before;
            largest = largest.max(taken);
            assert!(
                taken <= ALLOWANCE + 20 * size,
                "seed {seed}: server {to} allocates {taken} bytes for {text}"
            );
            let status = lab.server(to).status();
            assert!(
                status.catch_up.early.entries <= status.limits.in_flight.entries
                    && status.catch_up.early.bytes <= status.limits.in_flight.bytes,
                "seed {seed}: server {to} holds {:?} after {text}",
                status.catch_up
            );
            messages.into_iter().for_each(|message| lab.inject(message));
            if rng.chance(1, 4) {
                lab.run(1);
            }
        }
    }
    println!("{told} lies, {dropped} malformed, at most {largest} bytes allocated for one");
    assert!(told > lies / 3 && dropped < told / 2, "{told} lies, {dropped} malformed");
}
