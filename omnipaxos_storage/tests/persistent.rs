//! The persistent storage where its conformance suite does not look: foreign and damaged folders,
//! limits, a full disk, and what it takes of the disk.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "common/small_disk.rs"]
mod small_disk;

use omnipaxos::{
    ballot_leader_election::Ballot,
    errors::find_cause,
    macros::Entry,
    storage::{Snapshot, StopSign, Storage, StorageOp},
    ClusterConfig,
};
use omnipaxos_storage::{
    commitlog::{message::MessageBuf, CommitLog, LogOptions},
    persistent_storage::{PersistentStorage, PersistentStorageConfig, StorageError},
    sled,
};
use serde::{Deserialize, Serialize};
use small_disk::SmallDisk;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[snapshot(Count)]
struct Blob(Vec<u8>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Count(u64, Vec<u8>);

impl Snapshot<Blob> for Count {
    fn create(entries: &[Blob]) -> Self {
        Self(entries.len() as u64, Vec::new())
    }

    fn merge(&mut self, delta: Self) {
        self.0 += delta.0;
    }

    fn use_snapshots() -> bool {
        true
    }
}

type Disk = PersistentStorage<Blob>;

fn config(folder: &Path) -> PersistentStorageConfig {
    let mut config = PersistentStorageConfig::default();
    config.set_path(folder.to_str().unwrap().into());
    config
}

/// With segments of this size.
fn config_with(folder: &Path, segment_bytes: usize) -> PersistentStorageConfig {
    let mut options = LogOptions::new(folder.join("commitlog"));
    options.segment_max_bytes(segment_bytes);
    let mut config = config(folder);
    config.set_commitlog_options(options);
    config
}

fn blob(size: usize, number: u64) -> Blob {
    let mut bytes = vec![number as u8; size];
    let number = number.to_le_bytes();
    let count = size.min(number.len());
    bytes[..count].copy_from_slice(&number[..count]);
    Blob(bytes)
}

fn refused(config: PersistentStorageConfig) -> StorageError {
    Disk::try_open(config).expect_err("it is opened")
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder.join("commitlog"))
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    found.sort();
    found
}

/// The segments with what they hold.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    segments(folder).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn one_folder_has_one_storage() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let storage = Disk::try_open(config.clone()).unwrap();
    let error = refused(config.clone());
    assert!(matches!(&error, StorageError::Locked { path } if path == folder.path()), "{error:?}");
    assert!(error.to_string().contains("is open already"), "{error}");
    drop(storage);
    drop(Disk::try_open(config).unwrap());
}

#[test]
fn incarnations_are_counted_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    for incarnation in [1, 3, 5] {
        let mut storage = Disk::open(config(folder.path()));
        assert_eq!(storage.next_incarnation().unwrap(), Some(incarnation));
        storage.append_entry(blob(10, incarnation)).unwrap();
        assert_eq!(storage.next_incarnation().unwrap(), Some(incarnation + 1));
    }
}

