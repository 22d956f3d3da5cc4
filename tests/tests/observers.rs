//! Observers: how late news is, in message delays, and what strangers cost.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    ballot_leader_election::Ballot,
    messages::{
        ballot_leader_election::{BLEMessage, HeartbeatMsg, HeartbeatRequest},
        sequence_paxos::{CatchUpRequest, PaxosMessage, PaxosMsg},
        Message,
    },
};
use omnipaxos_tests::lab::{Lab, Word};

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
