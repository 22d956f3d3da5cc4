//! A thread that syncs the commit log and makes checkpoints, while the caller writes batches.
//!
//! The caller of a storage would wait for the bytes of a full journal, and for the database. The thread
//! does what it is told in that order, and nothing after its first failure: a checkpoint counts for
//! every sync before it, and a disk may report a failure only once.

use super::{
    checkpoint::{Checkpoint, Database, Place},
    error::StorageError,
    files::{open_to_sync, sync_folder},
    journal::JournalFile,
    large_snapshots::Wait,
};
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        mpsc::{channel, Receiver, Sender, TryRecvError},
        Arc, Mutex, PoisonError,
    },
    thread::{self, JoinHandle},
};

/// What the thread does.
#[derive(Debug)]
pub(super) enum Order {
    /// Sync this file of the log. If it was removed, nothing in it is needed.
    Sync(PathBuf),
    Checkpoint(Box<ToRecord>),
}

/// A checkpoint that is to be made.
#[derive(Debug)]
pub(super) struct ToRecord {
    /// The last file of the log.
    pub(super) log_file: PathBuf,
    /// The folder with the files of the log, if their names must be synced.
    pub(super) unsynced_folder: Option<PathBuf>,
    pub(super) checkpoint: Checkpoint,
    pub(super) database: Arc<Database>,
    /// The file of the journal that is not needed after the checkpoint.
    pub(super) full: JournalFile,
}

/// A checkpoint that was made.
#[derive(Debug)]
pub(super) struct Recorded {
    /// The end of the last synced batch.
    pub(super) durable: Place,
    /// The first segment that is still needed.
    pub(super) first_segment: u64,
    /// The file of the journal, which may be written again.
    pub(super) free: JournalFile,
}

type Outcome = Result<Option<Recorded>, StorageError>;

