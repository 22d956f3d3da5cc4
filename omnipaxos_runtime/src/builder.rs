//! Starts a node.

use crate::{
    driver::{Channels, Driver, EndedDriver},
    errors::{NodeError, StartError},
    events::MAX_EVENTS,
    fitting::fit_messages,
    inbox::Inbox,
    membership::Membership,
    node::{Node, OmniPaxosHandle, MAX_REQUESTS},
    room::Room,
    transport::{ChannelTransport, NoTransport, OutgoingMessages, Transport},
    weak::{Ending, WeakHandle},
};
use omnipaxos::{
    messages::Message,
    storage::{Entry, Storage},
    OmniPaxos, OmniPaxosConfig,
};
use std::{
    future::{Future, Ready},
    io,
    marker::PhantomData,
    panic::{catch_unwind, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch, Notify},
    time::timeout,
};

/// The length of a tick, unless the program sets another.
const TICK: Duration = Duration::from_millis(10);

/// Time for the transport to stop, after which the node leaves it to itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the replica runs.
#[derive(Copy, Clone, Debug)]
enum Runs {
    OnThread,
    OnRuntime,
}

/// Settings of a node that has not started: returned by [`Node::builder`].
#[derive(Debug)]
#[must_use = "the node begins with `start`"]
pub struct NodeBuilder<T, B, X = NoTransport> {
    config: OmniPaxosConfig,
    storage: B,
    transport: X,
    tick: Duration,
    runs: Runs,
    entry: PhantomData<fn(T)>,
}

impl<T: Entry, B: Storage<T>> Node<T, B> {
    /// Begins the settings of a node with this configuration and storage.
    ///
    /// Without a [`transport`](NodeBuilder::transport) it reaches no other server, which suits a
    /// cluster of one.
    pub fn builder(config: OmniPaxosConfig, storage: B) -> NodeBuilder<T, B> {
        NodeBuilder {
            config,
            storage,
            transport: NoTransport,
            tick: TICK,
            runs: Runs::OnThread,
            entry: PhantomData,
        }
    }
}

impl<T: Entry, B: Storage<T>, X> NodeBuilder<T, B, X> {
    /// Sets the transport, which carries messages to the other servers.
    pub fn transport<Y: Transport<T>>(self, transport: Y) -> NodeBuilder<T, B, Y> {
        let Self { config, storage, transport: _, tick, runs, entry } = self;
        NodeBuilder { config, storage, transport, tick, runs, entry }
    }

    /// Sets the length of a tick, at least a microsecond. The timeouts of
    /// [`ServerConfig`](omnipaxos::ServerConfig) count ticks. Default 10 ms, which suits a LAN.
    pub fn tick(mut self, tick: Duration) -> Self {
        self.tick = tick;
        self
    }

    /// Runs the replica as a task of the tokio runtime that calls [`start`](Self::start), instead of
    /// on a thread of its own.
    ///
    /// The writes of the storage then block a worker of that runtime. It suits storages in memory, and
    /// tests with the paused time of tokio. It also suits a program that only serves the clients of
    /// this replica, on a runtime of one thread: then no request needs a change of threads. During a
    /// write the requests of clients wait, as they would for a replica on a thread of its own.
    pub fn on_runtime(mut self) -> Self {
        self.runs = Runs::OnRuntime;
        self
    }

    /// Starts the transport and the replica.
    ///
    /// The replica continues from what its storage holds. By default it runs on a thread of its own,
    /// so that its writes to the disk block no task. The transport runs there, too: a message then needs
    /// no change of threads, and what arrives during a write waits in the sockets.
    ///
    /// If the future is dropped, the node ends.
    ///
    /// # Errors
    /// [`StartError`] contains the reason. The storage is closed.
    ///
    /// # Panics
    /// If it is called outside a tokio runtime.
    pub async fn start(self) -> Result<Node<T, B>, StartError>
    where
        T: Send + 'static,
        T::Snapshot: Send,
        B: Send + 'static,
        X: Transport<T>,
        Message<T>: Send,
        OmniPaxos<T, B>: Send,
    {
        self.start_with(None::<fn(WeakHandle<T>) -> Ready<()>>).await
    }

