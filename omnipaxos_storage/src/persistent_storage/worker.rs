//! A thread that carries out jobs one after the other: it encodes and writes the snapshots of compactions.
//!
//! Snapshots are large, and many allocators keep memory for each thread that has used some. With a thread for
//! each snapshot, glibc's kept that of up to 16 encoded snapshots, on a machine with 2 cores.

use super::error::StorageError;
use std::{
    panic::{catch_unwind, UnwindSafe},
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{channel, Receiver, Sender},
        Arc, Mutex, PoisonError,
    },
    thread::{self, JoinHandle},
};

type Job = Box<dyn FnOnce() + Send>;

/// The thread. The first job starts it, and it ends when this is dropped, after its jobs.
#[derive(Debug, Default)]
pub(super) struct Worker(Option<Running>);

#[derive(Debug)]
struct Running {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

/// A job, and its outcome once it has ended.
#[derive(Debug)]
pub(super) struct Task<R> {
    has_ended: Arc<AtomicBool>,
    /// A storage is `Sync`, so it is behind a lock.
    outcome: Mutex<Receiver<R>>,
}

impl Worker {
    /// Carries out a job after those before it. `path` is what the job is about.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn run<R: Send + 'static>(
        &mut self,
        path: &Path,
        job: impl FnOnce() -> R + Send + UnwindSafe + 'static,
    ) -> Result<Task<R>, StorageError> {
        let running = match &mut self.0 {
            Some(running) => running,
            none => none.insert(Running::start(path)?),
        };
        let has_ended = Arc::new(AtomicBool::new(false));
        let (answer, outcome) = channel();
        let task = Task { has_ended: has_ended.clone(), outcome: Mutex::new(outcome) };
        let ended = Ended(has_ended);
        let job = move || {
            if let Ok(outcome) = catch_unwind(job) {
                // Nobody may wait for it any more.
                let _ = answer.send(outcome);
            }
            drop(ended);
        };
        // The thread ends after `jobs` is dropped, and not before.
        let _ = running.jobs.send(Box::new(job));
        Ok(task)
    }
}

/// Notes the end of a job, also of one that is not carried out.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Running {
    fn start(path: &Path) -> Result<Self, StorageError> {
        let (jobs, inbox) = channel::<Job>();
        let thread = thread::Builder::new()
            .name("omnipaxos snapshot".to_string())
            .spawn(move || inbox.into_iter().for_each(|job| job()))
            .map_err(StorageError::io("start a thread for", path))?;
        Ok(Self { jobs, thread })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(Running { jobs, thread }) = self.0.take() {
            drop(jobs);
            let _ = thread.join();
        }
    }
}

impl<R> Task<R> {
    /// Returns whether the job has ended. Then [`join`](Self::join) does not wait.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Waits until the job has ended. Returns its outcome, or `None` if it panicked.
    pub(super) fn join(self) -> Option<R> {
        self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Worker;
    use std::{path::Path, sync::mpsc::channel, thread};

    #[test]
    fn one_thread_carries_out_all_jobs_in_their_order() {
        let mut worker = Worker::default();
        let (go, wait) = channel();
        let wait = std::sync::Mutex::new(wait);
        let run = move || {
            wait.lock().unwrap().recv().unwrap();
            thread::current().id()
        };
        let first = worker.run(Path::new("first"), run).unwrap();
        let second = worker.run(Path::new("second"), || thread::current().id()).unwrap();
        assert!(!first.has_ended() && !second.has_ended());
        go.send(()).unwrap();
        let thread = second.join().unwrap();
        assert!(first.has_ended());
        assert_eq!(first.join(), Some(thread));
        assert_ne!(thread, thread::current().id());
    }

    #[test]
    fn a_job_that_panics_ends_no_other() {
        let mut worker = Worker::default();
        let bad = worker.run(Path::new("bad"), || panic!("on purpose")).unwrap();
        let good = worker.run(Path::new("good"), || 7).unwrap();
        assert_eq!(good.join(), Some(7));
        assert!(bad.has_ended());
        assert_eq!(bad.join(), None::<()>);
    }

    #[test]
    fn jobs_end_before_the_worker_is_dropped() {
        let mut worker = Worker::default();
        let task =
            worker.run(Path::new("job"), || thread::sleep(std::time::Duration::from_millis(20)));
        drop(worker);
        assert!(task.unwrap().has_ended());
    }
}
