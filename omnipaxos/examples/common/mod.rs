//! Servers of one process that hand each other their messages. In a real program a network does.
#![allow(dead_code, reason = "each example uses a part")]

use omnipaxos::{storage::Entry, ClusterConfig, OmniPaxos, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;

pub(crate) type Server<T> = OmniPaxos<T, MemoryStorage<T>>;

/// Builds the servers 1 to `size` of a cluster.
pub(crate) fn cluster<T: Entry>(size: u64) -> Vec<Server<T>> {
    let nodes = (1..=size).collect();
    let cluster = ClusterConfig { configuration_id: 1, nodes, ..Default::default() };
    let server = |pid| {
        let config = ServerConfig { pid, ..Default::default() };
        cluster.clone().build_for_server(config, MemoryStorage::default())
    };
    (1..=size).map(server).collect::<Result<_, _>>().expect("the configuration is legal")
}

/// Lets time pass: each server ticks and sends, and then handles what the others have sent.
pub(crate) fn run<T: Entry>(servers: &mut [Server<T>], ticks: u64) {
    for _ in 0..ticks {
        let mut messages = Vec::new();
        for server in servers.iter_mut() {
            server.tick();
            server.take_outgoing_messages(&mut messages);
        }
        for message in messages {
            let to = message.get_receiver();
            if let Some(server) = servers.iter_mut().find(|server| server.get_pid() == to) {
                server.handle_incoming(message);
            }
        }
    }
}
