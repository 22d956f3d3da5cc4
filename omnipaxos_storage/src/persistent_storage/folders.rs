//! The folders of a storage, before their files are opened.

use super::{error::StorageError, files::sync_folder, format::log_file, journal, segments};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, ErrorKind, Read, Write},
    path::{self, Path},
};

/// The content of the lock file after a storage was created completely.
const MADE: &[u8] = b"a storage was made here\n";

/// The bytes that the first record of one of our segments has near its beginning.
const OUR_MAGIC: &[u8] = b"OPXs";

/// Checks that a folder with this name is possible.
pub(super) fn check(folder: &Path) -> Result<(), StorageError> {
    let refused =
        |path: &Path, what| Err(StorageError::NoFolder { path: path.to_path_buf(), what });
    if folder.as_os_str().is_empty() {
        return refused(folder, "its name is empty; that of the present folder is `.`");
    }
    if folder.as_os_str().as_encoded_bytes().contains(&0) {
        return refused(folder, "its name has a zero byte");
    }
    let nearest = folder.ancestors().find(|path| path.exists());
    match nearest.filter(|path| !path.is_dir()) {
        Some(in_the_way) => refused(in_the_way, "it is not a folder"),
        None => Ok(()),
    }
}

/// Returns whether a storage was created completely under this lock.
pub(super) fn was_made(lock: &File) -> bool {
    lock.metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// Records under the lock that the storage is created, so that a lost one is not created again.
pub(super) fn note_made(mut lock: &File, folder: &Path) -> Result<(), StorageError> {
    lock.write_all(MADE)
        .and_then(|()| lock.sync_all())
        .map_err(StorageError::io("write", folder.join("lock")))
}

/// Makes that record durable: the process that wrote it may have been killed before its sync.
pub(super) fn sync_made(lock: &File, folder: &Path) -> Result<(), StorageError> {
    lock.sync_all().map_err(StorageError::io("sync", folder.join("lock")))
}

/// Makes the names of folders and of those above them durable: all may have been made with this storage.
pub(super) fn sync_names(folders: [&Path; 3]) -> Result<(), StorageError> {
    let mut above = BTreeSet::new();
    for folder in folders {
        let absolute = path::absolute(folder).map_err(StorageError::io("find", folder))?;
        above.extend(absolute.ancestors().skip(1).map(Path::to_path_buf));
    }
    above.iter().try_for_each(|folder| match sync_folder(folder) {
        Err(StorageError::Io { source, .. }) if cannot_be_synced(&source) => Ok(()),
        synced => synced,
    })
}

/// Whether this process can never sync the folder: it may not read it, or its file system takes no writes, and
/// so nothing was made there.
fn cannot_be_synced(error: &io::Error) -> bool {
    use ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), InvalidInput | PermissionDenied | ReadOnlyFilesystem)
}

/// Returns why there is a log, or there was a storage, without the checkpoint of its database.
pub(super) fn without_database(log_folder: &Path, database: &Path) -> StorageError {
    let is_ours = journal::exists(log_folder)
        || segments::list(log_folder)
            .is_ok_and(|bases| bases.iter().any(|base| begins_as_ours(log_folder, *base)));
    if is_ours {
        StorageError::Missing { path: database.to_path_buf() }
    } else {
        StorageError::Foreign { path: log_folder.to_path_buf() }
    }
}

fn begins_as_ours(log_folder: &Path, base: u64) -> bool {
    let mut begin = Vec::new();
    File::open(log_file(log_folder, base))
        .and_then(|file| file.take(64).read_to_end(&mut begin))
        .is_ok_and(|_| begin.windows(OUR_MAGIC.len()).any(|bytes| bytes == OUR_MAGIC))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::sync_names;
    use std::path::Path;

    #[test]
    fn a_folder_above_may_be_of_a_file_system_without_syncs() {
        let folder = Path::new("/proc/self/fd");
        assert!(super::sync_folder(Path::new("/proc")).is_err());
        assert!(sync_names([folder, folder, folder]).is_ok());
    }
}
