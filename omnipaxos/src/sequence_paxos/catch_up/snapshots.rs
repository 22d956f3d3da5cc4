//! Snapshots that are larger than a message: encoded once at the source, and sent in pieces.

use crate::{
    amount::Amount,
    entry::encoding,
    errors::Halted,
    ids::NodeId,
    messages::sequence_paxos::{EntryIds, PieceRequest, SnapshotEncoding, SnapshotPiece},
    storage::{Epoch, SnapshotBytes, SnapshotDigest},
};
use std::collections::BTreeMap;

/// Heartbeat rounds after which a source forgets an encoding that no server asks for, and a receiver
/// the pieces that no other follows.
const FORGOTTEN_AFTER: u32 = 12;

/// Heartbeat rounds without a piece after which another source may begin with its first piece.
const STALLED_AFTER: u32 = 2;

/// The number of snapshots in a row that could not be decoded after which a server asks for a whole one.
const UNDECODABLE_IN_A_ROW: u32 = 2;

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

/// The snapshot of which this server has received the beginning: at most one.
#[derive(Clone, Debug, Default)]
pub(in crate::sequence_paxos) struct PartialSnapshot {
    partial: Option<Partial>,
    /// Snapshots that could not be decoded, since one could.
    undecodable_in_a_row: u32,
    /// All that could not be decoded.
    undecodable: u64,
    /// Whether the storage receives a snapshot.
    is_in_storage: bool,
    /// Whether the storage receives a snapshot, or one has begun since it was last asked.
    is_storing: bool,
}

#[derive(Clone, Debug)]
struct Partial {
    source: NodeId,
    encoding: SnapshotEncoding,
    place: Place,
    /// The bytes without a gap that are kept in memory. They grow with what arrives.
    bytes: Vec<u8>,
    /// The digest of all bytes that arrived without a gap.
    digest: SnapshotDigest,
    /// Pieces beyond a gap, by offset.
    early: BTreeMap<u64, Vec<u8>>,
    /// The offset after the last byte that was asked for.
    requested_until: u64,
    /// The index of the first entry with an id here, and the ids of the entries that the snapshot sums up.
    ids: (u64, Option<Box<EntryIds>>),
    /// Heartbeat rounds since a piece came.
    waited: u32,
    /// What came with the last missing piece, if all are here.
    all_came_with: Option<Accompanying>,
}

/// Where the bytes of a partial snapshot are kept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In memory. The storage is not asked yet.
    Undecided,
    /// In memory, all of them.
    Memory,
    /// In the storage. Those that it was not passed yet are in memory.
    Storage {
        /// Number of bytes that the storage was passed.
        passed: u64,
        /// Number of bytes that the storage has written.
        written: u64,
    },
}

/// What travels with a piece.
#[derive(Clone, Debug)]
pub(super) struct Accompanying {
    /// Number of entries decided at the source.
    pub(super) decided_idx: u64,
    /// Number of entries compacted at the source.
    pub(super) compacted_idx: u64,
    /// The epoch that the snapshot ends in, if it is another one.
    pub(super) epoch: Option<Box<Epoch>>,
}

/// A snapshot of which all pieces came.
#[derive(Debug)]
pub(super) struct Complete {
    pub(super) source: NodeId,
    pub(super) idx: u64,
    /// None if the storage has received them.
    pub(super) bytes: Vec<u8>,
    /// The index of the first entry that `ids` covers.
    pub(super) base: u64,
    pub(super) ids: Option<Box<EntryIds>>,
    pub(super) with: Accompanying,
}

/// What became of a piece.
#[derive(Debug)]
pub(super) enum Piece {
    /// It is of another encoding, or was here before.
    Ignored,
    /// It was added. If it was the last one, the storage has still to decode the snapshot.
    Added,
    /// It was the last one.
    Last(Complete),
    /// It was the last one, and the bytes are not those of the encoding.
    Corrupt,
}

impl PartialSnapshot {
    /// Whether this server takes a snapshot in pieces.
    pub(super) fn takes_pieces(&self) -> bool {
        encoding::IS_SUPPORTED && self.undecodable_in_a_row < UNDECODABLE_IN_A_ROW
    }

