//! A storage on disk, which survives `kill -9` and loss of power.
//!
//! What `write_atomically` has returned `Ok` for is on the disk, all of it or, after a crash
//! before that, nothing. The log is a [commitlog](https://docs.rs/commitlog); state travels with
//! each batch of entries, so that one sync makes both durable. Snapshots and the checkpoint, from
//! which the log is read again, are in a [sled](https://docs.rs/sled) database. See
//! `docs/storage.md` in the repository for what is durable when and what an operator does.

mod batch;
mod checkpoint;
mod codec;
mod config;
mod error;
mod log;
mod runs;
mod scan;
mod segments;

pub use self::{config::PersistentStorageConfig, error::StorageError};

use self::{
    batch::State,
    checkpoint::{sync_folder, Checkpoint, Database, Place},
    log::{Log, Put},
    runs::Runs,
};
use omnipaxos::{
    ballot_leader_election::Ballot,
    storage::{Entry, StopSign, Storage, StorageOp, StorageResult},
};
use serde::{de::DeserializeOwned, Serialize};
use std::{
    fs::{self, File},
    marker::PhantomData,
    path::Path,
};

/// After so many bytes of log a checkpoint is made: so many at most are written again at open.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// Keeps the log on disk.
///
/// Entries and their snapshots must be serialisable. An entry, encoded, must fit a segment of the
/// log: 128 MiB less a few hundred bytes unless the options say otherwise.
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
/// let mut config = PersistentStorageConfig::default();
/// config.set_path(folder);
/// let mut storage = PersistentStorage::try_open(config.clone())?;
/// storage.append_entry(KeyValue { key: "a".to_string(), value: 1 })?;
/// drop(storage);
///
/// let storage: PersistentStorage<KeyValue> = PersistentStorage::try_open(config)?;
/// assert_eq!(storage.get_suffix(0)?, [KeyValue { key: "a".to_string(), value: 1 }]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PersistentStorage<T> {
    log: Log,
    database: Database,
    state: State,
    runs: Runs,
    /// The failure of a write, after which what is stored is not known.
    poisoned: Option<String>,
    checkpointed: Place,
    bytes_since_checkpoint: u64,
    /// Released when the storage is dropped.
    _lock: File,
    _entries: PhantomData<fn() -> T>,
}

impl<T> PersistentStorage<T> {
    /// Opens the storage, or makes one if there is none.
    ///
    /// # Panics
    /// If that fails; see [`try_open`](Self::try_open).
    pub fn open(config: PersistentStorageConfig) -> Self {
        match Self::try_open(config) {
            Ok(storage) => storage,
            Err(error) => panic!("{error}"),
        }
    }

    /// Makes a new storage.
    ///
    /// # Panics
    /// If there is one already, or on failure; see [`try_new`](Self::try_new).
    pub fn new(config: PersistentStorageConfig) -> Self {
        match Self::try_new(config) {
            Ok(storage) => storage,
            Err(error) => panic!("{error}"),
        }
    }

    /// Makes a new storage.
    ///
    /// # Errors
    /// [`StorageError::NotEmpty`] if there is one already, else as [`try_open`](Self::try_open).
    pub fn try_new(config: PersistentStorageConfig) -> Result<Self, StorageError> {
        let folder = config.folder();
        let storage = Self::try_open(config)?;
        if storage.log.batches() > 0 {
            return Err(StorageError::NotEmpty { path: folder });
        }
        Ok(storage)
    }

