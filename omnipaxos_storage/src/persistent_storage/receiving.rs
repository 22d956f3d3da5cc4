//! A snapshot from another server, which a thread writes and decodes while batches are written.
//!
//! The parts go to the thread, which writes them to a file like that of any large snapshot, and syncs it
//! in steps. When all bytes are there, it decodes them from the file. Until a batch refers to the file,
//! it does not count: it is removed when the snapshot is not wanted, and by the next opening after a
//! crash.
//!
//! The value that the thread decodes stays in memory until the first call that reads the snapshot, if it
//! may leave the thread: `PersistentStorage::with_background_encoding` requires that of the type.
//! Otherwise the thread drops it.

use super::{
    batch::SnapshotRef,
    codec,
    error::StorageError,
    large_snapshots::{spawn, Decode, Decoded},
    snapshot_bytes::Contents,
    snapshot_files::{SnapshotFiles, STEP_BYTES},
};
use omnipaxos::storage::Reception;
use serde::de::DeserializeOwned;
use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read, Write},
    path::Path,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
        Arc, Mutex, PoisonError,
    },
    thread::{self, JoinHandle},
};

/// Decodes a snapshot and drops it: its type need not be allowed to leave the thread.
pub(super) fn check<S: DeserializeOwned>(
    bytes: &mut dyn Read,
    len: u64,
) -> Result<Decoded, StorageError> {
    codec::decode_from::<S>("a snapshot", bytes, len).map(|_value| Box::new(()) as Decoded)
}

/// A snapshot that is received.
pub(super) struct Receiving {
    /// Closed when the snapshot is not wanted any more.
    parts: Sender<Vec<u8>>,
    shared: Arc<Shared>,
    /// None after its end.
    thread: Option<JoinHandle<()>>,
    complete: Option<Complete>,
}

/// What both threads see.
#[derive(Default)]
struct Shared {
    /// Number of bytes that are written.
    written: AtomicU64,
    is_unwanted: AtomicBool,
    /// Set at the end of the thread, unless it panics or the snapshot is unwanted.
    outcome: Mutex<Option<Result<Received, StorageError>>>,
}

impl Shared {
    fn is_unwanted(&self) -> bool {
        self.is_unwanted.load(Ordering::Acquire)
    }
}

/// What became of the snapshot.
enum Received {
    Complete(Complete),
    Undecodable,
}

/// A snapshot in a file that is synced.
pub(super) struct Complete {
    file: UnusedFile,
    contents: Contents,
    decoded: Decoded,
}

impl Complete {
    /// Returns the reference of the batch that makes it the snapshot of the storage.
    pub(super) fn reference(&self) -> SnapshotRef {
        self.contents.reference(self.file.id)
    }

    /// Keeps the file: a batch is about to refer to it.
    pub(super) fn keep(self) -> (Contents, Decoded) {
        let Self { mut file, contents, decoded } = self;
        file.is_used = true;
        (contents, decoded)
    }
}

/// A file that is removed when this is dropped, unless it is used.
struct UnusedFile {
    files: SnapshotFiles,
    id: u64,
    is_used: bool,
}

impl Drop for UnusedFile {
    fn drop(&mut self) {
        if !self.is_used {
            // The next opening removes what stays.
            let _ = self.files.discard(self.id);
        }
    }
}

impl Receiving {
    /// Begins to receive a snapshot of `len` bytes.
    pub(super) fn begin(
        files: &SnapshotFiles,
        id: u64,
        len: u64,
        decode: Decode,
    ) -> Result<Self, StorageError> {
        let (sender, parts) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let file = UnusedFile { files: files.clone(), id, is_used: false };
        let there = Arc::clone(&shared);
        let run = move || {
            let received = receive(file, len, &parts, &there, decode);
            if !there.is_unwanted() {
                let mut outcome = there.outcome.lock().unwrap_or_else(PoisonError::into_inner);
                *outcome = received.transpose();
            }
        };
        let thread = spawn(&files.path(id), "omnipaxos reception", run)?;
        Ok(Self { parts: sender, shared, thread: Some(thread), complete: None })
    }

