//! Forged messages: from strangers, of other configurations, with what cannot be. They change
//! nothing, and nothing makes a replica panic.

use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Stamp,
    messages::{
        ballot_leader_election::{BLEMessage, HeartbeatMsg, HeartbeatReply, HeartbeatRequest},
        sequence_paxos::{
            AcceptDecide, AcceptSync, Accepted, CatchUpChunk, CatchUpRedirect, CatchUpRequest,
            Compaction, CompactionAction, Decide, EntryIds, ForwardedStopSign, LeadershipCheck,
            LeadershipCheckAck, LogSync, NotAccepted, PaxosMessage, PaxosMsg, Prepare, PrepareReq,
            Promise, ProposalRejection, ReadIndexRequest, ReadIndexResponse, Refusal,
            RejectionReason, SnapshotEncoding, SnapshotPiece, TransferLeadership,
        },
        Message,
    },
    proposals::{IdRun, ProposalId},
    storage::{Epoch, SnapshotType, StopSign},
    util::FlexibleQuorum,
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

/// A chunk of the decided log with one entry.
fn learn(
    config_id: u32,
    from_idx: u64,
    decided_idx: u64,
    stopsign: Option<StopSign>,
) -> PaxosMsg<Word> {
    let entries = vec![Word("forged".into())].into();
    let snapshot = None;
    PaxosMsg::CatchUpChunk(Box::new(CatchUpChunk {
        config_id,
        base: 0,
        snapshot,
        from_idx,
        entries,
        stopsign,
        decided_idx,
        ids: None,
        piece: None,
        epoch: None,
        compacted_idx: 0,
        stamp: Stamp::default(),
    }))
}

/// A chunk that is a snapshot.
fn summed_up(config_id: u32, from_idx: u64) -> PaxosMsg<Word> {
    PaxosMsg::CatchUpChunk(Box::new(CatchUpChunk {
        config_id,
        base: 0,
        snapshot: Some(SnapshotType::Complete(Words(vec!["forged".into()]))),
        from_idx,
        entries: Vec::new().into(),
        stopsign: None,
        decided_idx: from_idx,
        ids: None,
        piece: None,
        epoch: None,
        compacted_idx: 0,
        stamp: Stamp::default(),
    }))
}

/// Refuses a proposal of a server, with a text of this number of bytes.
fn refusal(n: Ballot, origin: u64, number: u64, length: usize) -> PaxosMsg<Word> {
    let refusal = Refusal { n, cause: "x".repeat(length) };
    PaxosMsg::ProposalRejection(ProposalRejection {
        config_id: n.config_id,
        first: ProposalId { origin, incarnation: 1, number },
        count: 1,
        reason: RejectionReason::Refused(Box::new(refusal)),
        hops: 0,
        stamp: Stamp::default(),
    })
}

fn read_index_request(n: Ballot, number: u64) -> ReadIndexRequest {
    ReadIndexRequest {
        config_id: n.config_id,
        origin: n.pid,
        incarnation: 1,
        number,
        n,
        hops: 0,
        stamp: Stamp::default(),
    }
}

fn read_index_response(n: Ballot, read_idx: u64) -> ReadIndexResponse {
    let ReadIndexRequest { config_id, origin, incarnation, number, .. } = read_index_request(n, 1);
    ReadIndexResponse {
        config_id,
        origin,
        incarnation,
        number,
        read_idx,
        hops: 0,
        stamp: Stamp::default(),
    }
}

