//! A replicated state machine: commands that all servers apply, and queries of the state.

mod applier;
mod command_id;
mod entry;
mod machine;
mod own_session;
mod query;
mod sessions;
mod waiters;

pub use self::{
    command_id::CommandId,
    entry::{IdentifiedCommand, MachineSnapshot},
    machine::StateMachine,
    sessions::{MAX_CLIENTS, MAX_OUTPUTS},
};

use self::{
    applier::Applier,
    own_session::OwnSession,
    query::{Function, Linearizable, Query},
    waiters::{Earlier, Ended, NoOutput, Waiters, Waiting},
};
use crate::{
    builder::{run_on_thread, NodeBuilder},
    errors::{AppendError, ExecuteError, NodeError, QueryError, ReadError, StartError},
    node::{Node, OmniPaxosHandle, TryReserveError},
    place::Place,
    reply::ReplyTo,
    room,
    transport::{NoTransport, Transport},
    weak::WeakHandle,
};
use omnipaxos::{messages::Message, storage::Storage, OmniPaxos, OmniPaxosConfig};
use std::{
    convert::Infallible,
    fmt,
    future::Future,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// Number of queries that wait for the thread of the state machine, and that wait there for a later state. It
/// is as large as the number of waiting reads, since all of them may get their index at once.
const MAX_QUERIES: usize = 65_536;

/// Commands after which a snapshot is made, unless the program sets another number.
const SNAPSHOT_EVERY: u64 = 10_000;

/// A handle of a replicated state machine. Clone it for each task.
///
/// - **Exactly once.** A command is applied once at each server, however often it is proposed. A
///   repeated command gets the output of its first application. Servers recognise it by client and
///   number.
/// - **Bounds.** Servers remember the last [`MAX_CLIENTS`] clients, and of each the last
///   [`MAX_OUTPUTS`] outputs. So a command may be applied again if 1,024 other clients have executed
///   commands since the last one of its client. Nobody needs to repeat it for that: the proposal of a
///   server that was cut off is decided when that server is back, even if its caller has asked
///   another server meanwhile, or has gone. At most 65,536 queries wait for the thread of the
///   state machine, and as many there for a later state.
/// - **Snapshots.** Each server makes a snapshot of its own after a number of commands.
/// - The node ends when all handles are dropped.
pub struct Replicated<M: StateMachine> {
    log: OmniPaxosHandle<IdentifiedCommand<M>>,
    session: Arc<OwnSession>,
    waiters: Arc<Waiters<M::Output>>,
    queries: mpsc::Sender<Query<M>>,
}

impl<M: StateMachine> Replicated<M> {
    /// Begins the settings of a server with this configuration, storage and initial state. All
    /// servers begin with the same state.
    pub fn builder<B: Storage<IdentifiedCommand<M>>>(
        config: OmniPaxosConfig,
        storage: B,
        machine: M,
    ) -> ReplicatedBuilder<M, B> {
        ReplicatedBuilder {
            node: Node::builder(config, storage),
            machine,
            snapshot_every: SNAPSHOT_EVERY,
            machine_runs: MachineRuns::OnThread,
        }
    }

    /// Executes a command, at any server, and returns its index and its output once it is applied
    /// here.
    ///
    /// The command is applied exactly once. If it is unknown whether the command is decided, the
    /// node proposes it again under the same number, so the caller need not.
    ///
    /// If the future is dropped, the command may be applied all the same, once at most. At most
    /// [`MAX_OUTPUTS`] calls of this node wait for their commands; further calls wait before they
    /// propose. Commands of dropped calls do not count:
    /// [`ServerConfig::max_pending_entries`](omnipaxos::ServerConfig::max_pending_entries) limits them.
    ///
    /// # Errors
    /// [`ExecuteError`]; its [`known`](ExecuteError::known) returns whether the command may be
    /// decided.
    pub async fn execute(
        &self,
        command: M::Command,
    ) -> Result<(u64, M::Output), ExecuteError<M::Command>> {
        let under_way = tokio::select! {
            biased;
            under_way = self.session.begin() => under_way,
            cause = self.log.ended_with() => return Err(ended(cause, Some(command))),
        };
        let executed = self.execute_as(under_way.id(), command).await;
        executed.map_err(|error| match error {
            // A session keeps the rule for numbers, so the command was applied.
            ExecuteError::NumberTooOld => ExecuteError::OutputForgotten,
            error => error,
        })
    }

    /// Executes a command of an external client, which may repeat it at any server.
    ///
    /// The client chooses its number at random, numbers its commands, and repeats a command under
    /// the same number until it has the answer. The numbers to which it has no answer span less than
    /// [`MAX_OUTPUTS`]: see [`CommandId::number`]. A command that is repeated here while a call waits for
    /// it, or its proposal is under way, is not proposed a second time.
    ///
    /// If the future is dropped, the command may be applied all the same, once at most.
    ///
    /// # Errors
    /// [`ExecuteError`]. Its [`known`](ExecuteError::known) counts the proposals of this call, not those of
    /// earlier calls for the same command. [`ExecuteError::NumberTooOld`] or
    /// [`ExecuteError::OutputForgotten`] if the output is not kept any more.
    pub async fn execute_as(
        &self,
        id: CommandId,
        command: M::Command,
    ) -> Result<(u64, M::Output), ExecuteError<M::Command>> {
        let (waiting, reply) = self.waiters.add(id, Earlier::NotDecided);
        let bytes = bytes_of::<M>(&command);
        match self.log.reserve(bytes).await {
            Ok(place) => propose(place, &waiting, command.clone()),
            Err(cause) => return Err(ended(cause, Some(command))),
        }
        end_of(self.log.downgrade(), waiting, reply, command).await
    }

    /// Executes a command of an external client without waiting for room. The returned future waits for the
    /// output: see [`execute_as`](Self::execute_as).
    ///
    /// So a task proposes many commands, one after the other, before it waits for the first. They are
    /// proposed in this order.
    ///
    /// # Errors
    /// - [`AppendError::Busy`] if 4,096 requests wait, or the commands of those that wait leave no room for
    ///   this one in 32 MiB.
    /// - [`AppendError::Ended`] if the node has ended.
    ///
    /// Both contain the command, which was not proposed. The future returns the other errors.
    pub fn execute_notify(
        &self,
        id: CommandId,
        command: M::Command,
    ) -> Result<Executing<M>, ExecuteError<M::Command>> {
        let place = match self.log.try_reserve(bytes_of::<M>(&command)) {
            Ok(place) => place,
            Err(TryReserveError::Full) => {
                return Err(ExecuteError::Append(AppendError::Busy(command)));
            }
            Err(TryReserveError::Ended(cause)) => return Err(ended(cause, Some(command))),
        };
        let (waiting, reply) = self.waiters.add(id, Earlier::NotDecided);
        propose(place, &waiting, command.clone());
        let log = self.log.downgrade();
        Ok(Executing(Box::pin(end_of(log, waiting, reply, command))))
    }

    /// Returns the number of commands of this node that have no output yet.
    pub fn commands_under_way(&self) -> usize {
        self.waiters.len()
    }

    /// Calls `query` with the state, and returns its result: a linearizable read, at any server.
    ///
    /// The state contains all commands that were decided anywhere before the call. The function
    /// runs between two commands, so it should be fast. If the future is dropped, it may run all the
    /// same.
    ///
    /// # Errors
    /// [`QueryError`] contains the reason. It is safe to query again.
    pub async fn query<R: Send + 'static>(
        &self,
        query: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, QueryError> {
        self.query_before(None, query).await
    }

    /// Does the same as [`query`](Self::query), and asks the leader for at most `limit`, which is checked at
    /// each tick. To bound the whole call, use [`tokio::time::timeout`].
    ///
    /// # Errors
    /// [`QueryError`] contains the reason. [`ReadError::TimedOut`] contains why the replica could not serve
    /// the read.
    pub async fn query_within<R: Send + 'static>(
        &self,
        limit: Duration,
        query: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, QueryError> {
        // `None` if it is later than the clock can tell.
        self.query_before(Instant::now().checked_add(limit), query).await
    }

    async fn query_before<R: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        function: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, QueryError> {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(Function { function, reply });
        let read = Linearizable { call, queries: self.queries.clone() };
        self.log.request_read(deadline, ReplyTo::Part(Box::new(read))).await.map_err(closed)?;
        self.answer(answer).await
    }

    /// Calls `query` with the present state of this server, which may lack the latest commands.
    ///
    /// # Errors
    /// [`QueryError`] contains the reason.
    pub async fn query_stale<R: Send + 'static>(
        &self,
        query: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, QueryError> {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(Function { function: query, reply });
        tokio::select! {
            biased;
            Ok(()) = self.queries.send(Query { idx: 0, call }) => self.answer(answer).await,
            cause = self.log.ended_with() => Err(closed(cause)),
        }
    }

    async fn answer<R>(
        &self,
        answer: oneshot::Receiver<Result<R, QueryError>>,
    ) -> Result<R, QueryError> {
        self.log.answer_of(answer).await.map_err(closed)?
    }

    /// Returns the handle of the log below, for its status, its events and leadership transfer.
    pub fn log(&self) -> &OmniPaxosHandle<IdentifiedCommand<M>> {
        &self.log
    }
}

impl<M: StateMachine> Clone for Replicated<M> {
    fn clone(&self) -> Self {
        Self {
            log: self.log.clone(),
            session: self.session.clone(),
            waiters: self.waiters.clone(),
            queries: self.queries.clone(),
        }
    }
}

impl<M: StateMachine> fmt::Debug for Replicated<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicated").field("pid", &self.log.pid()).finish_non_exhaustive()
    }
}

