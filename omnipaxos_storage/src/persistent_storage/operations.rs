//! The operations of a storage: the methods of [`Storage`].

use super::{
    codec,
    error::StorageError,
    write::{not_receiving, Durability},
    PersistentStorage,
};
use omnipaxos::{
    ballot_leader_election::Ballot,
    errors::SharedError,
    identity::Identity,
    storage::{
        Entry, Epoch, Reception, SnapshotSource, StopSign, Storage, StorageOp, StorageResult,
    },
};
use serde::{de::DeserializeOwned, Serialize};

impl<T> PersistentStorage<T>
where
    T: Entry + Serialize + DeserializeOwned,
    T::Snapshot: Serialize + DeserializeOwned,
{
    fn held(&self) -> u64 {
        self.state.end - self.state.first
    }

    /// Returns the entries `from..to` of those held; none if some are missing.
    fn read(&self, from: u64, to: u64) -> Result<Vec<T>, StorageError> {
        let mut entries = Vec::new();
        self.visit(from, to, |entry| entries.push(entry))?;
        Ok(entries)
    }

    /// Reads the entries from `from` up to `to`; none if the storage does not hold all. One of them is in memory
    /// as bytes at a time.
    fn visit(&self, from: u64, to: u64, mut visit: impl FnMut(T)) -> Result<(), StorageError> {
        if from >= to || to > self.held() {
            return Ok(());
        }
        let (from, to) = (self.state.first + from, self.state.first + to);
        let mut found = from;
        let runs = self.runs.between(from, to).inspect(|run| found += run.end - run.start);
        self.log.visit(runs, |payload| {
            visit(codec::decode("an entry", payload)?);
            Ok(())
        })?;
        if found < to {
            let source = format!("entry {found} has no place in the log").into();
            return Err(StorageError::Code { doing: "find", what: "an entry", source });
        }
        Ok(())
    }
}

/// Wraps an error so that a halted replica keeps it as it is.
fn shared<V>(result: Result<V, StorageError>) -> StorageResult<V> {
    result.map_err(|error| SharedError::new(error).into())
}

