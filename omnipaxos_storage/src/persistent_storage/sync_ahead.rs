//! Syncs the commit log ahead of its checkpoints, in a thread.
//!
//! A checkpoint syncs the log on the thread that calls the storage. That thread would wait there for all
//! bytes of a full journal, up to 16 MiB. So another thread syncs them while they come.
//!
//! What it syncs counts for nothing: the checkpoint syncs all of it again. But a failure counts. A disk may
//! report it only once.

use super::files::open_to_sync;
use std::{
    io,
    path::PathBuf,
    sync::{
        mpsc::{channel, Receiver, Sender, TryRecvError},
        Mutex, PoisonError,
    },
    thread,
};

/// The number of bytes after which the thread syncs.
const STEP_BYTES: u64 = 1 << 20;

/// What syncs ahead.
#[derive(Debug, Default)]
pub(super) struct SyncAhead {
    /// Started when it is needed.
    thread: Option<Syncer>,
    /// Whether the thread syncs, or its result was not taken.
    is_busy: bool,
    /// The number of bytes that were appended since the last sync, and since the thread got a file.
    unsynced: u64,
}

/// A thread that syncs files. It ends when this is dropped, and its last sync has ended: nobody waits for
/// that, since the disk may have failed.
#[derive(Debug)]
struct Syncer {
    files: Sender<PathBuf>,
    /// A storage is `Sync`, so it is behind a lock.
    results: Mutex<Receiver<io::Result<()>>>,
}

impl SyncAhead {
    /// Notes that bytes were appended to the file at `path`. If there are many, and the thread is idle, the
    /// thread syncs that file.
    ///
    /// # Errors
    /// A sync of the thread failed.
    pub(super) fn appended(&mut self, bytes: u64, path: impl Fn() -> PathBuf) -> io::Result<()> {
        self.unsynced += bytes;
        if let Some(thread) = self.thread.as_mut().filter(|_| self.is_busy) {
            match thread.results().try_recv() {
                Err(TryRecvError::Empty) => return Ok(()),
                ended => {
                    self.is_busy = false;
                    ended.unwrap_or(Ok(()))?;
                }
            }
        }
        if self.unsynced < STEP_BYTES {
            return Ok(());
        }
        self.thread = self.thread.take().or_else(Syncer::start);
        // Without a thread the checkpoint syncs more, and the next append starts one.
        self.thread.take_if(|thread| thread.files.send(path()).is_err());
        if self.thread.is_some() {
            (self.is_busy, self.unsynced) = (true, 0);
        }
        Ok(())
    }

    /// Waits until the thread is idle. The caller syncs all that was appended.
    ///
    /// # Errors
    /// A sync of the thread failed.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.unsynced = 0;
        match self.thread.as_mut().filter(|_| std::mem::take(&mut self.is_busy)) {
            Some(thread) => thread.results().recv().unwrap_or(Ok(())),
            None => Ok(()),
        }
    }
}

impl Syncer {
    /// Starts the thread; `None` if that fails.
    fn start() -> Option<Self> {
        let (files, inbox) = channel::<PathBuf>();
        let (outbox, results) = channel();
        let sync_each = move || {
            for path in inbox {
                // If the file cannot be opened, the checkpoint notices.
                let result = open_to_sync(&path).map_or(Ok(()), |file| file.sync_data());
                if outbox.send(result).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("omnipaxos log sync".to_string());
        thread.spawn(sync_each).ok().map(|_| Self { files, results: Mutex::new(results) })
    }

    fn results(&mut self) -> &Receiver<io::Result<()>> {
        self.results.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{SyncAhead, Syncer, STEP_BYTES};
    use std::{
        io,
        path::PathBuf,
        sync::{mpsc::channel, Mutex},
    };

    #[test]
    fn the_thread_gets_a_file_after_many_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        std::fs::write(&file, "some bytes").unwrap();
        let mut ahead = SyncAhead::default();
        ahead.appended(STEP_BYTES - 1, || panic!("these are not enough")).unwrap();
        ahead.finish().unwrap();
        ahead.appended(STEP_BYTES - 1, || panic!("the caller has synced the others")).unwrap();
        assert!(ahead.thread.is_none(), "it is not needed yet");
        for path in [file, folder.path().join("removed")] {
            ahead.appended(STEP_BYTES, || path.clone()).unwrap();
            assert!(ahead.is_busy, "it syncs {path:?}");
            ahead.finish().unwrap();
            assert!(!ahead.is_busy, "{path:?} is synced");
        }
    }

    #[test]
    fn a_failed_sync_is_reported_once_it_is_known() {
        let failing = || {
            let (files, inbox) = channel();
            let (outbox, results) = channel();
            let thread = Some(Syncer { files, results: Mutex::new(results) });
            (SyncAhead { thread, ..SyncAhead::default() }, inbox, outbox)
        };
        let path = || PathBuf::from("log");
        for finishes in [false, true] {
            let (mut ahead, inbox, outbox) = failing();
            ahead.appended(STEP_BYTES, path).unwrap();
            ahead.appended(STEP_BYTES, || panic!("the thread is busy")).unwrap();
            assert_eq!(inbox.try_iter().count(), 1);
            outbox.send(Err(io::Error::other("the disk is broken"))).unwrap();
            let reported = match finishes {
                true => ahead.finish(),
                false => ahead.appended(1, path),
            };
            assert_eq!(reported.unwrap_err().to_string(), "the disk is broken");
            ahead.finish().unwrap();
        }
    }
}
