//! What replicas report to loggers (features `logging` and `tracing`).

#![cfg(all(feature = "logging", feature = "tracing", feature = "macros"))]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    errors::ConfigError, macros::Entry, members::MemberChange, utils::logger::create_logger,
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::{
    collections::BTreeSet,
    fs, io,
    panic::{catch_unwind, resume_unwind, AssertUnwindSafe},
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc, Mutex, MutexGuard, PoisonError,
    },
};

#[derive(Clone, Debug, Entry)]
struct Word(&'static str);

type Server = OmniPaxos<Word, MemoryStorage<Word>>;

fn cluster() -> ClusterConfig {
    ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() }
}

fn build(config: ServerConfig) -> Result<Server, ConfigError> {
    cluster().build_for_server(config, MemoryStorage::default())
}

/// Elects a leader, transfers leadership, and ends the configuration.
fn live(servers: &mut [Server]) {
    run(servers);
    servers[0].try_become_leader();
    run(servers);
    servers[0].append(Word("hello")).unwrap();
    servers[0].transfer_leadership(2, 50).unwrap();
    run(servers);
    let next = ClusterConfig { configuration_id: 2, ..cluster() };
    servers[2].reconfigure(next, None).unwrap();
    run(servers);
    assert!(servers.iter().all(|server| server.is_reconfigured().is_some()));
}

fn run(servers: &mut [Server]) {
    for _ in 0..40 {
        servers.iter_mut().for_each(OmniPaxos::tick);
        for _hop in 0..6 {
            let mut messages = Vec::new();
            servers.iter_mut().for_each(|server| server.take_outgoing_messages(&mut messages));
            for message in messages {
                let to = usize::try_from(message.get_receiver()).unwrap() - 1;
                servers[to].handle_incoming(message);
            }
        }
    }
}

/// The events of server 2 with level `info`.
const STORY: [&str; 7] = [
    "starts with the stored log",
    "promises",
    "follows",
    "is asked to take over",
    "prepares",
    "leads",
    "the configuration has ended",
];

/// Checks that the log has these events in this order, with any others between.
fn tells(log: &str, events: &[&str]) -> Result<(), String> {
    let mut lines = log.lines();
    for event in events {
        if !lines.any(|line| line.contains(event)) {
            return Err(format!("{event:?} is not told, or too early, in\n{log}"));
        }
    }
    Ok(())
}

#[test]
fn a_file_tells_the_story_of_its_server() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = |pid: u64| folder.path().join(format!("logs/server{pid}.log"));
    let config = |pid| ServerConfig {
        pid,
        logger_file_path: Some(path(pid).to_str().unwrap().to_string()),
        ..Default::default()
    };
    let mut servers: Vec<Server> = (1..=3).map(|pid| build(config(pid)).unwrap()).collect();
    live(&mut servers);
    let log = fs::read_to_string(path(2)).unwrap();
    tells(&log, &STORY).unwrap();
    assert!(log.lines().all(|line| line.contains("pid: 2")), "{log}");
    tells(
        &fs::read_to_string(path(1)).unwrap(),
        &["leads", "transfers leadership", "promises", "follows"],
    )
    .unwrap();
}

/// Server 2 is removed.
#[test]
fn a_log_that_continues_names_the_configurations() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = |pid: u64| folder.path().join(format!("server{pid}.log"));
    let config = |pid| ServerConfig {
        pid,
        continues: true,
        logger_file_path: Some(path(pid).to_str().unwrap().to_string()),
        ..Default::default()
    };
    let mut servers: Vec<Server> = (1..=3).map(|pid| build(config(pid)).unwrap()).collect();
    servers[0].try_become_leader();
    run(&mut servers);
    let next = ClusterConfig { configuration_id: 2, nodes: vec![1, 3], ..Default::default() };
    servers[0].change_members(next, MemberChange::default()).unwrap();
    run(&mut servers);
    let began = "begins a configuration, idx: 1, what: configuration 2 of the servers [1, 3]";
    let ended = "the configuration has ended, idx: 1, what: configuration 2 follows,";
    let removed =
        "is no member any more, and observes, idx: 1, what: configuration 2 does not name it";
    for (pid, story) in [
        (
            1,
            vec![
                "appends a stop sign, idx: 0, what: configuration 2 is to follow",
                ended,
                began,
                "leads",
            ],
        ),
        (2, vec![began, removed]),
        (3, vec![began, "follows"]),
    ] {
        let log = fs::read_to_string(path(pid)).unwrap();
        tells(&log, &story).unwrap();
    }
}

