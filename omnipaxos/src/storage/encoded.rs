//! The bytes of a snapshot, as a storage holds them.

use super::StorageResult;
use std::{
    fmt::Debug,
    panic::{RefUnwindSafe, UnwindSafe},
    sync::Arc,
};

/// Where the bytes of a snapshot come from: the result of
/// [`Storage::snapshot_source`](super::Storage::snapshot_source).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SnapshotSource {
    /// The storage has no bytes. The library encodes the snapshot.
    Value,
    /// The storage still writes the bytes. Until then no server is sent the snapshot, and each asks
    /// again.
    Later,
    /// The storage has the bytes.
    Bytes(SnapshotBytes),
}

/// How far a storage is with a snapshot that it receives in parts: the result of
/// [`Storage::reception`](super::Storage::reception).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reception {
    /// It still writes or decodes.
    Pending {
        /// Number of bytes that are written, of all parts together.
        written: u64,
    },
    /// All bytes are durable, and were decoded. [`write_received`](super::Storage::write_received)
    /// makes them the snapshot of the storage.
    Ready,
    /// All bytes are there, and they are no snapshot. The reception has ended.
    Undecodable,
}

/// The bytes of an encoded snapshot. Clones share them.
#[derive(Clone, Debug)]
pub struct SnapshotBytes {
    idx: u64,
    len: u64,
    digest: u64,
    reader: Arc<dyn ReadSnapshot>,
}

/// Reads the bytes of one snapshot, which never change.
pub trait ReadSnapshot: Debug + Send + Sync + UnwindSafe + RefUnwindSafe {
    /// Returns the `len` bytes from `offset` on, all of which the snapshot has.
    ///
    /// # Errors
    /// The bytes cannot be read, or have changed. The replica halts.
    fn read(&self, offset: u64, len: usize) -> StorageResult<Vec<u8>>;
}

impl SnapshotBytes {
    /// Creates the bytes of a snapshot of the first `idx` entries of the log. `len` is their number,
    /// `digest` is their [`SnapshotDigest`](super::SnapshotDigest).
    pub fn new(idx: u64, len: u64, digest: u64, reader: Arc<dyn ReadSnapshot>) -> Self {
        Self { idx, len, digest, reader }
    }

    /// Returns the number of entries that the snapshot stands for.
    pub fn idx(&self) -> u64 {
        self.idx
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Returns up to `len` bytes from `offset` on; fewer at the end.
    ///
    /// # Errors
    /// The bytes cannot be read, or have changed.
    pub fn read(&self, offset: u64, len: usize) -> StorageResult<Vec<u8>> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = len.min(left);
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.reader.read(offset, wanted)?;
        match bytes.len() == wanted {
            true => Ok(bytes),
            false => Err(format!("{} bytes of a snapshot, not {wanted}", bytes.len()).into()),
        }
    }
}
