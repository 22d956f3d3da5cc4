//! A program written for omnipaxos 0.2.2, which uses every item of its interface (features `serde`
//! and `toml_config`) in the way that its users do.
//!
//! This file is never edited to make it compile. If it does not, the library is what must change.
//! It may grow.
#![allow(clippy::wildcard_imports, reason = "programs for 0.2.2 import like this")]
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use omnipaxos::{
    ballot_leader_election::Ballot,
    errors::ConfigError,
    macros::*,
    messages::{
        ballot_leader_election::{BLEMessage, HeartbeatMsg, HeartbeatReply, HeartbeatRequest},
        sequence_paxos::{
            AcceptDecide, AcceptStopSign, AcceptSync, Accepted, Compaction, Decide, NotAccepted,
            PaxosMessage, PaxosMsg, Prepare, PrepareReq, Promise,
        },
        *,
    },
    storage::{
        Entry, NoSnapshot, Snapshot, SnapshotType, StopSign, Storage, StorageOp, StorageResult,
    },
    util::*,
    utils::ui::{ClusterState, OmniPaxosStates},
    *,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::{collections::HashMap, error::Error, fmt::Debug};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct KeyValue {
    key: String,
    value: u64,
}

impl Entry for KeyValue {
    type Snapshot = KVSnapshot;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct KVSnapshot {
    snapshotted: HashMap<String, u64>,
}

impl Snapshot<KeyValue> for KVSnapshot {
    fn create(entries: &[KeyValue]) -> Self {
        let mut snapshotted = HashMap::new();
        for e in entries {
            let KeyValue { key, value } = e;
            snapshotted.insert(key.clone(), *value);
        }
        Self { snapshotted }
    }

    fn merge(&mut self, delta: Self) {
        for (k, v) in delta.snapshotted {
            self.snapshotted.insert(k, v);
        }
    }

    fn use_snapshots() -> bool {
        true
    }
}

#[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
struct Plain(u64);

#[derive(Clone, Debug, Entry, Serialize, Deserialize)]
#[snapshot(DerivedSnapshot)]
struct Derived(u64);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct DerivedSnapshot(u64);

impl Snapshot<Derived> for DerivedSnapshot {
    fn create(entries: &[Derived]) -> Self {
        Self(entries.iter().map(|e| e.0).sum())
    }
    fn merge(&mut self, delta: Self) {
        self.0 += delta.0;
    }
    fn use_snapshots() -> bool {
        true
    }
}

/// A storage of the user's own, with the methods that 0.2.2 requires and no other.
#[derive(Clone)]
struct VecStorage<T: Entry> {
    log: Vec<T>,
    promise: Option<Ballot>,
    accepted: Option<Ballot>,
    decided: u64,
    compacted: u64,
    snapshot: Option<T::Snapshot>,
    stopsign: Option<StopSign>,
}

impl<T: Entry> Default for VecStorage<T> {
    fn default() -> Self {
        Self {
            log: vec![],
            promise: None,
            accepted: None,
            decided: 0,
            compacted: 0,
            snapshot: None,
            stopsign: None,
        }
    }
}

impl<T: Entry> Storage<T> for VecStorage<T> {
    fn append_entry(&mut self, entry: T) -> StorageResult<u64> {
        self.log.push(entry);
        self.get_log_len()
    }
    fn append_entries(&mut self, entries: Vec<T>) -> StorageResult<u64> {
        self.log.extend(entries);
        self.get_log_len()
    }
    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<T>) -> StorageResult<u64> {
        self.log.truncate(from_idx as usize);
        self.append_entries(entries)
    }
    fn set_promise(&mut self, n_prom: Ballot) -> StorageResult<()> {
        self.promise = Some(n_prom);
        Ok(())
    }
    fn set_decided_idx(&mut self, ld: u64) -> StorageResult<()> {
        self.decided = ld;
        Ok(())
    }
    fn get_decided_idx(&self) -> StorageResult<u64> {
        Ok(self.decided)
    }
    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()> {
        self.accepted = Some(na);
        Ok(())
    }
    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.accepted)
    }
    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<T>> {
        Ok(self.log.get(from as usize..to as usize).unwrap_or(&[]).to_vec())
    }
    fn get_log_len(&self) -> StorageResult<u64> {
        Ok(self.log.len() as u64)
    }
    fn get_suffix(&self, from: u64) -> StorageResult<Vec<T>> {
        Ok(self.log.get(from as usize..).unwrap_or(&[]).to_vec())
    }
    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.promise)
    }
    fn set_stopsign(&mut self, s: Option<StopSign>) -> StorageResult<()> {
        self.stopsign = s;
        Ok(())
    }
    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        Ok(self.stopsign.clone())
    }
    fn trim(&mut self, idx: u64) -> StorageResult<()> {
        let idx = (idx as usize).min(self.log.len());
        self.log.drain(0..idx);
        Ok(())
    }
    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()> {
        self.compacted = idx;
        Ok(())
    }
    fn get_compacted_idx(&self) -> StorageResult<u64> {
        Ok(self.compacted)
    }
    fn set_snapshot(&mut self, snapshot: Option<T::Snapshot>) -> StorageResult<()> {
        self.snapshot = snapshot;
        Ok(())
    }
    fn get_snapshot(&self) -> StorageResult<Option<T::Snapshot>> {
        Ok(self.snapshot.clone())
    }
}

