//! What replicas give to a metrics recorder, and when (feature `metrics`).

#![cfg(all(feature = "metrics", feature = "macros"))]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use metrics_util::{
    debugging::{DebugValue, DebuggingRecorder},
    MetricKind,
};
use omnipaxos::{
    ballot_leader_election::Ballot,
    macros::Entry,
    members::MemberChange,
    messages::Message,
    storage::{NoSnapshot, StopSign, Storage, StorageResult},
    ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::{collections::BTreeMap, fs};

#[derive(Clone, Debug, Entry)]
struct Word(&'static str);

type Server<B> = OmniPaxos<Word, B>;

const HEARTBEAT_ROUND: u64 = 5;

fn build<B: Storage<Word>>(pid: u64, nodes: &[u64], storage: B) -> Server<B> {
    let cluster =
        ClusterConfig { configuration_id: 1, nodes: nodes.to_vec(), ..Default::default() };
    let config = ServerConfig { pid, election_tick_timeout: HEARTBEAT_ROUND, ..Default::default() };
    cluster.build_for_server(config, storage).unwrap()
}

fn three() -> Vec<Server<MemoryStorage<Word>>> {
    (1..=3).map(|pid| build(pid, &[1, 2, 3], MemoryStorage::default())).collect()
}

/// Runs for some heartbeat rounds, without messages to and from those that are `away`.
fn run(servers: &mut [Server<MemoryStorage<Word>>], rounds: u64, away: &[u64]) {
    let is_away = |pid: u64| away.contains(&pid);
    for _ in 0..rounds * HEARTBEAT_ROUND {
        servers.iter_mut().for_each(OmniPaxos::tick);
        for _hop in 0..6 {
            let mut messages: Vec<Message<Word>> = Vec::new();
            servers.iter_mut().for_each(|server| server.take_outgoing_messages(&mut messages));
            messages.retain(|m| !is_away(m.get_sender()) && !is_away(m.get_receiver()));
            for message in messages {
                let to = usize::try_from(message.get_receiver()).unwrap() - 1;
                servers[to].handle_incoming(message);
            }
        }
    }
}

/// What a recorder holds: by name and labels, and nothing of it twice.
#[derive(Debug)]
struct Taken(BTreeMap<String, f64>);

impl Taken {
    /// Takes it: all is 0 there until it is given again.
    fn from(recorder: &DebuggingRecorder) -> Self {
        let metrics = recorder.snapshotter().snapshot().into_vec().into_iter();
        let by_key = metrics.map(|(key, _, _, value)| {
            let labels = key.key().labels().map(|l| format!("{}={}", l.key(), l.value()));
            let labels: Vec<String> = labels.collect();
            let value = match value {
                DebugValue::Counter(number) => number as f64,
                DebugValue::Gauge(number) => number.into_inner(),
                DebugValue::Histogram(_) => panic!("there are no histograms"),
            };
            (format!("{} {}", key.key().name(), labels.join(" ")), value)
        });
        Self(by_key.collect())
    }

    /// The value of a server in configuration 1.
    fn of(&self, pid: u64, name: &str, more: &str) -> f64 {
        self.value(&format!("omnipaxos_{name} pid={pid} configuration_id=1 {more}"))
    }

    /// The value of a server whose log continues.
    fn of_epochs(&self, pid: u64, name: &str, more: &str) -> f64 {
        self.value(&format!("omnipaxos_{name} pid={pid} {more}"))
    }

    fn value(&self, key: &str) -> f64 {
        *self.0.get(key.trim()).unwrap_or_else(|| panic!("no {key} in {:#?}", self.0))
    }
}

#[test]
fn the_document_has_all_metrics_and_no_others() {
    let path = format!("{}/../docs/metrics.md", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `omnipaxos_"));
    let mut documented: Vec<[String; 4]> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let labels = cells[3].replace('`', "");
            let size = if cells[4] == "bytes" { "bytes" } else { "count" };
            [cells[1].replace('`', ""), cells[2].into(), labels, size.into()]
        })
        .collect();
    documented.sort();

    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || run(&mut three(), 1, &[]));
    let metrics = recorder.snapshotter().snapshot().into_vec().into_iter();
    let mut given: Vec<[String; 4]> = metrics
        .map(|(key, unit, meaning, _)| {
            let name = key.key().name();
            let meaning = meaning.unwrap_or_else(|| panic!("{name} says nothing of itself"));
            assert!(meaning.ends_with('.'), "{name}: {meaning}");
            let kind = match key.kind() {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
            };
            let labels: Vec<&str> = key.key().labels().map(metrics::Label::key).collect();
            let (own, more) = labels.split_at(2);
            assert_eq!(own, ["pid", "configuration_id"], "{name}");
            let unit = unit.unwrap().as_str().to_string();
            [name.to_string(), kind.to_string(), more.join(", "), unit]
        })
        .collect();
    given.sort();
    given.dedup();
    assert_eq!(given, documented);
}

