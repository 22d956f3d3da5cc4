//! The server of openraft, with the store that openraft publishes.
//!
//! A server writes entries to rocksdb without a sync. It syncs when it applies them, before it answers.

#[path = "../../../src/service/openraft/network.rs"]
mod network;
#[path = "../../../src/service/openraft/server.rs"]
mod server;

use crate::{
    plan::ServerPlan,
    protocol::{Put, Value},
    Failure,
};
use openraft::{storage::Adaptor, BasicNode as Node};
use openraft_rocksstore::{RocksRequest, RocksStateMachine, RocksStore};

pub(crate) use openraft_rocksstore::TypeConfig as Types;

/// Runs a server until it fails.
pub(crate) async fn serve(plan: &ServerPlan) -> Result<(), Failure> {
    std::fs::create_dir_all(&plan.folder)?;
    let rocks = RocksStore::new(plan.folder.join("rocksdb")).await;
    let store = Store(rocks.state_machine.read().await.clone());
    let (log, machine) = Adaptor::new(rocks);
    server::serve(plan, log, machine, store).await
}

/// The values of a server. Clones share them.
#[derive(Clone)]
struct Store(RocksStateMachine);

impl Store {
    /// Returns the value of a key.
    fn get(&self, key: u64) -> Result<Option<Value>, Failure> {
        Ok(self.0.get(&key.to_string())?.map(|value| Value(value.into_bytes())))
    }
}

fn command_of(put: &Put) -> RocksRequest {
    // The clients of the bench put text only.
    let value = String::from_utf8_lossy(&put.value.0).into_owned();
    RocksRequest::Set { key: put.key.to_string(), value }
}
