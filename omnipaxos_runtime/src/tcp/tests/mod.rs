//! What arrives at a transport, and what leaves it, without a node.

mod fuzz;
mod slow_reader;

use omnipaxos::{
    storage::{Entry, NoSnapshot},
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Text(String, Vec<u8>);

impl Entry for Text {
    type Snapshot = NoSnapshot;
    omnipaxos::without_unicache!();
}

/// The replicas of a cluster, whose messages the caller carries.
fn servers(number: u64) -> Vec<OmniPaxos<Text, MemoryStorage<Text>>> {
    let nodes: Vec<u64> = (1..=number).collect();
    let cluster = ClusterConfig { configuration_id: 1, nodes, ..Default::default() };
    let servers = (1..=number).map(|pid| {
        let server = ServerConfig { pid, ..Default::default() };
        cluster.clone().build_for_server(server, MemoryStorage::default()).unwrap()
    });
    servers.collect()
}