#[test]
fn a_cluster_gives_what_is() {
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        let mut servers = three();
        servers[0].try_become_leader();
        run(&mut servers, 4, &[]);
        for word in ["a", "b", "c"] {
            servers[0].append(Word(word)).unwrap();
        }
        run(&mut servers, 2, &[]);
        servers[0].trim(Some(2)).unwrap();
        run(&mut servers, 2, &[]);
        servers[0].append(Word("d")).unwrap();
        servers[2].append(Word("e")).unwrap();
        run(&mut servers, 2, &[3]);
        let taken = Taken::from(&recorder);
        for (pid, role, decided_idx) in [(1, "leading", 4.0), (2, "following", 4.0)] {
            assert_eq!(taken.of(pid, "role", &format!("role={role}")), 1.0);
            assert_eq!(taken.of(pid, "decided_idx", ""), decided_idx);
            assert_eq!(taken.of(pid, "stored_idx", ""), 4.0);
            assert_eq!(taken.of(pid, "compacted_idx", ""), 2.0);
            assert_eq!(taken.of(pid, "undecided_entries", ""), 0.0);
            assert_eq!(taken.of(pid, "peer_answers", "peer=3"), 0.0);
        }
        assert_eq!(taken.of(1, "follower_lag_entries", "peer=3"), 1.0);
        assert_eq!(taken.of(1, "follower_lag_entries", "peer=2"), 0.0);
        assert_eq!(taken.of(1, "follower_replicating", "peer=2"), 1.0);
        assert_eq!(taken.of(2, "follower_replicating", "peer=1"), 0.0);
        assert_eq!(taken.of(1, "peer_answers", "peer=2"), 1.0);
        assert_eq!(taken.of(3, "pending_entries", "") + taken.of(3, "waiting_entries", ""), 1.0);
        let promised = f64::from(servers[0].get_promise().n);
        assert!(promised > 0.0);
        assert_eq!(taken.of(1, "promised_ballot_number", ""), promised);

        let of_nobody = build(9, &[7, 8, 9], MemoryStorage::default()).outgoing_messages();
        let number = of_nobody.len();
        assert!(number > 0, "a new server asks who is there");
        of_nobody.into_iter().for_each(|message| servers[0].handle_incoming(message));
        let next =
            ClusterConfig { configuration_id: 2, nodes: vec![1, 2, 3], ..Default::default() };
        servers[0].reconfigure(next, None).unwrap();
        run(&mut servers, 3, &[]);
        let taken = Taken::from(&recorder);
        let misdelivered = taken.of(1, "dropped_messages_total", "reason=misdelivered");
        assert_eq!(misdelivered, number as f64);
        for pid in 1..=3 {
            assert_eq!(taken.of(pid, "is_reconfigured", ""), 1.0, "server {pid}");
        }
    });
}

/// The series go on with the log: they have no label for the configuration, and none keeps the value that
/// it had in an earlier epoch.
#[test]
fn where_the_log_continues_so_do_the_metrics() {
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        let founder = |pid| {
            let nodes = vec![1, 2, 3];
            let cluster = ClusterConfig { configuration_id: 1, nodes, ..Default::default() };
            let server = ServerConfig {
                pid,
                election_tick_timeout: HEARTBEAT_ROUND,
                continues: true,
                ..Default::default()
            };
            cluster.build_for_server(server, MemoryStorage::default()).unwrap()
        };
        let mut servers: Vec<_> = (1..=3).map(founder).collect();
        let server =
            ServerConfig { pid: 4, election_tick_timeout: HEARTBEAT_ROUND, ..Default::default() };
        let joiner = OmniPaxosConfig::observe(server, &[1]).build(MemoryStorage::default());
        servers.push(joiner.unwrap());
        servers[0].try_become_leader();
        run(&mut servers, 4, &[4]);
        for word in ["a", "b", "c"] {
            servers[0].append(Word(word)).unwrap();
        }
        let next =
            ClusterConfig { configuration_id: 2, nodes: vec![1, 2, 4], ..Default::default() };
        servers[0].change_members(next, MemberChange::default()).unwrap();
        run(&mut servers, 2, &[4]);
        let taken = Taken::from(&recorder);
        for (name, value) in [
            ("configuration_id", 1.0),
            ("epoch_idx", 0.0),
            ("kept_epochs", 1.0),
            ("joiners", 1.0),
            ("joiner_lag_entries", 3.0),
            ("is_retired", 0.0),
        ] {
            assert_eq!(taken.of_epochs(1, name, ""), value, "{name}");
        }
        assert_eq!(taken.of_epochs(4, "configuration_id", ""), 0.0, "it has not learned any");
        assert_eq!(taken.of_epochs(1, "peer_answers", "peer=3"), 1.0);
        run(&mut servers, 6, &[]);
        let taken = Taken::from(&recorder);
        for pid in 1..=4 {
            assert_eq!(taken.of_epochs(pid, "configuration_id", ""), 2.0, "server {pid}");
            assert_eq!(taken.of_epochs(pid, "epoch_idx", ""), 4.0, "server {pid}");
            assert_eq!(taken.of_epochs(pid, "kept_epochs", ""), 2.0, "server {pid}");
            assert_eq!(taken.of_epochs(pid, "joiners", ""), 0.0, "server {pid}");
            for name in ["is_retired", "may_stop"] {
                let value = f64::from(u8::from(pid == 3));
                assert_eq!(taken.of_epochs(pid, name, ""), value, "{name} of server {pid}");
            }
        }
        for name in ["peer_answers", "follower_replicating"] {
            assert_eq!(taken.of_epochs(1, name, "peer=3"), 0.0, "{name}");
            assert_eq!(taken.of_epochs(1, name, "peer=4"), 1.0, "{name}");
        }
        assert!(taken.0.keys().all(|key| !key.contains("configuration_id=")), "{taken:#?}");
    });
}

