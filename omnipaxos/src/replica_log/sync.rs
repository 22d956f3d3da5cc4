//! Synchronises logs: the entries that one lacks of another, in a promise and an AcceptSync (paper
//! §4.1.2).

use super::{
    records::{checked_end, Records},
    ReplicaLog,
};
use crate::{
    amount::Amount,
    errors::Halted,
    messages::sequence_paxos::{EntryIds, LogSync},
    storage::{Entry, Storage},
};

/// The result of a [`LogSync`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Synced {
    /// The log is now that of the sender.
    Applied,
    /// It ends before the decided index of this log: its sender was overtaken.
    Overtaken,
    /// It begins beyond the end of this log.
    Gap,
}

/// The result of entries from the leader of the accepted round.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Extended {
    /// All of them are in the log.
    Appended,
    /// They begin beyond the end of the log.
    Gap,
}

impl<T: Entry> LogSync<T> {
    /// Returns the length of the resulting log; `None` if it overflows.
    pub(crate) fn len(&self) -> Option<u64> {
        checked_end(self.suffix_idx, self.suffix.len(), self.stopsign.as_ref())
    }

    /// Returns the amount of its entries.
    pub(crate) fn amount(&self) -> Amount {
        let mut amount = Amount::default();
        self.suffix.lock().iter().for_each(|entry| amount.add(Amount::one(entry.size_hint())));
        amount
    }
}

impl<T: Entry, B: Storage<T>> ReplicaLog<T, B> {
    /// Builds the entries that another log lacks to become this one, within `limit`.
    ///
    /// `decided_idx` is the decided index of the other log. The result reaches at least
    /// `must_reach`, even beyond the limit. It is `None` if the receiver must first [catch
    /// up](Self::chunk) on decided entries: they are in a snapshot here, exceed a message, or the
    /// receiver accepts a delta instead.
    ///
    /// It begins at the receiver's decided index: two undecided tails are never joined. If that
    /// index is trimmed here, it begins at the trimmed index, since a trim in the present epoch proves that
    /// every member holds the entries before it. It contains entries only: a snapshot travels only in a chunk.
    pub(crate) fn build_sync(
        &self,
        decided_idx: u64,
        takes_delta: bool,
        must_reach: u64,
        limit: Amount,
    ) -> Result<Option<LogSync<T>>, Halted> {
        let base = decided_idx.min(self.entries_end());
        let is_snapshot = base < self.compacted_idx && !self.is_trimmed();
        if is_snapshot || (takes_delta && self.is_worth_a_delta(base)) {
            return Ok(None);
        }
        let suffix_idx = base.max(self.compacted_idx);
        let len = self.len();
        let mut suffix = self.sendable_records(suffix_idx, len, limit)?;
        if suffix.end(suffix_idx) < must_reach {
            if self.decided_idx > decided_idx {
                return Ok(None);
            }
            let entries = self.entries_among(suffix_idx, must_reach);
            let limit = Amount { entries, ..Amount::UNLIMITED };
            suffix = self.sendable_records(suffix_idx, len, limit)?;
        }
        let Records { entries: suffix, stopsign } = suffix;
        let ids = self.ids.of(decided_idx, suffix_idx + suffix.len() as u64);
        let stopsign = stopsign.map(|stopsign| *stopsign);
        Ok(Some(LogSync { suffix_idx, suffix, ids, stopsign }))
    }

    /// Replaces this log by that of the sender, except decided entries.
    pub(crate) fn apply(&mut self, sync: LogSync<T>) -> Synced {
        let Some(len) = sync.len() else {
            return Synced::Gap;
        };
        if len < self.decided_idx {
            return Synced::Overtaken;
        }
        if self.decided_stopsign().is_some() {
            return Synced::Applied;
        }
        let LogSync { suffix_idx, suffix, ids, stopsign } = sync;
        if suffix_idx > self.entries_end() {
            return Synced::Gap;
        }
        self.ids.materialize_ids(self.len());
        self.replace_undecided(
            suffix_idx,
            Records { entries: suffix, stopsign: stopsign.map(Box::new) },
        );
        self.replace_ids(suffix_idx.max(self.decided_idx), ids);
        Synced::Applied
    }

    /// Replaces the log from `from_idx` on, except decided entries.
    pub(super) fn replace_undecided(&mut self, from_idx: u64, records: Records<T>) {
        let keep = from_idx.max(self.decided_idx);
        self.cut(keep);
        self.append_records(records.after(keep - from_idx));
    }

    /// Replaces the ids from `from_idx` on by those of a message that replaced the entries.
    pub(super) fn replace_ids(&mut self, from_idx: u64, ids: Option<Box<EntryIds>>) {
        self.ids.cut(from_idx);
        self.ids.extend(ids, from_idx, self.len());
        self.ids.accept_in(self.accepted_round, self.len());
    }

    /// Appends the records from `from_idx` on that the leader of this round sent. This log is a prefix
    /// of its log, unless that leader was overtaken (I8).
    #[inline]
    pub(crate) fn extend(
        &mut self,
        from_idx: u64,
        records: Records<T>,
        ids: Option<Box<EntryIds>>,
    ) -> Extended {
        let len_before = self.len();
        if from_idx > len_before {
            return Extended::Gap;
        }
        if self.stopsign().is_none() {
            self.append_records(records.after(len_before - from_idx));
            self.ids.extend(ids, len_before, self.len());
        }
        Extended::Appended
    }

    /// Applies an AcceptSync of the round in which this log was accepted already.
    pub(crate) fn extend_by(&mut self, sync: LogSync<T>) -> Extended {
        let LogSync { suffix_idx, suffix, ids, stopsign } = sync;
        self.ids.materialize_ids(self.len());
        let records = Records { entries: suffix, stopsign: stopsign.map(Box::new) };
        let extended = self.extend(suffix_idx, records, ids);
        self.ids.accept_in(self.accepted_round, self.len());
        extended
    }
}