    /// Number of snapshots that could not be decoded.
    pub(in crate::sequence_paxos) fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// Whether pieces arrive: another source would begin with its first piece.
    pub(super) fn is_arriving(&self) -> bool {
        self.partial
            .as_ref()
            .is_some_and(|partial| partial.waited < STALLED_AFTER || partial.is_complete())
    }

    /// Number of bytes that are kept in memory, here and in the storage.
    pub(in crate::sequence_paxos) fn kept(&self) -> u64 {
        self.partial.as_ref().map_or(0, |partial| {
            let early: usize = partial.early.values().map(Vec::len).sum();
            partial.in_memory() + early as u64
        })
    }

    /// Takes a piece of a snapshot that sums up more than the `decided_idx` entries decided here. Only
    /// a `source` that this server asks may begin another snapshot than the present one. `ids` are
    /// those of what the snapshot sums up, from `base` on, if it is the last piece.
    pub(super) fn take(
        &mut self,
        piece: SnapshotPiece,
        from: NodeId,
        source: Option<NodeId>,
        (base, ids): (u64, Option<Box<EntryIds>>),
        with: Accompanying,
    ) -> Piece {
        if self.partial.as_ref().is_some_and(Partial::is_complete) {
            return Piece::Ignored;
        }
        let is_present = self.partial.as_ref().is_some_and(|p| p.encoding == piece.encoding);
        if !is_present {
            let may_begin = self.partial.is_none() || source == Some(from);
            if piece.offset > 0 || !may_begin {
                return Piece::Ignored;
            }
            self.is_storing = true;
            self.partial = Some(Partial {
                source: from,
                encoding: piece.encoding,
                place: Place::Undecided,
                bytes: Vec::new(),
                digest: SnapshotDigest::default(),
                early: BTreeMap::new(),
                requested_until: piece.bytes.len() as u64,
                ids: (0, None),
                waited: 0,
                all_came_with: None,
            });
        }
        let Some(partial) = &mut self.partial else {
            return Piece::Ignored;
        };
        let end = piece.end();
        if end == Some(partial.encoding.len) {
            partial.ids = (base, ids);
        }
        let is_cut = piece.is_cut;
        if !partial.add(piece) {
            return Piece::Ignored;
        }
        let len = partial.arrived();
        if is_cut && end.is_some_and(|end| end <= len) {
            partial.requested_until = len;
        }
        (partial.source, partial.waited) = (from, 0);
        if len < partial.encoding.len {
            return Piece::Added;
        }
        if partial.digest.finish() != partial.encoding.digest {
            self.partial = None;
            return Piece::Corrupt;
        }
        partial.all_came_with = Some(with);
        match partial.place {
            Place::Undecided | Place::Memory => {
                self.take_complete().map_or(Piece::Ignored, Piece::Last)
            }
            Place::Storage { .. } => Piece::Added,
        }
    }

    /// Takes the snapshot, if all pieces came.
    pub(super) fn take_complete(&mut self) -> Option<Complete> {
        let partial = self.partial.take_if(|partial| partial.is_complete())?;
        let Partial { source, encoding, bytes, ids: (base, ids), all_came_with, .. } = partial;
        all_came_with.map(|with| Complete { source, idx: encoding.idx, bytes, base, ids, with })
    }

    /// Whether the storage has something to do, or is to be asked whether it receives a snapshot.
    #[inline]
    pub(in crate::sequence_paxos) fn is_storing(&self) -> bool {
        self.is_storing
    }

    /// Returns whether the storage receives a snapshot that is not wanted any more, and counts it as
    /// dropped.
    pub(super) fn drop_unwanted(&mut self) -> bool {
        let is_wanted = self.partial.as_ref().is_some_and(Partial::is_in_storage);
        let is_unwanted = self.is_in_storage && !is_wanted;
        self.is_in_storage &= is_wanted;
        is_unwanted
    }

    /// Number of bytes of a snapshot for which the storage is to be asked whether it receives them.
    pub(super) fn undecided(&self) -> Option<u64> {
        let partial = self.partial.as_ref();
        partial.filter(|partial| partial.place == Place::Undecided).map(|p| p.encoding.len)
    }

    /// The storage knows what has arrived.
    pub(super) fn note_stored(&mut self) {
        self.is_storing = self.is_in_storage;
    }

