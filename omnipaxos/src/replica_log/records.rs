//! Records of the log: each is an entry or a stop sign, and has its own index.
//!
//! Stop signs are few. In memory, in the storage and in messages they are kept beside the entries. This
//! module maps the indices of records to positions among the entries.

use crate::{entry::SharedEntries, storage::StopSign};

/// The stop signs of a log, each with its index.
#[derive(Clone, Debug, Default)]
pub(super) struct StopSigns {
    /// Those that began an epoch, in order: they are decided. The log holds the entries between them
    /// or the storage does.
    earlier: Vec<(u64, StopSign)>,
    /// The stop sign of the present epoch. Invariant I9: there is one at most, and no record comes
    /// after it.
    last: Option<(u64, StopSign)>,
}

impl StopSigns {
    /// Creates the stop signs of a log from those that began an epoch.
    pub(super) fn of_epochs(earlier: Vec<(u64, StopSign)>) -> Self {
        Self { earlier, last: None }
    }

    /// Begins the next epoch: records may follow the stop sign.
    pub(super) fn begin_epoch(&mut self) {
        self.earlier.extend(self.last.take());
    }

    /// Forgets the stop signs before index `idx`.
    #[inline]
    pub(super) fn drop_before(&mut self, idx: u64) {
        if !self.earlier.is_empty() {
            self.drop_earlier(idx);
        }
    }

    #[cold]
    fn drop_earlier(&mut self, idx: u64) {
        self.earlier.retain(|(of, _)| *of >= idx);
    }

    /// Returns the stop sign at index `idx`.
    #[inline]
    pub(super) fn at(&self, idx: u64) -> Option<&StopSign> {
        let all = self.last.iter().chain(&self.earlier);
        all.into_iter().find(|(of, _)| *of == idx).map(|(_, stopsign)| stopsign)
    }

    /// Adds a stop sign at `idx`, after all others.
    pub(super) fn push(&mut self, idx: u64, stopsign: StopSign) {
        debug_assert!(self.last.is_none(), "I9: a stop sign after the stop sign");
        self.last = Some((idx, stopsign));
    }

    /// Removes the stop signs from index `idx` on.
    pub(super) fn cut(&mut self, idx: u64) {
        self.last.take_if(|(of, _)| *of >= idx);
    }

    /// Returns the last stop sign and its index.
    #[inline]
    pub(super) fn last(&self) -> Option<(u64, &StopSign)> {
        self.last.as_ref().map(|(idx, stopsign)| (*idx, stopsign))
    }

    /// Returns the index of the next stop sign from `idx` on.
    #[inline]
    pub(super) fn next(&self, idx: u64) -> Option<u64> {
        let earlier = match self.earlier.is_empty() {
            true => None,
            false => self.earlier.get(self.first_from(idx)),
        };
        earlier.or(self.last.as_ref()).map(|(of, _)| *of).filter(|of| *of >= idx)
    }

    /// Returns the position of the first earlier stop sign from index `idx` on.
    fn first_from(&self, idx: u64) -> usize {
        self.earlier.partition_point(|(of, _)| *of < idx)
    }

    /// Returns the number of stop signs among the records `from..to`.
    #[inline]
    fn count(&self, from: u64, to: u64) -> u64 {
        let last = self.last.as_ref().is_some_and(|(idx, _)| (from..to).contains(idx));
        let earlier = match self.earlier.is_empty() {
            true => 0,
            false => self.first_from(to).saturating_sub(self.first_from(from)) as u64,
        };
        earlier + u64::from(last)
    }

    /// Returns the length of a log that has `entries` entries, besides the stop signs, from index `from`
    /// on.
    pub(super) fn end(&self, from: u64, entries: u64) -> u64 {
        from + entries + self.count(from, u64::MAX)
    }

    /// Returns the number of entries among the records `from..to`.
    #[inline]
    pub(super) fn entries_among(&self, from: u64, to: u64) -> u64 {
        to.saturating_sub(from) - self.count(from, to)
    }
}

/// Consecutive records: entries, and a stop sign after them if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Records<T> {
    pub(super) entries: SharedEntries<T>,
    pub(super) stopsign: Option<Box<StopSign>>,
}

impl<T> From<SharedEntries<T>> for Records<T> {
    fn from(entries: SharedEntries<T>) -> Self {
        Self { entries, stopsign: None }
    }
}

impl<T> From<Box<StopSign>> for Records<T> {
    fn from(stopsign: Box<StopSign>) -> Self {
        Self { entries: SharedEntries::default(), stopsign: Some(stopsign) }
    }
}

