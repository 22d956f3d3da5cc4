//! Snapshots from another server, which arrive in parts.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;
#[path = "common/small_disk.rs"]
mod small_disk;

use common::{Number, State};
use omnipaxos::{
    errors::with_causes,
    storage::{Reception, SnapshotSource, Storage, StorageOp},
};
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use small_disk::SmallDisk;
use std::{fs, path::Path, thread, time::Duration};
use tempfile::TempDir;

type Store = PersistentStorage<Number>;

/// Which thread may hold the value of a received snapshot.
#[derive(Copy, Clone, Debug)]
enum Values {
    StayOnTheirThread,
    MayMove,
}

const BOTH: [Values; 2] = [Values::StayOnTheirThread, Values::MayMove];

fn open(folder: &Path, values: Values) -> Store {
    let config = PersistentStorageConfig::with_path(folder.to_str().unwrap());
    let storage = Store::try_open(config).unwrap();
    match values {
        Values::StayOnTheirThread => storage,
        Values::MayMove => storage.with_background_encoding(),
    }
}

fn filled(folder: &Path, values: Values) -> Store {
    let mut storage = open(folder, values);
    storage.append_entries((0..100).map(Number).collect()).unwrap();
    storage.set_decided_idx(100).unwrap();
    storage
}

/// Some 400 KiB, encoded.
fn large(seed: u64) -> State {
    State((0..50_000).map(|n| u64::MAX - n * seed).collect())
}

fn encoded(state: &State) -> Vec<u8> {
    bincode::serde::encode_to_vec(state, bincode::config::standard()).unwrap()
}

/// Waits for the end of the reception.
fn end(storage: &mut Store) -> Reception {
    loop {
        match storage.reception().unwrap() {
            Reception::Pending { .. } => thread::yield_now(),
            reception => return reception,
        }
    }
}

fn receive(storage: &mut Store, bytes: &[u8], step: usize) -> Reception {
    assert!(storage.begin_receiving(bytes.len() as u64).unwrap());
    bytes.chunks(step).for_each(|part| storage.receive(part.to_vec()).unwrap());
    end(storage)
}

/// What a replica writes that installs a snapshot of `idx` entries, in place of its `held`.
fn install(held: u64, idx: u64) -> Vec<StorageOp<Number>> {
    vec![
        StorageOp::Trim(held),
        StorageOp::SetCompactedIdx(idx),
        StorageOp::AppendEntries(vec![Number(idx)]),
        StorageOp::SetDecidedIndex(idx + 1),
    ]
}

fn assert_holds(storage: &Store, idx: u64, snapshot: Option<&State>, end: u64) {
    assert_eq!(storage.get_compacted_idx().unwrap(), idx);
    assert_eq!(storage.get_snapshot().unwrap().as_ref(), snapshot);
    assert_eq!(storage.get_suffix(0).unwrap(), (idx..end).map(Number).collect::<Vec<_>>());
    assert_eq!(storage.get_decided_idx().unwrap(), end);
}

/// The names of the files with snapshots.
fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("snapshot.")).collect()
}

/// Copies a folder as a process would leave it that ends now.
fn copy_to(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(file.file_name());
        match file.file_type().unwrap().is_dir() {
            true => copy_to(&file.path(), &to),
            false => drop(fs::copy(file.path(), to).unwrap()),
        }
    }
}

/// The folder as a process would leave it that ends now.
fn copy(folder: &Path) -> TempDir {
    let copied = tempfile::tempdir().unwrap();
    copy_to(folder, copied.path());
    copied
}

