//! How messages travel between servers: the trait of a transport, and two simple transports.

use crate::inbox::Inbox;
use omnipaxos::{messages::Message, storage::Entry, util::NodeId};
use std::{
    future::{ready, Future},
    io,
};
use tokio::sync::mpsc;

/// Carries messages between the servers of a cluster.
///
/// A transport may lose, duplicate, delay and reorder messages. The replica repeats the messages
/// that it needs. So a transport with a full queue drops messages. It never waits, and its memory
/// is bounded.
///
/// A transport that wraps another one passes **all** methods on. The provided bodies suit a transport
/// without limits: with them, a message or an entry may be too large for the wrapped transport.
pub trait Transport<T: Entry>: Send + 'static {
    /// Starts the transport of server `own`.
    ///
    /// The transport passes incoming messages to `inbox`, and reports there when it is connected to
    /// a peer or has lost it. It runs within the tokio runtime that calls this method.
    ///
    /// # Errors
    /// The transport cannot start. Then the node does not start.
    fn start(
        &mut self,
        own: NodeId,
        inbox: Inbox<T>,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends messages to server `to`, and empties `messages`.
    ///
    /// The node calls this on the thread of its replica: it must not wait. If there is no
    /// connection or no room, it drops the messages. A message to an unknown server is dropped.
    fn send(&mut self, to: NodeId, messages: &mut Vec<Message<T>>);

    /// Returns the size of the largest message that it carries, in encoded bytes; `None` if there is
    /// no limit.
    ///
    /// The node then keeps the messages of its replica below this size: it lowers
    /// `max_message_bytes`, `max_message_entries` and `max_entry_bytes` of
    /// [`ServerConfig`](omnipaxos::ServerConfig) where they are too high. The provided body returns `None`.
    fn largest_message(&self) -> Option<usize> {
        None
    }

    /// Checks that the receiver of a message can read an entry in it, and that messages with such entries
    /// fit.
    ///
    /// The replica counts [`Entry::size_hint`]. With [`largest_message`](Self::largest_message), messages
    /// fit if no entry takes, encoded, more than one and a half times its hint and a 65,536th of the
    /// largest message, less 32 bytes.
    ///
    /// The node calls this once for each entry that is appended there, before it proposes the entry. An
    /// entry in the log must reach all servers: one that no receiver can read would stop the cluster. The
    /// provided body accepts all entries.
    ///
    /// # Errors
    /// Returns why the entry is refused. The caller gets
    /// [`AppendError::TooLarge`](crate::errors::AppendError::TooLarge) with this text.
    fn check_entry(&self, entry: &T) -> Result<(), String> {
        let _ = entry;
        Ok(())
    }

    /// Stops the transport, and releases its sockets.
    ///
    /// The node calls this once, after its replica has ended. The provided body does nothing.
    fn stop(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// The transport of a cluster of one server: it drops all messages.
#[derive(Copy, Clone, Debug, Default)]
pub struct NoTransport;

impl<T: Entry> Transport<T> for NoTransport {
    fn start(
        &mut self,
        _own: NodeId,
        _inbox: Inbox<T>,
    ) -> impl Future<Output = io::Result<()>> + Send {
        ready(Ok(()))
    }

    fn send(&mut self, _to: NodeId, messages: &mut Vec<Message<T>>) {
        messages.clear();
    }
}

/// A transport for programs with a network of their own.
///
/// It puts outgoing messages into a channel. The program takes them from
/// [`OutgoingMessages`], sends them, and passes incoming messages to
/// [`handle_incoming`](crate::OmniPaxosHandle::handle_incoming).
#[derive(Debug)]
pub struct ChannelTransport<T: Entry> {
    messages: mpsc::Sender<Message<T>>,
}

/// The outgoing messages of a node with a [`ChannelTransport`].
#[derive(Debug)]
pub struct OutgoingMessages<T: Entry> {
    messages: mpsc::Receiver<Message<T>>,
}

impl<T: Entry> ChannelTransport<T> {
    /// Creates a transport whose channel holds `capacity` messages. Further messages are dropped
    /// until the program has taken some.
    ///
    /// # Panics
    /// If `capacity` is 0.
    pub fn new(capacity: usize) -> (Self, OutgoingMessages<T>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { messages: sender }, OutgoingMessages { messages: receiver })
    }
}

impl<T: Entry> Transport<T> for ChannelTransport<T>
where
    Message<T>: Send + 'static,
{
    fn start(
        &mut self,
        _own: NodeId,
        _inbox: Inbox<T>,
    ) -> impl Future<Output = io::Result<()>> + Send {
        ready(Ok(()))
    }

    fn send(&mut self, to: NodeId, messages: &mut Vec<Message<T>>) {
        for message in messages.drain(..) {
            if self.messages.try_send(message).is_err() {
                tracing::debug!("dropped a message to server {to}: the channel is full or closed");
            }
        }
    }
}

impl<T: Entry> OutgoingMessages<T> {
    /// Waits for the next message. `None` if the node has ended.
    ///
    /// It is cancel-safe: if the future is dropped, no message is lost.
    pub async fn recv(&mut self) -> Option<Message<T>> {
        self.messages.recv().await
    }

    /// Returns a message if one has arrived, without waiting.
    pub fn try_recv(&mut self) -> Option<Message<T>> {
        self.messages.try_recv().ok()
    }
}
