//! Servers over persistent storages in a temporary folder, in one thread.

use omnipaxos::{
    errors::TryProposeErr,
    events::Event,
    messages::Message,
    proposals::{Outcome, ProposalId},
    storage::Entry,
    util::{LogEntry, NodeId},
    ClusterConfig, ServerConfig,
};
use omnipaxos_harness::{build, kind, Fate, Network, OnHalt, Pick};
use omnipaxos_storage::{
    commitlog::LogOptions,
    persistent_storage::{PersistentStorage, PersistentStorageConfig},
};
use serde::{de::DeserializeOwned, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Deref, DerefMut},
};
use tempfile::TempDir;

/// The smallest segments.
pub(crate) const SMALL: usize = 4096;

/// Segments that hold all that these tests propose.
pub(crate) const LARGE: usize = 1 << 20;

/// Messages of these kinds, from one server to another, are held back. All others arrive in the same tick.
pub(crate) type Holds = BTreeSet<(NodeId, NodeId, &'static str)>;

pub(crate) struct Holding(pub(crate) Holds);

impl<T: Entry> Network<T> for Holding {
    fn fate(&mut self, _now: u64, message: &mut Message<T>) -> Fate {
        let place = (message.get_sender(), message.get_receiver(), kind(message));
        if self.0.contains(&place) {
            Fate::Held
        } else {
            Fate::Arrives(0)
        }
    }
}

/// The cluster. A server that halts is silent.
pub(crate) struct Cluster<T>
where
    T: Entry + Serialize + DeserializeOwned,
    T::Snapshot: Serialize + DeserializeOwned,
{
    cluster: omnipaxos_harness::Cluster<T, PersistentStorage<T>, Holding>,
    folder: TempDir,
    config: ClusterConfig,
    /// The segment size of each server, from its next start on.
    pub(crate) segments: BTreeMap<NodeId, usize>,
    change: fn(&mut ServerConfig),
    ended: Vec<(ProposalId, Outcome)>,
}

impl<T> Deref for Cluster<T>
where
    T: Entry + Serialize + DeserializeOwned,
    T::Snapshot: Serialize + DeserializeOwned,
{
    type Target = omnipaxos_harness::Cluster<T, PersistentStorage<T>, Holding>;

    fn deref(&self) -> &Self::Target {
        &self.cluster
    }
}

impl<T> DerefMut for Cluster<T>
where
    T: Entry + Serialize + DeserializeOwned,
    T::Snapshot: Serialize + DeserializeOwned,
{
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.cluster
    }
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
            cluster: omnipaxos_harness::Cluster::of([], Holding(Holds::new())),
            folder: tempfile::tempdir().unwrap(),
            segments: nodes.iter().copied().zip(segments.iter().copied()).collect(),
            config: ClusterConfig { configuration_id: 1, nodes, flexible_quorum: None },
            change,
            ended: Vec::new(),
        };
        cluster.on_halt = OnHalt::StaySilent;
        (1..=segments.len() as NodeId).for_each(|pid| cluster.restart(pid));
        cluster
    }

    /// As [`new`](Self::new), led by 1.
    pub(crate) fn led_by_1(segments: &[usize]) -> Self {
        let mut cluster = Self::new(segments);
        cluster.elect(1);
        cluster
    }

    /// Starts a server with what its folder holds.
    pub(crate) fn restart(&mut self, pid: NodeId) {
        self.look();
        self.crash(pid);
        let folder = self.folder.path().join(pid.to_string());
        let mut options = LogOptions::new(folder.join("log"));
        options.segment_max_bytes(self.segments[&pid]);
        let mut config = PersistentStorageConfig::default();
        config.set_path(folder.to_str().unwrap().to_string());
        config.set_commitlog_options(options);
        let storage = PersistentStorage::try_open(config).unwrap();
        let server = build(&self.config, pid, self.change, storage);
        self.start(server);
    }

    pub(crate) fn leader(&self) -> NodeId {
        let mut servers = self.servers().filter(|server| server.halted().is_none());
        let leader = servers.find(|server| server.get_current_leader() == Some(server.get_pid()));
        leader.expect("somebody leads").get_pid()
    }

    /// Delivers what was held back of a kind from one server to another, and ends the hold.
    pub(crate) fn release(&mut self, from: NodeId, to: NodeId, kind: &'static str) -> usize {
        self.network.0.remove(&(from, to, kind));
        self.release_picked(&Pick::of(from, to, kind))
    }

    /// Notes which proposals have ended.
    fn look(&mut self) {
        let events = self.cluster.servers_mut().flat_map(|server| server.take_events());
        self.ended.extend(events.filter_map(|event| match event {
            Event::ProposalEnded { id, outcome } => Some((id, outcome)),
            _another => None,
        }));
    }

    /// How a proposal ended, if it has.
    pub(crate) fn outcome(&mut self, id: ProposalId) -> Option<Outcome> {
        self.look();
        let mut of_id = self.ended.iter().filter(|(ended, _)| *ended == id);
        let outcome = of_id.next().map(|(_, outcome)| outcome.clone());
        assert_eq!(of_id.next(), None, "a proposal ends once");
        outcome
    }

    /// Why servers have halted.
    pub(crate) fn halted(&self) -> Vec<(NodeId, String)> {
        let why = self.servers().map(|server| (server.get_pid(), server.halted()));
        why.filter_map(|(pid, halted)| Some((pid, halted?.cause().to_string()))).collect()
    }

    /// The decided entries of a server.
    pub(crate) fn decided(&mut self, pid: NodeId) -> Vec<T> {
        let read = self.server(pid).try_read_decided_suffix(0).unwrap();
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
        for pid in self.config.nodes.clone() {
            self.restart(pid);
            self.run(60);
            assert_eq!(self.halted(), [], "after a restart of {pid}");
            self.elect(pid);
            self.server(pid).try_append(plain()).map_err(described).unwrap();
            self.run(40);
            assert_eq!(self.halted(), [], "while {pid} leads");
        }
        let decided = self.decided(1);
        assert!(decided.len() >= self.config.nodes.len());
        for pid in self.config.nodes.clone() {
            assert!(self.decided(pid) == decided, "server {pid} differs");
        }
    }
}

fn described<T: Entry>(error: TryProposeErr<T>) -> String {
    error.to_string()
}
