//! One log while a server is replaced by a new one: the members change, and the log continues.

mod common;

use omnipaxos::{
    events::Event, macros::Entry, members::MemberChange, proposals::Outcome, ClusterConfig,
    OmniPaxos, OmniPaxosConfig, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;

#[derive(Clone, Debug, PartialEq, Entry)]
struct Number(u64);

type Server = OmniPaxos<Number, MemoryStorage<Number>>;

fn main() {
    // The first members. The same program text is right after every restart.
    let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let start = |pid| -> Server {
        let server = ServerConfig { pid, continues: true, ..Default::default() };
        cluster.clone().build_for_server(server, MemoryStorage::default()).expect("it is new")
    };
    let mut servers: Vec<Server> = (1..=3).map(start).collect();
    common::run(&mut servers, 30);
    servers[0].append(Number(1)).expect("the log continues");
    common::run(&mut servers, 10);

    // A new server, with the ids of some servers to begin with.
    let joins = OmniPaxosConfig::observe(ServerConfig { pid: 4, ..Default::default() }, &[1, 2, 3]);
    servers.push(joins.build(MemoryStorage::default()).expect("it is new"));

    // At any server: 4 takes the place of 3, once it has caught up.
    let next = ClusterConfig { configuration_id: 2, nodes: vec![1, 2, 4], ..Default::default() };
    let change = servers[1].change_members(next, MemberChange::default()).expect("it is legal");
    common::run(&mut servers, 60);
    let ended = Event::ProposalEnded { id: change, outcome: Outcome::Decided(1) };
    assert!(servers[1].take_events().contains(&ended));

    // Server 3 reports that the others do not need it any more. It may be stopped for good.
    assert!(servers[2].take_events().contains(&Event::Retired { may_stop: true }));
    drop(servers.remove(2));

    servers[2].append(Number(2)).expect("the log continues");
    common::run(&mut servers, 30);
    for server in &servers {
        let mut entries = Vec::new();
        server.for_each_decided(0, |entry| entries.push(entry.clone()));
        assert_eq!(entries, [Number(1), Number(2)]);
        println!("server {}: {entries:?}, members {:?}", server.get_pid(), server.status().nodes);
    }
}