type Replica<T, B> = OmniPaxos<T, B>;

fn entry(key: &str, value: u64) -> KeyValue {
    KeyValue { key: key.to_string(), value }
}

fn config(pid: NodeId) -> OmniPaxosConfig {
    let configuration_id: ConfigurationId = 1;
    OmniPaxosConfig {
        cluster_config: ClusterConfig {
            configuration_id,
            nodes: vec![1, 2, 3],
            ..Default::default()
        },
        server_config: ServerConfig { pid, ..Default::default() },
    }
}

fn cluster<T, B>() -> HashMap<NodeId, Replica<T, B>>
where
    T: Entry,
    B: Storage<T> + Default,
{
    (1..=3).map(|pid| (pid, config(pid).build(B::default()).unwrap())).collect()
}

/// Ticks and delivers, until nobody has anything to say.
fn run<T: Entry, B: Storage<T>>(nodes: &mut HashMap<NodeId, Replica<T, B>>, ticks: usize) {
    for _ in 0..ticks {
        nodes.values_mut().for_each(|node| node.tick());
        loop {
            let mut messages: Vec<Message<T>> = vec![];
            for node in nodes.values_mut() {
                messages.extend(node.outgoing_messages());
            }
            if messages.is_empty() {
                break;
            }
            for message in messages {
                if let Some(node) = nodes.get_mut(&message.get_receiver()) {
                    node.handle_incoming(message);
                }
            }
        }
    }
}

fn leader_of<T: Entry, B: Storage<T>>(nodes: &HashMap<NodeId, Replica<T, B>>) -> NodeId {
    nodes[&1].get_current_leader().expect("a leader")
}

