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
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::collections::BTreeMap;

/// A server of a [`Scheduled`].
pub type Server = OmniPaxos<Word, MemoryStorage<Word>>;

/// What becomes of a message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives so many ticks later.
    Arrives(u64),
    /// It is lost.
    Lost,
}

/// When a server begins to take part.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The tick at which it is built. Messages to it are lost before.
    pub built_at: u64,
    /// The tick after which its clock runs. It answers messages before.
    pub ticks_from: u64,
}

/// The cluster: servers 1 to n.
pub struct Scheduled<F> {
    cluster: ClusterConfig,
    configs: Vec<ServerConfig>,
    starts: Vec<Start>,
    servers: Vec<Option<Server>>,
    fate: F,
    in_flight: BTreeMap<u64, Vec<Message<Word>>>,
    now: u64,
    leaders: Vec<Vec<NodeId>>,
    reported_leaders: Vec<Vec<NodeId>>,
    decided: u64,
    decided_at: u64,
    longest_wait: u64,
    appends: bool,
}

impl<F: FnMut(u64, &Message<Word>) -> Fate> Scheduled<F> {
    /// A cluster whose servers start as told, with settings changed by `change`. `fate` says what
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
            configs: nodes.iter().map(config).collect(),
            cluster: ClusterConfig { configuration_id: 1, nodes, flexible_quorum },
            starts: starts.to_vec(),
            servers: vec![None; size],
            fate,
            in_flight: BTreeMap::new(),
            now: 0,
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
        let server = self.servers.get_mut(pid as usize - 1).and_then(Option::as_mut);
        server.unwrap_or_else(|| panic!("server {pid} does not run"))
    }

    /// The servers that run.
    pub fn running(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().flatten()
    }

    /// Stops a server for good.
    pub fn crash(&mut self, pid: NodeId) {
        self.servers[pid as usize - 1] = None;
        self.starts[pid as usize - 1].built_at = u64::MAX;
    }

    /// The tick.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// From now on each server that takes itself for the leader appends an entry as soon as it has
    /// decided the one before, and the time without a decision is measured.
    pub fn measure(&mut self) {
        self.appends = true;
        self.decided_at = self.now;
        self.longest_wait = 0;
    }

    /// The most ticks without a decision since the measurement began.
    pub fn longest_wait(&self) -> u64 {
        self.longest_wait.max(self.now - self.decided_at)
    }

    /// The leaders that each server has seen, in order, asked after each tick.
    pub fn leaders(&self) -> &[Vec<NodeId>] {
        &self.leaders
    }

    /// The leaders that each server has told of with events, in order.
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

    /// Lets one tick pass: messages arrive, clocks tick, messages leave.
    ///
    /// # Panics
    /// If a server cannot be built.
    pub fn tick(&mut self) {
        for at in 0..self.servers.len() {
            if self.starts[at].built_at == self.now {
                let (cluster, config) = (self.cluster.clone(), self.configs[at].clone());
                match cluster.build_for_server(config, MemoryStorage::default()) {
                    Ok(server) => self.servers[at] = Some(server),
                    Err(error) => panic!("server {}: {error}", at + 1),
                }
            }
        }
        for message in self.in_flight.remove(&self.now).unwrap_or_default() {
            let to = message.get_receiver() as usize - 1;
            if let Some(server) = &mut self.servers[to] {
                server.handle_incoming(message);
            }
        }
        let mut messages = Vec::new();
        for (server, start) in self.servers.iter_mut().zip(&self.starts) {
            let Some(server) = server else {
                continue;
            };
            if self.now >= start.ticks_from.max(start.built_at.saturating_add(1)) {
                server.tick();
            }
            let leads = server.get_current_leader() == Some(server.get_pid());
            if self.appends && leads && server.get_accepted_idx() == server.get_decided_idx() {
                let appended = server.append(Word(self.now.to_string()));
                assert!(appended.is_ok(), "{appended:?}");
            }
            server.take_outgoing_messages(&mut messages);
        }
        for message in messages {
            match (self.fate)(self.now, &message) {
                Fate::Arrives(delay) => {
                    self.in_flight.entry(self.now + delay.max(1)).or_default().push(message);
                }
                Fate::Lost => {}
            }
        }
        self.look();
        self.now += 1;
    }

    fn look(&mut self) {
        for (at, server) in self.servers.iter_mut().enumerate() {
            let Some(server) = server else {
                continue;
            };
            note(&mut self.leaders[at], server.get_current_leader());
            for event in server.take_events() {
                if let Event::LeaderChanged { leader, .. } = event {
                    note(&mut self.reported_leaders[at], leader.map(|ballot| ballot.pid));
                }
            }
        }
        let decided = self.running().map(Server::get_decided_idx).max().unwrap_or(0);
        if decided > self.decided {
            self.longest_wait = self.longest_wait.max(self.now - self.decided_at);
            (self.decided, self.decided_at) = (decided, self.now);
        }
    }
}

fn note(seen: &mut Vec<NodeId>, leader: Option<NodeId>) {
    if let Some(leader) = leader.filter(|leader| seen.last() != Some(leader)) {
        seen.push(leader);
    }
}
