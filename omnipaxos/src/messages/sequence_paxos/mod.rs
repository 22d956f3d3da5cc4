//! The messages of Sequence Paxos (paper §4).

mod forwarded;
mod stamps;

pub use self::forwarded::{
    EntryIds, ForgottenIds, ForwardedProposals, ForwardedStopSign, IdRange, IdsInDoubt,
    ProposalRejection, Refusal, RejectionReason, LONGEST_CAUSE,
};
pub use crate::codec::CodedEntries;

use crate::{
    ballot::Ballot,
    entry::SharedEntries,
    identity::Stamp,
    ids::{ConfigurationId, NodeId},
    storage::{Entry, SnapshotType, StopSign},
};

/// A message of Sequence Paxos and its envelope.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub struct PaxosMessage<T: Entry> {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// What is said.
    pub msg: PaxosMsg<T>,
}

/// What servers say to each other about the log.
///
/// What is rare and large is boxed, so that what is frequent is small to move.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub enum PaxosMsg<T: Entry> {
    /// A recovering server asks for the leader.
    PrepareReq(PrepareReq),
    /// A new leader asks to be followed.
    Prepare(Prepare),
    /// Follows a new leader and tells it what it lacks.
    Promise(Promise<T>),
    /// Brings a follower in step.
    AcceptSync(AcceptSync<T>),
    /// New entries, and how many are decided.
    AcceptDecide(AcceptDecide<T>),
    /// The stop sign, which is the last entry.
    AcceptStopSign(AcceptStopSign),
    /// Acknowledges what is accepted.
    Accepted(Accepted),
    /// Refuses a ballot because a higher one was promised.
    NotAccepted(NotAccepted),
    /// Tells how many entries are decided.
    Decide(Decide),
    /// Tells a follower that lacks much where to learn it.
    CatchUpRedirect(CatchUpRedirect),
    /// Asks any server for decided entries.
    CatchUpRequest(CatchUpRequest),
    /// Decided entries, of any server.
    CatchUpChunk(Box<CatchUpChunk<T>>),
    /// Proposals of a server that does not lead.
    ProposalForward(Vec<T>),
    /// Proposals with their ids, forwarded until they are decided.
    ForwardedProposals(Box<ForwardedProposals<T>>),
    /// Why proposals that were forwarded are not taken.
    ProposalRejection(ProposalRejection),
    /// The proposal of a reconfiguration by a server that does not lead.
    ForwardStopSign(Box<ForwardedStopSign>),
    /// Compaction of the log.
    Compaction(Compaction),
    /// Asks the leader for an index to read at.
    ReadIndexRequest(ReadIndexRequest),
    /// The index to read at.
    ReadIndexResponse(ReadIndexResponse),
    /// Asks whether the receiver follows a ballot still.
    LeadershipCheck(LeadershipCheck),
    /// Says so.
    LeadershipCheckAck(LeadershipCheckAck),
    /// Asks a follower to take over.
    TransferLeadership(TransferLeadership),
}

/// Asks the leader to go on, or to prepare the sender anew.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PrepareReq {
    /// The configuration of the sender, which may have promised nobody yet.
    pub config_id: ConfigurationId,
    /// The highest ballot that the sender has promised.
    pub n: Ballot,
    /// The ballot in which the sender accepted its log.
    pub n_accepted: Ballot,
    /// Length of the sender's log.
    pub accepted_idx: u64,
    /// Number of entries decided at the sender.
    pub decided_idx: u64,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// First message of a new leader.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Prepare {
    /// The ballot of the leader.
    pub n: Ballot,
    /// The ballot in which the leader accepted its log.
    pub n_accepted: Ballot,
    /// Length of the leader's log.
    pub accepted_idx: u64,
    /// Number of entries decided at the leader: what it lacks is told from here.
    pub decided_idx: u64,
    /// Whether the leader takes a delta snapshot in place of the entries that it lacks, and has
    /// learned none in this ballot.
    pub takes_delta: bool,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// Answer to a [`Prepare`].
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub struct Promise<T: Entry> {
    /// The ballot promised.
    pub n: Ballot,
    /// The ballot in which the follower accepted its log.
    pub n_accepted: Ballot,
    /// Length of the follower's log.
    pub accepted_idx: u64,
    /// Number of entries decided at the follower.
    pub decided_idx: u64,
    /// Whether the follower takes a delta snapshot in place of the entries that it lacks, and has
    /// learned none since it promised.
    pub takes_delta: bool,
    /// What the leader's log lacks, if the follower's is more recent. `None`, too, if it must first
    /// learn what is decided, since that is a snapshot or too much for a message: it asks again then.
    pub sync: Option<Box<LogSync<T>>>,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// What one log lacks of another: the receiver's log from `suffix_idx` on is replaced.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub struct LogSync<T: Entry> {
    /// Index of the first entry of `suffix`: the receiver's decided index, or beyond it where the entries
    /// before were trimmed, which proves that every server holds them.
    pub suffix_idx: u64,
    /// The entries from there on: in a promise up to the end of the log, in an AcceptSync at least
    /// as many as the leader adopted.
    pub suffix: SharedEntries<T>,
    /// The ids of these entries.
    pub ids: Option<Box<EntryIds>>,
    /// The stop sign, where it follows on `suffix`.
    pub stopsign: Option<StopSign>,
}

