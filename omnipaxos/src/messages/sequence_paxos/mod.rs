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
    storage::{Entry, Epoch, SnapshotType, StopSign},
};

/// A message of Sequence Paxos with sender and receiver.
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
    /// The content.
    pub msg: PaxosMsg<T>,
}

/// The content of a message about the log.
///
/// Rare and large contents are boxed, so that frequent ones are small to move.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub enum PaxosMsg<T: Entry> {
    /// A recovering server asks for the leader.
    PrepareReq(PrepareReq),
    /// A new leader asks for a promise.
    Prepare(Prepare),
    /// Promises to follow a new leader, and sends what its log lacks.
    Promise(Promise<T>),
    /// Synchronises a follower's log with the leader's.
    AcceptSync(AcceptSync<T>),
    /// New entries, and the decided index.
    AcceptDecide(AcceptDecide<T>),
    /// The stop sign, which is the last entry.
    AcceptStopSign(AcceptStopSign),
    /// Acknowledges accepted entries.
    Accepted(Accepted),
    /// Refuses a ballot because the sender has promised a higher one.
    NotAccepted(NotAccepted),
    /// Reports the decided index.
    Decide(Decide),
    /// Redirects a follower that lacks many entries to a server that has them.
    CatchUpRedirect(CatchUpRedirect),
    /// Asks any server for decided entries.
    CatchUpRequest(Box<CatchUpRequest>),
    /// Decided entries, from any server.
    CatchUpChunk(Box<CatchUpChunk<T>>),
    /// Proposals forwarded by a server that does not lead.
    ProposalForward(Vec<T>),
    /// Proposals with their ids, forwarded until they are decided.
    ForwardedProposals(Box<ForwardedProposals<T>>),
    /// Why forwarded proposals are not appended.
    ProposalRejection(ProposalRejection),
    /// A reconfiguration forwarded by a server that does not lead.
    ForwardStopSign(Box<ForwardedStopSign>),
    /// Compaction of the log.
    Compaction(Compaction),
    /// Asks the leader for a read index.
    ReadIndexRequest(ReadIndexRequest),
    /// The read index.
    ReadIndexResponse(ReadIndexResponse),
    /// Asks whether the receiver has promised a higher ballot than the leader's.
    LeadershipCheck(LeadershipCheck),
    /// Confirms that the sender has not.
    LeadershipCheckAck(LeadershipCheckAck),
    /// Asks a follower to take over.
    TransferLeadership(TransferLeadership),
    /// Asks a joining server for its decided index, or contains the answer.
    Joining(Joining),
}

/// Asks a server that the next configuration names for its decided index, or contains the answer.
///
/// It may be sent between servers of different configurations. It proves nothing: a wrong answer only
/// makes a change begin too early or too late.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Joining {
    /// The configuration of the server that asks.
    pub config_id: ConfigurationId,
    /// In an answer: number of entries decided and stored at the server that joins.
    pub decided_idx: Option<u64>,
    /// The digest of the name of the sender's cluster; see
    /// [`Digest::cluster_name`](crate::identity::Digest::cluster_name). 0 means: not set. A message that
    /// was made by hand is not checked.
    pub cluster_name: u32,
}

/// Asks the leader to continue, or to prepare the sender again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PrepareReq {
    /// The configuration of the sender, which may not have promised any ballot yet.
    pub config_id: ConfigurationId,
    /// The highest ballot that the sender has promised.
    pub n: Ballot,
    /// The ballot in which the sender accepted its log.
    pub n_accepted: Ballot,
    /// Length of the sender's log.
    pub accepted_idx: u64,
    /// Number of entries decided at the sender.
    pub decided_idx: u64,
    /// Marks sender and receiver.
    pub stamp: Stamp,
}

/// The first message of a new leader.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Prepare {
    /// The ballot of the leader.
    pub n: Ballot,
    /// The ballot in which the leader accepted its log.
    pub n_accepted: Ballot,
    /// Length of the leader's log.
    pub accepted_idx: u64,
    /// Number of entries decided at the leader: a promise contains entries from there on.
    pub decided_idx: u64,
    /// Whether the leader accepts a delta snapshot instead of missing entries, and has learned no
    /// decided entries in this ballot.
    pub takes_delta: bool,
    /// Marks sender and receiver.
    pub stamp: Stamp,
}

/// The answer to a [`Prepare`].
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub struct Promise<T: Entry> {
    /// The promised ballot.
    pub n: Ballot,
    /// The ballot in which the follower accepted its log.
    pub n_accepted: Ballot,
    /// Length of the follower's log.
    pub accepted_idx: u64,
    /// Number of entries decided at the follower.
    pub decided_idx: u64,
    /// Whether the follower accepts a delta snapshot instead of missing entries, and has learned no
    /// decided entries since it promised.
    pub takes_delta: bool,
    /// The entries that the leader's log lacks, if the follower's log is more recent. It is also
    /// `None` if the leader must first fetch decided entries, since they are compacted or too many
    /// for a message. Then the leader asks again.
    pub sync: Option<Box<LogSync<T>>>,
    /// Marks sender and receiver.
    pub stamp: Stamp,
}

