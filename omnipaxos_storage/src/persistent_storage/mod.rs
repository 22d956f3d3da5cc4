//! A storage on disk, which survives `kill -9` and loss of power.
//!
//! When `write_atomically` has returned `Ok`, all its changes are on the disk. After a crash before
//! that, all or none are. State travels with each batch of entries, so that one sync makes both
//! durable: the sync of a journal, which is written in place. The log is a
//! [commitlog](https://docs.rs/commitlog), which a thread syncs. A
//! [sled](https://docs.rs/sled) database contains small snapshots and the checkpoint, up to which the
//! log is synced. A large snapshot is in a file of its own, which a thread writes: its compaction may
//! be durable later. `docs/storage.md` in the repository describes what is durable when, and what an
//! operator does.

mod background;
mod batch;
mod begin;
mod check;
mod checkpoint;
mod codec;
mod config;
mod database_thread;
mod error;
mod files;
#[cfg(test)]
mod flipped;
mod folders;
mod format;
mod journal;
mod large_snapshots;
mod log;
mod log_reader;
mod opening;
mod operations;
mod parts;
mod random;
mod receiving;
mod records;
mod runs;
mod scan;
mod sectors;
mod segments;
mod snapshot_bytes;
mod snapshot_files;
mod trace;
mod worker;
mod write;

pub use self::{
    config::PersistentStorageConfig,
    error::{ErrHelper, StorageError},
};

use self::{
    background::{Background, Order, PendingCheckpoint, Recorded},
    batch::{SnapshotRef, State},
    checkpoint::{Checkpoint, Database},
    format::CHECKPOINT_FORMAT,
    journal::Journal,
    large_snapshots::{Deferred, Encoder, InMemory, OnThread, Superseded, Wait},
    log::Log,
    opening::FolderLock,
    parts::Parts,
    receiving::Receiving,
    records::Records,
    runs::Runs,
    snapshot_bytes::FileBytes,
    snapshot_files::SnapshotFiles,
    worker::Worker,
};
use omnipaxos::{errors::with_causes, storage::Entry};
use serde::{de::DeserializeOwned, Serialize};
use std::{
    fmt,
    marker::PhantomData,
    panic::{RefUnwindSafe, UnwindSafe},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

/// Keeps the log on disk.
///
/// Entries and their snapshots must be serialisable with bincode. Bincode cannot read types that
/// need a self-describing format (`untagged`, `flatten`, `skip_serializing_if`). The storage
/// refuses such entries when they are proposed. An encoded entry must fit a segment of the log: by
/// default 128 MiB less a few hundred bytes.
///
/// ```
/// use omnipaxos::{macros::Entry, storage::Storage};
/// use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
///
/// #[derive(Clone, Debug, PartialEq, Entry, serde::Serialize, serde::Deserialize)]
/// struct KeyValue {
///     key: String,
///     value: u64,
/// }
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path().to_str().expect("a temporary folder has a plain name");
/// let config = PersistentStorageConfig::with_path(folder);
/// let mut storage = PersistentStorage::try_open(config.clone())?;
/// storage.append_entry(KeyValue { key: "a".to_string(), value: 1 })?;
/// drop(storage);
///
/// let storage: PersistentStorage<KeyValue> = PersistentStorage::try_open(config)?;
/// assert_eq!(storage.get_suffix(0)?, [KeyValue { key: "a".to_string(), value: 1 }]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PersistentStorage<T> {
    log: Log,
    journal: Journal,
    database: Arc<Database>,
    background: Background,
    /// Whether entries were removed since the last checkpoint that was begun to free segments.
    has_removed_entries: bool,
    snapshot_files: SnapshotFiles,
    /// The last snapshot that was made durable in a file.
    in_file: Option<FileBytes>,
    /// The present state. It refers to no snapshot while the last one is written.
    state: State,
    /// The state in the last batch. Its compaction is an earlier one while a snapshot is written.
    written: State,
    /// Writes the snapshots of deferred compactions.
    worker: Worker,
    deferred: Option<Deferred<T>>,
    /// A snapshot that is being written and not wanted any more, while nothing is deferred.
    superseded: Option<Superseded>,
    /// A snapshot from another server, of which parts arrive. It is not part of the state.
    receiving: Option<Receiving>,
    /// The last received snapshot and its id, until it is read.
    received: Mutex<Option<(u64, InMemory<T>)>>,
    /// Threads of receptions that are not wanted any more.
    ended: Vec<JoinHandle<()>>,
    /// Encodes the snapshots of compactions; `None` if the calling thread does.
    encoder: Option<Box<dyn Encoder<T> + Send + Sync + UnwindSafe + RefUnwindSafe>>,
    /// Snapshots that the last batch does not refer to. The next checkpoint removes them.
    unneeded: Vec<SnapshotRef>,
    removal: Option<JoinHandle<Result<(), StorageError>>>,
    /// The id of the next snapshot.
    next_snapshot: u64,
    /// A larger snapshot is in a file of its own.
    largest_inline: u64,
    runs: Runs,
    /// The entries of the batch that is being written; empty between batches.
    records: Records,
    /// Whether values are read back before they are accepted.
    reads_back: bool,
    health: Health,
    /// Created once with the folder.
    id: u64,
    /// Released when the storage is dropped.
    _lock: FolderLock,
    _entries: PhantomData<fn() -> T>,
}

