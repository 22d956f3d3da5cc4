//! A storage that outlives its server, fails on demand and counts its writes.

use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Identity,
    storage::{Entry, Epoch, StopSign, Storage, StorageOp, StorageResult},
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::{cell::RefCell, rc::Rc};

/// What a [`FailingStorage`] is set to do, and what it has done.
#[derive(Copy, Clone, Debug, Default)]
pub struct Orders {
    /// Every write fails.
    pub fail_writes: bool,
    /// Every write fails with this error.
    pub fails_with: Option<fn() -> StorageResult<()>>,
    /// Every read of entries fails.
    pub fail_reads: bool,
    /// No incarnations are counted.
    pub counts_no_incarnations: bool,
    /// No snapshot can be held.
    pub refuses_snapshots: bool,
    /// No epochs are kept, as by a storage without the methods.
    pub keeps_no_epochs: bool,
    /// Calls of `write_atomically`.
    pub writes: u64,
    /// Calls of `write_compaction`, which are counted above as well.
    pub compactions: u64,
}

/// A [`MemoryStorage`] that obeys [`Orders`]. Clones share both.
#[derive(Clone, Debug)]
pub struct FailingStorage<T: Entry> {
    inner: Rc<RefCell<MemoryStorage<T>>>,
    orders: Rc<RefCell<Orders>>,
    id: Option<u64>,
}

impl<T: Entry> Default for FailingStorage<T> {
    fn default() -> Self {
        Self { inner: Rc::default(), orders: Rc::default(), id: None }
    }
}

impl<T: Entry> FailingStorage<T> {
    /// An empty storage with an id, as a lasting storage has.
    pub fn with_id(id: u64) -> Self {
        Self { id: Some(id), ..Self::default() }
    }

    /// A storage with what this one holds now, its id included.
    #[must_use]
    pub fn copy(&self) -> Self {
        let inner = Rc::new(RefCell::new(self.inner.borrow().clone()));
        Self { inner, orders: Rc::new(RefCell::new(self.orders())), id: self.id }
    }

    /// Changes the orders.
    pub fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders.borrow_mut());
    }

    /// The orders, and what was done.
    pub fn orders(&self) -> Orders {
        *self.orders.borrow()
    }

    fn write<R>(
        &self,
        write: impl FnOnce(&mut MemoryStorage<T>) -> StorageResult<R>,
    ) -> StorageResult<R> {
        if self.orders.borrow().fail_writes {
            return Err("no space left".into());
        }
        if let Some(fail) = self.orders.borrow().fails_with {
            fail()?;
        }
        write(&mut self.inner.borrow_mut())
    }

    fn read<R>(
        &self,
        read: impl FnOnce(&MemoryStorage<T>) -> StorageResult<R>,
    ) -> StorageResult<R> {
        if self.orders.borrow().fail_reads {
            return Err("bad sector".into());
        }
        read(&self.inner.borrow())
    }
}

impl<T: Entry> Storage<T> for FailingStorage<T> {
    fn append_entry(&mut self, entry: T) -> StorageResult<u64> {
        self.write(|s| s.append_entry(entry))
    }
    fn append_entries(&mut self, entries: Vec<T>) -> StorageResult<u64> {
        self.write(|s| s.append_entries(entries))
    }
    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<T>) -> StorageResult<u64> {
        self.write(|s| s.append_on_prefix(from_idx, entries))
    }
    fn set_promise(&mut self, n_prom: Ballot) -> StorageResult<()> {
        self.write(|s| s.set_promise(n_prom))
    }
    fn set_decided_idx(&mut self, ld: u64) -> StorageResult<()> {
        self.write(|s| s.set_decided_idx(ld))
    }
    fn get_decided_idx(&self) -> StorageResult<u64> {
        self.read(|s| s.get_decided_idx())
    }
    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()> {
        self.write(|s| s.set_accepted_round(na))
    }
    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        self.read(|s| s.get_accepted_round())
    }
    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<T>> {
        self.read(|s| s.get_entries(from, to))
    }
    fn get_log_len(&self) -> StorageResult<u64> {
        self.read(|s| s.get_log_len())
    }
    fn get_suffix(&self, from: u64) -> StorageResult<Vec<T>> {
        self.read(|s| s.get_suffix(from))
    }
    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        self.read(|s| s.get_promise())
    }
    fn set_stopsign(&mut self, s: Option<StopSign>) -> StorageResult<()> {
        self.write(|inner| inner.set_stopsign(s))
    }
    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        self.read(|s| s.get_stopsign())
    }
    fn trim(&mut self, idx: u64) -> StorageResult<()> {
        self.write(|s| s.trim(idx))
    }
    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()> {
        self.write(|s| s.set_compacted_idx(idx))
    }
    fn get_compacted_idx(&self) -> StorageResult<u64> {
        self.read(|s| s.get_compacted_idx())
    }
    fn set_snapshot(&mut self, snapshot: Option<T::Snapshot>) -> StorageResult<()> {
        self.write(|s| s.set_snapshot(snapshot))
    }
    fn get_snapshot(&self) -> StorageResult<Option<T::Snapshot>> {
        self.read(|s| s.get_snapshot())
    }
    fn max_entry_bytes(&self) -> Option<u64> {
        self.inner.borrow().max_entry_bytes()
    }
    fn check_entry(&self, entry: &T, limit: u64) -> StorageResult<()> {
        self.inner.borrow().check_entry(entry, limit)
    }
    fn check_stopsign(&self, stopsign: &StopSign, limit: u64) -> StorageResult<()> {
        self.inner.borrow().check_stopsign(stopsign, limit)
    }
    fn check_snapshot(&self, snapshot: &T::Snapshot) -> StorageResult<()> {
        match self.orders.borrow().refuses_snapshots {
            true => Err("it holds no snapshot".into()),
            false => self.inner.borrow().check_snapshot(snapshot),
        }
    }
    fn next_incarnation(&mut self) -> StorageResult<Option<u64>> {
        match self.orders.borrow().counts_no_incarnations {
            true => Ok(None),
            false => self.inner.borrow_mut().next_incarnation(),
        }
    }
    fn get_identity(&self) -> StorageResult<Option<Identity>> {
        self.inner.borrow().get_identity()
    }
    fn set_identity(&mut self, identity: Identity) -> StorageResult<()> {
        self.write(|s| s.set_identity(identity))
    }
    fn get_epochs(&self) -> StorageResult<Option<Vec<Epoch>>> {
        match self.orders.borrow().keeps_no_epochs {
            true => Ok(None),
            false => self.read(|s| s.get_epochs()),
        }
    }
    fn set_epochs(&mut self, epochs: Vec<Epoch>) -> StorageResult<()> {
        self.write(|s| s.set_epochs(epochs))
    }
    fn get_storage_id(&self) -> StorageResult<Option<u64>> {
        Ok(self.id)
    }
    fn write_compaction(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        self.orders.borrow_mut().compactions += 1;
        self.write_atomically(ops)
    }

    fn write_atomically(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        self.orders.borrow_mut().writes += 1;
        self.write(|s| s.write_atomically(ops))
    }
}