#[test]
fn a_received_snapshot_replaces_the_log_as_a_whole() {
    for values in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let mut storage = filled(folder.path(), values);
        assert_eq!(receive(&mut storage, &encoded(&large(1)), 7000), Reception::Ready);
        assert_eq!(storage.reception().unwrap(), Reception::Ready);
        assert_holds(&storage, 0, None, 100);

        // Its file counts for nothing before the write.
        let interrupted = copy(folder.path());
        assert_eq!(files(interrupted.path()).len(), 1);
        assert_holds(&open(interrupted.path(), values), 0, None, 100);
        assert_eq!(files(interrupted.path()).len(), 0);

        storage.write_received(&mut install(100, 150)).unwrap();
        assert_holds(&storage, 150, Some(&large(1)), 151);
        assert_holds(&storage, 150, Some(&large(1)), 151);
        assert_eq!(storage.get_stored_compacted_idx().unwrap(), 150);
        assert!(storage.reception().is_err() && storage.write_received(&mut vec![]).is_err());
        match storage.snapshot_source().unwrap() {
            SnapshotSource::Bytes(bytes) => {
                assert_eq!((bytes.idx(), bytes.len()), (150, encoded(&large(1)).len() as u64));
            }
            other => panic!("{other:?}"),
        }
        let interrupted = copy(folder.path());
        drop(storage);
        for folder in [interrupted.path(), folder.path()] {
            assert_holds(&open(folder, values), 150, Some(&large(1)), 151);
        }

        // A second one replaces the first.
        let mut storage = open(folder.path(), values);
        assert_eq!(receive(&mut storage, &encoded(&large(2)), 1 << 20), Reception::Ready);
        storage.write_received(&mut install(1, 200)).unwrap();
        drop(storage);
        assert_holds(&open(folder.path(), values), 200, Some(&large(2)), 201);
        assert_eq!(files(folder.path()).len(), 1);
    }
}

#[test]
fn what_is_not_wanted_any_more_leaves_no_file() {
    for values in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let mut storage = filled(folder.path(), values);
        let bytes = encoded(&large(1));
        // One is replaced by the next, and one is complete.
        assert!(storage.begin_receiving(bytes.len() as u64).unwrap());
        storage.receive(bytes[..9000].to_vec()).unwrap();
        assert_eq!(receive(&mut storage, &bytes, 1 << 20), Reception::Ready);
        storage.end_receiving().unwrap();
        assert!(storage.reception().is_err() && storage.write_received(&mut vec![]).is_err());
        // A part of one, when the storage is closed.
        assert!(storage.begin_receiving(bytes.len() as u64).unwrap());
        storage.receive(bytes[..9000].to_vec()).unwrap();
        drop(storage);
        assert_eq!(files(folder.path()).len(), 0);
        assert_holds(&open(folder.path(), values), 0, None, 100);
    }
}

#[test]
fn batches_between_the_parts_are_written_as_ever() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = filled(folder.path(), Values::MayMove);
    let bytes = encoded(&large(1));
    assert!(storage.begin_receiving(bytes.len() as u64).unwrap());
    let mut passed = 0;
    for (part, end) in bytes.chunks(50_000).zip(101..) {
        passed += part.len() as u64;
        storage.receive(part.to_vec()).unwrap();
        // The next part comes late.
        let is_last = passed == bytes.len() as u64;
        while !is_last && storage.reception().unwrap() != (Reception::Pending { written: passed }) {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(5));
        storage.append_entry(Number(end - 1)).unwrap();
        storage.set_decided_idx(end).unwrap();
    }
    let len = storage.get_log_len().unwrap();
    // A snapshot of the own is written meanwhile, and is replaced.
    let ops = [
        StorageOp::SetSnapshot(Some(large(3))),
        StorageOp::Trim(50),
        StorageOp::SetCompactedIdx(50),
    ];
    storage.write_compaction(&mut ops.to_vec()).unwrap();
    assert_eq!(end(&mut storage), Reception::Ready);
    assert_holds(&storage, 50, Some(&large(3)), len);
    storage.write_received(&mut install(len - 50, 150)).unwrap();
    assert_holds(&storage, 150, Some(&large(1)), 151);
    drop(storage);
    assert_holds(&open(folder.path(), Values::MayMove), 150, Some(&large(1)), 151);
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn bytes_that_are_no_snapshot_are_dropped() {
    for values in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let mut storage = filled(folder.path(), values);
        let bytes = encoded(&large(1));
        let too_long = [&bytes[..], &[0]].concat();
        // A length that no memory holds.
        let lie = [&[253][..], &[0xFF; 8], &vec![1; 300_000]].concat();
        for bytes in [&bytes[..bytes.len() - 1], &too_long[..], &lie[..]] {
            assert_eq!(receive(&mut storage, bytes, 60_000), Reception::Undecodable);
            assert!(storage.reception().is_err());
        }
        assert_eq!(receive(&mut storage, &bytes, 60_000), Reception::Ready);
        drop(storage);
        assert_holds(&open(folder.path(), values), 0, None, 100);
    }
}

