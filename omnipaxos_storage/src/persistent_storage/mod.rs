//! A storage on disk, which survives `kill -9` and loss of power.
//!
//! When `write_atomically` has returned `Ok`, all its changes are on the disk. After a crash before
//! that, all or none are. State travels with each batch of entries, so that one sync makes both
//! durable: the sync of a journal, which is written in place. The log is a
//! [commitlog](https://docs.rs/commitlog), synced whenever the journal is full. A
//! [sled](https://docs.rs/sled) database contains the snapshots and the checkpoint, up to which the
//! log is synced. A large snapshot is in a file of its own, which a thread writes: its compaction may
//! be durable later. `docs/storage.md` in the repository describes what is durable when, and what an
//! operator does.

mod batch;
mod begin;
mod check;
mod checkpoint;
mod codec;
mod config;
mod database_thread;
mod error;
mod files;
mod folders;
mod format;
mod journal;
mod large_snapshots;
mod log;
mod parts;
mod random;
mod receiving;
mod records;
mod runs;
mod scan;
mod segments;
mod snapshot_bytes;
mod snapshot_files;
mod write;

pub use self::{
    config::PersistentStorageConfig,
    error::{ErrHelper, StorageError},
};

use self::{
    batch::{SnapshotRef, State},
    begin::{begin, Unfinished},
    checkpoint::{Checkpoint, Database},
    journal::Journal,
    large_snapshots::{Deferred, Encoder, InMemory, OnThread, Superseded},
    log::Log,
    parts::Parts,
    receiving::Receiving,
    records::Records,
    runs::Runs,
    scan::Scanned,
    snapshot_bytes::{Contents, FileBytes},
    snapshot_files::SnapshotFiles,
    write::{not_receiving, Durability},
};
use omnipaxos::{
    ballot_leader_election::Ballot,
    errors::{with_causes, SharedError},
    identity::Identity,
    storage::{
        Entry, Epoch, Reception, SnapshotSource, StopSign, Storage, StorageOp, StorageResult,
    },
};
use serde::{de::DeserializeOwned, Serialize};
use std::{
    fmt,
    fs::{self, File},
    marker::PhantomData,
    panic::{RefUnwindSafe, UnwindSafe},
    path::Path,
    sync::{Mutex, PoisonError},
    thread::JoinHandle,
};

/// Number of entries read from the log at a time.
const BLOCK: u64 = 1024;

