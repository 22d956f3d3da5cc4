//! A program of 0.2.2 that rolls back what it appended when it loses leadership.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{macros::Entry, messages::Message, util::LogEntry, ClusterConfig, OmniPaxos};
use omnipaxos::{OmniPaxosConfig, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;

#[derive(Clone, Debug, PartialEq, Entry, serde::Serialize, serde::Deserialize)]
struct V(u64);

type Node = OmniPaxos<V, MemoryStorage<V>>;

/// Nodes 1 to 3 in one process; those that are cut off neither send nor get messages.
struct Cluster {
    nodes: Vec<Node>,
    cut_off: Vec<u64>,
}

impl Cluster {
    fn new(change: impl Fn(&mut ServerConfig)) -> Self {
        let node = |pid| {
            let cluster_config =
                ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
            let mut server_config = ServerConfig { pid, ..Default::default() };
            change(&mut server_config);
            let config = OmniPaxosConfig { cluster_config, server_config };
            config.build(MemoryStorage::default()).unwrap()
        };
        let mut cluster = Self { nodes: (1..=3).map(node).collect(), cut_off: Vec::new() };
        cluster.run(60);
        cluster
    }

    fn node(&mut self, pid: u64) -> &mut Node {
        &mut self.nodes[pid as usize - 1]
    }

    fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.nodes.iter_mut().for_each(Node::tick);
            for _hop in 0..4 {
                let outgoing = self.nodes.iter_mut().flat_map(Node::outgoing_messages);
                let messages: Vec<Message<V>> = outgoing.collect();
                for message in messages {
                    let (from, to) = (message.get_sender(), message.get_receiver());
                    if !self.cut_off.contains(&from) && !self.cut_off.contains(&to) {
                        self.node(to).handle_incoming(message);
                    }
                }
            }
        }
    }

    /// Decides V(1); then the leader appends V(77) and is cut off while the others decide V(2).
    fn depose(&mut self, append_77: impl Fn(&mut Node)) {
        let leader = self.node(1).get_current_leader().unwrap();
        self.node(leader).append(V(1)).unwrap();
        self.run(250);
        self.cut_off.push(leader);
        append_77(self.node(leader));
        self.run(60);
        self.node(leader % 3 + 1).append(V(2)).unwrap();
        self.run(250);
        self.cut_off.clear();
        self.run(500);
    }

    fn assert_decided(&self, expected: &[u64]) {
        for node in &self.nodes {
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
}

fn append(node: &mut Node) {
    node.append(V(77)).unwrap();
}

#[test]
fn what_a_deposed_leader_appended_is_dropped() {
    let mut cluster = Cluster::new(|_| {});
    cluster.depose(append);
    cluster.assert_decided(&[1, 2]);
}

#[test]
fn so_is_what_waits_for_its_batch_or_for_room() {
    let batches = |config: &mut ServerConfig| config.batch_size = 3;
    let small = |config: &mut ServerConfig| config.max_message_entries = 1;
    let changes: [&dyn Fn(&mut ServerConfig); 2] = [&batches, &small];
    for change in changes {
        let mut cluster = Cluster::new(change);
        cluster.depose(|node| {
            append(node);
            append(node);
        });
        cluster.assert_decided(&[1, 2]);
    }
}

#[test]
fn a_setting_keeps_it() {
    let batches = |config: &mut ServerConfig| config.batch_size = 3;
    let changes: [&dyn Fn(&mut ServerConfig); 2] = [&|_| {}, &batches];
    for change in changes {
        let mut cluster = Cluster::new(|config| {
            change(config);
            config.keeps_undecided_appends = true;
        });
        cluster.depose(append);
        cluster.assert_decided(&[1, 2, 77]);
    }
}

#[test]
fn a_proposal_survives() {
    let mut cluster = Cluster::new(|_| {});
    cluster.depose(|node| assert!(node.propose(V(77)).is_ok()));
    cluster.assert_decided(&[1, 2, 77]);
}

#[test]
fn so_does_what_another_server_holds() {
    let mut cluster = Cluster::new(|_| {});
    let leader = cluster.node(1).get_current_leader().unwrap();
    append(cluster.node(leader));
    let messages = cluster.node(leader).outgoing_messages();
    let other = leader % 3 + 1;
    for message in messages.into_iter().filter(|message| message.get_receiver() == other) {
        cluster.node(other).handle_incoming(message);
    }
    cluster.cut_off.push(leader);
    cluster.run(60);
    cluster.cut_off.clear();
    cluster.run(60);
    cluster.assert_decided(&[77]);
}

#[test]
fn so_does_what_was_appended_at_a_follower() {
    let mut cluster = Cluster::new(|_| {});
    let leader = cluster.node(1).get_current_leader().unwrap();
    let follower = leader % 3 + 1;
    cluster.node(follower).append(V(77)).unwrap();
    for message in cluster.node(follower).outgoing_messages() {
        if message.get_receiver() == leader {
            cluster.node(leader).handle_incoming(message);
        }
    }
    cluster.cut_off.push(leader);
    cluster.run(60);
    cluster.cut_off.clear();
    cluster.run(60);
    cluster.assert_decided(&[77]);
}
