//! Catching up: fetching decided entries from any server.
//!
//! If a follower lacks more than its leader may send, the leader names a server that has the
//! entries. A server that is cut off from its leader, or has none, asks its peers in turn, one each
//! heartbeat round. So every server that is linked to an informed one learns all decided entries,
//! also while no server can lead. The requester sets the pace: it requests the next chunk when one
//! has arrived.

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
    /// Catches up to `decided_idx`, which `reporter` reported, from `source`. If the source does not
    /// answer here, the requests go to `reporter`.
    pub(super) fn catch_up_to(&mut self, decided_idx: u64, source: NodeId, reporter: NodeId) {
        self.catch_up.resume();
        if self.log.decided_idx() >= decided_idx {
            self.report_caught_up();
        } else {
            let is_reachable = self.routing.is_reachable(source);
            let source = self.catch_up.begin(if is_reachable { source } else { reporter });
            source.into_iter().for_each(|source| self.outbox.request_chunk(source));
        }
    }

    /// Requests chunks from `source` until it has no more.
    pub(super) fn catch_up_from(&mut self, source: NodeId) {
        self.outbox.request_chunk(self.catch_up.ask(source));
    }

    /// Handles a chunk of decided entries.
    ///
    /// A leader applies it only if it reaches no quorum: if others have decided more then, the
    /// leader resigns. A copy of an earlier chunk causes no further request, since the copies would
    /// multiply.
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
            // A request to another server would bring the same entries again, so it is not
            // repeated.
            self.catch_up_from(from);
        } else {
            self.catch_up.finish(from);
            self.finish_catch_up(from);
            self.wait_for_news(from);
        }
        Ok(())
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
        if !self.is_catch_up_paused() {
            let source = self.catch_up.repeat(self.routing.reachable());
            source.into_iter().for_each(|source| self.outbox.request_chunk(source));
        }
    }
}

#[cfg(test)]
mod tests;