/// Keeps the log on disk.
///
/// Entries and their snapshots must be serialisable with bincode. It cannot read types that
/// describe themselves (`untagged`, `flatten`, `skip_serializing_if`); such entries are refused
/// when they are proposed. An encoded entry must fit a segment of the log: by default 128 MiB less
/// a few hundred bytes.
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
    database: Database,
    snapshot_files: SnapshotFiles,
    /// The last snapshot that was made durable in a file.
    in_file: Option<FileBytes>,
    /// The present state. It refers to no snapshot while the last one is written.
    state: State,
    /// The state in the last batch. Its compaction is an earlier one while a snapshot is written.
    written: State,
    deferred: Option<Deferred<T>>,
    /// A thread that writes a snapshot which is not wanted any more, while nothing is deferred.
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
    /// Opens the storage, or creates one if there is none.
    ///
    /// # Panics
    /// If that fails; see [`try_open`](Self::try_open).
    pub fn open(config: PersistentStorageConfig) -> Self {
        match Self::try_open(config) {
            Ok(storage) => storage,
            Err(error) => panic!("{}", with_causes(&error)),
        }
    }

    /// Opens an existing storage, and never creates one.
    ///
    /// # Panics
    /// If there is none, or on failure; see [`try_open_existing`](Self::try_open_existing).
    pub fn open_existing(config: PersistentStorageConfig) -> Self {
        match Self::try_open_existing(config) {
            Ok(storage) => storage,
            Err(error) => panic!("{error}"),
        }
    }

    /// Creates a new storage, if none was created before.
    ///
    /// # Panics
    /// If there is one already, or on failure; see [`try_create`](Self::try_create).
    pub fn create(config: PersistentStorageConfig) -> Self {
        match Self::try_create(config) {
            Ok(storage) => storage,
            Err(error) => panic!("{error}"),
        }
    }

    /// Creates a new storage, as [`create`](Self::create) does.
    ///
    /// # Panics
    /// If there is one already, or on failure; see [`try_new`](Self::try_new).
    pub fn new(config: PersistentStorageConfig) -> Self {
        match Self::try_new(config) {
            Ok(storage) => storage,
            Err(error) => panic!("{}", with_causes(&error)),
        }
    }

    /// Creates a new storage, as [`try_create`](Self::try_create) does.
    ///
    /// # Errors
    /// [`StorageError::NotEmpty`] if there is one already, otherwise the errors of
    /// [`try_open`](Self::try_open).
    pub fn try_new(config: PersistentStorageConfig) -> Result<Self, StorageError> {
        Self::try_create(config)
    }

    /// Creates a new storage, if none was created before.
    ///
    /// Use it only for the first start of a server. If an earlier creation was interrupted, it
    /// starts again.
    ///
    /// # Errors
    /// - [`StorageError::NotEmpty`] if there is one already, even if nothing was written to it.
    /// - Otherwise the errors of [`try_open`](Self::try_open).
    pub fn try_create(config: PersistentStorageConfig) -> Result<Self, StorageError> {
        match begin::is_made(&config)? {
            true => Err(StorageError::NotEmpty { path: config.folder() }),
            false => Self::try_open(config),
        }
    }

    /// Opens an existing storage, and never creates one.
    ///
    /// Use it for every start of a server but the first. If the disk of the server is lost, or not
    /// mounted, the server does not start with an empty storage. So it cannot lose its promises and
    /// accepted entries unnoticed.
    ///
    /// ```
    /// # use omnipaxos::macros::Entry;
    /// use omnipaxos_storage::persistent_storage::{
    ///     PersistentStorage, PersistentStorageConfig, StorageError,
    /// };
    ///
    /// # #[derive(Clone, Debug, Entry, serde::Serialize, serde::Deserialize)]
    /// # struct Word(String);
    /// # let folder = tempfile::tempdir()?;
    /// # let folder = folder.path().to_str().expect("a temporary folder has a plain name");
    /// let mut config = PersistentStorageConfig::default();
    /// config.set_path(folder.to_string());
    /// let missing = PersistentStorage::<Word>::try_open_existing(config.clone());
    /// assert!(matches!(missing, Err(StorageError::NoStorage { .. })));
    ///
    /// // At the first start of the server only:
    /// drop(PersistentStorage::<Word>::try_create(config.clone())?);
    /// // At all other starts:
    /// let storage = PersistentStorage::<Word>::try_open_existing(config)?;
    /// # drop(storage);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// - [`StorageError::NoStorage`] if there is none. Then nothing was created.
    /// - Otherwise the errors of [`try_open`](Self::try_open).
    pub fn try_open_existing(config: PersistentStorageConfig) -> Result<Self, StorageError> {
        match begin::is_made(&config)? {
            true => Self::try_open(config),
            false => Err(StorageError::NoStorage { path: config.folder() }),
        }
    }

    /// Opens the storage, or creates one if there is none.
    ///
    /// It repairs the effects of a crash, and reports damage that no crash can have caused. If the
    /// disk of a server was lost, the server then starts with an empty storage: see
    /// [`try_open_existing`](Self::try_open_existing).
    ///
    /// # Errors
    /// [`StorageError`] contains what is wrong, in which file, and what to do. Existing data was
    /// not lost.
    pub fn try_open(config: PersistentStorageConfig) -> Result<Self, StorageError> {
        let folder = config.folder();
        let settings = config.log();
        let log_folder = settings.folder.unwrap_or_else(|| folder.join("commitlog"));
        let database_config = config.database();
        let database_folder = database_config.get_path();
        for needed in [&folder, &log_folder, &database_folder] {
            folders::check(needed)?;
        }
        for needed in [&folder, &log_folder] {
            fs::create_dir_all(needed).map_err(StorageError::io("create", needed))?;
        }
        let lock = lock(&folder)?;
        let unfinished = Unfinished::find(&lock.0, &folder, &database_folder, &log_folder)?;
        let database = Database::open(&database_config)?;
        let checkpoint = match database.checkpoint()? {
            Some(checkpoint) => checkpoint,
            None => begin(&lock.0, &database, &log_folder, &folder)?,
        };
        let id = match database.storage_id()? {
            Some(id) => id,
            // A new folder, or one of an earlier version. The checkpoint below makes the id
            // durable. No claim is made with it before.
            None => give_id(&database, &folder)?,
        };
        if let Some(unfinished) = unfinished {
            unfinished.finish()?;
        }
        if !folders::was_made(&lock.0) {
            folders::note_made(&lock.0, &folder)?;
        }
        for base in segments::list(&log_folder)? {
            if base < checkpoint.first_segment {
                segments::remove(&log_folder, base)?;
            }
        }
        let found = scan::scan(&log_folder, &checkpoint)?;
        let (journal, pending) = if checkpoint.is_closed {
            (Journal::reuse(&log_folder, checkpoint.journal())?, Vec::new())
        } else {
            Journal::open(&log_folder, checkpoint.journal())?
        };
        let pending = parse(pending, &found, &journal)?;
        segments::repair(&log_folder, &found)?;
        let parts = pending.iter().flat_map(|batch| &batch.parts);
        let segment_bytes =
            segments::bytes_for(settings.segment_bytes.unwrap_or(usize::MAX), parts);
        let log = Log::open(&log_folder, segment_bytes, &found)?;
        let snapshot_files = SnapshotFiles::new(&folder);
        let last_snapshot = snapshot_files.ids()?.into_iter().max().max(database.last_snapshot()?);
        let mut storage = Self {
            log,
            journal,
            database,
            snapshot_files,
            in_file: None,
            written: found.state.clone(),
            state: found.state,
            deferred: None,
            superseded: None,
            receiving: None,
            received: Mutex::new(None),
            ended: Vec::new(),
            encoder: None,
            unneeded: Vec::new(),
            removal: None,
            next_snapshot: last_snapshot.map_or(0, |last| last + 1),
            largest_inline: config.get_largest_inline_snapshot(),
            runs: found.runs,
            records: Records::default(),
            reads_back: config.get_read_back(),
            health: Health::Sound,
            id,
            _lock: lock,
            _entries: PhantomData,
        };
        for batch in pending {
            storage.log.append(&batch)?;
            let state = batch.state.clone();
            storage.take(batch, state);
        }
        if let Some(snapshot) = storage.state.snapshot {
            let contents = Contents::of(&storage.stored_snapshot(snapshot)?);
            if storage.snapshot_files.contains(snapshot.id) {
                storage.note_in_file(snapshot.id, storage.state.compacted_idx, contents)?;
            }
        }
        // All snapshots but one are removed below.
        storage.unneeded.clear();
        storage.checkpoint(IsClosed(false))?;
        storage.keep_snapshot(storage.state.snapshot)?;
        Ok(storage)
    }

    /// Encodes the snapshots of compactions on a thread, not on the calling one.
    ///
    /// The thread that [writes](PersistentStorageConfig::set_largest_inline_snapshot) a large
    /// snapshot then encodes it too, and reads it back. So the duration of a call does not depend on
    /// the size of the state. Snapshots of all sizes are written so. The storage shares the snapshot
    /// with the thread, and clones it only when it is read before it is durable.
    ///
    /// A snapshot that cannot be encoded, or read back, is not refused. The next call that writes
    /// returns the error, and the replica halts. After a restart it holds the earlier snapshot and
    /// all entries.
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

    /// Syncs the log, records that, restarts the journal, and frees the space that is not needed.
    fn checkpoint(&mut self, is_closed: IsClosed) -> Result<(), StorageError> {
        self.log.sync()?;
        let first_segment = self.first_needed_segment();
        self.record(first_segment, is_closed)?;
        self.remove_unneeded()?;
        if first_segment > self.log.first_segment() {
            self.log.remove_before(first_segment)?;
        }
        Ok(())
    }

    /// Records that the log is synced: the content of the journal is not needed any more.
    fn record(
        &mut self,
        first_segment: u64,
        IsClosed(is_closed): IsClosed,
    ) -> Result<(), StorageError> {
        self.database.set_checkpoint(&Checkpoint {
            first_segment,
            durable: self.log.synced(),
            batches: self.log.batches(),
            stamp: self.journal.known().stamp,
            journal_bytes: self.journal.known().bytes,
            is_closed,
        })?;
        self.journal.restart();
        Ok(())
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
    /// A write has begun. If it has not ended when the next call comes, it panicked.
    Writing,
    /// The failure of a write.
    Failed(String),
}

