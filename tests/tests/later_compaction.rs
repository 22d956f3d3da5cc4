//! Which compactions a storage may make durable after the flush: those that replace stored, decided
//! entries by a snapshot of them (I24).

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{messages::Message, ClusterConfig, OmniPaxos, ServerConfig};
use omnipaxos_tests::{failing_storage::FailingStorage, lab::Word};

type Server = OmniPaxos<Word, FailingStorage<Word>>;

struct Cluster {
    servers: Vec<Server>,
    storages: Vec<FailingStorage<Word>>,
    /// The server with this position gets nothing and sends nothing.
    away: Option<usize>,
}

impl Cluster {
    fn new() -> Self {
        let storages: Vec<_> = (0..3).map(|_| FailingStorage::default()).collect();
        let build = |(pid, storage): (u64, &FailingStorage<Word>)| {
            let cluster =
                ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
            let leader_priority = u32::from(pid == 1);
            let config = ServerConfig { pid, leader_priority, ..Default::default() };
            cluster.build_for_server(config, storage.clone()).unwrap()
        };
        let servers = (1..).zip(&storages).map(build).collect();
        Self { servers, storages, away: None }
    }

    /// The messages of all servers, after a tick.
    fn messages(&mut self) -> Vec<Message<Word>> {
        let mut messages = Vec::new();
        for (at, server) in self.servers.iter_mut().enumerate() {
            server.tick();
            match self.away == Some(at) {
                true => drop(server.outgoing_messages()),
                false => server.take_outgoing_messages(&mut messages),
            }
        }
        messages
    }

    fn deliver(&mut self, message: Message<Word>) -> usize {
        let at = message.get_receiver() as usize - 1;
        if self.away != Some(at) {
            self.servers[at].handle_incoming(message);
        }
        at
    }

    fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            for message in self.messages() {
                self.deliver(message);
            }
        }
    }

    fn append(&mut self, count: usize) {
        for _ in 0..count {
            self.servers[0].append(Word("word".into())).unwrap();
        }
    }

    fn later_compactions(&self) -> Vec<u64> {
        self.storages.iter().map(|storage| storage.orders().compactions).collect()
    }
}

#[test]
fn a_snapshot_of_stored_entries_may_become_durable_later() {
    let mut cluster = Cluster::new();
    cluster.run(40);
    cluster.append(20);
    cluster.run(10);
    for server in &mut cluster.servers {
        server.compact(20).unwrap();
        server.outgoing_messages();
        assert_eq!(server.get_stored_compacted_idx().unwrap(), 20);
    }
    assert_eq!(cluster.later_compactions(), [1, 1, 1]);
}

#[test]
fn a_snapshot_of_another_server_is_durable_with_what_it_decides() {
    let mut cluster = Cluster::new();
    cluster.run(40);
    cluster.away = Some(2);
    cluster.append(20);
    cluster.run(10);
    for server in &mut cluster.servers[..2] {
        server.compact(20).unwrap();
    }
    cluster.run(2);
    cluster.away = None;
    cluster.run(60);
    assert_eq!(cluster.servers[2].get_compacted_idx(), 20);
    assert_eq!(cluster.later_compactions(), [1, 1, 0]);
}

/// The storage does not hold all that the snapshot stands for: after a crash it could not go back.
#[test]
fn a_snapshot_of_entries_that_no_output_has_stored_is_durable_at_once() {
    let mut cluster = Cluster::new();
    cluster.run(40);
    cluster.away = Some(2);
    cluster.append(20);
    cluster.run(10);
    cluster.away = None;
    let mut compacted = 0;
    for _ in 0..60 {
        for message in cluster.messages() {
            let at = cluster.deliver(message);
            let server = &mut cluster.servers[at];
            let decided_idx = server.get_decided_idx();
            if at == 2 && decided_idx > server.get_compacted_idx() {
                server.compact(decided_idx).unwrap();
                compacted = decided_idx;
            }
        }
    }
    assert_eq!(compacted, 20);
    assert_eq!(cluster.later_compactions(), [0, 0, 0]);
    cluster.append(20);
    cluster.run(10);
    cluster.servers[2].compact(40).unwrap();
    cluster.run(1);
    assert_eq!(cluster.later_compactions(), [0, 0, 1]);
}