/// The part of a log that another log lacks. It replaces the receiver's log from `suffix_idx` on.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub struct LogSync<T: Entry> {
    /// Index of the first entry of `suffix`: the receiver's decided index. It is higher if the
    /// entries before it were trimmed, which proves that every server holds them.
    pub suffix_idx: u64,
    /// The entries from `suffix_idx` on. In a promise they reach the end of the log. In an
    /// AcceptSync they reach at least the length that the leader adopted.
    pub suffix: SharedEntries<T>,
    /// The ids of these entries.
    pub ids: Option<Box<EntryIds>>,
    /// The stop sign, if it directly follows `suffix`.
    pub stopsign: Option<StopSign>,
}

/// Synchronises a follower's log with the leader's.
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
    /// The entries that the follower lacks.
    pub sync: Box<LogSync<T>>,
    /// Marks sender and receiver.
    pub stamp: Stamp,
}

/// Entries to accept, and the decided index. Without entries it asks for an acknowledgement.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub struct AcceptDecide<T: Entry> {
    /// The ballot of the leader.
    pub n: Ballot,
    /// Index of the first entry in `entries`.
    pub from_idx: u64,
    /// The entries.
    pub entries: CodedEntries<T>,
    /// Number of entries decided at the leader.
    pub decided_idx: u64,
    /// The ids of the entries.
    pub ids: Option<Box<EntryIds>>,
    /// Marks sender and receiver.
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
    /// Marks sender and receiver.
    pub stamp: Stamp,
}

/// Acknowledges all entries before `accepted_idx`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Accepted {
    /// The ballot in which the entries were accepted.
    pub n: Ballot,
    /// Length of the stored log of the follower.
    pub accepted_idx: u64,
    /// Number of entries decided at the follower.
    pub decided_idx: u64,
    /// Whether the follower received entries that begin beyond its log, or a decided index beyond
    /// it.
    pub gap: bool,
    /// Marks sender and receiver.
    pub stamp: Stamp,
}

/// Refuses the ballot of the receiver.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NotAccepted {
    /// The higher ballot that the sender has promised.
    pub n: Ballot,
}

/// Reports the decided index. It is not acknowledged.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Decide {
    /// The ballot of the leader.
    pub n: Ballot,
    /// Number of entries decided at the leader.
    pub decided_idx: u64,
    /// Marks sender and receiver.
    pub stamp: Stamp,
}

/// Redirects a follower that lacks many decided entries to a server that has them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CatchUpRedirect {
    /// The ballot of the leader.
    pub n: Ballot,
    /// The server to ask. It may be the leader.
    pub source: NodeId,
    /// Number of entries decided at the leader.
    pub decided_idx: u64,
}

/// Asks for decided entries. The answer is a [`CatchUpChunk`] if the receiver has decided more.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CatchUpRequest {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// Number of entries decided at the sender. It asks for the entries from there on.
    pub decided_idx: u64,
    /// Whether the sender accepts a delta snapshot instead of these entries.
    pub takes_delta: bool,
    /// Whether the receiver keeps the request until it has decided more, and answers then.
    pub waits: bool,
    /// Whether the sender takes a large snapshot in pieces.
    pub takes_pieces: bool,
    /// The entries to send. `None`: those from `decided_idx` on, or a snapshot in their place.
    pub range: Option<DecidedRange>,
    /// The bytes to send of a snapshot whose beginning the sender has. If the receiver no longer
    /// has that encoding, it answers as if this were `None`.
    pub piece: Option<PieceRequest>,
}

/// A range of the decided log.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DecidedRange {
    /// Index of the first entry.
    pub from_idx: u64,
    /// The index after the last.
    pub until_idx: u64,
}

/// Names one encoding of a snapshot. Pieces of two encodings never mix: if two servers have encoded
/// the same snapshot to other bytes, the digests differ.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SnapshotEncoding {
    /// Number of entries that the snapshot stands for.
    pub idx: u64,
    /// Number of bytes.
    pub len: u64,
    /// A digest of all bytes.
    pub digest: u64,
}

/// Asks for the bytes `from..until` of a snapshot.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PieceRequest {
    /// The encoding to which the bytes belong.
    pub encoding: SnapshotEncoding,
    /// Offset of the first byte.
    pub from: u64,
    /// The offset after the last.
    pub until: u64,
}

impl PieceRequest {
    /// Adds an earlier request of the same server, if both together ask for bytes without a gap.
    pub(crate) fn with_earlier(self, earlier: Self) -> Self {
        let is_gapless = self.from <= earlier.until && earlier.from <= self.until;
        match self.encoding == earlier.encoding && is_gapless {
            true => {
                let (from, until) = (self.from.min(earlier.from), self.until.max(earlier.until));
                Self { from, until, ..self }
            }
            false => self,
        }
    }
}

/// A piece of a snapshot that is larger than a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SnapshotPiece {
    /// The encoding to which the bytes belong.
    pub encoding: SnapshotEncoding,
    /// Offset of the first byte.
    pub offset: u64,
    /// The bytes, at least one.
    pub bytes: Vec<u8>,
    /// Whether the receiver asked for more bytes after this piece, and the limits of the sender ended
    /// the answer here. Then the receiver asks for them again.
    pub is_cut: bool,
}

