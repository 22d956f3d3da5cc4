//! Writes a batch: applies its changes to the state, and then writes all of it at once.

use super::{
    batch::{SnapshotRef, State},
    codec,
    config::LARGEST_INLINE_SNAPSHOT,
    error::StorageError,
    large_snapshots::{self, Compacted, Deferred, InMemory, Order, Progress, Superseded, Wait},
    parts::{largest_payload, Parts},
    receiving::{self, Receiving},
    records::Records,
    snapshot_bytes::{Contents, FileBytes},
    Health, PersistentStorage, Reason,
};
use omnipaxos::{
    errors::with_causes,
    identity::Identity,
    storage::{Entry, Reception, SnapshotSource, StorageOp},
};
use serde::{de::DeserializeOwned, Serialize};
use std::sync::{Arc, PoisonError};

/// The storage after a batch, before the batch is written.
struct Batch<'a, S> {
    state: State,
    /// Entries from this position on are replaced.
    from: u64,
    records: &'a mut Records,
    /// The largest entry, in bytes.
    limit: usize,
    snapshot: Option<Option<S>>,
    /// Whether a trim removed entries that were not in the storage before this batch.
    trims_new: bool,
}

/// When the changes of a batch must be durable.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// All of them when the write has returned.
    AtOnce,
    /// All except the compaction: see [`Storage::write_compaction`](omnipaxos::storage::Storage).
    SnapshotLater,
    /// All of them when the write has returned. This snapshot, which is durable, replaces the present
    /// one.
    Received(SnapshotRef),
}

/// An encoded batch.
struct Encoded<T> {
    batch: Parts,
    /// The state after it.
    state: State,
    snapshot: ToStore<T>,
}

/// The snapshot of a batch.
enum ToStore<T> {
    Nothing,
    /// It must be durable before the batch, which refers to it.
    Before(Vec<u8>),
    /// The batch does not refer to it.
    Later(Order<T>),
}

