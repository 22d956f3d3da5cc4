//! Snapshots that are written from a thread of their own.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{Number, State};
use omnipaxos::{
    errors::with_causes,
    macros::Entry,
    storage::{
        Epoch, Reception, Snapshot, SnapshotBytes, SnapshotDigest, SnapshotSource, StopSign,
        Storage, StorageOp,
    },
    ClusterConfig,
};
use omnipaxos_storage::{
    commitlog::LogOptions,
    persistent_storage::{PersistentStorage, PersistentStorageConfig, StorageError},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    fs,
    io::ErrorKind,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    thread::{self, ThreadId},
    time::Duration,
};
use tempfile::TempDir;

type Store = PersistentStorage<Number>;

fn open(folder: &Path) -> Store {
    Store::try_open(PersistentStorageConfig::with_path(folder.to_str().unwrap())).unwrap()
}

/// Some 400 KiB, encoded.
fn large(seed: u64) -> State {
    State((0..50_000).map(|n| u64::MAX - n * seed).collect())
}

fn compaction(entries: u64, idx: u64, snapshot: State) -> Vec<StorageOp<Number>> {
    vec![
        StorageOp::SetSnapshot(Some(snapshot)),
        StorageOp::Trim(entries),
        StorageOp::SetCompactedIdx(idx),
    ]
}

fn filled(folder: &Path) -> Store {
    let mut storage = open(folder);
    storage.append_entries((0..100).map(Number).collect()).unwrap();
    storage.set_decided_idx(100).unwrap();
    storage
}

fn assert_holds(storage: &Store, idx: u64, snapshot: Option<&State>, end: u64) {
    assert_eq!(storage.get_compacted_idx().unwrap(), idx);
    assert_eq!(storage.get_snapshot().unwrap().as_ref(), snapshot);
    let entries: Vec<Number> = (idx..end).map(Number).collect();
    assert_eq!(storage.get_suffix(0).unwrap(), entries);
    assert_eq!(storage.get_log_len().unwrap(), end - idx);
}

#[test]
fn a_large_snapshot_counts_at_once_and_is_durable_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = filled(folder.path());
    storage.write_compaction(&mut compaction(40, 40, large(1))).unwrap();
    assert_holds(&storage, 40, Some(&large(1)), 100);
    let mut end = 100;
    while storage.get_stored_compacted_idx().unwrap() < 40 {
        assert_eq!(storage.get_stored_compacted_idx().unwrap(), 0);
        storage.append_entry(Number(end)).unwrap();
        end += 1;
        assert_holds(&storage, 40, Some(&large(1)), end);
    }
    assert_holds(&storage, 40, Some(&large(1)), end);
    drop(storage);
    assert_holds(&open(folder.path()), 40, Some(&large(1)), end);
}

#[test]
fn a_storage_that_is_dropped_writes_the_snapshot_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = filled(folder.path());
    storage.write_compaction(&mut compaction(40, 40, large(1))).unwrap();
    drop(storage);
    let storage = open(folder.path());
    assert_eq!(storage.get_stored_compacted_idx().unwrap(), 40);
    assert_holds(&storage, 40, Some(&large(1)), 100);
}

/// Also where every batch waits for its snapshot: sled does not sync large values in time.
#[test]
fn no_large_snapshot_is_in_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = PersistentStorageConfig::with_path(folder.path().to_str().unwrap());
    config.set_largest_inline_snapshot(u64::MAX);
    let mut storage = Store::try_open(config.clone()).unwrap();
    storage.append_entries((0..100).map(Number).collect()).unwrap();
    for (count, idx) in [(40, 40), (10, 50)] {
        storage.write_compaction(&mut compaction(count, idx, large(idx))).unwrap();
        assert_eq!(storage.get_stored_compacted_idx().unwrap(), idx);
        assert!(snapshot_files(folder.path()) > 0);
    }
    drop(storage);
    assert_holds(&Store::try_open(config).unwrap(), 50, Some(&large(50)), 100);
}

