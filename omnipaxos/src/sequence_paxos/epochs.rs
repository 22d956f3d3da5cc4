//! One log through reconfigurations: how a server begins the next epoch.
//!
//! Invariant I25: a server takes part in an epoch only after it has decided and stored everything
//! before it. So what is before an epoch is the same at all its members, and none of them can
//! change it. Messages that this server sent earlier as a leader or follower belong to the epoch
//! before, and count no longer.

use super::{
    leader, observers::News, outbox::Outbox, routing::Routing, state::State, SequencePaxos,
};
use crate::{
    ballot::Ballot,
    config::ClusterConfig,
    errors::Halted,
    ids::NodeId,
    membership::Membership,
    observe::trace::LogEvent,
    storage::{Entry, Epoch, Storage},
};
use std::sync::Arc;

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Returns whether this server may begin another epoch: its log has reached it.
    #[inline]
    pub(crate) fn is_epoch_due(&self) -> bool {
        self.log.continues() && self.due_epoch().is_some()
    }

    /// Returns the epoch that this server may begin.
    #[cold]
    pub(crate) fn due_epoch(&self) -> Option<Epoch> {
        match self.log.continues() {
            true => self.log.due_epoch(self.config_id),
            false => None,
        }
    }

    /// Returns whether a snapshot of a later epoch stands for the stop sign of the present one.
    pub(super) fn has_reached_later_epoch(&self) -> bool {
        let reached = self.log.present_epoch();
        reached.is_some_and(|epoch| epoch.configuration.configuration_id != self.config_id)
    }

    /// Returns whether this server [has left](Self::leave_epoch) the present epoch.
    pub(super) fn has_left_epoch(&self) -> bool {
        self.log.continues() && self.has_reached_later_epoch()
    }

    /// Takes no part in the present epoch any more: a snapshot has brought the log into a later one, which the
    /// next output begins. Until then nothing of the present epoch may enter the log: it would pass into the
    /// later one (I25).
    pub(super) fn leave_epoch(&mut self) {
        self.state = State::Recovering;
        self.log.forget_accepted_round();
    }

    /// Begins an epoch with these members. The caller has flushed the log.
    pub(crate) fn begin_epoch(
        &mut self,
        epoch: &Epoch,
        members: Arc<Membership>,
    ) -> Result<(), Halted> {
        let is_next = !self.has_reached_later_epoch();
        self.log.begin_epoch(epoch.clone());
        self.config_id = epoch.configuration.configuration_id;
        self.members = members;
        self.learned_members = true;
        self.state = State::Recovering;
        self.elected = Ballot::default();
        self.leadership_change = None;
        self.prepare_rounds = leader::LEAST_PREPARE_ROUNDS;
        self.routing = Routing::default();
        self.restart_catch_up();
        self.news = News::default();
        self.loss = None;
        self.codec.invalidate();
        self.codec.reset(epoch.first_idx);
        self.end_reconfiguration(epoch);
        self.is_end_reported = false;
        let compaction = std::mem::take(&mut self.compaction);
        self.compaction = compaction.in_next_epoch(self.members.co_members());
        self.outbox = Outbox::default();
        self.leaves_rest = false;
        self.proposals.begin_epoch(&self.members);
        let stopsign_idx = epoch.first_idx.saturating_sub(1);
        self.reads.begin_epoch(is_next.then_some(stopsign_idx));
        self.observers.retain(|pid| !self.members.contains(pid));
        self.trace.emit(|| {
            let event = LogEvent::info("begins a configuration").at(epoch.first_idx);
            let ClusterConfig { configuration_id, nodes, .. } = &epoch.configuration;
            event.because(format!("configuration {configuration_id} of the servers {nodes:?}"))
        });
        // The applications for which this one waited may not be needed any more.
        self.give_up_applied()
    }

    /// Records that the members are those that the log names, not those of a file of this server.
    pub(crate) fn note_learned_members(&mut self) {
        self.learned_members = true;
    }

    /// Asks `pid`, which takes over in the epoch that this server has begun, to prepare it.
    pub(crate) fn ask_for_leader(&mut self, pid: NodeId) {
        if self.members.is_co_member(pid) {
            self.outbox.ask_for_leader(pid);
        }
    }

    /// Returns the leader that this server follows or is, if it has accepted its ballot.
    pub(crate) fn leader_in_step(&self) -> Option<NodeId> {
        match self.state {
            State::Following(_) | State::Leading(_) => Some(self.log.promise().pid),
            State::Recovering | State::Promised { .. } | State::Preparing(_) => None,
        }
    }

    /// Returns whether this server exchanges heartbeats with `pid`.
    pub(crate) fn is_peer(&self, pid: NodeId) -> bool {
        self.peers().contains(&pid)
    }

    /// Returns whether no peer answered the last heartbeat round.
    pub(crate) fn reaches_no_peer(&self) -> bool {
        self.routing.reachable().is_empty()
    }

    /// Returns whether `pid` is a server of the present configuration.
    pub(crate) fn is_member(&self, pid: NodeId) -> bool {
        self.members.contains(pid)
    }
}

#[cfg(test)]
mod tests;