/// How a batch changes the snapshot.
enum Change<T> {
    Kept,
    Removed,
    /// To this one, with the batch.
    Replaced(Vec<u8>),
    /// To this one, which is durable, with the batch.
    Received(SnapshotRef),
    /// To this one, later.
    Deferred(large_snapshots::Encode, InMemory<T>),
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
            self.trims_new = true;
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
        self.write(&mut vec![op], Durability::AtOnce)
    }

    /// Counts a new incarnation of the server, durably.
    pub(super) fn begin_incarnation(&mut self) -> Result<u64, StorageError> {
        self.check_health()?;
        self.health = Health::Writing;
        let counted = self.database.next_incarnation();
        let counted = counted.and_then(|next| self.note_change().map(|()| next));
        self.end_write(counted)
    }

    /// Stores durably to which server the storage belongs.
    pub(super) fn keep_identity(&mut self, identity: Identity) -> Result<(), StorageError> {
        self.check_health()?;
        self.health = Health::Writing;
        let kept = self.database.set_identity(&identity.into());
        let kept = kept.and_then(|()| self.note_change());
        self.end_write(kept)
    }

    /// Writes the changes of `ops`, all or none. They are durable afterwards, except a compaction for
    /// which `durability` allows that.
    pub(super) fn write(
        &mut self,
        ops: &mut Vec<StorageOp<T>>,
        durability: Durability,
    ) -> Result<(), StorageError> {
        self.check_before_write()?;
        self.settle(Wait::No)?;
        self.health = Health::Writing;
        let mut records = std::mem::take(&mut self.records);
        let encoded = self.encode(ops, &mut records, durability);
        records.clear();
        self.records = records;
        let Encoded { batch, state, snapshot } = match encoded {
            Ok(encoded) => encoded,
            Err(refused) => {
                if let Health::Writing = self.health {
                    // Nothing was written: the storage is unchanged.
                    self.health = Health::Sound;
                }
                return Err(refused);
            }
        };
        let committed = match snapshot {
            ToStore::Nothing => self.commit(batch, state, None),
            ToStore::Before(bytes) => self.commit(batch, state, Some(&bytes)),
            ToStore::Later(order) => {
                self.defer(order).and_then(|()| self.commit(batch, state, None))
            }
        };
        self.end_write(committed)
    }

    /// Begins to receive a snapshot from another server. Returns whether it is large: a small one is
    /// written with a batch.
    pub(super) fn begin_reception(&mut self, bytes: u64) -> Result<bool, StorageError> {
        self.end_reception();
        if bytes <= self.largest_inline {
            return Ok(false);
        }
        let decode = match &self.encoder {
            Some(encoder) => encoder.decoder(),
            None => receiving::check::<T::Snapshot>,
        };
        let id = self.name_snapshot();
        self.receiving = Some(Receiving::begin(&self.snapshot_files, id, bytes, decode)?);
        Ok(true)
    }

    /// Writes the changes of `ops` with the snapshot that was received, all or none.
    pub(super) fn write_reception(
        &mut self,
        ops: &mut Vec<StorageOp<T>>,
    ) -> Result<(), StorageError> {
        let complete = self.receiving.take().and_then(Receiving::into_complete);
        let complete = complete.ok_or_else(not_receiving)?;
        let reference = complete.reference();
        // Also a batch that failed may be on the disk. If it is not, the next opening removes the file.
        let (contents, decoded) = complete.keep();
        self.write(ops, Durability::Received(reference))?;
        if let Some(deferred) = self.deferred.take() {
            // It may have been written since the last batch, which then names another.
            self.unneeded.extend(deferred.durable().snapshot);
            self.superseded = Some(deferred.supersede());
        }
        let value = self.encoder.as_ref().and_then(|encoder| encoder.decoded(decoded));
        let received = self.received.get_mut().unwrap_or_else(PoisonError::into_inner);
        *received = value.map(|value| (reference.id, value));
        self.note_in_file(reference.id, self.state.compacted_idx, contents)
    }

    /// Returns the received snapshot with this id if it is still in memory, and forgets it there.
    pub(super) fn take_received(&self, id: u64) -> Option<InMemory<T>> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.take_if(|(of, _)| *of == id).map(|(_, value)| value)
    }

    fn end_write<R>(&mut self, written: Result<R, StorageError>) -> Result<R, StorageError> {
        self.health = match &written {
            Ok(_) => Health::Sound,
            Err(error) => Health::Failed(with_causes(error)),
        };
        written
    }

    /// Applies the changes to a copy of the state, and encodes what they write.
    fn encode(
        &mut self,
        ops: &mut Vec<StorageOp<T>>,
        records: &mut Records,
        durability: Durability,
    ) -> Result<Encoded<T>, StorageError> {
        let target = self.log.target();
        let limit = largest_payload(target.part_bytes);
        let before = Compacted::of(&self.state);
        let state = self.state.clone();
        let mut batch =
            Batch { from: state.end, state, records, limit, snapshot: None, trims_new: false };
        for op in ops.drain(..) {
            batch.add(op)?;
        }
        let Batch { mut state, from, records, snapshot, trims_new, .. } = batch;
        // The snapshot stands for stored entries only, and for the stop signs between them.
        let may_defer = durability == Durability::SnapshotLater
            && !trims_new
            && state.first > before.first
            && self.state.stored_among(before.idx, state.compacted_idx)
                == Some(state.first - before.first);
        let change = match (durability, snapshot) {
            (Durability::Received(received), _) => Change::Received(received),
            (Durability::AtOnce | Durability::SnapshotLater, None) => Change::Kept,
            (Durability::AtOnce | Durability::SnapshotLater, Some(None)) => Change::Removed,
            (Durability::AtOnce | Durability::SnapshotLater, Some(Some(snapshot))) => {
                self.encode_snapshot(snapshot, durability, may_defer)?
            }
        };
        let is_same_compaction = (state.compacted_idx, state.first) == (before.idx, before.first);
        let to_store = match change {
            Change::Deferred(encode, snapshot) => {
                let durable = self.deferred.as_ref().map_or(before, Deferred::durable);
                let batch = Parts::new(target, from, records, durable.in_state(&state))?;
                state.snapshot = None;
                let compacted = Compacted::of(&state);
                let order = Order { compacted, id: self.name_snapshot(), encode, snapshot };
                return Ok(Encoded { batch, state, snapshot: ToStore::Later(order) });
            }
            Change::Kept if is_same_compaction => {
                let durable = self.deferred.as_ref().map_or(before, Deferred::durable);
                let batch = Parts::new(target, from, records, durable.in_state(&state))?;
                return Ok(Encoded { batch, state, snapshot: ToStore::Nothing });
            }
            // The batch contains the present compaction. So its snapshot must be durable first.
            Change::Kept => {
                self.settle(Wait::UntilWritten)?;
                state.snapshot = self.state.snapshot;
                ToStore::Nothing
            }
            Change::Removed => {
                self.settle(Wait::UntilWritten)?;
                state.snapshot = None;
                ToStore::Nothing
            }
            // It is durable, and replaces what is being written.
            Change::Received(received) => {
                state.snapshot = Some(received);
                ToStore::Nothing
            }
            Change::Replaced(bytes) => {
                self.settle(Wait::UntilWritten)?;
                state.snapshot = Some(SnapshotRef::of(self.name_snapshot(), &bytes));
                ToStore::Before(bytes)
            }
        };
        let batch = Parts::new(target, from, records, state.clone())?;
        Ok(Encoded { batch, state, snapshot: to_store })
    }

    /// Encodes a snapshot, or defers that.
    fn encode_snapshot(
        &self,
        snapshot: T::Snapshot,
        durability: Durability,
        may_defer: bool,
    ) -> Result<Change<T>, StorageError> {
        if let Some(encoder) = self.encoder.as_ref().filter(|_| may_defer) {
            let (encode, snapshot) = encoder.defer(snapshot, self.reads_back);
            return Ok(Change::Deferred(encode, snapshot));
        }
        let bytes = codec::encode("a snapshot", &snapshot)?;
        if durability == Durability::SnapshotLater && self.encoder.is_some() && self.reads_back {
            // The caller counts on the thread for that.
            codec::check_round_trip::<T::Snapshot>("a snapshot", &bytes)?;
        }
        // A small snapshot need not wait for a large one that is being written.
        if may_defer && (self.deferred.is_some() || bytes.len() as u64 > self.largest_inline) {
            let bytes = Arc::new(bytes);
            let copy = Arc::clone(&bytes);
            return Ok(Change::Deferred(Box::new(move || Ok(copy)), InMemory::Encoded(bytes)));
        }
        Ok(Change::Replaced(bytes))
    }

    /// Begins to write a snapshot, or makes it the one that is written next.
    fn defer(&mut self, order: Order<T>) -> Result<(), StorageError> {
        let durable = Compacted::of(&self.state);
        let (worker, files) = (&mut self.worker, &self.snapshot_files);
        match (&mut self.deferred, self.superseded.take()) {
            (Some(deferred), _) => deferred.add(order),
            (None, Some(superseded)) => {
                self.deferred = Some(Deferred::after(superseded, durable, order));
            }
            (None, None) => {
                self.deferred = Some(Deferred::begin(worker, files, durable, order)?);
            }
        }
        Ok(())
    }

    fn name_snapshot(&mut self) -> u64 {
        let id = self.next_snapshot;
        self.next_snapshot += 1;
        id
    }
}

