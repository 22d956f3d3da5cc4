//! The files of the commit log: names, indexes, cutting and removing.

use super::{
    error::StorageError,
    files::{sync_folder, write_all_at},
    format::{log_file, SEGMENT_MAGIC, SPARE_INDEX_ENTRIES},
    parts::Part,
    scan::Scanned,
};
use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
};

/// Bytes of an index entry: offset within the segment, and position in its file.
const INDEX_ENTRY_BYTES: usize = 8;

/// The least segment size; smaller settings are raised to it.
const LEAST_SEGMENT_BYTES: usize = 4 << 10;

/// The largest segment size: positions in a segment have 32 bits.
const LARGEST_SEGMENT_BYTES: usize = 3 << 30;

/// Index entries for which space is taken at a time, so that it is done seldom.
const INDEX_ENTRIES_AHEAD: usize = 1 << 13;

/// What a new segment takes besides its records and their index entries: partly filled blocks and
/// the names of two files.
const SPACE_FOR_A_SEGMENT: usize = 64 << 10;

/// A file that is there only while a segment is begun.
const RESERVE: &str = "reserve";

/// The size of segments: as set, and such that these parts fit.
pub(super) fn bytes_for<'a>(set: usize, parts: impl Iterator<Item = &'a Part>) -> usize {
    let largest = parts.map(|part| part.range.len() + SEGMENT_MAGIC.len()).max().unwrap_or(0);
    set.clamp(LEAST_SEGMENT_BYTES, LARGEST_SEGMENT_BYTES).max(largest)
}

fn index_file(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:020}.index"))
}

/// The segments in a folder, in order.
pub(super) fn list(folder: &Path) -> Result<Vec<u64>, StorageError> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(folder).map_err(StorageError::io("list", folder))? {
        let path = entry.map_err(StorageError::io("list", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            match name.parse() {
                Ok(base) if name.len() == 20 => bases.push(base),
                Ok(_) | Err(_) => return Err(StorageError::Foreign { path }),
            }
        }
    }
    bases.sort_unstable();
    Ok(bases)
}

/// Room in the index of the segment that is written to.
///
/// The commit log writes to it through mapped memory, where a full disk is no error: the system ends
/// the process. So space is taken before, in a way that can fail.
#[derive(Debug, Default)]
pub(super) struct IndexRoom {
    /// Records in the segment.
    records: usize,
    /// Records for which the index has its space on the disk.
    taken: usize,
}

impl IndexRoom {
    /// The room in the index of a segment that holds so many records.
    pub(super) fn after(records: usize) -> Self {
        Self { records, taken: records }
    }

    /// Takes the space that so many records more need.
    pub(super) fn take(
        &mut self,
        folder: &Path,
        base: u64,
        records: usize,
    ) -> Result<(), StorageError> {
        let wanted = self.records + records;
        if wanted > self.taken {
            let taken = wanted + INDEX_ENTRIES_AHEAD;
            let path = index_file(folder, base);
            let zeros = vec![0; (taken - self.records) * INDEX_ENTRY_BYTES];
            OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| {
                    write_all_at(&file, &zeros, (self.records * INDEX_ENTRY_BYTES) as u64)
                })
                .map_err(StorageError::io("make room in", path))?;
            self.taken = taken;
        }
        self.records = wanted;
        Ok(())
    }
}

/// Sees whether the disk has space for a part in a segment of its own. The commit log makes the
/// index of a new segment itself, so that its space cannot be taken before.
pub(super) fn check_space(folder: &Path, bytes: usize, records: usize) -> Result<(), StorageError> {
    let path = folder.join(RESERVE);
    let needed = bytes + records * INDEX_ENTRY_BYTES + SPACE_FOR_A_SEGMENT;
    let written = fs::write(&path, vec![0; needed]);
    let removed = fs::remove_file(&path);
    written.and(removed).map_err(StorageError::io("begin a segment in", folder))
}

/// Removes a segment and its index.
pub(super) fn remove(folder: &Path, base: u64) -> Result<(), StorageError> {
    for path in [log_file(folder, base), index_file(folder, base)] {
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(StorageError::io("remove", path)(error)),
        }
    }
    Ok(())
}

/// Makes the files what the scan found: what comes after the checkpoint was never synced, and is in
/// the journal if it counts. The indexes are made anew.
pub(super) fn repair(folder: &Path, found: &Scanned) -> Result<(), StorageError> {
    for base in list(folder)? {
        if found.segments.iter().all(|(kept, _)| *kept != base) {
            remove(folder, base)?;
        }
    }
    if !found.segments.is_empty() {
        let path = log_file(folder, found.end.segment);
        OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_len(found.end.byte))
            .map_err(StorageError::io("repair", &path))?;
    }
    remove_indexes(folder)?;
    for (number, (base, positions)) in found.segments.iter().enumerate() {
        let is_written_to = number + 1 == found.segments.len();
        write_index(folder, *base, positions, is_written_to)?;
    }
    sync_folder(folder)
}

/// Removes all indexes, and what else a crash left: the commit log opens each that it finds, also one without a segment.
fn remove_indexes(folder: &Path) -> Result<(), StorageError> {
    for entry in fs::read_dir(folder).map_err(StorageError::io("list", folder))? {
        let path = entry.map_err(StorageError::io("list", folder))?.path();
        let is_index = path.extension().is_some_and(|extension| extension == "index");
        if is_index || path.file_name().is_some_and(|name| name == RESERVE) {
            fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Writes the index of a segment anew. The commit log trusts it, and never checks it.
fn write_index(
    folder: &Path,
    base: u64,
    positions: &[u32],
    is_written_to: bool,
) -> Result<(), StorageError> {
    let spare = if is_written_to { SPARE_INDEX_ENTRIES } else { 0 };
    let mut bytes = Vec::with_capacity((positions.len() + spare) * INDEX_ENTRY_BYTES);
    for (number, position) in (0u32..).zip(positions) {
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&position.to_le_bytes());
    }
    let path = index_file(folder, base);
    let file = File::create(&path).map_err(StorageError::io("create", &path))?;
    write_all_at(&file, &bytes, 0).map_err(StorageError::io("write", &path))?;
    let len = ((positions.len() + spare) * INDEX_ENTRY_BYTES) as u64;
    file.set_len(len).map_err(StorageError::io("write", &path))
}
