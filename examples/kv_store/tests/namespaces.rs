//! Servers in network namespaces of Linux. Clients put and get while servers are killed and paused, and
//! while packets are dropped between them, also in one direction alone; then all that they were answered
//! must be explained by one register a key.
//!
//! `NAMESPACES=FAULTS,OPERATIONS` sets the size, and faults of some seconds. Without it the test is short:
//!
//! ```console
//! $ NAMESPACES=30,50000 cargo test -p kv_store --test namespaces -- --nocapture
//! ```
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod common;
mod history;

use common::{
    network::{Network, SERVERS},
    Asker, TIMEOUT,
};
use history::record::{Dice, Over, Record};
use std::{
    collections::BTreeMap,
    thread::sleep,
    time::{Duration, Instant},
};

const CLIENTS: u64 = 8;
const KEYS: u64 = 8;

/// How much is done.
struct Size {
    faults: usize,
    operations: usize,
    /// The longest fault, in milliseconds. The shortest one has a fifth of that.
    longest_millis: u64,
}

impl Size {
    fn get() -> Self {
        match std::env::var("NAMESPACES") {
            Ok(size) => {
                let (faults, operations) = size.split_once(',').expect("FAULTS,OPERATIONS");
                let (faults, operations) = (faults.parse().unwrap(), operations.parse().unwrap());
                Self { faults, operations, longest_millis: 6000 }
            }
            Err(_) => Self { faults: Fault::ALL.len(), operations: 3000, longest_millis: 1000 },
        }
    }
}

/// What happens to the servers.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    KillAll,
    Pause,
    /// Nothing passes between a server and the others.
    Isolate,
    /// Nothing passes between two servers.
    CutLink,
    /// Nothing passes between two servers in one direction.
    CutOneWay,
    /// A server gets nothing from the others.
    Deafen,
    /// The others get nothing from a server.
    Mute,
    /// A server is isolated, and another one is killed.
    IsolateAndKill,
}

impl Fault {
    const ALL: [Self; 9] = [
        Self::Kill,
        Self::Isolate,
        Self::Pause,
        Self::Deafen,
        Self::CutLink,
        Self::KillAll,
        Self::Mute,
        Self::CutOneWay,
        Self::IsolateAndKill,
    ];

    /// The directions that it cuts, of server `at` and of the two others.
    fn cuts(self, at: usize, others: [usize; 2]) -> Vec<(usize, usize)> {
        let [one, other] = others;
        match self {
            Self::Kill | Self::KillAll | Self::Pause => Vec::new(),
            Self::Isolate | Self::IsolateAndKill => {
                vec![(at, one), (at, other), (one, at), (other, at)]
            }
            Self::CutLink => vec![(at, one), (one, at)],
            Self::CutOneWay => vec![(at, one)],
            Self::Deafen => vec![(one, at), (other, at)],
            Self::Mute => vec![(at, one), (at, other)],
        }
    }

    /// The servers that it kills.
    fn kills(self, at: usize, others: [usize; 2]) -> Vec<usize> {
        match self {
            Self::Kill => vec![at],
            Self::KillAll => (0..SERVERS).collect(),
            Self::IsolateAndKill => vec![others[0]],
            Self::Pause
            | Self::Isolate
            | Self::CutLink
            | Self::CutOneWay
            | Self::Deafen
            | Self::Mute => Vec::new(),
        }
    }

    /// Lets it happen for some time, which it returns.
    fn happen(self, network: &mut Network, size: &Size, dice: &mut Dice) -> Duration {
        let at = dice.below(3) as usize;
        let first = dice.below(2) as usize;
        let others = [(at + 1 + first) % 3, (at + 2 - first) % 3];
        let shortest = size.longest_millis / 5;
        let lasts = shortest + dice.below(size.longest_millis - shortest);
        let lasts = Duration::from_millis(lasts);
        let (cuts, kills) = (self.cuts(at, others), self.kills(at, others));
        for (from, to) in &cuts {
            network.cut(*from, *to);
        }
        network.kill(&kills);
        if self == Self::Pause {
            network.signal(at, "-STOP");
        }
        sleep(lasts);
        if self == Self::Pause {
            network.signal(at, "-CONT");
        }
        for index in kills {
            network.restart(index);
        }
        for (from, to) in cuts {
            network.heal(from, to);
        }
        lasts
    }
}

