//! A server of ours: `Replicated` over TCP, with the persistent storage.

use crate::{
    plan::ServerPlan,
    protocol::{listen, Answer, Handler, Put, Request, Standing, Value},
    Failure,
};
use omnipaxos::{members::MemberChange, ClusterConfig, OmniPaxosConfig, ServerConfig};
use omnipaxos_runtime::{
    tcp::{AddressBook, TcpTransport},
    IdentifiedCommand, Replicated, StateMachine,
};
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use std::collections::BTreeMap;

#[derive(Default)]
struct Store(BTreeMap<u64, Value>);

impl StateMachine for Store {
    type Command = Put;
    type Output = ();
    type Snapshot = BTreeMap<u64, Value>;

    fn apply(&mut self, _idx: u64, command: &Put) {
        let Put { key, value } = command.clone();
        self.0.insert(key, value);
    }

    fn snapshot(&self) -> Self::Snapshot {
        self.0.clone()
    }

    fn restore(&mut self, snapshot: Self::Snapshot) {
        self.0 = snapshot;
    }

    fn command_bytes(command: &Put) -> usize {
        size_of_val(command) + command.value.0.len()
    }
}

/// Runs a server until it fails.
pub(crate) async fn serve(plan: &ServerPlan) -> Result<(), Failure> {
    let server = ServerConfig { pid: plan.pid, continues: true, ..ServerConfig::default() };
    let config = if plan.is_founder() {
        let cluster = ClusterConfig {
            configuration_id: 1,
            nodes: plan.founders().collect(),
            ..ClusterConfig::default()
        };
        OmniPaxosConfig { cluster_config: cluster, server_config: server }
    } else {
        OmniPaxosConfig::observe(server, &plan.founders().collect::<Vec<_>>())
    };
    let folder = plan.folder.to_str().ok_or("the folder has no plain name")?;
    let storage = PersistentStorage::<IdentifiedCommand<Store>>::try_open(
        PersistentStorageConfig::with_path(folder.to_owned()),
    )?
    .with_background_encoding();
    let book: AddressBook =
        plan.ports.iter().map(|(pid, ports)| (*pid, format!("127.0.0.1:{}", ports.peer))).collect();
    let node = Replicated::builder(config, storage, Store::default())
        .transport(TcpTransport::new(book))
        .on_runtime()
        .snapshot_every(plan.snapshot_every)
        .start()
        .await?;
    let store = node.handle();
    tokio::select! {
        ended = listen(plan.own_ports()?.client, move || Port(store.clone())) => ended,
        cause = node.log().ended_with() => Err(cause.into()),
    }
}

struct Port(Replicated<Store>);

impl Handler<Request, Answer> for Port {
    async fn handle(&mut self, request: Request) -> Answer {
        answer(&self.0, request).await.unwrap_or_else(|failure| Answer::Failed(failure.to_string()))
    }
}

async fn answer(store: &Replicated<Store>, request: Request) -> Result<Answer, Failure> {
    Ok(match request {
        Request::Put(put) => {
            store.execute(put).await?;
            Answer::Done
        }
        Request::Get(key) => {
            Answer::Found(store.query(move |store| store.0.get(&key).cloned()).await?)
        }
        Request::Status => {
            let status = store.log().status().await?;
            Answer::Status(Standing {
                leader: status.leader,
                members: status.nodes.to_vec(),
                decided_idx: status.decided_idx,
                may_stop: status.may_stop == Some(true),
            })
        }
        Request::ChangeMembers(nodes) => {
            let configuration_id = store.log().status().await?.configuration_id + 1;
            let next = ClusterConfig { configuration_id, nodes, ..ClusterConfig::default() };
            store.log().change_members(next, MemberChange::default()).await?;
            Answer::Done
        }
    })
}
