//! The numbers that name things.

/// Names a server. Any value but 0; ids need not be dense or small.
pub type NodeId = u64;

/// Names a configuration of the cluster. Any value but 0; each reconfiguration raises it.
pub type ConfigurationId = u32;

/// An index up to which the log was trimmed: the number of entries that are gone.
pub type TrimmedIndex = u64;

/// A position in a stream of messages of one session.
///
/// Kept for programs written for 0.2.2. This library says where entries go by their index in the
/// log and needs no sessions.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SequenceNumber {
    /// The session; a new one begins with each reconnection.
    pub session: u64,
    /// The number of the message within the session.
    pub counter: u64,
}
