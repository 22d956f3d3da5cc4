//! The snippets of the tutorial of 0.2.2, with its small slips mended: a missing semicolon, a
//! missing `mut`, the name of one variable, a `&str` for a `String`; and entries that a persistent
//! storage holds are serialisable.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]
#![allow(missing_docs, reason = "the snippets are as in the tutorial")]

use omnipaxos::{macros::Entry, messages::Message, util::LogEntry};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Entry, Serialize, Deserialize)] // Clone and Debug are required traits.
pub struct KeyValue {
    pub key: String,
    pub value: u64,
}

use omnipaxos::{ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig};
use omnipaxos_storage::{
    commitlog::LogOptions,
    memory_storage::MemoryStorage,
    persistent_storage::{PersistentStorage, PersistentStorageConfig},
};

type Replica = OmniPaxos<KeyValue, MemoryStorage<KeyValue>>;

/// "Creating a Node", for any of the three.
fn create(pid: u64) -> Replica {
    // configuration with id 1 and a cluster with 3 nodes
    let cluster_config =
        ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };

    // create the replica 2 in this cluster (other replica instances are created similarly with pid
    // 1 and 3 on the other nodes)
    let server_config = ServerConfig { pid, ..Default::default() };

    // Combined OmniPaxos config with both cluster-wide and server specific configurations
    let omnipaxos_config = OmniPaxosConfig { cluster_config, server_config };

    let storage = MemoryStorage::default();
    let omni_paxos: OmniPaxos<KeyValue, MemoryStorage<KeyValue>> =
        omnipaxos_config.build(storage).unwrap();
    omni_paxos
}

#[test]
fn creating_a_node() {
    let omni_paxos = create(2);
    assert_eq!(omni_paxos.get_pid(), 2);
}

#[test]
fn a_node_from_toml() {
    let directory = format!("{}/config", env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&directory).unwrap();
    let path = format!("{directory}/node2.toml");
    std::fs::write(
        &path,
        r"[cluster_config]
configuration_id = 1
nodes = [1, 2, 3]

[server_config]
pid = 2
",
    )
    .unwrap();
    let config_file_path = path.as_str();
    let omnipaxos_config = OmniPaxosConfig::with_toml(config_file_path);
    let omni_paxos: Replica = omnipaxos_config.unwrap().build(MemoryStorage::default()).unwrap();
    assert_eq!(omni_paxos.get_pid(), 2);
}

#[test]
fn three_servers_decide_a_key_value() {
    let mut servers: Vec<Replica> = (1..=3).map(create).collect();
    run(&mut servers);
    let leader = servers[0].get_current_leader().expect("a leader");

    // Whoever is not the leader forwards it.
    let follower = servers.iter_mut().find(|server| server.get_pid() != leader).unwrap();
    follower.append(KeyValue { key: String::from("a"), value: 123 }).expect("Failed to append");
    run(&mut servers);

    for server in &servers {
        assert_eq!(server.get_decided_idx(), 1);
        let Some(LogEntry::Decided(KeyValue { key, value })) = server.read(0) else {
            panic!("not decided at {}", server.get_pid());
        };
        assert_eq!((key.as_str(), value), ("a", 123));
    }
}

/// A cluster of one, so that nobody else can tell it what it has forgotten.
#[test]
fn fail_recovery() {
    let folder = tempfile::tempdir().unwrap();
    let my_path = folder.path().to_str().unwrap();
    let omnipaxos_config = OmniPaxosConfig {
        cluster_config: ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() },
        server_config: ServerConfig { pid: 1, ..Default::default() },
    };
    {
        let mut config = PersistentStorageConfig::default();
        config.set_path(my_path.into());
        config.set_commitlog_options(LogOptions::new(my_path));
        let storage = PersistentStorage::new(config);
        let mut omni_paxos: OmniPaxos<KeyValue, PersistentStorage<KeyValue>> =
            omnipaxos_config.clone().build(storage).unwrap();
        for _ in 0..100 {
            omni_paxos.tick();
            omni_paxos.outgoing_messages();
        }
        omni_paxos.append(KeyValue { key: String::from("a"), value: 123 }).unwrap();
        omni_paxos.outgoing_messages();
        assert_eq!(omni_paxos.get_decided_idx(), 1);
    }

    /* Re-creating our node after a crash... */

    // Configuration from previous storage
    let my_log_opts = LogOptions::new(my_path);
    let mut persist_conf = PersistentStorageConfig::default();

    persist_conf.set_path(my_path.into()); // set the path to the persistent storage
    persist_conf.set_commitlog_options(my_log_opts);

    // Re-create storage with previous state, then create `OmniPaxos`
    let recovered_storage = PersistentStorage::open(persist_conf);
    let mut recovered_paxos: OmniPaxos<KeyValue, _> =
        omnipaxos_config.build(recovered_storage).unwrap();

    // What is decided is known at the latest when there is a leader again.
    assert_eq!(recovered_paxos.get_accepted_idx(), 1);
    for _ in 0..100 {
        recovered_paxos.tick();
        recovered_paxos.outgoing_messages();
    }
    let Some(LogEntry::Decided(KeyValue { key, value })) = recovered_paxos.read(0) else {
        panic!("not recovered: {:?}", recovered_paxos.read(0));
    };
    assert_eq!((key.as_str(), value), ("a", 123));
}

/// A second of ticks, over a network that loses nothing.
fn run(servers: &mut [Replica]) {
    for _ in 0..100 {
        for server in servers.iter_mut() {
            server.tick();
        }
        loop {
            let messages: Vec<Message<KeyValue>> =
                servers.iter_mut().flat_map(OmniPaxos::outgoing_messages).collect();
            if messages.is_empty() {
                break;
            }
            for message in messages {
                let receiver = message.get_receiver();
                let server = servers.iter_mut().find(|server| server.get_pid() == receiver);
                server.expect("a receiver").handle_incoming(message);
            }
        }
    }
}