/// sled returns its lock some time after it is dropped, when its threads have ended.
fn open_database(folder: &Path) -> sled::Db {
    let config = sled::Config::new().path(folder.join("database"));
    loop {
        match config.open() {
            Ok(database) => return database,
            Err(error) => {
                assert!(error.to_string().contains("could not acquire lock"), "{error}");
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

#[test]
fn a_folder_of_an_earlier_version_gets_an_id() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = Disk::try_create(config(folder.path())).unwrap();
    storage.append_entry(blob(10, 1)).unwrap();
    let first = storage.get_storage_id().unwrap();
    drop(storage);
    let database = open_database(folder.path());
    database.remove("storage_id").unwrap().expect("it was there");
    database.flush().unwrap();
    drop(database);
    let id = |storage: &Disk| storage.get_storage_id().unwrap();
    let storage = Disk::try_open_existing(config(folder.path())).unwrap();
    let given = id(&storage);
    assert!(given.is_some() && given != first);
    assert_eq!(storage.get_suffix(0).unwrap(), [blob(10, 1)]);
    drop(storage);
    assert_eq!(id(&Disk::try_open(config(folder.path())).unwrap()), given, "it stays");
}

#[test]
fn a_new_storage_wants_a_folder_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut storage = Disk::try_new(config.clone()).unwrap();
    storage.append_entry(blob(10, 1)).unwrap();
    drop(storage);
    let error = Disk::try_new(config.clone()).expect_err("there is one");
    assert!(matches!(error, StorageError::NotEmpty { .. }), "{error:?}");
    assert_eq!(Disk::try_open(config).unwrap().get_suffix(0).unwrap(), [blob(10, 1)]);
}

fn write_foreign_log(folder: &Path) {
    let mut log = CommitLog::new(LogOptions::new(folder)).unwrap();
    let mut messages = MessageBuf::default();
    messages.push(b"an entry of somebody else").unwrap();
    log.append(&mut messages).unwrap();
    log.flush().unwrap();
}

fn write_foreign_database(folder: &Path) {
    let database = sled::open(folder).unwrap();
    database.insert(b"a key of somebody else", b"1").unwrap();
    database.flush().unwrap();
}

#[test]
fn what_others_wrote_is_refused_and_left_as_it_is() {
    for (has_log, has_database) in [(true, false), (false, true), (true, true)] {
        let folder = tempfile::tempdir().unwrap();
        if has_log {
            write_foreign_log(&folder.path().join("commitlog"));
        }
        if has_database {
            write_foreign_database(&folder.path().join("database"));
        }
        let before = contents(folder.path());
        let error = refused(config(folder.path()));
        let made = format!("log {has_log}, database {has_database}");
        assert!(matches!(error, StorageError::Foreign { .. }), "{made}: {error:?}");
        let text = error.to_string();
        for says in ["did not write", "omnipaxos_storage 0.2.2", "name another folder"] {
            assert!(text.contains(says), "{made}: {text}");
        }
        assert!(text.contains(folder.path().to_str().unwrap()), "{made}: {text}");
        assert_eq!(contents(folder.path()), before, "{made}");
        let again = refused(config(folder.path()));
        assert!(matches!(again, StorageError::Foreign { .. }), "{made}: {again:?}");
    }
}

/// The published 0.2.2 may be given one folder for log and database both.
#[test]
fn a_foreign_log_and_database_in_one_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_foreign_log(folder.path());
    write_foreign_database(folder.path());
    let path = folder.path().to_str().unwrap().to_string();
    let config = PersistentStorageConfig::with(
        path.clone(),
        LogOptions::new(&path),
        sled::Config::new().path(&path),
    );
    let error = refused(config);
    assert!(matches!(error, StorageError::Foreign { .. }), "{error:?}");
}

#[test]
fn an_entry_over_the_limit_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_with(folder.path(), 64 << 10);
    let mut storage = Disk::try_open(config.clone()).unwrap();
    storage.append_entry(blob(10, 1)).unwrap();
    let before = contents(folder.path());
    let error = storage
        .append_entries(vec![blob(10, 2), blob(64 << 10, 3), blob(10, 4)])
        .expect_err("it does not fit");
    let Some(StorageError::TooLarge { limit, .. }) = find_cause(&*error) else {
        panic!("{error:?}");
    };
    assert_eq!(contents(folder.path()), before);
    assert_eq!(storage.get_log_len().unwrap(), 1);
    // It continues, up to the limit; three bytes encode the length.
    let largest = *limit as usize - 3;
    storage.append_entry(blob(largest, 5)).unwrap();
    assert!(storage.append_entry(blob(largest + 1, 6)).is_err());
    storage.set_decided_idx(2).unwrap();
    drop(storage);
    let storage = Disk::try_open(config).unwrap();
    assert_eq!(storage.get_suffix(0).unwrap(), [blob(10, 1), blob(largest, 5)]);
    assert_eq!(storage.get_decided_idx().unwrap(), 2);
}

fn stopsign(metadata: usize) -> StopSign {
    let nodes = (1..=100).map(|number| u64::MAX - number).collect();
    let next = ClusterConfig { configuration_id: 2, nodes, ..Default::default() };
    StopSign::with(next, Some(vec![7; metadata]))
}

