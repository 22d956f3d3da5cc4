//! The files of the commit log: their names, indexes and removal.

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

/// The smallest segment size; smaller settings are raised to it.
const LEAST_SEGMENT_BYTES: usize = 4 << 10;

/// The largest segment size: positions in a segment have 32 bits.
const LARGEST_SEGMENT_BYTES: usize = 3 << 30;

/// Index entries for which space is reserved at a time, so that this is rare.
const INDEX_ENTRIES_AHEAD: usize = 1 << 13;

/// The space of a new segment besides its records and their index entries: partly filled blocks,
/// and the names of two files.
const SPACE_FOR_A_SEGMENT: usize = 64 << 10;

/// A file that exists only while a segment is created.
const RESERVE: &str = "reserve";

/// Returns the size of segments: as set, or larger if these parts need it.
pub(super) fn bytes_for<'a>(set: usize, parts: impl Iterator<Item = &'a Part>) -> usize {
    let largest = parts.map(|part| part.range.len() + SEGMENT_MAGIC.len()).max().unwrap_or(0);
    set.clamp(LEAST_SEGMENT_BYTES, LARGEST_SEGMENT_BYTES).max(largest)
}

fn index_file(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:020}.index"))
}

/// Returns the segments in a folder, in order.
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

/// Reserved space in the index of the segment that is written to.
///
/// The commit log writes to the index through mapped memory. If the disk is full then, the system
/// ends the process, without an error. So the space is reserved before, in a way that can fail.
#[derive(Debug, Default)]
pub(super) struct IndexRoom {
    /// Records in the segment.
    records: usize,
    /// Records for which the index has space on the disk.
    taken: usize,
}

impl IndexRoom {
    /// Returns the space in the index of a segment with this number of records.
    pub(super) fn after(records: usize) -> Self {
        Self { records, taken: records }
    }

    /// Reserves the space for this number of further records.
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

/// Checks that the disk has space for a part in a new segment. The commit log creates the index of
/// a new segment itself, so the space cannot be reserved before.
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

/// Repairs the files after a scan. Data after the checkpoint was never synced; the journal contains
/// it if it counts. The indexes are created again.
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

/// Removes all indexes and other remains of a crash. The commit log opens each index, even without
/// a segment.
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

/// Writes the index of a segment again. The commit log trusts it, and never checks it.
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
