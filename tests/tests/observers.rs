//! Observers: how late news is, in message delays, and what strangers cost.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    ballot_leader_election::Ballot,
    events::Event,
    messages::{
        ballot_leader_election::{BLEMessage, HeartbeatMsg, HeartbeatRequest},
        sequence_paxos::{CatchUpRequest, PaxosMessage, PaxosMsg},
        Message,
    },
    proposals::Outcome,
    ClusterConfig, ServerConfig,
};
use omnipaxos_tests::lab::{Disk, Lab, Word};

/// Ticks after which all observers wait for news.
const UNTIL_THEY_WAIT: u64 = 200;

/// Three members led by 1, and these observers with their sources.
fn lab(observers: &[(u64, &[u64])]) -> Lab {
    let mut lab = Lab::with(&[1, 2, 3], |config| config.max_observers = 4);
    lab.elect(1);
    observers.iter().for_each(|(pid, sources)| lab.observe(*pid, sources));
    lab.run(UNTIL_THEY_WAIT);
    lab.settle();
    lab
}

/// Message delays from the decision at the leader until server `pid` knows of it. Time stands still.
fn delays(lab: &mut Lab, pid: u64) -> u64 {
    let before = lab.server(1).get_decided_idx();
    lab.append(1, "news");
    lab.drain();
    while lab.server(1).get_decided_idx() == before {
        lab.deliver();
    }
    let mut delays = 0;
    while lab.server(pid).get_decided_idx() == before {
        assert!(delays < 20, "server {pid} learns nothing while time stands still");
        lab.deliver();
        delays += 1;
    }
    lab.settle();
    delays
}

#[test]
fn news_takes_one_message_delay_a_link() {
    for (name, observers, pid, expected) in [
        ("the leader", &[(7, &[1][..])][..], 7, 1),
        ("a follower", &[(7, &[2][..])][..], 7, 2),
        ("a follower and the leader", &[(7, &[1, 2][..])][..], 7, 2),
        ("an observer of the leader", &[(7, &[1][..]), (8, &[7])][..], 8, 2),
        ("an observer of a follower", &[(7, &[2][..]), (8, &[7])][..], 8, 3),
    ] {
        let mut lab = lab(observers);
        // At any point of a heartbeat round, and of the turn in which sources are asked.
        for tick in 0..50 {
            let took = delays(&mut lab, pid);
            println!("{name} as the source, tick {tick}: {took} message delays");
            assert!(took <= expected, "{name}, tick {tick}: {took} message delays");
            lab.tick();
            lab.settle();
        }
    }
}

/// Under load a chunk is on its way while more is decided: what is decided meanwhile needs one more
/// round trip.
#[test]
fn news_under_load_takes_a_round_trip_more() {
    for (name, sources, most) in [("the leader", &[1], 3), ("a follower", &[2], 4)] {
        let mut lab = lab(&[(7, sources)]);
        let mut history = Vec::new();
        for _ in 0..100 {
            lab.append(1, "load");
            lab.drain();
            lab.deliver();
            history.push(lab.server(1).get_decided_idx());
            let known = lab.server(7).get_decided_idx();
            if let Some(then) = history.len().checked_sub(1 + most) {
                assert!(known >= history[then], "{name}: {known} of {}", history[then]);
            }
        }
        println!("{name} as the source, under load: at most {most} message delays");
    }
}

fn requests(from: u64, to: u64) -> [Message<Word>; 2] {
    let request = HeartbeatRequest {
        config_id: 1,
        round: u32::MAX,
        max_entry_bytes: u64::MAX,
        sender: Box::default(),
        leader: Ballot::default(),
        happy: true,
        priority: u32::MAX,
        electable: true,
        steady: true,
        observes: true,
    };
    let asks = CatchUpRequest {
        config_id: 1,
        decided_idx: u64::MAX >> 2,
        takes_delta: true,
        takes_pieces: true,
        waits: true,
        range: None,
        piece: None,
    };
    [
        Message::BLE(BLEMessage { from, to, msg: HeartbeatMsg::Request(request) }),
        Message::SequencePaxos(PaxosMessage {
            from,
            to,
            msg: PaxosMsg::CatchUpRequest(Box::new(asks)),
        }),
    ]
}

#[test]
fn strangers_take_no_more_places_than_there_are() {
    let mut lab = Lab::with(&[1, 2, 3], |config| config.max_observers = 3);
    lab.elect(1);
    lab.settle();
    for _round in 0..5 {
        for stranger in 1_000..1_100 {
            requests(stranger, 1).into_iter().for_each(|message| lab.inject(message));
        }
        lab.deliver();
        let served = lab.server(1).status().observers.len();
        assert!(served <= 3, "{served} observers are served");
        let answered = lab.in_flight().filter(|m| m.get_receiver() >= 1_000).count();
        assert!(answered <= 6, "{answered} answers to strangers");
        lab.run(10);
    }
    // They count in no quorum, and are forgotten.
    lab.crash(2);
    lab.crash(3);
    lab.append(1, "alone");
    lab.run(200);
    assert_eq!(lab.server(1).get_decided_idx(), 0);
    assert!(lab.server(1).status().observers.is_empty());
}