/// State travels with the entries; it must not matter how they fit together.
#[test]
fn the_largest_entry_and_a_large_stop_sign_fit_together() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_with(folder.path(), 16 << 10);
    let mut storage = Disk::try_open(config.clone()).unwrap();
    let largest = 16 * 1024 - 310;
    let ballot = Ballot::with(u32::MAX, u32::MAX, u32::MAX, u64::MAX);
    storage.set_promise(ballot).unwrap();
    storage.set_stopsign(Some(stopsign(8 << 10))).unwrap();
    let mut entries = vec![blob(largest, 0), blob(largest, 1), blob(largest, 2)];
    for entry in entries.clone() {
        storage.append_entry(entry).unwrap();
    }
    let batch = [blob(largest, 3), blob(5000, 4), blob(9000, 5)];
    storage.append_entries(batch.to_vec()).unwrap();
    entries.extend(batch);
    let error = storage.set_stopsign(Some(stopsign(20 << 10))).expect_err("it does not fit");
    assert!(matches!(find_cause(&*error), Some(StorageError::TooLarge { .. })), "{error}");
    // That wrote nothing, so the storage is still of use.
    storage.set_decided_idx(6).unwrap();
    drop(storage);
    let storage = Disk::try_open(config).unwrap();
    assert_eq!(storage.get_suffix(0).unwrap(), entries);
    assert_eq!(storage.get_stopsign().unwrap(), Some(stopsign(8 << 10)));
    assert_eq!(storage.get_promise().unwrap(), Some(ballot));
    assert_eq!(storage.get_decided_idx().unwrap(), 6);
}

#[test]
fn a_batch_larger_than_a_segment_survives() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = LogOptions::new(folder.path().join("commitlog"));
    options.segment_max_bytes(32 << 10).message_max_bytes(1000).index_max_items(10);
    let mut config = config(folder.path());
    config.set_commitlog_options(options);
    let mut storage = Disk::try_open(config.clone()).unwrap();
    let mut all: Vec<Blob> = (0..10).map(|number| blob(50, number)).collect();
    storage.append_entries(all.clone()).unwrap();
    let sizes = (0..2000).map(|number| (number, 1 + number as usize % 900));
    let batch: Vec<Blob> = sizes.map(|(number, size)| blob(size, number)).collect();
    storage.append_entries(batch.clone()).unwrap();
    all.extend(batch);
    assert!(segments(folder.path()).len() >= 20, "{}", segments(folder.path()).len());
    assert_eq!(storage.get_suffix(0).unwrap(), all);
    drop(storage);
    let mut storage = Disk::try_open(config.clone()).unwrap();
    assert_eq!(storage.get_suffix(0).unwrap(), all);
    assert_eq!(storage.get_entries(900, 1500).unwrap(), all[900..1500]);
    storage.append_on_prefix(1000, vec![blob(9, 9)]).unwrap();
    all.truncate(1000);
    all.push(blob(9, 9));
    drop(storage);
    assert_eq!(Disk::try_open(config).unwrap().get_suffix(0).unwrap(), all);
}

/// The journal begins with 256 KiB. A batch that does not fit brings a checkpoint, and one that is
/// larger than what the journal grows to is not written there at all.
#[test]
fn batches_that_fill_the_journal_survive() {
    for (before, size) in [(200 << 10, 200 << 10), (10, 300 << 10), (10, 3 << 20), (10, 20 << 20)] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let mut storage = Disk::try_open(config.clone()).unwrap();
        storage.set_snapshot(Some(Count(1, vec![1; 100]))).unwrap();
        storage.append_entry(blob(before, 1)).unwrap();
        let snapshot = Count(2, vec![2; 100_000]);
        let mut batch = vec![
            StorageOp::AppendEntry(blob(size, 2)),
            StorageOp::SetSnapshot(Some(snapshot.clone())),
        ];
        storage.write_atomically(&mut batch).unwrap();
        let check = |storage: &Disk| {
            assert_eq!(storage.get_snapshot().unwrap().as_ref(), Some(&snapshot), "{size}");
            assert!(storage.get_suffix(0).unwrap() == [blob(before, 1), blob(size, 2)], "{size}");
        };
        check(&storage);
        let copy = tempfile::tempdir().unwrap();
        let killed = killed(folder.path(), copy.path());
        drop(storage);
        check(&Disk::try_open(self::config(&killed)).unwrap());
        check(&Disk::try_open(config).unwrap());
    }
}

#[test]
fn more_entries_than_an_index_has_room_for_survive() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut storage = Disk::try_open(config.clone()).unwrap();
    let all: Vec<Blob> = (0..300_000).map(|number| blob(3, number)).collect();
    storage.append_entries(all.clone()).unwrap();
    drop(storage);
    let mut storage = Disk::try_open(config).unwrap();
    assert_eq!(storage.get_log_len().unwrap(), 300_000);
    assert!(storage.get_suffix(0).unwrap() == all);
    storage.append_entry(blob(3, 0)).unwrap();
    assert_eq!(storage.get_entries(299_999, 300_001).unwrap().len(), 2);
}

