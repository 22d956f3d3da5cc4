//! Which messages carry a [`Stamp`].

use super::PaxosMsg;
use crate::{identity::Stamp, storage::Entry};

impl<T: Entry> PaxosMsg<T> {
    /// The stamp. `None` for those that change no log, index or promise: questions, refusals, and
    /// proposals without an id.
    #[inline]
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        match self {
            PaxosMsg::PrepareReq(m) => Some(m.stamp),
            PaxosMsg::Prepare(m) => Some(m.stamp),
            PaxosMsg::Promise(m) => Some(m.stamp),
            PaxosMsg::AcceptSync(m) => Some(m.stamp),
            PaxosMsg::AcceptDecide(m) => Some(m.stamp),
            PaxosMsg::AcceptStopSign(m) => Some(m.stamp),
            PaxosMsg::Accepted(m) => Some(m.stamp),
            PaxosMsg::Decide(m) => Some(m.stamp),
            PaxosMsg::Learn(m) => Some(m.stamp),
            PaxosMsg::Offer(m) => Some(m.stamp),
            PaxosMsg::Verdict(m) => Some(m.stamp),
            PaxosMsg::Compaction(m) => Some(m.stamp),
            PaxosMsg::ReadRequest(m) => Some(m.stamp),
            PaxosMsg::ReadAnswer(m) => Some(m.stamp),
            PaxosMsg::Confirmed(m) => Some(m.stamp),
            PaxosMsg::NotAccepted(_)
            | PaxosMsg::LearnFrom(_)
            | PaxosMsg::LearnReq(_)
            | PaxosMsg::ProposalForward(_)
            | PaxosMsg::ForwardStopSign(_)
            | PaxosMsg::Confirm(_)
            | PaxosMsg::TakeOver(_) => None,
        }
    }

    /// Where the stamp is, in those that carry one.
    #[inline]
    pub(crate) fn stamp_mut(&mut self) -> Option<&mut Stamp> {
        match self {
            PaxosMsg::PrepareReq(m) => Some(&mut m.stamp),
            PaxosMsg::Prepare(m) => Some(&mut m.stamp),
            PaxosMsg::Promise(m) => Some(&mut m.stamp),
            PaxosMsg::AcceptSync(m) => Some(&mut m.stamp),
            PaxosMsg::AcceptDecide(m) => Some(&mut m.stamp),
            PaxosMsg::AcceptStopSign(m) => Some(&mut m.stamp),
            PaxosMsg::Accepted(m) => Some(&mut m.stamp),
            PaxosMsg::Decide(m) => Some(&mut m.stamp),
            PaxosMsg::Learn(m) => Some(&mut m.stamp),
            PaxosMsg::Offer(m) => Some(&mut m.stamp),
            PaxosMsg::Verdict(m) => Some(&mut m.stamp),
            PaxosMsg::Compaction(m) => Some(&mut m.stamp),
            PaxosMsg::ReadRequest(m) => Some(&mut m.stamp),
            PaxosMsg::ReadAnswer(m) => Some(&mut m.stamp),
            PaxosMsg::Confirmed(m) => Some(&mut m.stamp),
            PaxosMsg::NotAccepted(_)
            | PaxosMsg::LearnFrom(_)
            | PaxosMsg::LearnReq(_)
            | PaxosMsg::ProposalForward(_)
            | PaxosMsg::ForwardStopSign(_)
            | PaxosMsg::Confirm(_)
            | PaxosMsg::TakeOver(_) => None,
        }
    }
}