/// A thousand places, taken by servers that each ask once: when they are silent, they leave nothing behind.
#[test]
fn a_thousand_observers_that_come_and_go_leave_nothing() {
    let mut lab = Lab::with(&[1, 2, 3], |config| config.max_observers = 1_000);
    lab.elect(1);
    lab.append(1, "something");
    lab.run(200);
    let size = |lab: &mut Lab| format!("{:?}", lab.server(1)).len();
    let before = size(&mut lab);
    for generation in 1..=5 {
        let first = generation * 10_000;
        for pid in first..first + 1_200 {
            requests(pid, 1).into_iter().for_each(|message| lab.inject(message));
        }
        lab.deliver();
        assert_eq!(lab.server(1).status().observers.len(), 1_000);
        let during = size(&mut lab);
        assert!(
            during < before + 1_000 * 700,
            "{before} to {during}: more than a few numbers each"
        );
        lab.append(1, "news");
        lab.run(250);
        assert!(lab.server(1).status().observers.is_empty());
        let after = size(&mut lab);
        println!("generation {generation}: {before}, {during}, {after}");
        assert!(after < before + 1_000, "{before} to {after}");
    }
    assert_eq!(lab.server(2).get_decided_idx(), 6);
}

/// Observers that lose all members, and observe each other, find out that they reach no leader.
#[test]
fn observers_in_a_circle_lose_the_way() {
    let mut lab = lab(&[(7, &[1, 9]), (8, &[7]), (9, &[8])]);
    lab.cut_all_but(&[(1, 2), (2, 3), (1, 3), (7, 8), (8, 9), (9, 7)]);
    lab.run(200);
    let happy = |message: &&Message<Word>| match message {
        Message::BLE(ble) => match ble.msg {
            HeartbeatMsg::Reply(reply) => reply.happy && ble.from > 3,
            HeartbeatMsg::Request(_) => false,
        },
        Message::SequencePaxos(_) => false,
    };
    for _ in 0..50 {
        lab.tick();
        let believers = lab.in_flight().filter(happy).count();
        assert_eq!(believers, 0, "an observer says that it reaches the leader");
    }
}

/// Starts observer 7 of server 1 with another configuration or disk.
fn start_observer(lab: &mut Lab, cluster: &ClusterConfig, disk: Disk, name: Option<&str>) {
    let change = |config: &mut ServerConfig| {
        *config = ServerConfig {
            pid: 7,
            observes: vec![1, 2, 3],
            cluster_name: name.map(str::to_string),
            ..Default::default()
        }
    };
    lab.crash(7);
    lab.start(omnipaxos_harness::build(cluster, 7, change, disk));
}

fn cluster(configuration_id: u32) -> ClusterConfig {
    ClusterConfig { configuration_id, nodes: vec![1, 2, 3], flexible_quorum: None }
}

#[test]
fn ids_of_an_observer_with_another_disk_are_others() {
    let mut lab = lab(&[]);
    for (round, word) in [(1, "one"), (2, "two")] {
        start_observer(&mut lab, &cluster(1), Disk::with_id(round), None);
        lab.run(UNTIL_THEY_WAIT);
        let id = lab.server(7).propose(Word(word.to_string())).unwrap();
        lab.settle();
        let ended = Event::ProposalEnded { id, outcome: Outcome::Decided(round - 1) };
        assert!(lab.server(7).take_events().contains(&ended), "{word}");
    }
    lab.assert_decided_everywhere(&["one", "two"]);
}

#[test]
fn an_observer_of_another_cluster_is_in_conflict() {
    let mut lab = lab(&[]);
    lab.append(1, "a");
    start_observer(&mut lab, &cluster(1), Disk::with_id(1), Some("west"));
    lab.run(UNTIL_THEY_WAIT);
    assert_eq!(lab.server(7).get_decided_idx(), 0);
    let conflicts = lab.server(1).status().conflicts;
    assert!(conflicts.iter().any(|found| found.pid == 7), "{conflicts:?}");
}

#[test]
fn an_observer_that_missed_a_reconfiguration_is_told() {
    let mut later = Lab::with(&[], |_| {});
    for pid in 1..=3 {
        let change = |config: &mut ServerConfig| config.max_observers = 4;
        later.start(omnipaxos_harness::build(&cluster(2), pid, change, Disk::default()));
    }
    start_observer(&mut later, &cluster(1), Disk::with_id(1), None);
    later.run(UNTIL_THEY_WAIT);
    let higher = later.server(7).higher_configuration().unwrap();
    assert_eq!(higher.configuration_id, 2);
    assert_eq!(later.server(7).get_decided_idx(), 0);
}
