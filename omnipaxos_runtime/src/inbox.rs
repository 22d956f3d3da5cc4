//! The queue of what a transport delivers to the replica.

use crate::{
    errors::DeliverError,
    room::{Room, Taken},
};
use omnipaxos::{messages::Message, storage::Entry, util::NodeId};
use tokio::sync::mpsc::{self, error::TrySendError};

/// The largest number of messages that wait for the replica.
pub(crate) const MAX_MESSAGES: usize = 4096;

/// What a transport delivers.
#[derive(Debug)]
pub(crate) enum Incoming<T: Entry> {
    /// A message, and the room that it takes in the queue.
    Message(Message<T>, Taken),
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
    room: Room,
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
        (Self { queue, room: Room::new() }, receiver)
    }

    /// Delivers a message that took `bytes` bytes on the network. It waits while there is no room.
    ///
    /// It is cancel-safe: if the future is dropped, the message is delivered or dropped.
    ///
    /// # Errors
    /// [`DeliverError::Ended`] if the node has ended.
    pub async fn deliver(&self, message: Message<T>, bytes: usize) -> Result<(), DeliverError> {
        let incoming = Incoming::Message(message, self.room.take(bytes).await);
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
