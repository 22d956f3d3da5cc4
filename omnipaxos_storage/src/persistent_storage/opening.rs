//! The opening of a storage: each one is a recovery.

use super::{
    background::Background,
    begin::{self, begin, Unfinished},
    checkpoint::Database,
    config::PersistentStorageConfig,
    error::StorageError,
    files::sync_folder,
    folders,
    journal::Journal,
    log::Log,
    parts::Parts,
    random,
    records::Records,
    scan::{self, Scanned},
    segments,
    snapshot_bytes::Contents,
    snapshot_files::SnapshotFiles,
    worker::Worker,
    Health, PersistentStorage, Reason,
};
use omnipaxos::errors::with_causes;
use std::{
    fs::{self, File},
    marker::PhantomData,
    path::Path,
    sync::{Arc, Mutex},
};

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
    /// not lost, except what the database finds damaged in its own file.
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
        let snapshot_files = SnapshotFiles::new(&folder);
        // What follows needs space on the disk, and may not find it before.
        snapshot_files.remove_parts()?;
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
        match folders::was_made(&lock.0) {
            true => folders::sync_made(&lock.0, &folder)?,
            false => folders::note_made(&lock.0, &folder)?,
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
        journal.sync_sizes()?;
        let pending = parse(pending, &found, &log_folder)?;
        segments::repair(&log_folder, &found)?;
        let parts = pending.iter().flat_map(|batch| &batch.parts);
        let segment_bytes =
            segments::bytes_for(settings.segment_bytes.unwrap_or(usize::MAX), parts);
        let log = Log::open(&log_folder, segment_bytes, &found)?;
        // The names of removed snapshots are given again only when no loss of power can bring their files back.
        sync_folder(&folder)?;
        let last_snapshot = snapshot_files.ids()?.into_iter().max().max(database.last_snapshot()?);
        let mut storage = Self {
            log,
            journal,
            database: Arc::new(database),
            background: Background::start(&log_folder)?,
            has_removed_entries: false,
            snapshot_files,
            in_file: None,
            written: found.state.clone(),
            state: found.state,
            worker: Worker::default(),
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
            // If it is dropped before it is open, the journal still counts.
            health: Health::Writing,
            id,
            _lock: lock,
            _entries: PhantomData,
        };
        for batch in pending {
            storage.log.append(&batch, &mut storage.background)?;
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
        storage.checkpoint(Reason::Opened)?;
        storage.keep_snapshot(storage.state.snapshot)?;
        storage.health = Health::Sound;
        Ok(storage)
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
pub(super) struct FolderLock(File);

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
    log_folder: &Path,
) -> Result<Vec<Parts>, StorageError> {
    let mut offset = found.next_offset;
    let mut parsed = Vec::with_capacity(pending.len());
    for (batch, bytes) in (found.batches..).zip(pending) {
        let parts = Parts::parse(bytes, batch, offset).ok_or_else(|| StorageError::Corrupt {
            path: log_folder.to_path_buf(),
            byte: 0,
            what: format!(
                "batch {batch} of the journal is not the one that must follow in the log"
            ),
        })?;
        offset += parts.parts.iter().map(|part| 1 + part.count).sum::<u64>();
        parsed.push(parts);
    }
    Ok(parsed)
}
