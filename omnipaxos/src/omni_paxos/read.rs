//! Reads of the log.

use super::{expect_storage, OmniPaxos};
use crate::{
    errors::StorageFailed,
    log_entry::LogEntry,
    storage::{Entry, Storage},
};
use std::ops::{Bound, RangeBounds};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Reads the entry at index `idx`, which has `idx` entries before it.
    ///
    /// It returns `None` beyond the end of the log. In the compacted part it returns the trimmed
    /// index or the snapshot.
    ///
    /// # Panics
    /// If the storage fails; see [`try_read`](Self::try_read).
    pub fn read(&self, idx: u64) -> Option<LogEntry<T>> {
        expect_storage(self.try_read(idx))
    }

    /// Does the same as [`read`](Self::read), without a panic.
    ///
    /// # Errors
    /// The storage failed to read. That does not halt the replica.
    pub fn try_read(&self, idx: u64) -> Result<Option<LogEntry<T>>, StorageFailed> {
        if self.input.is_none() {
            return self.paxos.log().read_one(idx).map_err(StorageFailed::new);
        }
        let read = self.read_range(idx, idx.checked_add(1))?;
        Ok(read.and_then(|mut entries| entries.pop()))
    }

    /// Reads a range of the log.
    ///
    /// It returns `None` if the range is empty, reversed, or reaches beyond the end. If the range
    /// starts in the compacted part, the first item is the trimmed index or the snapshot.
    ///
    /// # Panics
    /// If the storage fails; see [`try_read_entries`](Self::try_read_entries).
    pub fn read_entries<R: RangeBounds<u64>>(&self, range: R) -> Option<Vec<LogEntry<T>>> {
        expect_storage(self.try_read_entries(range))
    }

    /// Does the same as [`read_entries`](Self::read_entries), without a panic.
    ///
    /// # Errors
    /// The storage failed to read.
    pub fn try_read_entries<R: RangeBounds<u64>>(
        &self,
        range: R,
    ) -> Result<Option<Vec<LogEntry<T>>>, StorageFailed> {
        let from = match range.start_bound() {
            Bound::Included(from) => Some(*from),
            Bound::Excluded(before) => before.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.checked_add(1),
            Bound::Excluded(to) => Some(*to),
            Bound::Unbounded => Some(match self.input {
                None => self.get_accepted_idx(),
                Some(_halted_in) => self.paxos.log().stored_decided_idx(),
            }),
        };
        match from {
            Some(from) => self.read_range(from, to),
            None => Ok(None),
        }
    }

    /// Reads the decided entries from index `from_idx` on. `None` if there are none.
    ///
    /// # Panics
    /// If the storage fails; see [`try_read_decided_suffix`](Self::try_read_decided_suffix).
    pub fn read_decided_suffix(&self, from_idx: u64) -> Option<Vec<LogEntry<T>>> {
        expect_storage(self.try_read_decided_suffix(from_idx))
    }

    /// Does the same as [`read_decided_suffix`](Self::read_decided_suffix), without a panic.
    ///
    /// # Errors
    /// The storage failed to read.
    pub fn try_read_decided_suffix(
        &self,
        from_idx: u64,
    ) -> Result<Option<Vec<LogEntry<T>>>, StorageFailed> {
        self.read_range(from_idx, Some(self.get_decided_idx()))
    }

    /// Calls `visit` with each decided entry from `from_idx` on, in order.
    ///
    /// It returns the index after the last entry, which is the `from_idx` of the next call. If the
    /// storage has the entries in memory, only entries shared with messages are cloned.
    ///
    /// It returns `None`, without a visit, if some of these entries are compacted or if `from_idx`
    /// is above the decided index. Then [`read_decided_suffix`](Self::read_decided_suffix) returns
    /// the snapshot or the trimmed index. A stop sign is not visited; see
    /// [`is_reconfigured`](Self::is_reconfigured).
    ///
    /// ```
    /// # use omnipaxos::{macros::Entry, ClusterConfig, OmniPaxos, ServerConfig};
    /// # use omnipaxos_storage::memory_storage::MemoryStorage;
    /// #[derive(Clone, Debug, Entry)]
    /// struct Add(u64);
    ///
    /// # let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    /// # let server = ServerConfig { pid: 1, ..Default::default() };
    /// # let mut server: OmniPaxos<Add, MemoryStorage<Add>> =
    /// #     cluster.build_for_server(server, MemoryStorage::default())?;
    /// # (0..30).for_each(|_| server.tick());
    /// # for number in 1..=3 {
    /// #     server.append(Add(number)).unwrap();
    /// # }
    /// # server.outgoing_messages();
    /// let (mut sum, mut applied_idx) = (0, 0);
    /// // Whenever `get_decided_idx` has grown:
    /// if let Some(idx) = server.for_each_decided(applied_idx, |Add(number)| sum += number) {
    ///     applied_idx = idx;
    /// }
    /// assert_eq!((sum, applied_idx), (6, 3));
    /// # Ok::<(), omnipaxos::errors::ConfigError>(())
    /// ```
    ///
    /// # Panics
    /// If the storage fails; see [`try_for_each_decided`](Self::try_for_each_decided).
    pub fn for_each_decided(&self, from_idx: u64, visit: impl FnMut(&T)) -> Option<u64> {
        expect_storage(self.try_for_each_decided(from_idx, visit))
    }

    /// Does the same as [`for_each_decided`](Self::for_each_decided), without a panic.
    ///
    /// # Errors
    /// The storage failed to read, perhaps after some visits.
    pub fn try_for_each_decided(
        &self,
        from_idx: u64,
        mut visit: impl FnMut(&T),
    ) -> Result<Option<u64>, StorageFailed> {
        let log = self.paxos.log();
        if self.input.is_some() && log.is_torn() {
            return Ok(None);
        }
        log.visit(from_idx, self.get_decided_idx(), &mut visit).map_err(StorageFailed::new)
    }

    fn read_range(
        &self,
        from: u64,
        to: Option<u64>,
    ) -> Result<Option<Vec<LogEntry<T>>>, StorageFailed> {
        let Some(to) = to else {
            return Ok(None);
        };
        let read = match self.input {
            None => self.paxos.log().read(from, to),
            Some(_halted_in) => self.paxos.log().read_halted(from, to),
        };
        read.map_err(StorageFailed::new)
    }
}
