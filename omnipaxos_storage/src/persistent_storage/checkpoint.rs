//! The database: the checkpoint, from which the log is replayed, and the snapshots.

use super::{
    batch::SnapshotRef,
    codec::{self, StoredIdentity},
    database_thread::{DatabaseThread, Opened},
    error::StorageError,
    files::{open_to_sync, sync_folder},
    format::{CHECKPOINT_FORMAT, WITH_ONE_JOURNAL, WITH_ONE_SIZE},
    journal::Known,
};
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The size of the pieces of a snapshot: the database leaks space if large values are overwritten.
const CHUNK_BYTES: usize = 64 << 10;

/// The number of pieces that are written or read at a time.
const CHUNKS_AT_ONCE: usize = 256;

/// The number of attempts, and the pause between them, to lock a database that is being closed.
const UNLOCK_TRIES: u32 = 1000;
const UNLOCK_PAUSE: Duration = Duration::from_millis(5);

const CHECKPOINT: &[u8] = b"checkpoint";
const SNAPSHOTS: &[u8] = b"snapshots";
const INCARNATION: &[u8] = b"incarnation";
const STORAGE_ID: &[u8] = b"storage_id";
const IDENTITY: &[u8] = b"identity";

/// A place in the log: a segment, by the offset of its first record, and a byte in its file.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) byte: u64,
}

/// The state that is certainly on the disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// The first segment that is still needed.
    pub(super) first_segment: u64,
    /// The end of the last batch that is certainly synced.
    pub(super) durable: Place,
    /// Number of batches before that place.
    pub(super) batches: u64,
    /// The stamp of the first batch in the journal that is not before that place.
    pub(super) stamp: u64,
    /// The sizes of the files of the journal.
    pub(super) journal_bytes: [u64; 2],
    /// Whether the storage was closed. Then no batch in the journal counts.
    pub(super) is_closed: bool,
    /// The version that made it. It is before the rest.
    #[serde(skip)]
    pub(super) format: u16,
}

impl Checkpoint {
    /// Returns the part of it that concerns the journal.
    pub(super) fn journal(&self) -> Known {
        let is_single = self.format == WITH_ONE_JOURNAL;
        Known { stamp: self.stamp, bytes: self.journal_bytes, is_single }
    }
}

/// A checkpoint of an earlier version.
#[derive(Deserialize)]
struct WithOneSize {
    first_segment: u64,
    durable: Place,
    batches: u64,
    stamp: u64,
    /// The smallest size of a file of the journal.
    journal_bytes: u64,
    is_closed: bool,
}

impl From<WithOneSize> for Checkpoint {
    fn from(earlier: WithOneSize) -> Self {
        let WithOneSize { first_segment, durable, batches, stamp, journal_bytes, is_closed } =
            earlier;
        let journal_bytes = [journal_bytes; 2];
        Self { first_segment, durable, batches, stamp, journal_bytes, is_closed, format: 0 }
    }
}

/// The database of one storage.
pub(super) struct Database {
    thread: DatabaseThread,
    /// Locked by who syncs: a disk reports a failure only once.
    syncs: Mutex<()>,
}

impl Database {
    /// Opens or creates the database. The caller holds the lock of the storage.
    pub(super) fn open(config: &sled::Config) -> Result<Self, StorageError> {
        let folder = config.get_path();
        remove_half_made(&folder)?;
        // A killed process may have left a checkpoint that is not synced. The opening removes segments that a
        // checkpoint does not need, so it must be durable first.
        if folder.is_dir() {
            sync_folder_and_files(&folder)?;
            read_files(&folder)?;
        }
        let config = config.clone();
        let thread = DatabaseThread::start(folder, move || {
            let db = open_patiently(&config)?;
            let snapshots = db.open_tree(SNAPSHOTS)?;
            Ok(Opened { db, snapshots })
        })?;
        Ok(Self { thread, syncs: Mutex::new(()) })
    }

