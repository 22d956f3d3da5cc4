//! A thread that syncs the commit log and makes checkpoints, while the caller writes batches.
//!
//! Without the thread the caller would wait for the bytes of a full journal, and for the database.
//!
//! The thread carries out its orders one after the other. After its first failure it carries out none.
//! So it makes a checkpoint only if all syncs before it have succeeded. A later sync would not show
//! that: a disk may report a failure only once.

use super::{
    checkpoint::{Checkpoint, Database},
    error::StorageError,
    files::{open_to_sync, sync_folder},
    journal::JournalFile,
    large_snapshots::Wait,
    segments,
};
use commitlog::CommitLog;
use std::{
    path::{Path, PathBuf},
    sync::{
        mpsc::{channel, Receiver, Sender, TryRecvError},
        Arc, Mutex, PoisonError,
    },
    thread::{self, JoinHandle},
};

/// What the thread does.
pub(super) enum Order {
    /// Sync this file of the log.
    Sync(PathBuf),
    /// Make this checkpoint.
    Checkpoint(Box<PendingCheckpoint>),
    /// Close the files of a commit log that was opened again.
    Close(Box<CommitLog>),
}

/// A checkpoint that is to be made.
#[derive(Debug)]
pub(super) struct PendingCheckpoint {
    /// The folder of the log.
    pub(super) log_folder: PathBuf,
    /// The last file of the log, if it must be synced.
    pub(super) log_file: Option<PathBuf>,
    /// Whether the names in the folder must be synced.
    pub(super) has_unsynced_names: bool,
    pub(super) checkpoint: Checkpoint,
    pub(super) database: Arc<Database>,
    /// The segments that are not needed after the checkpoint.
    pub(super) removed: Vec<u64>,
    /// The file of the journal that is not needed after the checkpoint, if it is to be enlarged. Its batches stay
    /// as they are.
    pub(super) full: Option<JournalFile>,
}

/// A checkpoint that was made.
#[derive(Debug)]
pub(super) struct Recorded {
    /// The first segment that is still needed. The ones before it are removed.
    pub(super) first_segment: u64,
    /// The file of the journal that was enlarged.
    pub(super) enlarged: Option<JournalFile>,
}

type Outcome = Result<Option<Recorded>, StorageError>;

/// The thread, which runs until this is dropped, and the orders to it.
#[derive(Debug)]
pub(super) struct Background {
    /// `None` when this is dropped.
    orders: Option<Sender<Order>>,
    /// A storage is `Sync`, so it is behind a lock.
    outcomes: Mutex<Receiver<Outcome>>,
    /// The number of orders without an outcome.
    pending: usize,
    /// Whether one of them is a checkpoint.
    is_recording: bool,
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
        let orders = Some(orders);
        Ok(Self { orders, outcomes, pending: 0, is_recording: false, thread: Some(thread) })
    }

    /// Gives an order. Its outcome comes later.
    pub(super) fn order(&mut self, order: Order) {
        self.pending += 1;
        self.is_recording |= matches!(order, Order::Checkpoint(_));
        // A thread that has ended has sent its failure, which is the next outcome.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }

    /// Whether every order has an outcome that was taken.
    pub(super) fn is_idle(&self) -> bool {
        self.pending == 0
    }

    /// Whether a checkpoint has no outcome that was taken.
    pub(super) fn is_recording(&self) -> bool {
        self.is_recording
    }

    /// Takes the outcomes up to that of the next checkpoint; with [`Wait::No`] only those that are there.
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
                        self.is_recording = false;
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
}

impl Drop for Background {
    /// Ends the thread, after its present orders.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Order {
    fn run(self) -> Outcome {
        match self {
            Self::Sync(path) => sync_file(&path).map(|()| None),
            Self::Checkpoint(pending) => pending.run().map(Some),
            Self::Close(commit) => {
                drop(commit);
                Ok(None)
            }
        }
    }
}

fn sync_file(path: &Path) -> Result<(), StorageError> {
    open_to_sync(path).and_then(|file| file.sync_data()).map_err(StorageError::io("sync", path))
}

impl PendingCheckpoint {
    /// Syncs the log, enlarges a file of the journal, records both, and then removes files.
    ///
    /// So the sizes in the last checkpoint are those of the files: a file that is cut off is noticed.
    fn run(mut self) -> Result<Recorded, StorageError> {
        self.log_file.as_deref().map_or(Ok(()), sync_file)?;
        if self.has_unsynced_names {
            sync_folder(&self.log_folder)?;
        }
        let enlarged = self.full.map(JournalFile::enlarged).transpose()?;
        if let Some(file) = &enlarged {
            if let Some(bytes) = self.checkpoint.journal_bytes.get_mut(file.number()) {
                *bytes = file.bytes();
            }
        }
        self.database.set_checkpoint(&self.checkpoint)?;
        for gone in &self.removed {
            segments::remove(&self.log_folder, *gone)?;
        }
        if !self.removed.is_empty() {
            sync_folder(&self.log_folder)?;
        }
        Ok(Recorded { first_segment: self.checkpoint.first_segment, enlarged })
    }
}

