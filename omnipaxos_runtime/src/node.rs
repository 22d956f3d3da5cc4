//! The node and its handles.

use crate::{
    decided::DecidedLog,
    errors::{
        AppendError, CompactError, DeliverError, NodeError, ReadError, ReconfigureError,
        TransferError,
    },
    events::{Events, NodeEvent},
    inbox::Inbox,
    membership::Membership,
    place::Place,
    reply::{Reply, ReplyTo},
    request::{Appended, Pull, ReadIdx, Request},
    room::{self, Room},
    weak::{answer_of, ask, ended_with, Ended, Ending, WeakHandle},
};
use omnipaxos::{
    members::MemberChange, messages::Message, status::Status, storage::Entry, util::NodeId,
    ClusterConfig,
};
use std::{
    fmt,
    future::Future,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{ready, Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{
        broadcast,
        mpsc::{self, error::TrySendError},
        oneshot, watch, Notify,
    },
    time::Instant,
};

/// Number of requests that wait for the replica. Further calls wait until there is room.
pub(crate) const MAX_REQUESTS: usize = 4096;

/// A running server of a cluster: its replica, its storage and its transport.
///
/// It dereferences to a [handle](OmniPaxosHandle), which has all methods but
/// [`shutdown`](Self::shutdown). The node ends when it and all handles are dropped.
pub struct Node<T: Entry, B> {
    handle: OmniPaxosHandle<T>,
    /// Tells the replica to end if the queue of requests is full.
    no_more: Arc<Notify>,
    storage: oneshot::Receiver<B>,
}

impl<T: Entry, B> Node<T, B> {
    pub(crate) fn new(
        handle: OmniPaxosHandle<T>,
        no_more: Arc<Notify>,
        storage: oneshot::Receiver<B>,
    ) -> Self {
        Self { handle, no_more, storage }
    }

    /// Returns a handle, which can be cloned and shared between tasks.
    pub fn handle(&self) -> OmniPaxosHandle<T> {
        self.handle.clone()
    }

    /// Ends the node and returns its storage.
    ///
    /// The node first writes all changes of the replica. Waiting calls, and later calls of other
    /// handles, return an error. When this method returns, the sockets of the transport are closed.
    /// If the future is dropped after its first poll, the node ends all the same, and closes the storage.
    ///
    /// # Errors
    /// The reason, if the node had ended before, or ends with a failure. The storage is closed then:
    /// open it again, as after a crash.
    pub async fn shutdown(self) -> Result<B, NodeError> {
        let Self { handle, no_more, storage } = self;
        // Nothing is awaited before: this future may be dropped.
        let end = Request::End(NodeError::ShutDown);
        if let Err(TrySendError::Full(_end)) = handle.requests.try_send(end) {
            no_more.notify_one();
        }
        match (handle.ended_with().await, storage.await) {
            (NodeError::ShutDown, Ok(storage)) => Ok(storage),
            (cause, _closed) => Err(cause),
        }
    }
}

impl<T: Entry, B> Deref for Node<T, B> {
    type Target = OmniPaxosHandle<T>;

    fn deref(&self) -> &Self::Target {
        &self.handle
    }
}

impl<T: Entry, B> fmt::Debug for Node<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("pid", &self.handle.pid).finish_non_exhaustive()
    }
}

/// A handle of a [`Node`]: appends entries, reads the log, and has all other calls of a replica.
///
/// - **Clone** it for each task. The node ends when the [`Node`] and all handles are dropped.
/// - **Cancellation.** Every future may be dropped at any time. The request may be executed all the
///   same, as if its answer were lost. The rustdoc of each method describes the consequence.
/// - **Bounds.** At most 4,096 requests wait for the replica, and 1,024 that it has taken, with
///   entries of at most 32 MiB as [`Entry::size_hint`] counts them. Of one entry at most 4 MiB
///   count. Further calls wait for room, and smaller entries may overtake larger ones. Proposals
///   that wait for their decision are limited by
///   [`ServerConfig::max_pending_entries`](omnipaxos::ServerConfig::max_pending_entries) and
///   `max_pending_bytes`. At most 65,536 reads wait.
/// - **Time.** While no quorum answers, a call waits without a time limit, unless its rustdoc names
///   one. Use [`tokio::time::timeout`].
pub struct OmniPaxosHandle<T: Entry> {
    pub(crate) pid: NodeId,
    pub(crate) requests: mpsc::Sender<Request<T>>,
    /// For the entries among the requests.
    pub(crate) room: Room,
    pub(crate) pulls: mpsc::Sender<Pull<T>>,
    pub(crate) inbox: Inbox<T>,
    pub(crate) events: broadcast::WeakSender<NodeEvent>,
    pub(crate) membership: watch::Receiver<Membership>,
    pub(crate) ending: Ending,
    pub(crate) ended: Ended,
}