impl<T> PersistentStorage<T> {
    /// Encodes the snapshots of compactions on a thread of the storage, not on the calling one.
    ///
    /// The thread that [writes](PersistentStorageConfig::set_largest_inline_snapshot) a large
    /// snapshot then encodes it too, and reads it back. So the duration of a call does not depend
    /// on the size of the state. The thread writes snapshots of all sizes. The storage shares the
    /// snapshot with the thread, and clones it only when it is read before it is durable.
    ///
    /// The storage does not refuse a snapshot that cannot be encoded or read back. The next call
    /// that writes returns the error, and the replica halts. After a restart the storage holds the
    /// earlier snapshot and all entries.
    ///
    /// ```
    /// # use omnipaxos::{macros::Entry, storage::Snapshot};
    /// use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
    ///
    /// # #[derive(Clone, Debug, Entry, serde::Serialize, serde::Deserialize)]
    /// # #[snapshot(State)]
    /// # struct Command(u64);
    /// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    /// # struct State(Vec<u64>);
    /// # impl Snapshot<Command> for State {
    /// #     fn create(commands: &[Command]) -> Self {
    /// #         State(commands.iter().map(|command| command.0).collect())
    /// #     }
    /// #     fn merge(&mut self, later: Self) {
    /// #         self.0.extend(later.0);
    /// #     }
    /// #     fn use_snapshots() -> bool {
    /// #         true
    /// #     }
    /// # }
    /// # let folder = tempfile::tempdir()?;
    /// # let folder = folder.path().to_str().expect("a temporary folder has a plain name");
    /// let config = PersistentStorageConfig::with_path(folder);
    /// let storage: PersistentStorage<Command> =
    ///     PersistentStorage::try_open(config)?.with_background_encoding();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_background_encoding(mut self) -> Self
    where
        T: Entry,
        T::Snapshot: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.encoder = Some(Box::new(OnThread));
        self
    }

    /// Takes over a batch that is in the log, and the state after it.
    fn take(&mut self, batch: Parts, state: State) {
        for part in &batch.parts {
            self.runs.put(part.position, part.offset + 1, part.count);
        }
        self.runs.trim(batch.state.first);
        let written_before = std::mem::replace(&mut self.written, batch.state).snapshot;
        let before = std::mem::replace(&mut self.state, state).snapshot;
        let kept = [None, self.written.snapshot, self.state.snapshot];
        let replaced = [written_before, before.filter(|_| before != written_before)];
        let replaced = replaced.into_iter().filter(|snapshot| !kept.contains(snapshot));
        self.unneeded.extend(replaced.flatten());
        let present = self.state.snapshot.map(|snapshot| snapshot.id);
        let received = self.received.get_mut().unwrap_or_else(PoisonError::into_inner);
        received.take_if(|(id, _)| Some(*id) != present);
    }

    /// Begins a checkpoint in the thread: it syncs the log, records that, and removes the segments that are
    /// not needed. The journal continues in its other file.
    fn begin_checkpoint(&mut self, reason: Reason) -> Result<(), StorageError> {
        // The other file of the journal may be needed until the last checkpoint is recorded.
        while self.background.is_recording() {
            self.end_checkpoint(Wait::UntilWritten)?;
        }
        let pending = self.prepare_checkpoint(reason);
        self.background.order(Order::Checkpoint(Box::new(pending)));
        Ok(())
    }

    /// Switches the journal, and returns the checkpoint that is to be made.
    fn prepare_checkpoint(&mut self, reason: Reason) -> PendingCheckpoint {
        let first_segment = match reason {
            Reason::LargeBatch => self.log.first_segment(),
            Reason::Changed
            | Reason::FullJournal
            | Reason::Space
            | Reason::Opened
            | Reason::Closed => self.first_needed_segment(),
        };
        let full = self.journal.switch();
        let journal = self.journal.known();
        PendingCheckpoint {
            log_folder: self.log.folder().to_path_buf(),
            log_file: self.log.take_unsynced_file(),
            has_unsynced_names: self.log.take_unsynced_names(),
            checkpoint: Checkpoint {
                first_segment,
                durable: self.log.end_of_batches(),
                batches: self.log.batches(),
                stamp: journal.stamp,
                journal_bytes: journal.bytes,
                is_closed: reason == Reason::Closed,
                format: CHECKPOINT_FORMAT,
            },
            database: Arc::clone(&self.database),
            removed: self.log.segments_before(first_segment),
            full: (reason == Reason::FullJournal).then_some(full),
        }
    }

    /// Takes over a checkpoint that the thread has made. Returns whether there was one.
    ///
    /// # Errors
    /// The thread failed. What was acknowledged is in the journal.
    fn end_checkpoint(&mut self, wait: Wait) -> Result<bool, StorageError> {
        let Some(Recorded { first_segment, enlarged }) = self.background.next(wait)? else {
            return Ok(false);
        };
        if let Some(file) = enlarged {
            self.journal.replace_other(file);
        }
        self.remove_unneeded()?;
        if first_segment > self.log.first_segment() {
            self.log.forget_before(first_segment, &mut self.background)?;
        }
        Ok(true)
    }

    /// Waits until the thread has no order.
    fn end_checkpoints(&mut self) -> Result<(), StorageError> {
        while self.end_checkpoint(Wait::UntilWritten)? {}
        Ok(())
    }

    /// Makes a checkpoint. Afterwards the thread has no order.
    fn checkpoint(&mut self, reason: Reason) -> Result<(), StorageError> {
        self.begin_checkpoint(reason)?;
        self.end_checkpoints()
    }

    /// Checks that the storage can be written to. If the database has failed in the thread, the error is
    /// that of the thread.
    fn check_before_write(&mut self) -> Result<(), StorageError> {
        if matches!(self.health, Health::Sound) && self.database.check().is_err() {
            if let Err(failure) = self.end_checkpoints() {
                self.health = Health::Failed(with_causes(&failure));
                return Err(failure);
            }
        }
        self.check_health()
    }

    /// Checks that the storage can be written to.
    ///
    /// # Errors
    /// A write failed or panicked before, or the database failed.
    fn check_health(&self) -> Result<(), StorageError> {
        match &self.health {
            Health::Sound => self.database.check(),
            Health::Writing => {
                let cause = "code that it called panicked".to_string();
                Err(StorageError::Poisoned { cause })
            }
            Health::Failed(cause) => Err(StorageError::Poisoned { cause: cause.clone() }),
        }
    }

    /// Returns the segment with the first entry held, or with the last batch, which contains the
    /// state.
    fn first_needed_segment(&self) -> u64 {
        let last = self.log.last_segment();
        self.runs.first_offset().map_or(last, |offset| self.log.segment_of(offset).min(last))
    }
}

