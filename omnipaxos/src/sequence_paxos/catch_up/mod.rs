//! Catching up: fetching decided entries from any server.
//!
//! If a follower lacks more than its leader may send, the leader names a server that has the
//! entries. A server asks its peers in turn, one each heartbeat round, if it is cut off from its leader or
//! has none, or if it waits and does not hear its leader's heartbeats. So every server that is linked to an
//! informed one learns all decided entries, also while no server can lead. The requester sets the pace: it
//! requests the next chunk when one has arrived.
//!
//! The first chunk reports the decided index of its source. If more than that chunk is missing, ranges of
//! the rest are asked for at all servers that can be reached (`ranges`). A snapshot that is larger than
//! a message comes from one server, in pieces (`encoded_snapshots` at the source, `partial_snapshot`
//! at the receiver).

mod encoded_snapshots;
mod partial_snapshot;
mod ranges;
mod requester;
mod sources;

pub(super) use self::{
    encoded_snapshots::EncodedSnapshots, partial_snapshot::PartialSnapshot, ranges::Ranges,
    requester::Requester,
};

use self::{
    partial_snapshot::{Accompanying, Complete, Piece},
    ranges::Sources,
};
use super::{state::State, Contact, LeadershipChange, SequencePaxos};
use crate::{
    entry::encoding,
    errors::Halted,
    ids::NodeId,
    messages::sequence_paxos::{CatchUpChunk, SnapshotPiece},
    observe::trace::LogEvent,
    replica_log::{ChunkOutcome, SnapshotIn},
    storage::{Entry, Reception, SnapshotType, Storage},
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
            source.into_iter().for_each(|source| self.turn_to(source));
        }
    }

    /// Requests chunks from `source` until it has no more.
    pub(super) fn catch_up_from(&mut self, source: NodeId) {
        let source = self.catch_up.ask(source);
        self.turn_to(source);
    }

    /// Asks `informed`, which reported a higher configuration, for the decided entries that this server
    /// lacks. Returns false, and asks nothing, if another server was asked in this round, or pieces of a
    /// snapshot arrive: another server has another one, and would begin with its first piece.
    pub(crate) fn ask_informed(&mut self, informed: NodeId) -> bool {
        if self.partial_snapshot.is_arriving() {
            return false;
        }
        let source = self.catch_up.begin(informed);
        source.into_iter().for_each(|source| self.turn_to(source));
        source.is_some()
    }

    /// Requests a chunk from `source`. What another source was asked for counts as lost.
    fn turn_to(&mut self, source: NodeId) {
        self.partial_snapshot.turn_to(source);
        self.outbox.request_chunk(source);
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
        if !self.takes_chunks() {
            return Ok(());
        }
        self.compaction.note_source(chunk.compacted_idx);
        match chunk.piece.take() {
            Some(piece) => self.handle_piece(*piece, chunk, from)?,
            None => self.take_chunk(chunk, SnapshotIn::Chunk, from)?,
        }
        match self.members.is_observer() {
            true => self.give_up_applied(),
            false => Ok(()),
        }
    }

    /// Whether a chunk may change the log now.
    fn takes_chunks(&self) -> bool {
        let leads = matches!(self.state, State::Leading(_));
        let has_quorum = leads && self.catch_up.contact() == Contact::Kept;
        !(has_quorum || self.is_epoch_due() || self.is_catch_up_paused())
    }

    fn take_chunk(
        &mut self,
        chunk: CatchUpChunk<T>,
        snapshot_in: SnapshotIn,
        from: NodeId,
    ) -> Result<(), Halted> {
        let is_answer = self.ranges.note(&chunk, from);
        if chunk.base > self.log.decided_idx() {
            // Without its snapshot such a chunk would later count as one of trimmed entries.
            let may_wait = snapshot_in == SnapshotIn::Chunk && self.catch_up.source().is_some();
            if may_wait && self.ranges.keep(chunk, from, &self.limits) {
                self.catch_up.progress();
                if is_answer {
                    self.request_ranges(from);
                }
            }
            return Ok(());
        }
        let sender_decided_idx = chunk.decided_idx;
        if snapshot_in == SnapshotIn::Chunk && self.is_trimmed_at(from, &chunk) {
            self.catch_up.finish(from);
            return Ok(());
        }
        match self.apply_chunk(chunk, snapshot_in, from)? {
            ChunkOutcome::Advanced => {}
            ChunkOutcome::Gap | ChunkOutcome::Stale => {
                if is_answer {
                    self.request_ranges(from);
                }
                return Ok(());
            }
        }
        while let Some((source, early)) = self.ranges.pop_ready(self.log.decided_idx()) {
            self.apply_chunk(early, SnapshotIn::Chunk, source)?;
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
        snapshot_in: SnapshotIn,
        from: NodeId,
    ) -> Result<ChunkOutcome, Halted> {
        if chunk.len().is_some_and(|len| len > self.log.decided_idx()) {
            self.keep_what_it_led(from)?;
        }
        let outcome = self.log.apply_chunk(chunk, snapshot_in)?;
        match outcome {
            ChunkOutcome::Advanced => self.codec.invalidate(),
            ChunkOutcome::Gap | ChunkOutcome::Stale => return Ok(outcome),
        }
        match &mut self.state {
            State::Leading(_) => self.resign(from),
            State::Following(ack) => ack.schedule(),
            State::Recovering | State::Promised { .. } | State::Preparing(_) => {}
        }
        if self.has_left_epoch() {
            self.leave_epoch();
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
        if piece.encoding.len > self.limits.snapshot_bytes {
            self.refuse_snapshot(piece.encoding.len, from);
            return Ok(());
        }
        let source = self.catch_up.source();
        let CatchUpChunk { base, ids, decided_idx, compacted_idx, epoch, .. } = chunk;
        let with = Accompanying { decided_idx, compacted_idx, epoch };
        match self.partial_snapshot.take(piece, from, source, (base, ids), with) {
            Piece::Ignored => {}
            Piece::Added => {
                self.catch_up.ask(from);
                if self.partial_snapshot.is_request_due(self.limits.pieces_in_flight()) {
                    self.outbox.request_chunk(from);
                }
            }
            Piece::Corrupt => self.drop_snapshot(from),
            Piece::Last(mut complete) => match encoding::decode(&complete.bytes) {
                None => self.drop_snapshot(from),
                Some(snapshot) => {
                    drop(std::mem::take(&mut complete.bytes));
                    let snapshot = Some(SnapshotType::Complete(snapshot));
                    return self.take_snapshot(complete, snapshot, SnapshotIn::Chunk);
                }
            },
        }
        Ok(())
    }

    /// Takes a snapshot of which all pieces came, and which was decoded.
    fn take_snapshot(
        &mut self,
        complete: Complete,
        snapshot: Option<SnapshotType<T>>,
        snapshot_in: SnapshotIn,
    ) -> Result<(), Halted> {
        self.partial_snapshot.note_decoded(true);
        let Complete { source, idx, base, ids, with, .. } = complete;
        let Accompanying { decided_idx, compacted_idx, epoch } = with;
        let empty = self.log.empty_chunk(self.config_id, base);
        let from_idx = idx;
        let whole =
            CatchUpChunk { snapshot, from_idx, ids, epoch, decided_idx, compacted_idx, ..empty };
        self.take_chunk(whole, snapshot_in, source)
    }

    /// Whether the storage receives a snapshot, or is to be asked whether it does. Then the next output
    /// [passes it on](Self::store_snapshot).
    #[inline]
    pub(crate) fn is_storing_snapshot(&self) -> bool {
        self.partial_snapshot.is_storing()
    }

    /// Passes on to the storage what has arrived of a snapshot in pieces. Installs the snapshot when the
    /// storage has written and decoded all of it, and this server may take it.
    ///
    /// Invariant I27: a snapshot that the storage receives replaces the log only when all its bytes are
    /// those of one encoding, are durable, and were decoded. The write that replaces the log then does
    /// so as a whole. Until then, and after a crash, the storage holds what it held before.
    pub(crate) fn store_snapshot(&mut self) -> Result<(), Halted> {
        let stored = self.pass_on_snapshot();
        self.partial_snapshot.note_stored();
        stored
    }

    fn pass_on_snapshot(&mut self) -> Result<(), Halted> {
        if self.partial_snapshot.drop_unwanted() {
            self.log.end_receiving()?;
        }
        if let Some(bytes) = self.partial_snapshot.undecided() {
            let is_in_storage = self.log.begin_receiving(bytes)?;
            self.partial_snapshot.decide_place(is_in_storage);
        }
        let Some(part) = self.partial_snapshot.take_part() else {
            return Ok(());
        };
        match self.log.receive(part)? {
            Reception::Pending { written } => {
                if let Some(source) = self.partial_snapshot.note_written(written) {
                    self.catch_up.ask(source);
                    if self.partial_snapshot.is_request_due(self.limits.pieces_in_flight()) {
                        self.outbox.request_chunk(source);
                    }
                }
                Ok(())
            }
            Reception::Ready if self.takes_chunks() => {
                match self.partial_snapshot.take_complete() {
                    Some(complete) => self.install_stored(complete),
                    None => Ok(()),
                }
            }
            Reception::Ready => Ok(()),
            Reception::Undecodable => {
                if let Some(source) = self.partial_snapshot.take_undecodable() {
                    self.drop_snapshot(source);
                }
                Ok(())
            }
        }
    }

    fn install_stored(&mut self, complete: Complete) -> Result<(), Halted> {
        let idx = complete.idx;
        self.take_snapshot(complete, None, SnapshotIn::Storage)?;
        if self.log.compacted_idx() == idx {
            self.partial_snapshot.note_installed();
        }
        Ok(())
    }

    /// The bytes that `from` has sent are no snapshot: asks another server.
    fn drop_snapshot(&mut self, from: NodeId) {
        self.partial_snapshot.note_decoded(false);
        self.trace
            .emit(|| LogEvent::warn("drops a snapshot that cannot be decoded").with_peer(from));
        let other = self.reachable_after(from).find(|pid| *pid != from);
        self.catch_up_from(other.unwrap_or(from));
    }

    /// The snapshot that `from` sends is larger than this server takes: asks another server. Each is
    /// refused once in a heartbeat round, so that servers which have nothing else are not asked all the
    /// time.
    fn refuse_snapshot(&mut self, bytes: u64, from: NodeId) {
        let may_be_source = self.catch_up.source().is_none_or(|source| source == from);
        if !may_be_source || !self.partial_snapshot.note_oversized(from) {
            return;
        }
        let limit = self.limits.snapshot_bytes;
        self.trace.emit(|| {
            let text = "refuses a snapshot that is larger than max_snapshot_bytes";
            let why = format!("it has {bytes} bytes, the limit is {limit}");
            LogEvent::warn(text).with_peer(from).because(why)
        });
        self.catch_up.finish(from);
        let is_untried = |pid: &NodeId| !self.partial_snapshot.is_oversized_at(*pid);
        let other = self.reachable_after(from).find(is_untried);
        other.into_iter().for_each(|other| self.catch_up_from(other));
    }

    /// The servers that can be reached, those after `from` first.
    fn reachable_after(&self, from: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let reachable = self.routing.reachable();
        reachable.iter().chain(reachable).copied().skip_while(move |pid| *pid != from)
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
                // If the leader is gone, there is no AcceptSync to wait for.
                if self.catch_up.contact() != Contact::Lost {
                    self.catch_up.wait_again();
                }
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
    /// leader names another, or the peers are asked in turn. It is not dropped while this server's own
    /// storage needs the time: the next source would begin with its first piece, and so would each after it.
    /// It is asked for a byte meanwhile, every second round, so that it keeps the snapshot.
    pub(super) fn catch_up_in_turn(&mut self, contact: Contact) {
        self.catch_up.begin_round(contact);
        self.encoded_snapshots.end_round();
        self.partial_snapshot.end_round(self.log.decided_idx());
        let has_lost_ranges = self.ranges.end_round();
        if self.is_catch_up_paused() {
            return;
        }
        if let Some(source) = self.catch_up.repeat(self.routing.reachable()) {
            if self.partial_snapshot.waits_for_storage() {
                self.catch_up.progress();
            }
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
