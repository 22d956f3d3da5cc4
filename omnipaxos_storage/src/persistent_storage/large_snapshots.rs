//! Large snapshots, which a separate thread writes while the storage writes batches.
//!
//! A compaction that may become durable later takes effect in memory at once. Until the file of its
//! snapshot is durable, every batch contains the earlier compaction: the earlier snapshot and
//! index. The log keeps all entries after it, and no segment with one of them is removed. So a
//! crash leaves the earlier compaction or the later one, and all other changes of all batches in
//! both cases. The core ensures that both represent the same state (`Storage::write_compaction`).
//!
//! At most two snapshots are in memory: the one that is being written, and the last one, which
//! waits for it. A later one replaces the one that waits, since it stands for the same entries and
//! further ones. So no call waits for the disk, and memory is bounded.
//!
//! A snapshot from another server supersedes both. Its file is durable, so its batch waits for
//! nothing. The thread continues its write, and the next snapshot waits for it.

use super::{
    batch::{SnapshotRef, State},
    codec,
    error::StorageError,
    snapshot_bytes::FileBytes,
    snapshot_files::SnapshotFiles,
    worker::{Task, Worker},
};
use omnipaxos::storage::Entry;
use serde::{de::DeserializeOwned, Serialize};
use std::{
    any::Any,
    fmt,
    io::Read,
    panic::{RefUnwindSafe, UnwindSafe},
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

/// Returns the bytes of a snapshot, on any thread.
pub(super) type Encode =
    Box<dyn FnOnce() -> Result<Arc<Vec<u8>>, StorageError> + Send + Sync + UnwindSafe>;

/// A decoded snapshot on its way between threads, or `()` if its type may not leave its thread.
pub(super) type Decoded = Box<dyn Any + Send + Sync + UnwindSafe + RefUnwindSafe>;

/// Decodes a snapshot that takes all bytes of a reader, on any thread.
pub(super) type Decode = fn(&mut dyn Read, u64) -> Result<Decoded, StorageError>;

/// The compacted part of a log.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) struct Compacted {
    pub(super) idx: u64,
    /// Position of the first entry held.
    pub(super) first: u64,
    pub(super) snapshot: Option<SnapshotRef>,
}

impl Compacted {
    pub(super) fn of(state: &State) -> Self {
        Self { idx: state.compacted_idx, first: state.first, snapshot: state.snapshot }
    }

    /// Returns the state with this compaction instead of its own.
    pub(super) fn in_state(self, state: &State) -> State {
        let Self { idx, first, snapshot } = self;
        State { compacted_idx: idx, first, snapshot, ..state.clone() }
    }
}

/// A snapshot in memory.
pub(super) enum InMemory<T> {
    Encoded(Arc<Vec<u8>>),
    Value(Arc<dyn Value<T> + Send + Sync + UnwindSafe + RefUnwindSafe>),
}

/// A snapshot that is not encoded yet.
pub(super) trait Value<T> {
    fn snapshot(&self) -> T::Snapshot
    where
        T: Entry;

    /// Returns the snapshot, without a clone if nothing else refers to it.
    fn into_snapshot(self: Arc<Self>) -> T::Snapshot
    where
        T: Entry;
}

/// A snapshot and the thread that encodes it share it.
struct Shared<S>(Arc<S>);

impl<S> Shared<S> {
    fn get(&self) -> &S {
        &self.0
    }
}

impl<T: Entry> Value<T> for Shared<T::Snapshot> {
    fn snapshot(&self) -> T::Snapshot {
        self.get().clone()
    }

    fn into_snapshot(self: Arc<Self>) -> T::Snapshot {
        let shared = Arc::try_unwrap(self).unwrap_or_else(|this| Shared(Arc::clone(&this.0)));
        Arc::try_unwrap(shared.0).unwrap_or_else(|shared| T::Snapshot::clone(&shared))
    }
}

// A panic while the snapshot is encoded or cloned cannot change it: both only read it. What interior
// mutability it has is its own.
impl<S> UnwindSafe for Shared<S> {}
impl<S> RefUnwindSafe for Shared<S> {}

impl<T: Entry> InMemory<T>
where
    T::Snapshot: DeserializeOwned,
{
    pub(super) fn snapshot(&self) -> Result<T::Snapshot, StorageError> {
        match self {
            InMemory::Encoded(bytes) => codec::decode("a snapshot", bytes),
            InMemory::Value(value) => Ok(value.snapshot()),
        }
    }

    /// Returns the snapshot, without a clone if nothing else refers to it.
    pub(super) fn into_snapshot(self) -> Result<T::Snapshot, StorageError> {
        match self {
            InMemory::Encoded(bytes) => codec::decode("a snapshot", &bytes),
            InMemory::Value(value) => Ok(value.into_snapshot()),
        }
    }
}

