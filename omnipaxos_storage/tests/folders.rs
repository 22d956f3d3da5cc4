//! Folders that are none, and folders in which something is missing, replaced or emptied: which error a
//! storage returns, and that it neither panics nor makes a new storage in place of an old one.
#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::type_complexity, reason = "the rows of tables")]

use omnipaxos::{errors::with_causes, macros::Entry, storage::Storage};
use omnipaxos_storage::{
    commitlog::LogOptions,
    persistent_storage::{PersistentStorage, PersistentStorageConfig, StorageError},
    sled,
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
struct Blob(Vec<u8>);

type Disk = PersistentStorage<Blob>;

fn config(folder: &Path) -> PersistentStorageConfig {
    let mut options = LogOptions::new(folder.join("commitlog"));
    options.segment_max_bytes(8 << 10);
    let mut config = PersistentStorageConfig::default();
    config.set_path(folder.to_str().unwrap().to_string());
    config.set_commitlog_options(options);
    config
}

fn named(path: &str) -> PersistentStorageConfig {
    let mut config = PersistentStorageConfig::default();
    config.set_path(path.to_string());
    config
}

#[test]
fn a_folder_without_a_name_is_refused_and_nothing_is_made() {
    let before = fs::read_dir(".").unwrap().count();
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = elsewhere.path().to_str().unwrap();
    let no_database = PersistentStorageConfig::with(
        format!("{elsewhere}/storage"),
        LogOptions::new(format!("{elsewhere}/log")),
        sled::Config::new().path(""),
    );
    for config in [named(""), named("a\0b"), no_database] {
        let error = Disk::try_open(config).unwrap_err();
        assert!(matches!(error, StorageError::NoFolder { .. }), "{error:?}");
        assert!(error.to_string().starts_with("cannot keep a storage in \""), "{error}");
    }
    assert_eq!(fs::read_dir(".").unwrap().count(), before, "the present folder is as it was");
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
}

#[test]
fn a_file_where_a_folder_must_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "a file").unwrap();
    for path in [file.clone(), file.join("below"), file.join("far/below")] {
        let error = Disk::try_open(config(&path)).unwrap_err();
        let StorageError::NoFolder { path, .. } = &error else { panic!("{error:?}") };
        assert_eq!(path, &file);
        assert!(error.to_string().contains("it is not a folder"), "{error}");
    }
    for part in ["commitlog", "database"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(part), "a file").unwrap();
        let error = Disk::try_open(config(folder.path())).unwrap_err();
        assert!(matches!(&error, StorageError::NoFolder { path, .. } if path.ends_with(part)));
    }
}

#[test]
fn what_the_system_refuses_is_said_with_its_words() {
    let Some(mounted) = read_only() else { return };
    let folder = mounted.join("storage");
    let error = Disk::try_open(config(&folder)).unwrap_err();
    drop(Command::new("umount").arg(&mounted).output());
    assert!(matches!(error, StorageError::Io { .. }), "{error:?}");
    let text = with_causes(&error);
    assert!(text.contains(folder.to_str().unwrap()) && text.contains("Read-only"), "{text}");
}

/// A file system that cannot be written to; `None` if this user may not mount one.
fn read_only() -> Option<PathBuf> {
    let folder = tempfile::tempdir().unwrap().keep();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "ro,size=1m", "tmpfs"]).arg(&folder);
    let is_mounted = mount.output().is_ok_and(|output| output.status.success());
    if !is_mounted {
        println!("skipped: only root can mount a file system");
    }
    is_mounted.then_some(folder)
}

/// How the storage was ended before its files are changed.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Ended {
    Closed,
    Killed,
}

const ENTRIES: u64 = 40;

/// A storage with several segments and batches in the journal.
fn made(ended: Ended) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("storage");
    let mut storage = Disk::try_open(config(&path)).unwrap();
    for number in 0..ENTRIES {
        storage.append_entry(Blob(vec![number as u8; 700])).unwrap();
    }
    if ended == Ended::Killed {
        let copy = folder.path().join("copy");
        assert!(Command::new("cp").arg("-r").args([&path, &copy]).status().unwrap().success());
        drop(storage);
        fs::remove_dir_all(&path).unwrap();
        fs::rename(copy, path).unwrap();
    }
    folder
}