    /// Passes the next part on.
    pub(super) fn add(&self, part: Vec<u8>) {
        // If the thread has ended, the next question returns why.
        let _ = self.parts.send(part);
    }

    /// Returns how far the thread is.
    pub(super) fn poll(&mut self) -> Result<Reception, StorageError> {
        if self.complete.is_some() {
            return Ok(Reception::Ready);
        }
        let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) else {
            let written = self.shared.written.load(Ordering::Acquire);
            return Ok(Reception::Pending { written });
        };
        // A panic is one of the code that decodes.
        let _ = thread.join();
        let mut outcome = self.shared.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome.take().transpose()? {
            Some(Received::Complete(complete)) => {
                self.complete = Some(complete);
                Ok(Reception::Ready)
            }
            Some(Received::Undecodable) | None => Ok(Reception::Undecodable),
        }
    }

    /// Returns the snapshot, if it is complete.
    pub(super) fn into_complete(self) -> Option<Complete> {
        self.complete
    }

    /// Drops the snapshot and its file. Returns a thread that ends soon.
    pub(super) fn end(self) -> Option<JoinHandle<()>> {
        self.shared.is_unwanted.store(true, Ordering::Release);
        drop(self.parts);
        match self.complete {
            // To remove a file may take long.
            Some(complete) => thread::Builder::new().spawn(move || drop(complete)).ok(),
            None => self.thread,
        }
    }
}

impl fmt::Debug for Receiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiving")
            .field("written", &self.shared.written)
            .field("is_complete", &self.complete.is_some())
            .finish_non_exhaustive()
    }
}

/// Writes the parts and decodes the whole. `None` if the snapshot is not wanted any more.
fn receive(
    file: UnusedFile,
    len: u64,
    parts: &Receiver<Vec<u8>>,
    shared: &Shared,
    decode: Decode,
) -> Result<Option<Received>, StorageError> {
    let (out, path) = file.files.create(file.id)?;
    let Some(contents) = write(out, &path, len, parts, shared)? else {
        return Ok(None);
    };
    let read = File::open(&path).map_err(StorageError::io("open", &path))?;
    let mut read = BufReader::with_capacity(STEP_BYTES, WhileWanted { read, shared });
    Ok(Some(match decode(&mut read, len) {
        Ok(decoded) => {
            file.files.complete(file.id)?;
            Received::Complete(Complete { file, contents, decoded })
        }
        Err(_not_a_snapshot) => Received::Undecodable,
    }))
}

/// Writes the parts to the file, durably.
fn write(
    mut out: File,
    path: &Path,
    len: u64,
    parts: &Receiver<Vec<u8>>,
    shared: &Shared,
) -> Result<Option<Contents>, StorageError> {
    let mut contents = Contents::default();
    let mut unsynced = 0;
    while contents.len() < len {
        let Some(part) = parts.recv().ok().filter(|_| !shared.is_unwanted()) else {
            return Ok(None);
        };
        contents.push(&part);
        out.write_all(&part).map_err(StorageError::io("write", path))?;
        unsynced += part.len();
        if unsynced >= STEP_BYTES {
            out.sync_data().map_err(StorageError::io("sync", path))?;
            unsynced = 0;
        }
        shared.written.store(contents.len(), Ordering::Release);
    }
    out.sync_all().map_err(StorageError::io("sync", path))?;
    Ok(Some(contents))
}

/// Reads until the snapshot is not wanted any more: the thread then ends soon.
struct WhileWanted<'a> {
    read: File,
    shared: &'a Shared,
}

impl Read for WhileWanted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.shared.is_unwanted() {
            true => Err(io::Error::other("the snapshot is not wanted any more")),
            false => self.read.read(buffer),
        }
    }
}