/// All bytes of the snapshot that another server is sent, read in parts of `step` bytes.
fn sent(source: &SnapshotBytes, step: usize) -> State {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < source.len() {
        bytes.extend(source.read(bytes.len() as u64, step).unwrap());
    }
    let mut digest = SnapshotDigest::default();
    digest.update(&bytes);
    assert_eq!(digest.finish(), source.digest());
    let (state, used) =
        bincode::serde::decode_from_slice(&bytes, bincode::config::standard()).unwrap();
    assert_eq!(used, bytes.len());
    state
}

fn bytes_of(storage: &mut Store) -> SnapshotBytes {
    match storage.snapshot_source().unwrap() {
        SnapshotSource::Bytes(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_large_snapshot_is_read_in_parts_once_it_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = filled(folder.path());
    assert!(matches!(storage.snapshot_source().unwrap(), SnapshotSource::Value));
    storage.write_compaction(&mut compaction(40, 40, large(1))).unwrap();
    // The storage is idle, and notices all the same that the snapshot is durable.
    let bytes = loop {
        match storage.snapshot_source().unwrap() {
            SnapshotSource::Later => thread::yield_now(),
            SnapshotSource::Bytes(bytes) => break bytes,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((bytes.idx(), sent(&bytes, 7000)), (40, large(1)));
    let bytes = bytes_of(&mut storage);
    assert_eq!((bytes.idx(), sent(&bytes, 7000)), (40, large(1)));
    drop(storage);

    // What was opened for a reader stays readable.
    let mut storage = open(folder.path());
    assert_eq!(sent(&bytes_of(&mut storage), 1 << 20), large(1));
    let mut ops = compaction(10, 50, large(2));
    storage.write_atomically(&mut ops).unwrap();
    assert_eq!((bytes.idx(), sent(&bytes, 1 << 20)), (40, large(1)));
    let later = bytes_of(&mut storage);
    assert_eq!((later.idx(), sent(&later, 99_999)), (50, large(2)));
    // The bytes are those of an index. Another one has none.
    storage.set_compacted_idx(51).unwrap();
    assert!(matches!(storage.snapshot_source().unwrap(), SnapshotSource::Value));
    storage.set_snapshot(Some(State(vec![1]))).unwrap();
    assert!(matches!(storage.snapshot_source().unwrap(), SnapshotSource::Value));
}

/// A server that makes snapshots faster than it writes them still sends one.
#[test]
fn while_a_snapshot_waits_the_last_durable_one_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = filled(folder.path());
    storage.write_atomically(&mut compaction(10, 10, large(1))).unwrap();
    storage.write_compaction(&mut compaction(10, 20, large(2))).unwrap();
    // It waits, unless the one before was written meanwhile.
    storage.write_compaction(&mut compaction(10, 30, large(3))).unwrap();
    if let SnapshotSource::Bytes(bytes) = storage.snapshot_source().unwrap() {
        assert_eq!(sent(&bytes, 9999), large(bytes.idx() / 10));
    }
    while storage.get_stored_compacted_idx().unwrap() < 30 {
        storage.set_decided_idx(100).unwrap();
    }
    let bytes = bytes_of(&mut storage);
    assert_eq!((bytes.idx(), sent(&bytes, 9999)), (30, large(3)));
}

/// Later ones replace those that wait; a small one or none ends all of them.
#[test]
fn snapshots_that_follow_each_other() {
    for last in [Some(large(9)), Some(State(vec![1])), None] {
        let folder = tempfile::tempdir().unwrap();
        let mut storage = filled(folder.path());
        for n in 1..=4 {
            storage.write_compaction(&mut compaction(10, n * 10, large(n))).unwrap();
            assert_holds(&storage, n * 10, Some(&large(n)), 100);
        }
        storage.append_on_prefix(60, vec![Number(100)]).unwrap();
        storage.set_snapshot(last.clone()).unwrap();
        assert_holds(&storage, 40, last.as_ref(), 101);
        assert_eq!(storage.get_stored_compacted_idx().unwrap(), 40);
        drop(storage);
        assert_holds(&open(folder.path()), 40, last.as_ref(), 101);
    }
}

/// A snapshot of entries that the storage does not hold is durable first, whatever the caller claims.
#[test]
fn a_snapshot_beyond_the_log_is_durable_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = filled(folder.path());
    storage.write_compaction(&mut compaction(10, 10, large(1))).unwrap();
    let mut ops = compaction(90, 500, large(2));
    ops.push(StorageOp::SetDecidedIndex(500));
    storage.write_compaction(&mut ops).unwrap();
    assert_eq!(storage.get_stored_compacted_idx().unwrap(), 500);
    assert_holds(&storage, 500, Some(&large(2)), 500);
    drop(storage);
    assert_holds(&open(folder.path()), 500, Some(&large(2)), 500);
}

/// Stop signs between epochs have indices, and no entries.
#[test]
fn a_compaction_across_stop_signs_is_durable_later() {
    let epochs = |firsts: &[u64]| {
        let configuration = |configuration_id| ClusterConfig {
            configuration_id,
            nodes: vec![1],
            flexible_quorum: None,
        };
        let epoch = |(id, first): (u32, &u64)| Epoch::new(*first, configuration(id), None);
        (1..).zip(firsts).map(epoch).collect::<Vec<_>>()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut storage = open_background(folder.path());
    storage.set_epochs(epochs(&[0, 6, 8, 50])).unwrap();
    storage.append_entries(words(0..50)).unwrap();
    // Ten entries, and the stop signs 5 and 7.
    let gate = Arc::new(Gate { number: 12, ..Gate::default() });
    let compaction = |gate: &Arc<Gate>, entries, idx| {
        vec![
            StorageOp::SetSnapshot(Some(Slow(Arc::clone(gate)))),
            StorageOp::Trim(entries),
            StorageOp::SetCompactedIdx(idx),
        ]
    };
    // A call that waits for its snapshot returns in the end, when that is stored.
    let late = Arc::clone(&gate);
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(20));
        let _ = late.end.set(End::Success);
    });
    storage.write_compaction(&mut compaction(&gate, 10, 12)).unwrap();
    assert_eq!((storage.get_compacted_idx().unwrap(), number(&storage)), (12, Some(12)));
    assert_eq!(storage.get_stored_compacted_idx().unwrap(), 0);
    let crashed = copy(folder.path());
    gate.end.set(End::Success).unwrap();
    while storage.get_stored_compacted_idx().unwrap() < 12 {
        storage.append_entry(Word(50)).unwrap();
    }
    assert_eq!(storage.get_entries(0, 1).unwrap(), words(10..11));
    drop(storage);
    // The crash undoes it.
    let mut storage = open_background(crashed.path());
    assert_eq!((storage.get_compacted_idx().unwrap(), number(&storage)), (0, None));
    assert_eq!(storage.get_suffix(0).unwrap(), words(0..50));
    // What its epochs do not explain was not in the log, and does not come later.
    let gate = Arc::new(Gate { number: 13, end: OnceLock::from(End::Success), ..Gate::default() });
    storage.write_compaction(&mut compaction(&gate, 10, 13)).unwrap();
    assert_eq!(storage.get_stored_compacted_idx().unwrap(), 13);
}

