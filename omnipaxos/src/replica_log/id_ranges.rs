//! Sets of ids, kept as ranges.

use crate::proposals::ProposalId;
use std::collections::BTreeMap;

/// A set of ids. Ids of one incarnation with consecutive numbers are one range.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdRanges {
    /// The number of consecutive ids from each first id on. Invariant: no two ranges touch.
    counts: BTreeMap<ProposalId, u64>,
}

impl IdRanges {
    /// Adds `count` ids from `first` on and joins them with the ranges that they touch. Returns how
    /// many of them are new.
    pub(crate) fn add(&mut self, first: ProposalId, count: u64) -> u64 {
        let end = first.number.saturating_add(count);
        let (mut union, mut known) = ((first, end), 0);
        while let Some((other, other_end)) = self.last_touching(union.0, union.1) {
            self.counts.remove(&other);
            known += other_end.min(end).saturating_sub(other.number.max(first.number));
            union = (union.0.min(other), union.1.max(other_end));
        }
        let (from, union_end) = union;
        if from.number < union_end {
            self.counts.insert(from, union_end - from.number);
        }
        end - first.number - known
    }

    /// Returns the last range that touches the ids from `first` up to number `end`: its first id and
    /// the number after its last.
    fn last_touching(&self, first: ProposalId, end: u64) -> Option<(ProposalId, u64)> {
        let (other, count) = self.up_to(ProposalId { number: end, ..first })?;
        let other_end = other.number.saturating_add(count);
        let touches = is_same_incarnation(other, first) && other_end >= first.number;
        touches.then_some((other, other_end))
    }

    pub(crate) fn contains(&self, id: ProposalId) -> bool {
        self.up_to(id).is_some_and(|(first, count)| {
            is_same_incarnation(first, id) && id.number - first.number < count
        })
    }

    /// Returns the last range that begins at `id` or before: its first id and its length.
    pub(super) fn up_to(&self, id: ProposalId) -> Option<(ProposalId, u64)> {
        self.counts.range(..=id).next_back().map(|(first, count)| (*first, *count))
    }

    /// Returns the first id and the length of each range, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ProposalId, u64)> + '_ {
        self.counts.iter().map(|(first, count)| (*first, *count))
    }

    /// Returns the number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Removes and returns the lowest range: its first id and its length.
    pub(super) fn pop_lowest(&mut self) -> Option<(ProposalId, u64)> {
        self.counts.pop_first()
    }

    pub(crate) fn clear(&mut self) {
        self.counts.clear();
    }
}

/// Returns whether two ids differ only in their number.
fn is_same_incarnation(one: ProposalId, other: ProposalId) -> bool {
    (one.origin, one.incarnation) == (other.origin, other.incarnation)
}

#[cfg(test)]
mod tests {
    use super::{IdRanges, ProposalId};

    fn id(incarnation: u64, number: u64) -> ProposalId {
        ProposalId { origin: 1, incarnation, number }
    }

    #[test]
    fn what_is_added_twice_counts_once() {
        let mut ids = IdRanges::default();
        for (first, count, new, ranges) in [
            (id(1, 10), 5, 5, 1),
            (id(1, 10), 5, 0, 1),
            (id(1, 12), 2, 0, 1),
            (id(1, 12), 5, 2, 1),
            (id(1, 5), 5, 5, 1),
            (id(1, 20), 2, 2, 2),
            (id(2, 22), 2, 2, 3),
            (id(1, 17), 3, 3, 2),
            (id(1, 0), 30, 13, 2),
            (id(1, 30), 0, 0, 2),
            (id(1, 50), 0, 0, 2),
            (id(1, 1 << 62), u64::MAX, u64::MAX - (1 << 62), 3),
            (id(1, u64::MAX), 1, 0, 3),
        ] {
            assert_eq!(ids.add(first, count), new, "{count} from {first:?}");
            assert_eq!(ids.len(), ranges, "{count} from {first:?}");
        }
        for (id, is_in) in
            [(id(1, 0), true), (id(1, 29), true), (id(1, 30), false), (id(2, 21), false)]
        {
            assert_eq!(ids.contains(id), is_in, "{id:?}");
        }
        assert_eq!(ids.pop_lowest(), Some((id(1, 0), 30)));
    }
}
