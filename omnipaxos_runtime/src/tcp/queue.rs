//! The frames that wait for one peer.

use super::{
    frame::{self, FrameError, KEPT_BYTES},
    Settings,
};
use omnipaxos::{messages::Message, storage::Entry};
use serde::Serialize;
use std::sync::{
    atomic::{AtomicU64, Ordering},
    Mutex, MutexGuard, PoisonError,
};
use tokio::sync::Notify;

/// A number of events.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a transport has dropped and refused.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) dropped: Counter,
    pub(super) too_large: Counter,
    pub(super) refused: Counter,
    pub(super) malformed: Counter,
}

/// The encoded frames that wait for one peer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: Mutex<Frames>,
    has_frames: Notify,
}

#[derive(Debug, Default)]
struct Frames {
    /// Without a connection nothing waits: the messages would be stale when it is there.
    is_connected: bool,
    bytes: Vec<u8>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encodes messages. Those for which there is no room are dropped, and all without a connection.
    pub(super) fn push<T: Entry + Serialize>(
        &self,
        messages: impl Iterator<Item = Message<T>>,
        settings: &Settings,
        counters: &Counters,
    ) {
        let mut frames = self.lock();
        if !frames.is_connected {
            return messages.for_each(drop);
        }
        for message in messages {
            if frames.bytes.len() >= settings.max_queued_bytes {
                counters.dropped.add_one();
                continue;
            }
            match frame::encode(&message, settings.max_frame_bytes, &mut frames.bytes) {
                Ok(()) => {}
                Err(error) => {
                    counters.too_large.add_one();
                    log(&message, &error);
                }
            }
        }
        if !frames.bytes.is_empty() {
            self.has_frames.notify_one();
        }
    }

    /// Begins to keep frames: there is a connection.
    pub(super) fn connect(&self) {
        *self.lock() = Frames { is_connected: true, bytes: Vec::new() };
    }

    /// Drops all frames: the connection is lost.
    pub(super) fn disconnect(&self) {
        *self.lock() = Frames::default();
    }

    /// Waits for frames, and swaps them for the written ones in `written`, which is cleared.
    pub(super) async fn take(&self, written: &mut Vec<u8>) {
        written.clear();
        if written.capacity() > KEPT_BYTES {
            *written = Vec::new();
        }
        loop {
            // A notification that comes between the check and the wait is stored.
            let has_frames = self.has_frames.notified();
            {
                let mut frames = self.lock();
                if !frames.bytes.is_empty() {
                    std::mem::swap(&mut frames.bytes, written);
                    return;
                }
            }
            has_frames.await;
        }
    }
}

fn log<T: Entry>(message: &Message<T>, error: &FrameError) {
    let to = message.get_receiver();
    tracing::warn!("cannot send a message to server {to}: {error}");
}
