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

    pub(super) fn is_connected(&self) -> bool {
        self.lock().is_connected
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

#[cfg(test)]
mod tests {
    use super::{Counters, Queue, Settings};
    use crate::tcp::security::Security;
    use omnipaxos::{
        messages::Message,
        storage::{Entry, NoSnapshot},
        ClusterConfig, OmniPaxos, ServerConfig,
    };
    use omnipaxos_storage::memory_storage::MemoryStorage;
    use serde::{Deserialize, Serialize};
    use std::time::Duration;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Text(String);

    impl Entry for Text {
        type Snapshot = NoSnapshot;
        omnipaxos::without_unicache!();
    }

    /// The messages of a server that forwards an entry of this length.
    fn messages(bytes: usize) -> Vec<Message<Text>> {
        let cluster =
            ClusterConfig { configuration_id: 1, nodes: vec![1, 2], ..Default::default() };
        let mut servers: Vec<OmniPaxos<Text, MemoryStorage<Text>>> = (1..=2)
            .map(|pid| {
                let server = ServerConfig { pid, ..Default::default() };
                cluster.clone().build_for_server(server, MemoryStorage::default()).unwrap()
            })
            .collect();
        for _ in 0..40 {
            servers.iter_mut().for_each(OmniPaxos::tick);
            for at in [0, 1, 0, 1] {
                for message in servers[at].outgoing_messages() {
                    servers[1 - at].handle_incoming(message);
                }
            }
        }
        servers.iter_mut().for_each(|server| server.append(Text("x".repeat(bytes))).unwrap());
        let mut messages = Vec::new();
        servers.iter_mut().for_each(|server| server.take_outgoing_messages(&mut messages));
        messages
    }

    fn settings(max_frame_bytes: usize, max_queued_bytes: usize) -> Settings {
        let idle_timeout = Duration::from_secs(60);
        Settings {
            own: 1,
            application_version: 0,
            max_frame_bytes,
            max_queued_bytes,
            idle_timeout,
            announcement: Vec::new().into(),
            security: Security::none(),
        }
    }

    #[tokio::test]
    async fn frames_wait_only_with_a_connection_and_up_to_the_limit() {
        let (queue, counters) = (Queue::default(), Counters::default());
        let settings = settings(10_000, 2000);
        queue.push(messages(500).into_iter(), &settings, &counters);
        assert!(queue.lock().bytes.is_empty(), "there is no connection");
        queue.connect();
        for _ in 0..100 {
            queue.push(messages(500).into_iter(), &settings, &counters);
        }
        let waiting = queue.lock().bytes.len();
        assert!((2000..3000).contains(&waiting), "{waiting} bytes wait");
        assert!(counters.dropped.get() > 50);
        let mut frames = Vec::new();
        queue.take(&mut frames).await;
        assert_eq!(frames.len(), waiting);
        queue.push(messages(500).into_iter(), &settings, &counters);
        queue.disconnect();
        assert!(queue.lock().bytes.is_empty());
        assert_eq!(counters.too_large.get(), 0);
    }

    #[tokio::test]
    async fn a_message_larger_than_a_frame_is_dropped() {
        let (queue, counters) = (Queue::default(), Counters::default());
        queue.connect();
        queue.push(messages(5000).into_iter(), &settings(2000, 10_000), &counters);
        assert!(counters.too_large.get() >= 1);
        assert!(queue.lock().bytes.len() < 5000);
    }
}