/// Moves the encoding of snapshots to another thread, for the types that allow it.
pub(super) trait Encoder<T> {
    /// Returns the job that encodes the snapshot on another thread, and the snapshot itself.
    fn defer(&self, snapshot: T::Snapshot, reads_back: bool) -> (Encode, InMemory<T>)
    where
        T: Entry;

    /// Returns the function that decodes a snapshot on another thread.
    fn decoder(&self) -> Decode;

    /// Returns the snapshot that this function has decoded.
    fn decoded(&self, decoded: Decoded) -> Option<InMemory<T>>;
}

/// The encoder of all types whose snapshots can be shared with a thread.
#[derive(Debug)]
pub(super) struct OnThread;

impl<T: Entry> Encoder<T> for OnThread
where
    T::Snapshot: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn defer(&self, snapshot: T::Snapshot, reads_back: bool) -> (Encode, InMemory<T>) {
        let snapshot = Arc::new(snapshot);
        let shared = Shared(Arc::clone(&snapshot));
        let encode = move || {
            let bytes = codec::encode("a snapshot", shared.get())?;
            if reads_back {
                codec::check_round_trip::<T::Snapshot>("a snapshot", &bytes)?;
            }
            Ok(Arc::new(bytes))
        };
        (Box::new(encode), InMemory::Value(Arc::new(Shared(snapshot))))
    }

    fn decoder(&self) -> Decode {
        |bytes, len| {
            let snapshot: T::Snapshot = codec::decode_from("a snapshot", bytes, len)?;
            Ok(Box::new(Shared(Arc::new(snapshot))))
        }
    }

    fn decoded(&self, decoded: Decoded) -> Option<InMemory<T>> {
        let decoded: Box<dyn Any + Send + Sync> = decoded;
        let shared: Box<Shared<T::Snapshot>> = decoded.downcast().ok()?;
        Some(InMemory::Value(Arc::new(*shared)))
    }
}

/// A compaction whose snapshot is to be written.
pub(super) struct Order<T> {
    /// The compaction. The reference to its snapshot is not known before it is encoded.
    pub(super) compacted: Compacted,
    /// The id of the snapshot.
    pub(super) id: u64,
    pub(super) encode: Encode,
    pub(super) snapshot: InMemory<T>,
}

/// A snapshot that the thread for snapshots writes.
type Writer = Task<Result<Written, StorageError>>;

/// Compactions that are in effect in memory, and not durable.
pub(super) struct Deferred<T> {
    /// The compaction that batches contain meanwhile.
    durable: Compacted,
    /// The compaction whose snapshot is being written; `None` if it is superseded.
    next: Option<Compacted>,
    writer: Writer,
    /// The last compaction, whose snapshot is written after that one.
    waiting: Option<(Compacted, u64, Encode)>,
    /// The last snapshot.
    snapshot: InMemory<T>,
}

/// A snapshot in a file that is synced.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) reference: SnapshotRef,
    pub(super) file: FileBytes,
}

/// Whether to wait until the snapshots are written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    No,
    UntilWritten,
}

/// A snapshot that is being written, and not wanted any more.
#[derive(Debug)]
pub(super) struct Superseded(Writer);

impl Superseded {
    /// Returns whether it was written, or that failed.
    pub(super) fn has_ended(&self) -> bool {
        self.0.has_ended()
    }

    /// Waits until it is written. Returns the snapshot if it has a file. A failure does not matter: nothing
    /// refers to the file.
    pub(super) fn end(self) -> Option<SnapshotRef> {
        Some(self.0.join()?.ok()?.reference)
    }
}

/// The state of the deferred compactions.
pub(super) enum Progress {
    Pending,
    /// A superseded snapshot was written, if it has a file, and the one that waited is being written.
    Superseded(Option<SnapshotRef>),
    /// This snapshot is durable, and the one that waited is being written.
    Continues(FileBytes),
    /// The last snapshot is durable: this one.
    Ended(Written),
}

