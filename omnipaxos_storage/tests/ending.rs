//! Ending a persistent storage when its disk is full, or code that it called has panicked.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "common/small_disk.rs"]
mod small_disk;

use omnipaxos::{
    errors::find_cause,
    macros::Entry,
    storage::{Snapshot, Storage, StorageOp},
};
use omnipaxos_storage::{
    commitlog::LogOptions,
    persistent_storage::{PersistentStorage, PersistentStorageConfig, StorageError},
    sled,
};
use serde::{Deserialize, Serialize, Serializer};
use small_disk::SmallDisk;
use std::{
    cell::Cell,
    env, fs,
    panic::{catch_unwind, resume_unwind, AssertUnwindSafe},
    path::{Path, PathBuf},
    process::Command,
};

thread_local! {
    static PANICS: Cell<bool> = const { Cell::new(false) };
}

/// An entry that panics while it is written, if a flag is set.
#[derive(Clone, Debug, PartialEq, Deserialize, Entry)]
#[snapshot(Bytes)]
struct Number(u64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if PANICS.get() {
            resume_unwind(Box::new("an entry"));
        }
        serializer.serialize_u64(self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Bytes(Vec<u8>);

impl Snapshot<Number> for Bytes {
    fn create(_: &[Number]) -> Self {
        Self(Vec::new())
    }

    fn merge(&mut self, _: Self) {}

    fn use_snapshots() -> bool {
        true
    }
}

type Disk = PersistentStorage<Number>;

fn config(folder: &Path) -> PersistentStorageConfig {
    let mut config = PersistentStorageConfig::default();
    config.set_path(folder.to_str().unwrap().to_string());
    config
}

fn is_poisoned(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(find_cause(error), Some(StorageError::Poisoned { .. }))
}

#[test]
fn a_write_that_panics_poisons_the_storage() {
    for first in [1, 5] {
        let folder = tempfile::tempdir().unwrap();
        let mut storage = Disk::open(config(folder.path()));
        (0..first).for_each(|number| _ = storage.append_entry(Number(number)).unwrap());
        PANICS.set(true);
        let write = |storage: &mut Disk| storage.append_entries(vec![Number(7), Number(8)]);
        assert!(catch_unwind(AssertUnwindSafe(|| write(&mut storage))).is_err());
        PANICS.set(false);
        let refused = storage.append_entry(Number(9)).unwrap_err();
        assert!(is_poisoned(&*refused), "{refused}");
        assert!(refused.to_string().contains("panicked"), "{refused}");
        assert!(is_poisoned(&*storage.next_incarnation().unwrap_err()));
        assert!(is_poisoned(
            &*storage.write_atomically(&mut vec![StorageOp::Trim(1)]).unwrap_err()
        ));
        assert_eq!(storage.get_log_len().unwrap(), first, "what was written can be read");
        drop(storage);
        let mut storage = Disk::open(config(folder.path()));
        assert_eq!(storage.get_log_len().unwrap(), first);
        storage.append_entry(Number(9)).unwrap();
    }
}

#[test]
fn a_storage_that_is_dropped_while_a_panic_unwinds_is_whole() {
    for panics_in_a_write in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let result = catch_unwind(|| {
            let mut storage = Disk::open(config(folder.path()));
            storage.append_entry(Number(1)).unwrap();
            PANICS.set(panics_in_a_write);
            let _ = storage.append_entry(Number(2));
            resume_unwind(Box::new("a server"));
        });
        PANICS.set(false);
        assert!(result.is_err());
        let storage = Disk::open(config(folder.path()));
        let expected = if panics_in_a_write { vec![Number(1)] } else { vec![Number(1), Number(2)] };
        assert_eq!(storage.get_suffix(0).unwrap(), expected);
    }
}

/// Where the parts of the storage are, of which the database is on a disk that gets full.
fn split_config(disk: &Path, log: Option<PathBuf>) -> PersistentStorageConfig {
    PersistentStorageConfig::with(
        disk.to_str().unwrap().to_string(),
        LogOptions::new(log.unwrap_or_else(|| disk.join("commitlog"))),
        sled::Config::new().path(disk.join("database")),
    )
}

/// What a process does that [`in_a_process`] has started: see there.
#[test]
fn process() {
    let Some(disk) = env::var_os("FULL_DISK") else { return };
    let snapshot_bytes: usize = env::var("SNAPSHOT_BYTES").unwrap().parse().unwrap();
    let config = split_config(Path::new(&disk), env::var_os("LOG").map(Into::into));
    let mut storage = Disk::try_open(config).unwrap();
    let mut acknowledged = 0;
    let error = loop {
        let bytes = (0..snapshot_bytes as u64).map(|at| (at * 2_654_435_761 + acknowledged) as u8);
        let mut ops = vec![
            StorageOp::AppendEntry(Number(acknowledged)),
            StorageOp::SetSnapshot(Some(Bytes(bytes.collect()))),
        ];
        match storage.write_atomically(&mut ops) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 100_000, "the disk is never full");
    };
    let refused = storage.append_entry(Number(9)).unwrap_err();
    assert!(is_poisoned(&*refused), "{error}, then {refused}");
    assert!(storage.get_snapshot().is_ok_and(|read| read.is_some()) || acknowledged > 0);
    drop(storage);
    println!("acknowledged {acknowledged}");
}

/// Writes snapshots in another process until the disk is full, and drops the storage. Returns how
/// many were acknowledged.
fn in_a_process(disk: &Path, log: Option<&Path>, snapshot_bytes: usize) -> u64 {
    let mut process = Command::new(env::current_exe().unwrap());
    process.args(["--exact", "process", "--nocapture"]);
    process.env("FULL_DISK", disk).env("SNAPSHOT_BYTES", snapshot_bytes.to_string());
    if let Some(log) = log {
        process.env("LOG", log);
    }
    let output = process.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, number) = text.split_once("acknowledged ").unwrap_or_else(|| panic!("{output:?}"));
    number.lines().next().unwrap().parse().unwrap()
}

/// How often each case is tried: `ENDINGS=50` for a longer search.
fn endings() -> u32 {
    env::var("ENDINGS").ok().and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// The database may wait forever for a write that cannot succeed. The process ends, and the next
/// one finds all that was acknowledged.
#[test]
fn a_full_disk_under_the_database_ends_with_its_process() {
    for snapshot_bytes in [1_000, 20_000, 60_000, 200_000] {
        for has_own_log in [true, false] {
            for _ in 0..endings() {
                let Some(disk) = SmallDisk::mount(12) else { return };
                let ballast = disk.path().join("ballast");
                fs::write(&ballast, vec![1; 6 << 20]).unwrap();
                let log = has_own_log.then(|| tempfile::tempdir().unwrap());
                let log = log.as_ref().map(tempfile::TempDir::path);
                let folder = disk.path().join("storage");
                let acknowledged = in_a_process(&folder, log, snapshot_bytes);
                fs::remove_file(&ballast).unwrap();
                let config = split_config(&folder, log.map(Into::into));
                let storage = Disk::try_open(config).unwrap();
                let len = storage.get_log_len().unwrap();
                let case = format!("{snapshot_bytes} bytes, own log {has_own_log}");
                assert!(len == acknowledged || len == acknowledged + 1, "{case}: {len}");
                assert_eq!(storage.get_snapshot().unwrap().is_some(), len > 0, "{case}");
            }
        }
    }
}
