//! A program written for 0.2.2 that implements everything by hand, names everything by glob imports, and
//! takes apart what it gets. As `compat.rs`, it is not edited to compile.

#![cfg(not(feature = "unicache"))]
#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::wildcard_imports, reason = "programs do that")]

use omnipaxos::{
    ballot_leader_election::*,
    errors::*,
    messages::{ballot_leader_election::*, sequence_paxos::*, *},
    storage::{Entry, Snapshot, *},
    util::*,
    utils::ui::{ClusterState, OmniPaxosStates},
    *,
};
#[allow(unused_imports, reason = "programs do that")]
use omnipaxos_storage::{memory_storage::*, persistent_storage::*, *};
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::collections::HashMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Put {
    key: String,
    value: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Map(HashMap<String, u64>);

impl Snapshot<Put> for Map {
    fn create(entries: &[Put]) -> Self {
        Self(entries.iter().map(|put| (put.key.clone(), put.value)).collect())
    }

    fn merge(&mut self, delta: Self) {
        self.0.extend(delta.0);
    }

    fn use_snapshots() -> bool {
        true
    }
}

impl Entry for Put {
    type Snapshot = Map;
}

/// Only the required methods of 0.2.2.
#[derive(Clone)]
struct ByHand<T>
where
    T: Entry,
{
    log: Vec<T>,
    promise: Option<Ballot>,
    accepted_round: Option<Ballot>,
    decided_idx: u64,
    compacted_idx: u64,
    stopsign: Option<StopSign>,
    snapshot: Option<T::Snapshot>,
}

impl<T> Storage<T> for ByHand<T>
where
    T: Entry,
{
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
        self.decided_idx = ld;
        Ok(())
    }

    fn get_decided_idx(&self) -> StorageResult<u64> {
        Ok(self.decided_idx)
    }

    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()> {
        self.accepted_round = Some(na);
        Ok(())
    }

    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.accepted_round)
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
        self.log.drain(0..idx as usize);
        Ok(())
    }

    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()> {
        self.compacted_idx = idx;
        Ok(())
    }

    fn get_compacted_idx(&self) -> StorageResult<u64> {
        Ok(self.compacted_idx)
    }

    fn set_snapshot(&mut self, snapshot: Option<T::Snapshot>) -> StorageResult<()> {
        self.snapshot = snapshot;
        Ok(())
    }

    fn get_snapshot(&self) -> StorageResult<Option<T::Snapshot>> {
        Ok(self.snapshot.clone())
    }
}

/// A network for any entry.
fn through_text<T>(message: &Message<T>) -> Message<T>
where
    T: Entry + Serialize + DeserializeOwned,
{
    serde_json::from_str(&serde_json::to_string(message).unwrap()).unwrap()
}

/// That the snapshots of any entry are serialisable follows from the feature `serde`.
fn snapshot_through_text<T: Entry>(snapshot: &T::Snapshot) -> T::Snapshot {
    serde_json::from_str(&serde_json::to_string(snapshot).unwrap()).unwrap()
}

fn kind(entry: LogEntry<Put>) -> &'static str {
    match entry {
        LogEntry::Decided(_) => "decided",
        LogEntry::Undecided(_) => "undecided",
        LogEntry::Trimmed(_) => "trimmed",
        LogEntry::Snapshotted(_) => "snapshotted",
        LogEntry::StopSign(_, false) => "stop sign",
        LogEntry::StopSign(_, true) => "decided stop sign",
    }
}

fn compaction_index(error: CompactionErr) -> u64 {
    match error {
        CompactionErr::UndecidedIndex(idx)
        | CompactionErr::TrimmedIndex(idx)
        | CompactionErr::NotAllDecided(idx) => idx,
        CompactionErr::NotCurrentLeader(pid) => pid,
    }
}

fn refused(error: ProposeErr<Put>) -> &'static str {
    match error {
        ProposeErr::PendingReconfigEntry(_) => "entry",
        ProposeErr::PendingReconfigConfig(_, _) => "configuration",
        ProposeErr::ConfigError(ConfigError::InvalidConfig(_), _, _) => "invalid",
        ProposeErr::ConfigError(ConfigError::ReadFile(_) | ConfigError::Parse(_), _, _) => "file",
    }
}

