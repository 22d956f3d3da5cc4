//! The thread of the database.
//!
//! After a failure the database may wait forever for a write that cannot succeed: in its flush,
//! and when it is dropped. So it runs in a thread of its own, and its users wait for a bounded
//! time.

use super::error::StorageError;
use omnipaxos::errors::with_causes;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{mpsc, OnceLock},
    thread,
    time::Duration,
};

/// The time limit of one call of the database. The calls are small: see [`DatabaseThread::run`].
const TIMEOUT: Duration = Duration::from_secs(60);

/// The time limit to open the database, which reads it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(600);

/// The time limit for a failed database to end. If it ends, it can be opened again in this process.
const TIMEOUT_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// An open database.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) db: sled::Db,
    pub(super) snapshots: sled::Tree,
}

type Job = Box<dyn FnOnce(&mut Option<Opened>) + Send>;

/// A database in a thread of its own. After its first failure it gets no further call.
#[derive(Debug)]
pub(super) struct DatabaseThread {
    jobs: mpsc::Sender<Job>,
    folder: PathBuf,
    /// The first failure.
    failure: OnceLock<String>,
}

impl DatabaseThread {
    /// Starts the thread, which opens the database.
    pub(super) fn start(
        folder: PathBuf,
        open: impl FnOnce() -> sled::Result<Opened> + Send + 'static,
    ) -> Result<Self, StorageError> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (answer, opened) = mpsc::channel();
        let run = move || {
            let mut database = match open() {
                Ok(database) => Some(database),
                Err(error) => {
                    // The caller may have stopped waiting.
                    let _ = answer.send(Err(error));
                    return;
                }
            };
            if answer.send(Ok(())).is_ok() {
                inbox.into_iter().for_each(|job| job(&mut database));
            }
        };
        thread::Builder::new()
            .name("omnipaxos database".to_string())
            .spawn(run)
            .map_err(StorageError::io("start a thread for", &folder))?;
        match opened.recv_timeout(OPEN_TIMEOUT) {
            Ok(Ok(())) => Ok(Self { jobs, folder, failure: OnceLock::new() }),
            Ok(Err(error)) => Err(StorageError::database("open", folder)(error)),
            Err(silence) => {
                let error = explained(silence, OPEN_TIMEOUT);
                Err(StorageError::database("open", folder)(error))
            }
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Checks that the database can still be used.
    ///
    /// # Errors
    /// It has failed before.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        match self.failure.get() {
            None => Ok(()),
            Some(cause) => Err(StorageError::Poisoned { cause: cause.clone() }),
        }
    }

    /// Runs a job on the database. A working disk needs a few seconds for it at most.
    ///
    /// # Errors
    /// The database failed or does not answer, now or before.
    pub(super) fn run<R: Send + 'static>(
        &self,
        doing: &'static str,
        job: impl FnOnce(&Opened) -> sled::Result<R> + Send + 'static,
    ) -> Result<R, StorageError> {
        self.check()?;
        let (answer, answered) = mpsc::channel();
        let job = move |database: &mut Option<Opened>| {
            if let Some(database) = database {
                let _ = answer.send(job(database));
            }
        };
        // If the thread has ended, there is no answer.
        let _ = self.jobs.send(Box::new(job));
        let result = match answered.recv_timeout(TIMEOUT) {
            Ok(result) => result,
            Err(silence) => Err(explained(silence, TIMEOUT)),
        };
        result
            .map_err(StorageError::database(doing, &self.folder))
            .inspect_err(|error| self.fail(error))
    }

    /// Notes a failure. The database gets no further call.
    pub(super) fn fail(&self, error: &StorageError) {
        self.failure.get_or_init(|| with_causes(error));
    }
}

impl Drop for DatabaseThread {
    /// Ends the database. If it does not end in time, it stays behind with its thread.
    fn drop(&mut self) {
        let (ending, ended) = mpsc::channel::<()>();
        let end = move |database: &mut Option<Opened>| {
            drop(database.take());
            drop(ending);
        };
        let time_limit = if self.failure.get().is_some() { TIMEOUT_AFTER_FAILURE } else { TIMEOUT };
        if self.jobs.send(Box::new(end)).is_ok() {
            let _ = ended.recv_timeout(time_limit);
        }
    }
}

fn explained(silence: mpsc::RecvTimeoutError, time_limit: Duration) -> sled::Error {
    let text = match silence {
        mpsc::RecvTimeoutError::Timeout => {
            format!("it did not answer within {} s", time_limit.as_secs())
        }
        mpsc::RecvTimeoutError::Disconnected => "it panicked".to_string(),
    };
    sled::Error::Io(io::Error::other(text))
}