/// Whether a checkpoint is the last one before the storage is closed.
#[derive(Copy, Clone)]
struct IsClosed(bool);

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
            let _ = self.checkpoint(IsClosed(true));
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

/// Creates the id of a storage that has none.
fn give_id(database: &Database, folder: &Path) -> Result<u64, StorageError> {
    let id = random::storage_id(&folder.to_string_lossy());
    database.put_storage_id(id)?;
    Ok(id)
}

/// The lock of a folder, for this storage only.
///
/// It is released explicitly, not only by closing the file. If a thread of this process starts
/// another process at the same moment, that process holds a copy of the open file until it runs its
/// program.
#[derive(Debug)]
struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // If that fails, closing the file releases the lock.
        let _ = self.0.unlock();
    }
}

/// Locks the folder for this storage only.
fn lock(folder: &Path) -> Result<FolderLock, StorageError> {
    let path = folder.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(StorageError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock(file)),
        Err(fs::TryLockError::WouldBlock) => {
            Err(StorageError::Locked { path: folder.to_path_buf() })
        }
        Err(fs::TryLockError::Error(source)) => Err(StorageError::io("lock", path)(source)),
    }
}

/// Reads the batches in the journal, which follow those found in the log.
fn parse(
    pending: Vec<Vec<u8>>,
    found: &Scanned,
    journal: &Journal,
) -> Result<Vec<Parts>, StorageError> {
    let mut offset = found.next_offset;
    let mut parsed = Vec::with_capacity(pending.len());
    for (batch, bytes) in (found.batches..).zip(pending) {
        let parts = Parts::parse(bytes, batch, offset).ok_or_else(|| StorageError::Corrupt {
            path: journal.path().to_path_buf(),
            byte: 0,
            what: format!("batch {batch} is not the one that must follow in the log"),
        })?;
        offset += parts.parts.iter().map(|part| 1 + part.count).sum::<u64>();
        parsed.push(parts);
    }
    Ok(parsed)
}

