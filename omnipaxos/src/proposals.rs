//! Proposals with an id and an outcome.

use crate::ids::NodeId;

/// Names a proposal: see [`OmniPaxos::propose`](crate::OmniPaxos::propose).
///
/// No two proposals have the same id, also over restarts of their origin, if no two incarnations of
/// the origin have the same number.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProposalId {
    /// The server at which the proposal was made.
    pub origin: NodeId,
    /// The incarnation of that server: see
    /// [`Storage::next_incarnation`](crate::storage::Storage::next_incarnation). 0 is the first
    /// incarnation over a storage that does not count. Entries appended without an id have either
    /// incarnation 0 and a number from 2^63 on, or an incarnation from 2^63 on.
    pub incarnation: u64,
    /// The number of the proposal among those of that incarnation.
    pub number: u64,
}

/// How a proposal ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Outcome {
    /// The proposal is decided at this index, and at no other. This server has decided it, too.
    Decided(u64),
    /// The proposal is decided, once, among the entries before this index. This server has decided
    /// all of them. The proposal's own index is forgotten: while this server was cut off, the
    /// others decided so many entries that they no longer remember this index.
    DecidedBefore(u64),
    /// The proposal is not decided and never will be: the configuration ended without it. It is
    /// safe to propose the entry in the next configuration.
    NotDecided,
    /// The leader refused the proposal, for the reason in the text. It is not decided, and
    /// proposing the entry again is useless. The reason is one of these:
    /// - The storage of the leader cannot hold the entry, or cannot return it.
    /// - The entry exceeds [`ServerConfig::max_entry_bytes`] there.
    ///
    /// If every server would refuse it, it never will be decided. If servers have different limits,
    /// a copy delayed by the network may still reach a later leader that accepts it, once at most.
    ///
    /// [`ServerConfig::max_entry_bytes`]: crate::ServerConfig::max_entry_bytes
    Refused(String),
    /// The [change of members](crate::OmniPaxos::change_members) is not decided and never will be:
    /// these servers, which it needs, did not catch up. Nothing has changed.
    NotJoined(Vec<NodeId>),
    /// The proposal may have been decided, or may be decided later, once at most. This server
    /// cannot find out: the proposal may be among entries whose ids are not known to the leader or
    /// to this server. Ids are kept in memory: a restarted server does not know the ids of entries
    /// in its storage.
    Unknown,
}

/// Consecutive entries of the log with consecutive ids.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct IdRun {
    /// Index of the first entry.
    pub idx: u64,
    /// Number of entries; not 0.
    pub count: u64,
    /// The id of the first entry. The number grows by one with each further entry.
    pub first: ProposalId,
}

impl ProposalId {
    /// Returns the id `count` proposals later.
    pub(crate) fn later(self, count: u64) -> Self {
        Self { number: self.number.wrapping_add(count), ..self }
    }
}

impl IdRun {
    /// Returns the index after the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.idx.saturating_add(self.count)
    }

    /// Returns the part of the run in `from..to`, if there is any.
    pub(crate) fn within(&self, from: u64, to: u64) -> Option<Self> {
        let (idx, end) = (self.idx.max(from), self.end().min(to));
        let skipped = idx - self.idx;
        (idx < end).then(|| Self { idx, count: end - idx, first: self.first.later(skipped) })
    }
}
