//! Catching up: fetching decided entries from any server.
//!
//! If a follower lacks more than its leader may send, the leader names a server that has the
//! entries. A server that is cut off from its leader, or has none, asks its peers in turn, one each
//! heartbeat round. So every server that is linked to an informed one learns all decided entries,
//! also while no server can lead. The requester sets the pace: it requests the next chunk when one
//! has arrived.
//!
//! The first chunk reports the decided index of its source. If more than that chunk is missing, ranges of
//! the rest are asked for at all servers that can be reached (`ranges`). A snapshot that is larger than
//! a message comes from one server, in pieces (`snapshots`).

mod ranges;
mod requester;
mod snapshots;
mod sources;

pub(super) use self::{
    ranges::Ranges,
    requester::Requester,
    snapshots::{EncodedSnapshot, PartialSnapshot},
};

use self::{
    ranges::Sources,
    snapshots::{Complete, Piece},
};
use super::{state::State, Contact, LeadershipChange, SequencePaxos};
use crate::{
    entry::encoding,
    errors::Halted,
    ids::NodeId,
    messages::sequence_paxos::{CatchUpChunk, SnapshotPiece},
    observe::trace::LogEvent,
    replica_log::ChunkOutcome,
    storage::{Entry, SnapshotType, Storage},
};

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Catches up to `decided_idx`, which `reporter` reported, from `source`. If the source does not
    /// answer here, the requests go to `reporter`.
    pub(super) fn catch_up_to(&mut self, decided_idx: u64, source: NodeId, reporter: NodeId) {
        self.catch_up.resume();
        if self.log.decided_idx() >= decided_idx {
            self.report_caught_up();
        } else if !self.partial_snapshot.is_arriving() {
            let is_reachable = self.routing.is_reachable(source);
            let source = self.catch_up.begin(if is_reachable { source } else { reporter });
            source.into_iter().for_each(|source| self.outbox.request_chunk(source));
        }
    }

    /// Requests chunks from `source` until it has no more.
    pub(super) fn catch_up_from(&mut self, source: NodeId) {
        self.outbox.request_chunk(self.catch_up.ask(source));
    }

    /// Asks `informed`, which reported a higher configuration, for the decided entries that this server
    /// lacks. Returns false, and asks nothing, if another server was asked in this round.
    pub(crate) fn ask_informed(&mut self, informed: NodeId) -> bool {
        let source = self.catch_up.begin(informed);
        source.into_iter().for_each(|source| self.outbox.request_chunk(source));
        source.is_some()
    }

    /// Begins the next epoch: no server answers the requests of the epoch before.
    pub(super) fn restart_catch_up(&mut self) {
        self.catch_up = Requester::default();
        self.ranges = Ranges::default();
        self.partial_snapshot.clear();
    }

    /// Handles a chunk of decided entries.
    ///
    /// A leader applies it only if it reaches no quorum: if others have decided more then, the
    /// leader resigns. A copy of an earlier chunk causes no further request, since the copies would
    /// multiply.
    pub(super) fn handle_catch_up_chunk(
        &mut self,
        mut chunk: CatchUpChunk<T>,
        from: NodeId,
    ) -> Result<(), Halted> {
        if self.is_epoch_due() {
            return Ok(());
        }
        let leads = matches!(self.state, State::Leading(_));
        if (leads && self.catch_up.contact() == Contact::Kept) || self.is_catch_up_paused() {
            return Ok(());
        }
        if let Some(piece) = chunk.piece.take() {
            return self.handle_piece(*piece, chunk, from);
        }
        let is_answer = self.ranges.note(&chunk, from);
        if chunk.base > self.log.decided_idx() {
            let is_catching_up = self.catch_up.source().is_some();
            if is_catching_up && self.ranges.keep(chunk, from, &self.limits) {
                self.catch_up.progress();
                if is_answer {
                    self.request_ranges(from);
                }
            }
            return Ok(());
        }
        let sender_decided_idx = chunk.decided_idx;
        if self.is_trimmed_at(from, &chunk) {
            self.catch_up.finish(from);
            return Ok(());
        }
        match self.apply_chunk(chunk, from)? {
            ChunkOutcome::Advanced => {}
            ChunkOutcome::Gap | ChunkOutcome::Stale => {
                if is_answer {
                    self.request_ranges(from);
                }
                return Ok(());
            }
        }
        while let Some((source, early)) = self.ranges.pop_ready(self.log.decided_idx()) {
            self.apply_chunk(early, source)?;
        }
        if self.log.decided_idx() < sender_decided_idx.max(self.ranges.goal()) {
            self.catch_up.progress();
            self.request_ranges(from);
        } else {
            self.finish_sources(from);
            self.wait_for_news(from);
        }
        Ok(())
    }

    /// Applies a chunk that begins at the decided index or before.
    fn apply_chunk(
        &mut self,
        chunk: CatchUpChunk<T>,
        from: NodeId,
    ) -> Result<ChunkOutcome, Halted> {
        if chunk.len().is_some_and(|len| len > self.log.decided_idx()) {
            self.keep_what_it_led(from)?;
        }
        let outcome = self.log.apply_chunk(chunk)?;
        match outcome {
            ChunkOutcome::Advanced => self.codec.invalidate(),
            ChunkOutcome::Gap | ChunkOutcome::Stale => return Ok(outcome),
        }
        match &mut self.state {
            State::Leading(_) => self.resign(from),
            State::Following(ack) => ack.schedule(),
            State::Recovering | State::Promised { .. } | State::Preparing(_) => {}
        }
        Ok(outcome)
    }

    /// Takes a piece of a snapshot. Invariant I22: a snapshot is put together from pieces of one
    /// encoding only, and installed as a whole.
    fn handle_piece(
        &mut self,
        piece: SnapshotPiece,
        chunk: CatchUpChunk<T>,
        from: NodeId,
    ) -> Result<(), Halted> {
        if piece.encoding.idx <= self.log.decided_idx() {
            return Ok(());
        }
        let source = self.catch_up.source();
        match self.partial_snapshot.take(piece, from, source, (chunk.base, chunk.ids)) {
            Piece::Ignored => {}
            Piece::Added => {
                self.catch_up.ask(from);
                if self.partial_snapshot.is_request_due(self.limits.in_flight) {
                    self.outbox.request_chunk(from);
                }
            }
            Piece::Corrupt => self.drop_snapshot(from),
            Piece::Last(Complete { idx, bytes, base, ids }) => match encoding::decode(&bytes) {
                None => self.drop_snapshot(from),
                Some(snapshot) => {
                    drop(bytes);
                    self.partial_snapshot.note_decoded(true);
                    let snapshot = Some(SnapshotType::Complete(snapshot));
                    let CatchUpChunk { decided_idx, compacted_idx, .. } = chunk;
                    let empty = self.log.empty_chunk(self.config_id, base);
                    let whole = CatchUpChunk {
                        snapshot,
                        from_idx: idx,
                        ids,
                        epoch: chunk.epoch,
                        decided_idx,
                        compacted_idx,
                        ..empty
                    };
                    return self.handle_catch_up_chunk(whole, from);
                }
            },
        }
        Ok(())
    }

    /// The bytes that `from` has sent are no snapshot: asks another server.
    fn drop_snapshot(&mut self, from: NodeId) {
        self.partial_snapshot.note_decoded(false);
        self.trace
            .emit(|| LogEvent::warn("drops a snapshot that cannot be decoded").with_peer(from));
        let reachable = self.routing.reachable();
        let after = reachable.iter().chain(reachable).skip_while(|pid| **pid != from);
        let other = after.copied().find(|pid| *pid != from).unwrap_or(from);
        self.catch_up_from(other);
    }

    /// Asks the servers that can be reached for ranges of what is missing. If none of them holds the
    /// entries at the decided index, asks one for what it has in their place.
    fn request_ranges(&mut self, from: NodeId) {
        // The sender has answered. The source may be silent, for instance since it refuses observers.
        let has_more = self.ranges.has_beyond(from, self.log.decided_idx());
        let source = self.catch_up.source().filter(|_| !has_more).unwrap_or(from);
        if !self.assign_ranges() {
            self.catch_up_from(source);
        } else if self.catch_up.source().is_none() {
            self.catch_up.ask(source);
        }
    }

    /// Returns whether some server is asked for the entries at the decided index.
    fn assign_ranges(&mut self) -> bool {
        let sources = Sources {
            reachable: self.routing.reachable(),
            leader: self.leader(),
            limits: &self.limits,
        };
        !self.log.takes_delta() && self.ranges.assign(self.log.decided_idx(), sources)
    }

    /// All that is known to be decided is decided here.
    fn finish_sources(&mut self, from: NodeId) {
        let source = self.catch_up.source();
        self.catch_up.finish(from);
        self.finish_catch_up(from);
        if let Some(source) = source.filter(|source| self.ranges.knows(*source)) {
            self.catch_up.finish(source);
            self.finish_catch_up(source);
        }
        if self.catch_up.source().is_none() {
            self.ranges.clear();
        }
    }

    /// Records that all entries that `from` has decided are decided here.
    fn finish_catch_up(&mut self, from: NodeId) {
        if let State::Preparing(preparing) = &mut self.state {
            if let Some(progress) = preparing.followers.get_mut(from) {
                progress.ask_again_if_put_off();
            }
        }
        self.report_caught_up();
    }

    /// Stops leading, since others have decided entries that this server could not decide.
    fn resign(&mut self, reporter: NodeId) {
        self.drop_what_it_led(reporter);
        self.state = State::Recovering;
        let n = self.log.promise();
        self.trace.emit(|| LogEvent::info("resigns, since others have decided more").in_ballot(n));
        self.leadership_change = Some(LeadershipChange::Resigned);
        self.ask_all_for_leader();
    }

    /// Stops catching up: a quorum has promised this server, which leads.
    pub(super) fn stop_catch_up(&mut self) {
        self.catch_up.stop();
        self.ranges.clear();
        self.partial_snapshot.clear();
    }

    /// Reports the new decided index to the leader.
    fn report_caught_up(&mut self) {
        match &mut self.state {
            State::Following(ack) => ack.schedule(),
            State::Promised { is_promise_due, .. } => {
                *is_promise_due = true;
                self.catch_up.wait_again();
            }
            State::Recovering | State::Preparing(_) | State::Leading(_) => {}
        }
    }

    /// Pauses, since this server catches up faster than its leader can sync it: an AcceptSync ended
    /// before the decided index here, though it did not when it was sent. For a few rounds this
    /// server fetches nothing, so that the next AcceptSync arrives in time. The link to the leader
    /// may be slow, so each pause is longer than the last.
    pub(super) fn pause_catch_up(&mut self) {
        self.catch_up.pause();
        self.ranges.clear();
    }

    /// Ends the pauses: this server has promised another ballot, or replicates.
    pub(super) fn end_pauses(&mut self) {
        self.catch_up.end_pauses();
    }

    fn is_catch_up_paused(&self) -> bool {
        self.catch_up.is_paused() && matches!(self.state, State::Promised { .. })
    }

    /// Ends a heartbeat round. A source that does not answer is asked again, and then dropped: the
    /// leader names another, or the peers are asked in turn.
    pub(super) fn catch_up_in_turn(&mut self, contact: Contact) {
        self.catch_up.begin_round(contact);
        self.encoded_snapshot.end_round();
        self.partial_snapshot.end_round(self.log.decided_idx());
        let has_lost_ranges = self.ranges.end_round();
        if self.is_catch_up_paused() {
            return;
        }
        if let Some(source) = self.catch_up.repeat(self.routing.reachable()) {
            self.partial_snapshot.rewind();
            self.outbox.request_chunk(source);
        }
        match self.catch_up.source() {
            Some(source) if has_lost_ranges && !self.assign_ranges() => {
                self.outbox.request_chunk(source);
            }
            Some(_) => {}
            None => self.ranges.clear(),
        }
    }
}

#[cfg(test)]
mod tests;