impl<T> PersistentStorage<T>
where
    T: Entry + Serialize + DeserializeOwned,
    T::Snapshot: Serialize + DeserializeOwned,
{
    fn held(&self) -> u64 {
        self.state.end - self.state.first
    }

    /// Returns the entries `from..to` of those held; none if some are missing.
    fn read(&self, from: u64, to: u64) -> Result<Vec<T>, StorageError> {
        let mut entries = Vec::new();
        self.visit(from, to, |entry| entries.push(entry))?;
        Ok(entries)
    }

    /// Reads the entries from `from` up to `to`; none if the storage does not hold all. At most
    /// [`BLOCK`] of them are in memory as bytes at a time.
    fn visit(&self, from: u64, to: u64, mut visit: impl FnMut(T)) -> Result<(), StorageError> {
        if from >= to || to > self.held() {
            return Ok(());
        }
        let (mut position, end) = (self.state.first + from, self.state.first + to);
        while position < end {
            let Some((offset, run)) = self.runs.find(position) else {
                let source = format!("entry {position} has no place in the log").into();
                return Err(StorageError::Code { doing: "find", what: "an entry", source });
            };
            let count = run.min(end - position).min(BLOCK);
            for payload in self.log.read(offset, count)? {
                visit(codec::decode("an entry", &payload)?);
            }
            position += count;
        }
        Ok(())
    }
}

/// Wraps an error so that a halted replica keeps it as it is.
fn shared<V>(result: Result<V, StorageError>) -> StorageResult<V> {
    result.map_err(|error| SharedError::new(error).into())
}

