//! The ids of decided entries whose indices are forgotten.
//!
//! Invariant I19: the entries of these ids are decided before an index that is kept with them.
//! Decided entries never change, so the records of two servers are joined as a union. Consecutive
//! numbers are one range, and for each server and kind a limited number of ranges is kept. Beyond
//! the limit the lowest ranges are in doubt: any number up to the highest of them may belong to
//! such an entry.

use super::id_ranges::IdRanges;
use crate::{
    ids::NodeId,
    messages::sequence_paxos::{ForgottenIds, IdRange, IdsInDoubt},
    proposals::ProposalId,
};
use std::collections::BTreeMap;

/// The number of ranges of one server and kind that are kept: as many as it gives content ids.
const MOST_RANGES: usize = 4096;

/// The bit that is set in the incarnation of an id by ballot, and in the number of a content id.
const HIGHEST: u64 = 1 << 63;

/// The kind of an id. Ids of one server are ordered within their kind only. Except for content ids,
/// the later one is higher.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Counted,
    ByText,
    ByBallot,
}

impl Kind {
    fn of(id: ProposalId) -> Self {
        if id.incarnation & HIGHEST != 0 {
            Self::ByBallot
        } else if id.incarnation == 0 && id.number & HIGHEST != 0 {
            Self::ByText
        } else {
            Self::Counted
        }
    }
}

/// The ids of decided entries whose indices are forgotten.
#[derive(Clone, Debug, Default)]
pub(super) struct Forgotten {
    by_kind: BTreeMap<(NodeId, Kind), Ranges>,
    /// The entries are decided before this index.
    before: u64,
    /// Number of reports of forgotten ids from other servers.
    received: u64,
}

/// Ids of one server and kind.
#[derive(Clone, Debug, Default)]
struct Ranges {
    ids: IdRanges,
    in_doubt: Option<IdsInDoubt>,
}

impl Forgotten {
    /// Adds ids of entries that are decided before an index.
    pub(super) fn add(&mut self, first: ProposalId, count: u64, before: u64) {
        let before = self.before.max(before);
        self.before = before;
        self.of_kind(first).add(first, count, before);
    }

    /// Joins the forgotten ids that another server reports.
    pub(super) fn join(&mut self, received: &ForgottenIds) {
        let before = self.before.max(received.before);
        (self.received, self.before) = (self.received + 1, before);
        for range in &received.ids {
            self.of_kind(range.first).add(range.first, range.count, before);
        }
        for in_doubt in &received.in_doubt {
            self.of_kind(in_doubt.last).doubt(*in_doubt);
        }
    }

    fn of_kind(&mut self, id: ProposalId) -> &mut Ranges {
        self.by_kind.entry((id.origin, Kind::of(id))).or_default()
    }

    pub(super) fn contains(&self, id: ProposalId) -> bool {
        self.by_kind.get(&(id.origin, Kind::of(id))).is_some_and(|ranges| ranges.ids.contains(id))
    }

    /// Returns the index before which all [contained](Self::contains) ids are decided.
    pub(super) fn before(&self) -> u64 {
        self.before
    }

    /// Returns the index before which the entry of an id may be decided although the id is not
    /// [contained](Self::contains).
    pub(super) fn in_doubt_before(&self, id: ProposalId) -> u64 {
        let ranges = self.by_kind.get(&(id.origin, Kind::of(id)));
        let in_doubt = ranges.and_then(|ranges| ranges.in_doubt);
        in_doubt.filter(|in_doubt| id <= in_doubt.last).map_or(0, |in_doubt| in_doubt.before)
    }

    /// Returns the highest of these indices for any id of a server.
    pub(super) fn any_in_doubt_before(&self, origin: NodeId) -> u64 {
        let of_origin = self.by_kind.range((origin, Kind::Counted)..=(origin, Kind::ByBallot));
        let in_doubt = of_origin.filter_map(|(_, ranges)| ranges.in_doubt);
        in_doubt.map(|in_doubt| in_doubt.before).max().unwrap_or_default()
    }

    /// Returns the highest contained number of an incarnation that counts.
    pub(super) fn highest_number(&self, origin: NodeId, incarnation: u64) -> Option<u64> {
        let ranges = self.by_kind.get(&(origin, Kind::Counted))?;
        let last = ProposalId { origin, incarnation, number: u64::MAX };
        let range = ranges.ids.up_to(last);
        let known = range.map(|(first, count)| first.later(count.saturating_sub(1)));
        let in_doubt = ranges.in_doubt.map(|in_doubt| in_doubt.last);
        let of_incarnation = known.into_iter().chain(in_doubt);
        of_incarnation.filter(|id| id.incarnation == incarnation).map(|id| id.number).max()
    }

    /// Returns the number of reports of forgotten ids from other servers.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Returns all forgotten ids, for a message to another server.
    #[cold]
    pub(super) fn to_send(&self) -> Box<ForgottenIds> {
        let ranges = self.by_kind.values().flat_map(|ranges| ranges.ids.iter());
        let ids = ranges.map(|(first, count)| IdRange { first, count }).collect();
        let in_doubt = self.by_kind.values().filter_map(|ranges| ranges.in_doubt).collect();
        Box::new(ForgottenIds { before: self.before, ids, in_doubt })
    }
}

impl Ranges {
    /// Adds ids. Then it removes the lowest ranges above the limit.
    fn add(&mut self, first: ProposalId, count: u64, before: u64) {
        self.ids.add(first, count);
        while self.ids.len() > MOST_RANGES {
            if let Some((lowest, count)) = self.ids.pop_lowest() {
                self.doubt(IdsInDoubt { last: lowest.later(count.saturating_sub(1)), before });
            }
        }
    }

