//! Numbers that name servers, configurations and indices.

/// Names a server: any value but 0. The ids of a cluster need not be dense or small.
pub type NodeId = u64;

/// Names a configuration of the cluster: any value but 0. Each reconfiguration raises it.
pub type ConfigurationId = u32;

/// An index up to which the log was trimmed: the number of entries removed.
pub type TrimmedIndex = u64;

/// A position in a stream of messages of one session.
///
/// It exists for programs written for 0.2.2. This library needs no sessions: each message contains
/// the index in the log at which its entries begin.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SequenceNumber {
    /// The session; a new one begins with each reconnection.
    pub session: u64,
    /// The number of the message within the session.
    pub counter: u64,
}
