//! Lies of observers, and lies to them: numbers that are huge, or contradict each other, and messages
//! that are not theirs to send.

use super::forge::{empty_chunk, impossible_chunk, paxos, plausible};
use crate::{coverage::Kind, rng::Rng, value::SimEntry};
use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Stamp,
    messages::{
        ballot_leader_election::{BLEMessage, HeartbeatMsg, HeartbeatRequest},
        sequence_paxos::{
            CatchUpChunk, CatchUpRequest, DecidedRange, ForwardedProposals, PaxosMsg, PieceRequest,
            ProposalRejection, ReadIndexRequest, ReadIndexResponse, RejectionReason,
            SnapshotEncoding, SnapshotPiece,
        },
        Message,
    },
    proposals::ProposalId,
};

/// An incarnation that no server is in.
const NO_INCARNATION: u64 = 1 << 40;

/// The servers of a lie, and what the receiver has.
#[derive(Copy, Clone, Debug)]
pub(super) struct Lie<'a> {
    pub(super) members: &'a [u64],
    pub(super) observers: &'a [u64],
    pub(super) to: u64,
    /// The ballot that the receiver follows.
    pub(super) n: Ballot,
    /// Number of entries decided at the receiver.
    pub(super) decided_idx: u64,
}

/// A lie to a server: if it is a member, of an observer. What it decides stays the same.
pub(super) fn message<T: SimEntry>(rng: &mut Rng, lie: Lie<'_>) -> (Kind, Message<T>) {
    let others =
        |pids: &[u64]| -> Vec<u64> { pids.iter().copied().filter(|pid| *pid != lie.to).collect() };
    if lie.observers.contains(&lie.to) {
        let mut senders = others(lie.members);
        senders.extend(others(lie.observers));
        let from = rng.pick(&senders);
        return (Kind::ForgedToObserver, to_observer(rng, from, lie));
    }
    let from = rng.pick(lie.observers);
    (Kind::ForgedByObserver, of_observer(rng, from, lie))
}

/// A number that may be large.
fn number(rng: &mut Rng) -> u64 {
    let small = rng.below(50);
    rng.pick(&[small, small, 1 << 40, u64::MAX >> 2, u64::MAX - 1, u64::MAX])
}

fn of_observer<T: SimEntry>(rng: &mut Rng, from: u64, lie: Lie<'_>) -> Message<T> {
    let Lie { to, n, .. } = lie;
    let config_id = n.config_id;
    match rng.below(6) {
        0 | 1 => paxos(from, to, PaxosMsg::CatchUpRequest(Box::new(request(rng, config_id)))),
        2 => {
            let request = HeartbeatRequest {
                config_id,
                round: rng.pick(&[0, 1, 7, u32::MAX]),
                max_entry_bytes: 0,
                sender: Box::default(),
                leader: Ballot { n: u32::MAX, ..n },
                happy: rng.chance(1, 2),
                priority: u32::MAX,
                electable: true,
                steady: true,
                observes: true,
            };
            Message::BLE(BLEMessage { from, to, msg: HeartbeatMsg::Request(request) })
        }
        3 => {
            let read = ReadIndexRequest {
                config_id,
                origin: rng.pick(lie.observers),
                incarnation: NO_INCARNATION,
                number: number(rng),
                n,
                hops: rng.pick(&[0, 15, 16, u8::MAX]),
                stamp: Stamp::default(),
            };
            paxos(from, to, PaxosMsg::ReadIndexRequest(read))
        }
        4 => {
            let forwarded = ForwardedProposals {
                first: proposal(from, u64::MAX),
                first_ballot: n,
                min_idx: number(rng),
                entries: vec![T::with_id(u64::MAX >> 1)],
                stamp: Stamp::default(),
                hops: u8::MAX,
            };
            paxos(from, to, PaxosMsg::ForwardedProposals(Box::new(forwarded)))
        }
        _ => of_members(rng, from, to, n),
    }
}

/// A request for more than there is, or for nothing.
fn request(rng: &mut Rng, config_id: u32) -> CatchUpRequest {
    let range = DecidedRange { from_idx: number(rng), until_idx: number(rng) };
    let piece = PieceRequest { encoding: encoding(rng, 0), from: number(rng), until: number(rng) };
    CatchUpRequest {
        config_id,
        decided_idx: number(rng),
        takes_delta: false,
        waits: rng.chance(1, 2),
        takes_pieces: true,
        range: Some(range).filter(|_| rng.chance(1, 2)),
        piece: Some(piece).filter(|_| rng.chance(1, 2)),
    }
}