/// Brings a follower in step with the leader.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub struct AcceptSync<T: Entry> {
    /// The ballot of the leader.
    pub n: Ballot,
    /// Number of entries decided at the leader.
    pub decided_idx: u64,
    /// What the follower lacks.
    pub sync: Box<LogSync<T>>,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// Entries to accept, and how many are decided. Without entries, asks for an acknowledgement.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub struct AcceptDecide<T: Entry> {
    /// The ballot of the leader.
    pub n: Ballot,
    /// Index of the first of `entries`.
    pub from_idx: u64,
    /// The entries.
    pub entries: CodedEntries<T>,
    /// Number of entries decided at the leader.
    pub decided_idx: u64,
    /// Their ids.
    pub ids: Option<Box<EntryIds>>,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// The stop sign to accept.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AcceptStopSign {
    /// The ballot of the leader.
    pub n: Ballot,
    /// Index of the stop sign: the number of entries before it.
    pub idx: u64,
    /// The stop sign.
    pub stopsign: Box<StopSign>,
    /// Number of entries decided at the leader.
    pub decided_idx: u64,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// Acknowledges all entries before `accepted_idx`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Accepted {
    /// The ballot in which they were accepted.
    pub n: Ballot,
    /// Length of the follower's log, as far as it is stored.
    pub accepted_idx: u64,
    /// Number of entries decided at the follower.
    pub decided_idx: u64,
    /// Whether the follower was sent entries that begin beyond its log, or a decided index there.
    pub gap: bool,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// Refuses the ballot of the receiver.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NotAccepted {
    /// The higher ballot that the sender has promised.
    pub n: Ballot,
}

/// Tells how many entries are decided. Not acknowledged.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Decide {
    /// The ballot of the leader.
    pub n: Ballot,
    /// Number of entries decided at the leader.
    pub decided_idx: u64,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// Sends a follower that lacks many decided entries to a server that holds them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CatchUpRedirect {
    /// The ballot of the leader.
    pub n: Ballot,
    /// The server to ask; may be the leader.
    pub source: NodeId,
    /// Number of entries decided at the leader.
    pub decided_idx: u64,
}

/// Asks for decided entries. Answered with a [`CatchUpChunk`] if the receiver has decided more.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CatchUpRequest {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// Number of entries decided at the sender: those after are asked for.
    pub decided_idx: u64,
    /// Whether the sender takes a delta snapshot in place of these entries.
    pub takes_delta: bool,
    /// Whether the receiver, if it has decided no more, answers when it has.
    pub waits: bool,
}

/// A chunk of the decided log. What is decided never changes, so it can come from any server, and
/// has no ballot.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub struct CatchUpChunk<T: Entry> {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// Number of entries decided at the receiver when it asked.
    pub base: u64,
    /// Sums up all entries before `from_idx`, where the sender has compacted what was asked for; those
    /// from `base` to `from_idx`, where the receiver takes a delta.
    pub snapshot: Option<SnapshotType<T>>,
    /// Index of the first of `entries`. If it is beyond what was asked for and there is no
    /// snapshot, the entries before were trimmed, which proves that every server holds them.
    pub from_idx: u64,
    /// Decided entries.
    pub entries: SharedEntries<T>,
    /// Their ids, and those of what the snapshot sums up, from the decided index of the receiver on.
    pub ids: Option<Box<EntryIds>>,
    /// The decided stop sign, where it follows on `entries`.
    pub stopsign: Option<StopSign>,
    /// Number of entries decided at the sender: beyond the end of this chunk, if there is more.
    pub decided_idx: u64,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// Compaction of the log.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Compaction {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// What is asked or answered.
    pub action: CompactionAction,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// What a [`Compaction`] message asks or answers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum CompactionAction {
    /// Asks to trim the entries before an index, which every server has.
    Trim(u64),
    /// Asks to replace the entries before an index by a snapshot.
    Snapshot(u64),
    /// Answers: the sender has nothing left to compact before this index. It has compacted the entries, or
    /// cannot make the snapshot.
    Compacted(u64),
    /// Reports what the application at the sender has applied.
    Applied(AppliedReport),
}

/// What the application at a server has applied, where the entry type has no snapshots.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AppliedReport {
    /// The application at the sender has applied the entries before this index, and has said so.
    pub applied_idx: u64,
    /// What the receiver has reported to the sender: 0 if nothing is known.
    pub confirmed_idx: u64,
    /// Whether the sender waits for the receiver to confirm `applied_idx`.
    pub asks: bool,
}

/// Asks the leader for an index to read at. The answer stands for all requests of that incarnation
/// with this number or a lower one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ReadIndexRequest {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// The server that reads; the sender, unless that passes it on.
    pub origin: NodeId,
    /// The incarnation of that server.
    pub incarnation: u64,
    /// Counts what was requested in that incarnation.
    pub number: u64,
    /// Number of servers that have passed it on.
    pub hops: u8,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// Answer to a [`ReadIndexRequest`]: all that was decided before the request is before an index.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ReadIndexResponse {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// The server that reads; the receiver, unless that passes it on.
    pub origin: NodeId,
    /// The incarnation of that server in which it asked.
    pub incarnation: u64,
    /// The number of the request.
    pub number: u64,
    /// Number of entries to be decided at the server that reads before it does.
    pub read_idx: u64,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// Asks whether the receiver has promised no higher ballot than that of the leader.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LeadershipCheck {
    /// The ballot of the leader.
    pub n: Ballot,
    /// Counts the questions in this ballot.
    pub round: u64,
}

/// Answer to a [`LeadershipCheck`]: this is the highest ballot that the sender has promised.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LeadershipCheckAck {
    /// The ballot of the leader.
    pub n: Ballot,
    /// The round of the question.
    pub round: u64,
    /// Between which servers this travels.
    pub stamp: Stamp,
}

/// Asks a follower that has all of the leader's log to take over, in a ballot of its own.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TransferLeadership {
    /// The ballot of the leader.
    pub n: Ballot,
}