    /// Opens the storage, or makes one if there is none. Repairs what a crash left, and reports
    /// what no crash can have done.
    ///
    /// # Errors
    /// [`StorageError`] says what is wrong, in which file, and what to do. Nothing was lost that
    /// was there.
    pub fn try_open(config: PersistentStorageConfig) -> Result<Self, StorageError> {
        let folder = config.folder();
        let settings = config.log();
        let log_folder = settings.folder.unwrap_or_else(|| folder.join("commitlog"));
        for needed in [&folder, &log_folder] {
            fs::create_dir_all(needed).map_err(StorageError::io("create", needed))?;
        }
        let lock = lock(&folder)?;
        let database = Database::open(&config.database())?;
        let checkpoint = match database.checkpoint()? {
            Some(checkpoint) => checkpoint,
            None => begin(&database, &log_folder, &folder)?,
        };
        for base in segments::list(&log_folder)? {
            if base < checkpoint.first_segment {
                segments::remove(&log_folder, base)?;
            }
        }
        let found = scan::scan(&log_folder, &checkpoint)?;
        segments::repair(&log_folder, &found, checkpoint.durable)?;
        let log = Log::open(&log_folder, settings.segment_bytes.unwrap_or(usize::MAX), &found)?;
        database.keep_snapshot(found.state.snapshot)?;
        let mut storage = Self {
            log,
            database,
            state: found.state,
            runs: found.runs,
            poisoned: None,
            checkpointed: checkpoint.durable,
            bytes_since_checkpoint: 0,
            _lock: lock,
            _entries: PhantomData,
        };
        if let Some(snapshot) = storage.state.snapshot {
            storage.database.snapshot(snapshot)?;
        }
        if storage.is_ahead_of_checkpoint() {
            storage.checkpoint()?;
        }
        Ok(storage)
    }

    /// Records that all is synced up to the end, and gives back the space of what is not needed.
    fn checkpoint(&mut self) -> Result<(), StorageError> {
        self.database.keep_snapshot(self.state.snapshot)?;
        let first_segment = self.first_needed_segment();
        self.database.set_checkpoint(&Checkpoint {
            first_segment,
            durable: self.log.end(),
            batches: self.log.batches(),
        })?;
        if first_segment > self.log.first_segment() {
            self.log.remove_before(first_segment)?;
        }
        self.checkpointed = self.log.end();
        self.bytes_since_checkpoint = 0;
        Ok(())
    }

    /// Whether batches were synced since the checkpoint. A segment without any is not synced.
    fn is_ahead_of_checkpoint(&self) -> bool {
        self.log.ends_with_a_batch() && self.log.end() != self.checkpointed
    }

    /// The segment with the first entry held, or with the last batch, which bears the state.
    fn first_needed_segment(&self) -> u64 {
        if !self.log.ends_with_a_batch() {
            return self.log.first_segment();
        }
        let last = self.log.end().segment;
        self.runs.first_offset().map_or(last, |offset| self.log.segment_of(offset).min(last))
    }
}

impl<T> Drop for PersistentStorage<T> {
    /// Marks a clean close: after it, damage anywhere is noticed. Without it, nothing is lost.
    fn drop(&mut self) {
        if self.poisoned.is_none() && self.is_ahead_of_checkpoint() {
            let _ = self.checkpoint();
        }
    }
}

/// Locks the folder for this storage alone.
fn lock(folder: &Path) -> Result<File, StorageError> {
    let path = folder.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(StorageError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(StorageError::Locked { path: folder.to_path_buf() })
        }
        Err(fs::TryLockError::Error(source)) => Err(StorageError::io("lock", path)(source)),
    }
}

/// Begins a storage where there is none. The checkpoint comes first: a log without one is foreign.
fn begin(
    database: &Database,
    log_folder: &Path,
    folder: &Path,
) -> Result<Checkpoint, StorageError> {
    if !segments::list(log_folder)?.is_empty() {
        return Err(StorageError::Foreign { path: log_folder.to_path_buf() });
    }
    let checkpoint = Checkpoint { first_segment: 0, durable: Place::default(), batches: 0 };
    database.set_checkpoint(&checkpoint)?;
    sync_folder(folder)?;
    for made in [folder, log_folder] {
        if let Some(parent) = made.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent)?;
        }
    }
    Ok(checkpoint)
}

/// What a batch makes of the storage, before it is written.
struct Batch<S> {
    state: State,
    /// Entries from this position on are replaced.
    from: u64,
    entries: Vec<Vec<u8>>,
    snapshot: Option<Option<S>>,
}

impl<S> Batch<S> {
    fn on(state: &State) -> Self {
        Self { from: state.end, state: state.clone(), entries: Vec::new(), snapshot: None }
    }

    fn append(&mut self, entry: Vec<u8>) {
        self.entries.push(entry);
        self.state.end += 1;
    }

    /// Cuts the log to its first `idx` entries.
    fn cut(&mut self, idx: u64) {
        let position = self.state.first.saturating_add(idx).min(self.state.end);
        let kept = usize::try_from(position.saturating_sub(self.from)).unwrap_or(usize::MAX);
        self.entries.truncate(kept);
        self.from = self.from.min(position);
        self.state.end = position;
    }