impl<T: Entry> OmniPaxosHandle<T> {
    /// Returns the id of this server.
    pub fn pid(&self) -> NodeId {
        self.pid
    }

    /// Appends an entry to the log, at any server, and returns its index once it is decided here.
    ///
    /// The entry has `idx` entries before it. It is decided once, also if messages are lost, leaders
    /// change or servers restart.
    ///
    /// If the future is dropped, the entry may be decided all the same, once at most.
    ///
    /// # Errors
    /// [`AppendError`]; its [`known`](AppendError::known) returns whether the entry may be decided.
    pub async fn append(&self, entry: T) -> Result<u64, AppendError<T>> {
        let (reply, answer) = oneshot::channel();
        let bytes = room::count(|| entry.size_hint());
        match self.reserve(bytes).await {
            Ok(place) => place.append(entry, reply.into()),
            Err(cause) => return Err(AppendError::Ended { cause, entry: Some(entry) }),
        }
        match self.answer_of(answer).await {
            Ok(appended) => appended,
            Err(cause) => Err(AppendError::Ended { cause, entry: None }),
        }
    }

    /// Appends an entry without waiting for room. The returned future waits for the decision.
    ///
    /// So a task appends many entries, one after the other, before it waits for the first. They are
    /// proposed in this order.
    ///
    /// # Errors
    /// - [`AppendError::Busy`] if 4,096 requests wait, or the entries of those that wait leave no room for
    ///   this one in 32 MiB.
    /// - [`AppendError::Ended`] if the node has ended.
    ///
    /// Both contain the entry, which was not proposed. The future returns the other errors.
    pub fn append_notify(&self, entry: T) -> Result<Appending<T>, AppendError<T>> {
        let place = match self.try_reserve(room::count(|| entry.size_hint())) {
            Ok(place) => place,
            Err(TryReserveError::Full) => return Err(AppendError::Busy(entry)),
            Err(TryReserveError::Ended(cause)) => {
                return Err(AppendError::Ended { cause, entry: Some(entry) });
            }
        };
        let (reply, answer) = oneshot::channel();
        place.append(entry, reply.into());
        Ok(Appending::new(answer, self.ended.clone()))
    }