    /// Notes whether the storage receives the snapshot.
    pub(super) fn decide_place(&mut self, is_in_storage: bool) {
        self.is_in_storage = is_in_storage;
        if let Some(partial) = &mut self.partial {
            partial.place = match is_in_storage {
                true => Place::Storage { passed: 0, written: 0 },
                false => Place::Memory,
            };
        }
    }

    /// The bytes that the storage has not been passed yet, also if there are none; `None` if it does not
    /// receive this snapshot.
    pub(super) fn take_part(&mut self) -> Option<Vec<u8>> {
        let partial = self.partial.as_mut()?;
        match &mut partial.place {
            Place::Storage { passed, .. } => {
                *passed += partial.bytes.len() as u64;
                Some(std::mem::take(&mut partial.bytes))
            }
            Place::Undecided | Place::Memory => None,
        }
    }

    /// The storage has written this number of bytes. Returns the source, if that was progress.
    pub(super) fn note_written(&mut self, bytes: u64) -> Option<NodeId> {
        let partial = self.partial.as_mut()?;
        let is_complete = partial.is_complete();
        let Place::Storage { passed, written } = &mut partial.place else {
            return None;
        };
        let before = std::mem::replace(written, bytes.min(*passed).max(*written));
        let is_more = *written > before;
        if is_more {
            partial.waited = 0;
        }
        (is_more || is_complete).then_some(partial.source)
    }

    /// Forgets the snapshot that the storage could not decode, and returns its source.
    pub(super) fn take_undecodable(&mut self) -> Option<NodeId> {
        self.is_in_storage = false;
        self.partial.take().map(|partial| partial.source)
    }

    /// The snapshot that the storage has received is written.
    pub(super) fn note_installed(&mut self) {
        self.is_in_storage = false;
    }

    /// Whether half of what was asked for has come, and is written if the storage receives it, so that
    /// the next request is due.
    pub(super) fn is_request_due(&self, window: Amount) -> bool {
        self.partial.as_ref().is_some_and(|partial| {
            let left = partial.requested_until.saturating_sub(partial.written());
            partial.requested_until < partial.encoding.len && left <= window.bytes / 2
        })
    }

    /// The next bytes to ask for, of a snapshot that sums up more than `decided_idx` entries.
    pub(super) fn next_request(
        &mut self,
        decided_idx: u64,
        window: Amount,
    ) -> Option<PieceRequest> {
        self.partial.take_if(|partial| partial.encoding.idx <= decided_idx);
        let partial = self.partial.as_mut().filter(|partial| !partial.is_complete())?;
        let from = partial.requested_until;
        let until = partial.written().saturating_add(window.bytes).max(from.saturating_add(1));
        partial.requested_until = until.min(partial.encoding.len);
        Some(PieceRequest { encoding: partial.encoding, from, until: partial.requested_until })
    }

    /// What was asked for and did not come counts as lost.
    pub(super) fn rewind(&mut self) {
        if let Some(partial) = &mut self.partial {
            partial.requested_until = partial.arrived();
        }
    }

    /// Whether the snapshot could be decoded.
    pub(super) fn note_decoded(&mut self, could_be: bool) {
        if could_be {
            self.undecodable_in_a_row = 0;
        } else {
            self.undecodable_in_a_row = self.undecodable_in_a_row.saturating_add(1);
            self.undecodable = self.undecodable.saturating_add(1);
        }
    }

    /// Forgets the pieces.
    pub(super) fn clear(&mut self) {
        self.partial = None;
    }

    /// A heartbeat round has ended: forgets pieces that no other follows.
    pub(super) fn end_round(&mut self, decided_idx: u64) {
        if let Some(partial) = &mut self.partial {
            partial.waited += 1;
        }
        self.partial.take_if(|partial| {
            (partial.waited > FORGOTTEN_AFTER && !partial.is_complete())
                || partial.encoding.idx <= decided_idx
        });
    }
}

impl Partial {
    /// Number of bytes that arrived without a gap.
    fn arrived(&self) -> u64 {
        let passed = match self.place {
            Place::Undecided | Place::Memory => 0,
            Place::Storage { passed, .. } => passed,
        };
        passed + self.bytes.len() as u64
    }

