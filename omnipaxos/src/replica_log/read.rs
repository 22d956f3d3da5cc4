//! Reads the log.

use super::{named, Compacted, ReplicaLog};
use crate::{
    entry::SharedEntries,
    errors::Halted,
    log_entry::{LogEntry, SnapshottedEntry},
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> ReplicaLog<T, B> {
    /// Returns the entries among the records `from..to`, which must exist and not be compacted.
    pub(super) fn entries(&self, from: u64, to: u64) -> Result<Vec<T>, Halted> {
        let stored_to = to.min(self.tail.start());
        let mut entries =
            if from < stored_to { self.stored_entries(from, stored_to)? } else { Vec::new() };
        self.tail.visit(from.max(stored_to), to, &mut |entry| entries.push(entry.clone()));
        Ok(entries)
    }

    /// Visits the same entries as [`entries`](Self::entries) returns.
    fn visit_all(&self, from: u64, to: u64, visit: &mut dyn FnMut(&T)) -> Result<(), Halted> {
        let stored_to = to.min(self.tail.start());
        if from < stored_to {
            self.visit_stored(from, stored_to, visit)?;
        }
        if stored_to < to {
            self.tail.visit(from.max(stored_to), to, visit);
        }
        Ok(())
    }

    fn visit_stored(&self, from: u64, to: u64, visit: &mut dyn FnMut(&T)) -> Result<(), Halted> {
        let (start, end) = self.stored_range(from, to)?;
        let mut visited = 0;
        let mut count = |entry: &T| {
            visited += 1;
            visit(entry);
        };
        self.storage
            .for_each(start, end, &mut count)
            .map_err(|cause| Halted::new(describe(from, to), cause))?;
        self.whole(from, to, visited)
    }

    /// Returns the entries `from..to`. The storage must hold all of them; fewer are an error.
    fn stored_entries(&self, from: u64, to: u64) -> Result<Vec<T>, Halted> {
        let (start, end) = self.stored_range(from, to)?;
        let read = self
            .storage
            .get_entries(start, end)
            .map_err(|cause| Halted::new(describe(from, to), cause))?;
        self.whole(from, to, read.len())?;
        Ok(read)
    }

    /// Returns the entries `from..to`, possibly shared with the storage; fewer are an error.
    pub(super) fn stored_shared(&self, from: u64, to: u64) -> Result<SharedEntries<T>, Halted> {
        let (start, end) = self.stored_range(from, to)?;
        let read = self
            .storage
            .get_shared(start, end)
            .map_err(|cause| Halted::new(describe(from, to), cause))?;
        self.whole(from, to, read.len())?;
        Ok(read)
    }

    /// Refuses an answer that is shorter than the entries `from..to`.
    #[inline]
    fn whole(&self, from: u64, to: u64, read: usize) -> Result<(), Halted> {
        if read as u64 == self.entries_among(from, to) {
            return Ok(());
        }
        Err(Halted::new(describe(from, to), format!("it gave {read} entries")))
    }

    /// Converts indices to positions among the entries held by the storage.
    fn stored_range(&self, from: u64, to: u64) -> Result<(u64, u64), Halted> {
        let base = self.stored.compacted_idx;
        if from.min(to) < base {
            let cause = format!("the entries before {base} are compacted");
            return Err(Halted::new(describe(from, to), cause));
        }
        Ok((self.entries_among(base, from), self.entries_among(base, to)))
    }

    /// Returns the snapshot of the entries before the compacted index.
    pub(super) fn snapshot(&self) -> Result<Option<T::Snapshot>, Halted> {
        match &self.compacted {
            Compacted::Trimmed => Ok(None),
            Compacted::Snapshot => named(self.storage.get_snapshot(), "read the snapshot"),
            Compacted::UnstoredSnapshot(snapshot) => Ok(Some(snapshot.clone())),
            Compacted::Received => {
                Err(Halted::new("read the snapshot", "the received snapshot is not written"))
            }
        }
    }

    /// Returns the log from `from` up to `to`, in the form for users. `None` if the range is empty
    /// or reaches beyond the end.
    pub(crate) fn read(&self, from: u64, to: u64) -> Result<Option<Vec<LogEntry<T>>>, Halted> {
        if from >= to || to > self.len() {
            return Ok(None);
        }
        let mut idx = from.max(self.compacted_idx);
        let entries = if idx < to { self.entries(idx, to)? } else { Vec::new() };
        let mut read = Vec::with_capacity(entries.len() + 1);
        if from < self.compacted_idx {
            read.push(self.compacted_entry()?);
        }
        let mut entries = entries.into_iter();
        while idx < to {
            read.extend(match self.stopsign_entry(idx) {
                Some(stopsign) => Some(stopsign),
                None => entries.next().map(|entry| self.as_read(entry, idx)),
            });
            idx += 1;
        }
        Ok(Some(read))
    }

    /// Returns the entry at `idx`, in the form for users; `None` beyond the end.
    pub(crate) fn read_one(&self, idx: u64) -> Result<Option<LogEntry<T>>, Halted> {
        if idx < self.compacted_idx {
            return self.compacted_entry().map(Some);
        }
        if idx >= self.len() {
            return Ok(None);
        }
        if let Some(stopsign) = self.stopsign_entry(idx) {
            return Ok(Some(stopsign));
        }
        let mut read = None;
        self.visit_all(idx, idx + 1, &mut |entry| read = Some(entry.clone()))?;
        Ok(read.map(|entry| self.as_read(entry, idx)))
    }

    fn as_read(&self, entry: T, idx: u64) -> LogEntry<T> {
        if idx < self.decided_idx {
            LogEntry::Decided(entry)
        } else {
            LogEntry::Undecided(entry)
        }
    }

    /// Does the same as [`read`](ReplicaLog::read) for entries that were decided and stored before
    /// the replica halted.
    pub(crate) fn read_halted(
        &self,
        from: u64,
        to: u64,
    ) -> Result<Option<Vec<LogEntry<T>>>, Halted> {
        if self.is_torn() || to > self.stored_decided_idx() {
            return Ok(None);
        }
        self.read(from, to)
    }

    /// Returns whether a failed write left the indices of the storage unknown.
    pub(crate) fn is_torn(&self) -> bool {
        self.unstored.compaction
    }

    /// Visits the entries from `from` up to index `to`, without the stop sign. Returns the index
    /// after the last one. It returns `None`, without a visit, if some are compacted or do not
    /// exist.
    pub(crate) fn visit(
        &self,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(&T),
    ) -> Result<Option<u64>, Halted> {
        let to = to.min(self.entries_end());
        if from > to || from < self.compacted_idx {
            return Ok(None);
        }
        self.visit_all(from, to, visit)?;
        Ok(Some(to))
    }

    fn compacted_entry(&self) -> Result<LogEntry<T>, Halted> {
        let idx = self.compacted_idx;
        Ok(match self.snapshot()? {
            Some(snapshot) => LogEntry::Snapshotted(SnapshottedEntry::with(idx, snapshot)),
            None => LogEntry::Trimmed(idx),
        })
    }

    /// Returns the stop sign in the form for users, if its index is `idx`.
    fn stopsign_entry(&self, idx: u64) -> Option<LogEntry<T>> {
        let stopsign = self.stopsign_at(idx)?.clone();
        Some(LogEntry::StopSign(stopsign, idx < self.decided_idx))
    }
}

/// Describes a read, for an error.
fn describe(from: u64, to: u64) -> String {
    format!("read entries {from}..{to}")
}