/// The error of a caller that has not begun to receive a snapshot.
pub(super) fn not_receiving() -> StorageError {
    StorageError::code("receive", "a snapshot")("none is being received")
}

impl<T> PersistentStorage<T> {
    /// Returns how far the reception of a snapshot is.
    pub(super) fn poll_reception(&mut self) -> Result<Reception, StorageError> {
        let receiving = self.receiving.as_mut().ok_or_else(not_receiving)?;
        let reception = receiving.poll()?;
        if reception == Reception::Undecodable {
            self.receiving = None;
        }
        Ok(reception)
    }

    /// Drops what was received.
    pub(super) fn end_reception(&mut self) {
        self.ended.retain(|thread| !thread.is_finished());
        self.ended.extend(self.receiving.take().and_then(Receiving::end));
    }

    /// Checks whether the snapshots of deferred compactions are durable. The next batch then contains
    /// the compaction.
    ///
    /// # Errors
    /// One could not be written. The disk holds the compaction before it and all entries after it.
    pub(super) fn settle(&mut self, wait: Wait) -> Result<(), StorageError> {
        let superseded = self.superseded.take_if(|superseded| superseded.has_ended());
        self.unneeded.extend(superseded.and_then(Superseded::end));
        while let Some(durable) = self.deferred.as_ref().map(Deferred::durable) {
            let (worker, files) = (&mut self.worker, &self.snapshot_files);
            match large_snapshots::poll(&mut self.deferred, worker, files, wait) {
                Ok(Progress::Pending) => return Ok(()),
                Ok(Progress::Superseded(snapshot)) => {
                    self.unneeded.extend(snapshot);
                    continue;
                }
                Ok(Progress::Continues(file)) => self.in_file = Some(file),
                Ok(Progress::Ended(written)) => {
                    self.state.snapshot = Some(written.reference);
                    self.in_file = Some(written.file);
                }
                Err(error) => {
                    self.health = Health::Failed(with_causes(&error));
                    return Err(error);
                }
            }
            if durable.snapshot != self.written.snapshot {
                self.unneeded.extend(durable.snapshot);
            }
        }
        Ok(())
    }

