//! The queue of what a transport delivers to the replica.

use crate::errors::DeliverError;
use omnipaxos::{messages::Message, storage::Entry, util::NodeId};
use std::sync::Arc;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    OwnedSemaphorePermit, Semaphore,
};

/// The largest number of messages that wait for the replica.
pub(crate) const MAX_MESSAGES: usize = 4096;

/// The largest number of bytes of messages that wait for the replica, as the transport counts them.
pub(crate) const MAX_BYTES: u32 = 32 * 1024 * 1024;

/// What a transport delivers.
#[derive(Debug)]
pub(crate) enum Incoming<T: Entry> {
    /// A message, and the room that it takes in the queue.
    Message(Message<T>, Option<OwnedSemaphorePermit>),
    Connected(NodeId),
    Lost(NodeId),
}

/// The place where a transport delivers messages and reports connections.
///
/// At most 4,096 messages wait for the replica. Those of [`deliver`](Self::deliver) have at most 32
/// MiB in total; a message that is larger waits until it is alone.
#[derive(Debug)]
pub struct Inbox<T: Entry> {
    queue: mpsc::Sender<Incoming<T>>,
    room: Arc<Semaphore>,
}

impl<T: Entry> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), room: self.room.clone() }
    }
}

impl<T: Entry> Inbox<T> {
    /// Creates the queue.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Incoming<T>>) {
        let (queue, receiver) = mpsc::channel(MAX_MESSAGES);
        (Self { queue, room: Arc::new(Semaphore::new(MAX_BYTES as usize)) }, receiver)
    }

    /// Delivers a message that took `bytes` bytes on the network. It waits while there is no room.
    ///
    /// It is cancel-safe: if the future is dropped, the message is delivered or dropped.
    ///
    /// # Errors
    /// [`DeliverError::Ended`] if the node has ended.
    pub async fn deliver(&self, message: Message<T>, bytes: usize) -> Result<(), DeliverError> {
        let bytes = u32::try_from(bytes).unwrap_or(MAX_BYTES).min(MAX_BYTES);
        let room = self.room.clone().acquire_many_owned(bytes).await;
        // The semaphore is never closed.
        let incoming = Incoming::Message(message, room.ok());
        self.queue.send(incoming).await.map_err(|_| DeliverError::Ended)
    }

    /// Delivers a message, without waiting.
    ///
    /// # Errors
    /// - [`DeliverError::Full`] if 4,096 messages wait already: the message was dropped.
    /// - [`DeliverError::Ended`] if the node has ended.
    pub fn try_deliver(&self, message: Message<T>) -> Result<(), DeliverError> {
        self.queue.try_send(Incoming::Message(message, None)).map_err(|error| match error {
            TrySendError::Full(_) => DeliverError::Full,
            TrySendError::Closed(_) => DeliverError::Ended,
        })
    }

    /// Reports a new connection to `peer`: messages on an earlier one may be lost.
    ///
    /// # Errors
    /// [`DeliverError::Ended`] if the node has ended.
    pub async fn connected(&self, peer: NodeId) -> Result<(), DeliverError> {
        self.queue.send(Incoming::Connected(peer)).await.map_err(|_| DeliverError::Ended)
    }

    /// Reports that the connection to `peer` is lost.
    ///
    /// # Errors
    /// [`DeliverError::Ended`] if the node has ended.
    pub async fn lost(&self, peer: NodeId) -> Result<(), DeliverError> {
        self.queue.send(Incoming::Lost(peer)).await.map_err(|_| DeliverError::Ended)
    }

    /// Returns when the node has ended.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }
}
