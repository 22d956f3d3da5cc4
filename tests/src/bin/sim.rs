//! Runs the simulator over many seeds, or replays one.

use clap::Parser;
use omnipaxos_tests::{
    changes::{self, Changes},
    cluster::Trace,
    coverage::{Counts, Kind},
    disk::{Honesty, Medium},
    lasting::{self, Lasting, Sums},
    plan::Plan,
    run::{run, Ended, Failure, Report},
    shrink::shrink,
};
use std::{
    collections::BTreeMap,
    ops::Range,
    process::ExitCode,
    sync::{
        atomic::{AtomicU64, Ordering},
        Mutex,
    },
    time::Instant,
};

/// Simulates clusters of OmniPaxos with faults. The same seed gives the same run.
#[derive(Parser)]
struct Arguments {
    /// Seeds to run, as `A..B`.
    #[arg(long, value_parser = range, default_value = "0..1000")]
    seeds: Range<u64>,
    /// Replays one seed and prints all that happens.
    #[arg(long)]
    seed: Option<u64>,
    /// Ticks with faults in each run.
    #[arg(long, default_value_t = 2000)]
    ticks: u64,
    /// Threads; each run has one to itself.
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Disks that lie: a negative control, which must end in violations.
    #[arg(long, value_enum, conflicts_with_all = ["lasting", "changes"])]
    lie: Option<Lie>,
    /// Puts a persistent storage beneath each disk, which must hold the same whenever its server
    /// starts. Slower: give fewer ticks.
    #[arg(long, conflicts_with_all = ["lasting", "changes"])]
    persistent: bool,
    /// Few links are open at a time, and soon after others, while clocks stand still and servers crash: instead
    /// of the other faults.
    #[arg(long, conflicts_with_all = ["lasting", "changes"])]
    few_links: bool,
    /// Runs in which the faults last, and something must be decided again and again all the same.
    /// Each of a length of its own.
    #[arg(long, conflicts_with = "changes")]
    lasting: bool,
    /// With `--lasting`: faults of this kind only.
    #[arg(long, value_enum)]
    kind: Option<lasting::Kind>,
    /// With `--lasting`: how the keeper reads, instead of what the seed says.
    #[arg(long, value_enum, requires = "lasting")]
    reads: Option<lasting::Reads>,
    /// Runs in which the members change: one log through every reconfiguration.
    #[arg(long)]
    changes: bool,
    /// Stops after this number of violations.
    #[arg(long, default_value_t = 1)]
    failures: usize,
    /// Runs that may be spent on making a failing plan smaller.
    #[arg(long, default_value_t = 600)]
    shrink: u64,
    /// With `--seed`: makes the plan smaller first, and then replays it.
    #[arg(long)]
    smallest: bool,
}

#[derive(Copy, Clone, clap::ValueEnum)]
enum Lie {
    /// Some writes are acknowledged and lost in a crash.
    SkipFlush,
}

/// What all runs were like.
#[derive(Default)]
struct Sum {
    seeds: u64,
    ticks: u64,
    decided: u64,
    decided_again: u64,
    paxos: u64,
    heartbeats: u64,
    counts: Counts,
    slowest: Ended,
    failures: Vec<(u64, Failure)>,
}

/// Below this number of seeds a kind of fault may be missing.
const LARGE_BATCH: u64 = 200;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) if arguments.changes => replay_changes(seed, &arguments),
        None if arguments.changes => batch_changes(&arguments),
        Some(seed) if arguments.lasting => replay_lasting(seed, &arguments),
        None if arguments.lasting => batch_lasting(&arguments),
        Some(seed) => replay(seed, &arguments),
        None => batch(&arguments),
    }
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("must be A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
    match number(from)?..number(to)? {
        empty if empty.is_empty() => Err(format!("there is no seed in {text}")),
        seeds => Ok(seeds),
    }
}

fn plan(seed: u64, arguments: &Arguments) -> Plan {
    let mut plan = Plan::of(seed, arguments.ticks);
    if arguments.few_links {
        plan.open_few_links();
    }
    adapt(&mut plan, arguments);
    plan
}

/// Sets what the arguments say, in all configurations.
fn adapt(plan: &mut Plan, arguments: &Arguments) {
    if arguments.persistent {
        plan.setting.medium = Medium::Persistent;
    }
    if let Some(Lie::SkipFlush) = arguments.lie {
        plan.setting.honesty = Honesty::SkipsFlushes;
    }
    if let Some(next) = &mut plan.next {
        adapt(next, arguments);
    }
}

