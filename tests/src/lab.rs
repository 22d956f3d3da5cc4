//! A small cluster under full control, for tests that tell a story: what is in flight can be seen,
//! dropped, held, doubled and delivered step by step. Nothing is random here.

use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Identity,
    messages::{
        ballot_leader_election::HeartbeatMsg,
        sequence_paxos::{PaxosMessage, PaxosMsg},
        Message,
    },
    reads::{ReadId, ReadRefused, ReadState},
    storage::{Entry, Snapshot, StopSign, Storage, StorageOp, StorageResult},
    util::{FlexibleQuorum, LogEntry, NodeId},
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
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

/// A message to be dropped, held back or doubled: by sender, receiver and kind. `None` is any.
#[derive(Clone, Debug, Default)]
pub struct Pick {
    /// The sender.
    pub from: Option<NodeId>,
    /// The receiver.
    pub to: Option<NodeId>,
    /// The kind, as [`kind`] names it.
    pub kind: Option<String>,
}

impl Pick {
    /// The messages of a kind from one server to another.
    pub fn of(from: NodeId, to: NodeId, kind: &str) -> Self {
        Self { from: Some(from), to: Some(to), kind: Some(kind.to_string()) }
    }

    /// All messages of a kind.
    pub fn kind(kind: &str) -> Self {
        Self { kind: Some(kind.to_string()), ..Self::default() }
    }

    /// Whether this picks `message`.
    pub fn matches(&self, message: &Message<Word>) -> bool {
        self.from.is_none_or(|from| from == message.get_sender())
            && self.to.is_none_or(|to| to == message.get_receiver())
            && self.kind.as_ref().is_none_or(|wanted| wanted == kind(message))
    }
}

/// Names the kind of a message, as the paper does.
pub fn kind<T: Entry>(message: &Message<T>) -> &'static str {
    match message {
        Message::BLE(ble) => match ble.msg {
            HeartbeatMsg::Request(_) => "HeartbeatRequest",
            HeartbeatMsg::Reply(_) => "HeartbeatReply",
        },
        Message::SequencePaxos(PaxosMessage { msg, .. }) => match msg {
            PaxosMsg::PrepareReq(_) => "PrepareReq",
            PaxosMsg::Prepare(_) => "Prepare",
            PaxosMsg::Promise(_) => "Promise",
            PaxosMsg::AcceptSync(_) => "AcceptSync",
            PaxosMsg::AcceptDecide(_) => "AcceptDecide",
            PaxosMsg::AcceptStopSign(_) => "AcceptStopSign",
            PaxosMsg::Accepted(_) => "Accepted",
            PaxosMsg::NotAccepted(_) => "NotAccepted",
            PaxosMsg::Decide(_) => "Decide",
            PaxosMsg::CatchUpRedirect(_) => "CatchUpRedirect",
            PaxosMsg::CatchUpRequest(_) => "CatchUpRequest",
            PaxosMsg::CatchUpChunk(_) => "CatchUpChunk",
            PaxosMsg::ProposalForward(_) => "ProposalForward",
            PaxosMsg::ForwardedProposals(_) => "ForwardedProposals",
            PaxosMsg::ProposalRejection(_) => "ProposalRejection",
            PaxosMsg::ForwardStopSign(_) => "ForwardStopSign",
            PaxosMsg::Compaction(_) => "Compaction",
            PaxosMsg::ReadIndexRequest(_) => "ReadIndexRequest",
            PaxosMsg::ReadIndexResponse(_) => "ReadIndexResponse",
            PaxosMsg::LeadershipCheck(_) => "LeadershipCheck",
            PaxosMsg::LeadershipCheckAck(_) => "LeadershipCheckAck",
            PaxosMsg::TransferLeadership(_) => "TransferLeadership",
        },
    }
}

