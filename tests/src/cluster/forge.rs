//! Messages that no honest member sends.

use crate::{coverage::Kind, rng::Rng, value::SimEntry};
use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Stamp,
    messages::{
        ballot_leader_election::{BLEMessage, HeartbeatMsg, HeartbeatReply, HeartbeatRequest},
        sequence_paxos::{
            AcceptDecide, AcceptStopSign, AcceptSync, Accepted, CatchUpChunk, CatchUpRedirect,
            CatchUpRequest, Compaction, CompactionAction, Decide, ForwardedProposals,
            ForwardedStopSign, LeadershipCheck, LeadershipCheckAck, LogSync, NotAccepted,
            PaxosMessage, PaxosMsg, Prepare, PrepareReq, Promise, ProposalRejection,
            ReadIndexRequest, ReadIndexResponse, Refusal, RejectionReason, TransferLeadership,
        },
        Message,
    },
    proposals::ProposalId,
    storage::StopSign,
    ClusterConfig,
};

/// A forged message for the server at `at`, and what is wrong with it.
pub(super) fn message<T: SimEntry>(
    seed: u64,
    pids: &[u64],
    at: usize,
    config_id: u32,
    promise: Ballot,
) -> (Kind, Message<T>) {
    let mut rng = Rng::of(&[seed]);
    let to = pids[at];
    let peer = pids[(at + 1 + rng.index(pids.len().max(2) - 1)) % pids.len()];
    let owner = Ballot { pid: peer, config_id, n: promise.n.max(1), priority: promise.priority };
    let ahead = Ballot { n: owner.n + 1, ..owner };
    let n = rng.pick(&[owner, ahead]);
    let kind = rng.pick(&[
        Kind::ForgedStranger,
        Kind::ForgedZero,
        Kind::ForgedAddress,
        Kind::ForgedConfiguration,
        Kind::ForgedIndex,
        Kind::ForgedBallot,
        Kind::ForgedChunk,
    ]);
    let message = match kind {
        Kind::ForgedZero => plausible(&mut rng, 0, to, Ballot { pid: 0, ..n }),
        Kind::ForgedAddress => {
            let elsewhere = pids.iter().copied().find(|pid| *pid != to).unwrap_or(4_711);
            plausible(&mut rng, peer, elsewhere, n)
        }
        Kind::ForgedConfiguration => of_another_configuration(&mut rng, peer, to, n),
        Kind::ForgedIndex => impossible_index(&mut rng, peer, to, n),
        Kind::ForgedBallot => impossible_ballot(&mut rng, peer, to, n),
        Kind::ForgedChunk => impossible_chunk(&mut rng, peer, to, n),
        // The other kinds are not drawn.
        _stranger => plausible(&mut rng, 4_711, to, Ballot { pid: 4_711, ..n }),
    };
    (kind, message)
}

pub(super) fn paxos<T: SimEntry>(from: u64, to: u64, msg: PaxosMsg<T>) -> Message<T> {
    Message::SequencePaxos(PaxosMessage { from, to, msg })
}

/// What would be right from a member.
pub(super) fn plausible<T: SimEntry>(rng: &mut Rng, from: u64, to: u64, n: Ballot) -> Message<T> {
    if rng.chance(1, 5) {
        let round = rng.below(10) as u32;
        let reply = HeartbeatReply { round, ballot: n, leader: n, happy: rng.chance(1, 2) };
        let request = HeartbeatRequest {
            config_id: n.config_id,
            round,
            max_entry_bytes: u64::MAX,
            sender: Box::default(),
            leader: n,
            happy: rng.chance(1, 2),
            priority: 0,
            electable: true,
            steady: true,
            observes: false,
        };
        let msg = rng.pick(&[HeartbeatMsg::Reply(reply), HeartbeatMsg::Request(request)]);
        return Message::BLE(BLEMessage { from, to, msg });
    }
    let index = rng.below(20);
    let msg = any_paxos(rng, n, index, index);
    paxos(from, to, msg)
}

fn of_another_configuration<T: SimEntry>(
    rng: &mut Rng,
    from: u64,
    to: u64,
    n: Ballot,
) -> Message<T> {
    let n = Ballot { config_id: rng.pick(&[0, 2, 99, u32::MAX]), ..n };
    loop {
        match plausible(rng, from, to, n) {
            // A forward names no configuration.
            Message::SequencePaxos(PaxosMessage {
                msg: PaxosMsg::ProposalForward(_) | PaxosMsg::ForwardedProposals(_),
                ..
            }) => {}
            message @ (Message::SequencePaxos(_) | Message::BLE(_)) => return message,
        }
    }
}