impl<T> Storage<T> for PersistentStorage<T>
where
    T: Entry + Serialize + DeserializeOwned,
    T::Snapshot: Serialize + DeserializeOwned,
{
    fn append_entry(&mut self, entry: T) -> StorageResult<u64> {
        shared(self.write_one(StorageOp::AppendEntry(entry)))?;
        Ok(self.held())
    }

    fn append_entries(&mut self, entries: Vec<T>) -> StorageResult<u64> {
        shared(self.write_one(StorageOp::AppendEntries(entries)))?;
        Ok(self.held())
    }

    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<T>) -> StorageResult<u64> {
        shared(self.write_one(StorageOp::AppendOnPrefix(from_idx, entries)))?;
        Ok(self.held())
    }

    fn set_promise(&mut self, n_prom: Ballot) -> StorageResult<()> {
        shared(self.write_one(StorageOp::SetPromise(n_prom)))
    }

    fn set_decided_idx(&mut self, ld: u64) -> StorageResult<()> {
        shared(self.write_one(StorageOp::SetDecidedIndex(ld)))
    }

    fn get_decided_idx(&self) -> StorageResult<u64> {
        Ok(self.state.decided_idx)
    }

    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()> {
        shared(self.write_one(StorageOp::SetAcceptedRound(na)))
    }

    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.state.accepted_round.map(Into::into))
    }

    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<T>> {
        shared(self.read(from, to))
    }

    fn for_each(&self, from: u64, to: u64, visit: &mut dyn FnMut(&T)) -> StorageResult<()> {
        shared(self.visit(from, to, |entry| visit(&entry)))
    }

    fn get_log_len(&self) -> StorageResult<u64> {
        Ok(self.held())
    }

    fn get_suffix(&self, from: u64) -> StorageResult<Vec<T>> {
        shared(self.read(from, self.held()))
    }

    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.state.promise.map(Into::into))
    }

    fn set_stopsign(&mut self, s: Option<StopSign>) -> StorageResult<()> {
        shared(self.write_one(StorageOp::SetStopsign(s)))
    }

    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        Ok(self.state.stopsign.clone().map(Into::into))
    }

    fn trim(&mut self, idx: u64) -> StorageResult<()> {
        shared(self.write_one(StorageOp::Trim(idx)))
    }

    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()> {
        shared(self.write_one(StorageOp::SetCompactedIdx(idx)))
    }

    fn get_compacted_idx(&self) -> StorageResult<u64> {
        Ok(self.state.compacted_idx)
    }

    fn get_stored_compacted_idx(&self) -> StorageResult<u64> {
        Ok(self.written.compacted_idx)
    }

    fn set_snapshot(&mut self, snapshot: Option<T::Snapshot>) -> StorageResult<()> {
        shared(self.write_one(StorageOp::SetSnapshot(snapshot)))
    }

    fn get_snapshot(&self) -> StorageResult<Option<T::Snapshot>> {
        if let Some(deferred) = &self.deferred {
            return shared(deferred.snapshot().snapshot()).map(Some);
        }
        match self.state.snapshot {
            None => Ok(None),
            Some(stored) => {
                if let Some(received) = self.take_received(stored.id) {
                    return shared(received.into_snapshot()).map(Some);
                }
                let bytes = shared(self.stored_snapshot(stored))?;
                shared(codec::decode("a snapshot", &bytes)).map(Some)
            }
        }
    }

    fn snapshot_source(&mut self) -> StorageResult<SnapshotSource> {
        shared(self.source_of_snapshot())
    }

    fn begin_receiving(&mut self, bytes: u64) -> StorageResult<bool> {
        shared(self.begin_reception(bytes))
    }

    fn receive(&mut self, part: Vec<u8>) -> StorageResult<()> {
        let receiving = shared(self.receiving.as_ref().ok_or_else(not_receiving))?;
        receiving.add(part);
        Ok(())
    }

    fn reception(&mut self) -> StorageResult<Reception> {
        shared(self.poll_reception())
    }

    fn end_receiving(&mut self) -> StorageResult<()> {
        self.end_reception();
        Ok(())
    }

    fn write_received(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        shared(self.write_reception(ops))
    }

    fn max_entry_bytes(&self) -> Option<u64> {
        Some(self.largest_entry())
    }

    fn check_entry(&self, entry: &T, limit: u64) -> StorageResult<()> {
        shared(self.check(entry, limit))
    }

    fn check_stopsign(&self, stopsign: &StopSign, limit: u64) -> StorageResult<()> {
        shared(self.check_end(stopsign, limit))
    }

    fn check_snapshot(&self, snapshot: &T::Snapshot) -> StorageResult<()> {
        shared(self.check_sum(snapshot))
    }

    fn check_compaction(&self, snapshot: &T::Snapshot) -> StorageResult<()> {
        match self.encoder {
            Some(_) => Ok(()),
            None => self.check_snapshot(snapshot),
        }
    }

    fn next_incarnation(&mut self) -> StorageResult<Option<u64>> {
        shared(self.begin_incarnation()).map(Some)
    }

    fn get_identity(&self) -> StorageResult<Option<Identity>> {
        Ok(shared(self.database.identity())?.map(Into::into))
    }

    fn get_epochs(&self) -> StorageResult<Option<Vec<Epoch>>> {
        Ok(Some(self.state.epochs.iter().cloned().map(Into::into).collect()))
    }

    fn set_epochs(&mut self, epochs: Vec<Epoch>) -> StorageResult<()> {
        shared(self.write_one(StorageOp::SetEpochs(epochs)))
    }

    fn set_identity(&mut self, identity: Identity) -> StorageResult<()> {
        shared(self.keep_identity(identity))
    }

    fn get_storage_id(&self) -> StorageResult<Option<u64>> {
        Ok(Some(self.id))
    }

    fn write_atomically(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        shared(self.write(ops, Durability::AtOnce))
    }

    fn write_compaction(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        shared(self.write(ops, Durability::SnapshotLater))
    }
}
