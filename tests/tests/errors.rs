//! Errors and their causes: no message contains that of its cause, so that a chain contains each text once.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    errors::{
        find_cause, with_causes, BuildErr, CompactionErr, ConfigError, ProposeErr, SharedError,
        TryCompactionErr, TryProposeErr,
    },
    leader_transfer::TransferErr,
    reads::ReadRefused,
    storage::{Storage, StorageResult},
    ClusterConfig, OmniPaxosConfig, ServerConfig,
};
use omnipaxos_storage::{
    persistent_storage::{PersistentStorage, PersistentStorageConfig, StorageError},
    sled,
};
use omnipaxos_tests::{failing_storage::FailingStorage, lab::Word};
use std::{error::Error, io, path::PathBuf};

/// An error and its causes.
fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect()
}

#[track_caller]
fn says_all_once(error: &(dyn Error + 'static)) {
    let chain = chain(error);
    for (message, cause) in chain.iter().zip(chain.iter().skip(1)) {
        assert!(!message.contains(cause.as_str()), "{message:?} contains {cause:?}");
    }
    assert_eq!(with_causes(error), chain.join(": "));
    assert!(!chain[0].is_empty() && !chain[0].ends_with('.'));
}

fn io_error() -> io::Error {
    io::Error::from_raw_os_error(28)
}

fn config_errors() -> Vec<ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let no_toml = folder.path().join("no.toml");
    std::fs::write(&no_toml, "[cluster_config").unwrap();
    vec![
        OmniPaxosConfig::with_toml("no/such/file.toml").unwrap_err(),
        ConfigError::ReadFile(io_error()),
        OmniPaxosConfig::with_toml(no_toml.to_str().unwrap()).unwrap_err(),
        ConfigError::InvalidConfig("pid must not be 0".to_string()),
    ]
}

#[test]
fn errors_of_configurations_and_proposals() {
    config_errors().iter().for_each(|error| says_all_once(error));
    let missing = OmniPaxosConfig::with_toml("no/such/file.toml").unwrap_err();
    assert_eq!(chain(&missing).len(), 2, "the file, and what the system says");
    assert!(missing.to_string().ends_with(" no/such/file.toml"));
    let next = || ClusterConfig { configuration_id: 2, nodes: vec![1], ..Default::default() };
    let mut refused = vec![
        ProposeErr::PendingReconfigEntry(Word("a".to_string())),
        ProposeErr::PendingReconfigConfig(next(), None),
    ];
    let illegal = config_errors().into_iter();
    refused.extend(illegal.map(|error| ProposeErr::ConfigError(error, next(), None)));
    for refused in refused {
        says_all_once(&refused);
        says_all_once(&TryProposeErr::from(refused));
    }
    says_all_once(&TryProposeErr::Busy(Word("a".to_string())));
    says_all_once(&TryProposeErr::NoIncarnation(Word("a".to_string())));
    for refused in [
        CompactionErr::UndecidedIndex(1),
        CompactionErr::TrimmedIndex(1),
        CompactionErr::NotAllDecided(1),
        CompactionErr::NotCurrentLeader(1),
    ] {
        says_all_once(&refused);
        says_all_once(&TryCompactionErr::from(refused));
    }
}

fn storage_errors() -> Vec<StorageError> {
    let path = || PathBuf::from("/a/b");
    let database = sled::Error::Io(io_error());
    vec![
        StorageError::Io { doing: "write to", path: path(), source: io_error() },
        StorageError::Database { doing: "flush", path: path(), source: Box::new(database) },
        StorageError::Database {
            doing: "open",
            path: path(),
            source: Box::new(sled::Error::ReportableBug("a bug".to_string())),
        },
        StorageError::NoFolder { path: path(), what: "it is not a folder" },
        StorageError::Missing { path: path() },
        StorageError::Corrupt { path: path(), byte: 7, what: "a checksum is wrong".to_string() },
        StorageError::Foreign { path: path() },
        StorageError::Format { path: path(), found: 2, ours: 1 },
        StorageError::Locked { path: path() },
        StorageError::NotEmpty { path: path() },
        StorageError::NoStorage { path: path() },
        StorageError::TooLarge { what: "an entry", bytes: 7, limit: 6 },
        StorageError::Code { doing: "decode", what: "an entry", source: "an end".into() },
        StorageError::Poisoned { cause: "an earlier one".to_string() },
    ]
}