#[test]
fn an_atomic_write_waits_for_its_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = filled(folder.path());
    storage.write_compaction(&mut compaction(10, 10, large(1))).unwrap();
    storage.write_atomically(&mut compaction(30, 40, large(2))).unwrap();
    assert_eq!(storage.get_stored_compacted_idx().unwrap(), 40);
    assert_holds(&storage, 40, Some(&large(2)), 100);
    drop(storage);
    assert_holds(&open(folder.path()), 40, Some(&large(2)), 100);
}

/// The copy that an interrupted process leaves.
fn copy(folder: &Path) -> TempDir {
    fn copy_into(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let target = to.join(entry.file_name());
            match entry.path().is_dir() {
                true => {
                    fs::create_dir(&target).unwrap();
                    copy_into(&entry.path(), &target);
                }
                // A thread of the storage may have removed or renamed a file, as before a crash a moment later.
                false => match fs::copy(entry.path(), target) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    copied => drop(copied.unwrap()),
                },
            }
        }
    }
    let copied = tempfile::tempdir().unwrap();
    copy_into(folder, copied.path());
    copied
}

/// Blocks when it is encoded, until the test lets it continue.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Slow(#[serde(serialize_with = "when_opened", deserialize_with = "gate_of")] Arc<Gate>);

#[derive(Debug, Default)]
struct Gate {
    number: u64,
    /// What encoding it ends with.
    end: OnceLock<End>,
    /// Which thread encoded it last, and read it back.
    encoded_by: Mutex<Option<ThreadId>>,
}

