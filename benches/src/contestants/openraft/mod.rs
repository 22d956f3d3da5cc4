//! `openraft`.
//!
//! Measured are its tasks, on a runtime of tokio that has only the measuring thread, with log and
//! network in memory. It is used for throughput:
//! - Entries are appended without waiting for one before another, and no call is notified of each alone
//!   (`client_write_ff` and an [`Unheard`] response); one notification reports that servers applied.
//! - The log holds entries as they are, in a vector. The state machine counts.
//! - A call of the network is a call of the other server, without a task or a queue between.
//! - The first server is elected; then there are neither elections nor snapshots, and heartbeats
//!   are further apart than a measurement lasts.
//!
//! The tasks move messages themselves, so a hop is a group: it lasts until every server has applied
//! what was appended, and groups are never in flight together.

mod network;
mod storage;

use self::{
    network::{Network, Peers},
    storage::{Applied, Counter, Log},
};
use crate::cluster::{Cluster, KeyValue, Wire};
use openraft::{
    declare_raft_types,
    raft::{responder::Responder, ClientWriteResult},
    Config, EmptyNode, SnapshotPolicy,
};
use std::{collections::BTreeMap, io::Cursor, sync::Arc, time::Duration};
use tokio::runtime::{Builder, Runtime};

declare_raft_types!(
    /// What is replicated.
    Types:
        D = KeyValue,
        R = (),
        Node = EmptyNode,
        SnapshotData = Cursor<Vec<u8>>,
        Responder = Unheard,
);

type Server = openraft::Raft<Types>;

/// Id of the leader.
const LEADER: u64 = 1;

/// Servers of `openraft` in one thread.
pub struct OpenRaft {
    runtime: Runtime,
    leader: Server,
    applied: Arc<Applied>,
    queued: Vec<KeyValue>,
    /// Entries given to the leader.
    appended: u64,
}

/// The response to an append, which nobody waits for.
struct Unheard;

impl Responder<Types> for Unheard {
    type Receiver = ();

    fn from_app_data(entry: KeyValue) -> (KeyValue, Self, ()) {
        (entry, Self, ())
    }

    fn send(self, result: ClientWriteResult<Types>) {
        assert!(result.is_ok(), "an entry is refused: {:?}", result.err());
    }
}

impl Cluster for OpenRaft {
    fn elected(n: u64, wire: Wire) -> Self {
        let runtime =
            Builder::new_current_thread().enable_time().build().expect("a runtime can be built");
        let applied = Arc::new(Applied::new(n));
        let servers = runtime.block_on(servers(n, wire, &applied));
        runtime.block_on(elect(&servers));
        let leader = servers[&LEADER].clone();
        Self { runtime, leader, applied, queued: Vec::new(), appended: 0 }
    }

    fn append(&mut self, entry: KeyValue) {
        self.queued.push(entry);
    }

    fn hop(&mut self) -> usize {
        if self.queued.is_empty() {
            return 0;
        }
        self.appended += self.queued.len() as u64;
        let (leader, queued) = (&self.leader, &mut self.queued);
        self.runtime.block_on(async {
            for entry in queued.drain(..) {
                leader.client_write_ff(entry).await.expect("the leader runs");
            }
            self.applied.until_all_reach(self.appended).await;
        });
        1
    }

    fn decided(&self) -> u64 {
        self.applied.by_all()
    }
}

/// `n` servers that know each other. None campaigns by itself.
async fn servers(n: u64, wire: Wire, applied: &Arc<Applied>) -> BTreeMap<u64, Server> {
    let config = Config {
        heartbeat_interval: 600_000,
        election_timeout_min: 1_200_000,
        election_timeout_max: 1_800_000,
        enable_elect: false,
        max_payload_entries: 4096,
        replication_lag_threshold: u64::MAX,
        snapshot_policy: SnapshotPolicy::Never,
        ..Config::default()
    };
    let config = Arc::new(config.validate().expect("the configuration is valid"));
    let peers = Peers::default();
    let mut servers = BTreeMap::new();
    for id in 1..=n {
        let network = Network { peers: peers.clone(), wire };
        let counter = Counter::new(id, applied.clone());
        let server = Server::new(id, config.clone(), network, Log::default(), counter).await;
        servers.insert(id, server.expect("a server starts with an empty log"));
    }
    peers.introduce(servers.clone());
    servers
}

/// Makes the first server the leader of all.
async fn elect(servers: &BTreeMap<u64, Server>) {
    let members: BTreeMap<_, _> = servers.keys().map(|id| (*id, EmptyNode {})).collect();
    servers[&LEADER].initialize(members).await.expect("the log is empty");
    for server in servers.values() {
        let wait = server.wait(Some(Duration::from_secs(60)));
        wait.current_leader(LEADER, "election").await.expect("the only candidate is elected");
    }
}

#[cfg(test)]
mod tests {
    use super::OpenRaft;
    use crate::cluster::{replicate, Cluster, KeyValue, Pump, Wire};

    #[test]
    fn every_server_decides_every_entry() {
        for wire in [Wire::Moved, Wire::Serialised] {
            for (n, group) in [(3, 1), (3, 100), (15, 1), (15, 100)] {
                let mut cluster = OpenRaft::elected(n, wire);
                assert_eq!(cluster.decided(), 0);
                replicate(&mut cluster, KeyValue::many(1_000, 8), group, Pump::UntilSilent);
                assert_eq!(cluster.decided(), 1_000);
            }
        }
    }
}
