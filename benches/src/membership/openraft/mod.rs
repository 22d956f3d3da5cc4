//! `openraft` 0.9: learners, then one change that goes through a joint configuration, as its guide describes.
//!
//! Each server has a runtime of tokio of its own, with one thread and a paused clock. A tick of the
//! simulation is [`TICK`] of that clock, which moves on only when all tasks of the server wait. A call of the network is
//! two messages on the simulated links.
//!
//! It has one request on its way to each server, and none may take longer than a heartbeat interval. So its
//! requests are larger than the messages of the others, and its heartbeats are further apart.
//!
//! It cannot transfer the leadership. A leader that is removed stops, and the others elect one after
//! an election timeout.

mod network;
mod storage;

use self::{
    network::{Network, Outbox, Packet},
    storage::{Log, State},
};
use super::{Changing, ELECTION_TICKS, IN_FLIGHT_BYTES, MOST_MISSING};
use openraft::{
    declare_raft_types, Config, EmptyNode, LogIdOptionExt, RaftMetrics, ServerState, SnapshotPolicy,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    sync::Arc,
    time::Duration,
};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::{sleep_until, Instant},
};

/// As many bytes as the entry of `raft`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Item {
    key: u64,
    value: u64,
}

declare_raft_types!(
    /// What is replicated.
    Types:
        D = Item,
        R = (),
        Node = EmptyNode,
        SnapshotData = Cursor<Vec<u8>>,
);

type Node = openraft::Raft<Types>;

/// What a tick is on the clock of a server.
const TICK: Duration = Duration::from_millis(10);

/// Ticks between two heartbeats, and the most that a request takes.
const HEARTBEAT_TICKS: u64 = 7;

/// The entries of a request: as many as arrive and are answered before its time is over.
const MOST_ENTRIES: u64 = 13_000;

/// Servers of `openraft`.
pub struct OpenRaft {
    servers: BTreeMap<u64, Server>,
    state_bytes: Option<usize>,
    appended: u64,
    operator: Operator,
}

/// What the operator does.
enum Operator {
    /// Waits for a leader.
    Waiting,
    /// Changes the members, in a task at the leader.
    Changing(JoinHandle<bool>),
    Done,
}

struct Server {
    node: Node,
    outbox: Outbox,
    state: State,
    queued: Vec<Item>,
    /// When the next tick ends.
    until: Instant,
    runtime: Runtime,
}

impl Server {
    fn start(pid: u64, state_bytes: Option<usize>) -> Self {
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime can be built");
        let ticks = |ticks: u64| ticks * TICK.as_millis() as u64;
        let config = Config {
            heartbeat_interval: ticks(HEARTBEAT_TICKS),
            election_timeout_min: ticks(ELECTION_TICKS),
            election_timeout_max: ticks(2 * ELECTION_TICKS),
            install_snapshot_timeout: ticks(20 * ELECTION_TICKS),
            max_payload_entries: MOST_ENTRIES,
            replication_lag_threshold: u64::MAX,
            snapshot_policy: SnapshotPolicy::Never,
            snapshot_max_chunk_size: IN_FLIGHT_BYTES as u64,
            max_in_snapshot_log_to_keep: 0,
            ..Config::default()
        };
        let config = Arc::new(config.validate().expect("the configuration is valid"));
        let (outbox, state) = (Outbox::default(), State::new(state_bytes.unwrap_or_default()));
        let network = Network { pid, outbox: outbox.clone() };
        let node = Node::new(pid, config, network, Log::default(), state.clone());
        let (node, now) = runtime.block_on(async { (node.await, Instant::now()) });
        let node = node.expect("a server starts with an empty log");
        Self { node, outbox, state, queued: Vec::new(), until: now, runtime }
    }

    fn tick(&mut self) {
        self.until += TICK;
        let (node, queued, until) = (&self.node, &mut self.queued, self.until);
        self.runtime.block_on(async {
            for item in queued.drain(..) {
                // Nobody waits for the response.
                drop(node.client_write_ff(item).await.expect("the server runs"));
            }
            // The clock moves on when all tasks wait.
            sleep_until(until).await;
        });
    }

    fn handle(&self, bytes: &[u8]) {
        if let Some(request) = self.outbox.receive(bytes) {
            let (node, outbox) = (self.node.clone(), self.outbox.clone());
            self.runtime.spawn(async move { outbox.answer(&node, request).await });
        }
    }

    fn metrics(&self) -> RaftMetrics<u64, EmptyNode> {
        self.node.metrics().borrow().clone()
    }
}

