//! Servers over persistent storages in a temporary folder, in one thread.

use omnipaxos::{
    errors::TryProposeErr,
    events::Event,
    messages::Message,
    proposals::{Outcome, ProposalId},
    storage::Entry,
    util::{LogEntry, NodeId},
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::{
    commitlog::LogOptions,
    persistent_storage::{PersistentStorage, PersistentStorageConfig},
};
use omnipaxos_tests::lab::kind;
use serde::{de::DeserializeOwned, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tempfile::TempDir;

/// The smallest segments.
pub(crate) const SMALL: usize = 4096;

/// Segments that hold all that these tests propose.
pub(crate) const LARGE: usize = 1 << 20;

/// The cluster.
pub(crate) struct Cluster<T>
where
    T: Entry + Serialize + DeserializeOwned,
    T::Snapshot: Serialize + DeserializeOwned,
{
    folder: TempDir,
    nodes: Vec<NodeId>,
    /// The segment size of each server, from its next start on.
    pub(crate) segments: BTreeMap<NodeId, usize>,
    change: fn(&mut ServerConfig),
    servers: BTreeMap<NodeId, OmniPaxos<T, PersistentStorage<T>>>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// Messages of this kind, from one server to another, are held back.
    pub(crate) holds: BTreeSet<(NodeId, NodeId, &'static str)>,
    held: Vec<Message<T>>,
    ended: Vec<(ProposalId, Outcome)>,
}

impl<T> Cluster<T>
where
    T: Entry + Serialize + DeserializeOwned,
    T::Snapshot: Serialize + DeserializeOwned,
{
    /// Servers 1, 2 and so on, one for each segment size.
    pub(crate) fn new(segments: &[usize]) -> Self {
        Self::with(segments, |_| {})
    }

    /// As [`new`](Self::new), with settings changed by `change`.
    pub(crate) fn with(segments: &[usize], change: fn(&mut ServerConfig)) -> Self {
        let nodes: Vec<NodeId> = (1..=segments.len() as NodeId).collect();
        let mut cluster = Self {
            folder: tempfile::tempdir().unwrap(),
            segments: nodes.iter().copied().zip(segments.iter().copied()).collect(),
            nodes: nodes.clone(),
            change,
            servers: BTreeMap::new(),
            cuts: BTreeSet::new(),
            holds: BTreeSet::new(),
            held: Vec::new(),
            ended: Vec::new(),
        };
        nodes.iter().for_each(|pid| cluster.restart(*pid));
        cluster
    }

    /// As [`new`](Self::new), led by 1.
    pub(crate) fn led_by_1(segments: &[usize]) -> Self {
        let mut cluster = Self::new(segments);
        cluster.elect(1);
        cluster
    }

    pub(crate) fn elect(&mut self, pid: NodeId) {
        self.run(30);
        self.server(pid).try_become_leader();
        self.run(30);
        assert_eq!(self.server(pid).get_current_leader(), Some(pid));
    }

    pub(crate) fn crash(&mut self, pid: NodeId) {
        self.servers.remove(&pid);
    }

    /// Starts a server with what its folder holds.
    pub(crate) fn restart(&mut self, pid: NodeId) {
        self.crash(pid);
        let folder = self.folder.path().join(pid.to_string());
        let mut options = LogOptions::new(folder.join("log"));
        options.segment_max_bytes(self.segments[&pid]);
        let mut config = PersistentStorageConfig::default();
        config.set_path(folder.to_str().unwrap().to_string());
        config.set_commitlog_options(options);
        let storage = PersistentStorage::try_open(config).unwrap();
        let mut config = ServerConfig { pid, ..Default::default() };
        (self.change)(&mut config);
        let nodes = self.nodes.clone();
        let cluster = ClusterConfig { configuration_id: 1, nodes, flexible_quorum: None };
        self.servers.insert(pid, cluster.build_for_server(config, storage).unwrap());
    }

    pub(crate) fn server(&mut self, pid: NodeId) -> &mut OmniPaxos<T, PersistentStorage<T>> {
        self.servers.get_mut(&pid).unwrap()
    }

    pub(crate) fn leader(&self) -> NodeId {
        let leads = |pid: &&NodeId| {
            self.servers
                .get(pid)
                .is_some_and(|s| s.halted().is_none() && s.get_current_leader() == Some(**pid))
        };
        *self.nodes.iter().find(leads).expect("somebody leads")
    }

    /// Nothing is sent between these two.
    pub(crate) fn cut(&mut self, a: NodeId, b: NodeId) {
        self.cuts.extend([(a, b), (b, a)]);
    }

    pub(crate) fn mend(&mut self, a: NodeId, b: NodeId) {
        self.cuts.remove(&(a, b));
        self.cuts.remove(&(b, a));
    }

    pub(crate) fn heal_all(&mut self) {
        self.cuts.clear();
    }

    pub(crate) fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            for server in self.servers.values_mut() {
                let _ = server.try_tick();
            }
            self.settle();
        }
    }

    /// Delivers what was sent, until nobody has anything to say. A server that halts is silent.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut messages: Vec<Message<T>> = Vec::new();
            for server in self.servers.values_mut() {
                let _ = server.try_take_outgoing_messages(&mut messages);
                let ended = server.take_events().into_iter().filter_map(|event| match event {
                    Event::ProposalEnded { id, outcome } => Some((id, outcome)),
                    _another => None,
                });
                self.ended.extend(ended);
            }
            if messages.is_empty() {
                return;
            }
            for message in messages {
                if self.holds.contains(&place(&message)) {
                    self.held.push(message);
                    continue;
                }
                let (from, to) = (message.get_sender(), message.get_receiver());
                let receiver = self.servers.get_mut(&to);
                if let Some(server) = receiver.filter(|_| !self.cuts.contains(&(from, to))) {
                    let _ = server.try_handle_incoming(message);
                }
            }
        }
    }

    /// Delivers what was held back of a kind from one server to another, and holds it no more.
    pub(crate) fn release(&mut self, from: NodeId, to: NodeId, kind: &'static str) -> usize {
        self.holds.remove(&(from, to, kind));
        let held = std::mem::take(&mut self.held);
        let (released, held) =
            held.into_iter().partition::<Vec<_>, _>(|message| place(message) == (from, to, kind));
        self.held = held;
        let count = released.len();
        for message in released {
            let _ = self.server(to).try_handle_incoming(message);
        }
        count
    }

    /// How a proposal ended, if it has.
    pub(crate) fn outcome(&self, id: ProposalId) -> Option<Outcome> {
        let mut of_id = self.ended.iter().filter(|(ended, _)| *ended == id);
        let outcome = of_id.next().map(|(_, outcome)| outcome.clone());
        assert_eq!(of_id.next(), None, "a proposal ends once");
        outcome
    }

    /// Why servers have halted.
    pub(crate) fn halted(&self) -> Vec<(NodeId, String)> {
        let why = self.servers.iter().map(|(pid, server)| (*pid, server.halted()));
        why.filter_map(|(pid, halted)| Some((pid, halted?.cause().to_string()))).collect()
    }

    /// The decided entries of a server.
    pub(crate) fn decided(&self, pid: NodeId) -> Vec<T> {
        let read = self.servers[&pid].try_read_decided_suffix(0).unwrap();
        let of_entry = |entry| match entry {
            LogEntry::Decided(entry) => Some(entry),
            _another => None,
        };
        read.unwrap_or_default().into_iter().filter_map(of_entry).collect()
    }

    /// All servers run, decide another entry each, hold the same, and do so again when each was
    /// restarted and has led.
    pub(crate) fn assert_goes_on(&mut self, plain: impl Fn() -> T)
    where
        T: PartialEq,
    {
        for pid in self.nodes.clone() {
            self.restart(pid);
            self.run(60);
            assert_eq!(self.halted(), [], "after a restart of {pid}");
            self.elect(pid);
            self.server(pid).try_append(plain()).map_err(described).unwrap();
            self.run(40);
            assert_eq!(self.halted(), [], "while {pid} leads");
        }
        let decided = self.decided(1);
        assert!(decided.len() >= self.nodes.len());
        for pid in self.nodes.clone() {
            assert!(self.decided(pid) == decided, "server {pid} differs");
        }
    }
}

/// Where a message goes, and its kind.
fn place<T: Entry>(message: &Message<T>) -> (NodeId, NodeId, &'static str) {
    (message.get_sender(), message.get_receiver(), kind(message))
}

fn described<T: Entry>(error: TryProposeErr<T>) -> String {
    error.to_string()
}
