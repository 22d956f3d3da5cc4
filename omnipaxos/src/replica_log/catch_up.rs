//! Chunks of decided entries, for any server and from any server.
//!
//! Decided entries never change, so a chunk needs no ballot. It replaces only what lies between the
//! own decided index and its end. The log beyond stays, and so does the accepted round: a leader
//! may have counted those entries as accepted here.

use super::{has_deltas, Compacted, ReplicaLog};
use crate::{
    amount::Amount,
    errors::Halted,
    identity::Stamp,
    ids::ConfigurationId,
    messages::sequence_paxos::{CatchUpChunk, CatchUpRequest},
    storage::{Entry, Snapshot, SnapshotType, StopSign, Storage},
};

/// The smallest number of decided entries that travel as a delta snapshot, if the receiver accepts
/// one. Fewer entries travel in full.
const LEAST_DELTA: u64 = 8;

/// The result of a [`CatchUpChunk`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChunkOutcome {
    /// More entries are decided here than before.
    Advanced,
    /// All its entries were decided here already.
    Stale,
    /// It begins beyond the end of this log.
    Gap,
}

impl<T: Entry> CatchUpChunk<T> {
    /// Returns the decided index with this chunk; `None` if it overflows.
    pub(crate) fn len(&self) -> Option<u64> {
        let entries = u64::try_from(self.entries.len()).ok()?;
        self.from_idx.checked_add(entries)?.checked_add(u64::from(self.stopsign.is_some()))
    }
}

impl<T: Entry, B: Storage<T>> ReplicaLog<T, B> {
    /// Returns the next chunk for a server that `asks`, within `limit`; `None` if it lacks nothing.
    /// The entries decided here must be stored.
    ///
    /// If the receiver lacks compacted entries, the chunk contains their snapshot. After a trim
    /// without a snapshot, the chunk begins at the trimmed index, since a trim proves that every
    /// server holds the entries before it. Entries in this log travel as entries (I16), unless the
    /// receiver accepts a delta snapshot.
    pub(crate) fn chunk(
        &self,
        config_id: ConfigurationId,
        asks: CatchUpRequest,
        limit: Amount,
    ) -> Result<Option<CatchUpChunk<T>>, Halted> {
        let CatchUpRequest { config_id: _, decided_idx, takes_delta, waits: _ } = asks;
        if decided_idx >= self.decided_idx {
            return Ok(None);
        }
        let (from_idx, snapshot) = if decided_idx < self.compacted_idx {
            (self.compacted_idx, self.snapshot()?.map(SnapshotType::Complete))
        } else {
            match self.delta(decided_idx, takes_delta, limit)? {
                Some((end, delta)) => (end, Some(SnapshotType::Delta(delta))),
                None => (decided_idx, None),
            }
        };
        let entries = self.sendable(from_idx, self.decided_end(), limit)?.entries;
        let is_last = from_idx + entries.len() as u64 == self.end();
        let stopsign = self.decided_stopsign().filter(|_| is_last).cloned();
        let ids = self.ids.of(decided_idx, from_idx + entries.len() as u64);
        Ok(Some(CatchUpChunk {
            config_id,
            base: decided_idx,
            snapshot,
            from_idx,
            entries,
            ids,
            stopsign,
            decided_idx: self.decided_idx,
            stamp: Stamp::default(),
        }))
    }

    /// Returns whether a server with this decided index, which accepts deltas, gets one from here.
    pub(super) fn is_worth_a_delta(&self, decided_idx: u64) -> bool {
        has_deltas::<T>() && self.decided_end() >= decided_idx.saturating_add(LEAST_DELTA)
    }

    /// Returns a snapshot of decided entries from `from` on, as many as `limit` allows, and the
    /// index after them. It returns `None` if entries are sent instead: the receiver does not
    /// accept a delta, or this server cannot store the snapshot, so the receiver probably cannot
    /// either.
    fn delta(
        &self,
        from: u64,
        takes_delta: bool,
        limit: Amount,
    ) -> Result<Option<(u64, T::Snapshot)>, Halted> {
        if !takes_delta || !self.is_worth_a_delta(from) {
            return Ok(None);
        }
        let decided = self.sendable(from, self.decided_end(), limit)?;
        let delta = T::Snapshot::create(&decided.entries.lock());
        let is_storable = self.check_snapshot(&delta).is_ok();
        Ok(is_storable.then(|| (from + decided.amount.entries, delta)))
    }

