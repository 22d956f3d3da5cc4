//! What a leader alone does for each entry over a persistent storage, for a profiler: with entries
//! read back before they are taken, or only measured, or neither.
//! `cargo build --release -p omnipaxos_benches --example leader`, then
//! `valgrind --tool=callgrind target/release/examples/leader 256 read-back`.

use omnipaxos::{
    ballot_leader_election::Ballot,
    macros::Entry,
    storage::{NoSnapshot, StopSign, Storage, StorageOp, StorageResult},
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use serde::{Deserialize, Serialize};
use std::error::Error;

const ENTRIES: usize = 20_000;

/// Entries that are written at once.
const BATCH: usize = 100;

#[derive(Clone, Debug, Entry, Serialize, Deserialize)]
struct Bytes(#[serde(with = "serde_bytes")] Vec<u8>);

/// Passes on all but the checks.
struct Unchecked(PersistentStorage<Bytes>);

impl Storage<Bytes> for Unchecked {
    fn append_entry(&mut self, entry: Bytes) -> StorageResult<u64> {
        self.0.append_entry(entry)
    }
    fn append_entries(&mut self, entries: Vec<Bytes>) -> StorageResult<u64> {
        self.0.append_entries(entries)
    }
    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<Bytes>) -> StorageResult<u64> {
        self.0.append_on_prefix(from_idx, entries)
    }
    fn set_promise(&mut self, n_prom: Ballot) -> StorageResult<()> {
        self.0.set_promise(n_prom)
    }
    fn set_decided_idx(&mut self, ld: u64) -> StorageResult<()> {
        self.0.set_decided_idx(ld)
    }
    fn get_decided_idx(&self) -> StorageResult<u64> {
        self.0.get_decided_idx()
    }
    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()> {
        self.0.set_accepted_round(na)
    }
    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        self.0.get_accepted_round()
    }
    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<Bytes>> {
        self.0.get_entries(from, to)
    }
    fn get_log_len(&self) -> StorageResult<u64> {
        self.0.get_log_len()
    }
    fn get_suffix(&self, from: u64) -> StorageResult<Vec<Bytes>> {
        self.0.get_suffix(from)
    }
    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        self.0.get_promise()
    }
    fn set_stopsign(&mut self, s: Option<StopSign>) -> StorageResult<()> {
        self.0.set_stopsign(s)
    }
    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        self.0.get_stopsign()
    }
    fn trim(&mut self, idx: u64) -> StorageResult<()> {
        self.0.trim(idx)
    }
    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()> {
        self.0.set_compacted_idx(idx)
    }
    fn get_compacted_idx(&self) -> StorageResult<u64> {
        self.0.get_compacted_idx()
    }
    fn set_snapshot(&mut self, snapshot: Option<NoSnapshot>) -> StorageResult<()> {
        self.0.set_snapshot(snapshot)
    }
    fn get_snapshot(&self) -> StorageResult<Option<NoSnapshot>> {
        self.0.get_snapshot()
    }
    fn write_atomically(&mut self, ops: &mut Vec<StorageOp<Bytes>>) -> StorageResult<()> {
        self.0.write_atomically(ops)
    }
}

fn lead<B: Storage<Bytes>>(storage: B, bytes: usize) -> Result<(), Box<dyn Error>> {
    let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    let server = ServerConfig { pid: 1, ..Default::default() };
    let mut replica: OmniPaxos<Bytes, B> = cluster.build_for_server(server, storage)?;
    (0..30).for_each(|_| replica.tick());
    for _ in 0..ENTRIES / BATCH {
        for _ in 0..BATCH {
            replica.append(Bytes(vec![7; bytes]))?;
        }
        replica.outgoing_messages();
    }
    assert_eq!(replica.get_decided_idx(), ENTRIES as u64);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bytes, mode] = &arguments[..] else {
        return Err("which size in bytes, and read-back, size or unchecked?".into());
    };
    let folder = tempfile::tempdir()?;
    let mut config = PersistentStorageConfig::default();
    config.set_path(folder.path().to_string_lossy().into_owned());
    config.set_read_back(mode == "read-back");
    let storage = PersistentStorage::try_open(config)?;
    match mode.as_str() {
        "unchecked" => lead(Unchecked(storage), bytes.parse()?),
        _ => lead(storage, bytes.parse()?),
    }
}
