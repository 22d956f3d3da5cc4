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

/// Expands to methods that return `Ok` of an expression. A storage on disk returns errors, too.
macro_rules! methods {
    ($($name:ident($($arguments:tt)*) -> $output:ty = $expression:expr;)*) => {
        $(fn $name($($arguments)*) -> StorageResult<$output> { Ok($expression) })*
    };
}

// `Item` is the entry of the suite. A storage for any entry implements `Storage<T>` for `T: Entry`.
impl Storage<Item> for OwnStorage {
    methods! {
        set_promise(&mut self, ballot: Ballot) -> () = self.promise = Some(ballot);
        get_promise(&self) -> Option<Ballot> = self.promise;
        set_accepted_round(&mut self, ballot: Ballot) -> () = self.accepted_round = Some(ballot);
        get_accepted_round(&self) -> Option<Ballot> = self.accepted_round;
        set_decided_idx(&mut self, idx: u64) -> () = self.decided_idx = idx;
        get_decided_idx(&self) -> u64 = self.decided_idx;
        set_compacted_idx(&mut self, idx: u64) -> () = self.compacted_idx = idx;
        get_compacted_idx(&self) -> u64 = self.compacted_idx;
        set_stopsign(&mut self, stopsign: Option<StopSign>) -> () = self.stopsign = stopsign;
        get_stopsign(&self) -> Option<StopSign> = self.stopsign.clone();
        set_snapshot(&mut self, snapshot: Option<Items>) -> () = self.snapshot = snapshot;
        get_snapshot(&self) -> Option<Items> = self.snapshot.clone();
        append_entry(&mut self, entry: Item) -> u64 = self.append_entries(vec![entry])?;
        append_entries(&mut self, entries: Vec<Item>) -> u64 =
            { self.log.extend(entries); self.get_log_len()? };
        append_on_prefix(&mut self, from_idx: u64, entries: Vec<Item>) -> u64 =
            { self.log.truncate(from_idx as usize); self.append_entries(entries)? };
        get_entries(&self, from: u64, to: u64) -> Vec<Item> =
            self.log.get(from as usize..to as usize).unwrap_or_default().to_vec();
        get_suffix(&self, from: u64) -> Vec<Item> = self.get_entries(from, self.get_log_len()?)?;
        get_log_len(&self) -> u64 = self.log.len() as u64;
        trim(&mut self, idx: u64) -> () = drop(self.log.drain(..idx as usize));
    }
}

fn main() {
    check(200, || Subject::in_memory(OwnStorage::default()));
    println!("the storage passed 200 random sequences of operations");
}