fn segment(folder: &Path, number: usize) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(folder.join("commitlog"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    found.sort();
    assert!(found.len() > 3);
    found.swap_remove(number)
}

fn remove(path: &Path) {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
}

fn empty(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
        fs::create_dir(path).unwrap();
    } else {
        fs::write(path, "").unwrap();
    }
}

/// A folder where a file was, and the reverse.
fn swap(path: &Path) {
    let was_folder = path.is_dir();
    remove(path);
    if was_folder { fs::write(path, "file") } else { fs::create_dir(path) }.unwrap();
}

/// All that was written is there, or an error names what is missing.
#[test]
fn what_is_missing_empty_or_of_another_kind_is_said() {
    let parts: [(&str, fn(&Path) -> PathBuf); 9] = [
        ("database", |folder| folder.join("database")),
        ("db", |folder| folder.join("database/db")),
        ("conf", |folder| folder.join("database/conf")),
        ("commitlog", |folder| folder.join("commitlog")),
        ("journal", |folder| folder.join("commitlog/journal")),
        ("first segment", |folder| segment(folder, 0)),
        ("middle segment", |folder| segment(folder, 2)),
        ("index", |folder| segment(folder, 2).with_extension("index")),
        ("lock", |folder| folder.join("lock")),
    ];
    let changes: [(&str, fn(&Path)); 3] = [("missing", remove), ("empty", empty), ("kind", swap)];
    for ended in [Ended::Closed, Ended::Killed] {
        for (part, find) in parts {
            for (change, make) in changes {
                let folder = made(ended);
                let path = folder.path().join("storage");
                make(&find(&path));
                let case = format!("{ended:?}: {part} {change}");
                let opened = Disk::try_open(config(&path));
                match opened {
                    Ok(storage) => {
                        assert_eq!(storage.get_log_len().unwrap(), ENTRIES, "{case}");
                        println!("{case}: opened, all is there");
                    }
                    Err(error) => {
                        let text = with_causes(&error);
                        println!("{case}: {text}");
                        assert!(!text.contains("omnipaxos_storage 0.2.2"), "{case}: {text}");
                        assert!(!text.contains("from a copy"), "{case}: {text}");
                        assert!(text.contains(path.to_str().unwrap()), "{case}: {text}");
                        let again = Disk::try_open(config(&path)).unwrap_err();
                        let kinds = [&error, &again].map(std::mem::discriminant);
                        assert_eq!(kinds[0], kinds[1], "{case}: {again}");
                    }
                }
            }
        }
    }
}

/// As [`what_is_missing_empty_or_of_another_kind_is_said`], with the right kind.
#[test]
fn a_storage_that_was_here_is_missed() {
    let is_missed = |path: &Path| {
        let error = Disk::try_open(config(path)).unwrap_err();
        assert!(matches!(error, StorageError::Missing { .. }), "{error}");
    };
    let changes: [fn(&Path); 3] = [
        |folder| remove(&folder.join("database")),
        |folder| empty(&folder.join("database")),
        |folder| empty(&folder.join("database/db")),
    ];
    for ended in [Ended::Closed, Ended::Killed] {
        for change in changes {
            let folder = made(ended);
            let path = folder.path().join("storage");
            change(&path);
            is_missed(&path);
            // What is left of the log is no new storage, also without the lock.
            remove(&path.join("lock"));
            is_missed(&path);
        }
        let folder = made(ended);
        let path = folder.path().join("storage");
        remove(&path.join("database"));
        remove(&path.join("lock"));
        let journal = fs::read(path.join("commitlog/journal")).unwrap();
        empty(&path.join("commitlog"));
        fs::write(path.join("commitlog/journal"), journal).unwrap();
        is_missed(&path);
        // Nothing is left but the lock.
        let folder = made(ended);
        let path = folder.path().join("storage");
        remove(&path.join("database"));
        remove(&path.join("commitlog"));
        is_missed(&path);
    }
    let folder = made(Ended::Closed);
    let path = folder.path().join("storage");
    remove(&segment(&path, 1));
    is_missed(&path);
}