/// The end of a command: its index and its output.
type ExecuteResult<M> =
    Result<(u64, <M as StateMachine>::Output), ExecuteError<<M as StateMachine>::Command>>;

/// Waits until a command is applied: returned by [`execute_notify`](Replicated::execute_notify). It does not keep
/// the node alive.
#[must_use = "the output and the errors are its output"]
pub struct Executing<M: StateMachine>(Pin<Box<dyn Future<Output = ExecuteResult<M>> + Send>>);

impl<M: StateMachine> Future for Executing<M> {
    type Output = ExecuteResult<M>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl<M: StateMachine> fmt::Debug for Executing<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executing").finish_non_exhaustive()
    }
}

/// Waits for the end of a command that was proposed. The future may be kept, and does not keep the node alive.
async fn end_of<M: StateMachine>(
    log: WeakHandle<IdentifiedCommand<M>>,
    mut waiting: Waiting<M::Output>,
    mut reply: oneshot::Receiver<Ended<M::Output>>,
    command: M::Command,
) -> ExecuteResult<M> {
    loop {
        let earlier = match log.answer_of(reply).await {
            Ok(Ended::Executed(executed)) => return executed.map_err(ExecuteError::from),
            Ok(Ended::ProposeAgain(earlier)) => earlier,
            // The command may be decided, so the caller must not hear that it is not. The leader answers a
            // read, so the proposals before may have left room then.
            Ok(Ended::Failed(AppendError::Busy(()), Earlier::MayBeDecided))
                if log.read_index().await.is_ok() =>
            {
                Earlier::MayBeDecided
            }
            Ok(Ended::Failed(error, earlier)) => {
                return Err(failed(error.map(|()| command), earlier));
            }
            Err(cause) => return Err(ended(cause, None)),
        };
        (waiting, reply) = waiting.again(earlier);
        let bytes = bytes_of::<M>(&command);
        let copy = command.clone();
        let proposed = log.with_place(bytes, |place| propose(place, &waiting, copy)).await;
        if let Err(cause) = proposed {
            // Another call may have proposed it meanwhile.
            if let Ok(Ended::Executed(executed)) = reply.try_recv() {
                return executed.map_err(ExecuteError::from);
            }
            let error = AppendError::Ended { cause, entry: Some(command) };
            return Err(failed(error, earlier));
        }
    }
}