/// Indices that contradict each other, or exceed what an index can be.
fn impossible_index<T: SimEntry>(rng: &mut Rng, from: u64, to: u64, n: Ballot) -> Message<T> {
    let (low, high) = (rng.below(5), rng.pick(&[7, 1 << 40, u64::MAX]));
    let value = T::with_id(u64::MAX >> 1);
    let sync = LogSync {
        suffix_idx: rng.pick(&[1 << 62, u64::MAX]),
        suffix: vec![value.clone()].into(),
        stopsign: None,
        ids: None,
    };
    let n_accepted = Ballot::default();
    let msg = match rng.below(9) {
        0 => PaxosMsg::Accepted(Accepted {
            n,
            accepted_idx: low,
            decided_idx: high,
            gap: false,
            stamp: Stamp::default(),
        }),
        1 => PaxosMsg::AcceptSync(AcceptSync {
            n,
            decided_idx: low,
            sync: Box::new(sync),
            stamp: Stamp::default(),
        }),
        2 => PaxosMsg::AcceptDecide(AcceptDecide {
            n,
            from_idx: u64::MAX,
            entries: vec![value].into(),
            decided_idx: low,
            ids: None,
            stamp: Stamp::default(),
        }),
        3 => PaxosMsg::AcceptStopSign(AcceptStopSign {
            n,
            idx: u64::MAX,
            stopsign: Box::new(stopsign(2)),
            decided_idx: low,
            stamp: Stamp::default(),
        }),
        4 => PaxosMsg::Prepare(Prepare {
            n,
            n_accepted,
            accepted_idx: low,
            decided_idx: high,
            takes_delta: false,
            stamp: Stamp::default(),
        }),
        5 => PaxosMsg::CatchUpRequest(Box::new(CatchUpRequest {
            config_id: n.config_id,
            decided_idx: u64::MAX,
            takes_delta: false,
            waits: false,
            takes_pieces: false,
            range: None,
            piece: None,
        })),
        6 => PaxosMsg::CatchUpRedirect(CatchUpRedirect { n, source: from, decided_idx: u64::MAX }),
        7 => PaxosMsg::ReadIndexResponse(read_index_response(n, low, u64::MAX)),
        _ => PaxosMsg::Promise(Promise {
            n,
            n_accepted,
            accepted_idx: high,
            decided_idx: low,
            takes_delta: false,
            sync: Some(Box::new(sync)),
            stamp: Stamp::default(),
        }),
    };
    paxos(from, to, msg)
}

/// A chunk that is longer than what is decided, or ends in a stop sign that is none; or the word to
/// learn from oneself, or from a stranger.
pub(super) fn impossible_chunk<T: SimEntry>(
    rng: &mut Rng,
    from: u64,
    to: u64,
    n: Ballot,
) -> Message<T> {
    let from_idx = rng.pick(&[0, 1, 7, 1 << 40, u64::MAX]);
    let msg = match rng.below(4) {
        0 => chunk(n.config_id, from_idx, from_idx, None),
        1 => {
            let same = Some(stopsign(n.config_id));
            chunk(n.config_id, from_idx, from_idx.saturating_add(2), same)
        }
        2 => {
            let next = Some(stopsign(n.config_id.saturating_add(1)));
            chunk(n.config_id, from_idx, from_idx.saturating_add(1), next)
        }
        _ => {
            let source = rng.pick(&[to, 0, 4_711]);
            PaxosMsg::CatchUpRedirect(CatchUpRedirect { n, source, decided_idx: from_idx.min(20) })
        }
    };
    paxos(from, to, msg)
}

/// A chunk with one entry.
fn chunk<T: SimEntry>(
    config_id: u32,
    from_idx: u64,
    decided_idx: u64,
    stopsign: Option<StopSign>,
) -> PaxosMsg<T> {
    let entries = vec![T::with_id(u64::MAX >> 1)].into();
    let empty = empty_chunk(config_id, decided_idx);
    PaxosMsg::CatchUpChunk(Box::new(CatchUpChunk { base: 0, from_idx, entries, stopsign, ..empty }))
}

