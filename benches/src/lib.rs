//! What is measured, and against whom.
//!
//! The measurements are in `benches/`; here is what they share.

use cpu_time::ThreadTime;
use std::time::Duration;

/// Rounds of each measurement. The contestants take turns, so that whatever else the machine does
/// hits all of them alike; the median forgets the rounds it hits hardest.
pub const ROUNDS: usize = 7;

/// Measures the CPU time of this thread in `work`.
pub fn cpu_time_of(work: impl FnOnce()) -> Duration {
    let start = ThreadTime::now();
    work();
    start.elapsed()
}

/// The median, smallest and largest of some measurements.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Summary {
    /// Half of the measurements are not above it.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Sums up measurements; `None` if there are none.
    pub fn of(mut measurements: Vec<f64>) -> Option<Self> {
        measurements.sort_by(f64::total_cmp);
        Some(Self {
            median: measurements.get(measurements.len() / 2).copied()?,
            min: measurements.first().copied()?,
            max: measurements.last().copied()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn the_median_is_in_the_middle() {
        let summary = Summary::of(vec![5.0, 1.0, 9.0, 2.0, 3.0]);
        assert_eq!(summary, Some(Summary { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(Summary::of(vec![]), None);
    }
}
