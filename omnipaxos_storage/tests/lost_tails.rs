//! Files that lack their end: what was acknowledged is there, or the opening says what is wrong.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    identity::Identity,
    macros::Entry,
    storage::{Storage, StorageOp},
    ClusterConfig,
};
use omnipaxos_storage::persistent_storage::{
    PersistentStorage, PersistentStorageConfig, StorageError,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    path::Path,
};

#[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
struct Bytes(Vec<u8>);

type Store = PersistentStorage<Bytes>;

fn try_open(folder: &Path) -> Result<Store, StorageError> {
    Store::try_open(PersistentStorageConfig::with_path(folder.to_str().unwrap()))
}

fn open(folder: &Path) -> Store {
    try_open(folder).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// What a process that is killed leaves, with the database as it was at an earlier time: it ignores a damaged
/// end of its file.
fn with_earlier_database(storage: &Path, earlier: &Path, killed: &Path) {
    copy(storage, killed);
    fs::remove_dir_all(killed.join("database")).unwrap();
    copy(earlier, &killed.join("database"));
}

fn assert_corrupt(folder: &Path, what: &str) {
    match try_open(folder) {
        Err(StorageError::Corrupt { .. }) => {}
        Err(other) => panic!("{what}: {other}"),
        Ok(storage) => {
            panic!("{what}: {} entries are there", storage.get_log_len().unwrap());
        }
    }
}

#[test]
fn a_journal_that_is_cut_off_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut storage = open(&at("storage"));
    // A file has 256 KiB at first, and twice as much after it was full. A batch takes a sector.
    let sectors = 256 << 1;
    let written = 2 * sectors + sectors * 3 / 2;
    for number in 0..written {
        storage.append_entry(Bytes(vec![number as u8; 8])).unwrap();
    }
    copy(&at("storage"), &at("killed"));
    assert_eq!(open(&at("killed")).get_log_len().unwrap(), written);
    // The second file has batches in its second half.
    let second = "commitlog/journal_2";
    assert_eq!(fs::metadata(at("storage").join(second)).unwrap().len(), 512 << 10);
    for cut in [256 << 10, (256 << 10) + 4096, (512 << 10) - 512] {
        fs::remove_dir_all(at("killed")).unwrap();
        copy(&at("storage"), &at("killed"));
        let file = File::options().write(true).open(at("killed").join(second)).unwrap();
        file.set_len(cut).unwrap();
        assert_corrupt(&at("killed"), &format!("cut off at {cut}"));
    }
}

#[test]
fn a_database_that_is_as_before_the_last_opening_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut storage = open(&at("storage"));
    storage.append_entry(Bytes(vec![1])).unwrap();
    drop(storage);
    copy(&at("storage/database"), &at("closed"));
    let mut storage = open(&at("storage"));
    copy(&at("storage/database"), &at("opened"));
    storage.append_entry(Bytes(vec![2])).unwrap();
    // The checkpoint of the opening is there, and then all is.
    with_earlier_database(&at("storage"), &at("opened"), &at("killed"));
    assert_eq!(open(&at("killed")).get_log_len().unwrap(), 2);
    with_earlier_database(&at("storage"), &at("closed"), &at("killed_too"));
    assert_corrupt(&at("killed_too"), "closed");
}

/// What is not in the journal: the database holds the only trace of it.
#[test]
fn a_database_that_is_as_before_a_change_is_reported() {
    type Change = fn(&mut Store);
    let changes: [(&str, Change); 4] = [
        ("a batch that is larger than a file of the journal", |storage| {
            storage.append_entry(Bytes(vec![7; 300 << 10])).unwrap();
        }),
        ("a large batch that removes entries", |storage| {
            let large = Bytes(vec![7; 300 << 10]);
            let mut ops = vec![
                StorageOp::AppendEntry(large),
                StorageOp::Trim(1),
                StorageOp::SetCompactedIdx(1),
            ];
            storage.write_atomically(&mut ops).unwrap();
        }),
        ("the incarnation", |storage| {
            assert_eq!(storage.next_incarnation().unwrap(), Some(1));
        }),
        ("the identity", |storage| {
            storage.set_identity(Identity::new(7, ClusterConfig::default(), None)).unwrap();
        }),
    ];
    for (what, change) in changes {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut storage = open(&at("storage"));
        storage.append_entry(Bytes(vec![1])).unwrap();
        copy(&at("storage/database"), &at("before"));
        change(&mut storage);
        let len = storage.get_log_len().unwrap();
        let identity = storage.get_identity().unwrap();
        with_earlier_database(&at("storage"), &at("before"), &at("killed"));
        assert_corrupt(&at("killed"), what);
        // With its own database, all is there; also once more, and after a later batch.
        copy(&at("storage"), &at("whole"));
        for more in 0..3 {
            let mut storage = open(&at("whole"));
            assert_eq!(storage.get_log_len().unwrap(), len + more, "{what}");
            assert_eq!(storage.get_identity().unwrap(), identity, "{what}");
            storage.append_entry(Bytes(vec![2])).unwrap();
        }
    }
}
