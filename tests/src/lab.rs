//! A small cluster under full control, for tests that tell a story: what is in flight can be seen,
//! dropped, held, doubled and delivered step by step. Nothing is random here.

use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Identity,
    reads::{ReadId, ReadRefused, ReadState},
    storage::{Entry, Snapshot, StopSign, Storage, StorageOp, StorageResult},
    util::{FlexibleQuorum, LogEntry, NodeId},
    ClusterConfig, OmniPaxos, ServerConfig,
};
pub use omnipaxos_harness::{kind, Pick};
use omnipaxos_harness::{Cluster, Scripted};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    rc::Rc,
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
#[derive(Clone, Debug, Default)]
pub struct Disk {
    storage: Rc<RefCell<MemoryStorage<Word>>>,
    counts_no_incarnations: bool,
    refuses_snapshots: bool,
    id: Option<u64>,
}

impl Disk {
    /// An empty disk with an id, as one that lasts has it.
    pub fn with_id(id: u64) -> Self {
        Self { id: Some(id), ..Self::default() }
    }

    /// A disk with what this one holds now, its id included.
    #[must_use]
    pub fn copy(&self) -> Self {
        let storage = Rc::new(RefCell::new(self.storage.borrow().clone()));
        Self { storage, ..*self }
    }
}

impl Storage<Word> for Disk {
    fn append_entry(&mut self, entry: Word) -> StorageResult<u64> {
        self.storage.borrow_mut().append_entry(entry)
    }
    fn append_entries(&mut self, entries: Vec<Word>) -> StorageResult<u64> {
        self.storage.borrow_mut().append_entries(entries)
    }
    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<Word>) -> StorageResult<u64> {
        self.storage.borrow_mut().append_on_prefix(from_idx, entries)
    }
    fn set_promise(&mut self, n_prom: Ballot) -> StorageResult<()> {
        self.storage.borrow_mut().set_promise(n_prom)
    }
    fn set_decided_idx(&mut self, ld: u64) -> StorageResult<()> {
        self.storage.borrow_mut().set_decided_idx(ld)
    }
    fn get_decided_idx(&self) -> StorageResult<u64> {
        self.storage.borrow().get_decided_idx()
    }
    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()> {
        self.storage.borrow_mut().set_accepted_round(na)
    }
    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        self.storage.borrow().get_accepted_round()
    }
    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<Word>> {
        self.storage.borrow().get_entries(from, to)
    }
    fn get_log_len(&self) -> StorageResult<u64> {
        self.storage.borrow().get_log_len()
    }
    fn get_suffix(&self, from: u64) -> StorageResult<Vec<Word>> {
        self.storage.borrow().get_suffix(from)
    }
    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        self.storage.borrow().get_promise()
    }
    fn set_stopsign(&mut self, s: Option<StopSign>) -> StorageResult<()> {
        self.storage.borrow_mut().set_stopsign(s)
    }
    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        self.storage.borrow().get_stopsign()
    }
    fn trim(&mut self, idx: u64) -> StorageResult<()> {
        self.storage.borrow_mut().trim(idx)
    }
    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()> {
        self.storage.borrow_mut().set_compacted_idx(idx)
    }
    fn get_compacted_idx(&self) -> StorageResult<u64> {
        self.storage.borrow().get_compacted_idx()
    }
    fn set_snapshot(&mut self, snapshot: Option<Words>) -> StorageResult<()> {
        self.storage.borrow_mut().set_snapshot(snapshot)
    }
    fn get_snapshot(&self) -> StorageResult<Option<Words>> {
        self.storage.borrow().get_snapshot()
    }
    fn max_entry_bytes(&self) -> Option<u64> {
        self.storage.borrow().max_entry_bytes()
    }
    fn check_entry(&self, entry: &Word, limit: u64) -> StorageResult<()> {
        self.storage.borrow().check_entry(entry, limit)
    }
    fn check_stopsign(&self, stopsign: &StopSign, limit: u64) -> StorageResult<()> {
        self.storage.borrow().check_stopsign(stopsign, limit)
    }
    fn check_snapshot(&self, snapshot: &Words) -> StorageResult<()> {
        match self.refuses_snapshots {
            true => Err("it holds no snapshot".into()),
            false => self.storage.borrow().check_snapshot(snapshot),
        }
    }
    fn next_incarnation(&mut self) -> StorageResult<Option<u64>> {
        match self.counts_no_incarnations {
            true => Ok(None),
            false => self.storage.borrow_mut().next_incarnation(),
        }
    }
    fn get_identity(&self) -> StorageResult<Option<Identity>> {
        self.storage.borrow().get_identity()
    }
    fn set_identity(&mut self, identity: Identity) -> StorageResult<()> {
        self.storage.borrow_mut().set_identity(identity)
    }
    fn get_storage_id(&self) -> StorageResult<Option<u64>> {
        Ok(self.id)
    }
    fn write_atomically(&mut self, ops: &mut Vec<StorageOp<Word>>) -> StorageResult<()> {
        self.storage.borrow_mut().write_atomically(ops)
    }
}

/// A server of a [`Lab`].
pub type Server = OmniPaxos<Word, Disk>;

/// The cluster: one of the harness, in which a message takes one tick.
#[derive(Debug)]
pub struct Lab {
    cluster: Cluster<Word, Disk, Scripted>,
    config: ClusterConfig,
    configs: BTreeMap<NodeId, ServerConfig>,
    disks: BTreeMap<NodeId, Disk>,
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
        self.disks.insert(pid, Disk::with_id(pid));
        self.restart(pid);
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

    /// From its next start on, the disk of a server does not count incarnations.
    pub fn count_no_incarnations(&mut self, pid: NodeId) {
        if let Some(disk) = self.disks.get_mut(&pid) {
            disk.counts_no_incarnations = true;
        }
    }

    /// From its next start on, the disk of a server refuses snapshots when it is asked.
    pub fn refuse_snapshots(&mut self, pid: NodeId) {
        if let Some(disk) = self.disks.get_mut(&pid) {
            disk.refuses_snapshots = true;
        }
    }

    /// Starts a server with what its disk holds.
    pub fn restart(&mut self, pid: NodeId) {
        self.crash(pid);
        let (config, disk) = (self.configs[&pid].clone(), self.disks[&pid].clone());
        let change = |default: &mut ServerConfig| *default = config;
        let server = omnipaxos_harness::build(&self.config, pid, change, disk);
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