/// Proposes a command, unless a proposal of it is under way.
fn propose<M: StateMachine>(
    place: Place<'_, IdentifiedCommand<M>>,
    waiting: &Waiting<M::Output>,
    command: M::Command,
) {
    let entry = IdentifiedCommand { id: waiting.id(), command };
    if let Some(proposal) = waiting.propose() {
        place.append(entry, ReplyTo::Part(Box::new(proposal)));
    }
}

/// Returns how many bytes the entry of a command takes among the requests.
fn bytes_of<M: StateMachine>(command: &M::Command) -> usize {
    room::count(|| IdentifiedCommand::<M>::bytes_of(command))
}

fn ended<C>(cause: NodeError, entry: Option<C>) -> ExecuteError<C> {
    ExecuteError::Append(AppendError::Ended { cause, entry })
}

/// The error of a call whose last proposal has failed.
fn failed<C>(error: AppendError<C>, earlier: Earlier) -> ExecuteError<C> {
    ExecuteError::Append(match earlier {
        Earlier::NotDecided => error,
        Earlier::MayBeDecided => error.after_another_proposal(),
    })
}

impl<C> From<NoOutput> for ExecuteError<C> {
    fn from(reason: NoOutput) -> Self {
        match reason {
            NoOutput::Forgotten => Self::OutputForgotten,
            NoOutput::NumberTooOld => Self::NumberTooOld,
        }
    }
}

fn closed(cause: NodeError) -> QueryError {
    ReadError::Ended(cause).into()
}

/// A running server of a replicated state machine.
///
/// It dereferences to a [`Replicated`], which has all methods but [`shutdown`](Self::shutdown).
pub struct ReplicatedNode<M: StateMachine, B> {
    node: Node<IdentifiedCommand<M>, B>,
    replicated: Replicated<M>,
    /// Closed once the state machine is dropped.
    dropped: oneshot::Receiver<Infallible>,
}

impl<M: StateMachine, B> ReplicatedNode<M, B> {
    /// Returns a handle, which can be cloned and shared between tasks.
    pub fn handle(&self) -> Replicated<M> {
        self.replicated.clone()
    }

