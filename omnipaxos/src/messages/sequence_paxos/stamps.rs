//! The messages that carry a [`Stamp`].

use super::PaxosMsg;
use crate::{identity::Stamp, storage::Entry};

impl<T: Entry> PaxosMsg<T> {
    /// Returns the stamp. `None` for messages that change no log, index or promise: questions,
    /// refusals, and proposals without an id.
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
            PaxosMsg::CatchUpChunk(m) => Some(m.stamp),
            PaxosMsg::ForwardedProposals(m) => Some(m.stamp),
            PaxosMsg::ProposalRejection(m) => Some(m.stamp),
            PaxosMsg::Compaction(m) => Some(m.stamp),
            PaxosMsg::ReadIndexRequest(m) => Some(m.stamp),
            PaxosMsg::ReadIndexResponse(m) => Some(m.stamp),
            PaxosMsg::LeadershipCheckAck(m) => Some(m.stamp),
            PaxosMsg::NotAccepted(_)
            | PaxosMsg::CatchUpRedirect(_)
            | PaxosMsg::CatchUpRequest(_)
            | PaxosMsg::ProposalForward(_)
            | PaxosMsg::ForwardStopSign(_)
            | PaxosMsg::LeadershipCheck(_)
            | PaxosMsg::TransferLeadership(_)
            | PaxosMsg::Joining(_) => None,
        }
    }

    /// Returns a reference to the stamp, in messages that carry one.
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
            PaxosMsg::CatchUpChunk(m) => Some(&mut m.stamp),
            PaxosMsg::ForwardedProposals(m) => Some(&mut m.stamp),
            PaxosMsg::ProposalRejection(m) => Some(&mut m.stamp),
            PaxosMsg::Compaction(m) => Some(&mut m.stamp),
            PaxosMsg::ReadIndexRequest(m) => Some(&mut m.stamp),
            PaxosMsg::ReadIndexResponse(m) => Some(&mut m.stamp),
            PaxosMsg::LeadershipCheckAck(m) => Some(&mut m.stamp),
            PaxosMsg::NotAccepted(_)
            | PaxosMsg::CatchUpRedirect(_)
            | PaxosMsg::CatchUpRequest(_)
            | PaxosMsg::ProposalForward(_)
            | PaxosMsg::ForwardStopSign(_)
            | PaxosMsg::LeadershipCheck(_)
            | PaxosMsg::TransferLeadership(_)
            | PaxosMsg::Joining(_) => None,
        }
    }
}