#[derive(Copy, Clone, Debug, PartialEq)]
enum End {
    Success,
    Failure,
    Panic,
}

fn when_opened<S: Serializer>(gate: &Arc<Gate>, serializer: S) -> Result<S::Ok, S::Error> {
    *gate.encoded_by.lock().unwrap() = Some(thread::current().id());
    match gate.end.wait() {
        End::Success => serializer.serialize_u64(gate.number),
        End::Failure => Err(serde::ser::Error::custom("the state cannot be encoded")),
        End::Panic => panic!("code of the application"),
    }
}

fn gate_of<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Gate>, D::Error> {
    let number = u64::deserialize(deserializer)?;
    Ok(Arc::new(Gate { number, end: OnceLock::from(End::Success), ..Gate::default() }))
}

impl Snapshot<Word> for Slow {
    fn create(_: &[Word]) -> Self {
        unreachable!("the tests make them")
    }

    fn merge(&mut self, _: Self) {
        unreachable!("the tests make them")
    }

    fn use_snapshots() -> bool {
        true
    }
}

#[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
#[snapshot(Slow)]
struct Word(u64);

type Background = PersistentStorage<Word>;

fn open_background(folder: &Path) -> Background {
    let config = PersistentStorageConfig::with_path(folder.to_str().unwrap());
    Background::try_open(config).unwrap().with_background_encoding()
}

fn words(range: std::ops::Range<u64>) -> Vec<Word> {
    range.map(Word).collect()
}

/// A compaction of the next ten words, whose snapshot nobody has encoded yet.
fn compact_ten(storage: &mut Background) -> Arc<Gate> {
    let idx = storage.get_compacted_idx().unwrap() + 10;
    let gate = Arc::new(Gate { number: idx, ..Gate::default() });
    let snapshot = Slow(Arc::clone(&gate));
    storage.check_compaction(&snapshot).unwrap();
    let mut ops = vec![
        StorageOp::SetSnapshot(Some(snapshot)),
        StorageOp::Trim(10),
        StorageOp::SetCompactedIdx(idx),
    ];
    storage.write_compaction(&mut ops).unwrap();
    gate
}

fn number(storage: &Background) -> Option<u64> {
    storage.get_snapshot().unwrap().map(|snapshot| snapshot.0.number)
}

/// Appends words until the compaction of this index is durable.
fn append_until_stored(storage: &mut Background, idx: u64) {
    while storage.get_stored_compacted_idx().unwrap() < idx {
        let next = storage.get_compacted_idx().unwrap() + storage.get_log_len().unwrap();
        storage.append_entry(Word(next)).unwrap();
    }
}

#[test]
fn a_snapshot_is_encoded_on_the_thread() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = open_background(folder.path());
    storage.append_entries(words(0..50)).unwrap();
    let first = compact_ten(&mut storage);
    let replaced = compact_ten(&mut storage);
    let last = compact_ten(&mut storage);
    storage.append_on_prefix(15, words(45..60)).unwrap();
    storage.set_decided_idx(30).unwrap();
    assert_eq!((number(&storage), storage.get_compacted_idx().unwrap()), (Some(30), 30));
    assert_eq!(storage.get_suffix(0).unwrap(), words(30..60));
    assert_eq!(storage.get_stored_compacted_idx().unwrap(), 0);

    // A process that ends now leaves the log as it was before, and all other changes.
    let interrupted = copy(folder.path());
    let reopened = open_background(interrupted.path());
    assert_eq!((number(&reopened), reopened.get_compacted_idx().unwrap()), (None, 0));
    assert_eq!(reopened.get_decided_idx().unwrap(), 30);
    assert_eq!(reopened.get_suffix(0).unwrap(), words(0..60));

    first.end.set(End::Success).unwrap();
    append_until_stored(&mut storage, 10);
    assert_eq!(storage.get_stored_compacted_idx().unwrap(), 10);
    let interrupted = copy(folder.path());
    let reopened = open_background(interrupted.path());
    assert_eq!((number(&reopened), reopened.get_compacted_idx().unwrap()), (Some(10), 10));
    assert_eq!(reopened.get_suffix(0).unwrap().first(), Some(&Word(10)));

    // The second was replaced by the third while it waited.
    assert_eq!(Arc::strong_count(&replaced), 1);
    last.end.set(End::Success).unwrap();
    append_until_stored(&mut storage, 30);
    drop(storage);
    let storage = open_background(folder.path());
    assert_eq!((number(&storage), storage.get_compacted_idx().unwrap()), (Some(30), 30));
    assert_eq!(snapshot_files(folder.path()), 1);
}

