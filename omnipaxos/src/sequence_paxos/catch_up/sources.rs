//! The source: answers requests for decided entries.

use super::super::SequencePaxos;
use crate::{
    errors::Halted,
    ids::NodeId,
    messages::sequence_paxos::{
        CatchUpChunk, CatchUpRequest, DecidedRange, PaxosMsg, PieceRequest,
    },
    replica_log::Answer,
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Asks for what follows on the decided index, or for the rest of a snapshot.
    pub(in crate::sequence_paxos) fn build_catch_up_request(
        &mut self,
        waits: bool,
    ) -> CatchUpRequest {
        let decided_idx = self.log.decided_idx();
        CatchUpRequest {
            config_id: self.config_id,
            decided_idx,
            takes_delta: self.log.takes_delta(),
            waits,
            takes_pieces: self.partial_snapshot.takes_pieces(),
            range: None,
            piece: self.partial_snapshot.next_request(decided_idx, self.limits.pieces_in_flight()),
        }
    }

    /// The requests for ranges that are due, and the servers that they go to.
    pub(in crate::sequence_paxos) fn build_range_requests(
        &mut self,
        mut send: impl FnMut(NodeId, PaxosMsg<T>),
    ) {
        let (config_id, decided_idx) = (self.config_id, self.log.decided_idx());
        for (source, from_idx, until_idx) in self.ranges.take_due() {
            let asks = CatchUpRequest {
                config_id,
                decided_idx,
                takes_delta: false,
                waits: false,
                takes_pieces: false,
                range: Some(DecidedRange { from_idx, until_idx }),
                piece: None,
            };
            send(source, PaxosMsg::CatchUpRequest(Box::new(asks)));
        }
    }

    /// Answers a request for decided entries.
    pub(in crate::sequence_paxos) fn build_chunks(
        &mut self,
        asks: &CatchUpRequest,
        mut send: impl FnMut(PaxosMsg<T>),
    ) -> Result<(), Halted> {
        if let Some(piece) = asks.piece.filter(|piece| piece.encoding.idx > asks.decided_idx) {
            if self.build_pieces(asks, piece, &mut send)? > 0 {
                return Ok(());
            }
        }
        let kept = self.encoded_snapshots.after(asks.decided_idx);
        let kept = kept.filter(|encoding| self.log.knows_epoch_of(encoding.idx));
        let encoding = match kept.filter(|_| asks.takes_pieces && asks.range.is_none()) {
            Some(encoding) => encoding,
            None => match self.log.chunk(asks.config_id, asks, self.limits.message)? {
                Answer::Nothing => {
                    let first = self.first_epoch_for(asks);
                    first
                        .into_iter()
                        .for_each(|chunk| send(PaxosMsg::CatchUpChunk(Box::new(chunk))));
                    return Ok(());
                }
                Answer::Chunk(chunk) => {
                    send(PaxosMsg::CatchUpChunk(Box::new(chunk)));
                    return Ok(());
                }
                Answer::LargeSnapshot { idx, bytes } => self.encoded_snapshots.keep(idx, bytes),
                Answer::StoredSnapshot(bytes) => self.encoded_snapshots.keep_stored(bytes),
            },
        };
        // If this server has encoded the same bytes, it continues where the other source ended.
        let until = encoding.len.min(self.limits.message.bytes.max(1));
        let first = PieceRequest { encoding, from: 0, until };
        let piece = asks.piece.filter(|piece| piece.encoding == encoding).unwrap_or(first);
        self.build_pieces(asks, piece, &mut send).map(drop)
    }

    /// Returns a chunk without entries, with the configuration of an empty log, for a server that joins and
    /// does not know it yet. Such a server could not propose before the others have decided something. A
    /// server sends it once it has accepted a ballot, since then a quorum has this configuration; or if it
    /// learned it in this way.
    pub(in crate::sequence_paxos) fn first_epoch_for(
        &self,
        asks: &CatchUpRequest,
    ) -> Option<CatchUpChunk<T>> {
        let is_agreed = self.learned_members || !self.log.accepted_round().is_nobodys();
        if !is_agreed || self.log.decided_idx() > 0 || asks.range.is_some() {
            return None;
        }
        let epoch = self.log.epoch_to_send(asks.config_id, 0)?;
        Some(CatchUpChunk { epoch: Some(epoch), ..self.log.empty_chunk(asks.config_id, 0) })
    }

    /// Returns the number of pieces.
    fn build_pieces(
        &mut self,
        asks: &CatchUpRequest,
        piece: PieceRequest,
        send: &mut impl FnMut(PaxosMsg<T>),
    ) -> Result<usize, Halted> {
        if !self.log.knows_epoch_of(piece.encoding.idx) {
            return Ok(0);
        }
        let (message, in_flight) = (self.limits.message, self.limits.pieces_in_flight());
        let pieces = self.encoded_snapshots.pieces(piece, message, in_flight)?;
        let count = pieces.len();
        for piece in pieces {
            let is_last = piece.end() == Some(piece.encoding.len);
            let ids = || self.log.ids_of_snapshot(asks.decided_idx, piece.encoding.idx);
            let ids = is_last.then(ids).flatten();
            let epoch = self.log.epoch_to_send(asks.config_id, piece.encoding.idx);
            let empty = self.log.empty_chunk(asks.config_id, asks.decided_idx);
            let chunk = CatchUpChunk { ids, piece: Some(Box::new(piece)), epoch, ..empty };
            send(PaxosMsg::CatchUpChunk(Box::new(chunk)));
        }
        Ok(count)
    }
}
