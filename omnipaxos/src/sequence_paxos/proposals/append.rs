//! Appends proposals to the log of a leader, or lets them wait.

use super::{
    pending::{IdentifiedProposal, Interest},
    queue::Next,
};
use crate::{
    amount::Amount,
    ballot::Ballot,
    errors::{ProposeErr, TryProposeErr},
    identity::Stamp,
    ids::NodeId,
    messages::sequence_paxos::{ProposalRejection, RejectionReason},
    observe::trace::LogEvent,
    proposals::{Outcome, ProposalId},
    sequence_paxos::{state::State, SequencePaxos},
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Proposes an entry at this server.
    pub(crate) fn append(&mut self, entry: T) -> Result<(), TryProposeErr<T>> {
        if self.refuses_entries() {
            return Err(ProposeErr::PendingReconfigEntry(entry).into());
        }
        let amount = Amount::one(entry.size_hint());
        if let Err(cause) = self.check_entry(&entry, amount.bytes) {
            return Err(TryProposeErr::Unstorable(entry, cause));
        }
        if self.proposals.queue.waits_for_nothing() && self.has_room_in_log() {
            self.log.append(entry, amount.bytes);
            return Ok(());
        }
        if !self.proposals.queue.has_room(self.proposals.pending.amount()) {
            return Err(TryProposeErr::Busy(entry));
        }
        self.proposals.queue.push(entry, amount);
        self.propose_if_leading();
        Ok(())
    }

    /// Proposes an entry at this server, and keeps it until its outcome is known.
    pub(crate) fn propose(&mut self, entry: T) -> Result<ProposalId, TryProposeErr<T>> {
        self.mind_predecessor();
        let Some(id) = self.peek_id() else {
            return Err(TryProposeErr::NoIncarnation(entry));
        };
        if self.refuses_entries() {
            return Err(ProposeErr::PendingReconfigEntry(entry).into());
        }
        let bytes = entry.size_hint() as u64;
        if let Err(cause) = self.check_entry(&entry, bytes) {
            return Err(TryProposeErr::Unstorable(entry, cause));
        }
        if !self.proposals.queue.has_room(self.proposals.pending.amount()) {
            return Err(TryProposeErr::Busy(entry));
        }
        self.proposals.take_number();
        self.proposals.pending.keep(id, entry, bytes, Interest::Outcome, self.log.decided_idx());
        self.proposals.queue.push_pending(id);
        self.propose_if_leading();
        Ok(id)
    }

    /// Returns the id of the next proposal of this server. `None` if it may equal an earlier id.
    pub(in crate::sequence_paxos) fn peek_id(&self) -> Option<ProposalId> {
        let (origin, number) = (self.pid, self.proposals.next_number);
        self.incarnation.map(|incarnation| ProposalId { origin, incarnation, number })
    }

    /// Returns the oldest outcome that was not reported.
    pub(crate) fn take_outcome(&mut self) -> Option<(ProposalId, Outcome)> {
        self.proposals.outcomes.pop()
    }

    /// Returns whether this server leads and may append another entry. When the leader changes, the
    /// undecided entries must fit into one message, unless this server decides alone.
    fn has_room_in_log(&self) -> bool {
        let State::Leading(leading) = &self.state else {
            return false;
        };
        if self.is_held_back() || self.log.stopsign().is_some() {
            return false;
        }
        let limit = match self.members.quorum().can_accept(1) {
            true => self.limits.pending,
            false => self.limits.message,
        };
        self.log.undecided(leading.undecided.total()).is_below(limit)
    }

    /// Returns whether proposals wait for a leadership transfer.
    fn is_held_back(&self) -> bool {
        match &self.state {
            State::Leading(leading) => {
                leading.transfer.as_ref().is_some_and(|transfer| transfer.holds_back())
            }
            State::Recovering
            | State::Promised { .. }
            | State::Following(_)
            | State::Preparing(_) => false,
        }
    }

    /// Drops and counts a proposal for which there is no room.
    pub(crate) fn drop_proposal(&mut self) {
        self.trace.emit(|| LogEvent::warn("drops a proposal, since the queue is full"));
        self.proposals.queue.drop_one();
    }

    /// Returns the number of proposals dropped for lack of room.
    pub(crate) fn dropped_proposals(&self) -> u64 {
        self.proposals.queue.dropped()
    }

    /// Returns the number of proposals that wait for a full batch.
    pub(crate) fn batched_len(&self) -> usize {
        usize::try_from(self.proposals.queue.batched()).unwrap_or(usize::MAX)
    }

    /// Appends waiting proposals, if this server leads, as far as batches are full and there is
    /// room. After a stop sign no entry can be decided in this configuration.
    pub(in crate::sequence_paxos) fn propose_if_leading(&mut self) {
        if !self.may_propose() {
            return;
        }
        if self.proposals.queue.is_batch_full(self.proposals.pending.amount()) {
            self.proposals.queue.release_all();
        }
        while self.proposals.queue.released > 0 && self.has_room_in_log() {
            match self.proposals.queue.pop() {
                None => break,
                Some(Next::Plain(entry)) => self.take_plain(entry),
                Some(Next::Pending(id)) => self.take_own(id),
                Some(Next::Forwarded(proposal, via)) => self.take_forwarded_proposal(proposal, via),
            }
        }
        if (self.proposals.queue.count() == 0 || self.log.continues()) && !self.is_held_back() {
            self.take_stopsign();
        }
    }

    /// Returns whether this server leads and has proposals that may be appended. After a stop sign
    /// none may. When it is decided they are dropped; if it is not, the configuration continues.
    fn may_propose(&self) -> bool {
        matches!(self.state, State::Leading(_))
            && !self.proposals.queue.is_empty()
            && self.log.stopsign().is_none()
    }

    /// Returns whether [`propose_if_leading`](Self::propose_if_leading) would do something.
    pub(in crate::sequence_paxos) fn can_propose(&self) -> bool {
        if !self.may_propose() {
            return false;
        }
        let is_stopsign_next = self.log.continues() && self.proposals.stopsign().is_some();
        if self.proposals.queue.count() == 0 || is_stopsign_next {
            return !self.is_held_back();
        }
        let is_released_next = self.proposals.queue.batched() > 0 && self.is_batch_full();
        is_released_next || (self.proposals.queue.released > 0 && self.has_room_in_log())
    }

    /// Returns whether entries are appended as soon as there is room, so that no timer concerns
    /// them.
    pub(in crate::sequence_paxos) fn is_batch_full(&self) -> bool {
        self.may_propose() && self.proposals.queue.is_batch_full(self.proposals.pending.amount())
    }

    fn take_own(&mut self, id: ProposalId) {
        let n = self.log.promise();
        if let Some(proposal) = self.proposals.pending.leave_queue(id, self.log.has(id), n) {
            if self.would_find(id, proposal.first_ballot, proposal.min_idx) {
                self.take_own_proposal(proposal);
            } else {
                self.proposals.pending.give_up(id, &mut self.proposals.outcomes);
            }
        }
    }

    /// Appends a forwarded proposal, if it is certainly not in the log. A leader of a ballot below
    /// [`ForwardedProposals::first_ballot`] does not append it. But it learns that it needs a
    /// ballot above that, also if it has no link to a server that promised it.
    ///
    /// [`ForwardedProposals::first_ballot`]: crate::messages::sequence_paxos::ForwardedProposals::first_ballot
    fn take_forwarded_proposal(&mut self, proposal: IdentifiedProposal<T>, via: NodeId) {
        let IdentifiedProposal { id, first_ballot, min_idx, .. } = proposal;
        match self.log.find(id) {
            Some(idx) if idx < self.log.decided_idx() => {
                self.send_rejection(via, id, RejectionReason::Decided(idx));
            }
            Some(_) | None if self.log.ids().is_forgotten(id) => {
                let before = self.log.ids().forgotten_before();
                self.send_rejection(via, id, RejectionReason::DecidedBefore(before));
            }
            Some(_) => {}
            None if first_ballot > self.log.promise() => self.handle_not_accepted(first_ballot),
            None if self.would_find(id, first_ballot, min_idx) => {
                self.take_peer_proposal(proposal, via)
            }
            None => {
                let known_from = self.log.ids().known_from(id);
                self.send_rejection(via, id, RejectionReason::Unknown(known_from));
            }
        }
    }

    /// Returns whether this leader would find a proposal that is in its log, or forgotten.
    ///
    /// The proposal cannot be before `min_idx`. If it was forwarded first in this ballot, it was
    /// not in the log when the log was adopted: this ballot was prepared after all entries with ids
    /// unknown here were stored. Since then this server may have fetched entries that were decided
    /// in a higher ballot; then it can decide nothing in this one.
    fn would_find(&self, id: ProposalId, first_ballot: Ballot, min_idx: u64) -> bool {
        let State::Leading(leading) = &self.state else {
            return false;
        };
        let known_from = self.log.ids().known_from(id);
        let is_new = first_ballot == self.log.promise() && known_from <= leading.adopted_len;
        is_new || min_idx >= known_from
    }

    pub(in crate::sequence_paxos) fn send_rejection(
        &mut self,
        to: NodeId,
        first: ProposalId,
        reason: RejectionReason,
    ) {
        let (config_id, stamp) = (self.config_id, Stamp::default());
        self.proposals
            .rejections
            .push(to, ProposalRejection { config_id, first, count: 1, reason, hops: 0, stamp });
    }
}
