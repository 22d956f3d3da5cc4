//! What a disk holds.

use crate::value::{stop_sign_id, SimEntry};
use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Identity,
    storage::{Epoch, StopSign, StorageOp},
};
use std::collections::VecDeque;

/// What a disk holds. The checker looks at it directly.
#[derive(Clone, Debug)]
pub struct Image<T: SimEntry> {
    /// The entries held.
    pub log: VecDeque<T>,
    /// The promise.
    pub promise: Option<Ballot>,
    /// The round in which the log was accepted.
    pub accepted_round: Option<Ballot>,
    /// Number of entries decided.
    pub decided_idx: u64,
    /// Number of entries compacted.
    pub compacted_idx: u64,
    /// The stop sign.
    pub stopsign: Option<StopSign>,
    /// The snapshot.
    pub snapshot: Option<T::Snapshot>,
    /// The server that the disk belongs to, and the other disks that it knows.
    pub identity: Option<Identity>,
    /// The epochs of a log that continues.
    pub epochs: Vec<Epoch>,
}

/// What operations did to the log of an [`Image`] since the checker looked last.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The entries from this index on may be others; no entry was removed at the front.
    From(u64),
    /// Anything may be different.
    Everything,
    /// Anything may be different, and operations of one write were applied in part.
    Torn,
}

impl Change {
    /// Nothing has changed.
    pub const NOTHING: Change = Change::From(u64::MAX);

    /// Both changes.
    #[must_use]
    pub fn and(self, other: Change) -> Change {
        match (self, other) {
            (Change::Torn, Change::From(_) | Change::Everything | Change::Torn)
            | (Change::From(_) | Change::Everything, Change::Torn) => Change::Torn,
            (Change::Everything, Change::From(_) | Change::Everything)
            | (Change::From(_), Change::Everything) => Change::Everything,
            (Change::From(a), Change::From(b)) => Change::From(a.min(b)),
        }
    }
}

impl<T: SimEntry> Default for Image<T> {
    fn default() -> Self {
        Self {
            log: VecDeque::new(),
            promise: None,
            accepted_round: None,
            decided_idx: 0,
            compacted_idx: 0,
            stopsign: None,
            snapshot: None,
            identity: None,
            epochs: Vec::new(),
        }
    }
}

impl<T: SimEntry> Image<T> {
    /// Length of the log, with what was compacted and the stop sign.
    pub fn accepted_idx(&self) -> u64 {
        self.entries_end() + u64::from(self.stopsign.is_some())
    }

    /// Index after the last entry that is not a stop sign.
    pub fn entries_end(&self) -> u64 {
        self.compacted_idx + self.log.len() as u64
    }

    /// The id at `idx`, if it is held.
    pub fn id_at(&self, idx: u64) -> Option<u64> {
        let held = idx.checked_sub(self.compacted_idx)?;
        match self.log.get(usize::try_from(held).ok()?) {
            Some(entry) => Some(entry.id()),
            None if idx == self.entries_end() => self.stopsign.as_ref().map(stop_sign_id),
            None => None,
        }
    }

    /// Applies one operation.
    ///
    /// # Errors
    /// The error names how the operation misuses the storage.
    pub fn apply(&mut self, op: StorageOp<T>) -> Result<Change, String> {
        match op {
            StorageOp::AppendEntry(entry) => self.append(vec![entry]),
            StorageOp::AppendEntries(entries) => self.append(entries),
            StorageOp::AppendShared(entries) => self.append(entries.into_vec()),
            StorageOp::AppendOnPrefix(from, entries) => self.append_on_prefix(from, entries),
            StorageOp::AppendSharedOnPrefix(from, entries) => {
                self.append_on_prefix(from, entries.into_vec())
            }
            StorageOp::SetPromise(ballot) => {
                self.promise = Some(ballot);
                Ok(Change::NOTHING)
            }
            StorageOp::SetDecidedIndex(idx) => {
                self.decided_idx = idx;
                Ok(Change::NOTHING)
            }
            StorageOp::SetAcceptedRound(ballot) => {
                self.accepted_round = Some(ballot);
                Ok(Change::NOTHING)
            }
            StorageOp::SetCompactedIdx(idx) => {
                self.compacted_idx = idx;
                Ok(Change::Everything)
            }
            StorageOp::Trim(count) => self.trim(count),
            StorageOp::SetStopsign(stopsign) => {
                self.stopsign = stopsign;
                Ok(Change::From(self.entries_end()))
            }
            StorageOp::SetSnapshot(snapshot) => {
                self.snapshot = snapshot;
                Ok(Change::Everything)
            }
            StorageOp::SetEpochs(epochs) => {
                self.epochs = epochs;
                Ok(Change::Everything)
            }
        }
    }

    fn append(&mut self, entries: Vec<T>) -> Result<Change, String> {
        let from = self.entries_end();
        self.log.extend(entries);
        Ok(Change::From(from))
    }

    fn append_on_prefix(&mut self, from: u64, entries: Vec<T>) -> Result<Change, String> {
        let held = self.log.len();
        match usize::try_from(from) {
            Ok(prefix) if prefix <= held => {
                self.log.truncate(prefix);
                self.log.extend(entries);
                Ok(Change::From(self.compacted_idx + from))
            }
            Ok(_) | Err(_) => Err(format!("append_on_prefix({from}, ..) with {held} entries")),
        }
    }

    fn trim(&mut self, count: u64) -> Result<Change, String> {
        let held = self.log.len();
        match usize::try_from(count) {
            Ok(prefix) if prefix <= held => {
                self.log.drain(..prefix);
                Ok(Change::Everything)
            }
            Ok(_) | Err(_) => Err(format!("trim({count}) with {held} entries")),
        }
    }
}
