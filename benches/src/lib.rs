//! What is measured, and against whom.
//!
//! The measurements are in `benches/`; here is what they share.

pub mod cluster;
pub mod contestants;
#[cfg(feature = "liveness")]
pub mod liveness;
pub mod membership;
pub mod report;

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

/// Measures each of `count` contestants [`ROUNDS`] times, in turns. `None` was not measured.
pub fn alternate(
    count: usize,
    mut measure: impl FnMut(usize) -> Option<f64>,
) -> Vec<Option<Summary>> {
    let mut all = vec![Vec::new(); count];
    for _ in 0..ROUNDS {
        for (at, measurements) in all.iter_mut().enumerate() {
            measurements.extend(measure(at));
        }
    }
    all.into_iter().map(Summary::of).collect()
}

/// Keeps memory that the allocator has got from the system from going back, so that the contestants
/// find it there: the time of the system to map a page is not theirs.
#[derive(Debug)]
pub struct WarmHeap {
    _on_top: Vec<Vec<u8>>,
}

impl WarmHeap {
    /// Touches this number of bytes and frees them below something that stays.
    pub fn of(bytes: usize) -> Self {
        // Once a block of this size was freed, the usual allocator maps none below it singly.
        drop(std::hint::black_box(vec![1_u8; (32 << 20) - 8192]));
        let touched: Vec<Vec<u8>> = (0..bytes / 1024).map(|_| vec![1; 1024]).collect();
        let on_top = (0..16).map(|_| vec![1; 1024]).collect();
        drop(std::hint::black_box(touched));
        Self { _on_top: on_top }
    }
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
