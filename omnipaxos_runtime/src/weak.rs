//! Handles that do not keep the node alive.

use crate::{
    batch::Batch,
    errors::{DecidedError, NodeError, ReadError},
    place::Place,
    reply::Reply,
    request::{Pull, Request},
    room::Room,
};
use omnipaxos::storage::Entry;
use std::{
    pin::pin,
    sync::{Arc, OnceLock},
};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot, watch,
};

/// Why the node takes no requests any more. Its disk and sockets may be open still.
pub(crate) type Ending = Arc<OnceLock<NodeError>>;

/// Why the node has ended, once it has.
pub(crate) type Ended = watch::Receiver<Option<NodeError>>;

/// Sends a request and waits for its answer.
pub(crate) async fn ask<T: Entry, R>(
    requests: Option<mpsc::Sender<Request<T>>>,
    ended: &Ended,
    request: impl FnOnce(Reply<R>) -> Request<T>,
) -> Result<R, NodeError> {
    let (reply, answer) = oneshot::channel();
    let sent = match requests {
        Some(requests) => requests.send(request(reply)).await.is_ok(),
        None => false,
    };
    match sent {
        true => answer_of(answer, ended).await,
        false => Err(ended_with(ended).await),
    }
}

/// Waits for an answer, or for the end of the node.
///
/// Both, since what has the other end of the answer may outlive the node: a state machine in the middle of a
/// call, or a request that came into the queue when that closed.
pub(crate) async fn answer_of<R>(
    mut answer: oneshot::Receiver<R>,
    ended: &Ended,
) -> Result<R, NodeError> {
    tokio::select! {
        biased;
        Ok(answer) = &mut answer => Ok(answer),
        cause = ended_with(ended) => answer.try_recv().map_err(|_none| cause),
    }
}

/// Waits until the node has ended, and returns the reason.
pub(crate) async fn ended_with(ended: &Ended) -> NodeError {
    let mut ended = ended.clone();
    let cause = match ended.wait_for(Option::is_some).await {
        Ok(cause) => cause.clone(),
        // Only if the runtime of the node was dropped under it.
        Err(_) => None,
    };
    cause.unwrap_or(NodeError::ShutDown)
}

/// A handle that does not keep the node alive.
pub(crate) struct WeakHandle<T: Entry> {
    requests: mpsc::WeakSender<Request<T>>,
    room: Room,
    pulls: mpsc::Sender<Pull<T>>,
    ended: Ended,
}

impl<T: Entry> WeakHandle<T> {
    pub(crate) fn new(
        requests: &mpsc::Sender<Request<T>>,
        room: &Room,
        pulls: &mpsc::Sender<Pull<T>>,
        ended: &Ended,
    ) -> Self {
        Self {
            requests: requests.downgrade(),
            room: room.clone(),
            pulls: pulls.clone(),
            ended: ended.clone(),
        }
    }

    /// Waits for decided entries from an index on.
    ///
    /// The future may be kept and not polled, and must not keep the node alive then. So it waits for no room
    /// among the requests.
    pub(crate) async fn pull(&self, from: u64) -> Result<Batch<T>, DecidedError> {
        let (reply, answer) = oneshot::channel();
        match self.pulls.send(Pull { from, reply }).await {
            Ok(()) => self.answer_of(answer).await?,
            Err(_closed) => Err(ended_with(&self.ended).await.into()),
        }
    }

    /// Waits for a place for an entry of so many bytes, and calls `send` with it.
    ///
    /// The future may be kept and not polled, and must not keep the node alive then. So it waits in no queue.
    pub(crate) async fn with_place(
        &self,
        bytes: usize,
        send: impl FnOnce(Place<'_, T>),
    ) -> Result<(), NodeError> {
        loop {
            let mut freed = pin!(self.room.freed());
            // What becomes free from here on notifies this call.
            freed.as_mut().enable();
            // Until the end of this block the node is kept alive.
            {
                let Some(requests) = self.requests.upgrade() else {
                    break;
                };
                match Place::try_take(&requests, &self.room, bytes) {
                    Ok(place) => {
                        send(place);
                        return Ok(());
                    }
                    Err(TrySendError::Full(())) => {}
                    Err(TrySendError::Closed(())) => break,
                };
            }
            tokio::select! {
                () = freed => {}
                cause = ended_with(&self.ended) => return Err(cause),
            }
        }
        Err(ended_with(&self.ended).await)
    }

    /// Does the same as [`OmniPaxosHandle::read_index`](crate::OmniPaxosHandle::read_index), and keeps the node
    /// alive no longer than [`with_place`](Self::with_place).
    pub(crate) async fn read_index(&self) -> Result<u64, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.with_place(0, |place| place.read_index(reply.into())).await?;
        self.answer_of(answer).await?
    }

    /// Waits for an answer of the node, or for its end.
    pub(crate) async fn answer_of<R>(&self, answer: oneshot::Receiver<R>) -> Result<R, NodeError> {
        answer_of(answer, &self.ended).await
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask<R>(
        &self,
        request: impl FnOnce(Reply<R>) -> Request<T>,
    ) -> Result<R, NodeError> {
        ask(self.requests.upgrade(), &self.ended, request).await
    }

    /// Returns why the node has ended, if it has.
    pub(crate) fn cause_of_end(&self) -> Option<NodeError> {
        self.ended.borrow().clone()
    }

    /// Ends the node, for this reason.
    pub(crate) async fn end(&self, cause: NodeError) {
        if let Some(requests) = self.requests.upgrade() {
            // If it fails, the node has ended.
            let _ = requests.send(Request::End(cause)).await;
        }
    }
}

impl<T: Entry> Clone for WeakHandle<T> {
    fn clone(&self) -> Self {
        Self {
            requests: self.requests.clone(),
            room: self.room.clone(),
            pulls: self.pulls.clone(),
            ended: self.ended.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NodeError, Request, Room, WeakHandle};
    use omnipaxos::macros::Entry;
    use std::{
        future::{poll_fn, Future},
        pin::pin,
        task::Poll,
    };
    use tokio::sync::{
        mpsc::{self, error::TryRecvError},
        watch,
    };

    #[derive(Clone, Debug, Entry)]
    struct Number;

    /// Returns whether a future is ready when it is polled once.
    async fn is_ready(future: impl Future) -> bool {
        let mut future = pin!(future);
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn a_call_that_waits_for_a_place_and_is_not_polled_keeps_no_node_alive() {
        let (requests, mut receiver) = mpsc::channel::<Request<Number>>(1);
        let (pulls, _pulled) = mpsc::channel(1);
        let (ended, ended_receiver) = watch::channel(None);
        let room = Room::new();
        let handle = WeakHandle::new(&requests, &room, &pulls, &ended_receiver);
        requests.try_send(Request::End(NodeError::ShutDown)).unwrap();
        let mut waits = pin!(handle.read_index());
        let mut ends = pin!(handle.read_index());
        assert!(!is_ready(waits.as_mut()).await && !is_ready(ends.as_mut()).await);
        assert!(matches!(receiver.try_recv(), Ok(Request::End(_))));
        room.queue_is_shorter();
        assert!(!is_ready(waits.as_mut()).await);
        assert!(matches!(receiver.try_recv(), Ok(Request::ReadIndex(None, _))));
        drop(requests);
        assert!(matches!(receiver.try_recv(), Err(TryRecvError::Disconnected)));
        ended.send_replace(Some(NodeError::ShutDown));
        assert!(is_ready(waits).await && is_ready(ends).await);
    }
}
