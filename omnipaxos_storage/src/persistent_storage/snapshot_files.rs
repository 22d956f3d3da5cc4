//! Large snapshots, each in a file of its own beside the lock: `snapshot.<id>`.
//!
//! While a file is written, its name is `snapshot.<id>.part`. It gets the other name when it is
//! complete and synced, and counts when its [`SnapshotRef`] is written: the batch that refers to it comes
//! after that. A file that nothing refers to was interrupted, or is replaced, and is removed.

use super::{
    batch::SnapshotRef, error::StorageError, files::sync_folder, snapshot_bytes::Contents,
};
use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

const PREFIX: &str = "snapshot.";
const PART: &str = ".part";

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
            let _ = self.discard(id);
        }
        written
    }

    /// Creates the file of a snapshot that is not complete. Returns its path, too.
    pub(super) fn create(&self, id: u64) -> Result<(File, PathBuf), StorageError> {
        let path = self.part(id);
        let file = File::create(&path).map_err(StorageError::io("create", &path))?;
        Ok((file, path))
    }

    /// Gives a file that is complete and synced its name, durably.
    pub(super) fn complete(&self, id: u64) -> Result<(), StorageError> {
        let part = self.part(id);
        fs::rename(&part, self.path(id)).map_err(StorageError::io("rename", &part))?;
        sync_folder(&self.folder)
    }

    /// Removes the file of a snapshot, be it complete or not.
    pub(super) fn discard(&self, id: u64) -> Result<(), StorageError> {
        remove(&self.part(id))?;
        self.remove(id)
    }

    /// Removes what an earlier process wrote and did not complete.
    pub(super) fn remove_parts(&self) -> Result<(), StorageError> {
        self.names()?.into_iter().filter(|name| is_part(name)).try_for_each(|name| {
            let path = self.folder.join(name);
            remove(&path)
        })
    }

    fn write_file(&self, id: u64, bytes: &[u8]) -> Result<Contents, StorageError> {
        let mut contents = Contents::default();
        let (mut file, path) = self.create(id)?;
        for step in bytes.chunks(STEP_BYTES) {
            contents.push(step);
            file.write_all(step).map_err(StorageError::io("write", &path))?;
            file.sync_data().map_err(StorageError::io("sync", &path))?;
        }
        file.sync_all().map_err(StorageError::io("sync", &path))?;
        self.complete(id)?;
        Ok(contents)
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
        remove(&self.path(id))
    }

    /// Returns the ids of all complete files.
    pub(super) fn ids(&self) -> Result<Vec<u64>, StorageError> {
        Ok(self.names()?.iter().filter_map(|name| id_of(name)).collect())
    }

    /// Returns the names of all files in the folder.
    fn names(&self) -> Result<Vec<String>, StorageError> {
        let failed = || StorageError::io("list", &self.folder);
        let entries = fs::read_dir(&self.folder).map_err(failed())?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect::<io::Result<_>>().map_err(failed())
    }

    /// Returns the path of the file of a snapshot.
    pub(super) fn path(&self, id: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{id}"))
    }

    /// Returns the path of a file that is not complete.
    fn part(&self, id: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{id}{PART}"))
    }
}

/// Returns the id in the name of a complete file; `None` if the file only resembles ours.
fn id_of(name: &str) -> Option<u64> {
    let id: u64 = name.strip_prefix(PREFIX)?.parse().ok()?;
    (name == format!("{PREFIX}{id}")).then_some(id)
}

fn is_part(name: &str) -> bool {
    name.strip_suffix(PART).is_some_and(|name| id_of(name).is_some())
}

fn remove(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StorageError::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