/// The cluster.
#[derive(Debug)]
pub struct Lab {
    cluster: ClusterConfig,
    configs: BTreeMap<NodeId, ServerConfig>,
    disks: BTreeMap<NodeId, Disk>,
    servers: BTreeMap<NodeId, Server>,
    in_flight: Vec<Message<Word>>,
    held: Vec<Message<Word>>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    drops: Vec<Picks>,
    holds: Vec<Picks>,
    /// The read requested last at each server.
    reads: BTreeMap<NodeId, ReadId>,
    /// How many messages of each kind left a server.
    sent: BTreeMap<&'static str, u64>,
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
        let cluster = ClusterConfig { configuration_id: 1, nodes: nodes.to_vec(), flexible_quorum };
        let mut lab = Self {
            cluster,
            configs: BTreeMap::new(),
            disks: BTreeMap::new(),
            servers: BTreeMap::new(),
            in_flight: Vec::new(),
            held: Vec::new(),
            cuts: BTreeSet::new(),
            drops: Vec::new(),
            holds: Vec::new(),
            reads: BTreeMap::new(),
            sent: BTreeMap::new(),
        };
        for pid in nodes {
            let mut config = ServerConfig { pid: *pid, ..Default::default() };
            change(&mut config);
            lab.configs.insert(*pid, config);
            lab.disks.insert(*pid, Disk::default());
            lab.restart(*pid);
        }
        lab
    }

    /// The servers, running or not.
    pub fn nodes(&self) -> &[NodeId] {
        &self.cluster.nodes
    }

    /// The members and observers, running or not.
    pub fn all(&self) -> Vec<NodeId> {
        self.configs.keys().copied().collect()
    }

    /// Whether there is such a server, running or not.
    pub fn knows(&self, pid: NodeId) -> bool {
        self.configs.contains_key(&pid)
    }

    /// The servers that run.
    pub fn running(&self) -> Vec<NodeId> {
        self.servers.keys().copied().collect()
    }

    /// A running server.
    pub fn server(&mut self, pid: NodeId) -> &mut Server {
        self.servers.get_mut(&pid).unwrap_or_else(|| panic!("server {pid} does not run"))
    }

    /// Appends a word at a server.
    pub fn append(&mut self, pid: NodeId, word: &str) {
        let appended = self.server(pid).append(Word(word.to_string()));
        assert!(appended.is_ok(), "{appended:?}");
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

    /// Starts an observer, which learns from `sources`.
    pub fn observe(&mut self, pid: NodeId, sources: &[NodeId]) {
        let like = self.configs.values().next().cloned().unwrap_or_default();
        let config = ServerConfig { pid, observes: sources.to_vec(), ..like };
        self.configs.insert(pid, config);
        self.disks.insert(pid, Disk::with_id(pid));
        self.restart(pid);
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

    /// Lets a server lose all that it has not stored.
    pub fn crash(&mut self, pid: NodeId) {
        self.servers.remove(&pid);
    }

    /// Starts a server with what its disk holds.
    pub fn restart(&mut self, pid: NodeId) {
        let (config, disk) = (self.configs[&pid].clone(), self.disks[&pid].clone());
        match self.cluster.clone().build_for_server(config, disk) {
            Ok(server) => self.servers.insert(pid, server),
            Err(error) => panic!("server {pid}: {error}"),
        };
    }

    /// Cuts the link from one server to another, in this direction only.
    pub fn cut_one_way(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    /// Cuts the link between two servers.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Cuts every link but those given, which are mended.
    pub fn cut_all_but(&mut self, links: &[(NodeId, NodeId)]) {
        self.cuts.clear();
        let servers: Vec<NodeId> = self.configs.keys().copied().collect();
        for a in &servers {
            for b in &servers {
                if a != b && !links.contains(&(*a, *b)) && !links.contains(&(*b, *a)) {
                    self.cut_one_way(*a, *b);
                }
            }
        }
    }

    /// Mends the link between two servers.
    pub fn heal(&mut self, a: NodeId, b: NodeId) {
        self.cuts.remove(&(a, b));
        self.cuts.remove(&(b, a));
    }

    /// Mends all links.
    pub fn heal_all(&mut self) {
        self.cuts.clear();
    }

    /// Drops the next `count` messages that `pick` picks.
    pub fn drop_next(&mut self, pick: Pick, count: usize) {
        self.drops.push(Picks { pick, skip: 0, count });
    }

    /// Drops the `nth` message, counted from 1, that `pick` picks.
    pub fn drop_nth(&mut self, pick: Pick, nth: usize) {
        self.drops.push(Picks { pick, skip: nth.saturating_sub(1), count: 1 });
    }

    /// Holds back the next `count` messages that `pick` picks, until [`release`](Self::release).
    pub fn hold_next(&mut self, pick: Pick, count: usize) {
        self.holds.push(Picks { pick, skip: 0, count });
    }

    /// Puts the messages held back in flight.
    pub fn release(&mut self) {
        self.in_flight.append(&mut self.held);
    }

    /// Puts a message in flight, as if some server had sent it.
    pub fn inject(&mut self, message: Message<Word>) {
        self.in_flight.push(message);
    }

    /// Takes the outgoing messages of all servers into flight.
    pub fn drain(&mut self) {
        let mut messages = Vec::new();
        for server in self.servers.values_mut() {
            server.take_outgoing_messages(&mut messages);
        }
        for message in messages {
            *self.sent.entry(kind(&message)).or_default() += 1;
            if pick_one(&mut self.drops, &message) {
                continue;
            }
            if pick_one(&mut self.holds, &message) {
                self.held.push(message);
            } else {
                self.in_flight.push(message);
            }
        }
    }

    /// The messages in flight.
    pub fn in_flight(&self) -> &[Message<Word>] {
        &self.in_flight
    }

    /// Delivers what is in flight, and takes what that brings about into flight.
    pub fn deliver(&mut self) {
        for message in std::mem::take(&mut self.in_flight) {
            let link = (message.get_sender(), message.get_receiver());
            if self.cuts.contains(&link) {
                continue;
            }
            if let Some(server) = self.servers.get_mut(&link.1) {
                server.handle_incoming(message);
            }
        }
        self.drain();
    }

    /// Delivers until nothing is in flight. Time stands still.
    ///
    /// # Panics
    /// If it does not end.
    pub fn settle(&mut self) {
        self.drain();
        for _ in 0..1000 {
            if self.in_flight.is_empty() {
                return;
            }
            self.deliver();
        }
        panic!("messages without end: {:?}", self.in_flight);
    }

    /// Lets one tick pass at every server, and delivers what was in flight: a message takes one
    /// tick.
    pub fn tick(&mut self) {
        let arriving = std::mem::take(&mut self.in_flight);
        for server in self.servers.values_mut() {
            server.tick();
        }
        self.in_flight = arriving;
        self.deliver();
    }

    /// Lets `ticks` pass.
    pub fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick();
        }
    }

    /// Makes `pid` the leader of all that run.
    pub fn elect(&mut self, pid: NodeId) {
        let running = self.running();
        self.elect_among(pid, &running);
    }

    /// Makes `pid` the leader of `servers`.
    ///
    /// # Panics
    /// If they do not follow it in the end.
    pub fn elect_among(&mut self, pid: NodeId, servers: &[NodeId]) {
        self.run(25);
        self.server(pid).try_become_leader();
        self.run(25);
        for server in servers {
            assert_eq!(self.server(*server).get_current_leader(), Some(pid), "at {server}");
        }
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

    /// How many messages of a kind left a server.
    pub fn sent(&self, kind: &str) -> u64 {
        self.sent.get(kind).copied().unwrap_or(0)
    }

    /// How many messages other than heartbeats left a server.
    pub fn sent_beside_heartbeats(&self) -> u64 {
        let is_heartbeat = |kind: &str| kind.starts_with("Heartbeat");
        self.sent.iter().filter(|(kind, _)| !is_heartbeat(kind)).map(|(_, count)| count).sum()
    }

    /// Checks that every running server has decided exactly `words`.
    #[track_caller]
    pub fn assert_decided_everywhere(&mut self, words: &[&str]) {
        for pid in self.running() {
            assert_eq!(self.decided(pid), words, "decided at server {pid}");
        }
    }
}

/// Of the messages that `pick` picks, passes `skip` over and takes `count`.
#[derive(Clone, Debug)]
struct Picks {
    pick: Pick,
    skip: usize,
    count: usize,
}

fn pick_one(picks: &mut [Picks], message: &Message<Word>) -> bool {
    let Some(picks) = picks.iter_mut().find(|p| p.count > 0 && p.pick.matches(message)) else {
        return false;
    };
    if picks.skip > 0 {
        picks.skip -= 1;
        return false;
    }
    picks.count -= 1;
    true
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
