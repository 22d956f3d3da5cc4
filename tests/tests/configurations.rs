//! A server that missed a reconfiguration finds out, and nobody is fooled or flooded.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    ballot_leader_election::Ballot,
    events::Event,
    messages::{
        ballot_leader_election::{BLEMessage, HeartbeatMsg, HeartbeatRequest},
        Message,
    },
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use omnipaxos_tests::lab::{kind, Word};
use std::collections::BTreeMap;

type Server = OmniPaxos<Word, MemoryStorage<Word>>;

fn server(configuration_id: u32, nodes: &[u64], pid: u64) -> Server {
    let cluster = ClusterConfig { configuration_id, nodes: nodes.to_vec(), ..Default::default() };
    let config = ServerConfig { pid, tells_removed_servers: true, ..Default::default() };
    cluster.build_for_server(config, MemoryStorage::default()).unwrap()
}

fn request(config_id: u32, from: u64, to: u64) -> Message<Word> {
    let msg = HeartbeatMsg::Request(HeartbeatRequest {
        config_id,
        round: 7,
        max_entry_bytes: u64::MAX,
        sender: Box::default(),
        leader: Ballot::default(),
        happy: false,
        priority: 0,
        electable: true,
        steady: true,
        observes: false,
    });
    Message::BLE(BLEMessage { from, to, msg })
}

/// Lets ticks pass; whatever is sent goes to the server that runs under that pid now, as in an
/// application that knows nothing of configurations. `is_down` takes no part.
fn run(servers: &mut BTreeMap<u64, Server>, ticks: u64, is_down: Option<u64>) {
    for _ in 0..ticks {
        let mut messages = Vec::new();
        for server in servers.values_mut() {
            server.tick();
            server.take_outgoing_messages(&mut messages);
        }
        while !messages.is_empty() {
            for message in std::mem::take(&mut messages) {
                let link = [message.get_sender(), message.get_receiver()];
                if is_down.is_some_and(|pid| link.contains(&pid)) {
                    continue;
                }
                if let Some(server) = servers.get_mut(&message.get_receiver()) {
                    server.handle_incoming(message);
                }
            }
            servers.values_mut().for_each(|server| server.take_outgoing_messages(&mut messages));
        }
    }
}

#[test]
fn a_server_that_missed_the_change_is_told() {
    let mut servers: BTreeMap<u64, Server> =
        (1..=3).map(|pid| (pid, server(1, &[1, 2, 3], pid))).collect();
    run(&mut servers, 50, None);
    let next = ClusterConfig { configuration_id: 2, nodes: vec![1, 2, 4], ..Default::default() };
    let leader = servers[&1].get_current_leader().unwrap();
    let away = if leader == 3 { 1 } else { 3 };
    servers.get_mut(&leader).unwrap().reconfigure(next, None).unwrap();
    run(&mut servers, 50, Some(away));
    assert_eq!(servers[&away].is_reconfigured(), None, "it was away");
    let others: Vec<u64> = [1, 2, 3, 4].into_iter().filter(|pid| *pid != away).collect();
    for pid in &others {
        servers.insert(*pid, server(2, &others, *pid));
    }
    run(&mut servers, 50, Some(away));
    servers.get_mut(&away).unwrap().take_events();
    assert_eq!(servers[&away].higher_configuration(), None);

    run(&mut servers, 50, None);
    let higher = servers[&away].higher_configuration().unwrap();
    assert_eq!(higher.configuration_id, 2);
    assert!(higher.reported_by < 4 && higher.reported_by != away, "4 was no member: {higher:?}");
    assert_eq!(servers[&away].status().higher_configuration, Some(higher));
    let told = servers.get_mut(&away).unwrap().take_events();
    assert!(told.contains(&Event::HigherConfiguration(higher)), "{told:?}");
    for pid in &others {
        let server = servers.get_mut(pid).unwrap();
        assert_eq!(server.higher_configuration(), None);
        assert!(server.get_current_leader().is_some(), "the new configuration works");
    }
}

