//! The heartbeats of Ballot Leader Election (paper §5.2).

use crate::{
    ballot::Ballot,
    identity::SenderIdentity,
    ids::{ConfigurationId, NodeId},
};

/// A heartbeat and its envelope.
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
    /// Asks whether the receiver is there.
    Request(HeartbeatRequest),
    /// Answers a request.
    Reply(HeartbeatReply),
}

/// Asks whether the receiver is there, and tells how the sender is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HeartbeatRequest {
    /// The configuration of the sender.
    pub config_id: ConfigurationId,
    /// The heartbeat round of the sender; the reply bears it too.
    pub round: u32,
    /// The most bytes that an entry may take in the storage of the sender, `u64::MAX` if there is no
    /// limit: see [`Storage::max_entry_bytes`](crate::storage::Storage::max_entry_bytes).
    pub max_entry_bytes: u64,
    /// Who the sender is. A replica sets it when the message leaves.
    pub sender: Box<SenderIdentity>,
    /// The ballot of the leader that the sender follows; number 0 if none.
    pub leader: Ballot,
    /// Whether the sender is content with that leader.
    pub happy: bool,
    /// The priority with which the sender would take over.
    pub priority: u32,
    /// Whether the sender could take over: it reaches a read quorum, as far as it knows, and has not
    /// just failed to be promised.
    pub electable: bool,
    /// Whether the sender has lately neither been restarted nor lost its quorum.
    pub steady: bool,
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
    /// Whether the replying server is content with that leader.
    pub happy: bool,
}