/// All messages that a forger may send as `from` with a ballot of its own choice.
fn forgeries(from: u64, to: u64, n: Ballot, idx: u64) -> Vec<Message<Word>> {
    let word = || vec![Word("forged".into())];
    let sync = |suffix_idx: u64| {
        Box::new(LogSync {
            suffix_idx,
            suffix: word().into(),
            stopsign: Some(StopSign::with(config(1), None)),
            ids: None,
        })
    };
    let (n_accepted, none) = (n, Ballot::default());
    let paxos: Vec<PaxosMsg<Word>> = vec![
        PaxosMsg::PrepareReq(PrepareReq {
            config_id: n.config_id,
            n,
            n_accepted,
            accepted_idx: idx,
            decided_idx: idx,
            stamp: Stamp::default(),
        }),
        PaxosMsg::Prepare(Prepare {
            n,
            n_accepted: none,
            accepted_idx: 0,
            decided_idx: idx,
            takes_delta: true,
            stamp: Stamp::default(),
        }),
        PaxosMsg::Promise(Promise {
            n,
            n_accepted,
            accepted_idx: idx,
            decided_idx: idx,
            takes_delta: true,
            sync: Some(sync(idx)),
            stamp: Stamp::default(),
        }),
        PaxosMsg::AcceptSync(AcceptSync {
            n,
            decided_idx: idx,
            sync: sync(idx),
            stamp: Stamp::default(),
        }),
        summed_up(n.config_id, idx),
        PaxosMsg::AcceptDecide(AcceptDecide {
            n,
            from_idx: idx,
            entries: word().into(),
            decided_idx: idx,
            ids: None,
            stamp: Stamp::default(),
        }),
        PaxosMsg::Accepted(Accepted {
            n,
            accepted_idx: idx,
            decided_idx: idx,
            gap: true,
            stamp: Stamp::default(),
        }),
        PaxosMsg::NotAccepted(NotAccepted { n }),
        PaxosMsg::Decide(Decide { n, decided_idx: idx, stamp: Stamp::default() }),
        PaxosMsg::CatchUpRedirect(CatchUpRedirect { n, source: from, decided_idx: idx }),
        PaxosMsg::CatchUpRequest(Box::new(CatchUpRequest {
            config_id: n.config_id,
            decided_idx: idx,
            takes_delta: false,
            waits: false,
            takes_pieces: false,
            range: None,
            piece: None,
        })),
        learn(n.config_id, idx, idx.saturating_add(1), None),
        summed_up(n.config_id, idx),
        PaxosMsg::ForwardStopSign(Box::new(ForwardedStopSign {
            config_id: n.config_id,
            id: ProposalId { origin: from, incarnation: 1, number: idx },
            stopsign: StopSign::with(config(0), None),
            hops: 0,
        })),
        refusal(n, from, idx, 300),
        PaxosMsg::ReadIndexRequest(read_index_request(n, idx)),
        PaxosMsg::ReadIndexResponse(read_index_response(n, idx)),
        PaxosMsg::LeadershipCheck(LeadershipCheck { n, round: idx }),
        PaxosMsg::LeadershipCheckAck(LeadershipCheckAck { n, round: idx, stamp: Stamp::default() }),
        PaxosMsg::TransferLeadership(TransferLeadership { n }),
        PaxosMsg::Compaction(Compaction {
            config_id: n.config_id,
            action: CompactionAction::Trim(idx),
            stamp: Stamp::default(),
        }),
    ];
    let mut messages: Vec<_> = paxos
        .into_iter()
        .map(|msg| Message::SequencePaxos(PaxosMessage { from, to, msg }))
        .collect();
    for msg in [
        HeartbeatMsg::Request(HeartbeatRequest {
            config_id: n.config_id,
            round: 1,
            max_entry_bytes: u64::MAX,
            sender: Box::default(),
            leader: n,
            happy: true,
            priority: 0,
            electable: true,
            steady: true,
            observes: false,
        }),
        HeartbeatMsg::Reply(HeartbeatReply { round: 1, ballot: n, leader: n, happy: true }),
    ] {
        messages.push(Message::BLE(BLEMessage { from, to, msg }));
    }
    messages
}

