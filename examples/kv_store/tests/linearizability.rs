//! Clients put and get while servers are killed, paused and restarted, or replaced by others; then
//! all that they were answered must be explained by one register a key.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod common;
mod history;

use common::{joiner::Joiner, Asker, Cluster};
use history::record::{Dice, Over, Record};
use std::time::{Duration, Instant};

const CLIENTS: u64 = 5;
const KEYS: u64 = 3;
const FAULTS: usize = 30;

/// No fault begins after so long, however slow the machine is.
const LONGEST: Duration = Duration::from_secs(40);

/// A fault lasts until this number of operations is answered, or this long: some leave no quorum.
const OPERATIONS_A_FAULT: usize = 100;
const LONGEST_FAULT: Duration = Duration::from_millis(1200);

/// A client that asks this server first.
fn start(ports: &[u16], first: usize) -> Asker {
    let in_turn = ports.iter().copied().cycle().skip(first).take(ports.len());
    Asker::start(in_turn, &["--timeout", "1"])
}

/// The clients of a client that asks at random servers.
fn askers(ports: &[u16]) -> Vec<Asker> {
    (0..ports.len()).map(|first| start(ports, first)).collect()
}

/// Waits for this number of further operations, but not for long.
fn wait_for_more(record: &Record, more: usize) {
    record.wait_for(record.number() + more, LONGEST_FAULT);
}

/// Does something to the servers, lets the clients continue, and undoes it.
fn fault(cluster: &mut Cluster, record: &Record, dice: &mut Dice) -> &'static str {
    let index = dice.below(3) as usize;
    let other = (index + 1 + dice.below(2) as usize) % 3;
    let wait = |more| wait_for_more(record, more);
    match dice.below(6) {
        0 | 1 => {
            cluster.kill(index);
            wait(OPERATIONS_A_FAULT);
            cluster.restart(index);
            "kill"
        }
        2 | 3 => {
            cluster.signal(index, "-STOP");
            wait(OPERATIONS_A_FAULT);
            cluster.signal(index, "-CONT");
            "pause"
        }
        4 => {
            cluster.signal(index, "-STOP");
            wait(OPERATIONS_A_FAULT / 2);
            cluster.kill(other);
            wait(OPERATIONS_A_FAULT / 2);
            cluster.restart(other);
            cluster.signal(index, "-CONT");
            "pause and kill"
        }
        _ => {
            let to = (index + 1).to_string();
            drop(cluster.client(&["--timeout", "1", "transfer", &to]));
            "transfer"
        }
    }
}

#[test]
fn what_clients_see_through_faults_is_linearizable() {
    let mut cluster = Cluster::start();
    let ports = cluster.client_ports.clone();
    let record = Record::default();
    let seed = u64::from(std::process::id()) << 16 | u64::from(ports[0]);
    let mut dice = Dice(seed);
    let mut faults = Vec::new();
    std::thread::scope(|scope| {
        let over = Over(&record);
        for client in 1..=CLIENTS {
            let (record, ports, dice) = (&record, &ports, Dice(seed.rotate_left(13) + client));
            scope.spawn(move || record.ask_until_over(askers(ports), KEYS, dice));
        }
        wait_for_more(&record, OPERATIONS_A_FAULT);
        let start = Instant::now();
        while faults.len() < FAULTS && start.elapsed() < LONGEST {
            faults.push(fault(&mut cluster, &record, &mut dice));
            wait_for_more(&record, OPERATIONS_A_FAULT / 3);
        }
        drop(over);
    });
    cluster.status_in_step();
    for (first, key) in (0..3).flat_map(|first| (0..KEYS).map(move |key| (first, key))) {
        record.get(key, &mut start(&ports, first));
    }
    cluster.assert_alive();
    let operations = record.into_operations();
    let unknown = operations.iter().filter(|operation| operation.answered.is_none()).count();
    println!("{} operations, {unknown} of them unknown, through {faults:?}", operations.len());
    assert!(operations.len() > 10 * faults.len(), "too few operations to tell anything");
    if let Err(why) = history::check(&operations) {
        panic!("{why}\nthrough {faults:?}");
    }
}

/// Number of servers that are replaced.
const CHANGES: u64 = 10;

/// Replaces one server after the other, of which some are dead. The third of the first servers
/// stays, so that a client which asks seldom finds the others.
#[test]
fn what_clients_see_through_changes_of_the_members_is_linearizable() {
    let mut cluster = Cluster::start();
    let ports = cluster.client_ports.clone();
    let record = Record::default();
    let seed = u64::from(std::process::id()) << 16 | u64::from(ports[0]);
    let mut dice = Dice(seed);
    let mut joiners: Vec<Joiner> = Vec::new();
    std::thread::scope(|scope| {
        let _over = Over(&record);
        for client in 1..=CLIENTS {
            let (record, ports, dice) = (&record, &ports, Dice(seed.rotate_left(13) + client));
            scope.spawn(move || record.ask_until_over(askers(ports), KEYS, dice));
        }
        let mut others = vec![1, 2];
        for pid in 4..4 + CHANGES {
            wait_for_more(&record, OPERATIONS_A_FAULT);
            let source = format!("3=127.0.0.1:{}", cluster.peer_ports[2]);
            joiners.push(Joiner::start(&cluster, pid, &source));
            let leaves: u64 = others.remove(dice.below(2) as usize);
            others.push(pid);
            if dice.below(2) == 0 {
                match joiners.iter_mut().find(|joiner| joiner.pid == leaves) {
                    Some(joiner) => joiner.kill(),
                    None => cluster.kill(leaves as usize - 1),
                }
            }
            let place = joiners.last().unwrap().place();
            let anchor = cluster.client_ports[2];
            let mut operator = Asker::start([anchor], &["--timeout", "60"]);
            let answer = operator.ask(&format!("members replace {leaves} with {place}"));
            assert!(answer.starts_with("decided at index "), "{answer}");
        }
        wait_for_more(&record, OPERATIONS_A_FAULT);
    });
    for key in 0..KEYS {
        record.get(key, &mut Asker::start([ports[2]], &["--timeout", "60"]));
        for joiner in joiners.iter().rev().take(1) {
            record.get(key, &mut Asker::start([joiner.client_port()], &["--timeout", "60"]));
        }
    }
    let operations = record.into_operations();
    let unknown = operations.iter().filter(|operation| operation.answered.is_none()).count();
    println!("{} operations, {unknown} of them unknown", operations.len());
    assert!(operations.len() > 10 * CHANGES as usize, "too few operations to tell anything");
    history::check(&operations).unwrap_or_else(|why| panic!("{why}"));
}
