//! Finds the leader after a restart or a cut link (paper §4.2), and reports to a leader whose heartbeats are
//! lost.

use super::{state::State, Contact, SequencePaxos};
use crate::{
    amount::Amount,
    ids::NodeId,
    messages::sequence_paxos::PrepareReq,
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Asks every peer whether it leads, if this server has promised some ballot. A new server only
    /// asks an elected leader that it knows. Such a leader may mistake it for a replicating server
    /// with the same id on another storage, and would not ask it for a promise.
    pub(super) fn ask_all_for_leader(&mut self) {
        if self.log.promise().is_nobodys() {
            if self.members.is_peer(self.elected.pid) && !self.is_observer() {
                self.outbox.ask_for_leader(self.elected.pid);
            }
        } else {
            for peer in self.members.co_members() {
                self.outbox.ask_for_leader(*peer);
            }
        }
    }

    /// Handles a request for the leader. A leader always answers: in its present ballot it
    /// continues from what the server has accepted; otherwise it sends a Prepare.
    pub(super) fn handle_prepare_req(&mut self, asks: &PrepareReq, from: NodeId) {
        let promise = self.log.promise();
        self.handle_not_accepted(asks.n);
        let has_accepted = asks.n == promise && asks.n_accepted == promise;
        if has_accepted && asks.accepted_idx > self.log.sendable_len() {
            return self.suspect_overtaken(asks.decided_idx);
        }
        match &mut self.state {
            State::Leading(leading) if has_accepted => {
                if let Some(progress) = leading.followers.get_mut(from) {
                    progress.go_on(asks.accepted_idx, asks.decided_idx);
                    self.codec.reset(self.log.len());
                    self.decide_chosen();
                }
            }
            State::Leading(_) | State::Preparing(_) => {
                if let Some(progress) = self.followers_mut().and_then(|f| f.get_mut(from)) {
                    progress.ask_again();
                }
            }
            State::Recovering | State::Promised { .. } | State::Following(_) => {}
        }
    }

    /// Returns the contact, with [`Unheard`](Contact::Unheard) replaced by `Kept` if this server waits for
    /// nothing. So an idle cluster sends only heartbeats, even if some of them are lost.
    pub(super) fn contact_if_waiting(&self, contact: Contact) -> Contact {
        let has_requests = self.proposals.pending() != Amount::default()
            || self.reconfiguration.is_some()
            || self.reads.are_waiting();
        let waits =
            matches!(self.state, State::Promised { .. }) || (has_requests && !self.log.has_ended());
        match contact {
            Contact::Unheard if !waits => Contact::Kept,
            Contact::Kept | Contact::Unheard | Contact::Lost => contact,
        }
    }

    /// Ends a heartbeat round: reports to the leader what this server has, if the leader's heartbeats are
    /// lost.
    ///
    /// The leader repeats missing entries with its heartbeats, so these may be lost, too. Its answer to the
    /// report leaves with its answer to the heartbeat of this server. Nothing is reported in a round that
    /// brought something new.
    pub(super) fn report_if_unheard(&mut self, contact: Contact) {
        let reached = (self.log.accepted_round(), self.log.len(), self.log.decided_idx());
        let reached_before = std::mem::replace(&mut self.reached_before, reached);
        if contact != Contact::Unheard || reached != reached_before {
            return;
        }
        match &mut self.state {
            State::Promised { is_promise_due, .. } => *is_promise_due = true,
            State::Following(ack) => ack.schedule(),
            State::Recovering | State::Preparing(_) | State::Leading(_) => {}
        }
    }

    /// Repeats messages to `pid` without an answer, since messages in both directions may be lost.
    pub(crate) fn reconnected(&mut self, pid: NodeId) {
        let (len, decided_idx) = (self.log.len(), self.log.decided_idx());
        let promise = self.log.promise();
        match &mut self.state {
            State::Preparing(_) | State::Leading(_) => {
                if let Some(progress) = self.followers_mut().and_then(|f| f.get_mut(pid)) {
                    progress.resend(len, decided_idx);
                }
            }
            State::Promised { is_promise_due, .. } if promise.pid == pid => *is_promise_due = true,
            State::Following(_) if promise.pid == pid => self.outbox.ask_for_leader(pid),
            State::Recovering if !promise.is_nobodys() && self.members.is_peer(pid) => {
                self.outbox.ask_for_leader(pid);
            }
            State::Recovering | State::Promised { .. } | State::Following(_) => {}
        }
        if self.leader() == Some(pid) {
            self.ask_leader_again();
        }
        self.compaction.repeat_to(pid);
    }
}
