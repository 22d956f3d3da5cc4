//! Writes all changes at once.

use super::{Compacted, Recent, ReplicaLog, Stored, Unstored};
use crate::{
    amount::Amount,
    errors::Halted,
    storage::{Entry, Storage, StorageOp},
};

/// Which parts read the entries of a flush.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// The storage only.
    Storage,
    /// The storage, and the messages of this output: see [`ReplicaLog::sendable`].
    StorageAndMessages,
}

/// Which call of the storage writes the changes.
#[derive(Copy, Clone)]
enum Write {
    Atomic,
    Compaction,
    Received,
}

impl<T: Entry, B: Storage<T>> ReplicaLog<T, B> {
    /// Writes the changes with at most one `write_atomically`.
    ///
    /// If a storage applies operations one by one, their order makes a crash between them safe:
    /// promise, log, epochs, stop sign, accepted round, decided index. A log without its accepted round
    /// counts as accepted in the earlier round, and holds all entries chosen there. A decided index
    /// is written after the entries that it covers.
    ///
    /// Invariant I24: a compaction that is written with [`Storage::write_compaction`] may be undone
    /// by a crash, and that is harmless. The storage then holds the earlier snapshot and the entries
    /// that the later one stands for, as they were decided, and all else that the flush wrote. What
    /// other servers may know of the compaction stays true:
    /// - The decided index is durable, so a chunk with a snapshot, its pieces and its ids are of
    ///   decided entries.
    /// - A `compacted_idx` in a chunk reports which entries this server lacks. Afterwards it lacks fewer.
    /// - `CompactionAction::Compacted` ends the requests of another server. The entries stay until the
    ///   next compaction here.
    /// - A trim without a snapshot proves to others that every server holds the entries. It is never
    ///   written so.
    ///
    /// # Errors
    /// The storage failed. Its content is not known then, and the replica must halt.
    pub(crate) fn flush(&mut self, readers: Readers) -> Result<(), Halted> {
        self.forget_recent();
        if self.is_flushed() {
            return Ok(());
        }
        let from_idx = self.tail.start();
        let kept_len = self.kept_len();
        let write = match self.unstored.compaction {
            true => {
                self.forget_epochs()?;
                self.write_of_compaction()
            }
            false => Write::Atomic,
        };
        self.gather(readers);
        if self.ops.is_empty() {
            return Ok(());
        }
        // Until the write has succeeded, only the entries that it keeps are known to be stored.
        self.stored.len = kept_len;
        let written = match write {
            Write::Atomic => self.storage.write_atomically(&mut self.ops),
            Write::Compaction => self.storage.write_compaction(&mut self.ops),
            Write::Received => self.storage.write_received(&mut self.ops),
        };
        self.ops.clear();
        written.map_err(|cause| Halted::new(self.describe_write(from_idx), cause))?;
        self.unstored = Unstored::default();
        self.release();
        self.tail.forget_stop_signs(self.compacted_idx);
        let (compacted_idx, len) = (self.compacted_idx, self.len());
        let entries = self.entries_among(compacted_idx, len);
        self.stored = Stored { compacted_idx, entries, len, stopsign: self.stopsign_idx() };
        Ok(())
    }

    fn write_of_compaction(&self) -> Write {
        let is_later =
            self.compacted_idx > self.stored.compacted_idx && !self.unstored.needs_durable_snapshot;
        match self.compacted {
            Compacted::Received => Write::Received,
            Compacted::UnstoredSnapshot(_) if is_later => Write::Compaction,
            Compacted::UnstoredSnapshot(_) | Compacted::Snapshot | Compacted::Trimmed => {
                Write::Atomic
            }
        }
    }

    /// Returns whether there is nothing to write. A decided index alone waits for the next write,
    /// or until it is due. It is learned again after a crash, and a sync for it would double the
    /// number of syncs.
    pub(crate) fn is_flushed(&self) -> bool {
        let Unstored { promise, accepted_round, compaction, stopsign, epochs, .. } = self.unstored;
        let is_decided_idx_due = self.unstored.decided_idx && self.unstored.is_decided_idx_due;
        let is_changed =
            promise || accepted_round || is_decided_idx_due || compaction || stopsign || epochs;
        !is_changed && self.tail.is_empty() && self.tail.start() == self.stored.len
    }

