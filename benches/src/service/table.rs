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
    longest_pause_ms: f64,
    failed: f64,
    cpu_micros: Option<f64>,
    resident_mb: f64,
    took_ms: Option<f64>,
}

impl Figures {
    /// CPU time and memory are those of the servers.
    pub(crate) fn of(measured: &Measured, cpu: Option<Duration>, resident_bytes: u64) -> Self {
        let operations = measured.operations().max(1) as f64;
        Self {
            per_second: measured.per_second(),
            p50_ms: measured.millis_at(0.5),
            p99_ms: measured.millis_at(0.99),
            p999_ms: measured.millis_at(0.999),
            longest_pause_ms: measured.longest_pause.as_secs_f64() * 1000.0,
            failed: measured.failed as f64,
            cpu_micros: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / operations),
            resident_mb: resident_bytes as f64 / 1e6,
            took_ms: None,
        }
    }

    /// Adds how long it took what happened during the load.
    pub(crate) fn took(self, took: Option<Duration>) -> Self {
        Self { took_ms: took.map(|took| took.as_secs_f64() * 1000.0), ..self }
    }
}

/// A column: its head, and its figure in a run.
type Column = (&'static str, fn(&Figures) -> Option<f64>);

/// The columns of both tables.
const LATENCIES: [Column; 5] = [
    ("p50, ms", |run| Some(run.p50_ms)),
    ("p99, ms", |run| Some(run.p99_ms)),
    ("p99.9, ms", |run| Some(run.p999_ms)),
    ("longest pause, ms", |run| Some(run.longest_pause_ms)),
    ("memory, MB", |run| Some(run.resident_mb)),
];

/// What else the table of loads shows.
pub(crate) const OF_LOADS: [Column; 1] = [("CPU, µs", |run| run.cpu_micros)];

/// What else the table of scenarios shows.
pub(crate) const OF_SCENARIOS: [Column; 2] =
    [("failed attempts", |run| Some(run.failed)), ("it took, ms", |run| run.took_ms)];

/// Begins a table, whose rows have these names.
pub(crate) fn head(report: &mut Report, names: &[&str], more: &[Column]) {
    let columns = LATENCIES.iter().chain(more).map(|(head, _)| *head);
    let heads: Vec<&str> = names.iter().copied().chain(["per second"]).chain(columns).collect();
    report.head(&heads);
}

/// Prints the medians of the runs, with the smallest and the largest number of operations.
pub(crate) fn row(report: &mut Report, names: &[&str], runs: &[Figures], more: &[Column]) {
    let per_second = Summary::of(runs.iter().map(|run| run.per_second).collect());
    let per_second = per_second.map_or(NONE.to_owned(), |summary| {
        let [median, min, max] = [summary.median, summary.min, summary.max].map(number);
        format!("{median} ({min} to {max})")
    });
    let cells = LATENCIES.iter().chain(more).map(|(_, of)| {
        let median = Summary::of(runs.iter().filter_map(of).collect());
        median.map_or(NONE.to_owned(), |summary| number(summary.median))
    });
    report.row(names.iter().map(ToString::to_string).chain([per_second]).chain(cells));
}
