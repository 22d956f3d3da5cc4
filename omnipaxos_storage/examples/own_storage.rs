//! Implements a storage, in memory, and checks it with the conformance suite.

use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::storage::{StopSign, Storage, StorageResult};
use omnipaxos_storage::conformance::{check, Item, Items, Subject};

#[derive(Default)]
struct OwnStorage {
    log: Vec<Item>,
    promise: Option<Ballot>,
    accepted_round: Option<Ballot>,
    decided_idx: u64,
    compacted_idx: u64,
    stopsign: Option<StopSign>,
    snapshot: Option<Items>,
}

/// Two methods for a field: one sets it, the other returns it.
macro_rules! field {
    ($name:ident: $set:ident($given:ty), $get:ident -> $held:ty) => {
        fn $set(&mut self, value: $given) -> StorageResult<()> {
            self.$name = value.into();
            Ok(())
        }
        fn $get(&self) -> StorageResult<$held> {
            Ok(self.$name.clone())
        }
    };
}

// `Item` is the entry of the suite. A storage for any entry implements `Storage<T>` for `T: Entry`.
impl Storage<Item> for OwnStorage {
    field!(promise: set_promise(Ballot), get_promise -> Option<Ballot>);
    field!(accepted_round: set_accepted_round(Ballot), get_accepted_round -> Option<Ballot>);
    field!(decided_idx: set_decided_idx(u64), get_decided_idx -> u64);
    field!(compacted_idx: set_compacted_idx(u64), get_compacted_idx -> u64);
    field!(stopsign: set_stopsign(Option<StopSign>), get_stopsign -> Option<StopSign>);
    field!(snapshot: set_snapshot(Option<Items>), get_snapshot -> Option<Items>);
    fn append_entry(&mut self, entry: Item) -> StorageResult<u64> {
        self.append_entries(vec![entry])
    }
    fn append_entries(&mut self, entries: Vec<Item>) -> StorageResult<u64> {
        self.log.extend(entries);
        self.get_log_len()
    }
    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<Item>) -> StorageResult<u64> {
        self.log.truncate(from_idx as usize);
        self.append_entries(entries)
    }
    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<Item>> {
        Ok(self.log.get(from as usize..to as usize).unwrap_or_default().to_vec())
    }
    fn get_suffix(&self, from: u64) -> StorageResult<Vec<Item>> {
        self.get_entries(from, self.log.len() as u64)
    }
    fn get_log_len(&self) -> StorageResult<u64> {
        Ok(self.log.len() as u64)
    }
    fn trim(&mut self, idx: u64) -> StorageResult<()> {
        self.log.drain(..idx as usize);
        Ok(())
    }
}

fn main() {
    check(200, || Subject::in_memory(OwnStorage::default()));
    println!("the storage passed 200 random sequences of operations");
}