    /// Waits for deferred compactions, and writes them.
    pub(super) fn write_settled(&mut self) -> Result<(), StorageError> {
        self.settle(Wait::UntilWritten)?;
        if Compacted::of(&self.state) == Compacted::of(&self.written) {
            return Ok(());
        }
        let state = self.state.clone();
        let mut no_records = Records::default();
        let batch = Parts::new(self.log.target(), state.end, &mut no_records, state.clone())?;
        self.commit(batch, state, None)
    }

    /// Writes a batch, and before it the snapshot that it refers to. Afterwards `state` is the state.
    pub(super) fn commit(
        &mut self,
        batch: Parts,
        state: State,
        snapshot: Option<&[u8]>,
    ) -> Result<(), StorageError> {
        let bytes = batch.bytes.len();
        self.end_checkpoint(Wait::No)?;
        if !self.journal.has_room(bytes) {
            self.begin_checkpoint(Reason::FullJournal)?;
        }
        if let (Some(name), Some(bytes)) = (batch.state.snapshot, snapshot) {
            self.put_snapshot(name, batch.state.compacted_idx, bytes)?;
        }
        self.log.append(&batch, &mut self.background)?;
        let is_large = !self.journal.has_room(bytes);
        if is_large {
            // It counts once it is recorded that the log is synced.
            self.checkpoint_without_journal(Reason::LargeBatch)?;
        } else {
            self.journal.write(&batch.bytes)?;
        }
        self.has_removed_entries |= batch.state.first > self.written.first;
        self.take(batch, state);
        if is_large {
            self.write_trace()?;
        }
        self.remove_unneeded_files()?;
        if self.has_removed_entries && !self.background.is_recording() {
            self.has_removed_entries = false;
            if self.first_needed_segment() > self.log.first_segment() {
                self.begin_checkpoint(Reason::Space)?;
            }
        }
        Ok(())
    }

    /// Returns the size of the largest snapshot that is in the database. Of larger values sled makes files, which
    /// it does not sync before it removes earlier ones.
    fn largest_in_database(&self) -> u64 {
        self.largest_inline.min(LARGEST_INLINE_SNAPSHOT)
    }

    /// Stores a snapshot durably: a large one in a file, a small one in the database.
    fn put_snapshot(
        &mut self,
        name: SnapshotRef,
        idx: u64,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        if name.bytes <= self.largest_in_database() {
            return self.database.put_snapshot(name, bytes);
        }
        let contents = self.snapshot_files.write(name.id, bytes)?;
        self.note_in_file(name.id, idx, contents)
    }

