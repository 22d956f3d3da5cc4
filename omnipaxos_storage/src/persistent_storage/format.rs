//! Constants of the files: versions, magic bytes, names.

use std::path::{Path, PathBuf};

/// Version of the layout of a batch. A library reads only its own version.
pub(super) const FORMAT: u16 = 1;

/// Version of the checkpoint, and of the journal that follows it. A library reads the earlier ones, too.
pub(super) const CHECKPOINT_FORMAT: u16 = 3;

/// The version in which the journal had one file.
pub(super) const WITH_ONE_JOURNAL: u16 = 1;

/// The last version with one size for both files of the journal.
pub(super) const WITH_ONE_SIZE: u16 = 2;

/// The first bytes of a segment file.
pub(super) const SEGMENT_MAGIC: [u8; 2] = [0xff, 0xff];

/// Empty entries at the end of an index that is written to. The commit log enlarges an index by
/// half at most, so it must be large from the beginning.
pub(super) const SPARE_INDEX_ENTRIES: usize = 1 << 17;

/// Returns the file of the segment that begins with record `base`.
pub(super) fn log_file(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:020}.log"))
}

/// Returns the `N` bytes of `bytes` at `at`.
pub(super) fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}