/// The thread, which runs until this is dropped, and the orders to it.
#[derive(Debug)]
pub(super) struct Background {
    /// `None` when the storage is dropped.
    orders: Option<Sender<Order>>,
    /// A storage is `Sync`, so it is behind a lock.
    outcomes: Mutex<Receiver<Outcome>>,
    /// The number of orders without an outcome.
    pending: usize,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts the thread for the log in this folder.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(folder: &Path) -> Result<Self, StorageError> {
        let (orders, inbox) = channel::<Order>();
        let (outbox, outcomes) = channel();
        let run = move || {
            for order in inbox {
                let outcome = order.run();
                let is_last = outcome.is_err();
                if outbox.send(outcome).is_err() || is_last {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("omnipaxos checkpoint".to_string());
        let thread = thread.spawn(run).map_err(StorageError::io("start a thread for", folder))?;
        let outcomes = Mutex::new(outcomes);
        Ok(Self { orders: Some(orders), outcomes, pending: 0, thread: Some(thread) })
    }

    /// Gives an order. Its outcome comes later.
    pub(super) fn order(&mut self, order: Order) {
        self.pending += 1;
        // A thread that has ended has sent its failure, which is the next outcome.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }

    /// Whether every order has an outcome that was taken.
    pub(super) fn is_idle(&self) -> bool {
        self.pending == 0
    }

    /// Takes the outcomes that are there, up to the next checkpoint; with [`Wait::UntilWritten`] those of
    /// all orders.
    ///
    /// # Errors
    /// An order failed.
    pub(super) fn next(&mut self, wait: Wait) -> Result<Option<Recorded>, StorageError> {
        let outcomes = self.outcomes.get_mut().unwrap_or_else(PoisonError::into_inner);
        while self.pending > 0 {
            let outcome = match wait {
                Wait::No => outcomes.try_recv(),
                Wait::UntilWritten => outcomes.recv().map_err(TryRecvError::from),
            };
            match outcome {
                Ok(outcome) => {
                    self.pending -= 1;
                    if let Some(recorded) = outcome? {
                        return Ok(Some(recorded));
                    }
                }
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => {
                    let cause = "the thread that syncs the log has ended".to_string();
                    return Err(StorageError::Poisoned { cause });
                }
            }
        }
        Ok(None)
    }

    /// Ends the thread, after its present orders.
    pub(super) fn end(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Order {
    fn run(self) -> Outcome {
        match self {
            Self::Sync(path) => match open_to_sync(&path).and_then(|file| file.sync_data()) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(StorageError::io("sync", path)(error))
                }
                Ok(()) | Err(_) => Ok(None),
            },
            Self::Checkpoint(to_record) => to_record.run().map(Some),
        }
    }
}

impl ToRecord {
    /// Syncs the log, records that, and then enlarges the full file of the journal.
    fn run(self) -> Result<Recorded, StorageError> {
        open_to_sync(&self.log_file)
            .and_then(|file| file.sync_data())
            .map_err(StorageError::io("sync", &self.log_file))?;
        if let Some(folder) = &self.unsynced_folder {
            sync_folder(folder)?;
        }
        self.database.set_checkpoint(&self.checkpoint)?;
        let Checkpoint { durable, first_segment, .. } = self.checkpoint;
        Ok(Recorded { durable, first_segment, free: self.full.enlarged()? })
    }
}

#[cfg(test)]
mod tests {
    use super::{Background, Order, ToRecord};
    use crate::persistent_storage::{
        large_snapshots::Wait, IsClosed, PersistentStorage, PersistentStorageConfig,
    };
    use omnipaxos::{macros::Entry, storage::Storage};
    use serde::{Deserialize, Serialize};
    use std::{
        fs,
        path::Path,
        sync::{
            mpsc::{channel, Sender},
            Arc,
        },
        thread,
        time::Duration,
    };

    #[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
    struct Bytes(Vec<u8>);

    fn open(folder: &Path) -> PersistentStorage<Bytes> {
        let path = folder.to_str().expect("a temporary folder has a plain name");
        PersistentStorage::try_open(PersistentStorageConfig::with_path(path)).unwrap()
    }

    /// Stops the database until the sender is dropped.
    fn stop_database(storage: &PersistentStorage<Bytes>) -> Sender<()> {
        let (released, wait) = channel::<()>();
        let database = Arc::clone(&storage.database);
        thread::spawn(move || {
            let stop = move |_: &_| {
                let _ = wait.recv();
                Ok(())
            };
            database.thread().run("stop", stop).unwrap();
        });
        released
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let (path, target) = {
                let entry = entry.unwrap();
                (entry.path(), to.join(entry.file_name()))
            };
            match path.is_dir() {
                true => copy(&path, &target),
                false => drop(fs::copy(path, target).unwrap()),
            }
        }
    }

    /// While no checkpoint is recorded, batches fill both files of the journal, and the next one waits. What
    /// was acknowledged survives.
    #[test]
    fn a_file_of_the_journal_is_not_written_again_before_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut storage = open(&at("storage"));
        let entry = |number: u8| Bytes(vec![number; 100 << 10]);
        let released = stop_database(&storage);
        let (acknowledge, acknowledged) = channel();
        let writer = thread::spawn(move || {
            for number in 0..12 {
                storage.append_entry(entry(number)).unwrap();
                acknowledge.send(number).unwrap();
            }
        });
        let mut count = 0;
        while acknowledged.recv_timeout(Duration::from_secs(1)).is_ok() {
            count += 1;
        }
        // A file has 256 KiB.
        assert!(count <= 4, "{count} batches are acknowledged");
        copy(&at("storage"), &at("killed"));
        drop(released);
        writer.join().unwrap();
        assert_eq!(acknowledged.iter().count(), 12 - count);
        let written = |storage: &PersistentStorage<Bytes>| storage.get_suffix(0).unwrap();
        let killed = written(&open(&at("killed")));
        assert!(killed.len() >= count, "{} of {count}", killed.len());
        let all: Vec<_> = (0..12).map(entry).collect();
        assert!(all.starts_with(&killed));
        assert!(written(&open(&at("storage"))) == all);
    }

    #[test]
    fn nothing_is_recorded_after_a_failed_sync() {
        let folder = tempfile::tempdir().unwrap();
        let mut storage = open(folder.path());
        storage.append_entry(Bytes(vec![1])).unwrap();
        let database = Arc::clone(&storage.database);
        let stored = || database.checkpoint().unwrap();
        let before = stored();
        let mut background = Background::start(folder.path()).unwrap();
        // Removed files are not needed.
        background.order(Order::Sync(folder.path().join("removed")));
        assert!(background.next(Wait::UntilWritten).unwrap().is_none());
        background.order(Order::Sync(folder.path().join("lock").join("no folder")));
        background.order(Order::Checkpoint(Box::new(ToRecord {
            log_file: storage.log.last_file(),
            unsynced_folder: None,
            checkpoint: storage.checkpoint_at(storage.log.end_of_batches(), 0, IsClosed(false)),
            database: Arc::clone(&database),
            full: storage.journal.switch(),
        })));
        let error = background.next(Wait::UntilWritten).unwrap_err().to_string();
        assert!(error.contains("could not sync") && error.contains("no folder"), "{error}");
        let error = background.next(Wait::UntilWritten).unwrap_err().to_string();
        assert!(error.contains("has ended"), "{error}");
        assert_eq!(stored(), before);
    }
}
