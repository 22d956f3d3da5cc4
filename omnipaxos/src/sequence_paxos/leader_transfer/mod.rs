//! Leadership transfer to another server.
//!
//! The leader appends proposals until the other server has the entries that the log held when the
//! transfer began, and the rest is on its way. Then proposals wait in the queue until the other
//! server has accepted the whole log. Then the leader asks it to take over. The other server does
//! so in a ballot of its own, which it prepares as any server does. The waiting proposals are
//! forwarded to it. Code marked as cold is not part of replication.

pub(super) mod transfer;

use self::transfer::{Advanced, Target, Transfer};
use super::{progress::Stage, state::State, LeadershipChange, SequencePaxos};
use crate::{
    clock::Tick,
    identity::PeerConflict,
    ids::NodeId,
    leader_transfer::TransferErr,
    messages::sequence_paxos::{PaxosMsg, TransferLeadership},
    observe::trace::LogEvent,
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Begins to transfer leadership to `to`, with a timeout in ticks. `conflict` is a conflict
    /// with that server, if there is one.
    pub(crate) fn transfer_leadership(
        &mut self,
        to: NodeId,
        timeout_ticks: u64,
        conflict: Option<PeerConflict>,
    ) -> Result<(), TransferErr> {
        let known = self.leader();
        let State::Leading(leading) = &mut self.state else {
            return Err(TransferErr::NotLeader(known));
        };
        if to == self.pid {
            return Err(TransferErr::ToItself);
        }
        if !self.members.is_peer(to) {
            return Err(TransferErr::NotAMember(to));
        }
        if let Some(conflict) = conflict {
            return Err(TransferErr::InConflict(conflict));
        }
        if let Some(transfer) = &leading.transfer {
            return Err(TransferErr::AlreadyTransferring(transfer.to()));
        }
        let transfer = Transfer::new(to, self.log.len(), timeout_ticks);
        leading.transfer = Some(Box::new(transfer));
        self.trace.emit(|| LogEvent::info("transfers leadership").with_peer(to));
        self.request_takeover_if_caught_up();
        Ok(())
    }

    /// Returns the server to which leadership is being transferred.
    pub(crate) fn leadership_transfer(&self) -> Option<NodeId> {
        match &self.state {
            State::Leading(leading) => leading.transfer.as_ref().map(|transfer| transfer.to()),
            State::Recovering
            | State::Promised { .. }
            | State::Following(_)
            | State::Preparing(_) => None,
        }
    }

    /// Continues a transfer after an output has sent what it could.
    #[inline]
    pub(super) fn advance_transfer(&mut self) {
        if let State::Leading(leading) = &self.state {
            if leading.transfer.is_some() {
                self.request_takeover_if_caught_up();
            }
        }
    }

    /// Continues a transfer as far as the progress of the other server allows.
    #[cold]
    pub(super) fn request_takeover_if_caught_up(&mut self) {
        let Some(target) = self.transfer_target() else {
            return;
        };
        let State::Leading(leading) = &mut self.state else {
            return;
        };
        if let Some(transfer) = &mut leading.transfer {
            match transfer.advance(target, self.log.len()) {
                Advanced::Waits => {}
                Advanced::Asks => leading.asked_to_take_over = Some(transfer.to()),
            }
        }
    }

    /// Returns what this leader knows of the server to which it transfers leadership.
    fn transfer_target(&self) -> Option<Target> {
        let State::Leading(leading) = &self.state else {
            return None;
        };
        let to = leading.transfer.as_ref()?.to();
        let progress = leading.followers.get(to)?;
        let is_all_sent = match &progress.stage {
            Stage::Replicating(sent) => sent.next_idx >= self.log.len(),
            Stage::Unpromised { .. }
            | Stage::Promised(_)
            | Stage::CatchingUp(_)
            | Stage::Syncing(..) => false,
        };
        let is_reachable = self.routing.is_reachable(to);
        Some(Target { accepted_idx: progress.accepted_idx, is_all_sent, is_reachable })
    }

    /// Returns the number of ticks after which a transfer is cancelled, or can continue; `None`
    /// without one.
    pub(super) fn timeout_of_transfer(&self) -> Option<u64> {
        let State::Leading(leading) = &self.state else {
            return None;
        };
        let transfer = leading.transfer.as_ref()?;
        Some(transfer.timeout(self.transfer_target(), self.log.len()))
    }

    /// Lets ticks pass, fewer than [`timeout_of_transfer`](Self::timeout_of_transfer).
    pub(super) fn pass_in_transfer(&mut self, ticks: u64) {
        if let State::Leading(leading) = &mut self.state {
            if let Some(transfer) = &mut leading.transfer {
                transfer.pass(ticks);
            }
        }
    }

    /// Lets one tick pass. A transfer that takes too long is cancelled.
    pub(super) fn tick_transfer(&mut self) {
        if let State::Leading(leading) = &mut self.state {
            if let Some(transfer) = &mut leading.transfer {
                if transfer.tick() == Tick::Expired {
                    let to = transfer.to();
                    self.trace
                        .emit(|| LogEvent::warn("cancels the leadership transfer").with_peer(to));
                    leading.transfer = None;
                }
                self.request_takeover_if_caught_up();
            }
        }
    }

    /// Ends a heartbeat round: asks again. If the other server does not answer, proposals do not
    /// wait for it.
    pub(super) fn end_round_of_transfer(&mut self) {
        let State::Leading(leading) = &mut self.state else {
            return;
        };
        let Some(transfer) = &mut leading.transfer else {
            return;
        };
        let is_reachable = self.routing.is_reachable(transfer.to());
        transfer.end_round(is_reachable, self.log.len());
    }

    /// Asks the other server to take over, if that is due.
    #[cold]
    pub(super) fn build_transfer(&mut self, mut send: impl FnMut(NodeId, PaxosMsg<T>)) {
        let State::Leading(leading) = &mut self.state else {
            return;
        };
        if let Some(transfer) = &mut leading.transfer {
            if let Some(to) = transfer.take_due() {
                let n = self.log.promise();
                send(to, PaxosMsg::TransferLeadership(TransferLeadership { n }));
            }
        }
    }

    /// Handles the request of the leader of this ballot to take over. After a takeover the promise
    /// is higher, so a copy of the message changes nothing.
    #[cold]
    pub(super) fn handle_transfer_leadership(&mut self, asks: TransferLeadership) {
        if let State::Following(_) = self.state {
            if asks.n == self.log.promise() {
                self.trace.emit(|| LogEvent::info("is asked to take over").in_ballot(asks.n));
                self.leadership_change = Some(LeadershipChange::Transferred);
            }
        }
    }
}

#[cfg(test)]
mod tests;
