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
use omnipaxos_harness::{build, kind, Cluster, Delay, Pick, Scripted};
use omnipaxos_storage::memory_storage::MemoryStorage;
use omnipaxos_tests::lab::Word;

type Server = OmniPaxos<Word, MemoryStorage<Word>>;

fn server(configuration_id: u32, nodes: &[u64], pid: u64) -> Server {
    let cluster = ClusterConfig { configuration_id, nodes: nodes.to_vec(), ..Default::default() };
    let change = |config: &mut ServerConfig| config.tells_removed_servers = true;
    build(&cluster, pid, change, MemoryStorage::default())
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

/// Servers of a configuration. What is sent to a server goes to the replica that runs under its id
/// then, as in an application that knows nothing of configurations.
fn cluster(id: u32, nodes: &[u64]) -> Cluster<Word, MemoryStorage<Word>, Scripted> {
    Cluster::of(nodes.iter().map(|pid| server(id, nodes, *pid)), Scripted::new(0))
}

#[test]
fn a_server_that_missed_the_change_is_told() {
    let mut cluster = cluster(1, &[1, 2, 3]);
    cluster.run(50);
    let next = ClusterConfig { configuration_id: 2, nodes: vec![1, 2, 4], ..Default::default() };
    let leader = cluster.server(1).get_current_leader().unwrap();
    let away = if leader == 3 { 1 } else { 3 };
    cluster.server(leader).reconfigure(next, None).unwrap();
    cluster.isolate(away);
    cluster.run(50);
    assert_eq!(cluster.server(away).is_reconfigured(), None, "it was away");
    let others: Vec<u64> = [1, 2, 3, 4].into_iter().filter(|pid| *pid != away).collect();
    for pid in &others {
        cluster.crash(*pid);
        cluster.start(server(2, &others, *pid));
    }
    cluster.isolate(away);
    cluster.run(50);
    cluster.server(away).take_events();
    assert_eq!(cluster.server(away).higher_configuration(), None);

    cluster.heal_all();
    cluster.run(50);
    let higher = cluster.server(away).higher_configuration().unwrap();
    assert_eq!(higher.configuration_id, 2);
    assert!(higher.reported_by < 4 && higher.reported_by != away, "4 was no member: {higher:?}");
    assert_eq!(cluster.server(away).status().higher_configuration, Some(higher));
    let told = cluster.server(away).take_events();
    assert!(told.contains(&Event::HigherConfiguration(higher)), "{told:?}");
    for pid in &others {
        let server = cluster.server(*pid);
        assert_eq!(server.higher_configuration(), None);
        assert!(server.get_current_leader().is_some(), "the new configuration works");
    }
}

/// A forward that is sent again has ids made of its text and no ballot: only its stamp shows where
/// it belongs.
#[test]
fn forwards_of_the_configuration_before_are_dropped() {
    let nodes = [1, 2, 3];
    let (mut before, mut next) = (cluster(1, &nodes), cluster(2, &nodes));
    before.run(50);
    next.run(50);
    let leader = before.server(1).get_current_leader();
    let origin = nodes.into_iter().find(|pid| leader != Some(*pid)).unwrap();
    before.drop_next(Pick::kind("ProposalForward"), usize::MAX);
    before.hold_next(Pick::kind("ForwardedProposals"), usize::MAX);
    before.server(origin).append(Word("late".into())).unwrap();
    before.run(100);
    let again = before.take_held();
    assert!(!again.is_empty(), "it is sent again until it is decided");
    again.into_iter().for_each(|message| next.inject(message));
    next.run(50);
    for server in next.servers() {
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
    let mut server: Server = build(&cluster, 1, |_config| {}, MemoryStorage::default());
    server.outgoing_messages();
    for from in [2, 4, 4_711] {
        server.handle_incoming(request(2, from, 1));
    }
    let told = server.outgoing_messages();
    assert_eq!(told.iter().map(Message::get_receiver).collect::<Vec<_>>(), [2], "a member");
}

/// Where the log continues, a server asks any sender of a higher configuration for the log.
#[test]
fn no_server_asks_itself_or_nobody_for_the_log() {
    let cluster = ClusterConfig { configuration_id: 3, nodes: vec![1, 2, 3], ..Default::default() };
    let continues = |config: &mut ServerConfig| config.continues = true;
    let mut server: Server = build(&cluster, 1, continues, MemoryStorage::default());
    server.outgoing_messages();
    for (from, asked) in [(0, vec![]), (1, vec![]), (4_711, vec![4_711])] {
        server.handle_incoming(request(9, from, 1));
        let messages = server.outgoing_messages();
        assert_eq!(messages.iter().map(Message::get_receiver).collect::<Vec<_>>(), asked);
    }
}

#[test]
fn two_configurations_do_not_talk_for_ever() {
    let mut cluster = Cluster::of([1, 2].map(|pid| server(pid as u32, &[1, 2], pid)), Delay(1));
    cluster.drain();
    (0..3).for_each(|_| cluster.deliver());
    assert_eq!(cluster.in_flight().count(), 0);
}