/// Changes the format in the first header record: its payload begins with magic and format.
#[test]
fn another_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = Disk::try_open(config(folder.path())).unwrap();
    storage.append_entry(blob(10, 1)).unwrap();
    drop(storage);
    let log = &segments(folder.path())[0];
    let mut bytes = fs::read(log).unwrap();
    let payload = bytes.windows(4).position(|window| window == b"OPXs").unwrap();
    bytes[payload + 4] += 1;
    let size = u32::from_le_bytes(bytes[payload - 12..payload - 8].try_into().unwrap());
    let crc = crc32c::crc32c(&bytes[payload..payload + size as usize]);
    bytes[payload - 8..payload - 4].copy_from_slice(&crc.to_le_bytes());
    fs::write(log, &bytes).unwrap();
    let error = refused(config(folder.path()));
    assert!(matches!(error, StorageError::Format { found: 2, ours: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("the version of the library that wrote it"), "{error}");
    assert_eq!(fs::read(log).unwrap(), bytes, "it is left as it is");
}

/// Copies a folder as a process that is killed leaves it.
fn killed(folder: &Path, copy: &Path) -> PathBuf {
    let copied = Command::new("cp").arg("-r").args([folder, copy]).status();
    assert!(copied.unwrap().success());
    copy.join(folder.file_name().unwrap())
}

/// Gives the checkpoint another format: its first two bytes. The last four are the checksum.
fn change_format(folder: &Path, format: u16) {
    let database = open_database(folder);
    let mut value = database.get("checkpoint").unwrap().unwrap().to_vec();
    value.truncate(value.len() - 4);
    value[..2].copy_from_slice(&format.to_le_bytes());
    if format < 3 {
        // One size for both files of the journal.
        let size = [0xfc, 0, 0, 4, 0];
        let at = value.windows(10).position(|both| both == [size, size].concat()).unwrap();
        value.drain(at..at + size.len());
    }
    let crc = crc32c::crc32c(&value);
    value.extend(crc.to_le_bytes());
    database.insert("checkpoint", value).unwrap();
    database.flush().unwrap();
}

/// In format 1 the journal has one file, and up to format 2 the checkpoint has one size.
#[test]
fn a_killed_storage_of_an_earlier_format_keeps_its_batches() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = Disk::try_create(config(folder.path())).unwrap();
    let all: Vec<Blob> = (0..5).map(|number| blob(1000, number)).collect();
    storage.append_entries(all.clone()).unwrap();
    let copies = tempfile::tempdir().unwrap();
    let first = killed(folder.path(), copies.path());
    let second = tempfile::tempdir().unwrap();
    let second = killed(folder.path(), second.path());
    let later = tempfile::tempdir().unwrap();
    let later = killed(folder.path(), later.path());
    drop(storage);
    change_format(&first, 1);
    // The batches are in the second file: the opening has switched to it.
    let log = first.join("commitlog");
    fs::rename(log.join("journal_2"), log.join("journal")).unwrap();
    change_format(&second, 2);
    for earlier in [first, second] {
        let mut storage = Disk::try_open_existing(config(&earlier)).unwrap();
        assert_eq!(storage.get_suffix(0).unwrap(), all);
        storage.append_entry(blob(1000, 5)).unwrap();
        let again = tempfile::tempdir().unwrap();
        let again = killed(&earlier, again.path());
        assert_eq!(Disk::try_open_existing(config(&again)).unwrap().get_log_len().unwrap(), 6);
    }

    change_format(&later, 4);
    let error = refused(config(&later));
    assert!(matches!(error, StorageError::Format { found: 4, ours: 3, .. }), "{error:?}");
}

/// Bytes of all files below `folder`, as they lie on the disk.
fn disk_use(folder: &Path) -> u64 {
    let used = |path: PathBuf| match path.is_dir() {
        true => disk_use(&path),
        false => fs::metadata(path).unwrap().blocks() * 512,
    };
    fs::read_dir(folder).unwrap().map(|entry| used(entry.unwrap().path())).sum()
}