impl<T> Deferred<T> {
    /// Begins to write a snapshot. Until it is durable, `durable` is the compaction on the disk.
    pub(super) fn begin(
        worker: &mut Worker,
        files: &SnapshotFiles,
        durable: Compacted,
        order: Order<T>,
    ) -> Result<Self, StorageError> {
        let Order { compacted: next, id, encode, snapshot } = order;
        let writer = start(worker, files, id, next.idx, encode)?;
        Ok(Self { durable, next: Some(next), writer, waiting: None, snapshot })
    }

    /// Makes a snapshot the one that is written after a superseded one.
    pub(super) fn after(superseded: Superseded, durable: Compacted, order: Order<T>) -> Self {
        let Order { compacted, id, encode, snapshot } = order;
        let waiting = Some((compacted, id, encode));
        Self { durable, next: None, writer: superseded.0, waiting, snapshot }
    }

    /// Drops the compactions, since a durable snapshot replaces them. Returns the one that is still being written.
    pub(super) fn supersede(self) -> Superseded {
        Superseded(self.writer)
    }

    /// Adds a later compaction. It replaces one that waits.
    pub(super) fn add(&mut self, order: Order<T>) {
        let Order { compacted, id, encode, snapshot } = order;
        self.snapshot = snapshot;
        self.waiting = Some((compacted, id, encode));
    }

    /// Returns the compaction that batches contain now.
    pub(super) fn durable(&self) -> Compacted {
        self.durable
    }

    /// Returns whether a later snapshot waits for the one that is being written.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Returns the last snapshot.
    pub(super) fn snapshot(&self) -> &InMemory<T> {
        &self.snapshot
    }

    /// Waits until the snapshot is written. Its result does not matter any more.
    pub(super) fn end(self) {
        let _ = self.writer.join();
    }
}

/// Checks whether the snapshot that is being written is durable, and then begins the one that waits.
///
/// # Errors
/// The snapshot could not be written. The disk holds the compaction before it.
pub(super) fn poll<T>(
    deferred: &mut Option<Deferred<T>>,
    worker: &mut Worker,
    files: &SnapshotFiles,
    wait: Wait,
) -> Result<Progress, StorageError> {
    let Some(Deferred { durable, next, writer, waiting, snapshot }) =
        deferred.take_if(|deferred| wait == Wait::UntilWritten || deferred.writer.has_ended())
    else {
        return Ok(Progress::Pending);
    };
    let Some(next) = next else {
        let unneeded = Superseded(writer).end();
        if let Some((compacted, id, encode)) = waiting {
            let order = Order { compacted, id, encode, snapshot };
            *deferred = Some(Deferred::begin(worker, files, durable, order)?);
        }
        return Ok(Progress::Superseded(unneeded));
    };
    let written = writer.join().ok_or_else(|| {
        StorageError::code("write", "a snapshot")("code that its thread called panicked")
    })??;
    match waiting {
        None => Ok(Progress::Ended(written)),
        Some((compacted, id, encode)) => {
            let durable = Compacted { snapshot: Some(written.reference), ..next };
            let order = Order { compacted, id, encode, snapshot };
            *deferred = Some(Deferred::begin(worker, files, durable, order)?);
            Ok(Progress::Continues(written.file))
        }
    }
}

impl<T> fmt::Debug for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred")
            .field("durable", &self.durable)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// Begins to write a snapshot of the first `idx` entries.
fn start(
    worker: &mut Worker,
    files: &SnapshotFiles,
    id: u64,
    idx: u64,
    encode: Encode,
) -> Result<Writer, StorageError> {
    let used = files.clone();
    let write = move || {
        let bytes = encode()?;
        let contents = used.write(id, &bytes)?;
        let reference = contents.reference(id);
        Ok(Written { reference, file: FileBytes::open(used.path(id), id, idx, contents)? })
    };
    worker.run(&files.path(id), write)
}

/// Removes the files of snapshots that nothing refers to, from another thread: that may take long.
pub(super) fn remove(
    files: &SnapshotFiles,
    ids: Vec<u64>,
) -> Result<JoinHandle<Result<(), StorageError>>, StorageError> {
    let used = files.clone();
    let first = ids.first().copied().unwrap_or_default();
    let remove = move || ids.into_iter().try_for_each(|id| used.remove(id));
    spawn(&files.path(first), "omnipaxos removal", remove)
}

pub(super) fn spawn<R: Send + 'static>(
    path: &Path,
    name: &str,
    run: impl FnOnce() -> R + Send + 'static,
) -> Result<JoinHandle<R>, StorageError> {
    thread::Builder::new()
        .name(name.to_string())
        .spawn(run)
        .map_err(StorageError::io("start a thread for", path))
}