#[test]
fn configurations() {
    let full = OmniPaxosConfig {
        cluster_config: ClusterConfig {
            configuration_id: 3,
            nodes: vec![9_000_000_000, 5, 1, 7],
            flexible_quorum: Some(FlexibleQuorum { read_quorum_size: 3, write_quorum_size: 2 }),
        },
        server_config: ServerConfig {
            pid: 5,
            election_tick_timeout: 5,
            resend_message_tick_timeout: 50,
            buffer_size: 1000,
            batch_size: 10,
            leader_priority: 2,
            ..Default::default()
        },
    };
    full.validate().unwrap();
    full.cluster_config.validate().unwrap();
    let cluster_config = full.cluster_config.clone();
    assert!(cluster_config == full.cluster_config);
    let server_config = full.server_config.clone();
    let replica: OmniPaxos<KeyValue, MemoryStorage<KeyValue>> =
        cluster_config.build_for_server(server_config, MemoryStorage::default()).unwrap();
    assert_eq!(replica.get_pid(), 5);
    assert!(!format!("{full:?}").is_empty());

    let defaults = ServerConfig::default();
    assert_eq!(defaults.election_tick_timeout, 10);
    assert_eq!(defaults.resend_message_tick_timeout, 100);
    assert_eq!(defaults.buffer_size, 100_000);
    assert_eq!(defaults.batch_size, 1);
    assert_eq!(defaults.leader_priority, 0);

    assert!(OmniPaxosConfig::default().validate().is_err());
    let mut wrong = config(1);
    wrong.server_config.pid = 4;
    let result: Result<OmniPaxos<KeyValue, MemoryStorage<KeyValue>>, ConfigError> =
        wrong.build(MemoryStorage::default());
    assert!(matches!(result, Err(ConfigError::InvalidConfig(_))));
}

