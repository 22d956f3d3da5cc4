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

/// Lies told in one run of the test.
const LIES: u64 = 30_000;

/// Lies told to one server before it is built anew.
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

#[test]
fn no_lie_panics_hangs_or_exhausts_memory() {
    let lies = std::env::var("LIES").ok().and_then(|count| count.parse().ok()).unwrap_or(LIES);
    let real = traffic();
    let mut by_kind: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for message in &real {
        by_kind.entry(kind(message)).or_default().push(serde_json::to_value(message).unwrap());
    }
    assert!(by_kind.len() >= 20, "only {:?} were sent", by_kind.keys());
    let all: Vec<Value> = by_kind.values().flatten().cloned().collect();
    let others = by_name(&all);
    let kinds: Vec<&str> = by_kind.keys().copied().collect();
    let (mut told, mut dropped, mut largest) = (0, 0, 0);
    for seed in 0..lies / LIES_A_SERVER {
        let mut rng = Rng::of(&[seed, 0x6C69_6573]);
        let mut lab = situation(seed);
        for _ in 0..LIES_A_SERVER {
            let kind = rng.pick(&kinds);
            let mut value = rng.pick(&by_kind[kind]);
            let size = value.to_string().len() as u64;
            (0..rng.between(1, 4)).for_each(|_| mutate(&mut value, &others, &mut rng));
            // Half of the lies name a ballot that the server follows, or they would not be heard.
            let to = 1 + rng.below(3);
            let n = serde_json::to_value(lab.server(to).get_promise()).unwrap();
            let body = value.pointer_mut("/SequencePaxos/msg").and_then(Value::as_object_mut);
            if let Some(slot) = body.and_then(|body| body.values_mut().next()?.get_mut("n")) {
                if slot.is_object() && rng.chance(1, 2) {
                    *slot = n.clone();
                }
            }
            let size = size.max(value.to_string().len() as u64);
            let from = match n["pid"].as_u64() {
                Some(leader) if leader != to && leader > 0 && rng.chance(2, 3) => leader,
                _ => to % 3 + 1,
            };
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
            messages.into_iter().for_each(|message| lab.inject(message));
            if rng.chance(1, 4) {
                lab.run(1);
            }
        }
    }
    println!("{told} lies, {dropped} malformed, at most {largest} bytes allocated for one");
    assert!(told > lies / 3 && dropped < told / 2, "{told} lies, {dropped} malformed");
}