/// A forward that is sent again has ids made of its text and no ballot: only its stamp shows where it belongs.
#[test]
fn forwards_of_the_configuration_before_are_dropped() {
    let nodes = [1, 2, 3];
    let start = |id: u32| nodes.map(|pid| (pid, server(id, &nodes, pid))).into();
    let mut before: BTreeMap<u64, Server> = start(1);
    let mut next: BTreeMap<u64, Server> = start(2);
    run(&mut before, 50, None);
    run(&mut next, 50, None);
    let origin =
        nodes.into_iter().find(|pid| before[&1].get_current_leader() != Some(*pid)).unwrap();
    before.get_mut(&origin).unwrap().append(Word("late".into())).unwrap();
    let mut again = Vec::new();
    for _ in 0..100 {
        before.values_mut().for_each(OmniPaxos::tick);
        let messages: Vec<_> = before.values_mut().flat_map(OmniPaxos::outgoing_messages).collect();
        for message in messages {
            match kind(&message) {
                "ProposalForward" => {}
                "ForwardedProposals" => again.push(message),
                _other => before.get_mut(&message.get_receiver()).unwrap().handle_incoming(message),
            }
        }
    }
    assert!(!again.is_empty(), "it is sent again until it is decided");
    for message in again {
        next.get_mut(&message.get_receiver()).unwrap().handle_incoming(message);
    }
    run(&mut next, 50, None);
    for server in next.values() {
        assert_eq!(server.get_accepted_idx(), 0, "server {}", server.get_pid());
    }
}

#[test]
fn only_members_are_believed() {
    let mut server = server(3, &[1, 2, 3], 1);
    server.outgoing_messages();
    for from in [0, 1, 4, 4_711, u64::MAX] {
        server.handle_incoming(request(u32::MAX, from, 1));
    }
    server.handle_incoming(request(u32::MAX, 2, 3));
    assert_eq!(server.higher_configuration(), None, "strangers, and a message for another");
    assert_eq!(server.dropped().from_strangers, 5);
    server.handle_incoming(request(9, 2, 1));
    server.handle_incoming(request(8, 3, 1));
    let higher = server.higher_configuration().map(|it| (it.configuration_id, it.reported_by));
    assert_eq!(higher, Some((9, 2)));
    assert!(server.outgoing_messages().is_empty(), "a higher configuration needs no answer");
}

#[test]
fn a_flood_from_lower_configurations_is_answered_within_bounds() {
    let mut server = server(3, &[1, 2, 3], 1);
    server.outgoing_messages();
    for id in [0, 1, 2] {
        for from in [0, 1] {
            server.handle_incoming(request(id, from, 1));
        }
    }
    server.handle_incoming(request(0, 5, 1));
    server.handle_incoming(request(2, 5, 2));
    assert!(
        server.outgoing_messages().is_empty(),
        "nobody, itself, no configuration, misdelivered"
    );
    for _ in 0..3 {
        server.handle_incoming(request(1, 2, 1));
        server.handle_incoming(request(2, 4_711, 1));
    }
    let told = server.outgoing_messages();
    assert_eq!(told.iter().map(Message::get_receiver).collect::<Vec<_>>(), [2, 4_711]);
    assert!(told.iter().all(|message| kind(message) == "HeartbeatRequest"));
    for from in 10..10_000 {
        server.handle_incoming(request(1, from, 1));
    }
    assert_eq!(server.outgoing_messages().len(), 64);
    assert!(server.outgoing_messages().is_empty(), "the others are told when they ask again");
}

#[test]
fn strangers_are_told_only_if_that_is_wanted() {
    let cluster = ClusterConfig { configuration_id: 3, nodes: vec![1, 2, 3], ..Default::default() };
    let config = ServerConfig { pid: 1, ..Default::default() };
    let mut server: Server = cluster.build_for_server(config, MemoryStorage::default()).unwrap();
    server.outgoing_messages();
    for from in [2, 4, 4_711] {
        server.handle_incoming(request(2, from, 1));
    }
    let told = server.outgoing_messages();
    assert_eq!(told.iter().map(Message::get_receiver).collect::<Vec<_>>(), [2], "a member");
}

#[test]
fn two_configurations_do_not_talk_for_ever() {
    let mut servers: BTreeMap<u64, Server> =
        [(1, 1), (2, 2)].map(|(pid, id)| (pid, server(id, &[1, 2], pid))).into();
    let mut messages = Vec::new();
    servers.values_mut().for_each(|server| server.take_outgoing_messages(&mut messages));
    for _ in 0..3 {
        for message in std::mem::take(&mut messages) {
            servers.get_mut(&message.get_receiver()).unwrap().handle_incoming(message);
        }
        servers.values_mut().for_each(|server| server.take_outgoing_messages(&mut messages));
    }
    assert!(messages.is_empty(), "{messages:?}");
}