    /// Removes the first `idx` entries.
    fn trim(&mut self, idx: u64) {
        let position = self.state.first.saturating_add(idx).min(self.state.end);
        if position > self.from {
            let gone = usize::try_from(position - self.from).unwrap_or(usize::MAX);
            self.entries.drain(..gone.min(self.entries.len()));
            self.from = position;
        }
        self.state.first = position;
    }
}

impl<T> PersistentStorage<T>
where
    T: Entry + Serialize + DeserializeOwned,
    T::Snapshot: Serialize + DeserializeOwned,
{
    /// Makes the changes of `ops` durable, all or none.
    fn write(&mut self, ops: &mut Vec<StorageOp<T>>) -> Result<(), StorageError> {
        if let Some(cause) = &self.poisoned {
            return Err(StorageError::Poisoned { cause: cause.clone() });
        }
        let mut batch = Batch::on(&self.state);
        for op in ops.drain(..) {
            self.add(&mut batch, op)?;
        }
        let before = self.log.end();
        let written = self.commit(batch);
        match &written {
            Ok(()) => {}
            // Refused before anything was written: the storage is as it was.
            Err(StorageError::TooLarge { .. } | StorageError::Code { .. })
                if self.log.end() == before => {}
            Err(error) => self.poisoned = Some(error.to_string()),
        }
        written
    }

    /// Adds one change to the batch.
    fn add(&self, batch: &mut Batch<T::Snapshot>, op: StorageOp<T>) -> Result<(), StorageError> {
        let state = &mut batch.state;
        match op {
            StorageOp::AppendEntry(entry) => batch.append(self.encode(&entry)?),
            StorageOp::AppendEntries(entries) => self.add_all(batch, &entries)?,
            StorageOp::AppendShared(entries) => self.add_all(batch, &entries)?,
            StorageOp::AppendOnPrefix(idx, entries) => {
                batch.cut(idx);
                self.add_all(batch, &entries)?;
            }
            StorageOp::AppendSharedOnPrefix(idx, entries) => {
                batch.cut(idx);
                self.add_all(batch, &entries)?;
            }
            StorageOp::SetPromise(ballot) => state.promise = Some(ballot.into()),
            StorageOp::SetAcceptedRound(ballot) => state.accepted_round = Some(ballot.into()),
            StorageOp::SetDecidedIndex(idx) => state.decided_idx = idx,
            StorageOp::SetCompactedIdx(idx) => state.compacted_idx = idx,
            StorageOp::Trim(idx) => batch.trim(idx),
            StorageOp::SetStopsign(stopsign) => state.stopsign = stopsign.map(Into::into),
            StorageOp::SetSnapshot(snapshot) => batch.snapshot = Some(snapshot),
        }
        Ok(())
    }

    fn add_all(&self, batch: &mut Batch<T::Snapshot>, entries: &[T]) -> Result<(), StorageError> {
        for entry in entries {
            batch.append(self.encode(entry)?);
        }
        Ok(())
    }

    fn encode(&self, entry: &T) -> Result<Vec<u8>, StorageError> {
        let bytes = codec::encode("an entry", entry)?;
        let limit = self.log.largest_entry();
        if bytes.len() > limit {
            let (bytes, limit) = (bytes.len() as u64, limit as u64);
            return Err(StorageError::TooLarge { what: "an entry", bytes, limit });
        }
        Ok(bytes)
    }

    fn commit(&mut self, batch: Batch<T::Snapshot>) -> Result<(), StorageError> {
        let Batch { mut state, from, entries, snapshot } = batch;
        match snapshot {
            None => {}
            Some(None) => state.snapshot = None,
            Some(Some(snapshot)) => {
                let bytes = codec::encode("a snapshot", &snapshot)?;
                state.snapshot = Some(self.database.put_snapshot(&bytes)?);
            }
        }
        let gives_space = state.first > self.state.first;
        let before = self.log.end();
        let puts = self.log.write(from, &entries, state.clone())?;
        for Put { position, offset, count } in puts {
            self.runs.put(position, offset, count);
        }
        self.runs.trim(state.first);
        self.state = state;
        let end = self.log.end();
        self.bytes_since_checkpoint +=
            if end.segment == before.segment { end.byte - before.byte } else { end.byte };
        let frees_a_segment = gives_space && self.first_needed_segment() > self.log.first_segment();
        if frees_a_segment || self.bytes_since_checkpoint >= CHECKPOINT_BYTES {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn write_one(&mut self, op: StorageOp<T>) -> Result<(), StorageError> {
        self.write(&mut vec![op])
    }

    fn held(&self) -> u64 {
        self.state.end - self.state.first
    }

    /// The entries `from..to` of those held; none if they are not all there.
    fn read(&self, from: u64, to: u64) -> Result<Vec<T>, StorageError> {
        if from >= to || to > self.held() {
            return Ok(Vec::new());
        }
        let mut entries = Vec::new();
        let (mut position, end) = (self.state.first + from, self.state.first + to);
        while position < end {
            let Some((offset, run)) = self.runs.find(position) else {
                let cause = format!("entry {position} has no place in the log");
                return Err(StorageError::Code { doing: "find", what: "an entry", cause });
            };
            let count = run.min(end - position);
            for payload in self.log.read(offset, count)? {
                entries.push(codec::decode("an entry", &payload)?);
            }
            position += count;
        }
        Ok(entries)
    }
}

impl<T> Storage<T> for PersistentStorage<T>
where
    T: Entry + Serialize + DeserializeOwned,
    T::Snapshot: Serialize + DeserializeOwned,
{
    fn append_entry(&mut self, entry: T) -> StorageResult<u64> {
        self.write_one(StorageOp::AppendEntry(entry))?;
        Ok(self.held())
    }

    fn append_entries(&mut self, entries: Vec<T>) -> StorageResult<u64> {
        self.write_one(StorageOp::AppendEntries(entries))?;
        Ok(self.held())
    }

    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<T>) -> StorageResult<u64> {
        self.write_one(StorageOp::AppendOnPrefix(from_idx, entries))?;
        Ok(self.held())
    }

    fn set_promise(&mut self, n_prom: Ballot) -> StorageResult<()> {
        Ok(self.write_one(StorageOp::SetPromise(n_prom))?)
    }

    fn set_decided_idx(&mut self, ld: u64) -> StorageResult<()> {
        Ok(self.write_one(StorageOp::SetDecidedIndex(ld))?)
    }

    fn get_decided_idx(&self) -> StorageResult<u64> {
        Ok(self.state.decided_idx)
    }

    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()> {
        Ok(self.write_one(StorageOp::SetAcceptedRound(na))?)
    }

    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.state.accepted_round.map(Into::into))
    }

    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<T>> {
        Ok(self.read(from, to)?)
    }

    fn get_log_len(&self) -> StorageResult<u64> {
        Ok(self.held())
    }

    fn get_suffix(&self, from: u64) -> StorageResult<Vec<T>> {
        Ok(self.read(from, self.held())?)
    }

    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.state.promise.map(Into::into))
    }

    fn set_stopsign(&mut self, s: Option<StopSign>) -> StorageResult<()> {
        Ok(self.write_one(StorageOp::SetStopsign(s))?)
    }

    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        Ok(self.state.stopsign.clone().map(Into::into))
    }

    fn trim(&mut self, idx: u64) -> StorageResult<()> {
        Ok(self.write_one(StorageOp::Trim(idx))?)
    }

    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()> {
        Ok(self.write_one(StorageOp::SetCompactedIdx(idx))?)
    }

    fn get_compacted_idx(&self) -> StorageResult<u64> {
        Ok(self.state.compacted_idx)
    }

    fn set_snapshot(&mut self, snapshot: Option<T::Snapshot>) -> StorageResult<()> {
        Ok(self.write_one(StorageOp::SetSnapshot(snapshot))?)
    }

    fn get_snapshot(&self) -> StorageResult<Option<T::Snapshot>> {
        match self.state.snapshot {
            None => Ok(None),
            Some(stored) => {
                let bytes = self.database.snapshot(stored)?;
                Ok(Some(codec::decode("a snapshot", &bytes)?))
            }
        }
    }

    fn write_atomically(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        Ok(self.write(ops)?)
    }
}
