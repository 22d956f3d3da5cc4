//! The rates at which an index grows.

use std::{collections::VecDeque, time::Duration};

/// The shortest time over which a rate is computed.
const SPAN: Duration = Duration::from_secs(1);

/// The number of rates that are kept: more than a terminal has columns.
const KEPT: usize = 600;

/// The rates at which an index grew, one a second.
///
/// The caller passes the time, which may begin at any moment.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// The time and the index at which the next rate begins.
    since: Option<(Duration, u64)>,
    /// Entries a second, the newest first.
    history: VecDeque<u64>,
}

impl Rates {
    /// Records an index. If it decreased, as after a restart, the rate is 0.
    pub fn observe(&mut self, idx: u64, now: Duration) {
        let Some((since, from)) = self.since else {
            self.since = Some((now, idx));
            return;
        };
        let elapsed = now.saturating_sub(since);
        if elapsed < SPAN {
            return;
        }
        let growth = u128::from(idx.saturating_sub(from));
        let a_second = growth * 1_000_000_000 / elapsed.as_nanos();
        let rate = u64::try_from(a_second).unwrap_or(u64::MAX);
        // After some seconds without a call, each of them gets the same rate.
        for _ in 0..elapsed.as_secs().min(KEPT as u64) {
            self.history.push_front(rate);
        }
        self.history.truncate(KEPT);
        self.since = Some((now, idx));
    }

    /// Returns the last rate in entries a second, once there is one.
    pub fn latest(&self) -> Option<u64> {
        self.history.front().copied()
    }

    /// Returns the rates in entries a second, one for each second, the newest first.
    pub fn history(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.history.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::{Rates, KEPT};
    use std::time::Duration;

    fn after(observed: &[(u64, u64)]) -> Vec<u64> {
        let mut rates = Rates::default();
        for (millis, idx) in observed {
            rates.observe(*idx, Duration::from_millis(*millis));
        }
        rates.history().collect()
    }

    #[test]
    fn rates_are_growth_over_time() {
        let table: [(&[_], &[_]); 7] = [
            (&[], &[]),
            (&[(0, 5)], &[]),
            (&[(0, 5), (999, 50)], &[]),
            (&[(0, 5), (400, 20), (1000, 105)], &[100]),
            (&[(7000, 0), (8000, 100), (9250, 350)], &[200, 100]),
            (&[(0, 0), (3000, 300), (4000, 300)], &[0, 100, 100, 100]),
            (&[(0, 500), (1000, 20), (2000, 30)], &[10, 0]),
        ];
        for (observed, rates) in table {
            assert_eq!(after(observed), rates, "{observed:?}");
        }
    }

    #[test]
    fn nothing_overflows_and_time_may_stand_still_or_go_back() {
        assert_eq!(after(&[(0, 0), (1000, u64::MAX)]), [u64::MAX]);
        assert_eq!(after(&[(5000, 0), (5000, 9), (4000, 9)]), [0; 0]);
        assert_eq!(after(&[(0, 0), (u64::MAX, 9)]).len(), KEPT);
    }
}