    /// Number of bytes that need no memory any more; if all stay in memory, number of those that
    /// arrived.
    fn written(&self) -> u64 {
        match self.place {
            Place::Undecided | Place::Memory => self.arrived(),
            Place::Storage { written, .. } => written,
        }
    }

    /// Number of bytes without a gap that are in memory, here or in the storage.
    fn in_memory(&self) -> u64 {
        match self.place {
            Place::Undecided | Place::Memory => self.arrived(),
            Place::Storage { written, .. } => self.arrived() - written,
        }
    }

    fn is_in_storage(&self) -> bool {
        matches!(self.place, Place::Storage { .. })
    }

    fn is_complete(&self) -> bool {
        self.all_came_with.is_some()
    }

    /// Adds a piece. Returns whether there was something new in it. Pieces beyond a gap take no more
    /// than was asked for, also if they overlap.
    fn add(&mut self, piece: SnapshotPiece) -> bool {
        let len = self.arrived();
        if piece.offset > len {
            let early: usize = self.early.values().map(Vec::len).sum();
            let is_new = piece.offset < self.requested_until
                && (early + piece.bytes.len()) as u64 <= self.requested_until - len
                && !self.early.contains_key(&piece.offset);
            if is_new {
                self.early.insert(piece.offset, piece.bytes);
            }
            return is_new;
        }
        if !self.append(piece.offset, piece.bytes) {
            return false;
        }
        while let Some(first) = self.early.keys().next().filter(|at| **at <= self.arrived()) {
            let offset = *first;
            let bytes = self.early.remove(&offset).unwrap_or_default();
            self.append(offset, bytes);
        }
        self.requested_until = self.requested_until.max(self.arrived());
        true
    }