#[test]
fn a_refusal_has_a_short_text() {
    let mut lab = three();
    let n = lab.server(1).get_promise();
    for (length, malformed) in [(256, 0), (257, 1), (1 << 20, 2)] {
        let msg = refusal(n, 1, 7, length);
        lab.inject(Message::SequencePaxos(PaxosMessage { from: 2, to: 1, msg }));
        lab.settle();
        assert_eq!(lab.server(1).dropped().malformed, malformed, "{length} bytes");
    }
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
                    // A member that asks to trim what all have, or for what is decided, is not a
                    // forger; one that says what is decided must be believed.
                    let believed = ["Compaction", "CatchUpRequest", "CatchUpChunk"];
                    let is_forged =
                        |m: &Message<_>| n.config_id != 1 || !believed.contains(&kind(m));
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

#[test]
fn impossible_chunks_are_dropped_by_validation() {
    let mut lab = three();
    lab.append(1, "a");
    lab.settle();
    let n = lab.server(2).get_promise();
    let ends = |configuration_id: u32| Some(StopSign::with(config(configuration_id), None));
    let from_itself = |source: u64, decided_idx: u64| {
        PaxosMsg::CatchUpRedirect(CatchUpRedirect { n, source, decided_idx })
    };
    let forged = [
        ("longer than what is decided", learn(1, 1, 1, None)),
        ("and with a stop sign", learn(1, 1, 2, ends(2))),
        ("beyond all indices", learn(1, u64::MAX, u64::MAX, None)),
        ("of an index no log reaches", learn(1, 1, u64::MAX, None)),
        ("a snapshot of more", summed_up(1, u64::MAX)),
        ("a stop sign of this configuration", learn(1, 1, 3, ends(1))),
        ("a stop sign of an earlier one", learn(1, 1, 3, ends(0))),
        ("from the receiver", from_itself(2, 1)),
        ("from a stranger", from_itself(4, 1)),
        ("from nobody", from_itself(0, 1)),
        ("up to an index no log reaches", from_itself(3, u64::MAX)),
        (
            "a question from an index no log reaches",
            PaxosMsg::CatchUpRequest(Box::new(CatchUpRequest {
                config_id: 1,
                decided_idx: u64::MAX,
                takes_delta: false,
                waits: false,
                takes_pieces: false,
                range: None,
                piece: None,
            })),
        ),
    ];
    for (what, msg) in forged {
        let before = lab.server(2).dropped().malformed;
        let message = Message::SequencePaxos(PaxosMessage { from: 1, to: 2, msg });
        lab.server(2).handle_incoming(message);
        assert_eq!(lab.server(2).dropped().malformed, before + 1, "{what}");
    }
    lab.append(1, "b");
    lab.run(5);
    lab.assert_decided_everywhere(&["a", "b"]);
}

/// What concerns reads and transfers, from a member that may not send it.
#[test]
fn words_of_a_leader_from_a_follower_are_dropped_by_validation() {
    let mut lab = three();
    lab.append(1, "a");
    lab.settle();
    let n = lab.server(1).get_promise();
    let of_another = Ballot { config_id: 2, ..n };
    let stranger = Ballot { pid: 4, ..n };
    let of_2 = Ballot { pid: 2, ..n };
    let forged = [
        (
            "a question of another leader",
            2,
            3,
            PaxosMsg::LeadershipCheck(LeadershipCheck { n, round: 1 }),
        ),
        ("a word of another leader", 2, 3, PaxosMsg::TransferLeadership(TransferLeadership { n })),
        (
            "an answer for another leader",
            2,
            3,
            PaxosMsg::LeadershipCheckAck(LeadershipCheckAck {
                n,
                round: 1,
                stamp: Stamp::default(),
            }),
        ),
        ("for a stranger", 2, 1, PaxosMsg::ReadIndexRequest(read_index_request(stranger, 1))),
        (
            "with a promise to a stranger",
            2,
            1,
            PaxosMsg::ReadIndexRequest(ReadIndexRequest {
                n: stranger,
                ..read_index_request(of_2, 1)
            }),
        ),
        (
            "with a promise beyond all ballots",
            2,
            1,
            PaxosMsg::ReadIndexRequest(ReadIndexRequest {
                n: Ballot { n: u32::MAX, ..n },
                ..read_index_request(of_2, 1)
            }),
        ),
        ("to a stranger", 2, 1, PaxosMsg::ReadIndexResponse(read_index_response(stranger, 1))),
        (
            "at an index no log reaches",
            1,
            2,
            PaxosMsg::ReadIndexResponse(read_index_response(n, u64::MAX)),
        ),
    ];
    for (what, from, to, msg) in forged {
        let before = lab.server(to).dropped().malformed;
        let message = Message::SequencePaxos(PaxosMessage { from, to, msg });
        lab.server(to).handle_incoming(message);
        assert_eq!(lab.server(to).dropped().malformed, before + 1, "{what}");
    }
    for msg in [
        PaxosMsg::ReadIndexRequest(read_index_request(of_another, 1)),
        PaxosMsg::ReadIndexResponse(read_index_response(of_another, 1)),
    ] {
        let before = lab.server(1).dropped().of_other_configurations;
        let message = Message::SequencePaxos(PaxosMessage { from: 2, to: 1, msg });
        lab.server(1).handle_incoming(message);
        assert_eq!(lab.server(1).dropped().of_other_configurations, before + 1);
    }
    lab.run(30);
    assert_eq!(lab.server(3).get_current_leader(), Some(1));
}

/// A disk with such a log could not be opened again.
#[test]
fn a_sync_to_an_index_no_log_reaches_is_dropped_by_validation() {
    let mut lab = three();
    lab.append(1, "a");
    lab.settle();
    let n = lab.server(2).get_promise();
    for suffix_idx in [1 << 62, u64::MAX - 1] {
        let forged = LogSync {
            suffix_idx,
            suffix: vec![Word("forged".into())].into(),
            stopsign: None,
            ids: None,
        };
        let before = lab.server(2).dropped().malformed;
        let msg = PaxosMsg::AcceptSync(AcceptSync {
            n,
            decided_idx: 1,
            sync: Box::new(forged),
            stamp: Stamp::default(),
        });
        let message = Message::SequencePaxos(PaxosMessage { from: 1, to: 2, msg });
        lab.server(2).handle_incoming(message);
        assert_eq!(lab.server(2).dropped().malformed, before + 1, "{suffix_idx}");
    }
    lab.settle();
    lab.crash(2);
    lab.restart(2);
    lab.append(1, "b");
    lab.run(30);
    lab.assert_decided_everywhere(&["a", "b"]);
}

/// A snapshot of a later epoch: the epoch is above the configuration of the receiver, it is legal, and it
/// has begun where the snapshot ends.
#[test]
fn an_epoch_in_a_chunk_must_be_possible() {
    let legal = || Epoch::new(5, config(3), None);
    let with = |first_idx, configuration| Epoch::new(first_idx, configuration, None);
    let nodes = |nodes: &[u64]| ClusterConfig { nodes: nodes.to_vec(), ..config(3) };
    let quorums = FlexibleQuorum { read_quorum_size: 1, write_quorum_size: 1 };
    let flexible = ClusterConfig { flexible_quorum: Some(quorums), ..config(3) };
    let forged = [
        ("begins above the snapshot", with(6, config(3)), None),
        ("begins nowhere", with(u64::MAX, config(3)), None),
        ("is the present one", with(5, config(1)), None),
        ("has no id", with(5, config(0)), None),
        ("has no members", with(5, nodes(&[])), None),
        ("has a member twice", with(5, nodes(&[2, 2])), None),
        ("has a member without id", with(5, nodes(&[0, 2])), None),
        ("has quorums that do not meet", with(5, flexible), None),
        ("ends in itself", legal(), Some(3)),
        ("ends in a lower one", legal(), Some(2)),
    ];
    for in_pieces in [false, true] {
        for (what, epoch, next) in forged.clone() {
            // A piece brings no stop sign.
            if in_pieces && next.is_some() {
                continue;
            }
            let mut lab = Lab::with(&[1, 2, 3], |server| server.continues = true);
            lab.elect(1);
            lab.append(1, "a");
            lab.settle();
            let stopsign = next.map(|id| StopSign::with(config(id), None));
            let message = of_epoch(epoch, stopsign, in_pieces);
            let before = lab.server(2).dropped().malformed;
            lab.server(2).handle_incoming(message);
            lab.drain();
            assert_eq!(lab.server(2).dropped().malformed, before + 1, "{what}");
            assert_eq!(lab.server(2).status().configuration_id, 1, "{what}");
        }
    }
    let mut lab = Lab::with(&[1, 2, 3], |server| server.continues = true);
    lab.elect(1);
    lab.server(2).handle_incoming(of_epoch(legal(), Some(StopSign::with(config(4), None)), false));
    lab.drain();
    assert_eq!(lab.server(2).status().configuration_id, 4);
    let mut ends = three();
    ends.server(2).handle_incoming(of_epoch(legal(), None, false));
    assert_eq!(ends.server(2).dropped().malformed, 1, "the log does not continue");
}

/// A chunk of server 1 for server 2 with a snapshot of five records, or the first piece of one.
fn of_epoch(epoch: Epoch, stopsign: Option<StopSign>, in_pieces: bool) -> Message<Word> {
    let encoding = SnapshotEncoding { idx: 5, len: 10, digest: 7 };
    let piece = SnapshotPiece { encoding, offset: 0, bytes: vec![1; 4], is_cut: false };
    let snapshot = SnapshotType::Complete(Words(vec!["forged".into()]));
    let msg = PaxosMsg::CatchUpChunk(Box::new(CatchUpChunk {
        config_id: 1,
        base: 0,
        snapshot: (!in_pieces).then_some(snapshot),
        from_idx: if in_pieces { 0 } else { 5 },
        entries: Vec::new().into(),
        stopsign,
        decided_idx: 6,
        ids: None,
        piece: in_pieces.then(|| Box::new(piece)),
        epoch: Some(Box::new(epoch)),
        compacted_idx: 5,
        stamp: Stamp::default(),
    }));
    Message::SequencePaxos(PaxosMessage { from: 1, to: 2, msg })
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

/// Many ids, or many entries, are a number in a message: it must not be counted up to. Each of these
/// would take longer than anybody waits.
#[test]
fn a_huge_count_in_a_message_costs_nothing() {
    const HUGE: u64 = 1 << 61;
    let run_of = |origin: u64, incarnation: u64, idx: u64, count: u64| {
        let first = ProposalId { origin, incarnation, number: 0 };
        let runs = vec![IdRun { idx, count, first }];
        Some(Box::new(EntryIds { known_from: 0, runs, forgotten: None }))
    };
    let snapshot = || Words(vec!["forged".into()]);
    let first = ProposalId { origin: 2, incarnation: 1, number: 0 };
    let rejection = |reason| {
        PaxosMsg::ProposalRejection(ProposalRejection {
            config_id: 1,
            first,
            count: HUGE,
            reason,
            hops: 0,
            stamp: Stamp::default(),
        })
    };
    for incarnation in [0, 1, 1 << 63 | 1] {
        for origin in 1..=3 {
            for from in [1, 3] {
                let mut lab = three();
                lab.append(1, "a");
                lab.settle();
                lab.cut(1, 2);
                for _ in 0..3 {
                    assert!(lab.server(2).propose(Word("proposed".into())).is_ok());
                    lab.append(2, "appended");
                }
                lab.drain();
                let n = lab.server(2).get_promise();
                let learn = PaxosMsg::CatchUpChunk(Box::new(CatchUpChunk {
                    config_id: 1,
                    base: 0,
                    snapshot: Some(SnapshotType::Complete(snapshot())),
                    from_idx: HUGE,
                    entries: Vec::new().into(),
                    ids: run_of(origin, incarnation, 1, HUGE - 1),
                    stopsign: None,
                    decided_idx: HUGE,
                    piece: None,
                    epoch: None,
                    compacted_idx: 0,
                    stamp: Stamp::default(),
                }));
                let sync = Box::new(LogSync {
                    suffix_idx: 1,
                    suffix: Vec::new().into(),
                    ids: run_of(origin, incarnation, 1, HUGE - 1),
                    stopsign: None,
                });
                let n = Ballot { n: n.n + u32::from(from != n.pid), pid: from, ..n };
                let prepare = Prepare {
                    n,
                    n_accepted: Ballot::default(),
                    accepted_idx: HUGE,
                    decided_idx: HUGE,
                    takes_delta: true,
                    stamp: Stamp::default(),
                };
                for msg in [
                    rejection(RejectionReason::Unknown(HUGE)),
                    rejection(RejectionReason::Decided(1)),
                    PaxosMsg::Compaction(Compaction {
                        config_id: 1,
                        action: CompactionAction::Snapshot(HUGE),
                        stamp: Stamp::default(),
                    }),
                    PaxosMsg::Prepare(prepare),
                    PaxosMsg::AcceptSync(AcceptSync {
                        n,
                        decided_idx: HUGE,
                        sync,
                        stamp: Stamp::default(),
                    }),
                    learn,
                    PaxosMsg::CatchUpRequest(Box::new(CatchUpRequest {
                        config_id: 1,
                        decided_idx: 0,
                        takes_delta: false,
                        waits: false,
                        takes_pieces: false,
                        range: None,
                        piece: None,
                    })),
                    PaxosMsg::CatchUpRedirect(CatchUpRedirect {
                        n,
                        source: 1,
                        decided_idx: 2 * HUGE,
                    }),
                    PaxosMsg::Decide(Decide { n, decided_idx: 2 * HUGE, stamp: Stamp::default() }),
                ] {
                    let message = Message::SequencePaxos(PaxosMessage { from, to: 2, msg });
                    lab.server(2).handle_incoming(message);
                    lab.drain();
                }
                assert_eq!(lab.server(2).get_decided_idx(), HUGE);
            }
        }
    }
}
