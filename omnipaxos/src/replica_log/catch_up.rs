//! Chunks of decided entries, for any server and from any server.
//!
//! Decided entries never change, so a chunk needs no ballot. It replaces only the entries between
//! the decided index here and its end. The entries after it stay, and so does the accepted round: a
//! leader may have counted those entries as accepted here.

use super::{
    has_deltas, named,
    records::{checked_end, Records},
    Compacted, Part, ReplicaLog,
};
use crate::{
    amount::Amount,
    entry::{encoding, SharedEntries},
    errors::Halted,
    identity::Stamp,
    ids::ConfigurationId,
    messages::sequence_paxos::{CatchUpChunk, CatchUpRequest, DecidedRange, EntryIds},
    storage::{
        Entry, Epoch, Reception, Snapshot, SnapshotBytes, SnapshotSource, SnapshotType, Storage,
    },
};

/// The smallest number of decided entries that travel as a delta snapshot, if the receiver accepts
/// one. Fewer entries travel in full.
const LEAST_DELTA: u64 = 8;

/// Names the calls of the storage that receive a snapshot, for an error.
const RECEIVE: &str = "receive a snapshot";

/// The answer to a request for decided entries.
#[derive(Debug)]
pub(crate) enum Answer<T: Entry> {
    /// Nothing: this server has not decided more than the sender of the request.
    Nothing,
    Chunk(CatchUpChunk<T>),
    /// A snapshot that is larger than a message, encoded.
    LargeSnapshot {
        idx: u64,
        bytes: Vec<u8>,
    },
    /// A snapshot that is larger than a message, of which the storage has the bytes.
    StoredSnapshot(SnapshotBytes),
}

/// The result of a [`CatchUpChunk`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChunkOutcome {
    /// More entries are decided here than before, or the members are known now.
    Advanced,
    /// All its entries were decided here already.
    Stale,
    /// It begins beyond the end of this log.
    Gap,
}

/// Where the snapshot of a [`CatchUpChunk`] is, if it has one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotIn {
    Chunk,
    /// In the storage, which has received it in parts.
    Storage,
}

/// A snapshot to install.
enum ToInstall<S> {
    Value(S),
    /// The one that the storage has received.
    Received,
}

impl<T: Entry> CatchUpChunk<T> {
    /// Returns the decided index with this chunk; `None` if it overflows.
    pub(crate) fn len(&self) -> Option<u64> {
        checked_end(self.from_idx, self.entries.len(), self.stopsign.as_ref())
    }
}

impl<T: Entry, B: Storage<T>> ReplicaLog<T, B> {
    /// Returns the next chunk for a server that `asks`, within `limit`. The entries decided here must be
    /// stored.
    ///
    /// If the receiver lacks compacted entries, the chunk contains their snapshot. After a trim
    /// without a snapshot, the chunk begins at the trimmed index, since a trim in the present epoch proves
    /// that every member holds the entries before it. Entries in this log travel as entries (I16), unless the
    /// receiver accepts a delta snapshot.
    pub(crate) fn chunk(
        &mut self,
        config_id: ConfigurationId,
        asks: &CatchUpRequest,
        limit: Amount,
    ) -> Result<Answer<T>, Halted> {
        let CatchUpRequest { decided_idx, takes_delta, takes_pieces, .. } = *asks;
        if let Some(range) = asks.range {
            return self.range(config_id, range, limit).map(Answer::Chunk);
        }
        if decided_idx >= self.decided_idx {
            return Ok(Answer::Nothing);
        }
        let mut room = limit;
        let (from_idx, snapshot) = if decided_idx < self.compacted_idx {
            if takes_pieces {
                match self.snapshot_source(decided_idx, limit)? {
                    SnapshotSource::Value => {}
                    SnapshotSource::Later => return Ok(Answer::Nothing),
                    SnapshotSource::Bytes(bytes) => return Ok(Answer::StoredSnapshot(bytes)),
                }
            }
            let snapshot = self.snapshot()?;
            if let Some(snapshot) = snapshot.as_ref().filter(|_| takes_pieces) {
                let bytes = encoding::encoded_len(snapshot).unwrap_or_default();
                if bytes > limit.bytes {
                    if let Some(bytes) = encoding::encode(snapshot) {
                        return Ok(Answer::LargeSnapshot { idx: self.compacted_idx, bytes });
                    }
                }
                room = limit.without(Amount { entries: 0, bytes });
            }
            (self.compacted_idx, snapshot.map(SnapshotType::Complete))
        } else {
            match self.delta(decided_idx, takes_delta, limit)? {
                Some((end, delta)) => (end, Some(SnapshotType::Delta(delta))),
                None => (decided_idx, None),
            }
        };
        // A server that takes deltas asks for no ranges, so only this message brings it more.
        let of_stored = if takes_delta { room } else { limit.read_at_once() };
        let part = self.sendable_within(from_idx, self.decided_idx, room, of_stored)?;
        // Besides a snapshot not even the first entry travels if there is no room.
        let is_too_much =
            matches!(snapshot, Some(SnapshotType::Complete(_))) && !part.amount.fits(room);
        let part = if is_too_much { Part::default() } else { part };
        let Records { entries, stopsign } = self.with_stopsign(part, from_idx, self.decided_idx);
        let ids = self.ids.of(decided_idx, from_idx + entries.len() as u64);
        Ok(Answer::Chunk(CatchUpChunk {
            snapshot,
            from_idx,
            entries,
            ids,
            stopsign: stopsign.map(|stopsign| *stopsign),
            epoch: self.epoch_to_send(config_id, from_idx),
            ..self.empty_chunk(config_id, decided_idx)
        }))
    }