    /// Does the same as [`start`](Self::start), and runs the companion, if there is one, beside the replica, on
    /// the same thread.
    pub(crate) async fn start_with<C>(
        self,
        companion: Option<impl FnOnce(WeakHandle<T>) -> C>,
    ) -> Result<Node<T, B>, StartError>
    where
        C: Future<Output = ()> + Send + 'static,
        T: Send + 'static,
        T::Snapshot: Send,
        B: Send + 'static,
        X: Transport<T>,
        Message<T>: Send,
        OmniPaxos<T, B>: Send,
    {
        let Self { mut config, storage, transport, tick, runs, entry: _ } = self;
        if let Some(bytes) = transport.largest_message() {
            fit_messages(&mut config.server_config, bytes);
        }
        let pid = config.server_config.pid;
        let (requests, requests_receiver) = mpsc::channel(MAX_REQUESTS);
        let room = Room::new();
        let (pulls, pulls_receiver) = mpsc::channel(MAX_REQUESTS);
        let (inbox, incoming) = Inbox::new();
        let (events, _) = broadcast::channel(MAX_EVENTS);
        let (ended, ended_receiver) = watch::channel(None);
        let (built, is_built) = oneshot::channel();
        let (storage_sender, storage_receiver) = oneshot::channel();
        let founding = Membership { configuration: config.cluster_config.clone(), may_stop: None };
        let (membership, membership_receiver) = watch::channel(founding);
        let ending = Ending::default();
        let handle = OmniPaxosHandle {
            pid,
            requests,
            room: room.clone(),
            pulls,
            inbox: inbox.clone(),
            events: events.downgrade(),
            membership: membership_receiver,
            ending: ending.clone(),
            ended: ended_receiver,
        };
        let no_more = Arc::new(Notify::new());
        let channels = Channels {
            requests: requests_receiver,
            room,
            pulls: pulls_receiver,
            no_more: no_more.clone(),
            ending,
            incoming,
            events,
            membership,
        };
        let reports = Reports { built, ended, storage: storage_sender };
        let companion = companion.map(|companion| companion(handle.downgrade()));
        let run = async move {
            if let Some(companion) = companion {
                drop(tokio::spawn(companion));
            }
            run(config, storage, transport, inbox, tick, channels, reports).await;
        };
        match runs {
            Runs::OnRuntime => drop(tokio::spawn(run)),
            Runs::OnThread => {
                let thread = std::thread::Builder::new().name(format!("omnipaxos-{pid}"));
                run_on_thread(thread, run).await.map_err(StartError::Thread)?;
            }
        }
        match is_built.await {
            Ok(Ok(())) => Ok(Node::new(handle, no_more, storage_receiver)),
            Ok(Err(error)) => Err(error),
            Err(_panicked) => Err(StartError::Panicked),
        }
    }
}

/// Number of outgoing messages that wait for a program that called [`spawn_actor`].
const OUTGOING_MESSAGES: usize = 4096;

/// Starts a node for a program with a network of its own, under the name of the published crate.
///
/// The program sends the outgoing messages, and passes incoming ones to
/// [`handle_incoming`](OmniPaxosHandle::handle_incoming). At most 4,096 outgoing messages wait;
/// further ones are dropped. It does the same as [`Node::builder`] with a [`ChannelTransport`].
///
/// # Errors
/// [`StartError`] contains the reason.
///
/// # Panics
/// If it is called outside a tokio runtime.
pub async fn spawn_actor<T, B>(
    config: OmniPaxosConfig,
    storage: B,
) -> Result<(Node<T, B>, OutgoingMessages<T>), StartError>
where
    T: Entry + Send + 'static,
    T::Snapshot: Send,
    B: Storage<T> + Send + 'static,
    Message<T>: Send,
    OmniPaxos<T, B>: Send,
{
    let (transport, outgoing) = ChannelTransport::new(OUTGOING_MESSAGES);
    let node = Node::builder(config, storage).transport(transport).start().await?;
    Ok((node, outgoing))
}

