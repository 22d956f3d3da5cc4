//! The first opening of a storage.
//!
//! A database that is interrupted while it is created may never open again. So a mark is in the
//! folder until the first checkpoint is stored. While it is there, nothing can have been written,
//! and the creation starts again.

use super::{
    checkpoint::{Checkpoint, Database, Place},
    config::PersistentStorageConfig,
    error::StorageError,
    files::sync_folder,
    folders,
    format::CHECKPOINT_FORMAT,
    journal::{self, Journal},
    segments,
};
use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// The prefixes of the names that the database keeps in its folder.
const DATABASE_FILES: [&str; 4] = ["conf", "db", "blobs", "snap."];

/// The mark of an unfinished creation.
#[derive(Debug)]
pub(super) struct Unfinished(PathBuf);

impl Unfinished {
    /// Returns the mark if the storage is new: there is no database, or an unfinished one, which it
    /// removes.
    ///
    /// # Errors
    /// There is a log, or there was a storage, so this database does not belong to it:
    /// [`StorageError::Missing`] or [`StorageError::Foreign`].
    pub(super) fn find(
        lock: &File,
        folder: &Path,
        database: &Path,
        log_folder: &Path,
    ) -> Result<Option<Self>, StorageError> {
        let path = folder.join("unfinished");
        let made = database_files(database)?;
        if folders::was_made(lock) {
            return match made.is_empty() {
                true => Err(StorageError::Missing { path: database.to_path_buf() }),
                false => Ok(None),
            };
        }
        let is_marked = path.exists();
        let has_log = !segments::list(log_folder)?.is_empty();
        let has_journal = journal::exists(log_folder);
        if (is_marked || made.is_empty()) && has_log || !is_marked && made.is_empty() && has_journal
        {
            return Err(folders::without_database(log_folder, database));
        }
        if is_marked {
            for file in made {
                let removed =
                    if file.is_dir() { fs::remove_dir_all(&file) } else { fs::remove_file(&file) };
                removed.map_err(StorageError::io("remove", &file))?;
            }
        } else if made.is_empty() {
            File::create(&path).map_err(StorageError::io("create", &path))?;
        } else {
            return Ok(None);
        }
        sync_folder(folder)?;
        Ok(Some(Self(path)))
    }

    /// Removes the mark.
    pub(super) fn finish(self) -> Result<(), StorageError> {
        let Self(path) = self;
        fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
        path.parent().map_or(Ok(()), sync_folder)
    }
}

fn database_files(folder: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StorageError::io("list", folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StorageError::io("list", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if DATABASE_FILES.iter().any(|known| name.starts_with(known)) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Returns whether there is a storage, complete or damaged. An unfinished one does not count.
pub(super) fn is_made(config: &PersistentStorageConfig) -> Result<bool, StorageError> {
    let database = config.database().get_path();
    let log_folder = config.log().folder.unwrap_or_else(|| config.folder().join("commitlog"));
    let is_marked = config.folder().join("unfinished").exists();
    let has_log = log_folder.is_dir() && !segments::list(&log_folder)?.is_empty();
    Ok(has_log || (!is_marked && !database_files(&database)?.is_empty()))
}

/// Creates a storage where there is none. The checkpoint is written first: a log without one is
/// foreign.
pub(super) fn begin(
    lock: &File,
    database: &Database,
    log_folder: &Path,
    folder: &Path,
) -> Result<Checkpoint, StorageError> {
    if folders::was_made(lock) {
        return Err(StorageError::Missing { path: database.folder() });
    }
    if !segments::list(log_folder)?.is_empty() {
        return Err(folders::without_database(log_folder, &database.folder()));
    }
    let journal = Journal::create(log_folder, 1)?.known();
    let checkpoint = Checkpoint {
        first_segment: 0,
        durable: Place::default(),
        batches: 0,
        stamp: journal.stamp,
        journal_bytes: journal.bytes,
        is_closed: false,
        format: CHECKPOINT_FORMAT,
    };
    database.set_checkpoint(&checkpoint)?;
    sync_folder(folder)?;
    folders::sync_names([folder, log_folder, &database.folder()])?;
    Ok(checkpoint)
}
