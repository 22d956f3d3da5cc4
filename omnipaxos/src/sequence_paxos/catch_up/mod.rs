//! Learning decided entries from any server.
//!
//! A follower that lacks too much for its leader to send is told where to learn it. A server
//! that is cut off from its leader, or has none, asks its peers in turn, one a heartbeat round. So
//! every server that is linked to an informed one learns all that is decided, also where nobody
//! can lead. Whoever asks decides how fast: the next chunk is asked for when one has come.

mod requester;

pub(super) use self::requester::Requester;

use super::{state::State, Contact, LeadershipChange, SequencePaxos};
use crate::{
    errors::Halted,
    ids::NodeId,
    messages::sequence_paxos::CatchUpChunk,
    observe::trace::LogEvent,
    replica_log::ChunkOutcome,
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// `teller` knows that so much is decided, and names a source to learn it from. If the source
    /// does not answer here, the teller takes its place.
    pub(super) fn catch_up_to(&mut self, decided_idx: u64, source: NodeId, teller: NodeId) {
        self.catch_up.resume();
        if self.log.decided_idx() >= decided_idx {
            self.report_caught_up();
        } else {
            let is_reachable = self.routing.is_reachable(source);
            let source = self.catch_up.begin(if is_reachable { source } else { teller });
            source.into_iter().for_each(|source| self.outbox.request_chunk(source));
        }
    }

    /// Asks `source` until it has no more to tell.
    pub(super) fn catch_up_from(&mut self, source: NodeId) {
        self.outbox.request_chunk(self.catch_up.ask(source));
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
        if (leads && self.catch_up.contact() == Contact::Kept) || self.is_catch_up_paused() {
            return Ok(());
        }
        if chunk.len().is_some_and(|len| len > self.log.decided_idx()) {
            self.keep_what_it_led(from)?;
        }
        if self.is_trimmed_at(from, &chunk) {
            self.catch_up.finish(from);
            return Ok(());
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
            self.catch_up.finish(from);
            self.finish_catch_up(from);
            self.wait_for_news(from);
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
        self.catch_up.stop();
    }

    /// Tells the leader what is decided here now.
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

    /// This server learns from others faster than its leader can bring it in step: an AcceptSync
    /// ended before what is decided here, though it did not when it was sent. For a few rounds
    /// nothing more is learned, so that the next one is in time. The link to the leader may be
    /// slow, so each pause is longer than the last.
    pub(super) fn pause_catch_up(&mut self) {
        self.catch_up.pause();
    }

    /// This server has promised another ballot, or is in step.
    pub(super) fn end_pauses(&mut self) {
        self.catch_up.end_pauses();
    }

    fn is_catch_up_paused(&self) -> bool {
        self.catch_up.is_paused() && matches!(self.state, State::Promised { .. })
    }

    /// A heartbeat round has ended. A source that tells nothing is asked again and then given up:
    /// the leader names another, or the peers are asked in turn.
    pub(super) fn catch_up_in_turn(&mut self, contact: Contact) {
        self.catch_up.begin_round(contact);
        if !self.is_catch_up_paused() {
            let source = self.catch_up.repeat(self.routing.reachable());
            source.into_iter().for_each(|source| self.outbox.request_chunk(source));
        }
    }
}

#[cfg(test)]
mod tests;