impl Changing for OpenRaft {
    fn start(founders: &[u64], entries: u64, state_bytes: Option<usize>) -> Self {
        let (servers, operator) = (BTreeMap::new(), Operator::Waiting);
        let mut all = Self { servers, state_bytes, appended: 0, operator };
        founders.iter().for_each(|pid| all.join(*pid));
        let members: BTreeMap<_, _> = founders.iter().map(|pid| (*pid, EmptyNode {})).collect();
        let first = &all.servers[&founders[0]];
        first.runtime.block_on(first.node.initialize(members)).expect("the log is empty");
        while all.leader().is_none() {
            all.pass_tick();
        }
        while all.appended < entries {
            let leader = all.leader().expect("no server fails");
            (0..1_000).for_each(|_| all.append(leader));
            all.pass_tick();
        }
        for _ in 0..10 * ELECTION_TICKS {
            all.pass_tick();
        }
        for server in all.servers.values().filter(|_| state_bytes.is_some()) {
            let snapshot = server.node.trigger();
            server.runtime.block_on(snapshot.snapshot()).expect("the server runs");
        }
        for _ in 0..ELECTION_TICKS {
            all.pass_tick();
        }
        all
    }

    fn join(&mut self, pid: u64) {
        self.servers.insert(pid, Server::start(pid, self.state_bytes));
    }

    fn pids(&self) -> Vec<u64> {
        self.servers.keys().copied().collect()
    }

    fn tick(&mut self, pid: u64) {
        self.server(pid).tick();
    }

    fn take(&mut self, pid: u64, send: &mut dyn FnMut(u64, Vec<u8>)) {
        for Packet { to, bytes } in self.server(pid).outbox.take() {
            send(to, bytes);
        }
    }

    fn kind(bytes: &[u8]) -> String {
        network::kind(bytes).to_string()
    }

    fn handle(&mut self, pid: u64, bytes: &[u8]) {
        self.server(pid).handle(bytes);
    }

    fn leader(&self) -> Option<u64> {
        let metrics = self.servers.values().map(Server::metrics);
        let leaders = metrics.filter(|metrics| metrics.state == ServerState::Leader);
        leaders.max_by_key(|metrics| metrics.current_term).map(|metrics| metrics.id)
    }

    fn append(&mut self, pid: u64) {
        let item = Item { key: self.appended, value: u64::MAX };
        self.server(pid).queued.push(item);
        self.appended += 1;
    }

    fn decided(&self) -> u64 {
        self.servers.values().map(|server| server.state.applied()).max().unwrap_or_default()
    }

    fn change(&mut self, next: &[u64]) {
        let Some(leader) = self.leader() else {
            return;
        };
        let server = &self.servers[&leader];
        match &mut self.operator {
            Operator::Waiting => {
                let change = change_members(server.node.clone(), next.to_vec());
                self.operator = Operator::Changing(server.runtime.spawn(change));
            }
            Operator::Changing(task) if task.is_finished() => {
                let has_succeeded = server.runtime.block_on(task).unwrap_or(false);
                self.operator = if has_succeeded { Operator::Done } else { Operator::Waiting };
            }
            Operator::Changing(_) | Operator::Done => {}
        }
    }

    fn is_member(&self, pid: u64) -> bool {
        // The leader counts it from then on. It may learn that later.
        self.leader().is_some_and(|leader| {
            let membership = self.servers[&leader].metrics().membership_config;
            membership.voter_ids().any(|voter| voter == pid)
        })
    }

    fn has_changed(&self, next: &[u64]) -> bool {
        self.leader().is_some_and(|leader| {
            let membership = self.servers[&leader].metrics().membership_config;
            let configurations = membership.membership().get_joint_config();
            let is_next = |members: &BTreeSet<u64>| members.iter().eq(next);
            configurations.iter().all(is_next) && next.contains(&leader)
        })
    }
}

impl OpenRaft {
    fn server(&mut self, pid: u64) -> &mut Server {
        self.servers.get_mut(&pid).expect("the server was started")
    }

    /// A tick of all servers, without a limit of bytes.
    fn pass_tick(&mut self) {
        let mut packets = Vec::new();
        for server in self.servers.values_mut() {
            server.tick();
            packets.extend(server.outbox.take());
        }
        for Packet { to, bytes } in packets {
            self.server(to).handle(&bytes);
        }
    }
}

/// Does what an operator does. Returns whether it succeeded.
async fn change_members(leader: Node, next: Vec<u64>) -> bool {
    let metrics = leader.metrics().borrow().clone();
    let known: BTreeSet<u64> = metrics.membership_config.nodes().map(|(pid, _)| *pid).collect();
    for joiner in next.iter().filter(|pid| !known.contains(pid)) {
        if leader.add_learner(*joiner, EmptyNode {}, false).await.is_err() {
            return false;
        }
    }
    let have_caught_up = |metrics: &RaftMetrics<u64, EmptyNode>| {
        let Some(replication) = &metrics.replication else {
            return true;
        };
        let last = metrics.last_log_index.unwrap_or_default();
        let matched = |pid: &u64| replication.get(pid).copied().flatten().index();
        next.iter().all(|pid| matched(pid).is_some_and(|idx| idx + MOST_MISSING >= last))
    };
    let wait = leader.wait(None);
    if wait.metrics(have_caught_up, "the joiners have caught up").await.is_err() {
        return false;
    }
    let next: BTreeSet<u64> = next.into_iter().collect();
    leader.change_membership(next, false).await.is_ok()
}