/// A chunk without entries, of a server that has decided `decided_idx` entries, for one that has as
/// many.
pub(super) fn empty_chunk<T: SimEntry>(config_id: u32, decided_idx: u64) -> CatchUpChunk<T> {
    CatchUpChunk {
        config_id,
        base: decided_idx,
        snapshot: None,
        from_idx: decided_idx,
        entries: Vec::new().into(),
        ids: None,
        stopsign: None,
        piece: None,
        epoch: None,
        decided_idx,
        compacted_idx: 0,
        stamp: Stamp::default(),
    }
}

/// A ballot that is not the sender's to use, or a jump of numbers.
fn impossible_ballot<T: SimEntry>(rng: &mut Rng, from: u64, to: u64, n: Ballot) -> Message<T> {
    let huge = Ballot { n: rng.pick(&[u32::MAX, u32::MAX - 1, 1 << 31]), ..n };
    let index = rng.below(20);
    if rng.chance(1, 2) {
        let reply = HeartbeatReply { round: 1, ballot: huge, leader: huge, happy: true };
        let msg = match rng.chance(1, 2) {
            true => PaxosMsg::NotAccepted(NotAccepted { n: huge }),
            false => any_paxos(rng, huge, index, index),
        };
        return match msg {
            PaxosMsg::ProposalForward(_)
            | PaxosMsg::ForwardedProposals(_)
            | PaxosMsg::ProposalRejection(_)
            | PaxosMsg::ForwardStopSign(_)
            | PaxosMsg::CatchUpRequest(_)
            | PaxosMsg::CatchUpChunk(_)
            | PaxosMsg::ReadIndexResponse(_)
            | PaxosMsg::Compaction(_) => {
                Message::BLE(BLEMessage { from, to, msg: HeartbeatMsg::Reply(reply) })
            }
            msg => paxos(from, to, msg),
        };
    }
    let strange = Ballot { pid: rng.pick(&[0, 4_711, to]), n: n.n + 1, ..n };
    let decided_idx = index;
    let msg = match rng.below(6) {
        0 => PaxosMsg::Prepare(Prepare {
            n: strange,
            n_accepted: Ballot::default(),
            accepted_idx: index,
            decided_idx,
            takes_delta: false,
            stamp: Stamp::default(),
        }),
        1 => PaxosMsg::Decide(Decide { n: strange, decided_idx, stamp: Stamp::default() }),
        2 => PaxosMsg::LeadershipCheck(LeadershipCheck { n: strange, round: index }),
        3 => PaxosMsg::LeadershipCheckAck(LeadershipCheckAck {
            n: Ballot { pid: from, ..strange },
            round: index,
            stamp: Stamp::default(),
        }),
        4 => PaxosMsg::TransferLeadership(TransferLeadership { n: strange }),
        _ => PaxosMsg::AcceptDecide(AcceptDecide {
            n: strange,
            from_idx: 0,
            entries: vec![T::with_id(u64::MAX >> 1)].into(),
            decided_idx,
            ids: None,
            stamp: Stamp::default(),
        }),
    };
    paxos(from, to, msg)
}