    /// Returns how a server with this decided index gets the snapshot: as bytes of the storage, if they
    /// are more than `limit`.
    fn snapshot_source(
        &mut self,
        decided_idx: u64,
        limit: Amount,
    ) -> Result<SnapshotSource, Halted> {
        let source = match &self.compacted {
            Compacted::Snapshot => named(self.storage.snapshot_source(), "read the snapshot")?,
            Compacted::Trimmed | Compacted::UnstoredSnapshot(_) | Compacted::Received => {
                SnapshotSource::Value
            }
        };
        Ok(match source {
            // The storage still writes the present one, which may be large.
            SnapshotSource::Bytes(bytes) if bytes.idx() <= decided_idx => SnapshotSource::Later,
            SnapshotSource::Bytes(bytes) => {
                match bytes.idx() <= self.compacted_idx && bytes.len() > limit.bytes {
                    true => SnapshotSource::Bytes(bytes),
                    false => SnapshotSource::Value,
                }
            }
            SnapshotSource::Value | SnapshotSource::Later => source,
        })
    }

    /// As many entries of a decided range as `limit` allows. None if this server does not hold the
    /// first of them: then the chunk reports the decided and the compacted index of this server.
    fn range(
        &self,
        config_id: ConfigurationId,
        range: DecidedRange,
        limit: Amount,
    ) -> Result<CatchUpChunk<T>, Halted> {
        let DecidedRange { from_idx, until_idx } = range;
        if from_idx < self.compacted_idx || from_idx >= self.decided_idx {
            return Ok(self.empty_chunk(config_id, from_idx.min(self.decided_idx)));
        }
        let until_idx = until_idx.min(self.decided_idx);
        let part = self.sendable_within(from_idx, until_idx, limit, limit.read_at_once())?;
        let Records { entries, stopsign } = self.with_stopsign(part, from_idx, until_idx);
        let ids = self.ids.of(from_idx, from_idx + entries.len() as u64);
        let stopsign = stopsign.map(|stopsign| *stopsign);
        Ok(CatchUpChunk { entries, ids, stopsign, ..self.empty_chunk(config_id, from_idx) })
    }

    /// A chunk without entries.
    pub(crate) fn empty_chunk(&self, config_id: ConfigurationId, base: u64) -> CatchUpChunk<T> {
        CatchUpChunk {
            config_id,
            base,
            snapshot: None,
            from_idx: base,
            entries: SharedEntries::default(),
            ids: None,
            stopsign: None,
            piece: None,
            epoch: None,
            decided_idx: self.decided_idx,
            compacted_idx: self.compacted_idx,
            stamp: Stamp::default(),
        }
    }

