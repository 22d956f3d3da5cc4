//! Snapshots that are larger than a message, at their source: each is encoded once, and sent in pieces.

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

/// Number of encodings that a source keeps at a time.
const MOST_KEPT: usize = 2;

/// Heartbeat rounds without a request after which another encoding may take the place of one. A receiver asks
/// every second round, also while it waits for its storage.
pub(super) const UNUSED_AFTER: u32 = 4;

/// The snapshots that this server sends in pieces. While one is asked for, it is kept, also if the log is
/// compacted further. So a slow receiver gets all of it, even if others need later snapshots meanwhile.
#[derive(Clone, Debug, Default)]
pub(in crate::sequence_paxos) struct EncodedSnapshots {
    /// At most [`MOST_KEPT`], of different encodings.
    kept: Vec<Kept>,
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

impl EncodedSnapshots {
    /// The encoding to send to a server that has decided `decided_idx` entries: the last one that is kept and
    /// is of use there.
    pub(super) fn after(&self, decided_idx: u64) -> Option<SnapshotEncoding> {
        let last = self.kept.iter().map(|kept| kept.encoding).max_by_key(|kept| kept.idx);
        last.filter(|kept| kept.idx > decided_idx)
    }

    /// Keeps the encoding of a snapshot of the first `idx` entries.
    pub(super) fn keep(&mut self, idx: u64, bytes: Vec<u8>) -> SnapshotEncoding {
        let (len, digest) = (bytes.len() as u64, encoding::digest(&bytes));
        self.insert(SnapshotEncoding { idx, len, digest }, Bytes::InMemory(bytes))
    }

    /// Keeps bytes that the storage has.
    pub(super) fn keep_stored(&mut self, bytes: SnapshotBytes) -> SnapshotEncoding {
        let (idx, len, digest) = (bytes.idx(), bytes.len(), bytes.digest());
        self.insert(SnapshotEncoding { idx, len, digest }, Bytes::Stored(bytes))
    }

    /// If there is no room, the earliest encoding goes that no server asks for; if servers ask for all, the last
    /// one. So the receiver of the earliest one gets to its end, whatever others need.
    fn insert(&mut self, encoding: SnapshotEncoding, bytes: Bytes) -> SnapshotEncoding {
        self.kept.retain(|kept| kept.encoding != encoding);
        if self.kept.len() >= MOST_KEPT {
            self.kept.sort_by_key(|kept| kept.encoding.idx);
            let unused = self.kept.iter().position(|kept| kept.unasked >= UNUSED_AFTER);
            self.kept.remove(unused.unwrap_or(self.kept.len() - 1));
        }
        self.kept.push(Kept { encoding, bytes, unasked: 0 });
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
        let Some(kept) = self.kept.iter_mut().find(|kept| kept.encoding == encoding) else {
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
        let in_memory = self.kept.iter().map(|kept| match &kept.bytes {
            Bytes::InMemory(bytes) => bytes.len() as u64,
            Bytes::Stored(_) => 0,
        });
        in_memory.sum()
    }

    /// A heartbeat round has ended: forgets an encoding that no server asks for.
    pub(super) fn end_round(&mut self) {
        self.kept.iter_mut().for_each(|kept| kept.unasked += 1);
        self.kept.retain(|kept| kept.unasked <= FORGOTTEN_AFTER);
    }
}
