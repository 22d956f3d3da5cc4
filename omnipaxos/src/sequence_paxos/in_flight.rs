//! Amounts that are sent and not confirmed.

use crate::amount::Amount;
use std::collections::VecDeque;

/// Consecutive runs of entries, each until an index passes it. A run counts in full until its last
/// entry is passed.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight {
    /// The index after each run, and its amount.
    runs: VecDeque<(u64, Amount)>,
    total: Amount,
}

impl InFlight {
    /// Adds a run that ends at index `end`.
    #[inline]
    pub(super) fn add(&mut self, end: u64, amount: Amount) {
        if amount.entries > 0 {
            self.runs.push_back((end, amount));
            self.total.add(amount);
        }
    }

    /// Removes the runs that end at or before `idx`: they are confirmed.
    #[inline]
    pub(super) fn pass(&mut self, idx: u64) {
        while let Some((_, amount)) = self.runs.front().filter(|(end, _)| *end <= idx) {
            self.total.subtract(*amount);
            self.runs.pop_front();
        }
    }

    /// Removes all runs.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.total = Amount::default();
    }

    pub(super) fn total(&self) -> Amount {
        self.total
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Amount, InFlight};

    #[test]
    fn counts_until_a_run_is_passed() {
        let mut sent = InFlight::default();
        sent.add(0, Amount::default());
        assert!(sent.is_empty(), "a run of no entries is none");
        sent.add(3, Amount { entries: 3, bytes: 30 });
        sent.add(3, Amount::default());
        assert!(!sent.is_empty());
        sent.add(5, Amount { entries: 2, bytes: 7 });
        for (idx, entries, bytes) in [(2, 5, 37), (3, 2, 7), (4, 2, 7), (9, 0, 0)] {
            sent.pass(idx);
            assert_eq!(sent.total(), Amount { entries, bytes }, "after {idx}");
        }
        assert!(sent.is_empty());
    }
}