    /// Returns a linearizable read index: the decided entries before it include all that were
    /// decided anywhere before the call.
    ///
    /// Apply the entries before this index, and serve the read from the state. A write quorum
    /// confirms the leader, without an entry in the log. Reads that wait share one round of
    /// messages. If the replica refuses a read temporarily, for example without a leader, the node
    /// requests it again at each tick.
    ///
    /// If the future is dropped, the read ends.
    ///
    /// # Errors
    /// [`ReadError`] contains the reason.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        self.ask(|reply| Request::ReadIndex(None, reply.into())).await?
    }

    /// Does the same as [`read_index`](Self::read_index), and asks the leader for at most `limit`, which is
    /// checked at each tick. To bound the whole call, use [`tokio::time::timeout`].
    ///
    /// # Errors
    /// [`ReadError`] contains the reason. [`ReadError::TimedOut`] contains why the replica could not serve
    /// the read.
    pub async fn read_index_within(&self, limit: Duration) -> Result<u64, ReadError> {
        // `None` if it is later than the clock can tell.
        let deadline = Instant::now().checked_add(limit);
        self.ask(|reply| Request::ReadIndex(deadline, reply.into())).await?
    }

    /// Requests a read index, and passes it on to a part of this crate.
    pub(crate) async fn request_read(
        &self,
        deadline: Option<Instant>,
        reply: ReplyTo<ReadIdx>,
    ) -> Result<(), NodeError> {
        match self.requests.send(Request::ReadIndex(deadline, reply)).await {
            Ok(()) => Ok(()),
            Err(_closed) => Err(self.ended_with().await),
        }
    }

    /// Waits for a place for an entry of so many bytes.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Place<'_, T>, NodeError> {
        loop {
            self.room.wait_for(bytes).await;
            let Ok(permit) = self.requests.reserve().await else {
                return Err(self.ended_with().await);
            };
            if let Some(room) = self.room.try_take(bytes) {
                return Ok(Place::new(permit, room));
            }
        }
    }

    /// Takes a place for an entry of so many bytes, if there is one.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Result<Place<'_, T>, TryReserveError> {
        Place::try_take(&self.requests, &self.room, bytes).map_err(|error| match error {
            TrySendError::Full(()) => TryReserveError::Full,
            TrySendError::Closed(()) => TryReserveError::Ended(self.cause_of_end()),
        })
    }

    /// Returns the decided log from index `from` on, as a stream that continues with the log.
    pub fn decided(&self, from: u64) -> DecidedLog<T> {
        DecidedLog::new(self.downgrade(), from)
    }

    /// Does the same as [`decided`](Self::decided), under the name of the published crate.
    pub fn subscribe_decided(&self, from: u64) -> DecidedLog<T> {
        self.decided(from)
    }

    /// Returns the events of this node from now on.
    pub fn events(&self) -> Events {
        let receiver = match self.events.upgrade() {
            Some(sender) => sender.subscribe(),
            // The node has ended: a receiver without a sender ends at once.
            None => broadcast::channel(1).1,
        };
        Events::new(receiver)
    }

    /// Does the same as [`events`](Self::events), under the name of the published crate.
    pub fn subscribe_events(&self) -> Events {
        self.events()
    }

    /// Returns the members of the log, and whether this server may stop, now and whenever that changes.
    ///
    /// Unlike [`events`](Self::events), it also returns the state before the call. A server that
    /// joins an old log learns the earlier configurations one after the other, and the receiver
    /// shows the latest that the server has learned. The receiver reports an error once the node
    /// has ended. It does not keep the node alive.
    pub fn membership(&self) -> watch::Receiver<Membership> {
        self.membership.clone()
    }

    /// Returns the state of the replica: its role, indices, peers, limits and counters.
    ///
    /// # Errors
    /// The node has ended.
    pub async fn status(&self) -> Result<Status, NodeError> {
        self.ask(Request::Status).await
    }

    /// Transfers leadership from this server, which must lead, to server `to`, and waits for the
    /// end of the transfer.
    ///
    /// If the future is dropped, the transfer continues.
    ///
    /// # Errors
    /// - [`TransferError::Refused`] if the transfer did not begin.
    /// - [`TransferError::Cancelled`] if it took more than 500 ticks, or another server leads.
    /// - [`TransferError::Unknown`] if this server did not learn in another 500 ticks which server leads.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), TransferError> {
        self.ask(|reply| Request::TransferLeadership(to, reply)).await?
    }

    /// Ends this configuration with a stop sign, and returns its index once it is decided here.
    ///
    /// Afterwards the node still serves its log, and refuses appends. Start the servers of
    /// `next_config` with new storages. If the log
    /// [continues](omnipaxos::ServerConfig::continues), it does the same as
    /// [`change_members`](Self::change_members) with the defaults.
    ///
    /// If the future is dropped, the reconfiguration may be decided all the same.
    ///
    /// # Errors
    /// [`ReconfigureError`] contains the reason.
    pub async fn reconfigure(
        &self,
        next_config: ClusterConfig,
        metadata: Option<Vec<u8>>,
    ) -> Result<u64, ReconfigureError> {
        self.ask(|reply| Request::Reconfigure(next_config, metadata, reply)).await?
    }

    /// Changes the members of a log that [continues](omnipaxos::ServerConfig::continues), and returns
    /// the index of the stop sign once it is decided here.
    ///
    /// First the servers that join catch up: see
    /// [`OmniPaxos::change_members`](omnipaxos::OmniPaxos::change_members). The transport must know
    /// their addresses. Appends and reads continue meanwhile.
    ///
    /// If the future is dropped, the members may change all the same.
    ///
    /// # Errors
    /// [`ReconfigureError`] contains the reason.
    pub async fn change_members(
        &self,
        next_config: ClusterConfig,
        change: MemberChange,
    ) -> Result<u64, ReconfigureError> {
        self.ask(|reply| Request::ChangeMembers(next_config, change, reply)).await?
    }

    /// Removes the entries before `applied_idx`, which this program has applied: see
    /// [`OmniPaxos::compact`](omnipaxos::OmniPaxos::compact).
    ///
    /// If the future is dropped, the log may be compacted all the same.
    ///
    /// # Errors
    /// [`CompactError`] contains the reason.
    pub async fn compact(&self, applied_idx: u64) -> Result<(), CompactError> {
        self.ask(|reply| Request::Compact(applied_idx, None, reply)).await?
    }

    /// Replaces the entries before `applied_idx` by `snapshot`, the state of this program after
    /// exactly these entries: see
    /// [`OmniPaxos::compact_with`](omnipaxos::OmniPaxos::compact_with).
    ///
    /// If the future is dropped, the log may be compacted all the same.
    ///
    /// # Errors
    /// [`CompactError`] contains the reason.
    pub async fn compact_with(
        &self,
        applied_idx: u64,
        snapshot: T::Snapshot,
    ) -> Result<(), CompactError> {
        self.ask(|reply| Request::Compact(applied_idx, Some(snapshot), reply)).await?
    }

    /// Passes a message of another server to the replica. For programs with a network of their own:
    /// see [`ChannelTransport`](crate::ChannelTransport).
    ///
    /// # Errors
    /// - [`DeliverError::Full`] if 4,096 messages wait. The node dropped the message, as a network
    ///   may do, and the replica recovers from the loss.
    /// - [`DeliverError::Ended`] if the node has ended.
    pub fn handle_incoming(&self, message: Message<T>) -> Result<(), DeliverError> {
        self.inbox.try_deliver(message)
    }

    /// Waits until the node has ended, and returns the reason.
    pub async fn ended_with(&self) -> NodeError {
        ended_with(&self.ended).await
    }

    /// Waits for an answer of the node, or for its end.
    pub(crate) async fn answer_of<R>(&self, answer: oneshot::Receiver<R>) -> Result<R, NodeError> {
        answer_of(answer, &self.ended).await
    }

    /// Returns a handle that does not keep the node alive.
    pub(crate) fn downgrade(&self) -> WeakHandle<T> {
        WeakHandle::new(&self.requests, &self.room, &self.pulls, &self.ended)
    }

    /// Returns why the node takes no requests any more.
    fn cause_of_end(&self) -> NodeError {
        self.ending.get().cloned().unwrap_or(NodeError::ShutDown)
    }

    async fn ask<R>(&self, request: impl FnOnce(Reply<R>) -> Request<T>) -> Result<R, NodeError> {
        ask(Some(self.requests.clone()), &self.ended, request).await
    }
}