/// Any message, with the ballot where it bears one.
fn any_paxos<T: SimEntry>(rng: &mut Rng, n: Ballot, len: u64, decided_idx: u64) -> PaxosMsg<T> {
    let value = T::with_id(u64::MAX >> 1);
    let (n_accepted, takes_delta) = (Ballot::default(), rng.chance(1, 2));
    match rng.below(22) {
        0 => PaxosMsg::PrepareReq(PrepareReq {
            config_id: n.config_id,
            n,
            n_accepted,
            accepted_idx: len,
            decided_idx,
            stamp: Stamp::default(),
        }),
        1 => PaxosMsg::Prepare(Prepare {
            n,
            n_accepted,
            accepted_idx: len,
            decided_idx,
            takes_delta,
            stamp: Stamp::default(),
        }),
        2 => PaxosMsg::Promise(Promise {
            n,
            n_accepted,
            accepted_idx: len,
            decided_idx,
            takes_delta,
            sync: None,
            stamp: Stamp::default(),
        }),
        3 => PaxosMsg::AcceptSync(AcceptSync {
            n,
            decided_idx: 0,
            sync: Box::new(LogSync {
                suffix_idx: 0,
                suffix: vec![value].into(),
                stopsign: None,
                ids: None,
            }),
            stamp: Stamp::default(),
        }),
        4 => PaxosMsg::AcceptDecide(AcceptDecide {
            n,
            from_idx: len,
            entries: vec![value].into(),
            decided_idx,
            ids: None,
            stamp: Stamp::default(),
        }),
        5 => PaxosMsg::AcceptStopSign(AcceptStopSign {
            n,
            idx: len,
            stopsign: Box::new(stopsign(n.config_id.saturating_add(1))),
            decided_idx,
            stamp: Stamp::default(),
        }),
        6 => PaxosMsg::Accepted(Accepted {
            n,
            accepted_idx: len,
            decided_idx,
            gap: false,
            stamp: Stamp::default(),
        }),
        7 => PaxosMsg::NotAccepted(NotAccepted { n }),
        8 => PaxosMsg::Decide(Decide { n, decided_idx, stamp: Stamp::default() }),
        9 => PaxosMsg::ProposalForward(vec![value]),
        10 => PaxosMsg::ForwardStopSign(Box::new(ForwardedStopSign {
            config_id: n.config_id,
            id: ProposalId { origin: n.pid, incarnation: 1, number: len },
            stopsign: stopsign(n.config_id.saturating_add(1)),
            hops: 0,
        })),
        11 => PaxosMsg::CatchUpRequest(Box::new(CatchUpRequest {
            config_id: n.config_id,
            decided_idx,
            takes_delta: false,
            waits: false,
            takes_pieces: false,
            range: None,
            piece: None,
        })),
        12 => PaxosMsg::CatchUpRedirect(CatchUpRedirect { n, source: n.pid, decided_idx }),
        13 => chunk(n.config_id, len, len.saturating_add(1), None),
        14 => PaxosMsg::ReadIndexRequest(read_index_request(n, len)),
        15 => PaxosMsg::ReadIndexResponse(read_index_response(n, len, decided_idx)),
        16 => PaxosMsg::LeadershipCheck(LeadershipCheck { n, round: len }),
        17 => PaxosMsg::LeadershipCheckAck(LeadershipCheckAck {
            n,
            round: len,
            stamp: Stamp::default(),
        }),
        18 => PaxosMsg::TransferLeadership(TransferLeadership { n }),
        19 => PaxosMsg::ForwardedProposals(Box::new(ForwardedProposals {
            first: proposal(rng, n.pid),
            first_ballot: n,
            min_idx: len,
            entries: vec![value],
            stamp: Stamp::default(),
            hops: 0,
        })),
        20 => PaxosMsg::ProposalRejection(ProposalRejection {
            config_id: n.config_id,
            first: proposal(rng, n.pid),
            count: rng.pick(&[0, 1, 5, u64::MAX]),
            reason: rng.pick(&[
                RejectionReason::Decided(len),
                RejectionReason::DecidedBefore(len),
                RejectionReason::Unknown(len),
                RejectionReason::Refused(Box::new(Refusal { n, cause: "forged".into() })),
            ]),
            hops: 0,
            stamp: Stamp::default(),
        }),
        _ => PaxosMsg::Compaction(Compaction {
            config_id: n.config_id,
            action: rng.pick(&[
                CompactionAction::Trim(len),
                CompactionAction::Snapshot(len),
                CompactionAction::Compacted(len),
                CompactionAction::Trim(u64::MAX),
            ]),
            stamp: Stamp::default(),
        }),
    }
}

fn proposal(rng: &mut Rng, origin: u64) -> ProposalId {
    let number = rng.pick(&[0, 1, 1 << 63, u64::MAX]);
    ProposalId { origin, incarnation: rng.below(2), number }
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

fn read_index_response(n: Ballot, number: u64, read_idx: u64) -> ReadIndexResponse {
    let ReadIndexRequest { config_id, origin, incarnation, number, .. } =
        read_index_request(n, number);
    let stamp = Stamp::default();
    ReadIndexResponse { config_id, origin, incarnation, number, read_idx, hops: 0, stamp }
}

fn stopsign(configuration_id: u32) -> StopSign {
    let next_config = ClusterConfig { configuration_id, nodes: vec![1], flexible_quorum: None };
    StopSign::with(next_config, None)
}