    /// Notes a durable snapshot of the first `idx` entries that is in a file.
    pub(super) fn note_in_file(
        &mut self,
        id: u64,
        idx: u64,
        contents: Contents,
    ) -> Result<(), StorageError> {
        self.in_file = Some(FileBytes::open(self.snapshot_files.path(id), id, idx, contents)?);
        Ok(())
    }

    /// Returns how the bytes of the snapshot are read. While a snapshot is written, its bytes are not
    /// ready. If another one waits for it already, the last durable one is as good: otherwise a server
    /// would wait for ever if snapshots are made faster than they are written.
    pub(super) fn source_of_snapshot(&mut self) -> Result<SnapshotSource, StorageError> {
        self.check_health()?;
        self.settle(Wait::No)?;
        let in_file = self.in_file.as_ref();
        let (in_file, otherwise) = match &self.deferred {
            Some(deferred) => (in_file.filter(|_| deferred.has_waiting()), SnapshotSource::Later),
            None => {
                let present = self.state.snapshot.map(|snapshot| snapshot.id);
                let is_present = |file: &&FileBytes| {
                    Some(file.id) == present && file.bytes.idx() == self.state.compacted_idx
                };
                (in_file.filter(is_present), SnapshotSource::Value)
            }
        };
        Ok(in_file.map_or(otherwise, |file| SnapshotSource::Bytes(file.bytes.clone())))
    }

    /// Reads a stored snapshot.
    pub(super) fn stored_snapshot(&self, wanted: SnapshotRef) -> Result<Vec<u8>, StorageError> {
        if let Some(bytes) = self.snapshot_files.read(wanted)? {
            return Ok(bytes);
        }
        match self.database.contains_snapshot(wanted.id)? {
            true => self.database.snapshot(wanted),
            false => Err(StorageError::Missing { path: self.snapshot_files.path(wanted.id) }),
        }
    }

    /// Removes the snapshots to which the last batch does not refer.
    pub(super) fn remove_unneeded(&mut self) -> Result<(), StorageError> {
        let (in_files, in_database): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unneeded)
            .into_iter()
            .partition(|snapshot| self.snapshot_files.contains(snapshot.id));
        in_database.into_iter().try_for_each(|old| self.database.remove_snapshot(old.id))?;
        self.remove_files(in_files)
    }

    /// Removes the large ones of these snapshots. They would fill the disk before the next checkpoint.
    fn remove_unneeded_files(&mut self) -> Result<(), StorageError> {
        let largest = self.largest_in_database();
        let is_in_file = |old: &mut SnapshotRef| old.bytes > largest;
        let in_files = self.unneeded.extract_if(.., is_in_file).collect();
        self.remove_files(in_files)
    }

    /// Removes snapshots that are in files, from a thread, since that may take long.
    fn remove_files(&mut self, snapshots: Vec<SnapshotRef>) -> Result<(), StorageError> {
        // An open file takes space on the disk also without a name.
        self.in_file.take_if(|file| snapshots.iter().any(|old| old.id == file.id));
        if snapshots.is_empty() {
            return Ok(());
        }
        match self.removal.take_if(|removal| removal.is_finished()) {
            Some(ended) => ended.join().unwrap_or(Ok(()))?,
            None if self.removal.is_some() => {
                self.unneeded.extend(snapshots);
                return Ok(());
            }
            None => {}
        }
        let ids = snapshots.into_iter().map(|old| old.id).collect();
        self.removal = Some(large_snapshots::remove(&self.snapshot_files, ids)?);
        Ok(())
    }

    /// Removes all snapshots but one.
    pub(super) fn keep_snapshot(&self, wanted: Option<SnapshotRef>) -> Result<(), StorageError> {
        let kept = wanted.map(|kept| kept.id);
        let unneeded = self.snapshot_files.ids()?.into_iter().filter(|id| Some(*id) != kept);
        unneeded.into_iter().try_for_each(|id| self.snapshot_files.remove(id))?;
        self.database.keep_snapshot(wanted)
    }
}