#[test]
fn toml() {
    let path = format!("{}/compat.toml", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(
        &path,
        "[cluster_config]\nconfiguration_id = 1\nnodes = [1, 2, 3]\n\
         flexible_quorum = { read_quorum_size = 2, write_quorum_size = 2 }\n\
         [server_config]\npid = 2\nelection_tick_timeout = 7\nlogger_file_path = \"/tmp/a.log\"\n",
    )
    .unwrap();
    let config = OmniPaxosConfig::with_toml(&path).unwrap();
    assert_eq!(config.server_config.pid, 2);
    assert_eq!(config.server_config.election_tick_timeout, 7);
    assert_eq!(config.cluster_config.nodes, vec![1, 2, 3]);
}

#[test]
fn errors_name_their_sources() {
    let path = format!("{}/compat_wrong.toml", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, "this is not toml").unwrap();
    for path in [path.as_str(), "no/such/file.toml", ""] {
        let error = OmniPaxosConfig::with_toml(path).unwrap_err();
        // Walks to the end: in 0.2.2 this never ended.
        let mut source = error.source();
        let mut depth = 0;
        while let Some(cause) = source {
            source = cause.source();
            depth += 1;
            assert!(depth < 10);
        }
        assert!(!error.to_string().is_empty());
        match error {
            ConfigError::ReadFile(io) => drop::<std::io::Error>(io),
            ConfigError::Parse(parse) => drop(parse.to_string()),
            ConfigError::InvalidConfig(what) => drop::<String>(what),
        }
    }
    assert!(ConfigError::InvalidConfig("x".to_string()).source().is_none());
    let as_box: Box<dyn Error> = Box::new(CompactionErr::UndecidedIndex(3));
    assert!(as_box.source().is_none());
}

#[test]
fn compaction_errors() {
    let errors = [
        CompactionErr::UndecidedIndex(1),
        CompactionErr::TrimmedIndex(2),
        CompactionErr::NotAllDecided(3),
        CompactionErr::NotCurrentLeader(4),
    ];
    for error in errors {
        let copy = error;
        let number = match copy {
            CompactionErr::UndecidedIndex(idx) => idx,
            CompactionErr::TrimmedIndex(idx) => idx,
            CompactionErr::NotAllDecided(idx) => idx,
            CompactionErr::NotCurrentLeader(pid) => pid,
        };
        assert!(number > 0 && !format!("{error} {error:?}").is_empty());
    }
}

#[test]
fn a_log_is_appended_read_and_decided() {
    let mut nodes = cluster::<KeyValue, VecStorage<KeyValue>>();
    run(&mut nodes, 50);
    let leader = leader_of(&nodes);
    for pid in 1..=3 {
        nodes.get_mut(&pid).unwrap().append(entry("k", pid)).unwrap();
    }
    let own = nodes.get_mut(&leader).unwrap();
    assert_eq!(own.get_accepted_idx(), 1);
    assert_eq!(own.read(0), Some(LogEntry::Undecided(entry("k", leader))));
    run(&mut nodes, 50);
    for node in nodes.values() {
        assert_eq!(node.get_decided_idx(), 3);
        assert_eq!(node.get_compacted_idx(), 0);
        assert_eq!(node.read_decided_suffix(0).unwrap().len(), 3);
        assert!(node.read_decided_suffix(3).is_none());
        assert!(node.read(3).is_none());
        assert_eq!(node.read_entries(..).unwrap().len(), 3);
        assert_eq!(node.read_entries(1..2).unwrap().len(), 1);
        assert_eq!(node.read_entries(1..=2).unwrap().len(), 2);
        assert_eq!(node.read_entries(1..).unwrap().len(), 2);
        assert!(node.read_entries(2..2).is_none());
        assert!(node.read_entries(0..9).is_none());
        for log_entry in node.read_entries(0..3).unwrap() {
            match log_entry {
                LogEntry::Decided(KeyValue { key, .. }) => assert_eq!(key, "k"),
                LogEntry::Undecided(_) => panic!("undecided"),
                LogEntry::Trimmed(idx) => panic!("trimmed {idx}"),
                LogEntry::Snapshotted(SnapshottedEntry { trimmed_idx, snapshot, .. }) => {
                    panic!("{trimmed_idx} {snapshot:?}")
                }
                LogEntry::StopSign(ss, is_decided) => panic!("{ss:?} {is_decided}"),
            }
        }
        let promise: Ballot = node.get_promise();
        assert_eq!(promise.pid, leader);
        assert!(node.is_reconfigured().is_none());
    }
}

#[test]
fn a_snapshot_replaces_what_it_sums_up() {
    let mut nodes = cluster::<KeyValue, MemoryStorage<KeyValue>>();
    run(&mut nodes, 50);
    let leader = leader_of(&nodes);
    for value in 0..10 {
        nodes.get_mut(&leader).unwrap().append(entry("k", value)).unwrap();
    }
    run(&mut nodes, 50);
    let node = nodes.get_mut(&leader).unwrap();
    assert!(matches!(node.snapshot(Some(11), true), Err(CompactionErr::UndecidedIndex(10))));
    node.snapshot(Some(4), true).unwrap();
    assert_eq!(node.get_compacted_idx(), 4);
    assert!(matches!(node.snapshot(Some(3), true), Err(CompactionErr::TrimmedIndex(4))));
    node.snapshot(None, false).unwrap();
    run(&mut nodes, 50);
    for node in nodes.values() {
        assert_eq!(node.get_compacted_idx(), 10);
        match node.read(2) {
            Some(LogEntry::Snapshotted(s)) => {
                assert_eq!(s.trimmed_idx, 10);
                assert_eq!(s.snapshot.snapshotted["k"], 9);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_leader_trims() {
    let mut nodes = cluster::<Plain, MemoryStorage<Plain>>();
    run(&mut nodes, 50);
    let leader = leader_of(&nodes);
    for value in 0..10 {
        nodes.get_mut(&leader).unwrap().append(Plain(value)).unwrap();
    }
    run(&mut nodes, 50);
    let follower = leader % 3 + 1;
    let refused = nodes.get_mut(&follower).unwrap().trim(Some(2));
    assert!(matches!(refused, Err(CompactionErr::NotCurrentLeader(pid)) if pid == leader));
    nodes.get_mut(&leader).unwrap().trim(Some(5)).unwrap();
    run(&mut nodes, 50);
    for node in nodes.values() {
        assert_eq!(node.get_compacted_idx(), 5);
        assert_eq!(node.read(0), Some(LogEntry::Trimmed(5)));
        assert_eq!(node.read_decided_suffix(0).unwrap().len(), 6);
    }
    nodes.get_mut(&leader).unwrap().trim(None).unwrap();
    run(&mut nodes, 50);
    assert!(nodes.values().all(|node| node.get_compacted_idx() == 10));
}

#[test]
fn a_reconfiguration_ends_the_log() {
    let mut nodes = cluster::<KeyValue, MemoryStorage<KeyValue>>();
    run(&mut nodes, 50);
    let leader = leader_of(&nodes);
    let node = nodes.get_mut(&leader).unwrap();
    let next = ClusterConfig { configuration_id: 2, nodes: vec![1, 2, 4], flexible_quorum: None };
    let illegal = ClusterConfig { nodes: vec![], ..next.clone() };
    match node.reconfigure(illegal, None) {
        Err(ProposeErr::ConfigError(error, config, metadata)) => {
            assert!(matches!(error, ConfigError::InvalidConfig(_)));
            assert!(config.nodes.is_empty() && metadata.is_none());
        }
        other => panic!("{other:?}"),
    }
    node.reconfigure(next.clone(), Some(vec![1, 2])).unwrap();
    match node.append(entry("late", 1)) {
        Err(ProposeErr::PendingReconfigEntry(late)) => assert_eq!(late, entry("late", 1)),
        Err(ProposeErr::PendingReconfigConfig(config, metadata)) => {
            panic!("{config:?} {metadata:?}")
        }
        Err(ProposeErr::ConfigError(error, _, _)) => panic!("{error}"),
        Ok(()) => panic!("appended behind the stop sign"),
    }
    let error = node.reconfigure(next.clone(), None).unwrap_err();
    assert!(matches!(&error, ProposeErr::PendingReconfigConfig(c, None) if *c == next));
    let error: Box<dyn Error> = Box::new(error);
    assert!(!error.to_string().is_empty());
    run(&mut nodes, 50);
    for node in nodes.values() {
        let stopsign = node.is_reconfigured().unwrap();
        assert_eq!(stopsign, StopSign::with(next.clone(), Some(vec![1, 2])));
        let StopSign { next_config, metadata } = stopsign;
        assert_eq!((next_config.nodes, metadata), (vec![1, 2, 4], Some(vec![1, 2])));
        assert!(matches!(node.read(0), Some(LogEntry::StopSign(_, true))));
    }
    let next_config = nodes[&1].is_reconfigured().unwrap().next_config;
    let server_config = ServerConfig { pid: 1, ..Default::default() };
    let _next: OmniPaxos<KeyValue, MemoryStorage<KeyValue>> =
        next_config.build_for_server(server_config, MemoryStorage::default()).unwrap();
}

#[test]
fn leadership() {
    let mut nodes = cluster::<Plain, MemoryStorage<Plain>>();
    run(&mut nodes, 50);
    let leader = leader_of(&nodes);
    let other = leader % 3 + 1;
    nodes.get_mut(&other).unwrap().set_priority(9);
    nodes.get_mut(&other).unwrap().try_become_leader();
    nodes.get_mut(&other).unwrap().reconnected(leader);
    run(&mut nodes, 100);
    assert_eq!(leader_of(&nodes), other);

    let mut buffer: Vec<Message<Plain>> = Vec::new();
    for _ in 0..20 {
        let node = nodes.get_mut(&other).unwrap();
        node.tick();
        node.take_outgoing_messages(&mut buffer);
    }
    assert!(!buffer.is_empty());
    let states: OmniPaxosStates = nodes[&other].get_ui_states();
    let OmniPaxosStates {
        current_ballot,
        current_leader,
        decided_idx,
        heartbeats,
        cluster_state: ClusterState { accepted_indexes, heartbeats: in_cluster_state },
    } = states;
    let _: (Ballot, u64, Vec<HeartbeatReply>) = (current_ballot, decided_idx, heartbeats);
    let _: (Vec<u64>, Vec<HeartbeatReply>) = (accepted_indexes, in_cluster_state);
    assert_eq!(current_leader, Some(other));
}

#[test]
fn ballots() {
    let ballot = Ballot::with(1, 2, 3, 4);
    let Ballot { config_id, n, priority, pid } = ballot;
    assert_eq!((config_id, n, priority, pid), (1, 2, 3, 4));
    assert!(ballot == Ballot { config_id: 1, n: 2, priority: 3, pid: 4 });
    assert!(Ballot::default() < ballot && ballot < Ballot::with(1, 2, 4, 1));
    let numbers = SequenceNumber { session: 1, counter: 2 };
    assert_eq!(numbers, SequenceNumber { session: 1, counter: 2 });
    let trimmed: TrimmedIndex = 4_u64;
    assert_eq!(trimmed, 4);
}

fn paxos(msg: PaxosMsg<KeyValue>) -> Message<KeyValue> {
    Message::SequencePaxos(PaxosMessage { from: 2, to: 1, msg })
}

#[test]
fn messages_are_built_matched_and_sent_on() {
    let reply = HeartbeatReply {
        round: 1,
        ballot: Ballot::with(1, 1, 0, 2),
        leader: Ballot::default(),
        happy: true,
    };
    let heartbeat = BLEMessage { from: 2, to: 1, msg: HeartbeatMsg::Reply(reply) };
    let forward = PaxosMsg::ProposalForward(vec![entry("a", 1)]);
    let mut replica: OmniPaxos<KeyValue, MemoryStorage<KeyValue>> =
        config(1).build(MemoryStorage::default()).unwrap();
    for message in [Message::BLE(heartbeat), paxos(forward)] {
        let (from, to) = match &message {
            Message::SequencePaxos(PaxosMessage { from, to, msg: _ }) => (*from, *to),
            Message::BLE(BLEMessage { from, to, msg }) => {
                match msg {
                    HeartbeatMsg::Request(request) => drop(format!("{request:?}")),
                    HeartbeatMsg::Reply(HeartbeatReply { round, ballot, leader, happy }) => {
                        assert!(*round == 1 && *happy && leader < ballot);
                    }
                }
                (*from, *to)
            }
        };
        assert_eq!((message.get_sender(), message.get_receiver()), (from, to));
        replica.handle_incoming(message.clone());
    }
}

#[test]
fn a_forwarded_proposal_is_appended_by_the_leader() {
    let mut nodes = cluster::<KeyValue, MemoryStorage<KeyValue>>();
    run(&mut nodes, 50);
    let leader = leader_of(&nodes);
    let from = leader % 3 + 1;
    let msg = PaxosMsg::ProposalForward(vec![entry("a", 1), entry("b", 2)]);
    let forward = PaxosMessage { from, to: leader, msg };
    nodes.get_mut(&leader).unwrap().handle_incoming(Message::SequencePaxos(forward));
    run(&mut nodes, 50);
    assert!(nodes.values().all(|node| node.get_decided_idx() == 2));
}

fn round_trip<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let config = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(value, config).unwrap();
    let (back, used) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
    assert_eq!(used, bytes.len());
    back
}

#[test]
fn messages_survive_a_network() {
    let mut nodes = cluster::<KeyValue, MemoryStorage<KeyValue>>();
    let mut kinds = 0;
    for step in 0..60 {
        if step == 30 {
            for (pid, node) in &mut nodes {
                node.append(entry("k", *pid)).unwrap();
            }
        }
        let mut messages = vec![];
        for node in nodes.values_mut() {
            node.tick();
            messages.extend(node.outgoing_messages());
        }
        for message in messages {
            let back: Message<KeyValue> = round_trip(&message);
            assert_eq!(format!("{back:?}"), format!("{message:?}"));
            kinds += 1;
            nodes.get_mut(&back.get_receiver()).unwrap().handle_incoming(back);
        }
    }
    assert!(kinds > 20);
    assert!(nodes.values().all(|node| node.get_decided_idx() == 3));

    assert_eq!(round_trip(&config(1).cluster_config), config(1).cluster_config);
    assert_eq!(round_trip(&Ballot::with(1, 2, 3, 4)), Ballot::with(1, 2, 3, 4));
    let stopsign = StopSign::with(config(1).cluster_config, None);
    assert_eq!(round_trip(&stopsign), stopsign);
    let quorum = FlexibleQuorum { read_quorum_size: 2, write_quorum_size: 2 };
    assert_eq!(round_trip(&quorum), quorum);
    let _: NoSnapshot = round_trip(&NoSnapshot);
    match round_trip(&SnapshotType::<KeyValue>::Complete(KVSnapshot::create(&[entry("a", 1)]))) {
        SnapshotType::Complete(snapshot) | SnapshotType::Delta(snapshot) => {
            assert_eq!(snapshot.snapshotted["a"], 1);
        }
    }
}

#[test]
fn snapshots_without_a_type() {
    assert!(!<NoSnapshot as Snapshot<Plain>>::use_snapshots());
    assert!(<Derived as Entry>::Snapshot::use_snapshots());
    let mut sum = DerivedSnapshot::create(&[Derived(1), Derived(2)]);
    sum.merge(DerivedSnapshot::create(&[Derived(3)]));
    assert_eq!(sum.0, 6);
}

#[test]
fn a_storage_takes_its_operations_together() {
    let mut storage = VecStorage::<Plain>::default();
    let mut operations = vec![
        StorageOp::AppendEntry(Plain(0)),
        StorageOp::AppendEntries(vec![Plain(1), Plain(2)]),
        StorageOp::AppendOnPrefix(2, vec![Plain(3)]),
        StorageOp::SetPromise(Ballot::with(1, 1, 0, 1)),
        StorageOp::SetAcceptedRound(Ballot::with(1, 1, 0, 1)),
        StorageOp::SetDecidedIndex(3),
        StorageOp::Trim(1),
        StorageOp::SetCompactedIdx(1),
        StorageOp::SetStopsign(None),
        StorageOp::SetSnapshot(None),
    ];
    storage.write_atomically(&mut operations).unwrap();
    assert!(operations.is_empty());
    assert_eq!(storage.log, [Plain(1), Plain(3)]);
    assert_eq!(storage.get_log_len().unwrap(), 2);
    assert_eq!(storage.get_decided_idx().unwrap() - storage.get_compacted_idx().unwrap(), 2);
}

#[test]
fn replicas_and_messages_go_from_thread_to_thread() {
    fn send<T: Send>() {}
    send::<OmniPaxos<KeyValue, MemoryStorage<KeyValue>>>();
    send::<OmniPaxos<KeyValue, VecStorage<KeyValue>>>();
    send::<Message<KeyValue>>();
    let mut replica: OmniPaxos<KeyValue, MemoryStorage<KeyValue>> =
        config(1).build(MemoryStorage::default()).unwrap();
    let thread = std::thread::spawn(move || {
        replica.tick();
        replica.outgoing_messages()
    });
    drop::<Vec<Message<KeyValue>>>(thread.join().unwrap());
}

/// The names that users write, if only in signatures.
#[test]
fn the_bodies_of_messages_are_clone_and_debug() {
    fn is<T: Clone + Debug>() {}
    is::<PaxosMsg<KeyValue>>();
    is::<PaxosMessage<KeyValue>>();
    is::<Prepare>();
    is::<Promise<KeyValue>>();
    is::<AcceptSync<KeyValue>>();
    is::<AcceptDecide<KeyValue>>();
    is::<Accepted>();
    is::<NotAccepted>();
    is::<Decide>();
    is::<AcceptStopSign>();
    is::<PrepareReq>();
    is::<Compaction>();
    is::<BLEMessage>();
    is::<HeartbeatMsg>();
    is::<HeartbeatRequest>();
    is::<HeartbeatReply>();
    is::<MemoryStorage<KeyValue>>();
    is::<OmniPaxosConfig>();
    is::<LogEntry<KeyValue>>();
}

/// Programs name the type of a range, as a parameter of the method.
#[test]
fn a_range_is_a_named_parameter() {
    let replica: OmniPaxos<KeyValue, MemoryStorage<KeyValue>> =
        config(1).build(MemoryStorage::default()).unwrap();
    assert!(replica.read_entries::<std::ops::Range<u64>>(0..1).is_none());
    assert!(replica.read_entries::<std::ops::RangeFull>(..).is_none());
}

/// From later releases.
#[test]
fn proposals_wait_for_their_batch() {
    let mut one = config(1);
    one.cluster_config.nodes = vec![1];
    one.server_config.batch_size = 3;
    let mut replica: OmniPaxos<KeyValue, MemoryStorage<KeyValue>> =
        one.build(MemoryStorage::default()).unwrap();
    for _ in 0..100 {
        replica.tick();
        replica.outgoing_messages();
    }
    let mut batched: Vec<usize> = vec![];
    for value in 0..4 {
        replica.append(entry("a", value)).unwrap();
        batched.push(replica.get_batched_len());
    }
    assert_eq!(batched, [1, 2, 0, 1]);
}

#[test]
fn an_error_helper_is_an_error() {
    use omnipaxos_storage::persistent_storage::{ErrHelper, PersistentStorageConfig};

    let helper = ErrHelper {};
    let copy = helper;
    let error: Box<dyn Error + Send + Sync> = copy.into();
    assert_eq!(
        (format!("{helper:?}"), error.to_string()),
        ("ErrHelper".into(), "ErrHelper".into())
    );
    assert!(PersistentStorageConfig::default().get_path().is_some());
    let folder = String::from("folder");
    for config in [
        PersistentStorageConfig::with_path("folder"),
        PersistentStorageConfig::with_path(&folder),
        PersistentStorageConfig::with_path(folder.clone()),
    ] {
        assert_eq!(config.get_path(), Some(&folder));
    }
}

/// The persistent storage, as programs for 0.2.2 set it up.
#[test]
fn a_persistent_storage_is_configured_and_opened() {
    use omnipaxos_storage::{
        commitlog::LogOptions,
        persistent_storage::{PersistentStorage, PersistentStorageConfig},
        sled::Config,
    };

    let folder = tempfile::tempdir().unwrap();
    let path: String = folder.path().join("storage").to_str().unwrap().to_string();

    let mut config = PersistentStorageConfig::default();
    config.set_path("elsewhere".into());
    config.set_path(path.clone());
    let set: Option<&String> = config.get_path();
    assert_eq!(set, Some(&path));
    config.set_commitlog_options(LogOptions::new(format!("{path}/commitlog")));
    let _: LogOptions = config.get_commitlog_options();
    config.set_database_options(Config::new().path(format!("{path}/database")));
    let options: Config = config.get_database_options();
    assert_eq!(options.get_path().to_str(), Some(format!("{path}/database").as_str()));
    config.set_sled_options(Config::default().path(format!("{path}/database")));

    let mut storage: PersistentStorage<KeyValue> = PersistentStorage::new(config.clone());
    assert_eq!(storage.append_entries(vec![entry("a", 1), entry("b", 2)]).unwrap(), 2);
    storage.set_decided_idx(1).unwrap();
    drop(storage);

    let again = std::thread::spawn(move || PersistentStorage::<KeyValue>::new(config)).join();
    assert!(again.is_err(), "there is a storage already");

    let with = PersistentStorageConfig::with(
        path.clone(),
        LogOptions::new(format!("{path}/commitlog")),
        Config::new().path(format!("{path}/database")),
    );
    let storage: PersistentStorage<KeyValue> = PersistentStorage::open(with);
    assert_eq!(storage.get_suffix(0).unwrap(), [entry("a", 1), entry("b", 2)]);
    assert_eq!(storage.get_decided_idx().unwrap(), 1);

    let mut node: OmniPaxos<KeyValue, PersistentStorage<KeyValue>> =
        self::config(1).build(storage).unwrap();
    assert_eq!(node.read(0), Some(LogEntry::Decided(entry("a", 1))));
    node.tick();
    node.outgoing_messages();
}
