//! A small cluster under full control, for tests that tell a story: what is in flight can be seen,
//! dropped, held, doubled and delivered step by step. Nothing is random here.

use crate::failing_storage::FailingStorage;
use omnipaxos::{
    reads::{ReadId, ReadRefused, ReadState},
    storage::{Entry, Snapshot},
    util::{FlexibleQuorum, LogEntry, NodeId},
    ClusterConfig, OmniPaxos, ServerConfig,
};
pub use omnipaxos_harness::{kind, Pick};
use omnipaxos_harness::{Cluster, Scripted};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Deref, DerefMut},
};

/// An entry: a word. Its snapshot is the list of words, so that a test sees what it sums up.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Word(pub String);

impl Entry for Word {
    type Snapshot = Words;
    omnipaxos::without_unicache!();
}

/// Many words, in order.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Words(pub Vec<String>);

impl Snapshot<Word> for Words {
    fn create(entries: &[Word]) -> Self {
        Words(entries.iter().map(|word| word.0.clone()).collect())
    }

    fn merge(&mut self, delta: Self) {
        self.0.extend(delta.0);
    }

    fn use_snapshots() -> bool {
        true
    }
}

/// A storage that outlives its server.
pub type Disk = FailingStorage<Word>;

/// A server of a [`Lab`].
pub type Server = OmniPaxos<Word, Disk>;

/// The cluster: one of the harness, in which a message takes one tick.
#[derive(Debug)]
pub struct Lab {
    cluster: Cluster<Word, Disk, Scripted>,
    config: ClusterConfig,
    configs: BTreeMap<NodeId, ServerConfig>,
    disks: BTreeMap<NodeId, Disk>,
    /// The servers that learn the members with the log.
    joined: BTreeSet<NodeId>,
    /// How many disks were wiped.
    wiped: u64,
    /// Whether disks that come later have no ids.
    are_nameless: bool,
    /// The read requested last at each server.
    reads: BTreeMap<NodeId, ReadId>,
}

impl Deref for Lab {
    type Target = Cluster<Word, Disk, Scripted>;

    fn deref(&self) -> &Self::Target {
        &self.cluster
    }
}

impl DerefMut for Lab {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.cluster
    }
}

impl Lab {
    /// A cluster of these servers, with default settings.
    pub fn new(nodes: &[NodeId]) -> Self {
        Self::with(nodes, |_| {})
    }

    /// A cluster of these servers, with settings changed by `change`.
    pub fn with(nodes: &[NodeId], change: impl Fn(&mut ServerConfig)) -> Self {
        Self::with_quorum(nodes, None, change)
    }

    /// A cluster of these servers, with these quorum sizes and settings changed by `change`.
    pub fn with_quorum(
        nodes: &[NodeId],
        flexible_quorum: Option<FlexibleQuorum>,
        change: impl Fn(&mut ServerConfig),
    ) -> Self {
        let settings = |pid: &NodeId| {
            let mut config = ServerConfig { pid: *pid, ..Default::default() };
            change(&mut config);
            (*pid, config)
        };
        let mut lab = Self {
            cluster: Cluster::of([], Scripted::new(1)),
            config: ClusterConfig { configuration_id: 1, nodes: nodes.to_vec(), flexible_quorum },
            configs: nodes.iter().map(settings).collect(),
            disks: nodes.iter().map(|pid| (*pid, Disk::default())).collect(),
            joined: BTreeSet::new(),
            wiped: 0,
            are_nameless: false,
            reads: BTreeMap::new(),
        };
        nodes.iter().for_each(|pid| lab.restart(*pid));
        lab
    }

    /// The servers, running or not.
    pub fn nodes(&self) -> &[NodeId] {
        &self.config.nodes
    }

    /// Whether there is such a server, running or not.
    pub fn knows(&self, pid: NodeId) -> bool {
        self.configs.contains_key(&pid)
    }

    /// Changes the settings of all servers. They count from the next start of each.
    pub fn change_all(&mut self, change: impl Fn(&mut ServerConfig)) {
        self.configs.values_mut().for_each(change);
    }

