//! The tables: rows of medians.

use crate::load::Measured;
use omnipaxos_benches::{
    report::{number, Report, NONE},
    Summary,
};
use std::time::Duration;

/// What one run measured for a row. `None` was not measured.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    slowest_ms: f64,
    longest_pause_ms: f64,
    failed: f64,
    operations: f64,
    cpu_micros: f64,
    of_leader_micros: Option<f64>,
    resident_mb: f64,
    took_ms: Option<f64>,
}

impl Figures {
    /// CPU time and memory are those of the servers.
    pub(crate) fn of(measured: &Measured, cpu: Duration, resident_bytes: u64) -> Self {
        let operations = measured.operations().max(1) as f64;
        Self {
            per_second: measured.per_second(),
            p50_ms: measured.millis_at(0.5),
            p99_ms: measured.millis_at(0.99),
            p999_ms: measured.millis_at(0.999),
            slowest_ms: measured.millis_at(1.0),
            longest_pause_ms: measured.longest_pause.as_secs_f64() * 1000.0,
            failed: measured.failed as f64,
            operations,
            cpu_micros: cpu.as_secs_f64() * 1e6 / operations,
            of_leader_micros: None,
            resident_mb: resident_bytes as f64 / 1e6,
            took_ms: None,
        }
    }

    /// Adds the CPU time of the leader.
    pub(crate) fn of_leader(self, cpu: Duration) -> Self {
        Self { of_leader_micros: Some(cpu.as_secs_f64() * 1e6 / self.operations), ..self }
    }

    /// Adds how long it took what happened during the load.
    pub(crate) fn took(self, took: Option<Duration>) -> Self {
        Self { took_ms: took.map(|took| took.as_secs_f64() * 1000.0), ..self }
    }
}

/// What a cell shows of the figures of the runs.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Shown {
    Median,
    Largest,
}

/// A column: its head, what it shows, and its figure in a run.
type Column = (&'static str, Shown, fn(&Figures) -> Option<f64>);

/// The columns of both tables.
const OF_ALL: [Column; 7] = [
    ("p50, ms", Shown::Median, |run| Some(run.p50_ms)),
    ("p99, ms", Shown::Median, |run| Some(run.p99_ms)),
    ("p99.9, ms", Shown::Median, |run| Some(run.p999_ms)),
    ("slowest, ms", Shown::Largest, |run| Some(run.slowest_ms)),
    ("longest pause, ms", Shown::Largest, |run| Some(run.longest_pause_ms)),
    ("memory, MB", Shown::Median, |run| Some(run.resident_mb)),
    ("CPU, µs", Shown::Median, |run| Some(run.cpu_micros)),
];

/// What else the table of loads shows.
pub(crate) const OF_LOADS: [Column; 1] =
    [("of the leader", Shown::Median, |run| run.of_leader_micros)];

/// What else the table of scenarios shows.
pub(crate) const OF_SCENARIOS: [Column; 2] = [
    ("failed attempts", Shown::Median, |run| Some(run.failed)),
    ("it took, ms", Shown::Median, |run| run.took_ms),
];

/// Begins a table, whose rows have these names.
pub(crate) fn head(report: &mut Report, names: &[&str], more: &[Column]) {
    let columns = OF_ALL.iter().chain(more).map(|(head, ..)| *head);
    let heads: Vec<&str> = names.iter().copied().chain(["per second"]).chain(columns).collect();
    report.head(&heads);
}

/// Prints what the columns show of the runs, with the smallest and the largest number of operations.
pub(crate) fn row(report: &mut Report, names: &[&str], runs: &[Figures], more: &[Column]) {
    let per_second = Summary::of(runs.iter().map(|run| run.per_second).collect());
    let per_second = per_second.map_or(NONE.to_owned(), |summary| {
        let [median, min, max] = [summary.median, summary.min, summary.max].map(number);
        format!("{median} ({min} to {max})")
    });
    let cells = OF_ALL.iter().chain(more).map(|(_, shown, of)| {
        let summary = Summary::of(runs.iter().filter_map(of).collect());
        summary.map_or(NONE.to_owned(), |summary| match shown {
            Shown::Median => number(summary.median),
            Shown::Largest => number(summary.max),
        })
    });
    report.row(names.iter().map(ToString::to_string).chain([per_second]).chain(cells));
}
