//! The longest time without a decision while faults last: ours, and raft 0.7 under the same faults.
//!
//! ```text
//! cargo run --release -p omnipaxos_benches --features liveness,peers --example liveness -- [OPTION VALUE]...
//!
//! --patterns 1000   the number of patterns of each kind and number of servers
//! --first 0         the first of them
//! --fault flaps     faults of this kind only
//! --servers 4       this number of servers only
//! ```
//!
//! With `--patterns 1` it prints what the pattern is.

use omnipaxos_benches::{
    liveness::{run, Fault, Ours, Outcome, Raft, Trial, ELECTION_TICKS},
    report::Report,
};
use std::{error::Error, io};

struct Arguments {
    patterns: u64,
    first: u64,
    fault: Option<Fault>,
    servers: Option<usize>,
}

impl Arguments {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut parsed = Self { patterns: 1000, first: 0, fault: None, servers: None };
        let mut words = std::env::args().skip(1);
        while let (Some(option), Some(value)) = (words.next(), words.next()) {
            match option.as_str() {
                "--patterns" => parsed.patterns = value.parse()?,
                "--first" => parsed.first = value.parse()?,
                "--servers" => parsed.servers = Some(value.parse()?),
                "--fault" => {
                    let fault = Fault::named(&value);
                    parsed.fault = Some(fault.ok_or_else(|| format!("there is no fault {value}"))?);
                }
                _other => return Err(format!("there is no option {option}").into()),
            }
        }
        Ok(parsed)
    }
}

/// What the trials of one kind came to with one contestant.
#[derive(Default)]
struct Sums {
    longest: Vec<u64>,
    /// Trials in which nothing was decided in the second half.
    stuck: u64,
    /// The longest, whether it lasted to the end, and its number.
    worst: Option<(u64, bool, u64)>,
}

impl Sums {
    fn add(&mut self, number: u64, outcome: Outcome) {
        self.longest.push(outcome.longest);
        self.stuck += u64::from(outcome.is_stuck);
        if self.worst.is_none_or(|(longest, ..)| outcome.longest > longest) {
            self.worst = Some((outcome.longest, outcome.is_stuck, number));
        }
    }

    fn cells(mut self) -> [String; 4] {
        self.longest.sort_unstable();
        let median = self.longest.get(self.longest.len() / 2).copied().unwrap_or(0);
        let (worst, number) = match self.worst {
            None => (units(0), String::new()),
            Some((longest, true, number)) => (format!("> {}", units(longest)), number.to_string()),
            Some((longest, false, number)) => (units(longest), number.to_string()),
        };
        [units(median), worst, self.stuck.to_string(), number]
    }
}

fn units(ticks: u64) -> String {
    format!("{:.1}", ticks as f64 / ELECTION_TICKS as f64)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    let mut report = Report::new("liveness");
    report.head(&[
        "fault",
        "servers",
        "ours: median",
        "worst",
        "stuck",
        "pattern",
        "raft: median",
        "worst",
        "stuck",
        "pattern",
    ]);
    let faults = Fault::ALL.into_iter();
    for fault in faults.filter(|fault| arguments.fault.is_none_or(|only| only == *fault)) {
        for servers in (2..=5).filter(|n| arguments.servers.is_none_or(|only| only == *n)) {
            row(&mut report, &arguments, fault, servers);
        }
    }
    let is_whole = arguments.fault.is_none() && arguments.servers.is_none();
    Ok(if is_whole { report.write() } else { io::Result::Ok(()) }?)
}

fn row(report: &mut Report, arguments: &Arguments, fault: Fault, servers: usize) {
    let (mut ours, mut raft) = (Sums::default(), Sums::default());
    let numbers = arguments.first..arguments.first + arguments.patterns;
    for trial in numbers.filter_map(|number| Trial::of(fault, servers, number)) {
        if arguments.patterns == 1 {
            println!("{trial:#?}");
        }
        ours.add(trial.number, run::<Ours>(&trial));
        raft.add(trial.number, run::<Raft>(&trial));
    }
    if !ours.longest.is_empty() {
        let names = [format!("{fault:?}"), servers.to_string()];
        report.row(names.into_iter().chain(ours.cells()).chain(raft.cells()));
    }
}
