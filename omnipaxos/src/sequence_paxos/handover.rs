//! Handing leadership over to another server.
//!
//! Proposals go on until the other server has what the log held when the handover began, and all
//! that followed is on its way. Then they wait in the queue until it has accepted all; then it is
//! asked to take over, in a ballot of its own, which it prepares like any other. What waits is
//! forwarded to it. What is marked as cold is so beside replication.

use super::{progress::Stage, state::State, SequencePaxos, Setback};
use crate::{
    clock::{Ring, Timer},
    handover::HandoverErr,
    ids::NodeId,
    messages::sequence_paxos::{PaxosMsg, TakeOver},
    storage::{Entry, Storage},
    trace::Moment,
};

/// A handover that is under way at the leader.
#[derive(Clone, Debug)]
pub(super) struct Handover {
    to: NodeId,
    step: Step,
    /// Rings when it is given up.
    timer: Timer,
    /// Whether the other server is asked with the next drain.
    is_due: bool,
}

/// How far a handover is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The other server lacks some of the log as it was, up to this index, when this step began.
    CatchingUp(u64),
    /// The rest is on its way; nothing more gets into the log.
    HoldingBack,
    /// The other server has accepted all.
    Asked,
}

impl Handover {
    /// Whether proposals wait for it.
    pub(super) fn holds_back(&self) -> bool {
        match self.step {
            Step::CatchingUp(_) => false,
            Step::HoldingBack | Step::Asked => true,
        }
    }

    /// Whether the next drain must look here.
    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Begins to hand over to `to`, for so many ticks at most.
    pub(crate) fn hand_over(&mut self, to: NodeId, timeout_ticks: u64) -> Result<(), HandoverErr> {
        let known = self.leader();
        let State::Leading(leading) = &mut self.state else {
            return Err(HandoverErr::NotLeader(known));
        };
        if to == self.pid {
            return Err(HandoverErr::ToItself);
        }
        if !self.peers.contains(&to) {
            return Err(HandoverErr::NotAMember(to));
        }
        if let Some(handover) = &leading.handover {
            return Err(HandoverErr::AlreadyHandingOver(handover.to));
        }
        leading.handover = Some(Box::new(Handover {
            to,
            step: Step::CatchingUp(self.log.len()),
            timer: Timer::every(timeout_ticks),
            is_due: false,
        }));
        self.trace.tell(|| Moment::info("hands over").with_peer(to));
        self.hand_over_if_caught_up();
        Ok(())
    }

    /// The server that leadership is being handed over to.
    pub(crate) fn handover(&self) -> Option<NodeId> {
        match &self.state {
            State::Leading(leading) => leading.handover.as_ref().map(|handover| handover.to),
            State::Recovering
            | State::Promised { .. }
            | State::Following(_)
            | State::Preparing(_) => None,
        }
    }

    /// A drain has sent what it could.
    #[inline]
    pub(super) fn go_on_with_handover(&mut self) {
        if let State::Leading(leading) = &self.state {
            if leading.handover.is_some() {
                self.hand_over_if_caught_up();
            }
        }
    }

    /// Goes on with a handover as far as the other server has got.
    #[cold]
    pub(super) fn hand_over_if_caught_up(&mut self) {
        let State::Leading(leading) = &mut self.state else {
            return;
        };
        let Some(handover) = &mut leading.handover else {
            return;
        };
        let (end, len) = (self.log.end(), self.log.len());
        let Some(progress) = leading.followers.get_mut(handover.to) else {
            return;
        };
        let accepted_idx = progress.accepted_idx;
        if let Step::CatchingUp(goal) = handover.step {
            let is_all_sent = match &progress.stage {
                Stage::InStep(sent) => sent.next_idx >= end,
                Stage::Unpromised { .. }
                | Stage::Promised(_)
                | Stage::Redirected(_)
                | Stage::Syncing(..) => false,
            };
            let is_there = self.present.contains(&handover.to);
            if is_there && accepted_idx >= goal && is_all_sent {
                handover.step = Step::HoldingBack;
            }
        }
        if handover.step == Step::HoldingBack && accepted_idx >= len {
            handover.step = Step::Asked;
            handover.is_due = true;
            leading.asked_to_take_over = Some(handover.to);
        }
    }

    /// Lets one tick pass. A handover that takes too long is given up.
    pub(super) fn tick_handover(&mut self) {
        if let State::Leading(leading) = &mut self.state {
            if let Some(handover) = &mut leading.handover {
                if handover.timer.tick() == Ring::Rings {
                    let to = handover.to;
                    self.trace.tell(|| Moment::warn("gives up handing over").with_peer(to));
                    leading.handover = None;
                }
                self.hand_over_if_caught_up();
            }
        }
    }

    /// A heartbeat round has ended: asks again. Where the other server is gone, proposals do not
    /// wait for it.
    pub(super) fn end_round_of_handover(&mut self) {
        let State::Leading(leading) = &mut self.state else {
            return;
        };
        let Some(handover) = &mut leading.handover else {
            return;
        };
        if !self.present.contains(&handover.to) {
            handover.step = Step::CatchingUp(self.log.len());
            handover.is_due = false;
        }
        if handover.step == Step::Asked {
            handover.is_due = true;
        }
    }

    /// Asks the other server to take over, if that is due.
    #[cold]
    pub(super) fn draw_handover(&mut self, mut send: impl FnMut(NodeId, PaxosMsg<T>)) {
        let State::Leading(leading) = &mut self.state else {
            return;
        };
        if let Some(handover) = &mut leading.handover {
            if std::mem::take(&mut handover.is_due) {
                send(handover.to, PaxosMsg::TakeOver(TakeOver { n: self.log.promise() }));
            }
        }
    }

    /// The leader of this ballot asks this server to take over. Once it has, its promise is higher,
    /// and a copy of the message changes nothing.
    #[cold]
    pub(super) fn handle_take_over(&mut self, asks: TakeOver) {
        if let State::Following(_) = self.state {
            if asks.n == self.log.promise() {
                self.trace.tell(|| Moment::info("is asked to take over").in_ballot(asks.n));
                self.setback = Some(Setback::HandedOver);
            }
        }
    }
}