impl SnapshotPiece {
    /// The offset after its last byte, `None` if there is no such offset.
    pub(crate) fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.bytes.len() as u64)
    }
}

/// A chunk of the decided log. Decided entries never change, so a chunk can come from any server
/// and has no ballot.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub struct CatchUpChunk<T: Entry> {
    /// The configuration of the request that this chunk answers.
    pub config_id: ConfigurationId,
    /// The index from which on the receiver asked: the number of entries decided there, or the
    /// beginning of the range that it named.
    pub base: u64,
    /// A snapshot, if the sender has compacted entries that the receiver lacks, or the receiver
    /// accepts a delta snapshot. It stands for all entries before `from_idx`; a delta stands for
    /// those from `base` on.
    pub snapshot: Option<SnapshotType<T>>,
    /// Index of the first entry in `entries`. If it is above `base` and there is no snapshot, the
    /// entries between were trimmed, which proves that every server holds them.
    pub from_idx: u64,
    /// Decided entries.
    pub entries: SharedEntries<T>,
    /// Their ids, and those of the entries from `base` on that the snapshot stands for. With the
    /// last piece of a snapshot, the ids of the entries that this snapshot stands for.
    pub ids: Option<Box<EntryIds>>,
    /// The decided stop sign, if it directly follows `entries`.
    pub stopsign: Option<StopSign>,
    /// A piece of a snapshot of the log from its beginning. Then the chunk has no entries, and
    /// `from_idx` is `base`.
    pub piece: Option<Box<SnapshotPiece>>,
    /// In a log that continues through reconfigurations: the epoch of the receiver after it has
    /// installed the snapshot, if that is not the epoch of the request. Also the first epoch, for a server
    /// that joins and knows no epoch yet; while the log is empty, the chunk has nothing else.
    pub epoch: Option<Box<Epoch>>,
    /// Number of entries decided at the sender: beyond the end of this chunk, if there is more.
    pub decided_idx: u64,
    /// The sender holds no entries before this index.
    pub compacted_idx: u64,
    /// Marks sender and receiver.
    pub stamp: Stamp,
}

/// Compaction of the log.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Compaction {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// The request or the answer.
    pub action: CompactionAction,
    /// Marks sender and receiver.
    pub stamp: Stamp,
}

/// The request or the answer in a [`Compaction`] message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum CompactionAction {
    /// Asks to trim the entries before an index. Every server has accepted them.
    Trim(u64),
    /// Asks to replace the entries before an index by a snapshot.
    Snapshot(u64),
    /// Answers that the sender has nothing to compact before this index. It has compacted the
    /// entries, or cannot make the snapshot.
    Compacted(u64),
    /// Reports the applied index of the application at the sender.
    Applied(AppliedReport),
}

/// The applied index of a server's application, if the entry type has no snapshots.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AppliedReport {
    /// The application at the sender has reported the entries before this index as applied.
    pub applied_idx: u64,
    /// The applied index that the receiver has reported to the sender; 0 if the sender knows none.
    pub confirmed_idx: u64,
    /// Whether the sender waits for the receiver to confirm `applied_idx`.
    pub asks: bool,
}

/// Asks the leader for a read index. The answer is valid for all requests of that incarnation with
/// this number or a lower one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ReadIndexRequest {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// The server that reads. It is the sender, or the sender relays its request.
    pub origin: NodeId,
    /// The incarnation of that server.
    pub incarnation: u64,
    /// The number of the request in that incarnation.
    pub number: u64,
    /// The ballot that this server has promised: it has promised no higher one.
    pub n: Ballot,
    /// Number of servers that have relayed it.
    pub hops: u8,
    /// Marks sender and receiver.
    pub stamp: Stamp,
}

/// The answer to a [`ReadIndexRequest`]: all entries decided before the request are before the read
/// index.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ReadIndexResponse {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// The server that reads. It is the receiver, or the receiver relays the answer.
    pub origin: NodeId,
    /// The incarnation of that server at the time of the request.
    pub incarnation: u64,
    /// The number of the request.
    pub number: u64,
    /// The decided index that the reading server must reach before it reads.
    pub read_idx: u64,
    /// Number of servers that have relayed it.
    pub hops: u8,
    /// Marks sender and receiver.
    pub stamp: Stamp,
}

/// Asks whether the receiver has promised a higher ballot than the leader's.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LeadershipCheck {
    /// The ballot of the leader.
    pub n: Ballot,
    /// The number of the round in this ballot.
    pub round: u64,
}

/// The answer to a [`LeadershipCheck`]: the sender has promised no higher ballot.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LeadershipCheckAck {
    /// The ballot of the leader.
    pub n: Ballot,
    /// The number of the round.
    pub round: u64,
    /// Marks sender and receiver.
    pub stamp: Stamp,
}

/// Asks a follower that has all of the leader's log to take over, in a ballot of its own.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TransferLeadership {
    /// The ballot of the leader.
    pub n: Ballot,
}
