//! Messages about proposals that have ids.

use crate::{
    ballot::Ballot,
    identity::Stamp,
    ids::{ConfigurationId, NodeId},
    proposals::{IdRun, ProposalId},
    storage::StopSign,
};

/// Proposals with consecutive ids.
///
/// A server forwards a proposal until the proposal is in its log. A leader appends it once.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ForwardedProposals<T> {
    /// The id of the first proposal. The number grows by one with each further proposal.
    pub first: ProposalId,
    /// The ballot in which they were forwarded first. No leader of a lower ballot may append them.
    pub first_ballot: Ballot,
    /// If they are in any log, they are at this index or later.
    pub min_idx: u64,
    /// The proposals.
    pub entries: Vec<T>,
    /// Number of servers that have relayed the proposals.
    pub hops: u8,
    /// Marks sender and receiver.
    pub stamp: Stamp,
}

/// A reconfiguration proposed at a server that does not lead.
///
/// That server sends it until a stop sign is in its log. A leader appends one stop sign.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ForwardedStopSign {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// The id of the proposal. A server that does not know its incarnation may reuse an id.
    pub id: ProposalId,
    /// The proposed stop sign.
    pub stopsign: StopSign,
    /// Number of servers that have relayed it.
    pub hops: u8,
}

/// Why [forwarded](ForwardedProposals) proposals are not appended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProposalRejection {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// The id of the first proposal.
    pub first: ProposalId,
    /// Number of proposals.
    pub count: u64,
    /// The reason.
    pub reason: RejectionReason,
    /// Number of servers that have relayed it.
    pub hops: u8,
    /// Marks sender and receiver.
    pub stamp: Stamp,
}

/// The reason of a [`ProposalRejection`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum RejectionReason {
    /// They are decided: the first at this index, the others after it.
    Decided(u64),
    /// They are decided, each at some index before this one.
    DecidedBefore(u64),
    /// They may be in the log before this index, where the leader does not know all ids.
    Unknown(u64),
    /// The leader cannot store them.
    Refused(Box<Refusal>),
}

/// Reports that proposals cannot be stored. No leader of a ballot up to the sender's has decided
/// them. A leader of a later ballot decides them only if it accepts them itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Refusal {
    /// The ballot of the leader.
    pub n: Ballot,
    /// The cause, in at most [`LONGEST_CAUSE`] bytes.
    pub cause: String,
}

/// The largest length of a cause, in bytes.
pub const LONGEST_CAUSE: usize = 256;

/// The ids of entries in a message.
///
/// An entry from `known_from` on has no id if it is in no run. An earlier entry may have an id that
/// the sender does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EntryIds {
    /// Index from which on all ids are known.
    pub known_from: u64,
    /// The runs of ids, in the order of the log.
    pub runs: Vec<IdRun>,
    /// The forgotten ids, if they may include ids of these entries.
    pub forgotten: Option<Box<ForgottenIds>>,
}

/// The ids of decided entries whose indices the sender has forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ForgottenIds {
    /// The entries are decided before this index.
    pub before: u64,
    /// Their ids.
    pub ids: Vec<IdRange>,
    /// Further ids that may belong to such entries.
    pub in_doubt: Vec<IdsInDoubt>,
}

/// Consecutive ids.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct IdRange {
    /// The first id.
    pub first: ProposalId,
    /// Number of ids; not 0.
    pub count: u64,
}

/// Ids of one server and kind that may belong to entries whose indices are forgotten.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct IdsInDoubt {
    /// The highest id.
    pub last: ProposalId,
    /// The ids that belong to entries are decided before this index.
    pub before: u64,
}

impl EntryIds {
    /// Returns whether these ids are valid for entries up to index `end`: runs are in order and do
    /// not overlap, ranges have an end, and each origin is a server.
    pub(crate) fn is_sound(&self, end: u64) -> bool {
        let is_server = |pid: NodeId| pid != 0;
        let mut next = 0;
        let are_in_order = self.runs.iter().all(|run| {
            let fits = run.idx >= next && run.count > 0 && run.count <= end.saturating_sub(run.idx);
            next = run.end();
            let has_end = run.first.number.checked_add(run.count).is_some();
            fits && has_end && is_server(run.first.origin)
        });
        let is_forgotten_sound = self.forgotten.as_ref().is_none_or(|forgotten| {
            let have_ends = forgotten.ids.iter().all(|range| {
                let end = range.first.number.checked_add(range.count);
                range.count > 0 && end.is_some() && is_server(range.first.origin)
            });
            have_ends && forgotten.in_doubt.iter().all(|ids| is_server(ids.last.origin))
        });
        are_in_order && self.known_from <= end && is_forgotten_sound
    }
}
