//! The claims of the paper, as tests with figures in ticks: the election timeout is 10 ticks and a
//! message takes one. Each fault is tried in 50 phases of the heartbeat rounds.

use omnipaxos_tests::lab::{Lab, Pick};

const PHASES: u64 = 50;

/// A cluster of `n` servers with leader `leader` and some decided entries, `phase` ticks later.
fn cluster(n: u64, leader: u64, phase: u64) -> Lab {
    let nodes: Vec<u64> = (1..=n).collect();
    let mut lab = Lab::new(&nodes);
    lab.elect(leader);
    for word in ["a", "b", "c"] {
        lab.append(leader, word);
    }
    lab.run(10 + phase);
    for pid in nodes {
        assert_eq!(lab.decided(pid), ["a", "b", "c"]);
    }
    lab
}

/// Ticks until one of `servers` has decided something that was proposed after the fault. Each of
/// them proposes at every tick.
fn ticks_to_decide(lab: &mut Lab, servers: &[u64]) -> u64 {
    let before: u64 =
        servers.iter().map(|pid| lab.server(*pid).get_accepted_idx()).max().unwrap_or(0);
    for tick in 1..=200 {
        for pid in servers {
            lab.append(*pid, &format!("{pid}-{tick}"));
        }
        lab.tick();
        if servers.iter().any(|pid| lab.server(*pid).get_decided_idx() > before) {
            return tick;
        }
    }
    panic!("no progress in 200 ticks");
}

fn worst(mut run: impl FnMut(u64) -> u64) -> u64 {
    (0..PHASES).map(&mut run).max().unwrap_or(0)
}

#[test]
fn leader_crash() {
    for n in [3, 5, 7] {
        let ticks = worst(|phase| {
            let mut lab = cluster(n, 1, phase);
            lab.crash(1);
            let others: Vec<u64> = (2..=n).collect();
            ticks_to_decide(&mut lab, &others)
        });
        println!("leader crash, {n} servers: {ticks} ticks");
        assert!(ticks <= 25, "{ticks} ticks with {n} servers");
    }
}

/// Section 2, quorum loss: the leader is alive but reaches one server only, which reaches all.
#[test]
fn quorum_loss() {
    let ticks = worst(|phase| {
        let mut lab = cluster(5, 1, phase);
        lab.cut_all_but(&[(2, 1), (2, 3), (2, 4), (2, 5)]);
        ticks_to_decide(&mut lab, &[2, 3, 4, 5])
    });
    println!("quorum loss: {ticks} ticks");
    assert!(ticks <= 30, "{ticks} ticks");
}

/// Section 2, constrained election: the only server that reaches a quorum has an old log.
#[test]
fn constrained_election() {
    let ticks = worst(|phase| {
        let mut lab = cluster(5, 1, phase);
        lab.cut(1, 2);
        for word in ["d", "e"] {
            lab.append(1, word);
        }
        lab.run(5);
        assert_eq!(lab.server(3).get_decided_idx(), 5);
        assert_eq!(lab.server(2).get_decided_idx(), 3, "its log is old");
        lab.cut_all_but(&[(2, 3), (2, 4), (2, 5)]);
        let ticks = ticks_to_decide(&mut lab, &[2, 3, 4, 5]);
        assert_eq!(lab.decided(2)[..5], ["a", "b", "c", "d", "e"]);
        ticks
    });
    println!("constrained election: {ticks} ticks");
    assert!(ticks <= 30, "{ticks} ticks");
}

/// Section 2, chained: the leader and one follower lose each other, the third reaches both.
#[test]
fn chained() {
    let ticks = worst(|phase| {
        let mut lab = cluster(3, 1, phase);
        lab.cut(1, 3);
        ticks_to_decide(&mut lab, &[1, 2])
    });
    println!("chained: {ticks} ticks");
    assert!(ticks <= 30, "{ticks} ticks");
}

/// In the chained case there must be no leader change after leader change.
#[test]
fn chained_has_no_livelock() {
    for phase in 0..PHASES {
        let mut lab = cluster(3, 1, phase);
        lab.cut(1, 3);
        lab.run(50);
        let (leader, prepares) = (lab.server(2).get_current_leader(), lab.sent("Prepare"));
        for round in 0..50 {
            lab.append(2, &format!("{round}"));
            lab.run(10);
        }
        assert_eq!(lab.server(2).get_current_leader(), leader);
        assert_eq!(lab.server(2).get_decided_idx(), 53);
        let more = lab.sent("Prepare") - prepares;
        assert!(more <= 51, "{more} Prepares: one a round may go to the server that is cut off");
    }
}

/// Section 4.2 and "Nothing stalls on one lost message": whichever message of a run is lost, all
/// servers know the outcome in time, with nothing else going on.
#[test]
fn any_single_lost_message() {
    let kinds = [
        "AcceptDecide",
        "Accepted",
        "Decide",
        "AcceptStopSign",
        "Promise",
        "Prepare",
        "AcceptSync",
    ];
    for kind in kinds {
        let ticks = worst(|phase| {
            (1..=2).map(|nth| ticks_to_know_all(phase, kind, nth)).max().unwrap_or(0)
        });
        println!("one lost {kind}: {ticks} ticks");
        assert!(ticks <= 25, "{ticks} ticks after one lost {kind}");
    }
}

/// Ticks until all three servers know that an entry and a stop sign are decided, while a new
/// leader is elected and the `nth` message of a kind is lost.
fn ticks_to_know_all(phase: u64, kind: &str, nth: usize) -> u64 {
    let mut lab = cluster(3, 1, phase);
    let next = omnipaxos::ClusterConfig {
        configuration_id: 2,
        nodes: vec![1, 2, 3],
        flexible_quorum: None,
    };
    let elects = ["Promise", "Prepare", "AcceptSync"].contains(&kind);
    lab.drop_nth(Pick::kind(kind), nth);
    if elects {
        lab.server(2).try_become_leader();
    }
    let leader = if elects { 2 } else { 1 };
    lab.append(leader, "d");
    assert!(lab.server(leader).reconfigure(next, None).is_ok());
    for tick in 1..=200 {
        lab.tick();
        if (1..=3).all(|pid| lab.server(pid).is_reconfigured().is_some()) {
            return tick;
        }
    }
    panic!("no progress after {kind} number {nth} was lost");
}

/// A cluster in step sends only heartbeats, and an idle log costs nothing.
#[test]
fn a_cluster_in_step_is_silent() {
    let mut lab = cluster(5, 1, 40);
    let before = lab.sent_beside_heartbeats();
    lab.run(1000);
    assert_eq!(lab.sent_beside_heartbeats(), before);
}
