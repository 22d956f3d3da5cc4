//! The heartbeats of Ballot Leader Election (paper §5.2).

use crate::{
    ballot::Ballot,
    identity::SenderIdentity,
    ids::{ConfigurationId, NodeId},
};

/// A heartbeat with sender and receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BLEMessage {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The heartbeat.
    pub msg: HeartbeatMsg,
}

/// A heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum HeartbeatMsg {
    /// Asks whether the receiver answers.
    Request(HeartbeatRequest),
    /// Answers a request.
    Reply(HeartbeatReply),
}

/// Asks whether the receiver answers, and reports the state of the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HeartbeatRequest {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// The heartbeat round of the sender. The reply repeats it.
    pub round: u32,
    /// The size limit of an entry in the storage of the sender, in bytes; `u64::MAX` if there is
    /// none: see [`Storage::max_entry_bytes`](crate::storage::Storage::max_entry_bytes).
    pub max_entry_bytes: u64,
    /// The identity of the sender. A replica sets it when the message leaves.
    pub sender: Box<SenderIdentity>,
    /// The ballot of the leader that the sender follows; number 0 if none.
    pub leader: Ballot,
    /// Whether the sender is happy with that leader.
    pub happy: bool,
    /// The priority of the sender.
    pub priority: u32,
    /// Whether the sender can take over: it reaches a read quorum, as far as it knows, and does not
    /// pause after a ballot without promises.
    pub electable: bool,
    /// Whether the sender is steady: it was not restarted, and did not lose its quorum, in the last
    /// rounds.
    pub steady: bool,
    /// Whether the sender is an observer: it has no vote, and counts in no election.
    pub observes: bool,
}

/// Answers a heartbeat request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HeartbeatReply {
    /// The round of the request.
    pub round: u32,
    /// The ballot of the replying server.
    pub ballot: Ballot,
    /// The ballot of the leader that the replying server follows; number 0 if none.
    pub leader: Ballot,
    /// Whether the replying server is happy with that leader.
    pub happy: bool,
}
