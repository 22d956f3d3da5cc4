//! Proposals that can be followed to their end.

use crate::ids::NodeId;

/// Names a proposal: see [`OmniPaxos::propose`](crate::OmniPaxos::propose).
///
/// No two proposals have the same id, also over restarts of the server that they were proposed at,
/// as long as no two incarnations of it have the same number.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProposalId {
    /// The server where it was proposed.
    pub origin: NodeId,
    /// The incarnation of that server: see
    /// [`Storage::next_incarnation`](crate::storage::Storage::next_incarnation). 0 is the first over a
    /// storage that does not count. Entries that were appended without an id are told apart by 0 and
    /// a number from 2^63 on, or by an incarnation from there on.
    pub incarnation: u64,
    /// Counts the proposals of that incarnation.
    pub number: u64,
}

/// How a proposal ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Outcome {
    /// It is decided, at this index and nowhere else: so many entries are before it. This server has
    /// decided it, too.
    Decided(u64),
    /// It is decided, once, among the entries before this index, and this server has decided them all.
    /// Its own index is forgotten: this server was cut off while the others gave more ids than they
    /// remember with an index.
    DecidedBefore(u64),
    /// It is not decided and never will be: the configuration ended without it. It is safe to
    /// propose the entry in the next one.
    NotDecided,
    /// The leader refused it, for the reason that the text gives: its storage cannot hold the entry,
    /// or not give it back, or it exceeds [`ServerConfig::max_entry_bytes`] there. It is not decided,
    /// and it is of no use to propose the entry again.
    ///
    /// Where every server would refuse it, it never will be decided. Where servers have different
    /// limits, a copy that the network delayed may still reach a later leader that takes it: once at
    /// most.
    ///
    /// [`ServerConfig::max_entry_bytes`]: crate::ServerConfig::max_entry_bytes
    Refused(String),
    /// It may have been decided, or may yet be, once at most, and cannot be followed any further: it
    /// may be among entries whose ids the leader does not know, or this server was not told. Ids are
    /// kept in memory: a server that was restarted does not know those of what it had stored.
    Unknown,
}

/// Entries one after the other in the log whose ids follow on each other.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct IdRun {
    /// Index of the first of them.
    pub idx: u64,
    /// How many they are; not 0.
    pub count: u64,
    /// The id of the first. The others differ in their number, which grows by one.
    pub first: ProposalId,
}

impl ProposalId {
    /// The id so many proposals later.
    pub(crate) fn later(self, count: u64) -> Self {
        Self { number: self.number.wrapping_add(count), ..self }
    }
}

impl IdRun {
    /// The index after the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.idx.saturating_add(self.count)
    }

    /// The part of it in `from..to`, if there is any.
    pub(crate) fn within(&self, from: u64, to: u64) -> Option<Self> {
        let (idx, end) = (self.idx.max(from), self.end().min(to));
        let skipped = idx - self.idx;
        (idx < end).then(|| Self { idx, count: end - idx, first: self.first.later(skipped) })
    }
}