fn replay(seed: u64, arguments: &Arguments) -> ExitCode {
    let mut plan = plan(seed, arguments);
    if arguments.smallest {
        if let Some(failure) = run(&plan, Trace::Off).failure {
            plan = shrink(&plan, &failure, arguments.shrink).plan;
        }
    }
    println!("{:#?}", plan.setting);
    if let Some(next) = &plan.next {
        println!("next: {:#?}", next.setting);
    }
    match run(&plan, Trace::Printed).failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            print_failure(seed, &failure);
            ExitCode::FAILURE
        }
    }
}

/// Runs all seeds on some threads, and adds up what each gives. `add` returns the number of failures so
/// far: where there are as many as asked for, no further seed begins.
fn over_seeds<R, S: Send>(
    arguments: &Arguments,
    sum: S,
    run: impl Fn(u64) -> R + Sync,
    add: impl Fn(&mut S, u64, R) -> usize + Sync,
) -> S {
    let next = AtomicU64::new(arguments.seeds.start);
    let sum = Mutex::new(sum);
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= arguments.seeds.end {
                    return;
                }
                let report = run(seed);
                let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if add(&mut sum, seed, report) >= arguments.failures {
                    next.store(arguments.seeds.end, Ordering::Relaxed);
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Prints which kinds never occurred, in a batch so large that they must. Returns whether there are any.
fn print_missing(seeds: u64, missing: &[&str]) -> bool {
    let is_missing = seeds > LARGE_BATCH && !missing.is_empty();
    if is_missing {
        println!("never occurred: {}", missing.join(", "));
    }
    is_missing
}

fn batch(arguments: &Arguments) -> ExitCode {
    let start = Instant::now();
    let mut sum = over_seeds(
        arguments,
        Sum::default(),
        |seed| run(&plan(seed, arguments), Trace::Off),
        |sum, seed, report| {
            sum.add(seed, report);
            sum.failures.len()
        },
    );
    sum.failures.sort_by_key(|(seed, _)| *seed);
    print_summary(&sum, start.elapsed().as_secs_f64());
    for (seed, failure) in &sum.failures {
        println!();
        print_failure(*seed, failure);
        if arguments.shrink == 0 {
            continue;
        }
        let shrunk = shrink(&plan(*seed, arguments), failure, arguments.shrink);
        println!("after {} runs, smaller: {:#?}", shrunk.runs, shrunk.plan.setting);
        shrunk.plan.steps.iter().for_each(|step| println!("  {step:?}"));
        if let Some(next) = &shrunk.plan.next {
            println!("next: {:#?}", next.setting);
            next.steps.iter().for_each(|step| println!("  {step:?}"));
        }
        print_failure(*seed, &shrunk.failure);
        let few_links = if arguments.few_links { " --few-links" } else { "" };
        println!("replay: sim --seed {seed} --ticks {}{few_links} [--smallest]", arguments.ticks);
    }
    let mut missing = sum.counts.missing();
    let of_few_links = |kind| matches!(kind, Kind::FewLinks | Kind::Unprepared);
    missing.retain(|kind| of_few_links(*kind) == arguments.few_links);
    let missing: Vec<&str> = missing.iter().map(|kind| kind.name()).collect();
    let is_missing = print_missing(sum.seeds, &missing);
    match sum.failures.is_empty() && !is_missing {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn lasting_run(seed: u64, arguments: &Arguments) -> Lasting {
    let drawn = match arguments.kind {
        Some(kind) => Lasting::of_kind(seed, kind),
        None => Lasting::of(seed),
    };
    Lasting { reads: arguments.reads.unwrap_or(drawn.reads), ..drawn }
}

fn replay_lasting(seed: u64, arguments: &Arguments) -> ExitCode {
    let mut lasting = lasting_run(seed, arguments);
    if arguments.smallest {
        if let Some(failure) = lasting::run(&lasting, Trace::Off).failure {
            lasting = lasting::shrink(&lasting, failure.violation.check);
        }
    }
    println!("{lasting:#?}");
    match lasting::run(&lasting, Trace::Printed).failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            print_failure(seed, &failure);
            ExitCode::FAILURE
        }
    }
}

fn batch_lasting(arguments: &Arguments) -> ExitCode {
    let start = Instant::now();
    let mut sums = over_seeds(
        arguments,
        Sums::default(),
        |seed| {
            let lasting = lasting_run(seed, arguments);
            let report = lasting::run(&lasting, Trace::Off);
            (lasting, report)
        },
        |sums, _seed, (lasting, report)| {
            sums.add(&lasting, report);
            sums.failures.len()
        },
    );
    sums.failures.sort_by_key(|(seed, _)| *seed);
    print!("{sums}");
    let seconds = start.elapsed().as_secs_f64();
    println!("{seconds:.1} s, {} violations", sums.failures.len());
    for (seed, failure) in &sums.failures {
        println!();
        print_failure(*seed, failure);
        println!("replay: sim --lasting --seed {seed} [--kind K] [--reads R] [--smallest]");
    }
    match sums.failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn replay_changes(seed: u64, arguments: &Arguments) -> ExitCode {
    let report = changes::run(Changes { seed, ticks: arguments.ticks }, true);
    match report.failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            println!("seed {seed}, {failure}");
            ExitCode::FAILURE
        }
    }
}

fn batch_changes(arguments: &Arguments) -> ExitCode {
    let start = Instant::now();
    let (seeds, counts, mut failures) = over_seeds(
        arguments,
        (0, changes::Counts::default(), Vec::new()),
        |seed| changes::run(Changes { seed, ticks: arguments.ticks }, false),
        |(seeds, counts, failures), seed, report| {
            *seeds += 1;
            counts.add(&report.counts);
            failures.extend(report.failure.map(|failure| (seed, failure)));
            failures.len()
        },
    );
    failures.sort();
    print!("{counts}");
    for (seed, failure) in &failures {
        println!("seed {seed}, {failure}");
        println!("replay: sim --changes --seed {seed} --ticks {}", arguments.ticks);
    }
    println!("{:.1} s, {} violations", start.elapsed().as_secs_f64(), failures.len());
    let is_missing = print_missing(seeds, &counts.missing());
    match failures.is_empty() && !is_missing {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

impl Sum {
    fn add(&mut self, seed: u64, report: Report) {
        self.seeds += 1;
        self.ticks += report.ticks;
        self.decided += report.decided;
        self.decided_again += report.decided_again;
        self.paxos += report.traffic.paxos;
        self.heartbeats += report.traffic.heartbeats;
        self.counts.merge(&report.counts);
        if let Some(ended) = report.ended {
            let slowest = self.slowest.partly.get_or_insert_default();
            let partly = ended.partly.unwrap_or_default();
            slowest.live = slowest.live.max(partly.live);
            slowest.learned = slowest.learned.max(partly.learned);
            slowest.decides = slowest.decides.max(partly.decides);
            self.slowest.live = self.slowest.live.max(ended.live);
            self.slowest.decides = self.slowest.decides.max(ended.decides);
            self.slowest.silent = self.slowest.silent.max(ended.silent);
        }
        if let Some(failure) = report.failure {
            self.failures.push((seed, failure));
        }
    }
}

fn print_summary(sum: &Sum, seconds: f64) {
    println!(
        "{} seeds, {} ticks, {} entries decided ({} again), {} messages and {} heartbeats",
        sum.seeds, sum.ticks, sum.decided, sum.decided_again, sum.paxos, sum.heartbeats
    );
    for kind in Kind::ALL {
        println!("{:>12} {}", sum.counts.of(*kind), kind.name());
    }
    let partly = sum.slowest.partly.unwrap_or_default();
    println!(
        "slowest, in election timeouts: live {:.1}, one more decided {:.1}, silent {:.1}; with \
         some links cut live {:.1}, learned {:.1}, one more decided {:.1}",
        sum.slowest.live,
        sum.slowest.decides,
        sum.slowest.silent,
        partly.live,
        partly.learned,
        partly.decides
    );
    let rate = sum.seeds as f64 / seconds;
    println!("{seconds:.1} s, {rate:.1} seeds/s, {} violations", sum.failures.len());
    let mut by_check = BTreeMap::<String, Vec<u64>>::new();
    for (seed, failure) in &sum.failures {
        by_check.entry(format!("{:?}", failure.violation.check)).or_default().push(*seed);
    }
    for (check, seeds) in by_check {
        println!("{:>12} {check}: seeds {:?}..", seeds.len(), &seeds[..seeds.len().min(8)]);
    }
}

fn print_failure(seed: u64, failure: &Failure) {
    println!("seed {seed}, tick {}: {}", failure.at, failure.violation);
    println!("  {}", failure.servers);
}