    /// Checks that the database has never failed.
    ///
    /// # Errors
    /// The database has failed.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        self.thread.check()
    }

    /// Returns the last checkpoint; `None` in a new database.
    pub(super) fn checkpoint(&self) -> Result<Option<Checkpoint>, StorageError> {
        let (stored, is_empty) = self.thread.run("read", |database| {
            let is_empty = database.db.is_empty() && database.snapshots.is_empty();
            Ok((database.db.get(CHECKPOINT)?, is_empty))
        })?;
        let Some(stored) = stored else {
            return match is_empty {
                true => Ok(None),
                false => Err(StorageError::Foreign { path: self.folder() }),
            };
        };
        let damaged = |what: &str| StorageError::Corrupt {
            path: self.folder(),
            byte: 0,
            what: what.to_string(),
        };
        let (body, crc) =
            stored.split_last_chunk::<4>().ok_or_else(|| damaged("the checkpoint is too short"))?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(damaged("the checksum of the checkpoint is wrong"));
        }
        let (format, body) =
            body.split_first_chunk::<2>().ok_or_else(|| damaged("the checkpoint is too short"))?;
        let found = u16::from_le_bytes(*format);
        if !(WITH_ONE_JOURNAL..=CHECKPOINT_FORMAT).contains(&found) {
            let path = self.folder();
            return Err(StorageError::Format { path, found, ours: CHECKPOINT_FORMAT });
        }
        let what = "the checkpoint";
        let checkpoint = match found <= WITH_ONE_SIZE {
            true => codec::decode::<WithOneSize>(what, body)?.into(),
            false => codec::decode(what, body)?,
        };
        Ok(Some(Checkpoint { format: found, ..checkpoint }))
    }

    /// Stores a checkpoint and syncs it.
    pub(super) fn set_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), StorageError> {
        let mut value = checkpoint.format.to_le_bytes().to_vec();
        value.extend(codec::encode("the checkpoint", checkpoint)?);
        let crc = crc32c::crc32c(&value);
        value.extend_from_slice(&crc.to_le_bytes());
        self.insert(CHECKPOINT, value)?;
        self.sync()
    }

    /// Counts a new incarnation of the server, and syncs the count. A database without a count may
    /// be of an earlier version; then the new incarnation is the first.
    pub(super) fn next_incarnation(&self) -> Result<u64, StorageError> {
        const WHAT: &str = "the count of incarnations";
        let last = self.get(INCARNATION, WHAT)?.unwrap_or(0);
        let next = u64::checked_add(last, 1)
            .ok_or_else(|| self.damaged(format!("{WHAT} is at its end")))?;
        self.put(INCARNATION, WHAT, &next)?;
        self.sync()?;
        Ok(next)
    }

    /// Returns the id of the storage; `None` in a new database, and in one of an earlier version.
    pub(super) fn storage_id(&self) -> Result<Option<u64>, StorageError> {
        self.get(STORAGE_ID, "the storage id")
    }

    /// Writes the id of the storage. The next sync makes it durable.
    pub(super) fn put_storage_id(&self, id: u64) -> Result<(), StorageError> {
        self.put(STORAGE_ID, "the storage id", &id)
    }

    /// Returns the identity: the server of this storage, and the storage ids of the other servers.
    pub(super) fn identity(&self) -> Result<Option<StoredIdentity>, StorageError> {
        self.get(IDENTITY, "the identity")
    }

    /// Stores the identity, and syncs it.
    pub(super) fn set_identity(&self, identity: &StoredIdentity) -> Result<(), StorageError> {
        self.put(IDENTITY, "the identity", identity)?;
        self.sync()
    }

    /// Reads a value that is followed by its checksum.
    fn get<V: DeserializeOwned>(
        &self,
        key: &'static [u8],
        what: &'static str,
    ) -> Result<Option<V>, StorageError> {
        let Some(stored) = self.thread.run("read", move |database| database.db.get(key))? else {
            return Ok(None);
        };
        let (value, crc) = stored
            .split_last_chunk::<4>()
            .ok_or_else(|| self.damaged(format!("{what} is too short")))?;
        if crc32c::crc32c(value) != u32::from_le_bytes(*crc) {
            return Err(self.damaged(format!("the checksum of {what} is wrong")));
        }
        codec::decode(what, value).map(Some)
    }

    /// Writes a value with its checksum. The next sync makes it durable.
    fn put<V: Serialize>(
        &self,
        key: &'static [u8],
        what: &'static str,
        value: &V,
    ) -> Result<(), StorageError> {
        let mut value = codec::encode(what, value)?;
        let crc = crc32c::crc32c(&value);
        value.extend_from_slice(&crc.to_le_bytes());
        self.insert(key, value)
    }

    fn damaged(&self, what: String) -> StorageError {
        StorageError::Corrupt { path: self.folder(), byte: 0, what }
    }

    /// Stores a snapshot and syncs it.
    pub(super) fn put_snapshot(
        &self,
        SnapshotRef { id, .. }: SnapshotRef,
        snapshot: &[u8],
    ) -> Result<(), StorageError> {
        let first_numbers = (0u32..).step_by(CHUNKS_AT_ONCE);
        let pieces = snapshot.chunks(CHUNK_BYTES * CHUNKS_AT_ONCE);
        for (first, piece) in first_numbers.zip(pieces) {
            if first > 0 {
                self.flush()?;
            }
            let piece = piece.to_vec();
            self.thread.run("write", move |database| {
                (first..).zip(piece.chunks(CHUNK_BYTES)).try_for_each(|(number, chunk)| {
                    database.snapshots.insert(key(id, number), chunk).map(drop)
                })
            })?;
        }
        if snapshot.is_empty() {
            self.thread.run("write", move |database| database.snapshots.insert(key(id, 0), &[]))?;
        }
        self.sync()
    }

    /// Reads a snapshot.
    pub(super) fn snapshot(&self, wanted: SnapshotRef) -> Result<Vec<u8>, StorageError> {
        let mut bytes = Vec::new();
        for first in (0u32..).step_by(CHUNKS_AT_ONCE) {
            let range = key(wanted.id, first)..=key(wanted.id, u32::MAX);
            let chunks = self.thread.run("read", move |database| {
                let chunks = database.snapshots.range(range).values().take(CHUNKS_AT_ONCE);
                chunks.collect::<sled::Result<Vec<sled::IVec>>>()
            })?;
            chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
            if chunks.len() < CHUNKS_AT_ONCE {
                break;
            }
        }
        if bytes.len() as u64 != wanted.bytes || crc32c::crc32c(&bytes) != wanted.crc {
            return Err(StorageError::Corrupt {
                path: self.folder(),
                byte: 0,
                what: format!("the checksum of snapshot {} is wrong", wanted.id),
            });
        }
        Ok(bytes)
    }

    /// Returns whether there is a snapshot with this id.
    pub(super) fn contains_snapshot(&self, id: u64) -> Result<bool, StorageError> {
        let range = key(id, 0)..=key(id, u32::MAX);
        let found = self
            .thread
            .run("read", move |database| database.snapshots.range(range).next().transpose())?;
        Ok(found.is_some())
    }

    /// Removes a snapshot.
    pub(super) fn remove_snapshot(&self, id: u64) -> Result<(), StorageError> {
        let range = key(id, 0)..=key(id, u32::MAX);
        self.thread.run("write", move |database| {
            for name in database.snapshots.range(range).keys() {
                database.snapshots.remove(name?)?;
            }
            Ok(())
        })
    }

    /// Removes all snapshots but one.
    pub(super) fn keep_snapshot(&self, wanted: Option<SnapshotRef>) -> Result<(), StorageError> {
        self.thread.run("write", move |database| {
            for name in database.snapshots.iter().keys() {
                let name = name?;
                if id_of(&name) != wanted.map(|kept| kept.id) {
                    database.snapshots.remove(name)?;
                }
            }
            Ok(())
        })
    }

    /// Returns the highest id of a snapshot.
    pub(super) fn last_snapshot(&self) -> Result<Option<u64>, StorageError> {
        let last = self.thread.run("read", |database| database.snapshots.last())?;
        Ok(last.and_then(|(name, _)| id_of(&name)))
    }

    fn insert(&self, name: &'static [u8], value: Vec<u8>) -> Result<(), StorageError> {
        self.thread.run("write", move |database| database.db.insert(name, value).map(drop))
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.thread.run("flush", |database| database.db.flush().map(drop))
    }

    /// Makes everything written durable. The flush of the database does not reach the disk's cache.
    fn sync(&self) -> Result<(), StorageError> {
        let _one_at_a_time = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        self.flush()?;
        sync_folder_and_files(self.thread.folder()).inspect_err(|error| self.thread.fail(error))
    }

    #[cfg(test)]
    pub(super) fn thread(&self) -> &DatabaseThread {
        &self.thread
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.thread.folder().to_path_buf()
    }
}

