//! What one log lacks of another: told in a promise and in an AcceptSync (paper §4.1.2).

use super::ReplicaLog;
use crate::{
    amount::Amount,
    entry::SharedEntries,
    errors::Halted,
    messages::sequence_paxos::{EntryIds, LogSync},
    storage::{Entry, Snapshot, SnapshotType, StopSign, Storage},
};

/// The least number of decided entries that travel as a delta snapshot, where the receiver wants
/// one. Fewer travel as they are.
const LEAST_DELTA: u64 = 8;

/// What became of a [`LogSync`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Synced {
    /// The log is now that of the sender.
    Applied,
    /// It ends before what is decided here: its sender was overtaken.
    Overtaken,
    /// It does not begin where this log can take it.
    Gap,
}

/// What became of entries that a leader in the same round sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Extended {
    /// All of them are in the log.
    Appended,
    /// They begin beyond the end of the log.
    Gap,
}

impl<T: Entry> LogSync<T> {
    /// Length of the log that this makes, `None` if there is no such index.
    pub(crate) fn len(&self) -> Option<u64> {
        let entries = u64::try_from(self.suffix.len()).ok()?;
        self.suffix_idx.checked_add(entries)?.checked_add(u64::from(self.stopsign.is_some()))
    }

    /// How much its entries are.
    pub(crate) fn amount(&self) -> Amount {
        let mut amount = Amount::default();
        self.suffix.lock().iter().for_each(|entry| amount.add(Amount::one(entry.size_hint())));
        amount
    }
}

impl<T: Entry, B: Storage<T>> ReplicaLog<T, B> {
    /// What a log lacks that is decided up to `decided_idx`, so as to become this one, as far as
    /// `limit` allows; but up to `must_reach` in any case. `None` if that is too much for a message
    /// since it lacks entries that are decided here: it must [learn](Self::chunk) those first.
    ///
    /// It begins at the receiver's decided index: two undecided tails are never spliced. Where
    /// that was trimmed here, it begins at the trimmed index, since a trim proves that every
    /// server holds what it covers; where a snapshot covers it, with the whole snapshot. What this
    /// log holds travels as entries (I16), unless the receiver wants a delta.
    pub(crate) fn build_sync(
        &self,
        decided_idx: u64,
        takes_delta: bool,
        must_reach: u64,
        limit: Amount,
    ) -> Result<Option<LogSync<T>>, Halted> {
        let base = decided_idx.min(self.end());
        let decided_end = self.decided_end();
        let (base, snapshot, suffix_idx) = if base < self.compacted_idx {
            match self.snapshot()? {
                Some(snapshot) => (0, Some(SnapshotType::Complete(snapshot)), self.compacted_idx),
                None => (self.compacted_idx, None, self.compacted_idx),
            }
        } else if takes_delta && T::Snapshot::use_snapshots() && decided_end >= base + LEAST_DELTA {
            let decided = self.sendable(base, decided_end, limit)?;
            if base + decided.amount.entries < decided_end {
                return Ok(None);
            }
            let delta = T::Snapshot::create(&decided.entries.lock());
            match self.check_snapshot(&delta) {
                Ok(()) => (base, Some(SnapshotType::Delta(delta)), decided_end),
                // The receiver could hardly store it either: it gets the entries.
                Err(_) => (base, None, base),
            }
        } else {
            (base, None, base)
        };
        let must_reach = must_reach.min(self.end());
        let mut suffix = self.sendable(suffix_idx, self.end(), limit)?;
        if suffix_idx + suffix.amount.entries < must_reach {
            if decided_end > decided_idx {
                return Ok(None);
            }
            suffix = self.sendable(suffix_idx, must_reach, Amount::UNLIMITED)?;
        }
        let is_whole = suffix_idx + suffix.amount.entries == self.end();
        let stopsign = self.stopsign.clone().filter(|_| is_whole);
        let suffix = suffix.entries;
        let ids = self.ids.of(decided_idx, suffix_idx + suffix.len() as u64);
        Ok(Some(LogSync { base, snapshot, suffix_idx, suffix, ids, stopsign }))
    }

