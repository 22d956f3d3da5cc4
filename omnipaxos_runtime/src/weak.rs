//! Handles that do not keep the node alive.

use crate::{
    batch::Batch,
    errors::{DecidedError, NodeError},
    reply::Reply,
    request::{Pull, Request},
};
use omnipaxos::storage::Entry;
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot, watch};

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
    pulls: mpsc::Sender<Pull<T>>,
    ended: Ended,
}

impl<T: Entry> WeakHandle<T> {
    pub(crate) fn new(
        requests: &mpsc::Sender<Request<T>>,
        pulls: &mpsc::Sender<Pull<T>>,
        ended: &Ended,
    ) -> Self {
        Self { requests: requests.downgrade(), pulls: pulls.clone(), ended: ended.clone() }
    }

    /// Waits for decided entries from an index on.
    ///
    /// The future may be kept and not polled, and must not keep the node alive then. So it waits for no room
    /// among the requests.
    pub(crate) async fn pull(&self, from: u64) -> Result<Batch<T>, DecidedError> {
        let (reply, answer) = oneshot::channel();
        match self.pulls.send(Pull { from, reply }).await {
            Ok(()) => answer_of(answer, &self.ended).await?,
            Err(_closed) => Err(ended_with(&self.ended).await.into()),
        }
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
            pulls: self.pulls.clone(),
            ended: self.ended.clone(),
        }
    }
}