impl fmt::Debug for Database {
    /// Without the lock, which another thread may hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("thread", &self.thread).finish_non_exhaustive()
    }
}

/// Returns the id of the snapshot to which a piece belongs.
fn id_of(name: &[u8]) -> Option<u64> {
    name.first_chunk::<8>().copied().map(u64::from_be_bytes)
}

/// Opens the database, and waits for its lock. If the database was dropped in this process a moment
/// ago, its threads still hold the lock. No other process can hold it, since the caller holds the
/// lock of the storage.
fn open_patiently(config: &sled::Config) -> sled::Result<sled::Db> {
    let is_locked = |error: &sled::Error| {
        matches!(error, sled::Error::Io(cause) if cause.kind() == io::ErrorKind::WouldBlock
            || cause.to_string().contains("could not acquire lock"))
    };
    for _ in 0..UNLOCK_TRIES {
        match config.open() {
            Err(error) if is_locked(&error) => std::thread::sleep(UNLOCK_PAUSE),
            opened => return opened,
        }
    }
    let text = "a database that has failed in this process holds it: start another process";
    Err(sled::Error::Io(io::Error::new(io::ErrorKind::WouldBlock, text)))
}

/// Returns the name of a piece of a snapshot.
fn key(id: u64, number: u32) -> [u8; 12] {
    let mut key = [0; 12];
    for (byte, value) in
        key.iter_mut().zip(id.to_be_bytes().into_iter().chain(number.to_be_bytes()))
    {
        *byte = value;
    }
    key
}

