//! A storage in memory, for tests, and for servers that never return with the same id.

mod entries;

use self::entries::Entries;
use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Identity,
    storage::{Entry, Epoch, SharedEntries, StopSign, Storage, StorageResult},
};

/// Keeps the log in memory. Its content is lost with the process.
///
/// It keeps the identity of its server, for a clone or a later replica, and has no storage id. So
/// the other servers cannot detect that a server starts again with an empty `MemoryStorage`, and
/// has lost its promises and accepted entries.
///
/// It never clones entries to store them. Entries that messages still hold are shared with these
/// messages, and moved together when the messages are gone. The cost of a trim depends only on the
/// number of removed entries.
#[derive(Clone, Debug)]
pub struct MemoryStorage<T: Entry> {
    log: Entries<T>,
    promise: Option<Ballot>,
    accepted_round: Option<Ballot>,
    decided_idx: u64,
    compacted_idx: u64,
    stopsign: Option<StopSign>,
    snapshot: Option<T::Snapshot>,
    incarnation: u64,
    identity: Option<Identity>,
    epochs: Vec<Epoch>,
}

impl<T: Entry> Default for MemoryStorage<T> {
    fn default() -> Self {
        Self {
            log: Entries::default(),
            promise: None,
            accepted_round: None,
            decided_idx: 0,
            compacted_idx: 0,
            stopsign: None,
            snapshot: None,
            incarnation: 0,
            identity: None,
            epochs: Vec::new(),
        }
    }
}

/// Converts an index to a position in memory. An index that does not fit is beyond any end.
fn position(idx: u64) -> usize {
    usize::try_from(idx).unwrap_or(usize::MAX)
}

impl<T: Entry> MemoryStorage<T> {
    /// Returns the positions of `from..to`, if all are held and there are any.
    fn held(&self, from: u64, to: u64) -> Option<(usize, usize)> {
        let (from, to) = (position(from), position(to));
        (from < to && to <= self.log.len()).then_some((from, to))
    }
}

impl<T: Entry> Storage<T> for MemoryStorage<T> {
    fn append_entry(&mut self, entry: T) -> StorageResult<u64> {
        self.append_entries(vec![entry])
    }

    fn append_entries(&mut self, entries: Vec<T>) -> StorageResult<u64> {
        self.append_shared(entries.into())
    }

    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<T>) -> StorageResult<u64> {
        self.append_shared_on_prefix(from_idx, entries.into())
    }

    fn append_shared(&mut self, entries: SharedEntries<T>) -> StorageResult<u64> {
        self.log.extend(entries);
        self.get_log_len()
    }

    fn append_shared_on_prefix(
        &mut self,
        from_idx: u64,
        entries: SharedEntries<T>,
    ) -> StorageResult<u64> {
        self.log.truncate(position(from_idx));
        self.append_shared(entries)
    }

    fn set_promise(&mut self, n_prom: Ballot) -> StorageResult<()> {
        self.promise = Some(n_prom);
        Ok(())
    }

    fn set_decided_idx(&mut self, ld: u64) -> StorageResult<()> {
        self.decided_idx = ld;
        Ok(())
    }

    fn get_decided_idx(&self) -> StorageResult<u64> {
        Ok(self.decided_idx)
    }

    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()> {
        self.accepted_round = Some(na);
        Ok(())
    }

    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.accepted_round)
    }

    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<T>> {
        Ok(self.held(from, to).map_or_else(Vec::new, |(from, to)| self.log.to_vec(from, to)))
    }

    fn get_shared(&self, from: u64, to: u64) -> StorageResult<SharedEntries<T>> {
        match self.held(from, to).and_then(|(from, to)| self.log.shared(from, to)) {
            Some(shared) => Ok(shared),
            None => self.get_entries(from, to).map(SharedEntries::from),
        }
    }

    fn for_each(&self, from: u64, to: u64, visit: &mut dyn FnMut(&T)) -> StorageResult<()> {
        if let Some((from, to)) = self.held(from, to) {
            self.log.for_each(from, to, visit);
        }
        Ok(())
    }

    fn get_log_len(&self) -> StorageResult<u64> {
        Ok(self.log.len() as u64)
    }

    fn get_suffix(&self, from: u64) -> StorageResult<Vec<T>> {
        self.get_entries(from, self.log.len() as u64)
    }

    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.promise)
    }

    fn set_stopsign(&mut self, s: Option<StopSign>) -> StorageResult<()> {
        self.stopsign = s;
        Ok(())
    }

    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        Ok(self.stopsign.clone())
    }

    fn trim(&mut self, idx: u64) -> StorageResult<()> {
        self.log.remove_front(position(idx));
        Ok(())
    }

    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()> {
        self.compacted_idx = idx;
        Ok(())
    }

    fn get_compacted_idx(&self) -> StorageResult<u64> {
        Ok(self.compacted_idx)
    }

    fn set_snapshot(&mut self, snapshot: Option<T::Snapshot>) -> StorageResult<()> {
        self.snapshot = snapshot;
        Ok(())
    }

    fn get_snapshot(&self) -> StorageResult<Option<T::Snapshot>> {
        Ok(self.snapshot.clone())
    }

    fn next_incarnation(&mut self) -> StorageResult<Option<u64>> {
        self.incarnation += 1;
        Ok(Some(self.incarnation))
    }

    fn get_identity(&self) -> StorageResult<Option<Identity>> {
        Ok(self.identity.clone())
    }

    fn set_identity(&mut self, identity: Identity) -> StorageResult<()> {
        self.identity = Some(identity);
        Ok(())
    }

    fn get_epochs(&self) -> StorageResult<Option<Vec<Epoch>>> {
        Ok(Some(self.epochs.clone()))
    }

    fn set_epochs(&mut self, epochs: Vec<Epoch>) -> StorageResult<()> {
        self.epochs = epochs;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryStorage;
    use omnipaxos::{macros::Entry, storage::Storage};

    #[derive(Clone, Debug, PartialEq, Entry)]
    struct Number(u64);

    fn numbers(range: std::ops::Range<u64>) -> Vec<Number> {
        range.map(Number).collect()
    }

    #[test]
    fn appends_cut_and_trim() {
        let mut storage = MemoryStorage::default();
        assert_eq!(storage.append_entry(Number(0)).unwrap(), 1);
        assert_eq!(storage.append_entries(numbers(1..6)).unwrap(), 6);
        assert_eq!(storage.append_on_prefix(4, numbers(10..12)).unwrap(), 6);
        storage.trim(3).unwrap();
        assert_eq!(storage.get_log_len().unwrap(), 3);
        assert_eq!(storage.get_suffix(0).unwrap(), [Number(3), Number(10), Number(11)]);
        assert_eq!(storage.append_on_prefix(0, numbers(7..8)).unwrap(), 1);
    }

    #[test]
    fn a_range_that_is_not_all_there_is_empty() {
        let mut storage = MemoryStorage::default();
        storage.append_entries(numbers(0..3)).unwrap();
        assert_eq!(storage.get_entries(1, 3).unwrap(), numbers(1..3));
        for (from, to) in [(0, 4), (2, 1), (3, 3), (5, 9), (0, u64::MAX), (u64::MAX, u64::MAX)] {
            assert!(storage.get_entries(from, to).unwrap().is_empty(), "{from}..{to}");
        }
        assert!(storage.get_suffix(3).unwrap().is_empty());
        assert!(storage.get_suffix(u64::MAX).unwrap().is_empty());
    }
}
