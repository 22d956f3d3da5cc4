//! The result of reading the log.

use crate::{
    ids::TrimmedIndex,
    storage::{Entry, StopSign},
};
use std::fmt::Debug;

/// One element of the log, or the compacted part of it.
#[derive(Clone, Debug)]
pub enum LogEntry<T: Entry> {
    /// A decided entry. It never changes.
    Decided(T),
    /// An entry that this server has accepted and that may still be replaced.
    Undecided(T),
    /// The entries before this index were trimmed.
    Trimmed(TrimmedIndex),
    /// The entries before an index were replaced by a snapshot.
    Snapshotted(SnapshottedEntry<T>),
    /// The last entry of the configuration, and whether it is decided.
    StopSign(StopSign, bool),
}

impl<T> PartialEq for LogEntry<T>
where
    T: Entry + PartialEq,
    T::Snapshot: PartialEq,
{
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Decided(a), Self::Decided(b)) | (Self::Undecided(a), Self::Undecided(b)) => {
                a == b
            }
            (Self::Trimmed(a), Self::Trimmed(b)) => a == b,
            (Self::Snapshotted(a), Self::Snapshotted(b)) => a == b,
            (Self::StopSign(a, a_decided), Self::StopSign(b, b_decided)) => {
                a == b && a_decided == b_decided
            }
            (
                Self::Decided(_)
                | Self::Undecided(_)
                | Self::Trimmed(_)
                | Self::Snapshotted(_)
                | Self::StopSign(..),
                _,
            ) => false,
        }
    }
}

/// The part of the log that a snapshot replaced.
#[derive(Clone, Debug)]
pub struct SnapshottedEntry<T: Entry> {
    /// Number of entries that the snapshot stands for.
    pub trimmed_idx: TrimmedIndex,
    /// The snapshot of these entries.
    pub snapshot: T::Snapshot,
}

impl<T: Entry> SnapshottedEntry<T> {
    /// Creates the snapshot of the first `trimmed_idx` entries.
    pub fn with(trimmed_idx: TrimmedIndex, snapshot: T::Snapshot) -> Self {
        Self { trimmed_idx, snapshot }
    }
}

impl<T: Entry> PartialEq for SnapshottedEntry<T>
where
    T::Snapshot: PartialEq,
{
    fn eq(&self, other: &Self) -> bool {
        self.trimmed_idx == other.trimmed_idx && self.snapshot == other.snapshot
    }
}
