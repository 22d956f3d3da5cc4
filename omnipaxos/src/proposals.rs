//! Proposals that can be followed to their end.

use crate::ids::NodeId;

/// Names a proposal.
///
/// No two proposals have the same id, also over restarts of the server that they were proposed at.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProposalId {
    /// The server where it was proposed.
    pub origin: NodeId,
    /// The life of that server: see
    /// [`Storage::next_incarnation`](crate::storage::Storage::next_incarnation).
    pub incarnation: u64,
    /// Counts the proposals of that life.
    pub number: u64,
}

/// How a proposal ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Outcome {
    /// It is decided, at this index and nowhere else.
    Decided(u64),
    /// It is not decided and never will be: the configuration ended without it. It is safe to
    /// propose the entry in the next one.
    NotDecided,
    /// It may have been decided, once at most, and cannot be followed any further: this server was
    /// brought up to date by a snapshot, and nobody that it reached knows what went into that.
    Unknown,
}
