//! The end of the log that is not flushed.

use super::records::{position, Records, StopSigns};
use crate::{
    amount::Amount,
    entry::SharedEntries,
    storage::{Entry, StopSign},
};

/// The records from `from_idx` on, which are only in memory. Entries that the storage holds from
/// there on are out of date.
#[derive(Clone, Debug)]
pub(super) struct Tail<T> {
    from_idx: u64,
    /// Length of the log: the index after its entries and the stop signs from `from_idx` on.
    end: u64,
    /// The stop signs of the whole log, which stay in memory.
    stop_signs: StopSigns,
    /// Entries of a message, shared with it.
    shared: SharedEntries<T>,
    /// The entries after those.
    own: Vec<T>,
    /// The number of entries expected before the next flush: as many as before the last one.
    expected: usize,
    /// Bytes of the entries pushed since the last flush, and of all entries at the last
    /// [count](Tail::count).
    bytes: u64,
}

/// The largest number of entries for which memory is reserved in advance.
const MOST_EXPECTED: usize = 256;

impl<T: Clone> Tail<T> {
    /// Creates a tail without records from `from_idx` on, of a log with these stop signs.
    pub(super) fn empty(from_idx: u64, stop_signs: StopSigns) -> Self {
        let (shared, own) = (SharedEntries::default(), Vec::new());
        Self { from_idx, end: from_idx, stop_signs, shared, own, expected: 1, bytes: 0 }
    }

    /// Returns the stop signs of the whole log.
    #[inline]
    pub(super) fn stop_signs(&self) -> &StopSigns {
        &self.stop_signs
    }

    /// Begins the next epoch: records may follow the stop sign.
    pub(super) fn begin_epoch(&mut self) {
        self.stop_signs.begin_epoch();
    }

    /// Forgets the stop signs before index `idx`.
    #[inline]
    pub(super) fn forget_stop_signs(&mut self, idx: u64) {
        self.stop_signs.drop_before(idx);
    }

    /// Returns the index of the first record that is only in memory.
    pub(super) fn start(&self) -> u64 {
        self.from_idx
    }

    /// Returns whether there are no entries to flush.
    pub(super) fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.own.is_empty()
    }

    /// Returns the number of entries that are only in memory.
    fn entries(&self) -> usize {
        self.shared.len() + self.own.len()
    }

    /// Returns the length of the log.
    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Returns the bytes of the entries that were pushed or counted.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the amount of the entries, with the bytes of those that were pushed or counted.
    pub(super) fn amount(&self) -> Amount {
        Amount { entries: self.entries() as u64, bytes: self.bytes }
    }

    /// Adds an entry with its size in bytes.
    pub(super) fn push(&mut self, entry: T, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.own.capacity() == 0 {
            self.own.reserve_exact(self.expected);
        }
        self.own.push(entry);
        self.end += 1;
    }

    /// Adds a stop sign.
    pub(super) fn push_stopsign(&mut self, stopsign: StopSign) {
        self.stop_signs.push(self.end, stopsign);
        self.end += 1;
    }

    /// Adds records at the end. Their entries stay shared if there are no others.
    #[inline]
    pub(super) fn extend(&mut self, records: Records<T>) {
        let Records { entries, stopsign } = records;
        self.end += entries.len() as u64;
        if self.is_empty() {
            self.shared = entries;
        } else if !entries.is_empty() {
            self.own.append(&mut entries.into_vec());
        }
        if let Some(stopsign) = stopsign {
            self.push_stopsign(*stopsign);
        }
    }

    /// Truncates the log to its first `idx` records.
    pub(super) fn cut(&mut self, idx: u64) {
        let kept = position(self.stop_signs.entries_among(self.from_idx, idx));
        self.stop_signs.cut(idx);
        self.own.truncate(kept.saturating_sub(self.shared.len()));
        if let Some(rest) = self.shared.slice(0..kept) {
            self.shared = rest;
        }
        self.from_idx = self.from_idx.min(idx);
        self.end = self.end.min(idx);
    }

    /// Drops the entries before `idx`, which need not be stored any more.
    pub(super) fn drop_before(&mut self, idx: u64) {
        if idx > self.from_idx {
            let gone = self.stop_signs.entries_among(self.from_idx, idx);
            let gone = position(gone).min(self.entries());
            self.own.drain(..gone.saturating_sub(self.shared.len()));
            self.shared = self.shared.slice(gone..self.shared.len()).unwrap_or_default();
            self.from_idx = idx;
            self.end = self.end.max(idx);
        }
    }

    /// Visits the entries of `from..to` that are in memory.
    pub(super) fn visit(&self, from: u64, to: u64, visit: &mut dyn FnMut(&T)) {
        let start = position(self.stop_signs.entries_among(self.from_idx, from));
        let end = position(self.stop_signs.entries_among(self.from_idx, to));
        let of = |len: usize, before: usize| {
            let start = start.saturating_sub(before).min(len);
            start..end.saturating_sub(before).clamp(start, len)
        };
        let (shared, own) = (of(self.shared.len(), 0), of(self.own.len(), self.shared.len()));
        if !shared.is_empty() {
            self.shared.for_each(shared, &mut *visit);
        }
        self.own.get(own).unwrap_or_default().iter().for_each(visit);
    }

    /// Returns the entries, which a message may share. They stay in the tail.
    pub(super) fn share(&mut self) -> SharedEntries<T> {
        if !self.own.is_empty() {
            let (from_idx, bytes) = (self.from_idx, self.bytes);
            self.shared = self.take();
            (self.from_idx, self.bytes) = (from_idx, bytes);
        }
        self.shared.clone()
    }

    /// Takes the entries for a flush.
    #[inline]
    pub(super) fn take(&mut self) -> SharedEntries<T> {
        self.from_idx = self.end;
        self.bytes = 0;
        let is_alone = self.shared.is_empty() && self.own.len() == 1;
        if let Some(alone) = self.own.pop_if(|_| is_alone) {
            self.expected = 1;
            return SharedEntries::one(alone);
        }
        let (shared, mut own) = (std::mem::take(&mut self.shared), std::mem::take(&mut self.own));
        if own.is_empty() {
            return shared;
        }
        self.expected = own.len().min(MOST_EXPECTED);
        if shared.is_empty() {
            return SharedEntries::from(own);
        }
        let mut all = shared.into_vec();
        all.append(&mut own);
        SharedEntries::from(all)
    }
}