    /// Ends the node, drops the state machine, and returns the storage: see [`Node::shutdown`].
    ///
    /// Commands that the state machine has not applied yet stay in the log, and calls that wait for them end.
    /// This call waits for a method of the state machine that runs. So no method of the state machine and no
    /// query may wait for it.
    ///
    /// # Errors
    /// The reason, if the node had ended before, or ends with a failure.
    pub async fn shutdown(self) -> Result<B, NodeError> {
        let storage = self.node.shutdown().await;
        // Nothing is ever sent: it closes.
        let _ = self.dropped.await;
        storage
    }
}

impl<M: StateMachine, B> Deref for ReplicatedNode<M, B> {
    type Target = Replicated<M>;

    fn deref(&self) -> &Self::Target {
        &self.replicated
    }
}

impl<M: StateMachine, B> fmt::Debug for ReplicatedNode<M, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.replicated.fmt(f)
    }
}

/// Settings of a server of a replicated state machine: returned by [`Replicated::builder`].
#[derive(Debug)]
#[must_use = "the server begins with `start`"]
pub struct ReplicatedBuilder<M: StateMachine, B, X = NoTransport> {
    node: NodeBuilder<IdentifiedCommand<M>, B, X>,
    machine: M,
    snapshot_every: u64,
    machine_runs: MachineRuns,
}

/// Where the state machine runs.
#[derive(Copy, Clone, Debug)]
enum MachineRuns {
    OnThread,
    WithReplica,
}

impl<M, B, X> ReplicatedBuilder<M, B, X>
where
    M: StateMachine,
    B: Storage<IdentifiedCommand<M>>,
{
    /// Sets the transport: see [`NodeBuilder::transport`].
    pub fn transport<Y>(self, transport: Y) -> ReplicatedBuilder<M, B, Y>
    where
        Y: Transport<IdentifiedCommand<M>>,
    {
        let Self { node, machine, snapshot_every, machine_runs } = self;
        let node = node.transport(transport);
        ReplicatedBuilder { node, machine, snapshot_every, machine_runs }
    }

    /// Sets the length of a tick: see [`NodeBuilder::tick`].
    pub fn tick(mut self, tick: Duration) -> Self {
        self.node = self.node.tick(tick);
        self
    }

    /// Runs the replica and the state machine as tasks of the tokio runtime that calls
    /// [`start`](Self::start): see [`NodeBuilder::on_runtime`].
    pub fn on_runtime(mut self) -> Self {
        self.node = self.node.on_runtime();
        self.machine_runs = MachineRuns::WithReplica;
        self
    }

    /// Runs the state machine on the thread of the replica, instead of on one of its own.
    ///
    /// That saves a change of threads for each batch of commands. But the replica waits while a
    /// method of the state machine runs. So it suits a state machine whose methods, `snapshot`
    /// included, take microseconds.
    pub fn machine_on_replica_thread(mut self) -> Self {
        self.machine_runs = MachineRuns::WithReplica;
        self
    }

    /// Sets the number of commands after which this server makes a snapshot, which replaces them in
    /// its log: at least 1. Default 10,000.
    pub fn snapshot_every(mut self, commands: u64) -> Self {
        self.snapshot_every = commands.max(1);
        self
    }

    /// Starts the server: see [`NodeBuilder::start`]. The state machine runs on a thread of its own, unless
    /// the builder sets another place.
    ///
    /// # Errors
    /// [`StartError`] contains the reason.
    ///
    /// # Panics
    /// If it is called outside a tokio runtime.
    pub async fn start(self) -> Result<ReplicatedNode<M, B>, StartError>
    where
        B: Send + 'static,
        X: Transport<IdentifiedCommand<M>>,
        Message<IdentifiedCommand<M>>: Send,
        OmniPaxos<IdentifiedCommand<M>, B>: Send,
    {
        let waiters = Arc::new(Waiters::default());
        let (queries, receiver) = mpsc::channel(MAX_QUERIES);
        let (is_dropped, dropped) = oneshot::channel();
        let Self { node, machine, snapshot_every, machine_runs } = self;
        let of_machine = waiters.clone();
        let run_machine = move |log: WeakHandle<_>| {
            Applier::new(machine, snapshot_every, log, of_machine, receiver, is_dropped).run()
        };
        let node = match machine_runs {
            MachineRuns::WithReplica => node.start_with(Some(run_machine)).await?,
            MachineRuns::OnThread => {
                let node = node.start().await?;
                let applier = run_machine(node.downgrade());
                let name = format!("state-machine-{}", node.pid());
                let thread = std::thread::Builder::new().name(name);
                if let Err(cause) = run_on_thread(thread, applier).await {
                    // So that the storage is closed when this returns.
                    let _ = node.shutdown().await;
                    return Err(StartError::Thread(cause));
                }
                node
            }
        };
        let session = Arc::new(OwnSession::new());
        let replicated = Replicated { log: node.handle(), session, waiters, queries };
        Ok(ReplicatedNode { node, replicated, dropped })
    }
}
