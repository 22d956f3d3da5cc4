//! Ids of proposals that are decided, after their indices are forgotten.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    events::Event,
    identity::Stamp,
    messages::{
        sequence_paxos::{ForwardedProposals, PaxosMessage, PaxosMsg, RejectionReason},
        Message,
    },
    proposals::{Outcome, ProposalId},
};
use omnipaxos_tests::lab::{Lab, Pick, Word};

/// With messages of one entry, the indices of eight runs of ids are remembered.
const REMEMBERED: u64 = 8;

/// Three servers, of which the first leads.
fn three() -> Lab {
    let mut lab = Lab::with(&[1, 2, 3], |config| config.max_message_entries = 1);
    lab.elect(1);
    lab.run(30);
    lab
}

/// Decides this number of entries, each of which is a run of ids by itself.
fn decide_runs(lab: &mut Lab, label: &str, count: u64) {
    for number in 0..count {
        lab.append(1 + number % 2, &format!("{label}{number}"));
        lab.settle();
    }
    lab.run(5);
}

fn outcomes(lab: &mut Lab, pid: u64) -> Vec<(ProposalId, Outcome)> {
    let ended = lab.server(pid).take_events().into_iter().filter_map(|event| match event {
        Event::ProposalEnded { id, outcome } => Some((id, outcome)),
        _other => None,
    });
    ended.collect()
}

fn propose(lab: &mut Lab, pid: u64, word: &str) -> ProposalId {
    lab.server(pid).propose(Word(word.into())).unwrap()
}

/// A server offers three proposals and is cut off. One is taken, one is lost and one is made later; of
/// each it is known how it ended, though the others have forgotten more than they remember.
#[test]
fn what_was_open_is_known_after_a_long_cut() {
    let mut lab = three();
    let taken = propose(&mut lab, 3, "taken");
    lab.drop_next(Pick::of(1, 3, "AcceptDecide"), 1);
    lab.drain();
    lab.deliver();
    lab.cut(1, 3);
    lab.cut(2, 3);
    let lost = propose(&mut lab, 3, "lost");
    lab.append(3, "appended");
    lab.run(3);
    decide_runs(&mut lab, "a", 3 * REMEMBERED);
    let later = propose(&mut lab, 3, "later");
    lab.heal_all();
    lab.run(200);
    let before = 2 * REMEMBERED;
    let ended = outcomes(&mut lab, 3);
    let outcome = |id| ended.iter().find(|(of, _)| *of == id).map(|(_, outcome)| outcome.clone());
    match outcome(taken) {
        Some(Outcome::DecidedBefore(idx)) => assert!((1..=before).contains(&idx), "{idx}"),
        other => panic!("{other:?}"),
    }
    for id in [lost, later] {
        assert!(matches!(outcome(id), Some(Outcome::Decided(idx)) if idx > before), "{ended:?}");
    }
    let decided = lab.decided(3);
    for word in ["taken", "lost", "appended", "later"] {
        assert_eq!(decided.iter().filter(|other| *other == word).count(), 1, "{word}: {decided:?}");
    }
    assert_eq!(ended.len(), 3);
}

/// A copy of an offer that comes when its index is forgotten is answered by any leader: also by a
/// server that joined by a snapshot, or was synced with one.
#[test]
fn a_late_copy_is_not_decided_again() {
    for with_snapshot in [false, true] {
        let mut lab = three();
        lab.cut(1, 3);
        lab.cut(2, 3);
        let id = propose(&mut lab, 2, "once");
        lab.drain();
        let copies: Vec<_> = lab.in_flight().cloned().collect();
        lab.settle();
        decide_runs(&mut lab, "a", 3 * REMEMBERED);
        assert_eq!(outcomes(&mut lab, 2), [(id, Outcome::Decided(0))]);
        if with_snapshot {
            lab.server(1).snapshot(None, false).unwrap();
            lab.run(10);
        }
        lab.heal_all();
        lab.run(200);
        assert_eq!(lab.server(3).get_decided_idx(), 3 * REMEMBERED + 1);
        for leader in [1, 3, 2] {
            lab.elect(leader);
            for copy in &copies {
                if let Message::SequencePaxos(PaxosMessage {
                    from,
                    msg: PaxosMsg::ForwardedProposals(offer),
                    ..
                }) = copy
                {
                    let msg = PaxosMsg::ForwardedProposals(offer.clone());
                    let (from, to) = (*from, leader);
                    if from != to {
                        lab.inject(Message::SequencePaxos(PaxosMessage { from, to, msg }));
                    }
                }
            }
            lab.deliver();
            let answers = lab.in_flight().filter_map(|message| match message {
                Message::SequencePaxos(PaxosMessage {
                    msg: PaxosMsg::ProposalRejection(rejection),
                    ..
                }) => Some(rejection.reason.clone()),
                Message::SequencePaxos(_) | Message::BLE(_) => None,
            });
            let answers: Vec<_> = answers.collect();
            if leader != 2 {
                let before = 2 * REMEMBERED + 1;
                assert!(
                    matches!(answers[..], [RejectionReason::DecidedBefore(idx)] if idx <= before + 1),
                    "{answers:?} at {leader}"
                );
            }
            lab.run(30);
            assert_eq!(lab.server(1).get_decided_idx(), 3 * REMEMBERED + 1, "{leader} leads");
        }
    }
}

/// The number of a hole is not taken for forgotten: it is decided later, and once.
#[test]
fn a_number_that_was_overtaken_is_new() {
    let mut lab = three();
    let offer = |number: u64, lab: &mut Lab| {
        let first = ProposalId { origin: 2, incarnation: 9, number };
        let first_ballot = lab.server(1).get_promise();
        let entries = vec![Word(format!("number {number}"))];
        let offer = ForwardedProposals {
            first,
            first_ballot,
            min_idx: 0,
            entries,
            stamp: Stamp::default(),
            hops: 0,
        };
        let msg = PaxosMsg::ForwardedProposals(Box::new(offer));
        lab.inject(Message::SequencePaxos(PaxosMessage { from: 2, to: 1, msg }));
        lab.settle();
        lab.server(1).get_decided_idx()
    };
    for (number, decided) in [(1, 1), (5, 2), (3, 3)] {
        assert_eq!(offer(number, &mut lab), decided);
    }
    decide_runs(&mut lab, "a", 2 * REMEMBERED);
    let mut decided = 3 + 2 * REMEMBERED;
    for (number, is_new) in [(1, 0), (2, 1), (3, 0), (4, 1), (5, 0), (6, 1), (0, 1)] {
        decided += is_new;
        assert_eq!(offer(number, &mut lab), decided, "{number}");
    }
    decide_runs(&mut lab, "b", 2 * REMEMBERED);
    decided += 2 * REMEMBERED;
    for number in 0..7 {
        assert_eq!(offer(number, &mut lab), decided, "{number} once more");
    }
}

/// The text of a plain forward is remembered, too.
#[test]
fn a_late_copy_of_a_plain_forward_is_not_decided_again() {
    let mut lab = three();
    lab.append(2, "plain");
    lab.drain();
    let copies: Vec<_> = lab.in_flight().cloned().collect();
    lab.settle();
    decide_runs(&mut lab, "a", 3 * REMEMBERED);
    let decided = lab.server(1).get_decided_idx();
    for copy in copies {
        lab.inject(copy);
    }
    lab.run(30);
    assert_eq!(lab.server(1).get_decided_idx(), decided);
}