/// As [`open_background`], with files for snapshots of all sizes.
fn open_with_files(folder: &Path) -> Background {
    let mut config = PersistentStorageConfig::with_path(folder.to_str().unwrap());
    config.set_largest_inline_snapshot(0);
    Background::try_open(config).unwrap().with_background_encoding()
}

/// Installs a snapshot from another server, of the first `idx` words, and 30 words after it.
fn install(storage: &mut Background, idx: u64) {
    install_with(storage, idx, 30);
}

fn install_with(storage: &mut Background, idx: u64, more: u64) {
    let bytes = bincode::serde::encode_to_vec(idx, bincode::config::standard()).unwrap();
    assert!(storage.begin_receiving(bytes.len() as u64).unwrap());
    storage.receive(bytes).unwrap();
    while storage.reception().unwrap() != Reception::Ready {
        thread::yield_now();
    }
    let held = storage.get_log_len().unwrap();
    let mut ops = vec![
        StorageOp::Trim(held),
        StorageOp::SetCompactedIdx(idx),
        StorageOp::AppendEntries(words(idx..idx + more)),
        StorageOp::SetDecidedIndex(idx + more),
    ];
    storage.write_received(&mut ops).unwrap();
}

fn assert_is(storage: &Background, idx: u64, end: u64) {
    let present = storage.get_compacted_idx().unwrap();
    assert_eq!((number(storage), present), (Some(idx), idx));
    assert_eq!(storage.get_suffix(0).unwrap(), words(idx..end));
    assert_eq!(storage.get_decided_idx().unwrap(), end);
}

/// A snapshot from another server replaces the compaction that is being written, and the one that waits.
#[test]
fn a_received_snapshot_does_not_wait_for_a_compaction() {
    for end in [End::Success, End::Failure, End::Panic] {
        let folder = tempfile::tempdir().unwrap();
        let mut storage = open_with_files(folder.path());
        storage.append_entries(words(0..50)).unwrap();
        let (first, waiting) = (compact_ten(&mut storage), compact_ten(&mut storage));
        install(&mut storage, 100);
        assert_is(&storage, 100, 130);
        assert_eq!(storage.get_stored_compacted_idx().unwrap(), 100);
        assert_eq!(Arc::strong_count(&waiting), 1, "it is not written any more");
        assert!(matches!(storage.snapshot_source().unwrap(), SnapshotSource::Bytes(_)));
        let interrupted = copy(folder.path());
        assert_is(&open_with_files(interrupted.path()), 100, 130);

        // A later compaction waits for the thread that still writes, and batches do not.
        let (replaced, last) = (compact_ten(&mut storage), compact_ten(&mut storage));
        assert_eq!((number(&storage), Arc::strong_count(&replaced)), (Some(120), 1));
        storage.set_decided_idx(130).unwrap();
        assert_eq!(storage.get_stored_compacted_idx().unwrap(), 100);
        match storage.snapshot_source().unwrap() {
            SnapshotSource::Bytes(bytes) => assert_eq!(bytes.idx(), 100),
            other => panic!("{other:?}"),
        }
        // So does one that another snapshot replaces.
        install(&mut storage, 200);
        assert_is(&storage, 200, 230);
        assert_eq!(Arc::strong_count(&last), 1);
        let last = compact_ten(&mut storage);
        first.end.set(end).unwrap();
        last.end.set(End::Success).unwrap();
        while storage.get_stored_compacted_idx().unwrap() < 210 {
            storage.set_decided_idx(230).unwrap();
        }
        assert_is(&storage, 210, 230);
        drop(storage);
        assert_is(&open_with_files(folder.path()), 210, 230);
        assert_eq!(snapshot_files(folder.path()), 1);
    }
}