#[test]
fn disk_use_stays_flat_under_snapshots_and_trims() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_with(folder.path(), 256 << 10);
    let mut storage = Disk::try_open(config.clone()).unwrap();
    let rounds = 2_000;
    let mut early = 0;
    for round in 1..=rounds {
        storage.append_entries((0..10).map(|number| blob(1000, number)).collect()).unwrap();
        let mut compaction = vec![
            StorageOp::SetSnapshot(Some(Count(round * 10, vec![3; 20_000]))),
            StorageOp::Trim(10),
            StorageOp::SetCompactedIdx(round * 10),
        ];
        storage.write_atomically(&mut compaction).unwrap();
        if round == rounds / 4 {
            early = disk_use(folder.path());
        }
        assert!(segments(folder.path()).len() <= 3, "round {round}");
    }
    let late = disk_use(folder.path());
    println!("{early} bytes on disk after {} rounds, {late} after {rounds}", rounds / 4);
    assert!(late <= early + (2 << 20), "{early} bytes grew to {late}");
    drop(storage);
    let storage = Disk::try_open(config).unwrap();
    assert_eq!(storage.get_snapshot().unwrap(), Some(Count(rounds * 10, vec![3; 20_000])));
    assert_eq!(storage.get_log_len().unwrap(), 0);
}

/// Fills a disk with entries of `size` bytes, and comes back when there is space again.
fn fill_up(size: usize, segment_bytes: usize) {
    let Some(disk) = SmallDisk::mount(24) else {
        return;
    };
    let folder = disk.path().join("storage");
    // What is removed to make space. Written out, since a file of holes takes none.
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 8 << 20]).unwrap();
    let config = config_with(&folder, segment_bytes);
    let mut storage = Disk::try_open(config.clone()).unwrap();
    let mut acknowledged = 0;
    let error = loop {
        match storage.append_entry(blob(size, acknowledged)) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 1_000_000, "the disk is never full");
    };
    println!("full after {acknowledged} entries of {size} bytes: {error}");
    for _ in 0..3 {
        let later = storage.set_decided_idx(1).expect_err("it is poisoned");
        let is_poisoned = matches!(find_cause(&*later), Some(StorageError::Poisoned { .. }));
        assert!(is_poisoned, "{later:?}");
    }
    assert_eq!(storage.get_log_len().unwrap(), acknowledged);
    drop(storage);
    if let Err(error) = Disk::try_open(config.clone()) {
        println!("opened while the disk is full: {error}");
    }
    fs::remove_file(&ballast).unwrap();
    let mut storage = Disk::try_open(config.clone()).unwrap();
    // The one that failed is there or not: it was never acknowledged.
    let len = storage.get_log_len().unwrap();
    assert!(len == acknowledged || len == acknowledged + 1, "{len} of {acknowledged}");
    for (number, entry) in (0..).zip(storage.get_suffix(0).unwrap()) {
        assert_eq!(entry, blob(size, number));
    }
    storage.append_entry(blob(size, len)).unwrap();
    drop(storage);
    let storage = Disk::try_open(config).unwrap();
    assert_eq!(storage.get_log_len().unwrap(), len + 1);
}

#[test]
fn a_full_disk_loses_nothing_with_one_large_segment() {
    fill_up(1000, 128 << 20);
}

#[test]
fn a_full_disk_loses_nothing_with_many_small_segments() {
    fill_up(1000, 64 << 10);
}

#[test]
fn a_full_disk_loses_nothing_with_small_entries() {
    fill_up(8, 128 << 20);
}

/// The last page of the disk may go to the log, and leave none for its index, which is in memory
/// that is mapped: a write to it that finds no space would end the process.
#[test]
fn a_disk_that_is_full_when_a_segment_is_begun_is_an_error() {
    let Some(disk) = SmallDisk::mount(24) else {
        return;
    };
    let filler = disk.path().join("filler");
    for pages in 0..12 {
        for entries in 1..4 {
            let folder = disk.path().join("storage");
            let config = config_with(&folder, 8 << 10);
            let mut storage = Disk::try_open(config.clone()).unwrap();
            for number in 0..entries {
                storage.append_entry(blob(2500, number)).unwrap();
            }
            disk.fill(&filler, pages * 4096);
            let mut acknowledged = entries;
            while storage.append_entry(blob(2500, acknowledged)).is_ok() {
                acknowledged += 1;
                assert!(acknowledged < 1000, "the disk is never full");
            }
            drop(storage);
            fs::remove_file(&filler).unwrap();
            let storage = Disk::try_open(config).unwrap();
            let len = storage.get_log_len().unwrap();
            assert!(len == acknowledged || len == acknowledged + 1, "{len} of {acknowledged}");
            drop(storage);
            fs::remove_dir_all(&folder).unwrap();
        }
    }
}