    /// Returns the epoch of the record `idx`, if a server in configuration `config_id` does not know
    /// it.
    pub(crate) fn epoch_to_send(&self, config_id: ConfigurationId, idx: u64) -> Option<Box<Epoch>> {
        let is_another = |epoch: &&Epoch| epoch.configuration.configuration_id != config_id;
        self.epoch_of(idx).filter(is_another).cloned().map(Box::new)
    }

    /// The ids of the first `idx` entries, from `decided_idx` on.
    pub(crate) fn ids_of_snapshot(&self, decided_idx: u64, idx: u64) -> Option<Box<EntryIds>> {
        self.ids.of(decided_idx, idx)
    }

    /// Returns whether a server with this decided index, which accepts deltas, gets one from here.
    pub(super) fn is_worth_a_delta(&self, decided_idx: u64) -> bool {
        has_deltas::<T>() && self.entries_among(decided_idx, self.decided_idx) >= LEAST_DELTA
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
        let decided = self.sendable(from, self.decided_idx, limit)?;
        let delta = T::Snapshot::create(&decided.entries.lock());
        let is_too_large = encoding::encoded_len(&delta).is_some_and(|len| len > limit.bytes);
        let is_storable = !is_too_large && self.check_snapshot(&delta).is_ok();
        Ok(is_storable.then(|| (from + decided.amount.entries, delta)))
    }

    /// Applies a chunk of the decided log. Invariant I21: it begins at the decided index or before, so
    /// that nothing which is not decided here lies before it.
    pub(crate) fn apply_chunk(
        &mut self,
        chunk: CatchUpChunk<T>,
        snapshot_in: SnapshotIn,
    ) -> Result<ChunkOutcome, Halted> {
        let Some(len) = chunk.len() else {
            return Ok(ChunkOutcome::Gap);
        };
        // The log may still be empty: then a server that joins learns only the members.
        let begins_first = self.continues() && self.epochs().is_empty() && chunk.epoch.is_some();
        let has_news = len > self.decided_idx || (begins_first && len == self.decided_idx);
        if !has_news || self.decided_stopsign().is_some() {
            return Ok(ChunkOutcome::Stale);
        }
        if chunk.base > self.decided_idx {
            return Ok(ChunkOutcome::Gap);
        }
        let CatchUpChunk { base, snapshot, from_idx, entries, ids, stopsign, epoch, .. } = chunk;
        let is_beyond = from_idx > self.decided_idx;
        let snapshot = match snapshot.filter(|_| is_beyond) {
            Some(SnapshotType::Complete(snapshot)) => Some(ToInstall::Value(snapshot)),
            Some(SnapshotType::Delta(delta)) => match self.merged(base, delta)? {
                Some(snapshot) => Some(ToInstall::Value(snapshot)),
                None => return Ok(ChunkOutcome::Gap),
            },
            None if is_beyond && snapshot_in == SnapshotIn::Storage => Some(ToInstall::Received),
            None if from_idx > self.entries_end() => return Ok(ChunkOutcome::Gap),
            None => None,
        };
        let end = from_idx + entries.len() as u64;
        // What is undecided here belongs to the present epoch, which ends with a stop sign. A server that is
        // in no epoch yet has accepted nothing. What it has beyond its decided index is of a chunk whose write
        // was torn, and is dropped.
        let may_be_later = snapshot.is_some() || self.epochs().is_empty();
        let reaches_later = may_be_later && epoch.as_deref().is_some_and(|it| self.is_later(it));
        let beyond = match stopsign.is_some() || reaches_later {
            true => Records::from(SharedEntries::default()),
            false => self.undecided_beyond(end)?,
        };
        self.ids.materialize_ids(self.len());
        let beyond_ids = self.ids.of(end, end + beyond.entries.len() as u64);
        let replaced_from = match snapshot {
            Some(snapshot) => {
                let decided_before = self.decided_idx;
                match snapshot {
                    ToInstall::Value(snapshot) => self.install(from_idx, snapshot)?,
                    ToInstall::Received => self.install_received(from_idx),
                }
                if let Some(epoch) = epoch {
                    self.reach(*epoch);
                }
                decided_before
            }
            None => {
                if let Some(first) = epoch.filter(|_| self.epochs().is_empty()) {
                    self.reach(*first);
                }
                self.decide(from_idx);
                from_idx.max(self.decided_idx)
            }
        };
        self.replace_undecided(from_idx, Records { entries, stopsign: stopsign.map(Box::new) });
        self.replace_ids(replaced_from, ids);
        if beyond.len() > 0 {
            self.append_records(beyond);
        }
        self.ids.extend_beyond(beyond_ids, end, self.len());
        self.ids.accept_in(self.accepted_round, self.len());
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
        self.replace_by(idx, Compacted::UnstoredSnapshot(snapshot));
        Ok(())
    }