    /// Makes this log that of the sender, but for what is decided here.
    pub(crate) fn apply(&mut self, sync: LogSync<T>) -> Result<Synced, Halted> {
        let Some(len) = sync.len() else {
            return Ok(Synced::Gap);
        };
        if len < self.decided_idx {
            return Ok(Synced::Overtaken);
        }
        if self.decided_stopsign().is_some() {
            return Ok(Synced::Applied);
        }
        let LogSync { base, snapshot, suffix_idx, suffix, ids, stopsign } = sync;
        let decided_before = self.decided_idx;
        let is_newer = suffix_idx > decided_before;
        self.ids.materialize_ids(self.end());
        let mut replaced_from = suffix_idx.max(decided_before);
        match snapshot {
            Some(SnapshotType::Complete(snapshot)) if is_newer => {
                self.install(suffix_idx, snapshot)?;
                replaced_from = decided_before;
            }
            Some(SnapshotType::Delta(delta)) if is_newer => {
                if base != self.decided_idx || !self.can_merge_delta() {
                    return Ok(Synced::Gap);
                }
                let merged = match self.snapshot_until(base)? {
                    Some(mut snapshot) => {
                        snapshot.merge(delta);
                        snapshot
                    }
                    None => delta,
                };
                if self.check_snapshot(&merged).is_err() {
                    self.has_refused_delta = true;
                    return Ok(Synced::Gap);
                }
                self.install(suffix_idx, merged)?;
                replaced_from = decided_before;
            }
            Some(_) | None => {}
        }
        if suffix_idx > self.end() {
            return Ok(Synced::Gap);
        }
        self.replace_undecided(suffix_idx, suffix, stopsign);
        self.replace_ids(replaced_from, ids);
        Ok(Synced::Applied)
    }

    /// Replaces the log from `from_idx` on, but for what is decided here.
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

    /// A message that replaced entries from `from_idx` on tells their ids.
    pub(super) fn replace_ids(&mut self, from_idx: u64, ids: Option<Box<EntryIds>>) {
        self.ids.cut(from_idx);
        self.ids.extend(ids, from_idx, self.end());
        self.ids.accept_in(self.accepted_round, self.end());
    }

    /// Appends what the leader of this round sent: of its log, this one is a prefix.
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

    /// Appends the stop sign that the leader of this round sent, which is its entry `idx`.
    pub(crate) fn extend_stopsign(&mut self, idx: u64, stopsign: StopSign) -> Extended {
        if idx > self.end() {
            return Extended::Gap;
        }
        if idx == self.end() && self.stopsign.is_none() {
            self.append_stopsign(stopsign);
        }
        Extended::Appended
    }

    /// Takes an AcceptSync of the round in which this log was accepted already.
    pub(crate) fn extend_by(&mut self, sync: LogSync<T>) -> Result<Extended, Halted> {
        let LogSync { base: _, snapshot, suffix_idx, suffix, ids, stopsign } = sync;
        self.ids.materialize_ids(self.end());
        match snapshot {
            Some(SnapshotType::Complete(snapshot)) if suffix_idx > self.len() => {
                let decided_before = self.decided_idx;
                self.install(suffix_idx, snapshot)?;
                self.ids.extend(ids.clone(), decided_before, suffix_idx);
            }
            Some(SnapshotType::Complete(_) | SnapshotType::Delta(_)) | None => {}
        }
        let end = suffix_idx.saturating_add(suffix.len() as u64);
        let extended = self.extend(suffix_idx, suffix, ids);
        self.ids.accept_in(self.accepted_round, self.end());
        Ok(match (extended, stopsign) {
            (Extended::Gap, _) => Extended::Gap,
            (Extended::Appended, Some(stopsign)) => self.extend_stopsign(end, stopsign),
            (Extended::Appended, None) => Extended::Appended,
        })
    }
}

/// The entries without the first `skip`.
fn after<T>(entries: SharedEntries<T>, skip: u64) -> SharedEntries<T> {
    if skip == 0 {
        return entries;
    }
    entries.slice(super::tail::position(skip)..entries.len()).unwrap_or_default()
}
