//! Linearizable reads: see [`OmniPaxos::request_read`](crate::OmniPaxos::request_read).

use crate::{errors::Halted, ids::NodeId};
use thiserror::Error;

/// Names a read requested from one replica, in its present incarnation.
///
/// Reads requested between two outputs share an id.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(u64);

impl ReadId {
    pub(crate) fn new(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// The state of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadState {
    /// The leader has not yet confirmed that it leads, or this server has not yet decided the
    /// entries up to the read index.
    Waiting,
    /// The entries before this index are decided here. They include all entries decided anywhere
    /// before the read was requested. Apply them, and serve the read from the application's state.
    Ready(u64),
    /// The read cannot be served. It is safe to request it again.
    Refused(ReadRefused),
}

/// Why a read is refused. It is always safe to request it again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadRefused {
    /// No leader is known here.
    #[error("no leader is known: request the read again later")]
    NoLeader,
    /// This server cannot reach the leader, directly or through a relay.
    #[error("the leader, server {0}, cannot be reached: request the read again later")]
    Unreachable(NodeId),
    /// This server is about to lead, and does not know yet which entries are decided.
    #[error("this server is about to lead: request the read again soon")]
    Preparing,
    /// The configuration has ended. Read in the next one.
    #[error("the configuration has ended: read in the next one")]
    Reconfigured,
    /// This server was restarted, and cannot distinguish its requests from those of an earlier
    /// incarnation: see [`ServerConfig::incarnation`](crate::ServerConfig::incarnation).
    #[error("the storage does not count the incarnations of this server, and none was configured")]
    NoIncarnation,
    /// The id does not belong to this replica in its present incarnation.
    #[error("no such read was requested here in this incarnation")]
    Unknown,
    /// The replica has halted.
    #[error(transparent)]
    Halted(#[from] Halted),
}