/// Whether the content of the storage is known.
#[derive(Debug)]
enum Health {
    Sound,
    /// A write has begun, or the opening. If it has not ended when the next call comes, it panicked.
    Writing,
    /// The failure of a write.
    Failed(String),
}

/// Why a checkpoint is made.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Reason {
    /// A batch does not fit behind the others in a file of the journal. That file is enlarged.
    FullJournal,
    /// A batch is larger than a file of the journal. It is in the log, and not yet part of the state.
    LargeBatch,
    /// The database has changed beside the checkpoint.
    Changed,
    /// A batch has removed entries, and no segment is needed for them any more.
    Space,
    Opened,
    Closed,
}

impl<T> fmt::Debug for PersistentStorage<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PersistentStorage")
            .field("log", &self.log)
            .field("journal", &self.journal)
            .field("database", &self.database)
            .field("state", &self.state)
            .field("deferred", &self.deferred)
            .field("health", &self.health)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl<T> Drop for PersistentStorage<T> {
    /// Marks a clean close: afterwards any damage is noticed. Without the mark, nothing is lost.
    fn drop(&mut self) {
        if self.check_health().is_ok() && self.write_settled().is_ok() {
            let _ = self.checkpoint(Reason::Closed);
        }
        if let Some(deferred) = self.deferred.take() {
            deferred.end();
        }
        if let Some(superseded) = self.superseded.take() {
            superseded.end();
        }
        self.end_reception();
        for thread in self.ended.drain(..) {
            let _ = thread.join();
        }
        if let Some(removal) = self.removal.take() {
            // What was not removed is removed by the next opening.
            let _ = removal.join();
        }
    }
}
