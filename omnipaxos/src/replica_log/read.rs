//! Reading the log.

use super::{named, Compacted, ReplicaLog};
use crate::{
    errors::Halted,
    log_entry::{LogEntry, SnapshottedEntry},
    shared_entries::SharedEntries,
    storage::{Entry, StopSign, Storage},
};

impl<T: Entry, B: Storage<T>> ReplicaLog<T, B> {
    /// The entries `from..to`, which must not be compacted and must all be there.
    pub(super) fn entries(&self, from: u64, to: u64) -> Result<Vec<T>, Halted> {
        let stored_to = to.min(self.tail.start());
        let mut entries =
            if from < stored_to { self.stored_entries(from, stored_to)? } else { Vec::new() };
        for part in self.tail.range(from.max(stored_to), to) {
            entries.extend_from_slice(part);
        }
        Ok(entries)
    }

    /// The entries `from..to`, which the storage must hold all: never a shorter answer.
    fn stored_entries(&self, from: u64, to: u64) -> Result<Vec<T>, Halted> {
        let (start, end) = self.stored_range(from, to)?;
        let read = named(self.storage.get_entries(start, end), &describe(from, to))?;
        whole(from, to, read.len())?;
        Ok(read)
    }

    /// As [`stored_entries`](Self::stored_entries), possibly shared with the storage.
    fn stored_shared(&self, from: u64, to: u64) -> Result<SharedEntries<T>, Halted> {
        let (start, end) = self.stored_range(from, to)?;
        let read = named(self.storage.get_shared(start, end), &describe(from, to))?;
        whole(from, to, read.len())?;
        Ok(read)
    }

    /// Indices as positions in what the storage holds.
    fn stored_range(&self, from: u64, to: u64) -> Result<(u64, u64), Halted> {
        let base = self.stored.compacted_idx;
        from.checked_sub(base).zip(to.checked_sub(base)).ok_or_else(|| {
            Halted::new(describe(from, to), format!("the entries before {base} are compacted"))
        })
    }

    /// The flushed entries `from..to` for a message; shared with other messages of this drain
    /// where they were flushed just now.
    pub(crate) fn sendable(&self, from: u64, to: u64) -> Result<SharedEntries<T>, Halted> {
        let (recent_idx, recent) = &self.recent;
        if from == to {
            return Ok(SharedEntries::default());
        }
        let slice = from.checked_sub(*recent_idx).and_then(|start| {
            let start = usize::try_from(start).ok()?;
            let end = usize::try_from(to.checked_sub(*recent_idx)?).ok()?;
            recent.slice(start..end)
        });
        match slice {
            Some(entries) => Ok(entries),
            None => self.stored_shared(from, to),
        }
    }

    /// Forgets the entries kept for the messages of this drain.
    pub(crate) fn forget_recent(&mut self) {
        if !self.recent.1.is_empty() {
            self.recent = (self.end(), SharedEntries::default());
        }
    }

    /// The snapshot of the entries before the compacted index.
    pub(super) fn snapshot(&self) -> Result<Option<T::Snapshot>, Halted> {
        match &self.compacted {
            Compacted::Bare => Ok(None),
            Compacted::Snapshot => named(self.storage.get_snapshot(), "read the snapshot"),
            Compacted::UnstoredSnapshot(snapshot) => Ok(Some(snapshot.clone())),
        }
    }

    /// The log from `from` up to `to`, as a user reads it. `None` if the range is empty or not all
    /// there.
    pub(crate) fn read(&self, from: u64, to: u64) -> Result<Option<Vec<LogEntry<T>>>, Halted> {
        if from >= to || to > self.len() {
            return Ok(None);
        }
        let mut read = Vec::new();
        if from < self.compacted_idx {
            read.push(self.compacted_entry()?);
        }
        let end = to.min(self.end());
        let from = from.max(self.compacted_idx);
        let decided_idx = self.decided_idx;
        let entries = if from < end { self.entries(from, end)? } else { Vec::new() };
        read.extend(entries.into_iter().zip(from..).map(|(entry, idx)| {
            if idx < decided_idx {
                LogEntry::Decided(entry)
            } else {
                LogEntry::Undecided(entry)
            }
        }));
        if to > end {
            read.extend(self.stopsign_entry());
        }
        Ok(Some(read))
    }

    /// As [`read`](ReplicaLog::read), but only what was decided, and stored before the storage
    /// failed.
    pub(crate) fn read_halted(
        &self,
        from: u64,
        to: u64,
    ) -> Result<Option<Vec<LogEntry<T>>>, Halted> {
        let is_torn = self.unstored.compaction;
        if is_torn || to > self.stored_decided_idx() {
            return Ok(None);
        }
        self.read(from, to)
    }

    fn compacted_entry(&self) -> Result<LogEntry<T>, Halted> {
        let idx = self.compacted_idx;
        Ok(match self.snapshot()? {
            Some(snapshot) => LogEntry::Snapshotted(SnapshottedEntry::with(idx, snapshot)),
            None => LogEntry::Trimmed(idx),
        })
    }

    fn stopsign_entry(&self) -> Option<LogEntry<T>> {
        let is_decided = self.decided_stopsign().is_some();
        self.stopsign.clone().map(|stopsign: StopSign| LogEntry::StopSign(stopsign, is_decided))
    }
}

/// Says what is read, for an error.
fn describe(from: u64, to: u64) -> String {
    format!("read entries {from}..{to}")
}

/// Refuses a shorter answer than `from..to`.
fn whole(from: u64, to: u64, read: usize) -> Result<(), Halted> {
    if read as u64 == to - from {
        return Ok(());
    }
    Err(Halted::new(describe(from, to), format!("it gave {read} entries")))
}
