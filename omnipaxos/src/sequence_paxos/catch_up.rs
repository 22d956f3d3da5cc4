//! Learning decided entries from any server.
//!
//! A follower that lacks too much for its leader to send is told where to learn it. A server
//! that is cut off from its leader, or has none, asks its peers in turn, one a heartbeat round. So
//! every server that is linked to an informed one learns all that is decided, also where nobody
//! can lead. Whoever asks decides how fast: the next chunk is asked for when one has come.

use super::{state::State, Contact, LeadershipChange, SequencePaxos};
use crate::{
    errors::Halted,
    ids::NodeId,
    messages::sequence_paxos::{CatchUpChunk, CatchUpRequest},
    replica_log::ChunkOutcome,
    storage::{Entry, Storage},
    trace::LogEvent,
};

/// Whom this server learns from.
#[derive(Clone, Debug, Default)]
pub(super) struct CatchUp {
    /// The server that is asked until it has no more to tell.
    source: Option<NodeId>,
    /// Heartbeat rounds since it was asked or told something.
    waited: u32,
    /// While it is lost, peers are asked in turn.
    contact: Contact,
    /// The peer asked last in turn.
    turn: usize,
    /// Heartbeat rounds for which nothing is learned.
    pause: u32,
    /// How many those were last, in the ballot that this server has promised.
    last_pause: u32,
}

/// Rounds after which a source that tells nothing is asked again.
const ASKED_AGAIN_AFTER: u32 = 2;

/// Rounds after which it is given up.
const GIVEN_UP_AFTER: u32 = 4;

/// Rounds of the first and of the longest pause.
const SHORTEST_PAUSE: u32 = 2;
const LONGEST_PAUSE: u32 = 8;

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// `teller` knows that so much is decided, and names a source to learn it from. If the source
    /// does not answer here, the teller takes its place.
    pub(super) fn catch_up_to(&mut self, decided_idx: u64, source: NodeId, teller: NodeId) {
        self.catch_up.pause = 0;
        if self.log.decided_idx() >= decided_idx {
            self.report_caught_up();
        } else if self.catch_up.source.is_none() || self.catch_up.waited > 0 {
            let is_reachable = self.reachable.contains(&source);
            self.catch_up_from(if is_reachable { source } else { teller });
        }
    }

    /// Asks `source` until it has no more to tell.
    pub(super) fn catch_up_from(&mut self, source: NodeId) {
        self.catch_up.source = Some(source);
        self.catch_up.waited = 0;
        self.outbox.request_chunk(source);
    }

    /// A server asks for decided entries.
    pub(super) fn handle_catch_up_request(&mut self, asks: &CatchUpRequest, from: NodeId) {
        if asks.decided_idx < self.log.decided_idx() {
            self.outbox.send_chunk(from, asks.decided_idx);
        }
    }

    /// A server tells what is decided. A leader takes it only where it reaches no quorum: if others
    /// have decided more then, it leads no longer. A copy of an earlier chunk is not answered, or
    /// copies would breed.
    pub(super) fn handle_catch_up_chunk(
        &mut self,
        chunk: CatchUpChunk<T>,
        from: NodeId,
    ) -> Result<(), Halted> {
        let sender_decided_idx = chunk.decided_idx;
        let leads = matches!(self.state, State::Leading(_));
        if (leads && self.catch_up.contact == Contact::Kept) || self.is_catch_up_paused() {
            return Ok(());
        }
        if chunk.len().is_some_and(|len| len > self.log.decided_idx()) {
            self.keep_what_it_led(from)?;
        }
        match self.log.apply_chunk(chunk)? {
            ChunkOutcome::Advanced => self.codec.invalidate(),
            ChunkOutcome::Gap | ChunkOutcome::Stale => return Ok(()),
        }
        match &mut self.state {
            State::Leading(_) => self.resign(from),
            State::Following(ack) => ack.schedule(),
            State::Recovering | State::Promised { .. } | State::Preparing(_) => {}
        }
        if self.log.decided_idx() < sender_decided_idx {
            // Whoever was asked besides would tell the same once more, and is not asked again then.
            self.catch_up_from(from);
        } else {
            if self.catch_up.source == Some(from) {
                self.catch_up.source = None;
            }
            self.finish_catch_up(from);
        }
        Ok(())
    }

    /// All that `from` has decided is decided here.
    fn finish_catch_up(&mut self, from: NodeId) {
        if let State::Preparing(preparing) = &mut self.state {
            if let Some(progress) = preparing.followers.get_mut(from) {
                progress.ask_again_if_put_off();
            }
        }
        self.report_caught_up();
    }

    /// Gives up leading, since others have decided what this server could not.
    fn resign(&mut self, teller: NodeId) {
        self.drop_what_it_led(teller);
        self.state = State::Recovering;
        let n = self.log.promise();
        self.trace.emit(|| LogEvent::info("resigns, since others have decided more").in_ballot(n));
        self.leadership_change = Some(LeadershipChange::Resigned);
        self.ask_all_for_leader();
    }

    /// Learns from nobody: this server was promised by a quorum, and leads.
    pub(super) fn stop_catch_up(&mut self) {
        self.catch_up.source = None;
        self.catch_up.contact = Contact::Kept;
    }

    /// Tells the leader what is decided here now.
    fn report_caught_up(&mut self) {
        match &mut self.state {
            State::Following(ack) => ack.schedule(),
            State::Promised { is_promise_due, .. } => {
                *is_promise_due = true;
                self.catch_up.pause = self.catch_up.last_pause;
            }
            State::Recovering | State::Preparing(_) | State::Leading(_) => {}
        }
    }

    /// This server learns from others faster than its leader can bring it in step: an AcceptSync
    /// ended before what is decided here, though it did not when it was sent. For a few rounds
    /// nothing more is learned, so that the next one is in time. The link to the leader may be
    /// slow, so each pause is longer than the last.
    pub(super) fn pause_catch_up(&mut self) {
        let pause = (2 * self.catch_up.last_pause).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        (self.catch_up.pause, self.catch_up.last_pause) = (pause, pause);
        self.catch_up.source = None;
    }

    /// This server has promised another ballot, or is in step.
    pub(super) fn end_pauses(&mut self) {
        (self.catch_up.pause, self.catch_up.last_pause) = (0, 0);
    }

    fn is_catch_up_paused(&self) -> bool {
        self.catch_up.pause > 0 && matches!(self.state, State::Promised { .. })
    }

    /// A heartbeat round has ended. A source that tells nothing is asked again and then given up:
    /// the leader names another, or the peers are asked in turn.
    pub(super) fn catch_up_in_turn(&mut self, contact: Contact) {
        self.catch_up.contact = contact;
        self.catch_up.pause = self.catch_up.pause.saturating_sub(1);
        if self.is_catch_up_paused() {
            return;
        }
        if let Some(source) = self.catch_up.source {
            self.catch_up.waited += 1;
            match self.catch_up.waited {
                ASKED_AGAIN_AFTER => self.outbox.request_chunk(source),
                GIVEN_UP_AFTER.. => self.catch_up.source = None,
                0..ASKED_AGAIN_AFTER | ASKED_AGAIN_AFTER..GIVEN_UP_AFTER => {}
            }
        }
        if self.catch_up.source.is_none() && contact == Contact::Lost {
            self.ask_next();
        }
    }

    /// Asks the next of the peers that are there.
    fn ask_next(&mut self) {
        let turn = self.catch_up.turn.wrapping_add(1) % self.reachable.len().max(1);
        self.catch_up.turn = turn;
        if let Some(peer) = self.reachable.get(turn) {
            self.outbox.request_chunk(*peer);
        }
    }
}