/// Why there is no place for a request.
pub(crate) enum TryReserveError {
    Full,
    Ended(NodeError),
}

impl<T: Entry> Clone for OmniPaxosHandle<T> {
    fn clone(&self) -> Self {
        Self {
            pid: self.pid,
            requests: self.requests.clone(),
            room: self.room.clone(),
            pulls: self.pulls.clone(),
            inbox: self.inbox.clone(),
            events: self.events.clone(),
            membership: self.membership.clone(),
            ending: self.ending.clone(),
            ended: self.ended.clone(),
        }
    }
}

impl<T: Entry> fmt::Debug for OmniPaxosHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OmniPaxosHandle").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// Waits until an entry is decided: returned by
/// [`append_notify`](OmniPaxosHandle::append_notify). It does not keep the node alive.
#[must_use = "the index and the errors are its output"]
pub struct Appending<T> {
    answer: oneshot::Receiver<Appended<T>>,
    /// Whether the answer was dropped.
    is_closed: bool,
    ending: Pin<Box<dyn Future<Output = NodeError> + Send>>,
}

impl<T> Appending<T> {
    fn new(answer: oneshot::Receiver<Appended<T>>, ended: Ended) -> Self {
        let ending = Box::pin(async move { ended_with(&ended).await });
        Self { answer, is_closed: false, ending }
    }
}

impl<T> Future for Appending<T> {
    type Output = Result<u64, AppendError<T>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.is_closed {
            match Pin::new(&mut self.answer).poll(context) {
                Poll::Ready(Ok(appended)) => return Poll::Ready(appended),
                Poll::Ready(Err(_closed)) => self.is_closed = true,
                Poll::Pending => {}
            }
        }
        // The answer may have a holder that outlives the node: see `answer_of`.
        let cause = ready!(self.ending.as_mut().poll(context));
        let last = if self.is_closed { None } else { self.answer.try_recv().ok() };
        Poll::Ready(last.unwrap_or(Err(AppendError::Ended { cause, entry: None })))
    }
}

impl<T> fmt::Debug for Appending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appending").finish_non_exhaustive()
    }
}