/// Runs a future on a new thread, with a runtime of its own.
///
/// # Errors
/// The system refuses the thread or the runtime.
pub(crate) async fn run_on_thread(
    thread: std::thread::Builder,
    future: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (started, is_started) = oneshot::channel();
    // The new thread makes the runtime: one that is dropped here, where futures run, panics.
    thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // The caller may have dropped its future.
        match runtime {
            Ok(runtime) => {
                let _ = started.send(Ok(()));
                runtime.block_on(future);
            }
            Err(cause) => {
                // What it holds may be opened again once the caller knows.
                drop(future);
                let _ = started.send(Err(cause));
            }
        }
    })?;
    is_started.await.unwrap_or_else(|_closed| Err(io::Error::other("the thread panicked")))
}

/// Where the replica reports.
struct Reports<B> {
    built: oneshot::Sender<Result<(), StartError>>,
    ended: watch::Sender<Option<NodeError>>,
    storage: oneshot::Sender<B>,
}

/// Starts the transport, builds the replica, runs it, and ends it.
async fn run<T: Entry, B: Storage<T>, X: Transport<T>>(
    config: OmniPaxosConfig,
    storage: B,
    mut transport: X,
    inbox: Inbox<T>,
    tick: Duration,
    channels: Channels<T>,
    reports: Reports<B>,
) {
    if let Err(cause) = transport.start(config.server_config.pid, inbox).await {
        // The caller may open both again at once.
        drop((storage, transport));
        // It may have dropped its future.
        let _ = reports.built.send(Err(StartError::Transport(cause)));
        return;
    }
    if reports.built.is_closed() {
        // The caller has dropped its future, and may open both again.
        return stop(&mut transport).await;
    }
    // Code of the storage may panic.
    let built = catch_unwind(AssertUnwindSafe(|| config.try_build(storage)));
    let built = built.map_or(Err(StartError::Panicked), |built| built.map_err(StartError::from));
    let replica = match built {
        Ok(replica) => replica,
        Err(error) => {
            stop(&mut transport).await;
            // The caller may have dropped its future.
            let _ = reports.built.send(Err(error));
            return;
        }
    };
    let driver = Driver::new(replica, transport, channels, tick);
    // The handles show the present members from the start.
    driver.note_present_members();
    // If the caller has dropped its future, there is no handle, and the node ends at once.
    let _ = reports.built.send(Ok(()));
    let ended = driver.run().await;
    let EndedDriver { cause, storage, mut transport, events, membership } = ended;
    tracing::info!("the node has ended: {cause}");
    stop(&mut transport).await;
    // Without a caller of `shutdown` the storage is closed here.
    let storage = storage.filter(|_| !reports.storage.is_closed() && cause == NodeError::ShutDown);
    // The handles and the streams learn it last, so that the disk and the sockets can be opened again then.
    let _ = reports.ended.send(Some(cause));
    drop((events, membership));
    if let Some(storage) = storage {
        let _ = reports.storage.send(storage);
    }
}

/// Stops a transport. Its runtime may have ended, or not run: then it is dropped.
async fn stop<T: Entry, X: Transport<T>>(transport: &mut X) {
    if timeout(STOP_TIMEOUT, transport.stop()).await.is_err() {
        tracing::warn!("the transport did not stop within a second");
    }
}

#[cfg(test)]
mod tests {
    use super::run_on_thread;

    #[tokio::test]
    async fn a_thread_that_the_system_refuses_is_an_error() {
        let thread = std::thread::Builder::new().stack_size(1 << 62);
        assert!(run_on_thread(thread, async {}).await.is_err());
        run_on_thread(std::thread::Builder::new(), async {}).await.unwrap();
    }
}
