//! Room for bytes in a queue.

use std::{
    panic::{catch_unwind, AssertUnwindSafe},
    sync::Arc,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// The largest number of bytes that wait in a queue, as their sender counts them.
const MAX_BYTES: u32 = 32 * 1024 * 1024;

/// The bytes that may wait in one queue. Something larger than all of them waits until it is alone.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Semaphore>);

/// The room that something takes in a queue, until this is dropped. It is `None` if it takes none.
pub(crate) type Taken = Option<OwnedSemaphorePermit>;

impl Room {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_BYTES as usize)))
    }

    /// Takes room for so many bytes, once there is some. It takes none if the queue is closed.
    pub(crate) async fn take(&self, bytes: usize) -> Taken {
        self.0.clone().acquire_many_owned(counted(bytes)).await.ok()
    }

    /// Takes room for so many bytes. `None` if there is not enough now. It takes none if the queue is closed.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<Taken> {
        match self.0.clone().try_acquire_many_owned(counted(bytes)) {
            Ok(taken) => Some(Some(taken)),
            Err(TryAcquireError::Closed) => Some(None),
            Err(TryAcquireError::NoPermits) => None,
        }
    }

    /// Lets nobody wait any more, since the queue is closed. A call that has room, and is not polled, may keep it.
    pub(crate) fn close(&self) {
        self.0.close();
    }
}

/// Counts the bytes of an entry with code of the user. If that panics, the entry takes no room: the replica counts
/// again, and a panic there ends the node.
pub(crate) fn count(bytes: impl FnOnce() -> usize) -> usize {
    catch_unwind(AssertUnwindSafe(bytes)).unwrap_or_default()
}

fn counted(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(MAX_BYTES).min(MAX_BYTES)
}