    /// Does the same with the snapshot that the storage has received, which is the present one after the
    /// next flush (I27).
    fn install_received(&mut self, idx: u64) {
        self.replace_by(idx, Compacted::Received);
    }

    fn replace_by(&mut self, idx: u64, compacted: Compacted<T::Snapshot>) {
        self.unstored.compaction = true;
        self.unstored.needs_durable_snapshot = true;
        self.cut(self.compacted_idx);
        self.ids.cut(self.decided_idx);
        self.compacted = compacted;
        self.raise_compacted_idx(idx);
        self.decided_idx = self.decided_idx.max(idx);
        self.unstored.decided_idx = true;
    }

    /// Begins to receive a snapshot in parts. Returns whether the storage receives it.
    pub(crate) fn begin_receiving(&mut self, bytes: u64) -> Result<bool, Halted> {
        named(self.storage.begin_receiving(bytes), RECEIVE)
    }

    /// Passes a part of the snapshot on to the storage, if it is not empty. Returns how far the storage
    /// is.
    pub(crate) fn receive(&mut self, part: Vec<u8>) -> Result<Reception, Halted> {
        if !part.is_empty() {
            named(self.storage.receive(part), RECEIVE)?;
        }
        named(self.storage.reception(), RECEIVE)
    }

    /// Drops what the storage has received.
    pub(crate) fn end_receiving(&mut self) -> Result<(), Halted> {
        named(self.storage.end_receiving(), RECEIVE)
    }

    /// Returns the snapshot of this log merged with a delta that begins at `base`. `None` if `base`
    /// is no longer the decided index, or if the storage cannot hold the result: then this server
    /// needs entries.
    fn merged(&mut self, base: u64, delta: T::Snapshot) -> Result<Option<T::Snapshot>, Halted> {
        let is_readable = !matches!(self.compacted, Compacted::Received);
        if base != self.decided_idx || !self.can_merge_delta() || !is_readable {
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

    /// Returns the records of the log from `end` on.
    fn undecided_beyond(&self, end: u64) -> Result<Records<T>, Halted> {
        let to = self.entries_end();
        let entries = if end < to { self.entries(end, to)? } else { Vec::new() };
        let stopsign = self.stopsign().filter(|_| end <= to).cloned().map(Box::new);
        Ok(Records { entries: entries.into(), stopsign })
    }
}

#[cfg(test)]
mod tests {
    use super::{has_deltas, Entry, Snapshot};
    use crate::storage::NoSnapshot;

    #[derive(Clone, Debug)]
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    struct Made<const USED: bool, const FROM_ENTRIES: bool>;

    impl<const USED: bool, const FROM_ENTRIES: bool> Entry for Made<USED, FROM_ENTRIES> {
        type Snapshot = Self;
        crate::without_unicache!();
    }

    impl<const USED: bool, const FROM_ENTRIES: bool> Snapshot<Self> for Made<USED, FROM_ENTRIES> {
        fn create(_entries: &[Self]) -> Self {
            Self
        }

        fn merge(&mut self, _delta: Self) {}

        fn use_snapshots() -> bool {
            USED
        }

        fn can_create() -> bool {
            FROM_ENTRIES
        }
    }

    #[derive(Clone, Debug)]
    struct Plain;

    impl Entry for Plain {
        type Snapshot = NoSnapshot;
        crate::without_unicache!();
    }

    #[test]
    fn deltas_are_snapshots_made_of_entries() {
        assert!(has_deltas::<Made<true, true>>());
        assert!(!has_deltas::<Made<true, false>>() && !has_deltas::<Made<false, true>>());
        assert!(!has_deltas::<Plain>());
    }
}