#[test]
fn a_small_snapshot_is_not_received_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = filled(folder.path(), Values::MayMove);
    assert!(!storage.begin_receiving(256 << 10).unwrap());
    assert!(storage.receive(vec![1]).is_err() && storage.reception().is_err());
    storage.end_receiving().unwrap();
}

#[test]
fn a_file_that_cannot_be_written_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = filled(folder.path(), Values::MayMove);
    fs::create_dir(folder.path().join("snapshot.0.part")).unwrap();
    assert!(storage.begin_receiving(1 << 20).unwrap());
    let error = loop {
        match storage.reception() {
            Ok(reception) => assert_eq!(reception, Reception::Pending { written: 0 }),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("snapshot.0"), "{error}");
}

/// The thread finds no space for the next part. The error is reported, and the space that the parts before
/// took is free again. The storage is as before.
#[test]
fn a_disk_that_is_full_while_a_snapshot_arrives() {
    for values in BOTH {
        let Some(disk) = SmallDisk::mount(24) else {
            return;
        };
        let folder = disk.path().join("storage");
        let mut storage = filled(&folder, values);
        assert!(storage.begin_receiving(64 << 20).unwrap());
        let error = loop {
            match storage.reception() {
                Ok(Reception::Pending { .. }) => storage.receive(vec![1; 100_000]).unwrap(),
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        let text = with_causes(&*error);
        assert!(text.contains("snapshot.0") && text.contains("No space left"), "{text}");
        storage.end_receiving().unwrap();
        assert_eq!(files(&folder).len(), 0);
        storage.append_entry(Number(100)).unwrap();
        storage.set_decided_idx(101).unwrap();
        assert_eq!(receive(&mut storage, &encoded(&large(1)), 60_000), Reception::Ready);
        storage.write_received(&mut install(101, 150)).unwrap();
        drop(storage);
        assert_holds(&open(&folder, values), 150, Some(&large(1)), 151);
    }
}

/// Where the beginning of a snapshot filled the disk of a process that was killed, opening needs the space
/// that it takes.
#[test]
fn the_beginning_of_a_snapshot_is_removed_before_space_is_needed() {
    for free in [0, 4096, 65_536] {
        let Some(disk) = SmallDisk::mount(24) else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let mut storage = filled(folder.path(), Values::MayMove);
        assert_eq!(receive(&mut storage, &encoded(&large(1)), 1 << 20), Reception::Ready);
        storage.write_received(&mut install(100, 150)).unwrap();
        assert!(storage.begin_receiving(64 << 20).unwrap());
        storage.receive(vec![1; 5 << 20]).unwrap();
        while storage.reception().unwrap() != (Reception::Pending { written: 5 << 20 }) {
            thread::yield_now();
        }
        let killed = disk.path().join("storage");
        copy_to(folder.path(), &killed);
        assert_eq!(files(&killed).len(), 2);
        disk.fill(&disk.path().join("filler"), free);
        let mut storage = open(&killed, Values::MayMove);
        assert_holds(&storage, 150, Some(&large(1)), 151);
        assert_eq!(files(&killed).len(), 1);
        storage.append_entry(Number(151)).unwrap();
    }
}

/// The value that the thread has decoded is that of one snapshot only.
#[test]
fn a_snapshot_that_replaces_a_received_one_is_read() {
    for values in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let mut storage = filled(folder.path(), values);
        assert_eq!(receive(&mut storage, &encoded(&large(1)), 10_000), Reception::Ready);
        storage.write_received(&mut install(100, 150)).unwrap();
        for later in [State(vec![1, 2]), large(2)] {
            storage.set_snapshot(Some(later.clone())).unwrap();
            assert_holds(&storage, 150, Some(&later), 151);
        }
    }
}