fn to_observer<T: SimEntry>(rng: &mut Rng, from: u64, lie: Lie<'_>) -> Message<T> {
    let Lie { to, n, decided_idx, .. } = lie;
    let config_id = n.config_id;
    let msg = match rng.below(7) {
        0 => return of_members(rng, from, to, n),
        1 => return impossible_chunk(rng, from, to, n),
        2 => piece(rng, config_id, decided_idx),
        3 => PaxosMsg::ReadIndexResponse(ReadIndexResponse {
            config_id,
            origin: to,
            incarnation: NO_INCARNATION,
            number: number(rng),
            read_idx: number(rng),
            hops: 0,
            stamp: Stamp::default(),
        }),
        4 => {
            let idx = number(rng);
            PaxosMsg::ProposalRejection(ProposalRejection {
                config_id,
                first: ProposalId { incarnation: NO_INCARNATION, ..proposal(to, number(rng)) },
                count: number(rng),
                reason: rng.pick(&[
                    RejectionReason::Decided(idx),
                    RejectionReason::DecidedBefore(idx),
                    RejectionReason::Unknown(idx),
                ]),
                hops: 0,
                stamp: Stamp::default(),
            })
        }
        5 => PaxosMsg::CatchUpRequest(Box::new(request(rng, config_id))),
        _ => {
            // Its source has decided, or compacted, more than it has.
            let decided = decided_idx.saturating_add(number(rng));
            let compacted_idx = rng.pick(&[0, decided_idx, decided]);
            let empty = empty_chunk(config_id, decided_idx);
            let chunk = CatchUpChunk { decided_idx: decided, compacted_idx, ..empty };
            PaxosMsg::CatchUpChunk(Box::new(chunk))
        }
    };
    paxos(from, to, msg)
}

/// A piece of a snapshot that is too long to end, or no piece.
fn piece<T: SimEntry>(rng: &mut Rng, config_id: u32, decided_idx: u64) -> PaxosMsg<T> {
    let decided = decided_idx.saturating_add(rng.below(9));
    let piece = SnapshotPiece {
        encoding: encoding(rng, decided),
        offset: rng.pick(&[0, 0, 1, 5, 1 << 40, u64::MAX - 3]),
        bytes: vec![7; rng.below(9) as usize],
        is_cut: rng.chance(1, 2),
    };
    let empty = empty_chunk(config_id, decided_idx);
    let chunk = CatchUpChunk { piece: Some(Box::new(piece)), decided_idx: decided, ..empty };
    PaxosMsg::CatchUpChunk(Box::new(chunk))
}

/// An encoding that no server has made.
fn encoding(rng: &mut Rng, idx: u64) -> SnapshotEncoding {
    let idx = rng.pick(&[idx, idx.saturating_sub(1), 1 << 40, u64::MAX]);
    let len = rng.pick(&[1 << 40, u64::MAX - 1, u64::MAX]);
    SnapshotEncoding { idx, len, digest: rng.number() }
}

/// A message that travels between members only.
fn of_members<T: SimEntry>(rng: &mut Rng, from: u64, to: u64, n: Ballot) -> Message<T> {
    loop {
        let message = plausible(rng, from, to, n);
        let is_of_observers = match &message {
            Message::BLE(ble) => matches!(ble.msg, HeartbeatMsg::Reply(_)),
            Message::SequencePaxos(paxos) => matches!(
                paxos.msg,
                PaxosMsg::CatchUpRequest(_)
                    | PaxosMsg::CatchUpChunk(_)
                    | PaxosMsg::ForwardedProposals(_)
                    | PaxosMsg::ForwardStopSign(_)
                    | PaxosMsg::ProposalRejection(_)
                    | PaxosMsg::ReadIndexRequest(_)
                    | PaxosMsg::ReadIndexResponse(_)
            ),
        };
        if !is_of_observers {
            return message;
        }
    }
}

fn proposal(origin: u64, number: u64) -> ProposalId {
    ProposalId { origin, incarnation: 1, number }
}
