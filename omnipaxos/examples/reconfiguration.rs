//! A stop sign ends a configuration of three servers, and four servers start the next one.

mod common;

use omnipaxos::{macros::Entry, ClusterConfig, OmniPaxos, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;

#[derive(Clone, Debug, Entry)]
struct Number(u64);

fn main() {
    let mut servers = common::cluster(3);
    common::run(&mut servers, 30);
    servers[0].append(Number(7)).expect("no reconfiguration is pending");
    let nodes = vec![1, 2, 3, 4];
    let next = ClusterConfig { configuration_id: 2, nodes, ..Default::default() };
    servers[1].reconfigure(next, None).expect("the next configuration is legal");
    common::run(&mut servers, 30);

    // What the next configuration needs of this log: here, the entries.
    let stopsign = servers[2].is_reconfigured().expect("the stop sign is decided");
    let mut carried = Vec::new();
    servers[2].for_each_decided(0, |entry| carried.push(entry.clone()));
    println!("configuration 1 has ended after {} entries", carried.len());

    let next = stopsign.next_config;
    let start = |pid: &u64| {
        let config = ServerConfig { pid: *pid, ..Default::default() };
        next.clone().build_for_server(config, MemoryStorage::default())
    };
    let servers: Result<Vec<OmniPaxos<Number, _>>, _> = next.nodes.iter().map(start).collect();
    let mut servers = servers.expect("the storages are new");
    common::run(&mut servers, 30);
    for entry in carried {
        servers[3].append(entry).expect("no reconfiguration is pending");
    }
    common::run(&mut servers, 20);
    for server in &servers {
        assert_eq!(server.get_decided_idx(), 1);
    }
    println!("the {} servers of configuration 2 continue", servers.len());
}