/// Checks what is read of each range that `ranges` names.
fn check_ranges(disk: &Disk, log: &[Blob], ranges: impl IntoIterator<Item = (usize, usize)>) {
    for (from, to) in ranges {
        let (first, end) = (from as u64, to as u64);
        assert_eq!(disk.get_entries(first, end).unwrap(), log[from..to], "{from}..{to}");
        let mut visited = Vec::new();
        disk.for_each(first, end, &mut |entry| visited.push(entry.clone())).unwrap();
        assert_eq!(visited, log[from..to], "{from}..{to}");
    }
}

#[test]
fn each_range_of_a_long_batch_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::try_open(config(folder.path())).unwrap();
    let log: Vec<Blob> = (0..5000).map(|number| blob(8, number)).collect();
    disk.append_entries(log.clone()).unwrap();
    check_ranges(&disk, &log, [(0, 5000), (1, 1025), (1023, 1024), (1000, 4097), (4999, 5000)]);
}

/// Between the batches are records without entries, replaced entries, and the ends of segments.
#[test]
fn each_range_of_many_batches_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_with(folder.path(), 8 << 10);
    let mut disk = Disk::try_open(config.clone()).unwrap();
    let mut log: Vec<Blob> = Vec::new();
    let mut number = 0;
    let mut batch = |count: usize| -> Vec<Blob> {
        let numbers = number..number + count as u64;
        number = numbers.end;
        numbers.map(|number| blob(1 + number as usize * 7 % 300, number)).collect()
    };
    for round in 0..120 {
        let entries = batch(round % 7);
        if round % 5 == 4 {
            let kept = log.len() - log.len().min(round % 11);
            log.truncate(kept);
            disk.append_on_prefix(kept as u64, entries.clone()).unwrap();
        } else {
            disk.append_entries(entries.clone()).unwrap();
        }
        log.extend(entries);
        for decided in 0..round % 3 {
            disk.set_decided_idx(decided as u64).unwrap();
        }
    }
    assert!(segments(folder.path()).len() >= 4, "{}", segments(folder.path()).len());
    let ranges =
        || (0..log.len()).flat_map(|from| (from + 1..=log.len()).map(move |to| (from, to)));
    check_ranges(&disk, &log, ranges().step_by(61));
    drop(disk);
    let mut disk = Disk::try_open(config).unwrap();
    check_ranges(&disk, &log, ranges().step_by(67));
    disk.trim(50).unwrap();
    disk.set_compacted_idx(50).unwrap();
    let rest = &log[50..];
    check_ranges(&disk, rest, (0..rest.len()).map(|from| (from, rest.len())));
}

/// Changes a bit of a file that a storage has open.
fn flip(path: &Path, byte: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[byte] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn damage_is_reported_where_it_is_and_hides_no_other_entry() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::try_open(config(folder.path())).unwrap();
    let log: Vec<Blob> = (1..=4).map(|number| blob(40, number)).collect();
    disk.append_entries(log[..2].to_vec()).unwrap();
    disk.append_entries(log[2..].to_vec()).unwrap();
    let segment = segments(folder.path()).remove(0);
    let bytes = fs::read(&segment).unwrap();
    let end_of = |Blob(entry): &Blob| {
        entry.len() + bytes.windows(entry.len()).position(|window| window == entry).unwrap()
    };
    // The header of the record between the two batches.
    flip(&segment, end_of(&log[1]));
    check_ranges(&disk, &log, [(0, 4), (0, 2), (1, 3), (2, 4)]);
    flip(&segment, end_of(&log[2]) - 1);
    check_ranges(&disk, &log, [(0, 2), (3, 4)]);
    let error = disk.get_entries(0, 4).expect_err("it is read");
    let Some(StorageError::Corrupt { path, byte, .. }) = find_cause::<StorageError>(&*error) else {
        panic!("{error:?}");
    };
    assert_eq!((path, *byte), (&segment, end_of(&log[2]) as u64 - 61));
}