/// Removes a file that would make the next open fail. A process that is killed while the database
/// writes its own snapshot may leave it.
fn remove_half_made(folder: &Path) -> Result<(), StorageError> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry.map_err(StorageError::io("list", folder))?.path();
        if path.to_string_lossy().ends_with(".generating") {
            fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Reads the files of a folder and of the folders in it. The database takes what it cannot read for the end of
/// its file, and overwrites that.
fn read_files(folder: &Path) -> Result<(), StorageError> {
    let read = |path: &Path| {
        let read = fs::File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
        read.map(drop).map_err(StorageError::io("read", path))
    };
    walk(folder, &read, &|_folder| Ok(()))
}

/// Syncs the files of a folder and of the folders in it, and the folders.
fn sync_folder_and_files(folder: &Path) -> Result<(), StorageError> {
    let sync = |path: &Path| match open_to_sync(path).and_then(|file| file.sync_all()) {
        // The database may replace its files at the same time.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::io("sync", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    };
    walk(folder, &sync, &sync_folder)
}

/// Visits the files of a folder and of the folders in it, and each folder after its content.
fn walk(
    folder: &Path,
    visit_file: &dyn Fn(&Path) -> Result<(), StorageError>,
    visit_folder: &dyn Fn(&Path) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    for entry in fs::read_dir(folder).map_err(StorageError::io("list", folder))? {
        let path = entry.map_err(StorageError::io("list", folder))?.path();
        match path.is_dir() {
            true => walk(&path, visit_file, visit_folder)?,
            false => visit_file(&path)?,
        }
    }
    visit_folder(folder)
}
