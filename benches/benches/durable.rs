//! How many entries a second the persistent storage makes durable, beside a plain file that grows
//! and is synced after each write; and how long it takes to open a long log.
//!
//! `cargo bench -p omnipaxos_benches --bench durable` prints a table and writes it to
//! `target/performance/durable.md`.

use omnipaxos::{
    macros,
    storage::{Entry, SharedEntries as Shared, Storage, StorageOp},
};
use omnipaxos_benches::{report::Report, Summary};
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use serde::{de::DeserializeOwned, Deserialize, Deserializer, Serialize, Serializer};
use std::{
    fs::{self, File},
    io::{self, Write},
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

/// Serialised as serde does with vectors: byte by byte.
#[derive(Clone, Debug, macros::Entry, Serialize, Deserialize)]
struct Numbers(Vec<u8>);

/// Serialised at once, as `serde_bytes` would.
#[derive(Clone, Debug, macros::Entry)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self)
    }
}

fn config(folder: &Path) -> PersistentStorageConfig {
    let mut config = PersistentStorageConfig::default();
    config.set_path(folder.to_string_lossy().into());
    config
}

/// What `batches` batches take, each synced.
fn persistent<T>(folder: &Path, entry: T, batch: usize, batches: usize) -> Duration
where
    T: Entry + Serialize + DeserializeOwned,
    T::Snapshot: Serialize + DeserializeOwned,
{
    let mut storage = PersistentStorage::new(config(folder));
    let batch = Shared::from(vec![entry; batch]);
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

/// One row of the table: `ours` is measured beside a plain file.
fn row(
    folder: &Path,
    kind: &str,
    (batch, batches): (usize, usize),
    ours: impl Fn(&Path) -> Duration,
) -> [String; 5] {
    let (mut plain, mut mine, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        let of = |name: &str| folder.join(format!("{name}-{run}"));
        let rate = |time: Duration| (batch * batches) as f64 / time.as_secs_f64();
        plain.push(rate(plain_file(&of("plain"), batch, batches)));
        mine.push(rate(ours(&of("ours"))));
        ratios.extend(plain.last().zip(mine.last()).map(|(plain, mine)| mine / plain));
        for name in ["plain", "ours"] {
            fs::remove_dir_all(of(name)).expect("the folder was made");
        }
    }
    let median = |values| Summary::of(values).map_or(0.0, |summary| summary.median);
    let rate = |values| format!("{:.0}", median(values));
    let ratio = format!("{:.2}", median(ratios));
    [batch.to_string(), kind.to_string(), rate(plain), rate(mine), ratio]
}

fn durable_appends(report: &mut Report, folder: &Path) {
    report.paragraph(
        "Durable appends of 256 B beside a plain file that grows and is synced after each write: \
         entries a second, medians of 5, and the ratio, of which the goal is 1. Serde serialises a \
         `Vec<u8>` byte by byte unless `serde_bytes` or the like says otherwise.",
    );
    report.head(&["batch", "entries are serialised", "plain file", "persistent storage", "ratio"]);
    for (batch, batches) in [(1, 4000), (100, 4000)] {
        let size = (batch, batches);
        let payload = vec![7; ENTRY_BYTES];
        report.row(row(folder, "byte by byte", size, |folder| {
            persistent(folder, Numbers(payload.clone()), batch, batches)
        }));
        report.row(row(folder, "at once", size, |folder| {
            persistent(folder, Bytes(payload.clone()), batch, batches)
        }));
    }
}

fn opening(report: &mut Report, folder: &Path) {
    {
        let mut storage = PersistentStorage::new(config(folder));
        let batch = vec![Bytes(vec![7; LONG_LOG_ENTRY_BYTES]); 1000];
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
    report.paragraph(&format!(
        "Opening {LONG_LOG} entries of {LONG_LOG_ENTRY_BYTES} B: {time:.2?}; resident memory \
         {before} KiB before and {after} KiB after."
    ));
}

/// Resident memory of this process, where the system reports it.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn main() -> io::Result<()> {
    let folder = tempfile::tempdir_in(".")?;
    let mut report = Report::new("durable");
    durable_appends(&mut report, folder.path());
    opening(&mut report, &folder.path().join("long"));
    report.write()
}
