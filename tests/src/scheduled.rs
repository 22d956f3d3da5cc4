//! Clusters under faults that last: what becomes of a message depends on its link and on the tick in
//! which it is sent. What is measured is the longest time in which nothing is decided, and the leaders that
//! each server sees.

use crate::lab::Word;
use omnipaxos::{
    events::Event,
    messages::Message,
    util::{FlexibleQuorum, NodeId},
    ClusterConfig, OmniPaxos, ServerConfig,
};
pub use omnipaxos_harness::Fate;
use omnipaxos_harness::{build, Cluster, Network};
use omnipaxos_storage::memory_storage::MemoryStorage;

/// A server of a [`Scheduled`].
pub type Server = OmniPaxos<Word, MemoryStorage<Word>>;

/// When a server begins to take part.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The tick at which it is built. Messages to it are lost before.
    pub built_at: u64,
    /// The tick after which its clock runs. It answers messages before.
    pub ticks_from: u64,
}

/// What becomes of a message that is sent at a tick, counted from 0.
struct FromZero<F>(F);

impl<F: FnMut(u64, &Message<Word>) -> Fate> Network<Word> for FromZero<F> {
    fn fate(&mut self, now: u64, message: &mut Message<Word>) -> Fate {
        (self.0)(now - 1, message)
    }
}

/// The cluster: servers 1 to n.
pub struct Scheduled<F> {
    cluster: Cluster<Word, MemoryStorage<Word>, FromZero<F>>,
    config: ClusterConfig,
    configs: Vec<ServerConfig>,
    starts: Vec<Start>,
    leaders: Vec<Vec<NodeId>>,
    reported_leaders: Vec<Vec<NodeId>>,
    decided: u64,
    decided_at: u64,
    longest_wait: u64,
    appends: bool,
}

impl<F: FnMut(u64, &Message<Word>) -> Fate> Scheduled<F> {
    /// A cluster whose servers start at these times, with settings changed by `change`. `fate` decides what
    /// becomes of a message that is sent at a tick.
    pub fn new(
        starts: &[Start],
        flexible_quorum: Option<FlexibleQuorum>,
        change: impl Fn(&mut ServerConfig),
        fate: F,
    ) -> Self {
        let size = starts.len();
        let nodes: Vec<NodeId> = (1..=size as NodeId).collect();
        let config = |pid: &NodeId| {
            let mut config = ServerConfig { pid: *pid, ..Default::default() };
            change(&mut config);
            config
        };
        Self {
            cluster: Cluster::of([], FromZero(fate)),
            configs: nodes.iter().map(config).collect(),
            config: ClusterConfig { configuration_id: 1, nodes, flexible_quorum },
            starts: starts.to_vec(),
            leaders: vec![Vec::new(); size],
            reported_leaders: vec![Vec::new(); size],
            decided: 0,
            decided_at: 0,
            longest_wait: 0,
            appends: false,
        }
    }

    /// The server of this pid.
    ///
    /// # Panics
    /// If it does not run.
    pub fn server(&mut self, pid: NodeId) -> &mut Server {
        self.cluster.server(pid)
    }

    /// The servers that run.
    pub fn running(&self) -> impl Iterator<Item = &Server> {
        self.cluster.servers()
    }

    /// Stops a server for good.
    pub fn crash(&mut self, pid: NodeId) {
        self.cluster.crash(pid);
        self.starts[pid as usize - 1].built_at = u64::MAX;
    }

    /// The tick.
    pub fn now(&self) -> u64 {
        self.cluster.now()
    }

    /// From now on each server that takes itself for the leader appends an entry as soon as it has
    /// decided the one before, and the time without a decision is measured.
    pub fn measure(&mut self) {
        self.appends = true;
        self.decided_at = self.now();
        self.longest_wait = 0;
    }

    /// The most ticks without a decision since the measurement began.
    pub fn longest_wait(&self) -> u64 {
        self.longest_wait.max(self.now() - self.decided_at)
    }

    /// The leaders that each server has seen, in order, asked after each tick.
    pub fn leaders(&self) -> &[Vec<NodeId>] {
        &self.leaders
    }

    /// The leaders that each server has reported with events, in order.
    pub fn reported_leaders(&self) -> &[Vec<NodeId>] {
        &self.reported_leaders
    }

    /// The highest ballot number that a server has promised.
    pub fn highest_ballot(&self) -> u32 {
        self.running().map(|server| server.get_promise().n).max().unwrap_or(0)
    }

    /// Lets ticks pass.
    pub fn run(&mut self, ticks: u64) {
        (0..ticks).for_each(|_| self.tick());
    }

    /// Lets one tick pass.
    pub fn tick(&mut self) {
        let now = self.now();
        for ((pid, start), config) in (1..).zip(&self.starts).zip(&self.configs) {
            if start.built_at == now {
                let change = |default: &mut ServerConfig| *default = config.clone();
                let server = build(&self.config, pid, change, MemoryStorage::default());
                self.cluster.start(server);
            }
            let ticks_from = start.ticks_from.max(start.built_at.saturating_add(1));
            self.cluster.set_ticked(pid, now >= ticks_from);
        }
        self.cluster.begin_tick();
        for server in self.cluster.servers_mut().filter(|_| self.appends) {
            let leads = server.get_current_leader() == Some(server.get_pid());
            if leads && server.get_accepted_idx() == server.get_decided_idx() {
                let appended = server.append(Word(now.to_string()));
                assert!(appended.is_ok(), "{appended:?}");
            }
        }
        self.cluster.drain();
        self.look();
    }

    fn look(&mut self) {
        let now = self.now() - 1;
        for server in self.cluster.servers_mut() {
            let at = server.get_pid() as usize - 1;
            note(&mut self.leaders[at], server.get_current_leader());
            for event in server.take_events() {
                if let Event::LeaderChanged { leader, .. } = event {
                    note(&mut self.reported_leaders[at], leader.map(|ballot| ballot.pid));
                }
            }
        }
        let decided = self.running().map(Server::get_decided_idx).max().unwrap_or(0);
        if decided > self.decided {
            self.longest_wait = self.longest_wait.max(now - self.decided_at);
            (self.decided, self.decided_at) = (decided, now);
        }
    }
}

fn note(seen: &mut Vec<NodeId>, leader: Option<NodeId>) {
    if let Some(leader) = leader.filter(|leader| seen.last() != Some(leader)) {
        seen.push(leader);
    }
}
