//! What servers say to each other about proposals that have ids.

use crate::{
    ballot::Ballot,
    identity::Stamp,
    ids::{ConfigurationId, NodeId},
    proposals::{IdRun, ProposalId},
    storage::StopSign,
};

/// Proposals whose ids follow on each other.
///
/// A server forwards a proposal until it finds it in its log; a leader takes it once.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ForwardedProposals<T> {
    /// The id of the first; those of the others differ in their number, which grows by one.
    pub first: ProposalId,
    /// The ballot in which they were forwarded first: no leader of an earlier one may take them.
    pub first_ballot: Ballot,
    /// If they are in any log, then at this index or later.
    pub min_idx: u64,
    /// The proposals.
    pub entries: Vec<T>,
    /// Number of servers that have passed them on.
    pub hops: u8,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// A reconfiguration that was proposed at a server which does not lead.
///
/// That server sends it until a stop sign is in its log; a leader takes one.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ForwardedStopSign {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// Names the proposal. A server that does not know its incarnation may use an id again.
    pub id: ProposalId,
    /// What was proposed.
    pub stopsign: StopSign,
    /// Number of servers that have passed it on.
    pub hops: u8,
}

/// Why proposals that were [forwarded](ForwardedProposals) are not taken into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProposalRejection {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// The proposals: the first of them.
    pub first: ProposalId,
    /// How many they are.
    pub count: u64,
    /// The reason.
    pub reason: RejectionReason,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// The reason of a [`ProposalRejection`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum RejectionReason {
    /// They are decided; the first at this index, the others after it.
    Decided(u64),
    /// They are decided, each at some index before this one.
    DecidedBefore(u64),
    /// They may be in the log before this index, where the leader does not know the ids.
    Unknown(u64),
    /// The leader cannot store them.
    Refused(Box<Refusal>),
}

/// Says that proposals cannot be stored. No leader of a ballot up to that of the sender has decided
/// them, and none of a later ballot will, unless it takes them itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Refusal {
    /// The ballot of the leader.
    pub n: Ballot,
    /// Why, in at most [`LONGEST_CAUSE`] bytes.
    pub cause: String,
}

/// The longest text of a refusal, in bytes.
pub const LONGEST_CAUSE: usize = 256;

/// The ids of entries that travel in a message.
///
/// An entry from `known_from` on that is in no run has no id. One before that may have an id that
/// the sender does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EntryIds {
    /// Index of the first entry of which all is known.
    pub known_from: u64,
    /// In the order of the log.
    pub runs: Vec<IdRun>,
    /// What the sender has forgotten the indices of, if some of these entries may be among them.
    pub forgotten: Option<Box<ForgottenIds>>,
}

/// The ids of decided entries whose indices the sender does not remember.
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

/// Ids that follow on each other.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct IdRange {
    /// The first.
    pub first: ProposalId,
    /// How many they are; not 0.
    pub count: u64,
}

/// Ids of one server and kind that may belong to entries whose indices are forgotten.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct IdsInDoubt {
    /// The highest.
    pub last: ProposalId,
    /// Those that belong to entries are decided before this index.
    pub before: u64,
}

impl EntryIds {
    /// Whether this can be said of entries up to index `end`: runs in order that do not overlap, ranges
    /// with an end, and a server as the origin of each.
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