/// The batch is larger than a file of the journal, and than a segment of the log. Another compaction is being
/// written.
#[test]
fn a_received_snapshot_may_come_with_a_large_batch() {
    let folder = tempfile::tempdir().unwrap();
    let open = |folder: &Path| {
        let mut options = LogOptions::new(folder.join("log"));
        options.segment_max_bytes(64 << 10);
        let mut config = PersistentStorageConfig::with_path(folder.to_str().unwrap());
        config.set_commitlog_options(options);
        config.set_largest_inline_snapshot(0);
        Background::try_open(config).unwrap().with_background_encoding()
    };
    let mut storage = open(folder.path());
    storage.append_entries(words(0..50)).unwrap();
    compact_ten(&mut storage).end.set(End::Success).unwrap();
    append_until_stored(&mut storage, 10);
    let deferred = compact_ten(&mut storage);
    let more = 20_000;
    install_with(&mut storage, 100, more);
    let interrupted = copy(folder.path());
    // If something fails below, the storage is dropped, and waits for the thread.
    deferred.end.set(End::Success).unwrap();
    assert_is(&storage, 100, 100 + more);
    assert_eq!(storage.get_stored_compacted_idx().unwrap(), 100);
    assert_is(&open(interrupted.path()), 100, 100 + more);
    drop(storage);
    assert_is(&open(folder.path()), 100, 100 + more);
}

/// A replaced compaction leaves no file.
#[test]
fn the_file_of_a_replaced_compaction_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = open_with_files(folder.path());
    storage.append_entries(words(0..50)).unwrap();
    let first = compact_ten(&mut storage);
    install(&mut storage, 100);
    first.end.set(End::Success).unwrap();
    while snapshot_files(folder.path()) < 2 {
        thread::yield_now();
    }
    await_one_snapshot_file(&mut storage, folder.path());
    assert_eq!((number(&storage), storage.get_compacted_idx().unwrap()), (Some(100), 100));
    drop(storage);
    assert_eq!(number(&open_with_files(folder.path())), Some(100));
}

/// Writes few batches, far fewer than make a checkpoint.
fn await_one_snapshot_file(storage: &mut Background, folder: &Path) {
    for _ in 0..40 {
        storage.set_decided_idx(storage.get_decided_idx().unwrap()).unwrap();
        if snapshot_files(folder) == 1 {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("{} files of snapshots", snapshot_files(folder));
}

/// Snapshots that were replaced do not wait for a checkpoint.
#[test]
fn replaced_snapshots_do_not_pile_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = open_with_files(folder.path());
    storage.append_entries(words(0..200)).unwrap();
    for round in 1..=10 {
        compact_ten(&mut storage).end.set(End::Success).unwrap();
        append_until_stored(&mut storage, 10 * round);
    }
    await_one_snapshot_file(&mut storage, folder.path());
    assert_eq!(number(&storage), Some(100));
    drop(storage);
    let storage = open_with_files(folder.path());
    assert_eq!((number(&storage), snapshot_files(folder.path())), (Some(100), 1));
}

/// Allocators keep memory for each thread that has used some: with a thread for each snapshot, that of many snapshots.
#[test]
fn one_thread_encodes_all_snapshots() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = open_background(folder.path());
    storage.append_entries(words(0..200)).unwrap();
    let mut threads = Vec::new();
    for round in 1..=5 {
        let gate = compact_ten(&mut storage);
        gate.end.set(End::Success).unwrap();
        append_until_stored(&mut storage, 10 * round);
        threads.push(gate.encoded_by.lock().unwrap().unwrap());
    }
    assert!(threads.iter().all(|thread| *thread == threads[0]), "{threads:?}");
    assert_ne!(threads[0], thread::current().id());
}

fn snapshot_files(folder: &Path) -> usize {
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap);
    files.filter(|file| file.file_name().to_string_lossy().contains("snapshot.")).count()
}

