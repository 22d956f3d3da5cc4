//! Large snapshots, each in a file of its own beside the lock: `snapshot.<id>`.
//!
//! A file is complete when its [`SnapshotRef`] is written: the batch that refers to it comes after
//! the sync. A file that nothing refers to was interrupted, or is replaced, and is removed.

use super::{
    batch::SnapshotRef, error::StorageError, files::sync_folder, snapshot_bytes::Contents,
};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

const PREFIX: &str = "snapshot.";

/// The number of bytes that are written between two syncs. A sync of the journal may have to wait
/// for what other files have not synced yet.
pub(super) const STEP_BYTES: usize = 1 << 20;

/// The folder with the files.
#[derive(Clone, Debug)]
pub(super) struct SnapshotFiles {
    folder: PathBuf,
}

impl SnapshotFiles {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// Writes a snapshot durably. If that fails, it gives back the space, which a full disk needs.
    pub(super) fn write(&self, id: u64, bytes: &[u8]) -> Result<Contents, StorageError> {
        let written = self.write_file(id, bytes);
        if written.is_err() {
            // The next opening removes what stays.
            let _ = fs::remove_file(self.path(id));
        }
        written
    }

    fn write_file(&self, id: u64, bytes: &[u8]) -> Result<Contents, StorageError> {
        let path = self.path(id);
        let mut contents = Contents::default();
        let mut file = File::create(&path).map_err(StorageError::io("create", &path))?;
        for step in bytes.chunks(STEP_BYTES) {
            contents.push(step);
            file.write_all(step).map_err(StorageError::io("write", &path))?;
            file.sync_data().map_err(StorageError::io("sync", &path))?;
        }
        file.sync_all().map_err(StorageError::io("sync", &path))?;
        self.sync()?;
        Ok(contents)
    }

    /// Makes the names of the files durable.
    pub(super) fn sync(&self) -> Result<(), StorageError> {
        sync_folder(&self.folder)
    }

    /// Reads a snapshot; `None` if it has no file.
    pub(super) fn read(&self, wanted: SnapshotRef) -> Result<Option<Vec<u8>>, StorageError> {
        let path = self.path(wanted.id);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io("read", &path)(error)),
        };
        let damaged = |what: &str| {
            let path = path.clone();
            Err(StorageError::Corrupt { path, byte: 0, what: what.to_string() })
        };
        if bytes.len() as u64 != wanted.bytes {
            return damaged("the snapshot has another length");
        }
        match SnapshotRef::of(wanted.id, &bytes) == wanted {
            true => Ok(Some(bytes)),
            false => damaged("the checksum of the snapshot is wrong"),
        }
    }

    /// Returns whether a snapshot has a file.
    pub(super) fn contains(&self, id: u64) -> bool {
        self.path(id).exists()
    }

    /// Removes the file of a snapshot.
    pub(super) fn remove(&self, id: u64) -> Result<(), StorageError> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StorageError::io("remove", &path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Returns the ids of all files.
    pub(super) fn ids(&self) -> Result<Vec<u64>, StorageError> {
        let failed = || StorageError::io("list", &self.folder);
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name().to_string_lossy().into_owned();
            let id: Option<u64> = name.strip_prefix(PREFIX).and_then(|id| id.parse().ok());
            // Not a file that only resembles ours.
            ids.extend(id.filter(|id| name == format!("{PREFIX}{id}")));
        }
        Ok(ids)
    }

    /// Returns the path of the file of a snapshot.
    pub(super) fn path(&self, id: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{id}"))
    }
}
