//! `status`: the state of a replica at a glance.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    messages::{
        sequence_paxos::{CatchUpRedirect, PaxosMessage, PaxosMsg},
        Message,
    },
    status::{Load, Role, Stage, Status},
    ClusterConfig,
};
use omnipaxos_tests::lab::{Lab, Pick, Word};

/// Three servers led by 1.
fn three() -> Lab {
    let mut lab = Lab::new(&[1, 2, 3]);
    lab.elect(1);
    lab
}

fn assert_answers_as_the_getters(lab: &mut Lab, pid: u64) -> Status {
    let server = lab.server(pid);
    let status = server.status();
    assert_eq!(status.pid, server.get_pid());
    assert_eq!(status.promise, server.get_promise());
    assert_eq!(status.leader, server.get_current_leader());
    assert_eq!(status.decided_idx, server.get_decided_idx());
    assert_eq!(status.accepted_idx, server.get_accepted_idx());
    assert_eq!(status.compacted_idx, server.get_compacted_idx());
    assert_eq!(status.next_configuration_id.is_some(), server.is_reconfigured().is_some());
    assert_eq!(status.dropped, server.dropped());
    status
}

#[test]
fn a_leader_tells_how_far_its_followers_are() {
    let mut lab = three();
    lab.append(1, "a");
    lab.run(20);
    lab.cut(1, 3);
    lab.append(1, "bcd");
    lab.append(1, "e");
    lab.run(30);
    let status = assert_answers_as_the_getters(&mut lab, 1);
    assert_eq!((status.role, status.decided_idx, status.stored_idx), (Role::Leading, 3, 3));
    let [second, third] = &status.peers[..] else { panic!("{:?}", status.peers) };
    assert_eq!((second.pid, second.answered()), (2, true));
    assert_eq!((third.pid, third.answered()), (3, false));
    let second = second.follower.unwrap();
    assert_eq!((second.stage, second.accepted_idx, second.lag), (Stage::Replicating, 3, 0));
    assert_eq!((second.decided_idx, second.in_flight), (3, Load::default()));
    let third = third.follower.unwrap();
    assert_eq!((third.stage, third.accepted_idx, third.lag), (Stage::Replicating, 1, 2));
    assert_eq!(third.in_flight.entries, 2);
    assert!(third.in_flight.bytes >= 4, "{:?}", third.in_flight);
    let follower = assert_answers_as_the_getters(&mut lab, 2);
    assert_eq!((follower.role, follower.leader), (Role::Following, Some(1)));
    assert!(follower.peers.iter().all(|peer| peer.follower.is_none()));
}

#[test]
fn what_waits_and_the_limits_are_told() {
    let mut lab = Lab::with(&[1, 2, 3], |config| config.max_pending_entries = 7);
    lab.append(2, "a");
    lab.append(2, "b");
    let status = assert_answers_as_the_getters(&mut lab, 2);
    assert_eq!((status.role, status.leader), (Role::Recovering, None));
    assert_eq!((status.waiting.entries, status.limits.waiting.entries), (2, 7));
    assert_eq!(status.limits.message, Load { entries: 1 << 14, bytes: 1 << 20 });
    assert_eq!(status.limits.in_flight, Load { entries: 1 << 16, bytes: 1 << 22 });
    lab.run(60);
    assert_eq!(lab.server(2).status().waiting, Load::default());
    assert_eq!(lab.server(2).status().decided_idx, 2);
}

#[test]
fn the_prepare_phase_shows() {
    let mut lab = three();
    lab.drop_next(Pick::kind("Promise"), 2);
    lab.server(2).try_become_leader();
    lab.settle();
    let status = assert_answers_as_the_getters(&mut lab, 2);
    assert_eq!(status.role, Role::Preparing);
    assert!(status.peers.iter().all(|peer| peer.follower.unwrap().stage == Stage::Unpromised));
    assert_eq!(assert_answers_as_the_getters(&mut lab, 3).role, Role::Promised);
}

#[test]
fn the_end_of_a_configuration_shows() {
    let mut lab = three();
    let next = ClusterConfig { configuration_id: 5, nodes: vec![1, 2], ..Default::default() };
    lab.server(3).reconfigure(next, None).unwrap();
    lab.run(30);
    for pid in 1..=3 {
        assert_eq!(assert_answers_as_the_getters(&mut lab, pid).next_configuration_id, Some(5));
    }
}

/// The leader lacks nothing: its AcceptSync is older than what its receiver learned in the same
/// ballot.
#[test]
fn an_accept_sync_that_comes_late_is_no_loss() {
    let mut lab = Lab::new(&[1, 2, 3]);
    lab.elect(1);
    lab.append(1, "a");
    lab.settle();
    lab.cut(3, 1);
    lab.cut(3, 2);
    lab.elect_among(2, &[1, 2]);
    lab.append(2, "b");
    lab.settle();
    lab.heal_all();
    let is_sync = Pick::of(2, 3, "AcceptSync");
    while !lab.in_flight().any(|message| is_sync.matches(message)) {
        lab.run(1);
    }
    let is_first = |message: &&Message<Word>| is_sync.matches(message);
    let late = lab.in_flight().find(is_first).expect("it is there").clone();
    lab.cut_one_way(2, 3);
    lab.run(1);
    lab.heal(2, 3);
    lab.drop_next(Pick::of(2, 3, "AcceptSync"), 200);
    for word in ["c", "d"] {
        lab.append(2, word);
    }
    lab.run(20);
    let n = lab.server(2).status().promise;
    let msg = PaxosMsg::CatchUpRedirect(CatchUpRedirect { n, source: 1, decided_idx: 4 });
    lab.inject(Message::SequencePaxos(PaxosMessage { from: 2, to: 3, msg }));
    lab.run(10);
    assert_eq!(lab.decided(3), ["a", "b", "c", "d"]);
    lab.inject(late);
    for _ in 0..100 {
        lab.run(1);
        assert_eq!(lab.server(3).status().lost, None);
    }
    assert_eq!(lab.server(3).status().promise, n, "it waits for the AcceptSync all the time");
}