    /// Makes the next flush write the decided index, also if nothing else changed.
    pub(crate) fn schedule_decided_idx(&mut self) {
        self.unstored.is_decided_idx_due = true;
    }

    /// Describes the write of a flush of the records from `from_idx` on, for an error.
    fn describe_write(&self, from_idx: u64) -> String {
        let changed = [
            (self.unstored.promise, "the promise"),
            (self.unstored.compaction, "the compaction"),
            (self.unstored.epochs, "the epochs"),
            (self.unstored.stopsign, "the stop sign"),
            (self.unstored.accepted_round, "the accepted round"),
            (self.unstored.decided_idx, "the decided index"),
        ];
        let mut parts: Vec<&str> = changed.iter().filter(|(is, _)| *is).map(|(_, n)| *n).collect();
        let entries = self.entries_among(from_idx, self.len());
        let text = format!("entries {from_idx}..{}", from_idx + entries);
        if from_idx < self.stored.compacted_idx + self.stored.entries || entries > 0 {
            parts.push(&text);
        }
        format!("write {}", parts.join(", "))
    }

    /// Collects the operations in `ops`.
    #[inline]
    fn gather(&mut self, readers: Readers) {
        if self.unstored.promise {
            self.ops.push(StorageOp::SetPromise(self.promise));
        }
        let Stored { compacted_idx, entries: held, .. } = self.stored;
        let keep = match self.unstored.compaction {
            true => self.gather_compaction(),
            false => Keep { entries: self.entries_among(compacted_idx, self.tail.start()), held },
        };
        self.gather_entries(keep, readers);
        if self.unstored.epochs || self.unstored.stopsign {
            self.gather_stopsign();
        }
        if self.unstored.accepted_round {
            self.ops.push(StorageOp::SetAcceptedRound(self.accepted_round));
        }
        if self.unstored.decided_idx {
            self.ops.push(StorageOp::SetDecidedIndex(self.decided_idx));
        }
    }

    /// Collects the operations that write the epochs and the stop sign.
    #[cold]
    fn gather_stopsign(&mut self) {
        if self.unstored.epochs {
            self.ops.push(StorageOp::SetEpochs(self.epochs().to_vec()));
        }
        if self.unstored.stopsign {
            self.ops.push(StorageOp::SetStopsign(self.stopsign().cloned()));
        }
    }

    /// Collects the operations that compact. Returns what the storage holds after them.
    #[cold]
    fn gather_compaction(&mut self) -> Keep {
        let Stored { compacted_idx, entries: held, .. } = self.stored;
        let kept_end = self.tail.start();
        match std::mem::replace(&mut self.compacted, Compacted::Snapshot) {
            Compacted::UnstoredSnapshot(snapshot) => {
                self.ops.push(StorageOp::SetSnapshot(Some(snapshot)));
            }
            Compacted::Snapshot | Compacted::Received => {}
            Compacted::Trimmed => self.compacted = Compacted::Trimmed,
        }
        let gone = self.entries_among(compacted_idx, self.compacted_idx).min(held);
        if gone > 0 {
            self.ops.push(StorageOp::Trim(gone));
        }
        self.ops.push(StorageOp::SetCompactedIdx(self.compacted_idx));
        Keep { entries: self.entries_among(self.compacted_idx, kept_end), held: held - gone }
    }

    /// Collects the operation that writes the tail, given what the storage holds before it.
    fn gather_entries(&mut self, keep: Keep, readers: Readers) {
        let (from_idx, bytes) = (self.tail.start(), self.tail.bytes());
        let entries = self.tail.take();
        let cuts = keep.held > keep.entries;
        if entries.is_empty() && !cuts {
            return;
        }
        if readers == Readers::StorageAndMessages {
            let amount = Amount { entries: entries.len() as u64, bytes };
            self.recent = Recent { from_idx, entries: entries.clone(), amount };
        }
        self.ops.push(if cuts {
            StorageOp::AppendSharedOnPrefix(keep.entries, entries)
        } else {
            StorageOp::AppendShared(entries)
        });
    }
}

/// What the storage holds when the tail is written.
struct Keep {
    /// Number of entries that stay.
    entries: u64,
    /// Number of entries held.
    held: u64,
}
