//! What arrives at a transport, and what leaves it, without a node.

mod fuzz;
mod slow_reader;

use omnipaxos::{
    storage::{Entry, Snapshot},
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Text(String, Vec<u8>);

impl Entry for Text {
    type Snapshot = Bytes;
    omnipaxos::without_unicache!();
}

/// The bytes of all entries.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bytes(Vec<u8>);

impl Snapshot<Text> for Bytes {
    fn create(entries: &[Text]) -> Self {
        Self(entries.iter().flat_map(|Text(_, bytes)| bytes.clone()).collect())
    }

    fn merge(&mut self, mut later: Self) {
        self.0.append(&mut later.0);
    }

    fn use_snapshots() -> bool {
        true
    }
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
