//! The disk as a replica sees it.

use super::SimDisk;
use crate::value::SimEntry;
use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Identity,
    storage::{Epoch, Reception, SnapshotSource, StopSign, Storage, StorageOp, StorageResult},
};

fn position(idx: u64) -> usize {
    usize::try_from(idx).unwrap_or(usize::MAX)
}

impl<T: SimEntry> Storage<T> for SimDisk<T> {
    fn append_entry(&mut self, entry: T) -> StorageResult<u64> {
        self.direct(StorageOp::AppendEntry(entry))
    }

    fn append_entries(&mut self, entries: Vec<T>) -> StorageResult<u64> {
        self.direct(StorageOp::AppendEntries(entries))
    }

    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<T>) -> StorageResult<u64> {
        self.direct(StorageOp::AppendOnPrefix(from_idx, entries))
    }

    fn set_promise(&mut self, n_prom: Ballot) -> StorageResult<()> {
        self.direct(StorageOp::SetPromise(n_prom)).map(drop)
    }

    fn set_decided_idx(&mut self, ld: u64) -> StorageResult<()> {
        self.direct(StorageOp::SetDecidedIndex(ld)).map(drop)
    }

    fn get_decided_idx(&self) -> StorageResult<u64> {
        self.read(|image| image.decided_idx)
    }

    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()> {
        self.direct(StorageOp::SetAcceptedRound(na)).map(drop)
    }

    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        self.read(|image| image.accepted_round)
    }

    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<T>> {
        self.read(|image| {
            let (from, to) = (position(from), position(to));
            if from >= to || to > image.log.len() {
                return Vec::new();
            }
            image.log.range(from..to).cloned().collect()
        })
    }

    fn get_log_len(&self) -> StorageResult<u64> {
        self.read(|image| image.log.len() as u64)
    }

    fn get_suffix(&self, from: u64) -> StorageResult<Vec<T>> {
        self.read(|image| image.log.iter().skip(position(from)).cloned().collect())
    }

    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        self.read(|image| image.promise)
    }

    fn set_stopsign(&mut self, s: Option<StopSign>) -> StorageResult<()> {
        self.direct(StorageOp::SetStopsign(s)).map(drop)
    }

    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        self.read(|image| image.stopsign.clone())
    }

    fn trim(&mut self, idx: u64) -> StorageResult<()> {
        self.direct(StorageOp::Trim(idx)).map(drop)
    }

    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()> {
        self.direct(StorageOp::SetCompactedIdx(idx)).map(drop)
    }

    fn get_compacted_idx(&self) -> StorageResult<u64> {
        self.read(|image| image.compacted_idx)
    }

    fn set_snapshot(&mut self, snapshot: Option<T::Snapshot>) -> StorageResult<()> {
        self.direct(StorageOp::SetSnapshot(snapshot)).map(drop)
    }

    fn get_snapshot(&self) -> StorageResult<Option<T::Snapshot>> {
        self.read(|image| image.snapshot.clone())
    }

    fn check_entry(&self, entry: &T, _limit: u64) -> StorageResult<()> {
        self.check(entry)
    }

    fn next_incarnation(&mut self) -> StorageResult<Option<u64>> {
        let mut disk = self.0.borrow_mut();
        disk.incarnation += 1;
        Ok(Some(disk.incarnation))
    }

    fn get_identity(&self) -> StorageResult<Option<Identity>> {
        self.read(|image| image.identity.clone())
    }

    fn set_identity(&mut self, identity: Identity) -> StorageResult<()> {
        self.0.borrow_mut().set_identity(identity)
    }

    fn get_epochs(&self) -> StorageResult<Option<Vec<Epoch>>> {
        self.read(|image| Some(image.epochs.clone()))
    }

    fn set_epochs(&mut self, epochs: Vec<Epoch>) -> StorageResult<()> {
        self.direct(StorageOp::SetEpochs(epochs)).map(drop)
    }

    fn get_storage_id(&self) -> StorageResult<Option<u64>> {
        Ok(self.0.borrow().id)
    }

    fn write_atomically(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        let mut disk = self.0.borrow_mut();
        disk.usage.writes += 1;
        disk.write(ops)
    }

    fn get_stored_compacted_idx(&self) -> StorageResult<u64> {
        self.read(|image| image.compacted_idx)?;
        Ok(self.peek(|image| image.compacted_idx))
    }

    fn snapshot_source(&mut self) -> StorageResult<SnapshotSource> {
        self.source()
    }

    fn begin_receiving(&mut self, bytes: u64) -> StorageResult<bool> {
        self.begin(bytes)
    }

    fn receive(&mut self, part: Vec<u8>) -> StorageResult<()> {
        self.add(part)
    }

    fn reception(&mut self) -> StorageResult<Reception> {
        SimDisk::reception(self)
    }

    fn end_receiving(&mut self) -> StorageResult<()> {
        self.end()
    }

    fn write_received(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        SimDisk::write_received(self, ops)
    }

    fn write_compaction(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        let mut disk = self.0.borrow_mut();
        disk.usage.writes += 1;
        disk.write_compaction(ops)
    }
}
