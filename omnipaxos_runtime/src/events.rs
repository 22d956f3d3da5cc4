//! Events of a node.

use crate::errors::MissedEvents;
use futures_core::Stream;
use omnipaxos::{events::Event, util::NodeId};
use std::{
    future::Future,
    pin::Pin,
    task::{ready, Context, Poll},
};
use tokio::sync::broadcast::{self, error::RecvError};

/// Number of events that wait for a receiver. A slower receiver misses the oldest.
pub(crate) const MAX_EVENTS: usize = 1024;

/// One event of a node.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// The replica reports an event. Outcomes of proposals and reads are not among them: the calls
    /// of the program return these.
    Replica(Event),
    /// The transport has a new connection with this server, in either direction.
    Connected(NodeId),
    /// The transport has lost the connection on which it sends to this server.
    Disconnected(NodeId),
}

/// What a receiver waits for: the next event, and the receiver itself.
type Received = (Result<NodeEvent, RecvError>, broadcast::Receiver<NodeEvent>);

/// The events of a node, from the call that returns this stream.
///
/// At most 1,024 events wait in memory. A slow receiver misses the oldest ones, and gets their
/// number. It ends with `None` when the node has ended. It does not keep the node alive.
///
/// It is a [`Stream`]. [`next`](Self::next) needs no import.
pub struct Events {
    receiving: Pin<Box<dyn Future<Output = Received> + Send>>,
}

async fn receive(mut receiver: broadcast::Receiver<NodeEvent>) -> Received {
    (receiver.recv().await, receiver)
}

impl Events {
    pub(crate) fn new(receiver: broadcast::Receiver<NodeEvent>) -> Self {
        Self { receiving: Box::pin(receive(receiver)) }
    }

    /// Waits for the next event. `None` if the node has ended.
    ///
    /// It is cancel-safe: if the future is dropped, no event is lost.
    ///
    /// # Errors
    /// [`MissedEvents`] contains the number of missed events. The next call returns the oldest
    /// event that is left.
    pub async fn next(&mut self) -> Option<Result<NodeEvent, MissedEvents>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Events {
    type Item = Result<NodeEvent, MissedEvents>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let (received, receiver) = ready!(self.receiving.as_mut().poll(context));
        self.receiving = Box::pin(receive(receiver));
        Poll::Ready(match received {
            Ok(event) => Some(Ok(event)),
            Err(RecvError::Lagged(number)) => Some(Err(MissedEvents(number))),
            Err(RecvError::Closed) => None,
        })
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
