//! The ports of a server of `openraft`, with any store.
//!
//! Servers call each other over TCP. A server that does not lead passes requests on to the leader, for
//! each client over a connection of its own.

use super::{
    command_of,
    network::{Call, Calls, Network, Response},
    Node, Store, Types,
};
use crate::{
    plan::ServerPlan,
    protocol::{listen, Answer, Connection, Handler, Request, Standing},
    Failure,
};
use openraft::{
    error::{CheckIsLeaderError, ClientWriteError, ForwardToLeader, RaftError},
    storage::{RaftLogStorage, RaftStateMachine},
    Config, SnapshotPolicy,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

type Raft = openraft::Raft<Types>;

/// Runs a server until it fails. `store` has the values that `machine` applies.
pub(super) async fn serve(
    plan: &ServerPlan,
    log: impl RaftLogStorage<Types>,
    machine: impl RaftStateMachine<Types>,
    store: Store,
) -> Result<(), Failure> {
    // Timeouts of etcd.
    let config = Config {
        heartbeat_interval: 100,
        election_timeout_min: 1000,
        election_timeout_max: 2000,
        install_snapshot_timeout: 2000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(plan.snapshot_every),
        ..Config::default()
    };
    let network = Network::new(plan.clone());
    let config = Arc::new(config.validate()?);
    let raft = Raft::new(plan.pid, config, network, log, machine).await?;
    let server = Server { plan: plan.clone(), raft: raft.clone(), store };
    let ports = plan.own_ports()?;
    let calls = listen(ports.peer, {
        let server = server.clone();
        move || Calls(server.clone())
    });
    let clients = listen(ports.client, move || Port { server: server.clone(), leader: None });
    let initialize = async {
        if plan.pid == 1 && !raft.is_initialized().await? {
            let members = plan.founders().map(|pid| (pid, Node::default()));
            raft.initialize(members.collect::<BTreeMap<_, _>>()).await?;
        }
        Ok(())
    };
    tokio::try_join!(calls, clients, initialize)?;
    Ok(())
}

/// What the connections of a server share.
#[derive(Clone)]
pub(super) struct Server {
    plan: ServerPlan,
    pub(super) raft: Raft,
    store: Store,
}

/// What became of a request.
pub(super) enum Served {
    Here(Answer),
    /// Another server leads.
    At(u64),
}

impl Server {
    pub(super) async fn serve(&self, request: &Request) -> Served {
        match request {
            Request::Put(put) => match self.raft.client_write(command_of(put)).await {
                Ok(_) => Served::Here(Answer::Done),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => elsewhere(&to),
                Err(error) => Served::Here(Answer::Failed(error.to_string())),
            },
            Request::Get(key) => match self.raft.ensure_linearizable().await {
                Ok(_) => match self.store.get(*key) {
                    Ok(found) => Served::Here(Answer::Found(found)),
                    Err(failure) => Served::Here(Answer::Failed(failure.to_string())),
                },
                Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => elsewhere(&to),
                Err(error) => Served::Here(Answer::Failed(error.to_string())),
            },
            Request::Status => Served::Here(Answer::Status(self.standing())),
            Request::ChangeMembers(members) => match self.change_members(members).await {
                Ok(()) => Served::Here(Answer::Done),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => elsewhere(&to),
                Err(error) => Served::Here(Answer::Failed(error.to_string())),
            },
        }
    }

    /// New members learn the log first.
    async fn change_members(
        &self,
        members: &[u64],
    ) -> Result<(), RaftError<u64, ClientWriteError<u64, Node>>> {
        let present: BTreeSet<u64> = self.standing().members.into_iter().collect();
        let members: BTreeSet<u64> = members.iter().copied().collect();
        for new in members.difference(&present) {
            self.raft.add_learner(*new, Node::default(), true).await?;
        }
        self.raft.change_membership(members, false).await?;
        Ok(())
    }

    fn standing(&self) -> Standing {
        let metrics = self.raft.metrics().borrow().clone();
        Standing {
            leader: metrics.current_leader,
            members: metrics.membership_config.voter_ids().collect(),
            decided_idx: metrics.last_applied.map_or(0, |id| id.index + 1),
            may_stop: false,
        }
    }
}

fn elsewhere(to: &ForwardToLeader<u64, Node>) -> Served {
    match to.leader_id {
        Some(leader) => Served::At(leader),
        None => Served::Here(Answer::Failed("no leader is known".to_owned())),
    }
}

/// Serves a client.
struct Port {
    server: Server,
    /// The leader to which requests were passed on, and the connection to it.
    leader: Option<(u64, Connection)>,
}

impl Handler<Request, Answer> for Port {
    async fn handle(&mut self, request: Request) -> Answer {
        match self.server.serve(&request).await {
            Served::Here(answer) => answer,
            Served::At(leader) => match self.pass_on(leader, request).await {
                Ok(answer) => answer,
                Err(failure) => Answer::Failed(failure.to_string()),
            },
        }
    }
}

impl Port {
    async fn pass_on(&mut self, leader: u64, request: Request) -> Result<Answer, Failure> {
        let mut connection = match self.leader.take() {
            Some((to, connection)) if to == leader => connection,
            _ => Connection::connect(self.server.plan.ports_of(leader)?.peer).await?,
        };
        let response = connection.call(&Call::Request(request)).await?;
        self.leader = Some((leader, connection));
        match response {
            Response::Answer(answer) => Ok(answer),
            _ => Err("the leader answered another call".into()),
        }
    }
}
