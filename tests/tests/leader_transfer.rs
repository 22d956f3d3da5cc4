//! Leadership transfer: how long it holds proposals up, beside the crash of a leader. The election
//! timeout is 10 ticks and a message takes one. Each is tried in 50 phases of the heartbeat rounds.

use omnipaxos::leader_transfer::TransferErr;
use omnipaxos_tests::lab::{Lab, Pick};

const PHASES: u64 = 50;

/// A cluster of `n` servers with leader 1 and some decided entries, `phase` ticks later.
fn cluster(n: u64, phase: u64) -> Lab {
    let nodes: Vec<u64> = (1..=n).collect();
    let mut lab = Lab::new(&nodes);
    lab.elect(1);
    for word in ["a", "b", "c"] {
        lab.append(1, word);
    }
    lab.run(10 + phase);
    lab
}

/// The most ticks in which none of `servers` decided anything, while each that does not lead
/// proposes at every tick, and until 60 ticks after `fault`.
fn longest_pause(lab: &mut Lab, servers: &[u64], fault: impl FnOnce(&mut Lab)) -> u64 {
    let decided = |lab: &mut Lab| {
        servers.iter().map(|pid| lab.server(*pid).get_decided_idx()).max().unwrap_or(0)
    };
    let step = |lab: &mut Lab, tick: u64| {
        for pid in servers {
            lab.append(*pid, &format!("{pid}-{tick}"));
        }
        lab.tick();
    };
    (0..10).for_each(|tick| step(lab, tick));
    fault(lab);
    let (mut known, mut since, mut longest) = (decided(lab), 0, 0);
    for tick in 10..70 {
        step(lab, tick);
        since += 1;
        let now = decided(lab);
        if now > known {
            longest = longest.max(since - 1);
            (known, since) = (now, 0);
        }
    }
    longest.max(since)
}

fn median_and_worst(mut run: impl FnMut(u64) -> u64) -> (u64, u64) {
    let mut ticks: Vec<u64> = (0..PHASES).map(&mut run).collect();
    ticks.sort_unstable();
    (ticks[ticks.len() / 2], ticks[ticks.len() - 1])
}

#[test]
fn a_transfer_holds_proposals_up_for_less_than_a_crash_does() {
    println!("| servers | | median | worst |");
    println!("|---:|---|---:|---:|");
    for n in [3, 5] {
        let others: Vec<u64> = (2..=n).collect();
        let transfer = median_and_worst(|phase| {
            let mut lab = cluster(n, phase);
            let pause = longest_pause(&mut lab, &others, |lab| {
                assert_eq!(lab.server(1).transfer_leadership(2, 50), Ok(()));
            });
            assert_eq!(lab.server(1).get_current_leader(), Some(2), "in phase {phase}");
            pause
        });
        let crash = median_and_worst(|phase| {
            let mut lab = cluster(n, phase);
            longest_pause(&mut lab, &others, |lab| drop(lab.crash(1)))
        });
        println!("| {n} | transfer | {} | {} |", transfer.0, transfer.1);
        println!("| {n} | crash | {} | {} |", crash.0, crash.1);
        assert!(transfer.1 <= 8, "{transfer:?} ticks with {n} servers");
        assert!(crash.0 > transfer.1, "a crash takes {crash:?}, a transfer {transfer:?}");
    }
}

/// What is proposed while leadership is transferred is decided, in order.
#[test]
fn nothing_is_lost_or_refused() {
    let mut lab = cluster(3, 0);
    assert_eq!(lab.server(1).transfer_leadership(3, 50), Ok(()));
    let words: Vec<String> = (0..30).map(|tick| format!("w{tick}")).collect();
    for word in &words {
        lab.append(1, word);
        lab.tick();
    }
    lab.run(10);
    assert_eq!(lab.server(1).get_current_leader(), Some(3));
    let expected: Vec<&str> =
        ["a", "b", "c"].into_iter().chain(words.iter().map(String::as_str)).collect();
    lab.assert_decided_everywhere(&expected);
}

/// The server crashes when it is asked. Waiting proposals are decided from where they wait.
#[test]
fn the_next_leader_dies() {
    let mut lab = cluster(3, 0);
    lab.drop_next(Pick::of(1, 3, "TransferLeadership"), 1);
    assert_eq!(lab.server(1).transfer_leadership(3, 100), Ok(()));
    lab.tick();
    lab.crash(3);
    lab.append(1, "d");
    lab.run(3);
    assert_eq!(lab.server(1).get_decided_idx(), 3, "it waits");
    lab.run(25);
    assert_eq!(lab.server(1).get_decided_idx(), 4);
    assert_eq!(lab.server(1).leadership_transfer(), Some(3), "it may come back");
    lab.run(100);
    assert_eq!(lab.server(1).leadership_transfer(), None);
    assert_eq!(lab.server(1).get_current_leader(), Some(1));
}

/// A server that reaches no quorum does not take over.
#[test]
fn a_server_without_a_quorum_does_not_take_over() {
    let mut lab = cluster(5, 0);
    for other in [3, 4, 5] {
        lab.cut(2, other);
    }
    lab.run(20);
    let promise = lab.server(1).get_promise();
    assert_eq!(lab.server(1).transfer_leadership(2, 30), Ok(()));
    assert_eq!(lab.server(1).transfer_leadership(2, 30), Err(TransferErr::AlreadyTransferring(2)));
    lab.append(1, "d");
    lab.run(40);
    assert_eq!((lab.server(1).leadership_transfer(), lab.server(1).get_promise()), (None, promise));
    assert_eq!(lab.server(3).get_decided_idx(), 4);
}
