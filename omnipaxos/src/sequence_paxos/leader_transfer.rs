//! Transferring leadership to another server.
//!
//! Proposals go on until the other server has what the log held when the transfer began, and all
//! that followed is on its way. Then they wait in the queue until it has accepted all; then it is
//! asked to take over, in a ballot of its own, which it prepares like any other. What waits is
//! forwarded to it. What is marked as cold is so beside replication.

use super::{progress::Stage, state::State, LeadershipChange, SequencePaxos};
use crate::{
    clock::{Tick, Timer},
    ids::NodeId,
    leader_transfer::TransferErr,
    messages::sequence_paxos::{PaxosMsg, TransferLeadership},
    storage::{Entry, Storage},
    trace::LogEvent,
};

/// A transfer that is under way at the leader.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    to: NodeId,
    step: Step,
    /// Expires when it is given up.
    timer: Timer,
    /// Whether the other server is asked with the next output.
    is_due: bool,
}

/// How far a transfer is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The other server lacks some of the log as it was, up to this index, when this step began.
    CatchingUp(u64),
    /// The rest is on its way; nothing more gets into the log.
    HoldingBack,
    /// The other server has accepted all.
    Asked,
}

impl Transfer {
    /// Whether proposals wait for it.
    pub(super) fn holds_back(&self) -> bool {
        match self.step {
            Step::CatchingUp(_) => false,
            Step::HoldingBack | Step::Asked => true,
        }
    }

    /// Whether the next output must look here.
    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Begins to transfer leadership to `to`, for so many ticks at most.
    pub(crate) fn transfer_leadership(
        &mut self,
        to: NodeId,
        timeout_ticks: u64,
    ) -> Result<(), TransferErr> {
        let known = self.leader();
        let State::Leading(leading) = &mut self.state else {
            return Err(TransferErr::NotLeader(known));
        };
        if to == self.pid {
            return Err(TransferErr::ToItself);
        }
        if !self.peers.contains(&to) {
            return Err(TransferErr::NotAMember(to));
        }
        if let Some(transfer) = &leading.transfer {
            return Err(TransferErr::AlreadyTransferring(transfer.to));
        }
        leading.transfer = Some(Box::new(Transfer {
            to,
            step: Step::CatchingUp(self.log.len()),
            timer: Timer::every(timeout_ticks),
            is_due: false,
        }));
        self.trace.emit(|| LogEvent::info("transfers leadership").with_peer(to));
        self.request_takeover_if_caught_up();
        Ok(())
    }

    /// The server that leadership is being transferred to.
    pub(crate) fn leadership_transfer(&self) -> Option<NodeId> {
        match &self.state {
            State::Leading(leading) => leading.transfer.as_ref().map(|transfer| transfer.to),
            State::Recovering
            | State::Promised { .. }
            | State::Following(_)
            | State::Preparing(_) => None,
        }
    }

    /// An output has sent what it could.
    #[inline]
    pub(super) fn advance_transfer(&mut self) {
        if let State::Leading(leading) = &self.state {
            if leading.transfer.is_some() {
                self.request_takeover_if_caught_up();
            }
        }
    }

    /// Goes on with a transfer as far as the other server has got.
    #[cold]
    pub(super) fn request_takeover_if_caught_up(&mut self) {
        let State::Leading(leading) = &mut self.state else {
            return;
        };
        let Some(transfer) = &mut leading.transfer else {
            return;
        };
        let (end, len) = (self.log.end(), self.log.len());
        let Some(progress) = leading.followers.get_mut(transfer.to) else {
            return;
        };
        let accepted_idx = progress.accepted_idx;
        if let Step::CatchingUp(goal) = transfer.step {
            let is_all_sent = match &progress.stage {
                Stage::Replicating(sent) => sent.next_idx >= end,
                Stage::Unpromised { .. }
                | Stage::Promised(_)
                | Stage::CatchingUp(_)
                | Stage::Syncing(..) => false,
            };
            let is_there = self.reachable.contains(&transfer.to);
            if is_there && accepted_idx >= goal && is_all_sent {
                transfer.step = Step::HoldingBack;
            }
        }
        if transfer.step == Step::HoldingBack && accepted_idx >= len {
            transfer.step = Step::Asked;
            transfer.is_due = true;
            leading.asked_to_take_over = Some(transfer.to);
        }
    }

    /// Lets one tick pass. A transfer that takes too long is given up.
    pub(super) fn tick_transfer(&mut self) {
        if let State::Leading(leading) = &mut self.state {
            if let Some(transfer) = &mut leading.transfer {
                if transfer.timer.tick() == Tick::Expired {
                    let to = transfer.to;
                    self.trace
                        .emit(|| LogEvent::warn("gives up transferring leadership").with_peer(to));
                    leading.transfer = None;
                }
                self.request_takeover_if_caught_up();
            }
        }
    }

    /// A heartbeat round has ended: asks again. Where the other server is gone, proposals do not
    /// wait for it.
    pub(super) fn end_round_of_transfer(&mut self) {
        let State::Leading(leading) = &mut self.state else {
            return;
        };
        let Some(transfer) = &mut leading.transfer else {
            return;
        };
        if !self.reachable.contains(&transfer.to) {
            transfer.step = Step::CatchingUp(self.log.len());
            transfer.is_due = false;
        }
        if transfer.step == Step::Asked {
            transfer.is_due = true;
        }
    }

    /// Asks the other server to take over, if that is due.
    #[cold]
    pub(super) fn build_transfer(&mut self, mut send: impl FnMut(NodeId, PaxosMsg<T>)) {
        let State::Leading(leading) = &mut self.state else {
            return;
        };
        if let Some(transfer) = &mut leading.transfer {
            if std::mem::take(&mut transfer.is_due) {
                send(
                    transfer.to,
                    PaxosMsg::TransferLeadership(TransferLeadership { n: self.log.promise() }),
                );
            }
        }
    }

    /// The leader of this ballot asks this server to take over. Once it has, its promise is higher,
    /// and a copy of the message changes nothing.
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
