//! How many entries a second the persistent storage makes durable, beside a plain file that grows
//! and is synced after each write; and how long it takes to open a long log.
//!
//! `cargo bench -p omnipaxos_benches --bench durable`

use omnipaxos::{
    macros::Entry,
    storage::{SharedEntries as Shared, Storage, StorageOp},
};
use omnipaxos_benches::Summary;
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

/// Bytes of an entry.
const ENTRY_BYTES: usize = 256;

/// Runs of each; they take turns.
const RUNS: usize = 5;

/// Entries in a log that is opened, and their bytes.
const LONG_LOG: u64 = 1_000_000;
const LONG_LOG_ENTRY_BYTES: usize = 64;

#[derive(Clone, Debug, Entry, Serialize, Deserialize)]
struct Bytes(Vec<u8>);

fn config(folder: &Path) -> PersistentStorageConfig {
    let mut config = PersistentStorageConfig::default();
    config.set_path(folder.to_string_lossy());
    config
}

fn entries(count: usize, bytes: usize) -> Vec<Bytes> {
    (0..count).map(|n| Bytes(vec![n as u8; bytes])).collect()
}

/// Seconds that `batches` batches take, each synced.
fn persistent(folder: &Path, batch: usize, batches: usize) -> Duration {
    let mut storage = PersistentStorage::new(config(folder));
    let batch = Shared::from(entries(batch, ENTRY_BYTES));
    let start = Instant::now();
    for _ in 0..batches {
        let mut ops = vec![StorageOp::AppendShared(batch.clone())];
        storage.write_atomically(&mut ops).expect("the disk has room");
    }
    start.elapsed()
}

/// The same with a plain file.
fn plain_file(folder: &Path, batch: usize, batches: usize) -> Duration {
    fs::create_dir_all(folder).expect("a folder");
    let mut file = File::create(folder.join("plain")).expect("a file");
    let bytes = vec![7; batch * ENTRY_BYTES];
    let start = Instant::now();
    for _ in 0..batches {
        file.write_all(&bytes).expect("the disk has room");
        file.sync_data().expect("the disk syncs");
    }
    start.elapsed()
}

fn durable_appends(folder: &Path) {
    println!("| batch | plain file, entries/s | persistent storage, entries/s | ratio |");
    println!("|---:|---:|---:|---:|");
    for (batch, batches) in [(1, 2000), (100, 1000)] {
        let (mut plain, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for run in 0..RUNS {
            let of = |name: &str| folder.join(format!("{name}-{batch}-{run}"));
            let rate = |time: Duration| (batch * batches) as f64 / time.as_secs_f64();
            plain.push(rate(plain_file(&of("plain"), batch, batches)));
            ours.push(rate(persistent(&of("ours"), batch, batches)));
            ratios.extend(plain.last().zip(ours.last()).map(|(plain, ours)| ours / plain));
            for name in ["plain", "ours"] {
                fs::remove_dir_all(of(name)).expect("the folder was made");
            }
        }
        let median = |values| Summary::of(values).map_or(0.0, |summary| summary.median);
        println!(
            "| {batch} | {:.0} | {:.0} | {:.2} |",
            median(plain),
            median(ours),
            median(ratios)
        );
    }
}

fn opening(folder: &Path) {
    {
        let mut storage = PersistentStorage::new(config(folder));
        let batch = entries(1000, LONG_LOG_ENTRY_BYTES);
        for _ in 0..LONG_LOG / 1000 {
            storage.append_entries(batch.clone()).expect("the disk has room");
        }
    }
    let before = resident_kib();
    let start = Instant::now();
    let storage: PersistentStorage<Bytes> = PersistentStorage::open(config(folder));
    let time = start.elapsed();
    let after = resident_kib();
    assert_eq!(storage.get_log_len().expect("it was opened"), LONG_LOG);
    println!(
        "\nopening {LONG_LOG} entries of {LONG_LOG_ENTRY_BYTES} B: {time:.2?}; resident memory \
         {before} KiB before and {after} KiB after"
    );
}

/// Resident memory of this process, where the system tells.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn main() {
    let folder = tempfile::tempdir_in(".").expect("a temporary folder on the disk measured");
    durable_appends(folder.path());
    opening(&folder.path().join("long"));
}
