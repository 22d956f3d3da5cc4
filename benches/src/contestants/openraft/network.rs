//! Calls between servers of one process.

use super::{Server, Types};
use crate::cluster::Wire;
use openraft::{
    error::{InstallSnapshotError, RPCError, RaftError, RemoteError},
    network::{RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest,
        InstallSnapshotResponse, VoteRequest, VoteResponse,
    },
    EmptyNode,
};
use serde::{de::DeserializeOwned, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

type Failure<E> = RPCError<u64, EmptyNode, RaftError<u64, E>>;

/// All servers by id, once they have started.
#[derive(Clone, Default)]
pub(super) struct Peers(Arc<OnceLock<BTreeMap<u64, Server>>>);

impl Peers {
    /// Makes the servers known to each other.
    pub(super) fn introduce(&self, servers: BTreeMap<u64, Server>) {
        assert!(self.0.set(servers).is_ok(), "the servers are introduced twice");
    }
}

/// Connects a server with the others.
pub(super) struct Network {
    pub(super) peers: Peers,
    pub(super) wire: Wire,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Connection {
        let servers = self.peers.0.get().expect("servers are introduced before the election");
        Connection { target, server: servers[&target].clone(), wire: self.wire }
    }
}

/// Calls one server.
pub(super) struct Connection {
    target: u64,
    server: Server,
    wire: Wire,
}

impl Connection {
    /// Brings a response back.
    fn answer<T, E>(&self, response: Result<T, RaftError<u64, E>>) -> Result<T, Failure<E>>
    where
        T: Serialize + DeserializeOwned,
        E: std::error::Error,
    {
        match response {
            Ok(response) => Ok(travel(response, self.wire)),
            Err(error) => Err(RPCError::RemoteError(RemoteError::new(self.target, error))),
        }
    }
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64>>> {
        self.answer(self.server.append_entries(travel(request, self.wire)).await)
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failure<InstallSnapshotError>> {
        self.answer(self.server.install_snapshot(travel(request, self.wire)).await)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64>>> {
        self.answer(self.server.vote(travel(request, self.wire)).await)
    }
}

fn travel<T: Serialize + DeserializeOwned>(message: T, wire: Wire) -> T {
    match wire {
        Wire::Moved => message,
        Wire::Serialised => {
            let config = bincode::config::legacy();
            let bytes = bincode::serde::encode_to_vec(&message, config)
                .expect("a message can be serialised");
            drop(message);
            let (message, _) = bincode::serde::decode_from_slice(&bytes, config)
                .expect("what was serialised can be deserialised");
            message
        }
    }
}