impl<T> Storage<T> for PersistentStorage<T>
where
    T: Entry + Serialize + DeserializeOwned,
    T::Snapshot: Serialize + DeserializeOwned,
{
    fn append_entry(&mut self, entry: T) -> StorageResult<u64> {
        shared(self.write_one(StorageOp::AppendEntry(entry)))?;
        Ok(self.held())
    }

    fn append_entries(&mut self, entries: Vec<T>) -> StorageResult<u64> {
        shared(self.write_one(StorageOp::AppendEntries(entries)))?;
        Ok(self.held())
    }

    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<T>) -> StorageResult<u64> {
        shared(self.write_one(StorageOp::AppendOnPrefix(from_idx, entries)))?;
        Ok(self.held())
    }

    fn set_promise(&mut self, n_prom: Ballot) -> StorageResult<()> {
        shared(self.write_one(StorageOp::SetPromise(n_prom)))
    }

    fn set_decided_idx(&mut self, ld: u64) -> StorageResult<()> {
        shared(self.write_one(StorageOp::SetDecidedIndex(ld)))
    }

    fn get_decided_idx(&self) -> StorageResult<u64> {
        Ok(self.state.decided_idx)
    }

    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()> {
        shared(self.write_one(StorageOp::SetAcceptedRound(na)))
    }

    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.state.accepted_round.map(Into::into))
    }

    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<T>> {
        shared(self.read(from, to))
    }

    fn for_each(&self, from: u64, to: u64, visit: &mut dyn FnMut(&T)) -> StorageResult<()> {
        shared(self.visit(from, to, |entry| visit(&entry)))
    }

    fn get_log_len(&self) -> StorageResult<u64> {
        Ok(self.held())
    }

    fn get_suffix(&self, from: u64) -> StorageResult<Vec<T>> {
        shared(self.read(from, self.held()))
    }

    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.state.promise.map(Into::into))
    }

    fn set_stopsign(&mut self, s: Option<StopSign>) -> StorageResult<()> {
        shared(self.write_one(StorageOp::SetStopsign(s)))
    }

    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        Ok(self.state.stopsign.clone().map(Into::into))
    }

    fn trim(&mut self, idx: u64) -> StorageResult<()> {
        shared(self.write_one(StorageOp::Trim(idx)))
    }

    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()> {
        shared(self.write_one(StorageOp::SetCompactedIdx(idx)))
    }

    fn get_compacted_idx(&self) -> StorageResult<u64> {
        Ok(self.state.compacted_idx)
    }

    fn get_stored_compacted_idx(&self) -> StorageResult<u64> {
        Ok(self.written.compacted_idx)
    }

    fn set_snapshot(&mut self, snapshot: Option<T::Snapshot>) -> StorageResult<()> {
        shared(self.write_one(StorageOp::SetSnapshot(snapshot)))
    }

    fn get_snapshot(&self) -> StorageResult<Option<T::Snapshot>> {
        if let Some(deferred) = &self.deferred {
            return shared(deferred.snapshot().snapshot()).map(Some);
        }
        match self.state.snapshot {
            None => Ok(None),
            Some(stored) => {
                if let Some(received) = self.take_received(stored.id) {
                    return shared(received.into_snapshot()).map(Some);
                }
                let bytes = shared(self.stored_snapshot(stored))?;
                shared(codec::decode("a snapshot", &bytes)).map(Some)
            }
        }
    }

    fn snapshot_source(&mut self) -> StorageResult<SnapshotSource> {
        shared(self.source_of_snapshot())
    }

    fn begin_receiving(&mut self, bytes: u64) -> StorageResult<bool> {
        shared(self.begin_reception(bytes))
    }

    fn receive(&mut self, part: Vec<u8>) -> StorageResult<()> {
        let receiving = shared(self.receiving.as_ref().ok_or_else(not_receiving))?;
        receiving.add(part);
        Ok(())
    }

    fn reception(&mut self) -> StorageResult<Reception> {
        shared(self.poll_reception())
    }

    fn end_receiving(&mut self) -> StorageResult<()> {
        self.end_reception();
        Ok(())
    }

    fn write_received(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        shared(self.write_reception(ops))
    }

    fn max_entry_bytes(&self) -> Option<u64> {
        Some(self.largest_entry())
    }

    fn check_entry(&self, entry: &T, limit: u64) -> StorageResult<()> {
        shared(self.check(entry, limit))
    }

    fn check_stopsign(&self, stopsign: &StopSign, limit: u64) -> StorageResult<()> {
        shared(self.check_end(stopsign, limit))
    }

    fn check_snapshot(&self, snapshot: &T::Snapshot) -> StorageResult<()> {
        shared(self.check_sum(snapshot))
    }

    fn check_compaction(&self, snapshot: &T::Snapshot) -> StorageResult<()> {
        match self.encoder {
            Some(_) => Ok(()),
            None => self.check_snapshot(snapshot),
        }
    }

    fn next_incarnation(&mut self) -> StorageResult<Option<u64>> {
        shared(self.begin_incarnation()).map(Some)
    }

    fn get_identity(&self) -> StorageResult<Option<Identity>> {
        Ok(shared(self.database.identity())?.map(Into::into))
    }

    fn get_epochs(&self) -> StorageResult<Option<Vec<Epoch>>> {
        Ok(Some(self.state.epochs.iter().cloned().map(Into::into).collect()))
    }

    fn set_epochs(&mut self, epochs: Vec<Epoch>) -> StorageResult<()> {
        shared(self.write_one(StorageOp::SetEpochs(epochs)))
    }

    fn set_identity(&mut self, identity: Identity) -> StorageResult<()> {
        shared(self.keep_identity(identity))
    }

    fn get_storage_id(&self) -> StorageResult<Option<u64>> {
        Ok(Some(self.id))
    }

    fn write_atomically(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        shared(self.write(ops, Durability::AtOnce))
    }

    fn write_compaction(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        shared(self.write(ops, Durability::SnapshotLater))
    }
}