#[test]
fn errors_of_storages() {
    for error in storage_errors() {
        says_all_once(&error);
        let text = error.to_string();
        assert!(!text.contains("from a copy") && !text.contains("estore"), "{text}");
        if matches!(error, StorageError::Corrupt { .. } | StorageError::Missing { .. }) {
            for says in ["/a/b", "lost no data", "older copy", "a new id"] {
                assert!(text.contains(says), "{says}: {text}");
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut config = PersistentStorageConfig::default();
    config.set_path(folder.path().join("file/below").to_str().unwrap().to_string());
    std::fs::write(folder.path().join("file"), "").unwrap();
    says_all_once(&PersistentStorage::<Word>::try_open(config).unwrap_err());
}

/// A storage whose writes fail with an error that has causes, or names itself as its cause.
#[derive(Debug)]
struct Caused(&'static str, Option<Box<Caused>>, bool);

impl std::fmt::Display for Caused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Caused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        if self.2 {
            Some(self)
        } else {
            self.1.as_deref().map(|cause| cause as _)
        }
    }
}

#[test]
fn a_halted_replica_names_all_causes() {
    let halted_by = |fail: fn() -> StorageResult<()>| {
        let storage = FailingStorage::<Word>::default();
        let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
        let server = ServerConfig { pid: 1, ..Default::default() };
        let mut replica = cluster.build_for_server(server, storage.clone()).unwrap();
        storage.order(|orders| orders.fails_with = Some(fail));
        (0..30).for_each(|_| replica.tick());
        replica.flush().unwrap_err()
    };
    let causes = halted_by(|| {
        let cause = Caused("no space is left", None, false);
        Err(Caused("could not write to a file", Some(Box::new(cause)), false).into())
    });
    says_all_once(&causes);
    assert_eq!(causes.cause(), "could not write to a file: no space is left");
    assert_eq!(chain(&causes)[1..], ["could not write to a file", "no space is left"]);
    assert!(causes.to_string().starts_with("the replica has halted: the storage failed to write"));
    let endless = halted_by(|| Err(Caused("it is its own cause", None, true).into()));
    assert!(chain(&endless).len() < 20);
    for error in [causes, endless] {
        let all: [Box<dyn Error>; 4] = [
            Box::new(TryProposeErr::<Word>::Halted(error.clone())),
            Box::new(TryCompactionErr::Halted(error.clone())),
            Box::new(TransferErr::Halted(error.clone())),
            Box::new(ReadRefused::Halted(error.clone())),
        ];
        for wrapped in all {
            assert_eq!(chain(&*wrapped), chain(&error));
        }
        fn is_send<E: Send + Sync + 'static>(_: &E) {}
        is_send(&error);
    }
}

fn fails_without_space() -> StorageResult<()> {
    Err(io_error().into())
}

fn fails_with_a_shared_error() -> StorageResult<()> {
    let path = PathBuf::from("/a/b");
    Err(SharedError::new(StorageError::Io { doing: "write to", path, source: io_error() }).into())
}

#[test]
fn a_halted_replica_keeps_the_error_itself_where_it_can_be_sent() {
    for (fail, text, is_of_storage) in [
        (fails_without_space as fn() -> StorageResult<()>, io_error().to_string(), false),
        (fails_with_a_shared_error, format!("could not write to /a/b: {}", io_error()), true),
    ] {
        let storage = FailingStorage::<Word>::default();
        let mut replica = alone().0.build_for_server(alone().1, storage.clone()).unwrap();
        storage.order(|orders| orders.fails_with = Some(fail));
        (0..30).for_each(|_| replica.tick());
        let halted = replica.flush().unwrap_err();
        says_all_once(&halted);
        assert_eq!(halted.cause(), text);
        let cause = halted.source().unwrap();
        assert_eq!(cause.downcast_ref::<StorageError>().is_some(), is_of_storage, "{cause:?}");
        assert_eq!(cause.downcast_ref::<io::Error>().is_some(), !is_of_storage, "{cause:?}");
        let found = find_cause::<io::Error>(&halted).unwrap();
        assert_eq!(found.raw_os_error(), Some(28));
    }
    let shared = fails_with_a_shared_error().unwrap_err();
    assert!(find_cause::<StorageError>(&*shared).is_some(), "not only in a halted replica");
    assert!(find_cause::<StorageError>(&io_error()).is_none());
}

fn alone() -> (ClusterConfig, ServerConfig) {
    let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    (cluster, ServerConfig { pid: 1, ..Default::default() })
}

#[test]
fn a_storage_that_fails_when_a_replica_is_built_is_named_as_such() {
    let (cluster, server) = alone();
    let failing = || {
        let storage = FailingStorage::<Word>::default();
        storage.order(|orders| orders.fails_with = Some(fails_with_a_shared_error));
        storage
    };
    let error = cluster.clone().try_build_for_server(server.clone(), failing()).unwrap_err();
    says_all_once(&error);
    let BuildErr::Storage(failed) = &error else { panic!("{error:?}") };
    assert!(failed.operation().contains("identity"), "{failed}");
    assert!(matches!(find_cause(&error), Some(StorageError::Io { doing: "write to", .. })));
    let as_in_0_2_2 = cluster.clone().build_for_server(server, failing()).unwrap_err();
    let text = format!("invalid configuration: {}", with_causes(&error));
    assert_eq!(as_in_0_2_2.to_string(), text, "no cause is lost");

    let illegal = ServerConfig::default();
    let error = cluster.clone().try_build_for_server(illegal, failing()).unwrap_err();
    assert!(matches!(&error, BuildErr::Config(ConfigError::InvalidConfig(_))), "{error:?}");
    says_all_once(&error);

    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let folder = folder.path().to_str().unwrap();
        PersistentStorage::<Word>::open(PersistentStorageConfig::with_path(folder))
    };
    let nodes = vec![1, 2];
    let two = ClusterConfig { configuration_id: 1, nodes, ..Default::default() };
    let server = |pid| ServerConfig { pid, ..Default::default() };
    drop(two.clone().try_build_for_server(server(1), open()).unwrap());
    let error = two.try_build_for_server(server(2), open()).unwrap_err();
    assert!(matches!(error, BuildErr::StorageMismatch(_)), "{error:?}");
    says_all_once(&error);
}

#[test]
fn errors_of_reads_and_transfers() {
    for refused in [
        ReadRefused::NoLeader,
        ReadRefused::Unreachable(2),
        ReadRefused::Preparing,
        ReadRefused::Reconfigured,
        ReadRefused::NoIncarnation,
        ReadRefused::Unknown,
    ] {
        says_all_once(&refused);
    }
    for refused in [
        TransferErr::NotLeader(None),
        TransferErr::NotLeader(Some(2)),
        TransferErr::NotAMember(2),
        TransferErr::ToItself,
        TransferErr::AlreadyTransferring(2),
    ] {
        says_all_once(&refused);
    }
    let storage = FailingStorage::<Word>::default();
    let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    let server = ServerConfig { pid: 1, ..Default::default() };
    let mut replica = cluster.build_for_server(server, storage.clone()).unwrap();
    (0..30).for_each(|_| replica.tick());
    replica.append(Word("a".to_string())).unwrap();
    replica.outgoing_messages();
    assert_eq!(storage.get_log_len().unwrap(), 1);
    storage.order(|orders| orders.fail_reads = true);
    says_all_once(&replica.try_read(0).unwrap_err());
}
