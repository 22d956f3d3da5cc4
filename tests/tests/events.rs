//! `take_events`: what a replica reports.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    events::Event, status::Role, storage::Storage, ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_tests::{
    failing_storage::FailingStorage,
    lab::{Lab, Pick, Word},
};

/// Three servers led by 1, whose events were taken.
fn three() -> Lab {
    let mut lab = Lab::new(&[1, 2, 3]);
    lab.elect(1);
    for pid in 1..=3 {
        lab.server(pid).take_events();
    }
    lab
}

fn alone<B: Storage<Word>>(storage: B) -> OmniPaxos<Word, B> {
    let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    let config = ServerConfig { pid: 1, ..Default::default() };
    let mut server = cluster.build_for_server(config, storage).unwrap();
    (0..30).for_each(|_| server.tick());
    server
}

#[test]
fn the_prepare_phase_is_told() {
    let mut lab = three();
    lab.drop_next(Pick::kind("Promise"), 2);
    lab.server(2).try_become_leader();
    lab.settle();
    let leader = Some(lab.server(2).get_promise());
    let waits = Event::LeaderChanged { leader, is_ready: false };
    assert_eq!(lab.server(2).take_events(), std::slice::from_ref(&waits));
    assert_eq!(lab.server(3).take_events(), [waits]);
    lab.run(30);
    let ready = Event::LeaderChanged { leader, is_ready: true };
    assert_eq!(lab.server(2).take_events(), std::slice::from_ref(&ready));
    assert_eq!(lab.server(3).take_events(), [ready]);
}

#[test]
fn the_first_call_tells_what_is() {
    let mut lab = Lab::new(&[1, 2, 3]);
    assert_eq!(lab.server(2).take_events(), [], "an empty server that knows nobody");
    lab.elect(1);
    lab.append(3, "a");
    lab.append(3, "b");
    lab.run(30);
    lab.server(2).snapshot(Some(1), true).unwrap();
    let leader = Some(lab.server(2).get_promise());
    let expected = [
        Event::LeaderChanged { leader, is_ready: true },
        Event::Compacted { idx: 1 },
        Event::Decided { idx: 2 },
        Event::PeerBack(1),
        Event::PeerBack(3),
    ];
    assert_eq!(lab.server(2).take_events(), expected);
    assert_eq!(lab.server(2).take_events(), []);
}

#[test]
fn what_happened_many_times_is_told_once() {
    let mut lab = three();
    for word in ["a", "b", "c", "d"] {
        lab.append(1, word);
        lab.run(20);
    }
    assert_eq!(lab.server(2).take_events(), [Event::Decided { idx: 4 }]);
    lab.cut(1, 2);
    lab.run(15);
    lab.heal(1, 2);
    lab.run(60);
    assert_eq!(lab.server(2).take_events(), [], "1 was gone, and is back");
}

#[test]
fn lost_peers_and_another_leader() {
    let mut lab = three();
    lab.crash(1);
    lab.run(60);
    let leader = Some(lab.server(2).get_promise());
    for (pid, told) in [2, 3].map(|pid| (pid, lab.server(pid).take_events())) {
        let changed = Event::LeaderChanged { leader, is_ready: true };
        assert_eq!(told, [changed, Event::PeerLost(1)], "at {pid}");
    }
    lab.restart(1);
    lab.run(60);
    assert_eq!(lab.server(2).take_events(), [Event::PeerBack(1)]);
    let told = lab.server(1).take_events();
    assert!(told.contains(&Event::LeaderChanged { leader, is_ready: true }), "{told:?}");
}

#[test]
fn the_end_of_a_configuration_is_told_once() {
    let mut lab = three();
    let next = ClusterConfig { configuration_id: 5, nodes: vec![1, 2], ..Default::default() };
    lab.server(3).reconfigure(next, None).unwrap();
    lab.run(30);
    for pid in 1..=3 {
        let stopsign = lab.server(pid).is_reconfigured().unwrap();
        let told = lab.server(pid).take_events();
        assert_eq!(told, [Event::Decided { idx: 1 }, Event::Reconfigured(stopsign)]);
    }
    lab.run(100);
    assert_eq!(lab.server(2).take_events(), []);
}

#[test]
fn a_halted_replica_tells_that_once() {
    let storage = FailingStorage::default();
    let mut server = alone(storage.clone());
    server.append(Word("a".into())).unwrap();
    server.outgoing_messages();
    server.append(Word("b".into())).unwrap();
    storage.order(|orders| orders.fail_writes = true);
    let halted = server.flush().unwrap_err();
    let told = server.take_events();
    let leader = Some(server.get_promise());
    assert_eq!(told[0], Event::LeaderChanged { leader, is_ready: false }, "it halted");
    assert!(told.contains(&Event::Decided { idx: 1 }), "{told:?}");
    assert_eq!(told.last(), Some(&Event::Halted(halted)));
    assert_eq!(server.take_events(), []);
    assert_eq!(server.status().role, Role::Halted);
}
