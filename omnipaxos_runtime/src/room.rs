//! Room for the bytes of entries that wait for the replica.

use std::{
    panic::{catch_unwind, AssertUnwindSafe},
    pin::pin,
    sync::Arc,
};
use tokio::sync::{futures::Notified, Notify, Semaphore, TryAcquireError};

/// The largest number of bytes of entries that wait for the replica, as `Entry::size_hint` counts them.
const MAX_BYTES: u32 = 32 * 1024 * 1024;

/// A larger entry takes no more. So it finds room more easily, though it may be overtaken by smaller ones.
const MOST_OF_ONE: u32 = MAX_BYTES / 8;

/// The bytes of entries that may wait for the replica.
///
/// A call that waits holds none: its future may be kept and not polled.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    free: Semaphore,
    /// Notifies all that wait when something becomes free, here or in the queue.
    freed: Notify,
}

/// The room that an entry takes until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    bytes: u32,
    of: Room,
}

impl Room {
    pub(crate) fn new() -> Self {
        let free = Semaphore::new(MAX_BYTES as usize);
        Self(Arc::new(Shared { free, freed: Notify::new() }))
    }

    /// Waits until there is room for so many bytes, or the node has ended. Others may take it afterwards.
    pub(crate) async fn wait_for(&self, bytes: usize) {
        while !self.has(bytes) {
            let mut freed = pin!(self.freed());
            // What becomes free from here on notifies this call.
            freed.as_mut().enable();
            if self.has(bytes) {
                return;
            }
            freed.await;
        }
    }

    /// Waits until something becomes free, here or in the queue, or the node ends.
    pub(crate) fn freed(&self) -> Notified<'_> {
        self.0.freed.notified()
    }

    /// Notifies all that wait, since the queue has become shorter.
    pub(crate) fn queue_is_shorter(&self) {
        self.0.freed.notify_waiters();
    }

    fn has(&self, bytes: usize) -> bool {
        let Shared { free, .. } = &*self.0;
        free.is_closed() || free.available_permits() >= counted(bytes) as usize
    }

    /// Takes room for so many bytes. `None` if there is not enough now. After the end of the node there is.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<Taken> {
        let bytes = counted(bytes);
        match self.0.free.try_acquire_many(bytes) {
            Ok(permit) => permit.forget(),
            Err(TryAcquireError::Closed) => {}
            Err(TryAcquireError::NoPermits) => return None,
        }
        Some(Taken { bytes, of: self.clone() })
    }

    /// Lets nobody wait any more, since the node has ended.
    pub(crate) fn close(&self) {
        self.0.free.close();
        self.0.freed.notify_waiters();
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let Shared { free, freed } = &*self.of.0;
        if !free.is_closed() {
            free.add_permits(self.bytes as usize);
            freed.notify_waiters();
        }
    }
}

/// Returns the bytes that an entry takes.
fn counted(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(MOST_OF_ONE).min(MOST_OF_ONE)
}

/// Counts the bytes of an entry with code of the user. If that panics, the entry takes no room: the replica counts
/// again, and a panic there ends the node.
pub(crate) fn count(bytes: impl FnOnce() -> usize) -> usize {
    catch_unwind(AssertUnwindSafe(bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Room, Taken, MOST_OF_ONE};
    use std::{
        future::{poll_fn, Future},
        pin::pin,
        task::Poll,
    };
    use tokio::{join, task::yield_now};

    const LARGE: usize = MOST_OF_ONE as usize;

    /// Takes all of it.
    fn filled(room: &Room) -> Vec<Taken> {
        let taken = (0..8).map(|_| room.try_take(LARGE).expect("there is room")).collect();
        assert!(room.try_take(1).is_none());
        taken
    }

    /// Returns whether a future is ready when it is polled once.
    async fn is_ready(future: impl Future) -> bool {
        let mut future = pin!(future);
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn who_waits_and_is_not_polled_keeps_nobody_waiting() {
        let room = Room::new();
        let mut taken = filled(&room);
        let mut waits = pin!(room.wait_for(usize::MAX));
        assert!(!is_ready(waits.as_mut()).await);
        taken.pop();
        // It could have all that is free, and is not polled.
        let small = room.try_take(1);
        assert!(small.is_some() && is_ready(room.wait_for(1)).await);
        assert!(!is_ready(waits.as_mut()).await, "a byte is missing");
        drop(small);
        assert!(is_ready(waits).await);
    }

    #[tokio::test]
    async fn all_that_wait_are_notified() {
        let room = Room::new();
        let taken = filled(&room);
        let frees = async {
            yield_now().await;
            drop(taken);
        };
        join!(room.wait_for(LARGE), room.wait_for(LARGE), frees);
        let _taken = filled(&room);
        let closes = async {
            yield_now().await;
            room.close();
        };
        join!(room.wait_for(1), closes);
        assert!(room.try_take(usize::MAX).is_some());
    }
}
