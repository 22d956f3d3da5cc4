//! A replicated state machine: commands that all servers apply, and queries of the state.

mod applier;
mod command_id;
mod entry;
mod machine;
mod own_session;
mod sessions;
mod waiters;

pub use self::{
    command_id::CommandId,
    entry::{IdentifiedCommand, MachineSnapshot},
    machine::StateMachine,
    sessions::{MAX_CLIENTS, MAX_OUTPUTS},
};

use self::{
    applier::{Applier, Query},
    own_session::OwnSession,
    waiters::{Executed, OutputForgotten, Waiters},
};
use crate::{
    builder::NodeBuilder,
    errors::{
        panic_message, AppendError, ExecuteError, NodeError, QueryError, ReadError, StartError,
    },
    node::{Node, OmniPaxosHandle},
    transport::{NoTransport, Transport},
};
use omnipaxos::{messages::Message, storage::Storage, OmniPaxos, OmniPaxosConfig};
use std::{
    fmt,
    ops::Deref,
    panic::{catch_unwind, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// Number of queries that wait for the state machine. Further calls wait until there is room.
const MAX_QUERIES: usize = 1024;

/// Commands after which a snapshot is made, unless the program sets another number.
const SNAPSHOT_EVERY: u64 = 10_000;

/// A handle of a replicated state machine. Clone it for each task.
///
/// - **Exactly once.** A command is applied once at each server, however often it is proposed. A
///   repeated command gets the output of its first application. Servers recognise it by client and
///   number.
/// - **Bounds.** Servers remember the last [`MAX_CLIENTS`] clients, and of each the last
///   [`MAX_OUTPUTS`] outputs. So a command may be applied again if 1,024 other clients have executed
///   commands since the last one of its client. At most 1,024 queries wait for the state machine.
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
            is_on_runtime: false,
        }
    }

    /// Executes a command, at any server, and returns its index and its output once it is applied
    /// here.
    ///
    /// The command is applied exactly once. If it is unknown whether it is decided, it is proposed
    /// again under the same number, so no caller has to.
    ///
    /// If the future is dropped, the command may be applied all the same, once at most. At most
    /// [`MAX_OUTPUTS`] commands of this node are under way; further calls wait.
    ///
    /// # Errors
    /// [`ExecuteError`]; its [`known`](ExecuteError::known) returns what is known of the command.
    pub async fn execute(
        &self,
        command: M::Command,
    ) -> Result<(u64, M::Output), ExecuteError<M::Command>> {
        let under_way = self.session.begin().await;
        self.execute_as(under_way.id(), command).await
    }

    /// Executes a command of an external client, which may repeat it at any server.
    ///
    /// The client chooses its number at random, numbers its commands, and repeats a command under
    /// the same number until it has the answer. It has at most [`MAX_OUTPUTS`] commands under way.
    ///
    /// If the future is dropped, the command may be applied all the same, once at most.
    ///
    /// # Errors
    /// [`ExecuteError`]. [`ExecuteError::OutputForgotten`] if the command was applied and its output
    /// is not kept any more.
    pub async fn execute_as(
        &self,
        id: CommandId,
        command: M::Command,
    ) -> Result<(u64, M::Output), ExecuteError<M::Command>> {
        let (waiting, mut reply) = self.waiters.add(id);
        let mut entry = IdentifiedCommand { id, command };
        loop {
            let repeated = entry.clone();
            let appended = tokio::select! {
                biased;
                // Once it is closed, the state machine has ended, and the append fails.
                Ok(executed) = &mut reply, if !reply.is_terminated() => return output(executed),
                appended = self.log.append(entry) => appended,
            };
            match appended {
                Ok(idx) => waiting.decided(idx),
                Err(AppendError::DecidedBefore(idx)) => waiting.decided(idx.saturating_sub(1)),
                Err(AppendError::Unknown) => {
                    entry = repeated;
                    continue;
                }
                Err(error) => return Err(ExecuteError::Append(error.map(|entry| entry.command))),
            }
            if !reply.is_terminated() {
                if let Ok(executed) = reply.await {
                    return output(executed);
                }
            }
            let cause = self.log.ended_with().await;
            return Err(ExecuteError::Append(AppendError::Ended { cause, entry: None }));
        }
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
        let idx = self.log.read_index().await?;
        self.query_at(idx, query).await
    }

    /// Calls `query` with the present state of this server, which may lack the latest commands.
    ///
    /// # Errors
    /// [`QueryError`] contains the reason.
    pub async fn query_stale<R: Send + 'static>(
        &self,
        query: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, QueryError> {
        self.query_at(0, query).await
    }

    /// Calls `query` once the commands before `idx` are applied.
    async fn query_at<R: Send + 'static>(
        &self,
        idx: u64,
        query: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, QueryError> {
        let (reply, answer) = oneshot::channel();
        let run = Box::new(move |machine: &M| {
            let result = catch_unwind(AssertUnwindSafe(|| query(machine)));
            // The caller may have dropped its future.
            let _ = reply.send(result.map_err(|payload| panic_message(&*payload)));
        });
        if self.queries.send(Query { idx, run }).await.is_ok() {
            if let Ok(result) = answer.await {
                return result.map_err(QueryError::Panicked);
            }
        }
        Err(ReadError::Ended(self.log.ended_with().await).into())
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

fn output<C, O>(executed: Executed<O>) -> Result<(u64, O), ExecuteError<C>> {
    executed.map_err(|OutputForgotten| ExecuteError::OutputForgotten)
}

/// A running server of a replicated state machine.
///
/// It dereferences to a [`Replicated`], which has all methods but [`shutdown`](Self::shutdown).
pub struct ReplicatedNode<M: StateMachine, B> {
    node: Node<IdentifiedCommand<M>, B>,
    replicated: Replicated<M>,
}

impl<M: StateMachine, B> ReplicatedNode<M, B> {
    /// Returns a handle, which can be cloned and shared between tasks.
    pub fn handle(&self) -> Replicated<M> {
        self.replicated.clone()
    }

    /// Ends the node and returns its storage: see [`Node::shutdown`].
    ///
    /// # Errors
    /// The reason, if the node had ended before, or ends with a failure.
    pub async fn shutdown(self) -> Result<B, NodeError> {
        self.node.shutdown().await
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
    is_on_runtime: bool,
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
        let Self { node, machine, snapshot_every, is_on_runtime } = self;
        let node = node.transport(transport);
        ReplicatedBuilder { node, machine, snapshot_every, is_on_runtime }
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
        self.is_on_runtime = true;
        self
    }

    /// Sets the number of commands after which this server makes a snapshot, which replaces them in
    /// its log: at least 1. Default 10,000.
    pub fn snapshot_every(mut self, commands: u64) -> Self {
        self.snapshot_every = commands.max(1);
        self
    }

    /// Starts the server: see [`NodeBuilder::start`]. The state machine runs on a thread of its own.
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
        let node = self.node.start().await?;
        let log = node.handle();
        let waiters = Arc::new(Waiters::default());
        let (queries, receiver) = mpsc::channel(MAX_QUERIES);
        let (machine, every) = (self.machine, self.snapshot_every);
        let applier =
            Applier::new(machine, every, log.downgrade(), waiters.clone(), receiver).run();
        if self.is_on_runtime {
            drop(tokio::spawn(applier));
        } else {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let runtime = runtime.map_err(StartError::Thread)?;
            std::thread::Builder::new()
                .name(format!("state-machine-{}", log.pid()))
                .spawn(move || runtime.block_on(applier))
                .map_err(StartError::Thread)?;
        }
        let session = Arc::new(OwnSession::new());
        let replicated = Replicated { log, session, waiters, queries };
        Ok(ReplicatedNode { node, replicated })
    }
}