impl<T> Records<T> {
    /// Returns the number of records.
    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64 + u64::from(self.stopsign.is_some())
    }

    /// Returns the index after the last record, if the first has index `from`.
    pub(super) fn end(&self, from: u64) -> u64 {
        from + self.len()
    }

    /// Returns the records without the first `skip`.
    #[inline]
    pub(super) fn after(self, skip: u64) -> Self {
        if skip == 0 {
            return self;
        }
        let Self { entries, stopsign } = self;
        let stopsign = stopsign.filter(|_| skip <= entries.len() as u64);
        let rest = position(skip)..entries.len();
        Self { entries: entries.slice(rest).unwrap_or_default(), stopsign }
    }
}

/// Converts an index to a position in memory. An index that does not fit is beyond any end.
pub(super) fn position(idx: u64) -> usize {
    usize::try_from(idx).unwrap_or(usize::MAX)
}

/// Returns the index after `entries` entries from `from` on and the stop sign that follows them; `None`
/// if it overflows.
pub(super) fn checked_end(from: u64, entries: usize, stopsign: Option<&StopSign>) -> Option<u64> {
    let entries = u64::try_from(entries).ok()?;
    from.checked_add(entries)?.checked_add(u64::from(stopsign.is_some()))
}

#[cfg(test)]
mod tests {
    use super::{checked_end, Records, SharedEntries, StopSign, StopSigns};
    use crate::config::ClusterConfig;

    fn stopsign() -> StopSign {
        StopSign::with(ClusterConfig::default(), None)
    }

    #[test]
    fn a_stop_sign_has_an_index_of_its_own() {
        let mut signs = StopSigns::default();
        assert_eq!((signs.entries_among(2, 9), signs.next(0)), (7, None));
        signs.push(5, stopsign());
        for (from, to, entries) in
            [(2, 9, 6), (2, 5, 3), (2, 6, 3), (5, 6, 0), (6, 9, 3), (5, 5, 0), (9, 2, 0)]
        {
            assert_eq!(signs.entries_among(from, to), entries, "{from}..{to}");
        }
        assert_eq!([0, 5, 6].map(|idx| signs.next(idx)), [Some(5), Some(5), None]);
        signs.cut(6);
        assert_eq!(signs.last().map(|(idx, _)| idx), Some(5));
        signs.cut(5);
        assert_eq!(signs.last(), None);
    }

    #[test]
    fn stop_signs_of_earlier_epochs() {
        let mut signs = StopSigns::of_epochs(vec![(2, stopsign()), (5, stopsign())]);
        signs.push(8, stopsign());
        signs.begin_epoch();
        assert_eq!(signs.last(), None, "records may follow");
        signs.push(9, stopsign());
        for (from, to, entries) in
            [(0, 12, 8), (0, 2, 2), (0, 3, 2), (2, 3, 0), (3, 5, 2), (3, 9, 4), (8, 10, 0)]
        {
            assert_eq!(signs.entries_among(from, to), entries, "{from}..{to}");
        }
        let next = [0, 2, 3, 6, 9, 10].map(|idx| signs.next(idx));
        assert_eq!(next, [Some(2), Some(2), Some(5), Some(8), Some(9), None]);
        assert_eq!(
            [1, 2, 5, 8, 9].map(|idx| signs.at(idx).is_some()),
            [false, true, true, true, true]
        );
        assert_eq!(
            [(0, 8), (3, 4), (9, 0)].map(|(from, held)| signs.end(from, held)),
            [12, 10, 10]
        );
        signs.drop_before(5);
        assert_eq!([2, 5].map(|idx| signs.at(idx).is_some()), [false, true]);
        signs.drop_before(9);
        assert_eq!((signs.next(0), signs.entries_among(0, 12)), (Some(9), 11));
    }

    #[test]
    fn the_stop_sign_is_the_last_record() {
        let made = || Records {
            entries: SharedEntries::from(vec![0, 1]),
            stopsign: Some(Box::new(stopsign())),
        };
        for (skip, entries, has_stopsign) in
            [(0, vec![0, 1], true), (1, vec![1], true), (2, vec![], true), (3, vec![], false)]
        {
            let rest = made().after(skip);
            assert_eq!(*rest.entries.lock(), entries, "after {skip}");
            assert_eq!(rest.stopsign.is_some(), has_stopsign, "after {skip}");
        }
        assert_eq!(Records::<u64>::from(Box::new(stopsign())).after(1).stopsign, None);
        assert_eq!(checked_end(3, 2, None), Some(5));
        assert_eq!(checked_end(3, 2, Some(&stopsign())), Some(6));
        assert_eq!(checked_end(u64::MAX - 2, 2, Some(&stopsign())), None);
    }
}
