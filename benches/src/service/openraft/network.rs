//! Calls between servers: one at a time over each connection.

use super::{
    server::{Served, Server},
    Node, Types,
};
use crate::{
    plan::ServerPlan,
    protocol::{Answer, Connection, Handler, Request},
    Failure,
};
use openraft::{
    error::{InstallSnapshotError, RPCError, RaftError, RemoteError, Unreachable},
    network::{RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest,
        InstallSnapshotResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

type Failed<E> = RPCError<u64, Node, RaftError<u64, E>>;

/// What a server asks of another.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Call {
    Append(AppendEntriesRequest<Types>),
    Install(InstallSnapshotRequest<Types>),
    Vote(VoteRequest<u64>),
    /// From a client, to the leader.
    Request(Request),
}

/// What the other server answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Response {
    Append(Result<AppendEntriesResponse<u64>, RaftError<u64>>),
    Install(Result<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>>),
    Vote(Result<VoteResponse<u64>, RaftError<u64>>),
    Answer(Answer),
}

/// Answers the calls of another server.
pub(super) struct Calls(pub(super) Server);

impl Handler<Call, Response> for Calls {
    async fn handle(&mut self, call: Call) -> Response {
        let raft = &self.0.raft;
        match call {
            Call::Append(request) => Response::Append(raft.append_entries(request).await),
            Call::Install(request) => Response::Install(raft.install_snapshot(request).await),
            Call::Vote(request) => Response::Vote(raft.vote(request).await),
            Call::Request(request) => Response::Answer(match self.0.serve(&request).await {
                Served::Here(answer) => answer,
                Served::At(leader) => Answer::Failed(format!("server {leader} leads")),
            }),
        }
    }
}

/// Connects a server with the others.
pub(super) struct Network {
    plan: ServerPlan,
    pools: BTreeMap<u64, Pool>,
}

/// Connections to a server that carry no call. The check of a leader has a client of its own for each
/// read, which must not connect each time.
type Pool = Arc<Mutex<Vec<Connection>>>;

impl Network {
    pub(super) fn new(plan: ServerPlan) -> Self {
        Self { plan, pools: BTreeMap::new() }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &Node) -> Peer {
        let pool = self.pools.entry(target).or_default().clone();
        Peer { target, plan: self.plan.clone(), pool }
    }
}

/// Calls one server.
pub(super) struct Peer {
    target: u64,
    plan: ServerPlan,
    pool: Pool,
}

impl Peer {
    /// Calls, and drops the connection if that fails or is cancelled.
    async fn call(&self, call: Call) -> Result<Response, Failure> {
        let pooled = self.pool().pop();
        let mut connection = match pooled {
            Some(connection) => connection,
            None => Connection::connect(self.plan.ports_of(self.target)?.peer).await?,
        };
        let response = connection.call(&call).await?;
        self.pool().push(connection);
        Ok(response)
    }

    fn pool(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.pool.lock().expect("nothing panics while it holds the pool")
    }

    /// Returns the result in a response. `None` belongs to another call.
    fn result<T, E>(&self, result: Option<Result<T, RaftError<u64, E>>>) -> Result<T, Failed<E>>
    where
        E: std::error::Error,
    {
        match result {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) => Err(RPCError::RemoteError(RemoteError::new(self.target, error))),
            None => Err(unreachable("the answer belongs to another call".into())),
        }
    }
}

fn unreachable<E: std::error::Error>(failure: Failure) -> Failed<E> {
    RPCError::Unreachable(Unreachable::new(&io::Error::other(failure)))
}

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failed<openraft::error::Infallible>> {
        let result = match self.call(Call::Append(request)).await.map_err(unreachable)? {
            Response::Append(result) => Some(result),
            _ => None,
        };
        self.result(result)
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failed<InstallSnapshotError>> {
        let result = match self.call(Call::Install(request)).await.map_err(unreachable)? {
            Response::Install(result) => Some(result),
            _ => None,
        };
        self.result(result)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failed<openraft::error::Infallible>> {
        let result = match self.call(Call::Vote(request)).await.map_err(unreachable)? {
            Response::Vote(result) => Some(result),
            _ => None,
        };
        self.result(result)
    }
}
