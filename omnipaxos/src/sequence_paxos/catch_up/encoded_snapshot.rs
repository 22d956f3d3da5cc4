//! A snapshot that is larger than a message, at its source: encoded once, and sent in pieces.

use crate::{
    amount::Amount,
    entry::encoding,
    errors::Halted,
    messages::sequence_paxos::{PieceRequest, SnapshotEncoding, SnapshotPiece},
    storage::SnapshotBytes,
};

/// Heartbeat rounds after which a source forgets an encoding that no server asks for, and a receiver
/// the pieces that no other follows.
pub(super) const FORGOTTEN_AFTER: u32 = 12;

/// The snapshot that this server sends in pieces: at most one. While it is asked for, it is kept,
/// also if the log is compacted further.
#[derive(Clone, Debug, Default)]
pub(in crate::sequence_paxos) struct EncodedSnapshot {
    kept: Option<Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    encoding: SnapshotEncoding,
    bytes: Bytes,
    /// Heartbeat rounds since it was asked for.
    unasked: u32,
}

/// Where the bytes of an encoding are.
#[derive(Clone, Debug)]
enum Bytes {
    /// In memory, since the storage has none.
    InMemory(Vec<u8>),
    /// In the storage, which keeps them while they are asked for.
    Stored(SnapshotBytes),
}

impl Bytes {
    /// Returns up to `len` bytes from `offset` on; fewer at the end.
    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Halted> {
        match self {
            Bytes::InMemory(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let until = from.saturating_add(len).min(bytes.len());
                Ok(bytes.get(from..until).unwrap_or_default().to_vec())
            }
            Bytes::Stored(bytes) => bytes
                .read(offset, len)
                .map_err(|cause| Halted::new("read the encoded snapshot", cause)),
        }
    }
}

impl EncodedSnapshot {
    /// The encoding to send to a server that has decided `decided_idx` entries, if one is kept.
    pub(super) fn after(&self, decided_idx: u64) -> Option<SnapshotEncoding> {
        self.kept.as_ref().map(|kept| kept.encoding).filter(|kept| kept.idx > decided_idx)
    }

    /// Keeps the encoding of a snapshot of the first `idx` entries, in place of an earlier one.
    pub(super) fn keep(&mut self, idx: u64, bytes: Vec<u8>) -> SnapshotEncoding {
        let (len, digest) = (bytes.len() as u64, encoding::digest(&bytes));
        let encoding = SnapshotEncoding { idx, len, digest };
        self.kept = Some(Kept { encoding, bytes: Bytes::InMemory(bytes), unasked: 0 });
        encoding
    }

    /// Keeps bytes that the storage has, in place of an earlier encoding.
    pub(super) fn keep_stored(&mut self, bytes: SnapshotBytes) -> SnapshotEncoding {
        let (idx, len, digest) = (bytes.idx(), bytes.len(), bytes.digest());
        let encoding = SnapshotEncoding { idx, len, digest };
        self.kept = Some(Kept { encoding, bytes: Bytes::Stored(bytes), unasked: 0 });
        encoding
    }

    /// Pieces of what is asked for, each under the limit of a message, all under that of what may be
    /// in flight. None if that encoding is not kept.
    ///
    /// # Errors
    /// The storage failed.
    pub(super) fn pieces(
        &mut self,
        asks: PieceRequest,
        message: Amount,
        in_flight: Amount,
    ) -> Result<Vec<SnapshotPiece>, Halted> {
        let encoding = asks.encoding;
        let Some(kept) = self.kept.as_mut().filter(|kept| kept.encoding == encoding) else {
            return Ok(Vec::new());
        };
        kept.unasked = 0;
        let size = message.bytes.max(1);
        let wanted = asks.until.min(encoding.len);
        let until = wanted.min(asks.from.saturating_add(in_flight.bytes));
        let mut pieces = Vec::new();
        let mut offset = asks.from;
        while offset < until {
            let len = usize::try_from(size.min(until - offset)).unwrap_or(usize::MAX);
            let bytes = kept.bytes.read(offset, len)?;
            let end = offset + bytes.len() as u64;
            let is_cut = until < wanted && end == until;
            pieces.push(SnapshotPiece { encoding, offset, bytes, is_cut });
            offset = end;
        }
        Ok(pieces)
    }

    /// Number of bytes that are kept in memory.
    pub(in crate::sequence_paxos) fn kept(&self) -> u64 {
        match self.kept.as_ref().map(|kept| &kept.bytes) {
            Some(Bytes::InMemory(bytes)) => bytes.len() as u64,
            Some(Bytes::Stored(_)) | None => 0,
        }
    }

    /// A heartbeat round has ended: forgets an encoding that no server asks for.
    pub(super) fn end_round(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.unasked += 1;
        }
        self.kept.take_if(|kept| kept.unasked > FORGOTTEN_AFTER);
    }
}
