//! A program of 0.2.2 that rolls back what it appended when it loses leadership.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{macros::Entry, util::LogEntry, ClusterConfig, OmniPaxos, ServerConfig};
use omnipaxos_harness::{build, Delay};
use omnipaxos_storage::memory_storage::MemoryStorage;

#[derive(Clone, Debug, PartialEq, Entry, serde::Serialize, serde::Deserialize)]
struct V(u64);

type Node = OmniPaxos<V, MemoryStorage<V>>;

type Cluster = omnipaxos_harness::Cluster<V, MemoryStorage<V>>;

/// Nodes 1 to 3.
fn cluster(change: impl Fn(&mut ServerConfig)) -> Cluster {
    let config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let node = |pid| build(&config, pid, &change, MemoryStorage::default());
    let mut cluster = Cluster::of([1, 2, 3].map(node), Delay(0));
    cluster.run(60);
    cluster
}

/// Decides V(1); then the leader appends V(77) and is cut off while the others decide V(2).
fn depose(cluster: &mut Cluster, append_77: impl Fn(&mut Node)) {
    let leader = cluster.server(1).get_current_leader().unwrap();
    cluster.server(leader).append(V(1)).unwrap();
    cluster.run(250);
    cluster.isolate(leader);
    append_77(cluster.server(leader));
    cluster.run(60);
    cluster.server(leader % 3 + 1).append(V(2)).unwrap();
    cluster.run(250);
    cluster.heal_all();
    cluster.run(500);
}

fn assert_decided(cluster: &Cluster, expected: &[u64]) {
    for node in cluster.servers() {
        let decided: Vec<u64> = (0..node.get_decided_idx())
            .filter_map(|idx| match node.read(idx) {
                Some(LogEntry::Decided(value)) => Some(value.0),
                _other => None,
            })
            .collect();
        assert_eq!(decided, expected);
        assert_eq!(node.get_accepted_idx(), expected.len() as u64);
    }
}

fn append(node: &mut Node) {
    node.append(V(77)).unwrap();
}

#[test]
fn what_a_deposed_leader_appended_is_dropped() {
    let mut cluster = cluster(|_| {});
    depose(&mut cluster, append);
    assert_decided(&cluster, &[1, 2]);
}

#[test]
fn so_is_what_waits_for_its_batch_or_for_room() {
    let batches = |config: &mut ServerConfig| config.batch_size = 3;
    let small = |config: &mut ServerConfig| config.max_message_entries = 1;
    let changes: [&dyn Fn(&mut ServerConfig); 2] = [&batches, &small];
    for change in changes {
        let mut cluster = cluster(change);
        depose(&mut cluster, |node| {
            append(node);
            append(node);
        });
        assert_decided(&cluster, &[1, 2]);
    }
}

#[test]
fn a_setting_keeps_it() {
    let batches = |config: &mut ServerConfig| config.batch_size = 3;
    let changes: [&dyn Fn(&mut ServerConfig); 2] = [&|_| {}, &batches];
    for change in changes {
        let mut cluster = cluster(|config| {
            change(config);
            config.keeps_undecided_appends = true;
        });
        depose(&mut cluster, append);
        assert_decided(&cluster, &[1, 2, 77]);
    }
}

#[test]
fn a_proposal_survives() {
    let mut cluster = cluster(|_| {});
    depose(&mut cluster, |node| assert!(node.propose(V(77)).is_ok()));
    assert_decided(&cluster, &[1, 2, 77]);
}

#[test]
fn so_does_what_another_server_holds() {
    let mut cluster = cluster(|_| {});
    let leader = cluster.server(1).get_current_leader().unwrap();
    append(cluster.server(leader));
    let messages = cluster.server(leader).outgoing_messages();
    let other = leader % 3 + 1;
    for message in messages.into_iter().filter(|message| message.get_receiver() == other) {
        cluster.server(other).handle_incoming(message);
    }
    cluster.isolate(leader);
    cluster.run(60);
    cluster.heal_all();
    cluster.run(60);
    assert_decided(&cluster, &[77]);
}

#[test]
fn so_does_what_was_appended_at_a_follower() {
    let mut cluster = cluster(|_| {});
    let leader = cluster.server(1).get_current_leader().unwrap();
    let follower = leader % 3 + 1;
    cluster.server(follower).append(V(77)).unwrap();
    for message in cluster.server(follower).outgoing_messages() {
        if message.get_receiver() == leader {
            cluster.server(leader).handle_incoming(message);
        }
    }
    cluster.isolate(leader);
    cluster.run(60);
    cluster.heal_all();
    cluster.run(60);
    assert_decided(&cluster, &[77]);
}