    /// Applies a chunk of the decided log.
    pub(crate) fn apply_chunk(&mut self, chunk: CatchUpChunk<T>) -> Result<ChunkOutcome, Halted> {
        let Some(len) = chunk.len() else {
            return Ok(ChunkOutcome::Gap);
        };
        if len <= self.decided_idx {
            return Ok(ChunkOutcome::Stale);
        }
        let CatchUpChunk { config_id: _, base, snapshot, from_idx, entries, ids, stopsign, .. } =
            chunk;
        let snapshot = match snapshot.filter(|_| from_idx > self.decided_idx) {
            Some(SnapshotType::Complete(snapshot)) => Some(snapshot),
            Some(SnapshotType::Delta(delta)) => match self.merged(base, delta)? {
                Some(snapshot) => Some(snapshot),
                None => return Ok(ChunkOutcome::Gap),
            },
            None if from_idx > self.end() => return Ok(ChunkOutcome::Gap),
            None => None,
        };
        let end = from_idx + entries.len() as u64;
        let (beyond, own_stopsign) = self.undecided_beyond(end, stopsign.as_ref())?;
        self.ids.materialize_ids(self.end());
        let beyond_ids = self.ids.of(end, end + beyond.len() as u64);
        let replaced_from = match snapshot {
            Some(snapshot) => {
                let decided_before = self.decided_idx;
                self.install(from_idx, snapshot)?;
                decided_before
            }
            None => {
                self.decide(from_idx);
                from_idx.max(self.decided_idx)
            }
        };
        self.replace_undecided(from_idx, entries, stopsign.or(own_stopsign));
        self.replace_ids(replaced_from, ids);
        self.tail.append(beyond);
        self.ids.extend_beyond(beyond_ids, end, self.end());
        self.ids.accept_in(self.accepted_round, self.end());
        self.decide(len);
        Ok(ChunkOutcome::Advanced)
    }

    /// Replaces the whole log by a snapshot of its first `idx` entries, with nothing after it.
    ///
    /// Invariant I3: `idx` is above the compacted index. Merge comes before the decided index.
    /// Afterwards the caller must set the ids of the covered entries, from the present decided
    /// index on.
    ///
    /// # Errors
    /// The storage cannot hold the snapshot, so this server cannot continue. Nothing was changed.
    pub(super) fn install(&mut self, idx: u64, snapshot: T::Snapshot) -> Result<(), Halted> {
        self.check_snapshot(&snapshot)
            .map_err(|cause| Halted::new("hold a snapshot that another server sent", cause))?;
        self.unstored.compaction = true;
        self.tail.cut(self.compacted_idx);
        self.ids.cut(self.decided_idx);
        self.set_stopsign(None);
        self.compacted = Compacted::UnstoredSnapshot(snapshot);
        self.raise_compacted_idx(idx);
        self.decided_idx = self.decided_idx.max(idx);
        self.unstored.decided_idx = true;
        Ok(())
    }

    /// Returns the snapshot of this log merged with a delta that begins at `base`. `None` if `base`
    /// is no longer the decided index, or if the storage cannot hold the result: then this server
    /// needs entries.
    fn merged(&mut self, base: u64, delta: T::Snapshot) -> Result<Option<T::Snapshot>, Halted> {
        if base != self.decided_idx || !self.can_merge_delta() {
            return Ok(None);
        }
        let merged = match self.snapshot_until(base)? {
            Some(mut snapshot) => {
                snapshot.merge(delta);
                snapshot
            }
            None => delta,
        };
        self.has_refused_delta = self.check_snapshot(&merged).is_err();
        Ok((!self.has_refused_delta).then_some(merged))
    }

    /// Returns the undecided log beyond `end`, which must stay; nothing after a decided stop sign.
    fn undecided_beyond(
        &self,
        end: u64,
        decided_stopsign: Option<&StopSign>,
    ) -> Result<(Vec<T>, Option<StopSign>), Halted> {
        if decided_stopsign.is_some() || end > self.end() {
            return Ok((Vec::new(), None));
        }
        Ok((self.entries(end, self.end())?, self.stopsign.clone()))
    }
}
