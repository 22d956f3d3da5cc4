//! The bytes of a snapshot in a file, read a piece at a time to send them to another server.
//!
//! While a reader exists, its file stays open. So the bytes can be read also after a later snapshot has
//! replaced them and the name of the file is removed.

use super::{batch::SnapshotRef, error::StorageError, files::read_exact_at};
use omnipaxos::{
    errors::SharedError,
    storage::{ReadSnapshot, SnapshotBytes, SnapshotDigest, StorageResult},
};
use std::{fmt, fs::File, path::PathBuf, sync::Arc};

/// Number of bytes with a checksum of their own: what is read is checked.
const BLOCK_BYTES: u64 = 64 << 10;

/// What is known of the bytes of a snapshot: the digest for other servers, and checksums.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    len: u64,
    crc: u32,
    digest: SnapshotDigest,
    /// Checksums of the complete blocks.
    blocks: Vec<u32>,
    /// The checksum of the last block, which is not complete.
    last_block: u32,
}

impl Contents {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut contents = Self::default();
        contents.push(bytes);
        contents
    }

    /// Adds bytes at the end.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.digest.update(bytes);
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK_BYTES - self.len % BLOCK_BYTES).unwrap_or(usize::MAX);
            let (first, rest) = bytes.split_at(room.min(bytes.len()));
            self.last_block = crc32c::crc32c_append(self.last_block, first);
            self.len += first.len() as u64;
            if self.len.is_multiple_of(BLOCK_BYTES) {
                self.blocks.push(std::mem::take(&mut self.last_block));
            }
            bytes = rest;
        }
    }

    /// Returns the number of bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Returns the reference to the snapshot with this id.
    pub(super) fn reference(&self, id: u64) -> SnapshotRef {
        SnapshotRef { id, bytes: self.len, crc: self.crc }
    }

    /// Returns whether the block with this number has these bytes.
    fn is_block(&self, number: u64, bytes: &[u8]) -> bool {
        let complete = usize::try_from(number).ok().and_then(|number| self.blocks.get(number));
        crc32c::crc32c(bytes) == complete.copied().unwrap_or(self.last_block)
    }
}

/// A snapshot in a file.
#[derive(Clone, Debug)]
pub(super) struct FileBytes {
    pub(super) id: u64,
    pub(super) bytes: SnapshotBytes,
}

impl FileBytes {
    /// Opens the complete file of a snapshot of the first `idx` entries.
    pub(super) fn open(
        path: PathBuf,
        id: u64,
        idx: u64,
        contents: Contents,
    ) -> Result<Self, StorageError> {
        let file = File::open(&path).map_err(StorageError::io("open", &path))?;
        let (len, digest) = (contents.len, contents.digest.finish());
        let reader = Arc::new(FileReader { path, file, contents });
        Ok(Self { id, bytes: SnapshotBytes::new(idx, len, digest, reader) })
    }
}

struct FileReader {
    path: PathBuf,
    file: File,
    contents: Contents,
}

/// The text is the same after a thread has removed the name of the file; that of a `File` is not.
impl fmt::Debug for FileReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("FileReader");
        text.field("path", &self.path).field("contents", &self.contents).finish_non_exhaustive()
    }
}

impl FileReader {
    /// Reads whole blocks, and checks them.
    fn read_checked(&self, offset: u64, len: u64) -> Result<Vec<u8>, StorageError> {
        let first = offset / BLOCK_BYTES;
        let start = first * BLOCK_BYTES;
        let until = (offset + len).next_multiple_of(BLOCK_BYTES).min(self.contents.len);
        let mut bytes = vec![0; usize::try_from(until - start).unwrap_or(usize::MAX)];
        read_exact_at(&self.file, &mut bytes, start)
            .map_err(StorageError::io("read", &self.path))?;
        let blocks = bytes.chunks(usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX));
        let damaged =
            (first..).zip(blocks).find(|(number, block)| !self.contents.is_block(*number, block));
        if let Some((number, _)) = damaged {
            let what = "the checksum of a part of the snapshot is wrong".to_string();
            let (path, byte) = (self.path.clone(), number * BLOCK_BYTES);
            return Err(StorageError::Corrupt { path, byte, what });
        }
        let skipped = usize::try_from(offset - start).unwrap_or(usize::MAX);
        bytes.drain(..skipped.min(bytes.len()));
        bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(bytes)
    }
}

impl ReadSnapshot for FileReader {
    fn read(&self, offset: u64, len: usize) -> StorageResult<Vec<u8>> {
        self.read_checked(offset, len as u64).map_err(|error| SharedError::new(error).into())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::snapshot_files::SnapshotFiles, Contents, FileBytes, SnapshotRef, BLOCK_BYTES,
    };
    use std::fs;

    fn bytes(len: u64) -> Vec<u8> {
        (0..len).map(|at| ((at * at) >> 7) as u8).collect()
    }

    #[test]
    fn contents_do_not_depend_on_how_bytes_are_divided() {
        let bytes = bytes(2 * BLOCK_BYTES + 77);
        let whole = Contents::of(&bytes);
        for step in [1, 1000, 65_536, 65_537] {
            let mut divided = Contents::default();
            bytes.chunks(step).for_each(|part| divided.push(part));
            assert_eq!((&divided.blocks, divided.last_block), (&whole.blocks, whole.last_block));
            assert_eq!(divided.digest.finish(), whole.digest.finish());
            assert_eq!(divided.reference(4), SnapshotRef::of(4, &bytes));
        }
    }

    #[test]
    fn every_range_of_a_file_is_read_also_after_its_name_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let files = SnapshotFiles::new(folder.path());
        for len in [1, BLOCK_BYTES, 3 * BLOCK_BYTES + 5] {
            let bytes = bytes(len);
            let contents = files.write(7, &bytes).unwrap();
            let read = FileBytes::open(files.path(7), 7, 12, contents).unwrap().bytes;
            files.remove(7).unwrap();
            assert_eq!((read.idx(), read.len()), (12, len));
            for (from, count) in [(0, 1), (0, len), (len - 1, 9), (len / 3, len / 2), (len, 1)] {
                let until = (from + count).min(len);
                let expected = &bytes[from as usize..until as usize];
                assert_eq!(read.read(from, count as usize).unwrap(), expected, "{from}, {count}");
            }
        }
    }

    #[test]
    fn a_damaged_part_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let files = SnapshotFiles::new(folder.path());
        let mut bytes = bytes(3 * BLOCK_BYTES + 5);
        let contents = files.write(7, &bytes).unwrap();
        let read = FileBytes::open(files.path(7), 7, 12, contents).unwrap().bytes;
        let at = BLOCK_BYTES as usize + 9;
        bytes[at] ^= 1;
        fs::write(files.path(7), &bytes).unwrap();
        assert!(read.read(BLOCK_BYTES, 1).is_err() && read.read(0, bytes.len()).is_err());
        assert_eq!(read.read(5, at - 14).unwrap(), &bytes[5..at - 9]);
        bytes.truncate(3 * BLOCK_BYTES as usize + 4);
        fs::write(files.path(7), &bytes).unwrap();
        assert!(read.read(3 * BLOCK_BYTES, 1).is_err());
    }
}
