//! Reads the entries that fit into a message.

use super::{
    records::{position, Records},
    Recent, ReplicaLog,
};
use crate::{
    amount::Amount,
    entry::SharedEntries,
    errors::Halted,
    storage::{Entry, Storage},
};

/// The largest factor by which a read may be longer than the one before it, which showed how large
/// entries are.
const GROWTH: u64 = 32;

/// Entries for a message.
#[derive(Debug)]
pub(crate) struct Part<T> {
    pub(crate) entries: SharedEntries<T>,
    pub(crate) amount: Amount,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self { entries: SharedEntries::default(), amount: Amount::default() }
    }
}

impl<T: Entry> Part<T> {
    /// Returns the first of `entries` that fit under `limit`, at least one.
    fn of(entries: SharedEntries<T>, limit: Amount) -> Self {
        let mut amount = Amount::default();
        for entry in entries.lock().iter() {
            let mut with = amount;
            with.add(Amount::one(entry.size_hint()));
            if !with.fits(limit) && amount.entries > 0 {
                break;
            }
            amount = with;
        }
        if amount.entries == entries.len() as u64 {
            return Self { entries, amount };
        }
        let entries = entries.slice(0..position(amount.entries)).unwrap_or_default();
        Self { entries, amount }
    }
}

impl<T: Entry, B: Storage<T>> ReplicaLog<T, B> {
    /// Returns the first of the [sendable](Self::sendable_len) entries `from..to` that come before the
    /// next stop sign and fit under `limit`, at least one if there are any. Entries of the last flush
    /// are shared with other messages of this output.
    pub(crate) fn sendable(&self, from: u64, to: u64, limit: Amount) -> Result<Part<T>, Halted> {
        self.sendable_within(from, to, limit, limit)
    }

    /// Does the same as [`sendable`](Self::sendable). Entries that must be read from the storage also fit under
    /// `of_stored`.
    #[inline]
    pub(crate) fn sendable_within(
        &self,
        from: u64,
        to: u64,
        limit: Amount,
        of_stored: Amount,
    ) -> Result<Part<T>, Halted> {
        let to = self.tail.stop_signs().next(from).map_or(to, |idx| to.min(idx));
        if from >= to {
            return Ok(Part::default());
        }
        let Recent { from_idx, entries, amount } = &self.recent;
        if from == *from_idx && to == from + amount.entries && amount.fits(limit) {
            return Ok(Part { entries: entries.clone(), amount: *amount });
        }
        let slice = from.checked_sub(*from_idx).and_then(|start| {
            let start = usize::try_from(start).ok()?;
            let end = usize::try_from(to.checked_sub(*from_idx)?).ok()?;
            entries.slice(start..end)
        });
        match slice {
            Some(entries) => Ok(Part::of(entries, limit)),
            None => self.stored_part(from, to, limit.min(of_stored)),
        }
    }

    /// Returns [`sendable`](Self::sendable) entries, and the stop sign if it is the next of these
    /// records.
    pub(super) fn sendable_records(
        &self,
        from: u64,
        to: u64,
        limit: Amount,
    ) -> Result<Records<T>, Halted> {
        let part = self.sendable(from, to, limit)?;
        Ok(self.with_stopsign(part, from, to))
    }

    /// Adds the stop sign to a part that begins at `from`, if it is the next record before `to`.
    pub(super) fn with_stopsign(&self, part: Part<T>, from: u64, to: u64) -> Records<T> {
        let Part { entries, amount } = part;
        let end = from + amount.entries;
        let stopsign = self.stopsign_at(end).filter(|_| end < to).cloned().map(Box::new);
        Records { entries, stopsign }
    }

    /// Does the same as [`sendable`](Self::sendable), from the storage. Reads beyond the limit are
    /// bounded: it reads a few entries to learn their size, and then more.
    fn stored_part(&self, from: u64, to: u64, limit: Amount) -> Result<Part<T>, Halted> {
        let most = (to - from).min(limit.entries.max(1));
        let mut count = 1;
        loop {
            let part = Part::of(self.stored_shared(from, from + count)?, limit);
            let is_full = part.amount.entries < count || part.amount.bytes >= limit.bytes;
            if is_full || count == most {
                return Ok(part);
            }
            let fit = limit.bytes.saturating_mul(count) / part.amount.bytes.max(1);
            count = fit.clamp(2 * count, GROWTH * count).min(most);
        }
    }

    /// Returns the index after the entries of the last flush, and their amount, if the messages of
    /// this output may [send](Self::sendable) them.
    pub(crate) fn recent(&self) -> (u64, Amount) {
        (self.recent.from_idx + self.recent.amount.entries, self.recent.amount)
    }

    /// Returns the entries of the last flush, with the index of the first, if the messages of this
    /// output may [send](Self::sendable) them.
    pub(crate) fn recent_entries(&self) -> (u64, &SharedEntries<T>) {
        (self.recent.from_idx, &self.recent.entries)
    }

    /// Returns whether the entry at `idx` is one of the last flush.
    pub(crate) fn is_recent(&self, idx: u64) -> bool {
        let Recent { from_idx, amount, .. } = &self.recent;
        (*from_idx..from_idx + amount.entries).contains(&idx)
    }

    /// Forgets the entries kept for the messages of this output.
    pub(crate) fn forget_recent(&mut self) {
        if !self.recent.entries.is_empty() {
            self.recent = Recent::default();
        }
    }

    /// Returns the amount of undecided entries in the log. The amount of those that are `stored` is
    /// given.
    pub(crate) fn undecided(&self, stored: Amount) -> Amount {
        Amount {
            entries: self.entries_among(self.decided_idx, self.len()),
            bytes: stored.bytes.saturating_add(self.tail.bytes()),
        }
    }

    /// Counts the undecided entries; later ones are counted as they are appended. Returns the index
    /// after the stored ones, and their amount.
    pub(crate) fn count_undecided(&mut self) -> Result<(u64, Amount), Halted> {
        self.tail.count();
        let (from, to) = (self.decided_idx, self.tail.start());
        let mut stored = Amount::default();
        let end = match from < to {
            true => self.visit(from, to, &mut |e| stored.add(Amount::one(e.size_hint())))?,
            false => None,
        };
        Ok((end.unwrap_or(to), stored))
    }
}

#[cfg(test)]
mod tests {
    use super::{Amount, Part, SharedEntries};
    use crate::storage::{Entry, NoSnapshot};

    #[derive(Clone, Debug, PartialEq)]
    struct Sized(usize);

    impl Entry for Sized {
        type Snapshot = NoSnapshot;
        crate::without_unicache!();

        fn size_hint(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn as_many_as_fit_and_at_least_one() {
        let entries = SharedEntries::from(vec![Sized(5), Sized(3), Sized(4), Sized(1)]);
        for (most, bytes, count, sum) in
            [(9, 99, 4, 13), (2, 99, 2, 8), (9, 8, 2, 8), (9, 9, 2, 8), (9, 1, 1, 5), (0, 0, 1, 5)]
        {
            let limit = Amount { entries: most, bytes };
            let part = Part::of(entries.clone(), limit);
            assert_eq!(part.amount, Amount { entries: count, bytes: sum }, "{limit:?}");
            assert_eq!(part.entries.len() as u64, count);
        }
    }
}
