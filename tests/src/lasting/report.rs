//! What many runs were like.

use super::{Bound, Kind, Lasting, Report};
use crate::run::Failure;
use std::{collections::BTreeMap, fmt};

/// What many runs were like, by kind and number of servers.
#[derive(Debug, Default)]
pub struct Sums {
    rows: BTreeMap<(Kind, usize), Row>,
    /// The runs in which something did not hold.
    pub failures: Vec<(u64, Failure)>,
}

#[derive(Debug, Default)]
struct Row {
    runs: u64,
    violations: u64,
    ticks: u64,
    decided: u64,
    /// The longest time without a decision or a read at the keeper, in rounds and in parts of the bound; and
    /// its seed.
    slowest: (f64, f64, u64),
    /// Ballots in 100 rounds.
    ballots: f64,
    changes: u64,
}

impl Sums {
    /// Adds a run.
    pub fn add(&mut self, lasting: &Lasting, report: Report) {
        let bound = Bound::of(lasting);
        let measured = report.measured;
        let row = self.rows.entry((lasting.kind, lasting.size())).or_default();
        row.runs += 1;
        row.ticks += measured.ticks;
        row.decided += measured.decided;
        let longest = measured.longest_at_keeper.max(measured.longest_read);
        let part = longest as f64 / bound.longest as f64;
        if part > row.slowest.1 {
            let rounds = longest as f64 / bound.round as f64;
            row.slowest = (rounds, part, lasting.seed);
        }
        let rounds = measured.ticks as f64 / bound.round as f64;
        row.ballots = row.ballots.max(measured.ballots as f64 * 100.0 / rounds.max(100.0));
        row.changes = row.changes.max(measured.changes);
        if let Some(failure) = report.failure {
            row.violations += 1;
            self.failures.push((lasting.seed, failure));
        }
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<10} {:>2} {:>6} {:>10} {:>9} {:>9} {:>6} {:>8} {:>8} {:>7}",
            "kind",
            "n",
            "runs",
            "violations",
            "decided",
            "rounds",
            "bound",
            "ballots",
            "changes",
            "seed"
        )?;
        for ((kind, size), row) in &self.rows {
            let (rounds, part, seed) = row.slowest;
            writeln!(
                f,
                "{:<10} {size:>2} {:>6} {:>10} {:>9} {rounds:>9.1} {:>5.0}% {:>8.1} {:>8} {seed:>7}",
                format!("{kind:?}"),
                row.runs,
                row.violations,
                row.decided,
                part * 100.0,
                row.ballots,
                row.changes,
            )?;
        }
        Ok(())
    }
}