impl<T: Entry> Tail<T> {
    /// Counts the bytes of all entries.
    pub(super) fn count(&mut self) {
        let shared = self.shared.lock();
        let all = shared.iter().chain(&self.own);
        self.bytes = all.fold(0, |sum, entry| sum.saturating_add(entry.size_hint() as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, SharedEntries, StopSigns, Tail};
    use crate::{
        config::ClusterConfig,
        storage::{NoSnapshot, StopSign},
    };

    fn tail(from_idx: u64, len: u64) -> Tail<u64> {
        let mut tail = Tail::empty(from_idx, StopSigns::default());
        tail.extend(SharedEntries::from((from_idx..from_idx + len).collect::<Vec<_>>()).into());
        tail
    }

    /// As [`tail`], with its last entry pushed.
    fn in_parts(from_idx: u64, len: u64) -> Tail<u64> {
        let mut tail = tail(from_idx, len - 1);
        tail.push(from_idx + len - 1, 1);
        tail
    }

    #[test]
    fn cuts() {
        for made in [tail, in_parts] {
            for (cut, from_idx, end) in
                [(9, 5, 8), (8, 5, 8), (7, 5, 7), (6, 5, 6), (5, 5, 5), (3, 3, 3)]
            {
                let mut tail = made(5, 3);
                tail.cut(cut);
                assert_eq!((tail.start(), tail.end()), (from_idx, end), "cut at {cut}");
                assert_eq!(*tail.take().lock(), *(from_idx.max(5)..end.max(5)).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn drops_entries() {
        for made in [tail, in_parts] {
            for (idx, from_idx, end) in
                [(3, 5, 8), (5, 5, 8), (6, 6, 8), (7, 7, 8), (8, 8, 8), (9, 9, 9)]
            {
                let mut tail = made(5, 3);
                tail.drop_before(idx);
                assert_eq!((tail.start(), tail.end()), (from_idx, end), "compacted to {idx}");
                assert_eq!(*tail.take().lock(), *(from_idx..end).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn ranges() {
        for made in [tail, in_parts] {
            let tail = made(5, 3);
            for (from, to, found) in
                [(2, 7, vec![5, 6]), (6, 8, vec![6, 7]), (2, 4, vec![]), (8, 9, vec![])]
            {
                let mut visited = Vec::new();
                tail.visit(from, to, &mut |entry| visited.push(*entry));
                assert_eq!(visited, found, "{from}..{to}");
            }
        }
    }

    #[test]
    fn a_stop_sign_is_a_record_and_others_may_follow() {
        let visited = |tail: &Tail<u64>, from, to| {
            let mut visited = Vec::new();
            tail.visit(from, to, &mut |entry| visited.push(*entry));
            visited
        };
        for made in [tail, in_parts] {
            let mut tail = made(5, 3);
            tail.push_stopsign(StopSign::with(ClusterConfig::default(), None));
            assert_eq!((tail.start(), tail.end(), tail.entries()), (5, 9, 3));
            tail.push(9, 1);
            assert_eq!((tail.end(), visited(&tail, 7, 10)), (10, vec![7, 9]));
            for (cut, entries, stopsign) in [
                (10, vec![5, 6, 7, 9], Some(8)),
                (9, vec![5, 6, 7], Some(8)),
                (8, vec![5, 6, 7], None),
            ] {
                let mut tail = tail.clone();
                tail.cut(cut);
                assert_eq!((tail.end(), tail.stop_signs().next(0)), (cut, stopsign));
                assert_eq!(*tail.take().lock(), entries, "cut to {cut}");
                assert_eq!((tail.start(), tail.end()), (cut, cut));
            }
            tail.drop_before(9);
            assert_eq!((tail.start(), tail.end(), visited(&tail, 5, 10)), (9, 10, vec![9]));
        }
    }

    #[derive(Clone, Debug, PartialEq)]
    struct Huge;

    impl Entry for Huge {
        type Snapshot = NoSnapshot;
        crate::without_unicache!();

        fn size_hint(&self) -> usize {
            usize::MAX
        }
    }

    #[test]
    fn bytes_stop_at_the_end() {
        let mut tail = Tail::empty(0, StopSigns::default());
        tail.extend(SharedEntries::from(vec![Huge, Huge]).into());
        tail.count();
        assert_eq!(tail.bytes(), u64::MAX);
        tail.push(Huge, u64::MAX);
        assert_eq!(tail.bytes(), u64::MAX);
    }

    #[test]
    fn what_comes_alone_stays_shared() {
        let mut tail = Tail::empty(0, StopSigns::default());
        tail.extend(SharedEntries::from(vec![0, 1]).into());
        let place = tail.shared.lock().as_ptr();
        assert_eq!(tail.take().lock().as_ptr(), place);
        tail.push(2, 1);
        tail.extend(SharedEntries::from(vec![3]).into());
        tail.extend(SharedEntries::default().into());
        assert_eq!(*tail.take().lock(), [2, 3]);
        assert_eq!((tail.start(), tail.end()), (4, 4));
    }
}
