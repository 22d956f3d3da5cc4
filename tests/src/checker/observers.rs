//! What observers store and send.

use super::{ensure, Check, Checker, Violation};
use crate::{describe, disk::Image, value::SimEntry};
use omnipaxos::messages::{
    ballot_leader_election::HeartbeatMsg, sequence_paxos::PaxosMsg, Message,
};

impl Checker {
    /// Counts only the first servers as members. The others observe.
    #[must_use]
    pub fn with_members(mut self, members: usize) -> Self {
        self.members = members;
        self
    }

    /// Whether a server observes.
    pub(super) fn is_observer(&self, server: usize) -> bool {
        server >= self.members
    }

    /// An observer has promised and accepted nothing, and stores nothing but what is decided.
    pub(super) fn check_observer_stores<T: SimEntry>(
        &self,
        server: usize,
        image: &Image<T>,
    ) -> Result<(), Violation> {
        if !self.is_observer(server) {
            return Ok(());
        }
        let pid = self.pids[server];
        ensure!(
            image.promise.is_none() && image.accepted_round.is_none(),
            Check::ObserversOnlyAsk,
            "the disk of observer {pid} has promise {:?} and round {:?}",
            image.promise,
            image.accepted_round
        );
        for idx in image.compacted_idx..image.accepted_idx() {
            let (stored, decided) = (image.id_at(idx), self.log.id_at(idx));
            ensure!(
                stored.is_some() && stored == decided,
                Check::ObserversOnlyAsk,
                "the disk of observer {pid} has {stored:?} at {idx}, where {decided:?} is decided"
            );
        }
        Ok(())
    }

    /// An observer asks, proposes, and answers other observers. Members send it answers only.
    pub(super) fn check_observing<T: SimEntry>(
        &self,
        server: usize,
        message: &Message<T>,
    ) -> Result<(), Violation> {
        let pid = self.pids[server];
        let to = self.pids.iter().position(|pid| *pid == message.get_receiver());
        let is_to_observer = to.is_some_and(|to| self.is_observer(to));
        let (is_question, is_answer) = match message {
            Message::BLE(ble) => match ble.msg {
                // A server in a higher configuration reports it.
                HeartbeatMsg::Request(_) => (true, self.is_next()),
                HeartbeatMsg::Reply(_) => (false, true),
            },
            Message::SequencePaxos(paxos) => match paxos.msg {
                PaxosMsg::CatchUpRequest(_)
                | PaxosMsg::ForwardedProposals(_)
                | PaxosMsg::ForwardStopSign(_)
                | PaxosMsg::ReadIndexRequest(_) => (true, false),
                PaxosMsg::CatchUpChunk(_)
                | PaxosMsg::ProposalRejection(_)
                | PaxosMsg::ReadIndexResponse(_) => (false, true),
                PaxosMsg::PrepareReq(_)
                | PaxosMsg::Prepare(_)
                | PaxosMsg::Promise(_)
                | PaxosMsg::AcceptSync(_)
                | PaxosMsg::AcceptDecide(_)
                | PaxosMsg::AcceptStopSign(_)
                | PaxosMsg::Accepted(_)
                | PaxosMsg::NotAccepted(_)
                | PaxosMsg::Decide(_)
                | PaxosMsg::CatchUpRedirect(_)
                | PaxosMsg::ProposalForward(_)
                | PaxosMsg::Compaction(_)
                | PaxosMsg::LeadershipCheck(_)
                | PaxosMsg::LeadershipCheckAck(_)
                | PaxosMsg::TransferLeadership(_)
                | PaxosMsg::Joining(_) => (false, false),
            },
        };
        let is_expected = match (self.is_observer(server), is_to_observer) {
            (false, false) => true,
            (false, true) => is_answer,
            (true, false) => is_question,
            (true, true) => is_question || is_answer,
        };
        ensure!(
            is_expected,
            Check::ObserversOnlyAsk,
            "server {pid} says to {}: {}",
            message.get_receiver(),
            describe::message(message)
        );
        Ok(())
    }
}