#[test]
fn a_refused_stop_sign_is_named_as_such() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = |pid: u64| folder.path().join(format!("server{pid}.log"));
    let config = |pid| ServerConfig {
        pid,
        max_entry_bytes: (pid == 1).then_some(10),
        logger_file_path: Some(path(pid).to_str().unwrap().to_string()),
        ..Default::default()
    };
    let mut servers: Vec<Server> = (1..=3).map(|pid| build(config(pid)).unwrap()).collect();
    run(&mut servers);
    servers[0].try_become_leader();
    run(&mut servers);
    let next = ClusterConfig { configuration_id: 2, ..cluster() };
    servers[1].reconfigure(next, Some(vec![1; 11])).unwrap();
    run(&mut servers);
    assert_eq!(servers[1].dropped().unstorable, 1);
    let log = fs::read_to_string(path(2)).unwrap();
    tells(&log, &["drops a stop sign that cannot be stored"]).unwrap();
    assert!(log.contains("metadata of about 11 bytes") && !log.contains("entry that"), "{log}");
}

#[test]
fn a_logger_of_the_user_comes_before_a_file() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (own, unused) = (folder.path().join("own.log"), folder.path().join("unused.log"));
    let config = ServerConfig {
        pid: 1,
        custom_logger: Some(create_logger(own.to_str().unwrap())),
        logger_file_path: Some(unused.to_str().unwrap().to_string()),
        ..Default::default()
    };
    let mut server = build(config).unwrap();
    server.try_become_leader();
    tells(&fs::read_to_string(own).unwrap(), &["starts", "prepares"]).unwrap();
    assert!(!unused.exists());
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_of_build() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_string();
    let config =
        ServerConfig { pid: 1, logger_file_path: Some(path.clone()), ..Default::default() };
    match build(config) {
        Err(ConfigError::InvalidConfig(what)) => {
            assert!(what.contains("logger_file_path") && what.contains(&path), "{what}");
        }
        other => panic!("a folder is no file: {other:?}"),
    }
}

/// Runs one test at a time. An event that a thread without a subscriber emits first, just when another thread
/// sets one, may count as unwanted for good.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Collects what a subscriber writes.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_subscriber_is_told_the_same() {
    let _alone = alone();
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let config = |pid| ServerConfig { pid, ..Default::default() };
        let mut servers: Vec<Server> = (1..=3).map(|pid| build(config(pid)).unwrap()).collect();
        live(&mut servers);
    });
    let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let of_2: Vec<&str> = log.lines().filter(|line| line.contains("pid=2")).collect();
    tells(&of_2.join("\n"), &STORY).unwrap();
    assert!(log.contains("leader=2") && log.contains("INFO omnipaxos"), "{log}");
}

/// A logger that panics at a certain record.
struct Panics {
    records: AtomicU64,
    at: u64,
}

impl slog::Drain for Panics {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, _: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        if self.records.fetch_add(1, Ordering::Relaxed) == self.at {
            resume_unwind(Box::new("a logger"));
        }
        Ok(())
    }
}

#[test]
fn a_logger_that_panics_leaves_a_halted_replica() {
    let _alone = alone();
    let mut inputs = BTreeSet::new();
    for at in 1.. {
        let logger = Panics { records: AtomicU64::new(0), at };
        let config = ServerConfig {
            pid: 1,
            custom_logger: Some(slog::Logger::root(logger, slog::o!())),
            ..Default::default()
        };
        let cluster = ClusterConfig { nodes: vec![1], ..cluster() };
        let mut server: Server =
            cluster.build_for_server(config, MemoryStorage::default()).unwrap();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            (0..20).for_each(|_| server.tick());
            server.append(Word("hello")).unwrap();
            server.outgoing_messages();
            server.compact(1).unwrap();
            let next =
                ClusterConfig { configuration_id: 2, nodes: vec![1, 2], ..Default::default() };
            server.reconfigure(next, None).unwrap();
            server.outgoing_messages();
        }));
        if caught.is_ok() {
            assert!(server.halted().is_none());
            break;
        }
        let halted = server.halted().unwrap_or_else(|| panic!("record {at}: it goes on"));
        assert!(halted.is_panic());
        inputs.insert(halted.operation().to_string());
    }
    let expected = ["compact", "reconfigure", "tick"];
    assert!(expected.iter().all(|input| inputs.contains(*input)), "{inputs:?}");
}