#[cfg(test)]
mod tests {
    use super::{Background, Order};
    use crate::persistent_storage::{
        large_snapshots::Wait, segments, PersistentStorage, PersistentStorageConfig, Reason,
        StorageError,
    };
    use commitlog::LogOptions;
    use omnipaxos::{
        errors::find_cause,
        macros::Entry,
        storage::{Storage, StorageOp},
    };
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
        let (stopped, is_stopped) = channel();
        let database = Arc::clone(&storage.database);
        thread::spawn(move || {
            let stop = move |_: &_| {
                let _ = stopped.send(());
                let _ = wait.recv();
                Ok(())
            };
            database.thread().run("stop", stop).unwrap();
        });
        is_stopped.recv().unwrap();
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
        // A file has 256 KiB.
        let count = 4;
        for number in 0..count {
            assert_eq!(acknowledged.recv(), Ok(number));
        }
        assert_eq!(acknowledged.recv_timeout(Duration::from_secs(1)).ok(), None);
        copy(&at("storage"), &at("killed"));
        drop(released);
        writer.join().unwrap();
        assert_eq!(acknowledged.iter().count(), 8);
        let written = |storage: &PersistentStorage<Bytes>| storage.get_suffix(0).unwrap();
        let killed = written(&open(&at("killed")));
        assert_eq!(killed.len(), usize::from(count));
        let all: Vec<_> = (0..12).map(entry).collect();
        assert!(all.starts_with(&killed));
        assert!(written(&open(&at("storage"))) == all);
    }

    /// While no checkpoint is recorded, a batch that frees segments is written, and their files stay.
    #[test]
    fn a_trim_does_not_wait_until_its_space_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = LogOptions::new(folder.path().join("log"));
        options.segment_max_bytes(16 << 10);
        let mut config = PersistentStorageConfig::default();
        config.set_path(folder.path().to_str().unwrap().to_string());
        config.set_commitlog_options(options);
        let mut storage = PersistentStorage::<Bytes>::try_open(config).unwrap();
        let segments = || segments::list(&folder.path().join("log")).unwrap().len();
        for number in 0..8 {
            storage.append_entry(Bytes(vec![number; 9 << 10])).unwrap();
        }
        let before = segments();
        assert_eq!(before, 8);
        let released = stop_database(&storage);
        let (ended, end) = channel();
        let writer = thread::spawn(move || {
            let mut ops = vec![StorageOp::Trim(8), StorageOp::SetCompactedIdx(8)];
            storage.write_atomically(&mut ops).unwrap();
            ended.send(()).unwrap();
            storage
        });
        end.recv_timeout(Duration::from_secs(60)).expect("the trim waits for the database");
        assert_eq!(segments(), before, "the checkpoint before the trim needs them");
        drop(released);
        let mut storage = writer.join().unwrap();
        storage.checkpoint(Reason::Space).unwrap();
        assert_eq!(segments(), 1);
        assert_eq!(storage.get_compacted_idx().unwrap(), 8);
    }

    #[test]
    fn the_failure_of_a_checkpoint_is_the_error_of_the_next_write() {
        let folder = tempfile::tempdir().unwrap();
        let mut storage = open(folder.path());
        fs::rename(folder.path().join("database"), folder.path().join("moved")).unwrap();
        let database = Arc::clone(&storage.database);
        let mut write = || storage.append_entry(Bytes(vec![1; 100 << 10]));
        // The third one does not fit in the file of the journal.
        for _ in 0..3 {
            write().unwrap();
        }
        while database.check().is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
        let error = write().unwrap_err();
        assert!(error.to_string().starts_with("could not list"), "{error}");
        let again = write().unwrap_err();
        assert!(again.to_string().contains(&error.to_string()), "{again}");
        let cause = find_cause(&*again);
        assert!(matches!(cause, Some(StorageError::Poisoned { .. })), "{again}");
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
        background.order(Order::Sync(folder.path().join("lock")));
        assert!(background.next(Wait::UntilWritten).unwrap().is_none());
        background.order(Order::Sync(folder.path().join("no file")));
        let pending = storage.prepare_checkpoint(Reason::FullJournal);
        background.order(Order::Checkpoint(Box::new(pending)));
        let error = background.next(Wait::UntilWritten).unwrap_err().to_string();
        assert!(error.contains("could not sync") && error.contains("no file"), "{error}");
        let error = background.next(Wait::UntilWritten).unwrap_err().to_string();
        assert!(error.contains("has ended"), "{error}");
        assert_eq!(stored(), before);
    }
}