/// Fields that programs of 0.2.2 look at.
fn look_at(message: &Message<Put>) {
    match message {
        Message::SequencePaxos(PaxosMessage { from: _, to: _, msg }) => match msg {
            PaxosMsg::ProposalForward(entries) => assert!(!entries.is_empty()),
            PaxosMsg::Accepted(Accepted { n, accepted_idx: _, .. }) => assert!(n.pid > 0),
            _ => {}
        },
        Message::BLE(BLEMessage { from: _, to: _, msg }) => match msg {
            HeartbeatMsg::Request(HeartbeatRequest { round, .. }) => assert!(*round > 0),
            HeartbeatMsg::Reply(HeartbeatReply { round, ballot: _, leader: _, happy: _ }) => {
                assert!(*round > 0);
            }
        },
    }
}

type Server = OmniPaxos<Put, ByHand<Put>>;
type Send = Box<dyn Fn(&mut Server) -> Vec<Message<Put>>>;

/// A struct of a program, with a closure over replicas.
struct Cluster {
    servers: Vec<Server>,
    send: Send,
}

impl Cluster {
    fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            let mut messages = Vec::new();
            for server in &mut self.servers {
                server.tick();
                messages.extend((self.send)(server));
            }
            for message in messages {
                look_at(&message);
                let message = through_text(&message);
                self.servers[message.get_receiver() as usize - 1].handle_incoming(message);
            }
        }
    }
}

fn put(value: u64) -> Put {
    Put { key: format!("k{value}"), value }
}

#[test]
fn a_program_by_hand() {
    let cluster_config = ClusterConfig {
        configuration_id: 1,
        nodes: vec![1, 2, 3],
        flexible_quorum: Some(FlexibleQuorum { read_quorum_size: 2, write_quorum_size: 2 }),
    };
    let is_valid = |config: &OmniPaxosConfig| config.validate().is_ok();
    let build = |pid| {
        let server_config = ServerConfig {
            pid,
            election_tick_timeout: 10,
            resend_message_tick_timeout: 100,
            buffer_size: 100,
            batch_size: 1,
            leader_priority: 0,
            ..Default::default()
        };
        let config = OmniPaxosConfig { cluster_config: cluster_config.clone(), server_config };
        assert!(is_valid(&config));
        let storage = ByHand {
            log: vec![],
            promise: None,
            accepted_round: None,
            decided_idx: 0,
            compacted_idx: 0,
            stopsign: None,
            snapshot: None,
        };
        config.build(storage).unwrap()
    };
    let servers = (1..=3).map(build).collect();
    let mut cluster = Cluster { servers, send: Box::new(|server| server.outgoing_messages()) };
    cluster.run(100);
    for value in 0..5 {
        cluster.servers[1].append(put(value)).map_err(refused).unwrap();
    }
    cluster.run(50);

    let server = &mut cluster.servers[0];
    assert_eq!((server.get_decided_idx(), server.get_compacted_idx()), (5, 0));
    server.snapshot(Some(3), true).map_err(compaction_index).unwrap();
    let kinds: Vec<_> = server.read_entries(..).unwrap().into_iter().map(kind).collect();
    assert_eq!(kinds, ["snapshotted", "decided", "decided"]);
    assert_eq!(server.read(3), Some(LogEntry::Decided(put(3))));
    let Some(LogEntry::Snapshotted(SnapshottedEntry { trimmed_idx, snapshot, .. })) =
        server.read(0)
    else {
        panic!("no snapshot");
    };
    assert_eq!(trimmed_idx, 3);
    assert_eq!(snapshot_through_text::<Put>(&snapshot), snapshot);
    assert_eq!(server.snapshot(Some(99), false).map_err(compaction_index), Err(5));

    let next = ClusterConfig { configuration_id: 2, nodes: vec![1, 2], ..Default::default() };
    server.reconfigure(next.clone(), None).map_err(refused).unwrap();
    cluster.run(50);
    let server = &mut cluster.servers[0];
    assert_eq!(server.is_reconfigured(), Some(StopSign { next_config: next, metadata: None }));
    assert_eq!(server.append(put(9)).map_err(refused), Err("entry"));
    let kinds: Vec<_> = server.read_decided_suffix(4).unwrap().into_iter().map(kind).collect();
    assert_eq!(kinds, ["decided", "decided stop sign"]);

    let OmniPaxosStates {
        current_ballot,
        current_leader,
        decided_idx,
        heartbeats,
        cluster_state: ClusterState { accepted_indexes: _, heartbeats: _ },
    } = server.get_ui_states();
    assert_eq!((current_ballot.pid, current_leader.is_some(), decided_idx), (1, true, 6));
    assert_eq!(heartbeats.len(), 2);
}
