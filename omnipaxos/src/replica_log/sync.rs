//! Synchronises logs: what one lacks of another, in a promise and an AcceptSync (paper §4.1.2).

use super::ReplicaLog;
use crate::{
    amount::Amount,
    entry::SharedEntries,
    errors::Halted,
    messages::sequence_paxos::{EntryIds, LogSync},
    storage::{Entry, StopSign, Storage},
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
        let entries = u64::try_from(self.suffix.len()).ok()?;
        self.suffix_idx.checked_add(entries)?.checked_add(u64::from(self.stopsign.is_some()))
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
    /// index is trimmed here, it begins at the trimmed index, since a trim proves that every server
    /// holds the entries before it. It contains entries only: a snapshot travels only in a chunk.
    pub(crate) fn build_sync(
        &self,
        decided_idx: u64,
        takes_delta: bool,
        must_reach: u64,
        limit: Amount,
    ) -> Result<Option<LogSync<T>>, Halted> {
        let base = decided_idx.min(self.end());
        let is_snapshot = base < self.compacted_idx && !self.is_trimmed();
        if is_snapshot || (takes_delta && self.is_worth_a_delta(base)) {
            return Ok(None);
        }
        let suffix_idx = base.max(self.compacted_idx);
        let must_reach = must_reach.min(self.end());
        let mut suffix = self.sendable(suffix_idx, self.end(), limit)?;
        if suffix_idx + suffix.amount.entries < must_reach {
            if self.decided_end() > decided_idx {
                return Ok(None);
            }
            suffix = self.sendable(suffix_idx, must_reach, Amount::UNLIMITED)?;
        }
        let is_whole = suffix_idx + suffix.amount.entries == self.end();
        let stopsign = self.stopsign.clone().filter(|_| is_whole);
        let suffix = suffix.entries;
        let ids = self.ids.of(decided_idx, suffix_idx + suffix.len() as u64);
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
        if suffix_idx > self.end() {
            return Synced::Gap;
        }
        self.ids.materialize_ids(self.end());
        self.replace_undecided(suffix_idx, suffix, stopsign);
        self.replace_ids(suffix_idx.max(self.decided_idx), ids);
        Synced::Applied
    }

    /// Replaces the log from `from_idx` on, except decided entries.
    pub(super) fn replace_undecided(
        &mut self,
        from_idx: u64,
        entries: SharedEntries<T>,
        stopsign: Option<StopSign>,
    ) {
        let keep = from_idx.max(self.decided_idx);
        self.tail.cut(keep);
        self.tail.extend(after(entries, keep - from_idx));
        self.set_stopsign(stopsign);
    }

    /// Replaces the ids from `from_idx` on by those of a message that replaced the entries.
    pub(super) fn replace_ids(&mut self, from_idx: u64, ids: Option<Box<EntryIds>>) {
        self.ids.cut(from_idx);
        self.ids.extend(ids, from_idx, self.end());
        self.ids.accept_in(self.accepted_round, self.end());
    }

    /// Appends entries that the leader of this round sent. This log is a prefix of its log.
    pub(crate) fn extend(
        &mut self,
        from_idx: u64,
        entries: SharedEntries<T>,
        ids: Option<Box<EntryIds>>,
    ) -> Extended {
        if from_idx > self.end() {
            return Extended::Gap;
        }
        if self.stopsign.is_none() {
            let end_before = self.end();
            self.tail.extend(after(entries, end_before - from_idx));
            self.ids.extend(ids, end_before, self.end());
        }
        Extended::Appended
    }

    /// Appends the stop sign that the leader of this round sent. Its index is `idx`.
    pub(crate) fn extend_stopsign(&mut self, idx: u64, stopsign: StopSign) -> Extended {
        if idx > self.end() {
            return Extended::Gap;
        }
        if idx == self.end() && self.stopsign.is_none() {
            self.append_stopsign(stopsign);
        }
        Extended::Appended
    }

    /// Applies an AcceptSync of the round in which this log was accepted already.
    pub(crate) fn extend_by(&mut self, sync: LogSync<T>) -> Extended {
        let LogSync { suffix_idx, suffix, ids, stopsign } = sync;
        self.ids.materialize_ids(self.end());
        let end = suffix_idx.saturating_add(suffix.len() as u64);
        let extended = self.extend(suffix_idx, suffix, ids);
        self.ids.accept_in(self.accepted_round, self.end());
        match (extended, stopsign) {
            (Extended::Gap, _) => Extended::Gap,
            (Extended::Appended, Some(stopsign)) => self.extend_stopsign(end, stopsign),
            (Extended::Appended, None) => Extended::Appended,
        }
    }
}

/// Returns the entries without the first `skip`.
fn after<T>(entries: SharedEntries<T>, skip: u64) -> SharedEntries<T> {
    if skip == 0 {
        return entries;
    }
    entries.slice(super::tail::position(skip)..entries.len()).unwrap_or_default()
}
