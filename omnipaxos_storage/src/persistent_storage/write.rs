//! Writes a batch: applies its changes to the state, and then writes all of it at once.

use super::{
    batch::State,
    codec,
    error::StorageError,
    parts::{largest_payload, Parts},
    records::Records,
    Health, IsClosed, PersistentStorage,
};
use omnipaxos::{
    errors::with_causes,
    identity::Identity,
    storage::{Entry, StorageOp},
};
use serde::{de::DeserializeOwned, Serialize};

/// The storage after a batch, before the batch is written.
struct Batch<'a, S> {
    state: State,
    /// Entries from this position on are replaced.
    from: u64,
    records: &'a mut Records,
    /// The largest entry, in bytes.
    limit: usize,
    snapshot: Option<Option<S>>,
}

impl<S> Batch<'_, S> {
    /// Adds one change.
    fn add<T>(&mut self, op: StorageOp<T>) -> Result<(), StorageError>
    where
        T: Entry<Snapshot = S> + Serialize,
    {
        let state = &mut self.state;
        match op {
            StorageOp::AppendEntry(entry) => self.append(&[entry])?,
            StorageOp::AppendEntries(entries) => self.append(&entries)?,
            StorageOp::AppendShared(entries) => self.append(&entries.lock())?,
            StorageOp::AppendOnPrefix(idx, entries) => {
                self.cut(idx);
                self.append(&entries)?;
            }
            StorageOp::AppendSharedOnPrefix(idx, entries) => {
                self.cut(idx);
                self.append(&entries.lock())?;
            }
            StorageOp::SetPromise(ballot) => state.promise = Some(ballot.into()),
            StorageOp::SetAcceptedRound(ballot) => state.accepted_round = Some(ballot.into()),
            StorageOp::SetDecidedIndex(idx) => state.decided_idx = idx,
            StorageOp::SetCompactedIdx(idx) => state.compacted_idx = idx,
            StorageOp::Trim(idx) => self.trim(idx),
            StorageOp::SetStopsign(stopsign) => state.stopsign = stopsign.map(Into::into),
            StorageOp::SetSnapshot(snapshot) => self.snapshot = Some(snapshot),
            StorageOp::SetEpochs(epochs) => {
                state.epochs = epochs.into_iter().map(Into::into).collect();
            }
        }
        Ok(())
    }

    fn append<E: Serialize>(&mut self, entries: &[E]) -> Result<(), StorageError> {
        for entry in entries {
            self.records.push("an entry", entry, self.limit)?;
        }
        self.state.end += entries.len() as u64;
        Ok(())
    }

    /// Truncates the log to its first `idx` entries.
    fn cut(&mut self, idx: u64) {
        let position = self.state.first.saturating_add(idx).min(self.state.end);
        let kept = usize::try_from(position.saturating_sub(self.from)).unwrap_or(usize::MAX);
        self.records.truncate(kept);
        self.from = self.from.min(position);
        self.state.end = position;
    }

    /// Removes the first `idx` entries.
    fn trim(&mut self, idx: u64) {
        let position = self.state.first.saturating_add(idx).min(self.state.end);
        if position > self.from {
            let gone = usize::try_from(position - self.from).unwrap_or(usize::MAX);
            self.records.drop_front(gone);
            self.from = position;
        }
        self.state.first = position;
    }
}

impl<T> PersistentStorage<T>
where
    T: Entry + Serialize + DeserializeOwned,
    T::Snapshot: Serialize + DeserializeOwned,
{
    pub(super) fn write_one(&mut self, op: StorageOp<T>) -> Result<(), StorageError> {
        self.write(&mut vec![op])
    }

    /// Counts a new incarnation of the server, durably.
    pub(super) fn begin_incarnation(&mut self) -> Result<u64, StorageError> {
        self.check_health()?;
        self.health = Health::Writing;
        let counted = self.database.next_incarnation();
        self.end_write(counted)
    }

    /// Stores durably to which server the storage belongs.
    pub(super) fn keep_identity(&mut self, identity: Identity) -> Result<(), StorageError> {
        self.check_health()?;
        self.health = Health::Writing;
        let kept = self.database.set_identity(&identity.into());
        self.end_write(kept)
    }

    /// Makes the changes of `ops` durable: all or none.
    pub(super) fn write(&mut self, ops: &mut Vec<StorageOp<T>>) -> Result<(), StorageError> {
        self.check_health()?;
        self.health = Health::Writing;
        let mut records = std::mem::take(&mut self.records);
        let encoded = self.encode(ops, &mut records);
        records.clear();
        self.records = records;
        let (batch, snapshot) = match encoded {
            Ok(encoded) => encoded,
            Err(refused) => {
                // Nothing was written: the storage is unchanged.
                self.health = Health::Sound;
                return Err(refused);
            }
        };
        let committed = self.commit(batch, snapshot.as_deref());
        self.end_write(committed)
    }

    fn end_write<R>(&mut self, written: Result<R, StorageError>) -> Result<R, StorageError> {
        self.health = match &written {
            Ok(_) => Health::Sound,
            Err(error) => Health::Failed(with_causes(error)),
        };
        written
    }

    /// Creates a batch from the changes, and encodes the snapshot if there is one.
    fn encode(
        &self,
        ops: &mut Vec<StorageOp<T>>,
        records: &mut Records,
    ) -> Result<(Parts, Option<Vec<u8>>), StorageError> {
        let target = self.log.target();
        let limit = largest_payload(target.part_bytes);
        let state = self.state.clone();
        let mut batch = Batch { from: state.end, state, records, limit, snapshot: None };
        for op in ops.drain(..) {
            batch.add(op)?;
        }
        let Batch { mut state, from, records, snapshot, .. } = batch;
        let encoded = match snapshot {
            None => None,
            Some(None) => {
                state.snapshot = None;
                None
            }
            Some(Some(snapshot)) => {
                let bytes = codec::encode("a snapshot", &snapshot)?;
                state.snapshot = Some(self.database.next_snapshot(&bytes)?);
                Some(bytes)
            }
        };
        Ok((Parts::new(target, from, records, state)?, encoded))
    }

    /// Writes a batch. Its snapshot is written before it.
    fn commit(&mut self, batch: Parts, snapshot: Option<&[u8]>) -> Result<(), StorageError> {
        let bytes = batch.bytes.len();
        if !self.journal.has_room(bytes) {
            self.checkpoint(IsClosed(false))?;
            self.journal.grow()?;
        }
        // Not before a checkpoint, which removes all other snapshots.
        if let (Some(name), Some(bytes)) = (batch.state.snapshot, snapshot) {
            self.database.put_snapshot(name, bytes)?;
        }
        self.log.append(&batch)?;
        if self.journal.has_room(bytes) {
            self.journal.write(&batch.bytes)?;
        } else {
            // The batch is larger than the journal. It counts once it is recorded that the log is
            // synced.
            self.log.sync()?;
            self.record(self.log.first_segment(), IsClosed(false))?;
        }
        let gives_space = batch.state.first > self.state.first;
        self.take(batch);
        if gives_space && self.first_needed_segment() > self.log.first_segment() {
            self.checkpoint(IsClosed(false))?;
        }
        Ok(())
    }
}
