//! A snapshot that is larger than a message, at its receiver: put together from its pieces.

use super::encoded_snapshots::FORGOTTEN_AFTER;
use crate::{
    amount::Amount,
    entry::encoding,
    ids::NodeId,
    messages::sequence_paxos::{EntryIds, PieceRequest, SnapshotEncoding, SnapshotPiece},
    storage::{Epoch, SnapshotDigest},
};
use std::collections::{BTreeMap, BTreeSet};

/// Heartbeat rounds without a piece after which another source may begin with its first piece.
const STALLED_AFTER: u32 = 2;

/// The number of snapshots in a row that could not be decoded after which a server asks for a whole one.
const UNDECODABLE_IN_A_ROW: u32 = 2;

/// The heartbeat rounds in which a server asks for a whole one, times the number of those in a row. Then it takes
/// pieces again: one source may have been damaged, and a whole snapshot may be too large for the network.
const ROUNDS_FOR_WHOLE: u32 = 12;

/// The snapshot of which this server has received the beginning: at most one.
#[derive(Clone, Debug, Default)]
pub(in crate::sequence_paxos) struct PartialSnapshot {
    partial: Option<Partial>,
    /// Snapshots that could not be decoded, since one could.
    undecodable_in_a_row: u32,
    /// Heartbeat rounds in which this server takes no snapshot in pieces.
    rounds_for_whole: u32,
    /// All that could not be decoded.
    undecodable: u64,
    /// All that were larger than this server takes.
    oversized: u64,
    /// The servers whose snapshots were too large in this heartbeat round.
    oversized_at: BTreeSet<NodeId>,
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
    /// Heartbeat rounds without a piece, except those in which the storage [still wrote](Self::waits_for_storage).
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
        encoding::IS_SUPPORTED && self.rounds_for_whole == 0
    }

    /// Number of snapshots that could not be decoded.
    pub(in crate::sequence_paxos) fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// Number of snapshots that were larger than this server takes.
    pub(in crate::sequence_paxos) fn oversized(&self) -> u64 {
        self.oversized
    }

    /// Whether pieces arrive: another source would begin with its first piece.
    pub(in crate::sequence_paxos) fn is_arriving(&self) -> bool {
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

    /// Whether all that was asked for has come, and the storage still writes it. The source is not silent
    /// then: it owes nothing.
    pub(super) fn waits_for_storage(&self) -> bool {
        self.partial.as_ref().is_some_and(Partial::waits_for_storage)
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

    /// `source` is asked next. What another one was asked for and did not send counts as lost.
    pub(super) fn turn_to(&mut self, source: NodeId) {
        if self.partial.as_ref().is_some_and(|partial| partial.source != source) {
            self.rewind();
        }
    }

    /// Whether the snapshot could be decoded.
    pub(super) fn note_decoded(&mut self, could_be: bool) {
        if could_be {
            self.undecodable_in_a_row = 0;
        } else {
            self.undecodable_in_a_row = self.undecodable_in_a_row.saturating_add(1);
            self.undecodable = self.undecodable.saturating_add(1);
            if self.undecodable_in_a_row >= UNDECODABLE_IN_A_ROW {
                self.rounds_for_whole = self.undecodable_in_a_row.saturating_mul(ROUNDS_FOR_WHOLE);
            }
        }
    }

    /// The snapshot of `source` is larger than this server takes. Returns whether that is new in this
    /// heartbeat round.
    pub(super) fn note_oversized(&mut self, source: NodeId) -> bool {
        let is_new = self.oversized_at.insert(source);
        self.oversized = self.oversized.saturating_add(u64::from(is_new));
        is_new
    }

    /// Whether the snapshot of `source` was too large in this heartbeat round.
    pub(super) fn is_oversized_at(&self, source: NodeId) -> bool {
        self.oversized_at.contains(&source)
    }

    /// Forgets the pieces.
    pub(super) fn clear(&mut self) {
        self.partial = None;
    }

    /// A heartbeat round has ended: forgets pieces that no other follows.
    pub(super) fn end_round(&mut self, decided_idx: u64) {
        self.oversized_at.clear();
        self.rounds_for_whole = self.rounds_for_whole.saturating_sub(1);
        if let Some(partial) = &mut self.partial {
            partial.waited += u32::from(!partial.waits_for_storage());
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

    fn waits_for_storage(&self) -> bool {
        let arrived = self.arrived();
        !self.is_complete() && self.requested_until <= arrived && self.written() < arrived
    }

    /// Adds a piece. Returns whether there was something new in it. A piece that was not asked for is
    /// ignored. Pieces beyond a gap take no more than was asked for, also if they overlap.
    fn add(&mut self, piece: SnapshotPiece) -> bool {
        if piece.offset >= self.requested_until {
            return false;
        }
        let len = self.arrived();
        if piece.offset > len {
            let early: usize = self.early.values().map(Vec::len).sum();
            let is_new = (early + piece.bytes.len()) as u64 <= self.requested_until - len
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
mod tests;