#[test]
fn numbers_are_given_when_a_heartbeat_round_ends_and_not_before() {
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        let mut servers = three();
        servers[0].try_become_leader();
        servers[0].append(Word("waits")).unwrap();
        let mut rounds = 0;
        for tick in 1..=4 * HEARTBEAT_ROUND {
            servers[0].outgoing_messages();
            servers[0].tick();
            let gave = Taken::from(&recorder).0.values().any(|value| *value != 0.0);
            rounds += u64::from(gave);
            assert_eq!(rounds, tick / HEARTBEAT_ROUND, "after {tick} ticks");
        }
    });
}

#[test]
fn a_recorder_changes_nothing() {
    let live = || {
        let mut servers = three();
        run(&mut servers, 6, &[]);
        servers[1].append(Word("a")).unwrap();
        run(&mut servers, 3, &[]);
        servers.iter().map(OmniPaxos::status).collect::<Vec<_>>()
    };
    let recorder = DebuggingRecorder::new();
    let with = metrics::with_local_recorder(&recorder, live);
    assert_eq!(with, live());
    assert!(!Taken::from(&recorder).0.is_empty());
}

#[test]
fn a_replica_that_halts_says_so_at_once() {
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        let mut server = build(1, &[1], Full);
        server.try_become_leader();
        assert!(Taken::from(&recorder).0.is_empty());
        server.try_take_outgoing_messages(&mut Vec::new()).unwrap_err();
    });
    let taken = Taken::from(&recorder);
    assert_eq!(taken.of(1, "role", "role=halted"), 1.0);
    assert_eq!(taken.of(1, "role", "role=leading"), 0.0);
}

/// A storage that holds nothing and has no room.
struct Full;

fn no_room<R>() -> StorageResult<R> {
    Err("no room".into())
}

impl Storage<Word> for Full {
    fn append_entry(&mut self, _: Word) -> StorageResult<u64> {
        no_room()
    }
    fn append_entries(&mut self, _: Vec<Word>) -> StorageResult<u64> {
        no_room()
    }
    fn append_on_prefix(&mut self, _: u64, _: Vec<Word>) -> StorageResult<u64> {
        no_room()
    }
    fn set_promise(&mut self, _: Ballot) -> StorageResult<()> {
        no_room()
    }
    fn set_decided_idx(&mut self, _: u64) -> StorageResult<()> {
        no_room()
    }
    fn get_decided_idx(&self) -> StorageResult<u64> {
        Ok(0)
    }
    fn set_accepted_round(&mut self, _: Ballot) -> StorageResult<()> {
        no_room()
    }
    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        Ok(None)
    }
    fn get_entries(&self, _: u64, _: u64) -> StorageResult<Vec<Word>> {
        Ok(Vec::new())
    }
    fn get_log_len(&self) -> StorageResult<u64> {
        Ok(0)
    }
    fn get_suffix(&self, _: u64) -> StorageResult<Vec<Word>> {
        Ok(Vec::new())
    }
    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        Ok(None)
    }
    fn set_stopsign(&mut self, _: Option<StopSign>) -> StorageResult<()> {
        no_room()
    }
    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        Ok(None)
    }
    fn trim(&mut self, _: u64) -> StorageResult<()> {
        no_room()
    }
    fn set_compacted_idx(&mut self, _: u64) -> StorageResult<()> {
        no_room()
    }
    fn get_compacted_idx(&self) -> StorageResult<u64> {
        Ok(0)
    }
    fn set_snapshot(&mut self, _: Option<NoSnapshot>) -> StorageResult<()> {
        no_room()
    }
    fn get_snapshot(&self) -> StorageResult<Option<NoSnapshot>> {
        Ok(None)
    }
}