    fn doubt(&mut self, received: IdsInDoubt) {
        let known = self.in_doubt.get_or_insert(received);
        known.last = known.last.max(received.last);
        known.before = known.before.max(received.before);
    }
}

#[cfg(test)]
mod tests {
    use super::{Forgotten, IdsInDoubt, ProposalId, HIGHEST, MOST_RANGES};

    fn id(incarnation: u64, number: u64) -> ProposalId {
        ProposalId { origin: 1, incarnation, number }
    }

    /// The ranges in order: incarnation, first number and count.
    fn ranges(forgotten: &Forgotten) -> Vec<(u64, u64, u64)> {
        let received = forgotten.to_send();
        received.ids.iter().map(|r| (r.first.incarnation, r.first.number, r.count)).collect()
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let mut forgotten = Forgotten::default();
        for (number, count, left) in [
            (10, 5, vec![(1, 10, 5)]),
            (20, 5, vec![(1, 10, 5), (1, 20, 5)]),
            (15, 1, vec![(1, 10, 6), (1, 20, 5)]),
            (12, 2, vec![(1, 10, 6), (1, 20, 5)]),
            (18, 2, vec![(1, 10, 6), (1, 18, 7)]),
            (2, 1, vec![(1, 2, 1), (1, 10, 6), (1, 18, 7)]),
            (9, 9, vec![(1, 2, 1), (1, 9, 16)]),
            (0, 99, vec![(1, 0, 99)]),
        ] {
            forgotten.add(id(1, number), count, 7);
            assert_eq!(ranges(&forgotten), left, "after {number} and {count}");
        }
        forgotten.add(id(2, 99), 1, 5);
        forgotten.add(id(0, 99), 1, 5);
        assert_eq!(ranges(&forgotten), [(0, 99, 1), (1, 0, 99), (2, 99, 1)]);
        assert_eq!(forgotten.before(), 7);
    }

    #[test]
    fn holes_are_not_forgotten() {
        let mut forgotten = Forgotten::default();
        forgotten.add(id(1, 10), 5, 7);
        forgotten.add(id(1, 16), 2, 9);
        forgotten.add(id(2, 3), 1, 9);
        for (id, is_in) in [
            (id(1, 9), false),
            (id(1, 10), true),
            (id(1, 14), true),
            (id(1, 15), false),
            (id(1, 17), true),
            (id(1, 18), false),
            (id(2, 3), true),
            (id(2, 17), false),
            (id(0, 10), false),
            (id(1, 10 | HIGHEST), false),
            (id(1 | HIGHEST, 10), false),
            (ProposalId { origin: 2, ..id(1, 10) }, false),
        ] {
            assert_eq!(forgotten.contains(id), is_in, "{id:?}");
            assert_eq!(forgotten.in_doubt_before(id), 0);
        }
    }

    #[test]
    fn beyond_the_bound_the_lowest_are_in_doubt() {
        let mut forgotten = Forgotten::default();
        let most = MOST_RANGES as u64;
        for idx in 0..most + 3 {
            forgotten.add(id(1, 2 * idx), 1, idx + 1);
        }
        forgotten.add(id(0, 7 | HIGHEST), 1, 1);
        forgotten.add(id(7 | HIGHEST, 7), 1, 1);
        let before = most + 3;
        assert_eq!(forgotten.by_kind.values().map(|r| r.ids.len()).sum::<usize>(), 2 + MOST_RANGES);
        for (id, is_in, in_doubt_before) in [
            (id(0, 8), false, before),
            (id(1, 0), false, before),
            (id(1, 3), false, before),
            (id(1, 4), false, before),
            (id(1, 5), false, 0),
            (id(1, 6), true, 0),
            (id(2, 0), false, 0),
            (id(0, 7 | HIGHEST), true, 0),
            (id(0, 6 | HIGHEST), false, 0),
            (id(7 | HIGHEST, 7), true, 0),
        ] {
            assert_eq!(forgotten.contains(id), is_in, "{id:?}");
            assert_eq!(forgotten.in_doubt_before(id), in_doubt_before, "{id:?}");
        }
        assert_eq!(forgotten.any_in_doubt_before(1), before);
        assert_eq!(forgotten.any_in_doubt_before(2), 0);
        let highest = [0, 1, 2].map(|incarnation| forgotten.highest_number(1, incarnation));
        assert_eq!(highest, [None, Some(2 * (most + 2)), None]);
    }

    #[test]
    fn two_memories_are_joined() {
        let (mut one, mut other) = (Forgotten::default(), Forgotten::default());
        one.add(id(1, 0), 5, 9);
        other.add(id(1, 3), 5, 12);
        other.add(id(3, 0), 1, 14);
        let mut received = other.to_send();
        received.in_doubt.push(IdsInDoubt { last: id(0, 5), before: 4 });
        one.join(&received);
        assert_eq!(ranges(&one), [(1, 0, 8), (3, 0, 1)]);
        assert_eq!((one.before(), one.received()), (14, 1));
        assert_eq!((one.in_doubt_before(id(0, 5)), one.in_doubt_before(id(0, 6))), (4, 0));
        received.in_doubt = vec![IdsInDoubt { last: id(0, 3), before: 8 }];
        one.join(&received);
        assert_eq!(one.to_send().in_doubt, [IdsInDoubt { last: id(0, 5), before: 8 }]);
        assert_eq!((one.received(), other.received()), (2, 0));
        assert_eq!(*one.to_send(), {
            let mut both = Forgotten::default();
            both.join(&one.to_send());
            *both.to_send()
        });
    }
}