/// The next write returns the failure, every later one that the storage failed before. The disk holds
/// what held before the compaction, and all batches after it.
#[test]
fn a_failure_of_the_thread_is_returned_by_the_next_write() {
    for (end, says) in [(End::Failure, "cannot be encoded"), (End::Panic, "panicked")] {
        let folder = tempfile::tempdir().unwrap();
        let mut storage = open_background(folder.path());
        storage.append_entries(words(0..50)).unwrap();
        compact_ten(&mut storage).end.set(End::Success).unwrap();
        append_until_stored(&mut storage, 10);
        let len = 10 + storage.get_log_len().unwrap();
        let gate = compact_ten(&mut storage);
        storage.set_decided_idx(40).unwrap();
        gate.end.set(end).unwrap();
        let error = loop {
            match storage.set_decided_idx(40) {
                Ok(()) => thread::yield_now(),
                Err(error) => break with_causes(&*error),
            }
        };
        assert!(error.contains(says), "{error}");
        let later = with_causes(&*storage.append_entry(Word(0)).unwrap_err());
        assert!(later.contains("an earlier write failed") && later.contains(says), "{later}");
        drop(storage);
        let storage = open_background(folder.path());
        assert_eq!((number(&storage), storage.get_compacted_idx().unwrap()), (Some(10), 10));
        assert_eq!(storage.get_decided_idx().unwrap(), 40);
        assert_eq!(storage.get_suffix(0).unwrap(), words(10..len));
    }
}

/// The thread cannot create its file: a folder has its name.
#[test]
fn a_file_that_cannot_be_written_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = filled(folder.path());
    fs::create_dir(folder.path().join("snapshot.0.part")).unwrap();
    storage.write_compaction(&mut compaction(40, 40, large(1))).unwrap();
    let error = loop {
        match storage.set_decided_idx(100) {
            Ok(()) => thread::yield_now(),
            Err(error) => break with_causes(&*error),
        }
    };
    assert!(error.contains("could not create") && error.contains("snapshot.0"), "{error}");
    drop(storage);
    fs::remove_dir(folder.path().join("snapshot.0.part")).unwrap();
    assert_holds(&open(folder.path()), 0, None, 100);
}

#[test]
fn a_refused_batch_keeps_the_snapshot_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = LogOptions::new(folder.path().join("log"));
    options.segment_max_bytes(4 << 10);
    let mut config = PersistentStorageConfig::with_path(folder.path().to_str().unwrap());
    config.set_commitlog_options(options);
    let mut storage = Store::try_open(config.clone()).unwrap();
    storage.append_entries((0..100).map(Number).collect()).unwrap();
    storage.write_compaction(&mut compaction(40, 40, large(1))).unwrap();
    let next_config = ClusterConfig { configuration_id: 2, nodes: vec![1], flexible_quorum: None };
    let too_large = StopSign::with(next_config, Some(vec![7; 8 << 10]));
    let mut refused =
        vec![StorageOp::SetSnapshot(Some(State(vec![1]))), StorageOp::SetStopsign(Some(too_large))];
    storage.write_atomically(&mut refused).unwrap_err();
    for n in 100..200 {
        storage.append_entry(Number(n)).unwrap();
        assert_eq!(storage.get_stored_compacted_idx().unwrap(), 40);
    }
    assert_holds(&storage, 40, Some(&large(1)), 200);
    drop(storage);
    let storage = Store::try_open(config).unwrap();
    assert_holds(&storage, 40, Some(&large(1)), 200);
}

#[test]
fn a_lost_or_damaged_snapshot_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = filled(folder.path());
    storage.write_compaction(&mut compaction(40, 40, large(1))).unwrap();
    drop(storage);
    let path = folder.path().join("snapshot.0");
    let whole = fs::read(&path).unwrap();
    let reopened = || {
        let config = PersistentStorageConfig::with_path(folder.path().to_str().unwrap());
        Store::try_open(config).map(drop)
    };
    fs::write(&path, &whole[1..]).unwrap();
    assert!(matches!(reopened(), Err(StorageError::Corrupt { path: named, .. }) if named == path));
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    fs::write(&path, flipped).unwrap();
    assert!(matches!(reopened(), Err(StorageError::Corrupt { path: named, .. }) if named == path));
    fs::remove_file(&path).unwrap();
    assert!(matches!(reopened(), Err(StorageError::Missing { path: named }) if named == path));
    fs::write(&path, &whole).unwrap();
    assert_holds(&open(folder.path()), 40, Some(&large(1)), 100);
}

#[test]
fn a_storage_can_move_between_threads() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Store>();
    is_send_and_sync::<Background>();
}
