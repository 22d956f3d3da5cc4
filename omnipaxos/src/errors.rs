//! What can go wrong, and what it means.

use crate::{config::ClusterConfig, ids::NodeId, storage::Entry};
use std::sync::Arc;
use thiserror::Error;

pub use crate::config::ConfigError;

/// Why a proposal was not taken. Gives the proposal back.
#[derive(Debug, Error)]
pub enum ProposeErr<T: Entry> {
    /// The configuration has ended or is about to: a stop sign is in the log, or waits to get
    /// there. Propose the entry in the next configuration.
    #[error("a reconfiguration is pending: propose this entry in the next configuration")]
    PendingReconfigEntry(T),
    /// A stop sign is in the log already, or waits to get there.
    #[error("a reconfiguration is pending: only one can follow a configuration")]
    PendingReconfigConfig(ClusterConfig, Option<Vec<u8>>),
    /// The proposed configuration cannot follow this one.
    #[error("the proposed configuration is not legal: {0}")]
    ConfigError(#[source] ConfigError, ClusterConfig, Option<Vec<u8>>),
}

/// Why the log was not compacted.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum CompactionErr {
    /// The index is beyond what is decided here; holds the decided index.
    #[error("cannot compact beyond the decided index {0}")]
    UndecidedIndex(u64),
    /// The log is compacted beyond the index already, or was trimmed without a snapshot so that
    /// none can be made any more; holds the compacted index.
    #[error("the log is compacted up to index {0} already")]
    TrimmedIndex(u64),
    /// Some server has not accepted so much yet; holds the index that all have accepted.
    #[error("cannot trim beyond index {0}, the largest that every server has accepted")]
    NotAllDecided(u64),
    /// Only the leader can trim; holds the leader known here, 0 if none is.
    #[error("only the leader can trim, and the leader known here is server {0} (0: none)")]
    NotCurrentLeader(NodeId),
}

/// A storage call failed, and the replica has stopped for good.
///
/// It sends nothing more, so that it cannot claim what its disk does not hold. Open the storage
/// anew and build a replica from it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the replica has halted: the storage failed to {}: {}", .0.operation, .0.cause)]
pub struct Halted(Arc<Failure>);

/// What failed, and why.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    operation: String,
    cause: String,
}

impl Halted {
    pub(crate) fn new(operation: impl Into<String>, cause: impl ToString) -> Self {
        Self(Arc::new(Failure { operation: operation.into(), cause: cause.to_string() }))
    }

    /// What the storage was asked to do.
    pub fn operation(&self) -> &str {
        &self.0.operation
    }

    /// What the storage said.
    pub fn cause(&self) -> &str {
        &self.0.cause
    }
}

/// Why a `try_*` method that proposes did not.
#[derive(Debug, Error)]
pub enum TryProposeErr<T: Entry> {
    /// As the method without `try_` says.
    #[error(transparent)]
    Refused(#[from] ProposeErr<T>),
    /// As many proposals wait as may wait: there is no leader, or it does not get on. Propose the
    /// entry, which is given back, again later. See
    /// [`ServerConfig::max_pending_bytes`](crate::ServerConfig::max_pending_bytes).
    #[error("busy: as many proposals wait as may wait; propose this entry again later")]
    Busy(T),
    /// This server was restarted over a storage that does not count its lives, so that it has no id
    /// to give. Implement [`Storage::next_incarnation`](crate::storage::Storage::next_incarnation)
    /// or set [`ServerConfig::incarnation`](crate::ServerConfig::incarnation).
    #[error(
        "this life of the server has no number that earlier ones did not have: implement \
         Storage::next_incarnation or set ServerConfig::incarnation"
    )]
    NoIncarnation(T),
    /// The replica has halted.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// Why [`propose_reconfiguration`](crate::OmniPaxos::propose_reconfiguration) did not take a
/// reconfiguration. Returns the configuration and the metadata.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReconfigurationErr {
    /// The proposed configuration cannot follow this one.
    #[error("the proposed configuration is not legal")]
    Config(#[source] ConfigError, ClusterConfig, Option<Vec<u8>>),
    /// A stop sign is in the log already, or waits to get there.
    #[error("a reconfiguration is pending: only one can follow a configuration")]
    Pending(ClusterConfig, Option<Vec<u8>>),
    /// This server was restarted over a storage that does not count its lives, so that it has no id
    /// to give: see [`TryProposeErr::NoIncarnation`].
    #[error(
        "this life of the server has no number that earlier ones did not have: implement \
         Storage::next_incarnation or set ServerConfig::incarnation"
    )]
    NoIncarnation(ClusterConfig, Option<Vec<u8>>),
    /// The replica has halted.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// Why a `try_*` method that compacts did not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TryCompactionErr {
    /// As the method without `try_` says.
    #[error(transparent)]
    Refused(#[from] CompactionErr),
    /// The replica has halted.
    #[error(transparent)]
    Halted(#[from] Halted),
}