    /// Appends a word at a server.
    pub fn append(&mut self, pid: NodeId, word: &str) {
        let appended = self.server(pid).append(Word(word.to_string()));
        assert!(appended.is_ok(), "{appended:?}");
    }

    /// Starts an observer, which learns from `sources`.
    pub fn observe(&mut self, pid: NodeId, sources: &[NodeId]) {
        let like = self.configs.values().next().cloned().unwrap_or_default();
        let config = ServerConfig { pid, observes: sources.to_vec(), ..like };
        self.configs.insert(pid, config);
        self.disks.insert(pid, self.empty_disk(pid));
        self.restart(pid);
    }

    /// Starts a server that is to join a log that continues, and knows these servers.
    pub fn join(&mut self, pid: NodeId, sources: &[NodeId]) {
        self.joined.insert(pid);
        self.observe(pid, sources);
    }

    /// Stops a server, and starts it with an empty disk of another id.
    pub fn wipe(&mut self, pid: NodeId) {
        self.wiped += 1;
        self.disks.insert(pid, self.empty_disk(pid + 1000 * self.wiped));
        self.restart(pid);
    }

    /// Gives no ids to the disks that come later. Those of the first servers have none.
    pub fn omit_disk_ids(&mut self) {
        self.are_nameless = true;
    }

    fn empty_disk(&self, id: u64) -> Disk {
        match self.are_nameless {
            true => Disk::default(),
            false => Disk::with_id(id),
        }
    }

    /// Requests a linearizable read at a server.
    ///
    /// # Errors
    /// It is refused.
    pub fn request_read(&mut self, pid: NodeId) -> Result<(), ReadRefused> {
        let read = self.server(pid).request_read()?;
        self.reads.insert(pid, read);
        Ok(())
    }

    /// How far the read is that was requested last at a server.
    ///
    /// # Panics
    /// If none was.
    pub fn read_state(&mut self, pid: NodeId) -> ReadState {
        let read = self.reads[&pid];
        self.server(pid).read_state(read)
    }

    /// The disk of a server.
    ///
    /// # Panics
    /// If it is no server of this cluster.
    pub fn disk(&self, pid: NodeId) -> &Disk {
        &self.disks[&pid]
    }

    /// Starts a server with what its disk holds.
    pub fn restart(&mut self, pid: NodeId) {
        self.crash(pid);
        let (config, disk) = (self.configs[&pid].clone(), self.disks[&pid].clone());
        let change = |default: &mut ServerConfig| *default = config;
        let cluster = match self.joined.contains(&pid) {
            true => ClusterConfig::default(),
            false => self.config.clone(),
        };
        let server = omnipaxos_harness::build(&cluster, pid, change, disk);
        self.start(server);
    }

    /// What a server has decided: the words before its decided index, those of a snapshot
    /// included. A stop sign reads `<stop>`, a trimmed part `<trimmed N>`.
    pub fn decided(&mut self, pid: NodeId) -> Vec<String> {
        words(self.server(pid).read_decided_suffix(0).unwrap_or_default())
    }

    /// The whole log of a server.
    pub fn log(&mut self, pid: NodeId) -> Vec<String> {
        words(self.server(pid).read_entries(..).unwrap_or_default())
    }

    /// Checks that every running server has decided exactly `words`.
    #[track_caller]
    pub fn assert_decided_everywhere(&mut self, words: &[&str]) {
        for pid in self.running() {
            assert_eq!(self.decided(pid), words, "decided at server {pid}");
        }
    }
}

/// The words of entries, those that a snapshot sums up included.
pub fn words(entries: Vec<LogEntry<Word>>) -> Vec<String> {
    let mut words = Vec::new();
    for entry in entries {
        match entry {
            LogEntry::Decided(word) | LogEntry::Undecided(word) => words.push(word.0),
            LogEntry::Snapshotted(snapshotted) => words.extend(snapshotted.snapshot.0),
            LogEntry::Trimmed(idx) => words.push(format!("<trimmed {idx}>")),
            LogEntry::StopSign(..) => words.push("<stop>".to_string()),
        }
    }
    words
}
