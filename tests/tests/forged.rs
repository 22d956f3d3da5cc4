//! Forged messages: from strangers, of other configurations, with what cannot be. They change
//! nothing, and nothing makes a replica panic.

use omnipaxos::{
    ballot_leader_election::Ballot,
    messages::{
        ballot_leader_election::{BLEMessage, HeartbeatMsg, HeartbeatReply, HeartbeatRequest},
        sequence_paxos::{
            AcceptDecide, AcceptSync, Accepted, Compaction, CompactionAction, Decide, LogSync,
            NotAccepted, PaxosMessage, PaxosMsg, Prepare, PrepareReq, Promise,
        },
        Message,
    },
    storage::{SnapshotType, StopSign},
    ClusterConfig,
};
use omnipaxos_tests::lab::{kind, Lab, Word, Words};

/// Three servers led by 1.
fn three() -> Lab {
    let mut lab = Lab::new(&[1, 2, 3]);
    lab.elect(1);
    lab
}

fn config(configuration_id: u32) -> ClusterConfig {
    ClusterConfig { configuration_id, nodes: vec![1, 2, 3], flexible_quorum: None }
}

/// All that somebody from `from` may say with a ballot of its own choice.
fn forgeries(from: u64, to: u64, n: Ballot, idx: u64) -> Vec<Message<Word>> {
    let word = || vec![Word("forged".into())];
    let sync = |suffix_idx: u64| {
        Box::new(LogSync {
            base: suffix_idx,
            snapshot: None,
            suffix_idx,
            suffix: word().into(),
            stopsign: Some(StopSign::with(config(1), None)),
        })
    };
    let complete = Box::new(LogSync {
        base: 0,
        snapshot: Some(SnapshotType::Complete(Words(vec!["forged".into()]))),
        suffix_idx: idx,
        suffix: word().into(),
        stopsign: None,
    });
    let (n_accepted, none) = (n, Ballot::default());
    let paxos: Vec<PaxosMsg<Word>> = vec![
        PaxosMsg::PrepareReq(PrepareReq {
            config_id: n.config_id,
            n,
            n_accepted,
            accepted_idx: idx,
            decided_idx: idx,
        }),
        PaxosMsg::Prepare(Prepare {
            n,
            n_accepted: none,
            accepted_idx: 0,
            decided_idx: idx,
            takes_delta: true,
        }),
        PaxosMsg::Promise(Promise {
            n,
            n_accepted,
            accepted_idx: idx,
            decided_idx: idx,
            takes_delta: true,
            sync: Some(sync(idx)),
        }),
        PaxosMsg::AcceptSync(AcceptSync { n, decided_idx: idx, sync: sync(idx) }),
        PaxosMsg::AcceptSync(AcceptSync { n, decided_idx: idx, sync: complete }),
        PaxosMsg::AcceptDecide(AcceptDecide {
            n,
            from_idx: idx,
            entries: word().into(),
            decided_idx: idx,
        }),
        PaxosMsg::Accepted(Accepted { n, accepted_idx: idx, decided_idx: idx, gap: true }),
        PaxosMsg::NotAccepted(NotAccepted { n }),
        PaxosMsg::Decide(Decide { n, decided_idx: idx }),
        PaxosMsg::ForwardStopSign(Box::new(StopSign::with(config(0), None))),
        PaxosMsg::Compaction(Compaction {
            config_id: n.config_id,
            action: CompactionAction::Trim(idx),
        }),
    ];
    let mut messages: Vec<_> = paxos
        .into_iter()
        .map(|msg| Message::SequencePaxos(PaxosMessage { from, to, msg }))
        .collect();
    for msg in [
        HeartbeatMsg::Request(HeartbeatRequest { config_id: n.config_id, round: 1 }),
        HeartbeatMsg::Reply(HeartbeatReply { round: 1, ballot: n, leader: n, happy: true }),
    ] {
        messages.push(Message::BLE(BLEMessage { from, to, msg }));
    }
    messages
}

#[test]
fn forged_messages_change_nothing_and_do_not_panic() {
    let strangers = [0, 4, u64::MAX];
    let huge = [0, 1, 1 << 40, u64::MAX - 1, u64::MAX];
    let mut lab = three();
    lab.append(1, "a");
    lab.settle();
    let mut sent = 0;
    for to in 1..=3 {
        for idx in huge {
            for from in strangers {
                for forged in forgeries(from, to, Ballot::with(1, 9, 0, from), idx) {
                    lab.server(to).handle_incoming(forged);
                    sent += 1;
                }
            }
            for from in (1..=3).filter(|from| *from != to) {
                let ballots = [
                    Ballot::with(1, u32::MAX, u32::MAX, from),
                    Ballot::with(1, 9, 0, 99),
                    Ballot::with(2, 9, 0, from),
                    Ballot::with(0, 9, 0, from),
                ];
                for n in ballots {
                    // A member that asks to trim what all have is not a forger.
                    let is_forged = |m: &Message<_>| n.config_id != 1 || kind(m) != "Compaction";
                    for forged in forgeries(from, to, n, idx).into_iter().filter(is_forged) {
                        lab.server(to).handle_incoming(forged);
                        sent += 1;
                    }
                }
            }
        }
    }
    let misdelivered = forgeries(2, 3, Ballot::with(1, 9, 0, 2), 5);
    for forged in misdelivered {
        lab.server(1).handle_incoming(forged);
    }
    let dropped = lab.server(1).dropped();
    assert!(sent > 1000 && dropped.from_strangers > 0 && dropped.malformed > 0);
    assert!(dropped.of_other_configurations > 0 && dropped.misdelivered > 0);
    lab.run(30);
    lab.append(2, "b");
    lab.run(5);
    lab.assert_decided_everywhere(&["a", "b"]);
    assert!(lab.server(1).get_promise().n < 100, "{:?}", lab.server(1).get_promise());
}

/// A member that lies is not promised to be harmless, but it must not make anyone panic.
#[test]
fn a_member_that_says_the_impossible_makes_nobody_panic() {
    for to in 1..=3 {
        for idx in [0, 1, 2, 1 << 40, u64::MAX - 1, u64::MAX] {
            for from in (1..=3).filter(|from| *from != to) {
                let mut lab = three();
                lab.append(1, "a");
                lab.settle();
                let n = lab.server(to).get_promise();
                for n in [n, Ballot::with(1, n.n + 1, 0, from), Ballot::with(1, 1, 0, from)] {
                    for forged in forgeries(from, to, n, idx) {
                        lab.server(to).handle_incoming(forged);
                        lab.drain();
                    }
                }
            }
        }
    }
}