/// What faults of one kind did to the clients.
#[derive(Default)]
struct Effect {
    faults: usize,
    operations: usize,
    longest_pause: Duration,
}

#[test]
fn what_clients_see_through_cuts_between_namespaces_is_linearizable() {
    let Some(mut network) = Network::start() else {
        return;
    };
    let (size, start) = (Size::get(), Instant::now());
    let record = Record::default();
    let seed = u64::from(std::process::id()) << 16 | 1;
    let mut dice = Dice(seed);
    let mut effects: BTreeMap<Fault, Effect> = BTreeMap::new();
    std::thread::scope(|scope| {
        let _over = Over(&record);
        for client in 1..=CLIENTS {
            let askers: Vec<Asker> =
                (0..SERVERS).map(|first| network.asker(first, &["--timeout", "1"])).collect();
            let (record, dice) = (&record, Dice(seed.rotate_left(13) + client));
            scope.spawn(move || record.ask_until_over(askers, KEYS, dice));
        }
        assert!(record.wait_for(100, TIMEOUT), "the clients get no answers");
        for number in 0..size.faults {
            let fault = Fault::ALL[number % Fault::ALL.len()];
            let before = record.number();
            record.longest_pause();
            let lasted = fault.happen(&mut network, &size, &mut dice);
            let enough = (record.number() + 100).max(size.operations * (number + 1) / size.faults);
            assert!(record.wait_for(enough, TIMEOUT), "after {fault:?} there are no answers");
            network.assert_alive();
            let effect = effects.entry(fault).or_default();
            effect.faults += 1;
            effect.operations += record.number() - before;
            let pause = record.longest_pause();
            println!("{fault:?} for {lasted:.1?}: {pause:.2?} without an answer");
            effect.longest_pause = effect.longest_pause.max(pause);
        }
    });
    network.wait_for_status("in step", are_in_step);
    for (first, key) in (0..SERVERS).flat_map(|first| (0..KEYS).map(move |key| (first, key))) {
        record.get(key, &mut network.asker(first, &[]));
    }
    network.assert_alive();
    let operations = record.into_operations();
    let unknown = operations.iter().filter(|operation| operation.answered.is_none()).count();
    println!(
        "{} operations, {unknown} of them unknown, in {:.0} s (seed {seed})\n\
         | fault | number | operations | longest time without an answer (s) |\n|---|---:|---:|---:|",
        operations.len(),
        start.elapsed().as_secs_f64()
    );
    for (fault, Effect { faults, operations, longest_pause }) in &effects {
        println!("| {fault:?} | {faults} | {operations} | {:.2} |", longest_pause.as_secs_f64());
    }
    if let Err(why) = history::check(&operations) {
        panic!("{why}");
    }
}

/// Whether all servers report the same log and the same state.
fn are_in_step(status: &str) -> bool {
    let servers = status.lines().filter(|line| line.starts_with("server "));
    let states: Vec<String> = servers
        .filter_map(|line| {
            // How much of its log is in a snapshot is each server's own.
            let (_, line) = line.split_once(": ")?;
            let ((log, _), (_, state)) = (line.split_once(" (")?, line.split_once(')')?);
            Some(format!("{log}{state}"))
        })
        .collect();
    states.len() == SERVERS && states.iter().all(|state| *state == states[0])
}

#[test]
fn a_cut_drops_packets_in_one_direction() {
    let Some(network) = Network::start() else {
        return;
    };
    // What servers 1 and 2 report of each other.
    let reports = |status: &str| {
        let mut parts = status.split("\nserver ");
        let says = |part: Option<&str>, text: &str| part.unwrap_or_default().contains(text);
        let (one, two) = (parts.next(), parts.next());
        [
            says(one, "server 2 does not answer") || !says(one, "server 2 answers"),
            says(two, "server 1 does not answer") || !says(two, "server 1 answers"),
        ]
    };
    network.wait_for_status("connected", |status| reports(status) == [false, false]);
    network.cut(0, 1);
    // An answer to a heartbeat needs both directions.
    network.wait_for_status("cut", |status| reports(status) == [true, true]);
    network.heal(0, 1);
    network.wait_for_status("connected again", |status| reports(status) == [false, false]);
}