    /// Appends what is new in bytes that begin at the end or before.
    fn append(&mut self, offset: u64, mut bytes: Vec<u8>) -> bool {
        let known = usize::try_from(self.arrived().saturating_sub(offset)).unwrap_or(usize::MAX);
        bytes.drain(..known.min(bytes.len()));
        self.digest.update(&bytes);
        let is_new = !bytes.is_empty();
        match self.bytes.is_empty() {
            true => self.bytes = bytes,
            false => self.bytes.append(&mut bytes),
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::{
        encoding, Accompanying, Amount, Complete, EncodedSnapshot, PartialSnapshot, Piece,
        PieceRequest, SnapshotBytes, SnapshotPiece, FORGOTTEN_AFTER, STALLED_AFTER,
    };
    use crate::storage::{ReadSnapshot, StorageResult};
    use std::sync::Arc;

    const MESSAGE: Amount = Amount { entries: 1, bytes: 10 };
    const WINDOW: Amount = Amount { entries: 1, bytes: 40 };

    fn bytes(len: usize, seed: u8) -> Vec<u8> {
        (0..len).map(|at| (at as u8).wrapping_mul(7).wrapping_add(seed)).collect()
    }

    /// All pieces of a snapshot of the first `idx` entries.
    fn pieces(idx: u64, bytes: Vec<u8>) -> Vec<SnapshotPiece> {
        let mut source = EncodedSnapshot::default();
        let encoding = source.keep(idx, bytes);
        let asks = PieceRequest { encoding, from: 0, until: encoding.len };
        let pieces = source.pieces(asks, MESSAGE, Amount::UNLIMITED).unwrap();
        assert!(pieces.iter().all(|piece| piece.bytes.len() <= 10));
        pieces
    }

    fn with() -> Accompanying {
        Accompanying { decided_idx: 9, compacted_idx: 9, epoch: None }
    }

    fn take(partial: &mut PartialSnapshot, piece: &SnapshotPiece, from: u64) -> Option<Vec<u8>> {
        match partial.take(piece.clone(), from, Some(2), (0, None), with()) {
            Piece::Last(Complete { bytes, .. }) => Some(bytes),
            Piece::Ignored | Piece::Added | Piece::Corrupt => None,
        }
    }

    #[test]
    fn what_is_asked_for_in_windows_is_put_together() {
        let whole = bytes(105, 3);
        let mut source = EncodedSnapshot::default();
        let encoding = source.keep(9, whole.clone());
        let mut partial = PartialSnapshot::default();
        let first = PieceRequest { encoding, from: 0, until: 10 };
        let mut on_their_way = source.pieces(first, MESSAGE, WINDOW).unwrap();
        let (mut most, mut requests) = (0, 0);
        let complete = loop {
            let piece = on_their_way.remove(0);
            if let Some(complete) = take(&mut partial, &piece, 2) {
                break complete;
            }
            if partial.is_request_due(WINDOW) {
                let asks = partial.next_request(0, WINDOW).unwrap();
                on_their_way.extend(source.pieces(asks, MESSAGE, WINDOW).unwrap());
                requests += 1;
            }
            most = most.max(on_their_way.iter().map(|piece| piece.bytes.len()).sum());
        };
        assert_eq!(complete, whole);
        assert!(most <= 40 && requests < 8, "{most} in flight, {requests} requests");
        assert_eq!(partial.kept(), 0);
    }

    #[test]
    fn a_source_with_a_smaller_window_is_asked_again_at_once() {
        let whole = bytes(105, 3);
        let mut source = EncodedSnapshot::default();
        let encoding = source.keep(9, whole.clone());
        let mut partial = PartialSnapshot::default();
        let first = PieceRequest { encoding, from: 0, until: 10 };
        let of_source = Amount { entries: 1, bytes: 20 };
        let (mut on_their_way, mut sent) = (source.pieces(first, MESSAGE, of_source).unwrap(), 1);
        let complete = loop {
            let piece = on_their_way.remove(0);
            if let Some(complete) = take(&mut partial, &piece, 2) {
                break complete;
            }
            if partial.is_request_due(Amount::UNLIMITED) {
                let asks = partial.next_request(0, Amount::UNLIMITED).unwrap();
                on_their_way.extend(source.pieces(asks, MESSAGE, of_source).unwrap());
                sent += on_their_way.len();
            }
        };
        assert_eq!((complete, sent), (whole, 11), "each piece is sent once");
    }

    #[test]
    fn pieces_in_any_order_with_copies_are_put_together() {
        let whole = bytes(95, 1);
        let pieces = pieces(9, whole.clone());
        let mut partial = PartialSnapshot::default();
        take(&mut partial, &pieces[0], 2);
        partial.next_request(0, Amount::UNLIMITED).unwrap();
        for piece in pieces[1..].iter().rev().chain(&pieces[..9]).skip(1) {
            assert!(take(&mut partial, piece, 2).is_none(), "the last one is lost");
        }
        assert_eq!(partial.kept(), 90);
        assert_eq!(take(&mut partial, &pieces[9], 2), Some(whole));
    }

    #[test]
    fn pieces_of_two_encodings_never_mix() {
        let (ours, theirs) = (pieces(9, bytes(95, 1)), pieces(9, bytes(95, 2)));
        let mut partial = PartialSnapshot::default();
        take(&mut partial, &ours[0], 2);
        take(&mut partial, &theirs[1], 2);
        take(&mut partial, &theirs[0], 3);
        assert_eq!(partial.kept(), 10, "3 is not asked, and the others begin in the middle");
        take(&mut partial, &theirs[0], 2);
        for piece in &ours {
            assert!(take(&mut partial, piece, 3).is_none());
        }
        partial.next_request(0, Amount::UNLIMITED).unwrap();
        let complete = theirs.iter().find_map(|piece| take(&mut partial, piece, 2));
        assert_eq!(complete, Some(bytes(95, 2)));
    }

    #[test]
    fn a_lie_about_the_length_allocates_nothing() {
        let mut lie = pieces(9, bytes(95, 1)).remove(0);
        lie.encoding.len = u64::MAX;
        let mut partial = PartialSnapshot::default();
        take(&mut partial, &lie, 2);
        assert_eq!(partial.kept(), 10);
        assert!(partial.partial.as_ref().unwrap().bytes.capacity() <= 16);
        let far = SnapshotPiece { offset: 1 << 40, ..lie };
        take(&mut partial, &far, 2);
        assert_eq!(partial.kept(), 10, "it was not asked for");
    }

    #[test]
    fn pieces_that_overlap_take_no_more_than_was_asked_for() {
        let first = pieces(9, bytes(95, 1)).remove(0);
        let mut partial = PartialSnapshot::default();
        take(&mut partial, &first, 2);
        let asked = partial.next_request(0, WINDOW).unwrap();
        for offset in asked.from + 1..asked.until {
            let piece = SnapshotPiece { offset, ..first.clone() };
            take(&mut partial, &piece, 2);
        }
        assert!(partial.kept() <= asked.until, "{} bytes of {asked:?}", partial.kept());
    }

    #[test]
    fn bytes_with_another_digest_are_corrupt() {
        let mut pieces = pieces(9, bytes(15, 1));
        pieces[1].bytes[0] ^= 1;
        let mut partial = PartialSnapshot::default();
        take(&mut partial, &pieces[0], 2);
        partial.next_request(0, WINDOW).unwrap();
        let outcome = partial.take(pieces.remove(1), 2, Some(2), (0, None), with());
        assert!(matches!(outcome, Piece::Corrupt), "{outcome:?}");
        assert_eq!(partial.kept(), 0);
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let mut source = EncodedSnapshot::default();
        let encoding = source.keep(9, bytes(95, 1));
        let asks = PieceRequest { encoding, from: 90, until: 95 };
        for _ in 0..FORGOTTEN_AFTER {
            source.end_round();
        }
        assert_eq!(source.pieces(asks, MESSAGE, WINDOW).unwrap().len(), 1);
        assert_eq!((source.after(8), source.after(9)), (Some(encoding), None));
        for _ in 0..=FORGOTTEN_AFTER {
            source.end_round();
        }
        assert!(source.pieces(asks, MESSAGE, WINDOW).unwrap().is_empty());
        assert_eq!(encoding.digest, encoding::digest(&bytes(95, 1)));
    }

    #[test]
    fn after_snapshots_that_cannot_be_decoded_a_whole_one_is_taken() {
        let mut partial = PartialSnapshot::default();
        partial.note_decoded(false);
        assert_eq!(partial.takes_pieces(), encoding::IS_SUPPORTED);
        partial.note_decoded(false);
        assert!(!partial.takes_pieces());
        partial.note_decoded(true);
        assert_eq!((partial.takes_pieces(), partial.undecodable()), (encoding::IS_SUPPORTED, 2));
    }

    #[test]
    fn a_snapshot_arrives_until_its_source_is_silent() {
        let pieces = pieces(9, bytes(95, 1));
        let mut partial = PartialSnapshot::default();
        take(&mut partial, &pieces[1], 2);
        assert!(!partial.is_arriving(), "it begins with the first piece");
        take(&mut partial, &pieces[0], 2);
        for rounds in 0..=FORGOTTEN_AFTER {
            assert_eq!(partial.is_arriving(), rounds < STALLED_AFTER);
            assert_eq!(partial.kept(), 10, "after {rounds} rounds");
            partial.end_round(8);
        }
        assert_eq!(partial.kept(), 0);
        take(&mut partial, &pieces[0], 2);
        partial.end_round(9);
        assert_eq!(partial.kept(), 0, "all of it is decided");
        take(&mut partial, &pieces[0], 2);
        partial.clear();
        assert!(!partial.is_arriving() && partial.kept() == 0);
    }

    #[test]
    fn pieces_that_were_asked_for_wait_for_those_before() {
        let whole = bytes(45, 1);
        let pieces = pieces(9, whole.clone());
        let mut partial = PartialSnapshot::default();
        take(&mut partial, &pieces[0], 2);
        assert!(partial.is_request_due(WINDOW));
        partial.next_request(0, Amount { entries: 1, bytes: 30 }).unwrap();
        for (piece, kept) in [(2, 20), (2, 20), (4, 20), (3, 30), (1, 40)] {
            take(&mut partial, &pieces[piece], 2);
            assert_eq!(partial.kept(), kept, "piece {piece}");
        }
        assert_eq!(take(&mut partial, &pieces[4], 2), Some(whole));
    }

    #[test]
    fn early_pieces_beyond_a_gap_stay() {
        let whole = bytes(45, 1);
        let pieces = pieces(9, whole.clone());
        let mut partial = PartialSnapshot::default();
        take(&mut partial, &pieces[0], 2);
        partial.next_request(0, WINDOW).unwrap();
        for piece in [3, 1, 2] {
            assert_eq!(take(&mut partial, &pieces[piece], 2), None);
        }
        assert_eq!(take(&mut partial, &pieces[4], 2), Some(whole));
    }

    #[test]
    fn more_is_asked_for_when_half_a_window_is_left() {
        let pieces = pieces(9, bytes(95, 1));
        let mut partial = PartialSnapshot::default();
        take(&mut partial, &pieces[0], 2);
        partial.next_request(0, WINDOW).unwrap();
        let mut due = vec![partial.is_request_due(WINDOW)];
        for piece in &pieces[1..5] {
            take(&mut partial, piece, 2);
            due.push(partial.is_request_due(WINDOW));
        }
        assert_eq!(due, [false, false, true, true, true]);
    }

    #[test]
    fn the_ids_are_those_of_the_last_piece() {
        let pieces = pieces(9, bytes(25, 1));
        let mut partial = PartialSnapshot::default();
        let mut last = None;
        for (piece, base) in pieces.iter().zip(1..) {
            let taken = partial.take(piece.clone(), 2, Some(2), (base, None), with());
            if let Piece::Last(complete) = taken {
                last = Some(complete.base);
            }
        }
        assert_eq!(last, Some(3));
    }

    /// A server that passes on to its storage what arrives.
    struct Storing {
        partial: PartialSnapshot,
        passed: Vec<u8>,
    }

    impl Storing {
        fn of(first: &SnapshotPiece) -> Self {
            let mut partial = PartialSnapshot::default();
            take(&mut partial, first, 2);
            assert!(partial.is_storing() && !partial.drop_unwanted());
            assert_eq!(partial.undecided(), Some(first.encoding.len));
            partial.decide_place(true);
            Self { partial, passed: Vec::new() }
        }

        /// An output, after which the storage has written this number of bytes.
        fn output(&mut self, written: u64) {
            assert!(!self.partial.drop_unwanted() && self.partial.undecided().is_none());
            self.passed.extend(self.partial.take_part().unwrap());
            self.partial.note_written(written);
        }
    }

    #[test]
    fn the_storage_gets_all_bytes_in_order() {
        let whole = bytes(95, 1);
        let pieces = pieces(9, whole.clone());
        let mut storing = Storing::of(&pieces[0]);
        storing.partial.next_request(0, Amount::UNLIMITED).unwrap();
        for at in [2, 1, 1, 4, 3, 5, 6, 8, 9] {
            assert_eq!(take(&mut storing.partial, &pieces[at], 2), None);
            storing.output(0);
            assert!(storing.partial.take_complete().is_none());
        }
        assert_eq!(storing.partial.kept(), 95 - 10);
        assert_eq!(take(&mut storing.partial, &pieces[7], 2), None);
        storing.output(60);
        assert_eq!((&storing.passed, storing.partial.kept()), (&whole, 35));
        let complete = storing.partial.take_complete().unwrap();
        assert_eq!((complete.source, complete.idx, complete.bytes), (2, 9, Vec::new()));
        storing.partial.note_installed();
        storing.partial.note_stored();
        assert!(!storing.partial.is_storing() && !storing.partial.drop_unwanted());
    }

    #[test]
    fn a_slow_storage_is_not_overtaken() {
        let pieces = pieces(9, bytes(995, 1));
        let mut storing = Storing::of(&pieces[0]);
        let asked = storing.partial.next_request(0, WINDOW).unwrap();
        assert_eq!((asked.from, asked.until), (10, 40));
        pieces[1..4].iter().for_each(|piece| drop(take(&mut storing.partial, piece, 2)));
        storing.output(10);
        assert!(!storing.partial.is_request_due(WINDOW), "30 bytes are not written");
        for (written, until) in [(20, 60), (40, 80)] {
            storing.output(written);
            assert!(storing.partial.is_request_due(WINDOW), "{written}");
            let asked = storing.partial.next_request(0, WINDOW).unwrap();
            assert_eq!(asked.until, until);
        }
        // What was asked for is lost, and the storage still writes.
        storing.partial.rewind();
        assert_eq!(storing.partial.next_request(0, WINDOW).unwrap().from, 40);
        for _ in 0..FORGOTTEN_AFTER {
            storing.output(1000);
            storing.partial.end_round(0);
        }
        assert!(!storing.partial.is_arriving() && !storing.partial.drop_unwanted());
        storing.partial.end_round(0);
        assert!(storing.partial.is_storing() && storing.partial.drop_unwanted());
        storing.partial.note_stored();
        assert!(!storing.partial.is_storing() && !storing.partial.drop_unwanted());
    }

    #[test]
    fn a_complete_snapshot_waits_for_the_storage() {
        let (ours, theirs) = (pieces(9, bytes(15, 1)), pieces(12, bytes(15, 2)));
        let mut storing = Storing::of(&ours[0]);
        storing.partial.next_request(0, WINDOW).unwrap();
        take(&mut storing.partial, &ours[1], 2);
        for _ in 0..3 * FORGOTTEN_AFTER {
            storing.output(0);
            storing.partial.end_round(8);
            assert!(storing.partial.is_arriving() && !storing.partial.is_request_due(WINDOW));
            assert!(storing.partial.next_request(8, WINDOW).is_none());
            assert!(take(&mut storing.partial, &theirs[0], 2).is_none());
        }
        storing.partial.end_round(9);
        assert!(storing.partial.drop_unwanted(), "all of it is decided");
        assert!(storing.partial.take_complete().is_none());
    }

    #[test]
    fn another_snapshot_takes_the_place_in_the_storage() {
        let (ours, theirs) = (pieces(9, bytes(95, 1)), pieces(12, bytes(95, 2)));
        let mut storing = Storing::of(&ours[0]);
        storing.output(10);
        take(&mut storing.partial, &theirs[0], 2);
        assert!(storing.partial.drop_unwanted());
        assert_eq!(storing.partial.undecided(), Some(95));
        storing.partial.decide_place(true);
        assert_eq!(storing.partial.take_part().as_deref(), Some(&bytes(95, 2)[..10]));
        assert_eq!(storing.partial.take_undecodable(), Some(2));
        storing.partial.note_stored();
        assert!(!storing.partial.is_storing() && storing.partial.take_part().is_none());
    }

    #[test]
    fn corrupt_bytes_are_dropped_in_the_storage() {
        let mut pieces = pieces(9, bytes(15, 1));
        pieces[1].bytes[0] ^= 1;
        let mut storing = Storing::of(&pieces[0]);
        storing.partial.next_request(0, WINDOW).unwrap();
        storing.output(10);
        let outcome = storing.partial.take(pieces.remove(1), 2, Some(2), (0, None), with());
        assert!(matches!(outcome, Piece::Corrupt), "{outcome:?}");
        assert!(storing.partial.drop_unwanted() && storing.partial.take_part().is_none());
    }

    #[test]
    fn bytes_of_a_storage_are_read_when_they_are_asked_for() {
        #[derive(Debug)]
        struct Reader(Vec<u8>);
        impl ReadSnapshot for Reader {
            fn read(&self, offset: u64, len: usize) -> StorageResult<Vec<u8>> {
                match offset {
                    90.. => Err("it is damaged".into()),
                    _ => Ok(self.0[offset as usize..][..len].to_vec()),
                }
            }
        }
        let whole = bytes(95, 1);
        let digest = encoding::digest(&whole);
        let mut source = EncodedSnapshot::default();
        let stored = SnapshotBytes::new(9, 95, digest, Arc::new(Reader(whole.clone())));
        let encoding = source.keep_stored(stored);
        assert_eq!(pieces(9, whole)[0].encoding, encoding);
        assert_eq!(source.kept(), 0);
        let asks = |from, until| PieceRequest { encoding, from, until };
        let read = source.pieces(asks(0, 60), MESSAGE, WINDOW).unwrap();
        assert_eq!(
            read,
            pieces(9, bytes(95, 1))[..4].iter().cloned().map(cut_at_40).collect::<Vec<_>>()
        );
        assert!(source.pieces(asks(90, 95), MESSAGE, WINDOW).is_err(), "it is damaged");
    }

    fn cut_at_40(piece: SnapshotPiece) -> SnapshotPiece {
        SnapshotPiece { is_cut: piece.end() == Some(40), ..piece }
    }
}
