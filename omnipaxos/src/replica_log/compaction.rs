//! Compacts decided entries: by a trim, or with a snapshot.

use super::{Compacted, ReplicaLog};
use crate::{
    errors::{CompactionErr, Halted, TryCompactionErr},
    storage::{Entry, Snapshot, Storage},
};

impl<T: Entry, B: Storage<T>> ReplicaLog<T, B> {
    /// Trims the entries before `idx`, which every server has. If a snapshot stands for earlier
    /// entries, it takes in the trimmed ones, since it would otherwise be incomplete.
    pub(crate) fn trim(&mut self, idx: u64) -> Result<(), TryCompactionErr> {
        self.check_compaction(idx)?;
        match self.compacted {
            Compacted::Trimmed => {
                self.raise_compacted_idx(idx);
                Ok(())
            }
            Compacted::Snapshot | Compacted::UnstoredSnapshot(_) | Compacted::Received => {
                self.take_snapshot(idx)
            }
        }
    }

    /// Replaces the entries before `idx` by a snapshot.
    pub(crate) fn take_snapshot(&mut self, idx: u64) -> Result<(), TryCompactionErr> {
        self.check_compaction(idx)?;
        if self.is_trimmed() {
            return Err(CompactionErr::TrimmedIndex(self.compacted_idx).into());
        }
        if idx > self.compacted_idx {
            if !T::Snapshot::can_create() {
                return Err(TryCompactionErr::NotFromEntries);
            }
            let snapshot = self.snapshot_until(idx)?;
            if let Some(snapshot) = &snapshot {
                self.check_own_snapshot(idx, snapshot).map_err(TryCompactionErr::Unstorable)?;
            }
            self.unstored.compaction = true;
            self.unstored.needs_durable_snapshot = !self.may_become_durable_later(idx);
            self.compacted = snapshot.map_or(Compacted::Trimmed, Compacted::UnstoredSnapshot);
            self.raise_compacted_idx(idx);
        }
        Ok(())
    }

    /// Replaces the entries before `idx` by a snapshot that the application made. It may also
    /// replace trimmed entries. A snapshot of the same index stays as it is.
    pub(crate) fn compact_with(
        &mut self,
        idx: u64,
        snapshot: T::Snapshot,
    ) -> Result<(), TryCompactionErr> {
        self.check_compaction(idx)?;
        if idx > self.compacted_idx || self.is_trimmed() {
            self.check_own_snapshot(idx, &snapshot).map_err(TryCompactionErr::Unstorable)?;
            self.unstored.compaction = true;
            self.unstored.needs_durable_snapshot = !self.may_become_durable_later(idx);
            self.compacted = Compacted::UnstoredSnapshot(snapshot);
            self.raise_compacted_idx(idx);
        }
        Ok(())
    }

    fn check_compaction(&self, idx: u64) -> Result<(), CompactionErr> {
        if idx > self.decided_before_stopsign() {
            return Err(CompactionErr::UndecidedIndex(self.decided_idx));
        }
        if idx < self.compacted_idx {
            return Err(CompactionErr::TrimmedIndex(self.compacted_idx));
        }
        Ok(())
    }

    /// Returns whether a snapshot of the first `idx` entries, which are decided, may become durable
    /// after the flush that writes it (I24).
    ///
    /// The storage must hold what the snapshot stands for: all entries before `idx` that are not in
    /// its present snapshot, as they were decided. Entries of the storage from the beginning of the
    /// tail on are out of date. Before a trimmed index nothing stands for the entries.
    pub(super) fn may_become_durable_later(&self, idx: u64) -> bool {
        let is_stored = idx <= self.tail.start();
        let is_whole = self.stored.compacted_idx == 0 || !self.is_trimmed();
        is_stored && is_whole && !self.unstored.needs_durable_snapshot
    }

    pub(super) fn raise_compacted_idx(&mut self, idx: u64) {
        if idx > self.compacted_idx {
            self.compacted_idx = idx;
            self.tail.drop_before(idx);
            self.unstored.compaction = true;
        }
    }

    /// Returns a snapshot of the first `idx` entries, which must be decided. `None` if `idx` is 0,
    /// or if the first of them were trimmed.
    pub(super) fn snapshot_until(&self, idx: u64) -> Result<Option<T::Snapshot>, Halted> {
        if self.is_trimmed() {
            return Ok(None);
        }
        let earlier = self.snapshot()?;
        if idx == self.compacted_idx {
            return Ok(earlier);
        }
        let later = T::Snapshot::create(&self.entries(self.compacted_idx, idx)?);
        Ok(Some(match earlier {
            Some(mut snapshot) => {
                snapshot.merge(later);
                snapshot
            }
            None => later,
        }))
    }
}
