//! Rules that matter seldom, so that many seeds pass without them.

use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Stamp,
    messages::{
        ballot_leader_election::{BLEMessage, HeartbeatMsg, HeartbeatReply},
        sequence_paxos::{CatchUpChunk, PaxosMessage, PaxosMsg},
        Message,
    },
};
use omnipaxos_tests::lab::{Lab, Pick, Word};

/// The entries that it receives may be those that it is about to decide itself.
#[test]
fn a_leader_that_reaches_a_quorum_does_not_learn_and_resign() {
    let mut lab = Lab::new(&[1, 2, 3]);
    lab.elect(1);
    lab.run(45);
    lab.drop_next(Pick::kind("Accepted"), 2);
    lab.append(1, "a");
    lab.settle();
    let n = lab.server(1).get_promise();
    assert!(lab.decided(1).is_empty());
    lab.inject(Message::SequencePaxos(PaxosMessage {
        from: 2,
        to: 1,
        msg: PaxosMsg::CatchUpChunk(Box::new(CatchUpChunk {
            config_id: 1,
            base: 0,
            snapshot: None,
            from_idx: 0,
            entries: vec![Word("a".into())].into(),
            stopsign: None,
            decided_idx: 1,
            ids: None,
            piece: None,
            epoch: None,
            compacted_idx: 0,
            stamp: Stamp::default(),
        })),
    }));
    lab.run(45);
    lab.assert_decided_everywhere(&["a"]);
    assert_eq!(lab.server(1).get_promise(), n, "it leads in the same ballot");
}

/// A server that is cut off, but for answers to rounds of long ago, does not reach a quorum.
#[test]
fn answers_to_an_earlier_round_do_not_count() {
    let mut lab = Lab::new(&[1, 2, 3]);
    lab.elect(2);
    lab.cut(1, 2);
    lab.cut(1, 3);
    lab.run(60);
    let promise = lab.server(1).get_promise();
    for _ in 0..60 {
        let reply = HeartbeatReply {
            round: 1,
            ballot: Ballot::with(1, 0, 0, 3),
            leader: Ballot::default(),
            happy: false,
        };
        let msg = HeartbeatMsg::Reply(reply);
        lab.server(1).handle_incoming(Message::BLE(BLEMessage { from: 3, to: 1, msg }));
        lab.run(1);
    }
    assert_eq!(lab.server(1).get_promise(), promise, "it took over without a quorum");
}
