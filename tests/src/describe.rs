//! Messages, ballots and states in few words, for traces.

use crate::{
    plan::CONFIGURATION,
    value::{stop_sign_id, SimEntry, STOP_SIGN},
};
use omnipaxos::{
    ballot_leader_election::Ballot,
    messages::{
        ballot_leader_election::HeartbeatMsg,
        sequence_paxos::{LogSync, PaxosMsg, SnapshotEncoding},
        Message,
    },
    proposals::ProposalId,
    storage::{SnapshotType, StorageOp},
};

/// A ballot, as `number.priority@pid`.
pub fn ballot(ballot: Ballot) -> String {
    let Ballot { config_id, n, priority, pid } = ballot;
    if ![0, 1, CONFIGURATION].contains(&config_id) {
        return format!("c{config_id}:{n}.{priority}@{pid}");
    }
    format!("{n}.{priority}@{pid}")
}

/// The id at a position.
pub fn id(id: u64) -> String {
    if id & STOP_SIGN == 0 {
        return id.to_string();
    }
    format!("stop{}", id & !STOP_SIGN)
}

/// The ids of entries.
pub fn ids<T: SimEntry>(entries: &[T]) -> String {
    let words: Vec<String> = entries.iter().map(|entry| entry.id().to_string()).collect();
    format!("[{}]", words.join(" "))
}

fn sync<T: SimEntry>(sync: &LogSync<T>) -> String {
    let stopsign = sync.stopsign.as_ref().map(|s| id(stop_sign_id(s))).unwrap_or_default();
    format!("suffix_idx={} {}{stopsign}", sync.suffix_idx, ids(&sync.suffix.lock()))
}

/// A message without its envelope.
pub fn message<T: SimEntry>(message: &Message<T>) -> String {
    match message {
        Message::SequencePaxos(m) => paxos(&m.msg),
        Message::BLE(m) => match &m.msg {
            HeartbeatMsg::Request(m) => format!(
                "HeartbeatRequest round={} leader={} happy={} priority={} electable={}",
                m.round,
                ballot(m.leader),
                m.happy,
                m.priority,
                m.electable
            ),
            HeartbeatMsg::Reply(m) => format!(
                "HeartbeatReply round={} ballot={} leader={} happy={}",
                m.round,
                ballot(m.ballot),
                ballot(m.leader),
                m.happy
            ),
        },
    }
}

fn paxos<T: SimEntry>(message: &PaxosMsg<T>) -> String {
    match message {
        PaxosMsg::PrepareReq(m) => format!(
            "PrepareReq n={} na={} accepted={} decided={}",
            ballot(m.n),
            ballot(m.n_accepted),
            m.accepted_idx,
            m.decided_idx
        ),
        PaxosMsg::Prepare(m) => format!(
            "Prepare n={} na={} accepted={} decided={}",
            ballot(m.n),
            ballot(m.n_accepted),
            m.accepted_idx,
            m.decided_idx
        ),
        PaxosMsg::Promise(m) => format!(
            "Promise n={} na={} accepted={} decided={} {}",
            ballot(m.n),
            ballot(m.n_accepted),
            m.accepted_idx,
            m.decided_idx,
            m.sync.as_deref().map(sync).unwrap_or_default()
        ),
        PaxosMsg::AcceptSync(m) => {
            format!("AcceptSync n={} decided={} {}", ballot(m.n), m.decided_idx, sync(&m.sync))
        }
        PaxosMsg::AcceptDecide(m) => format!(
            "AcceptDecide n={} from={} {} decided={}",
            ballot(m.n),
            m.from_idx,
            m.entries.plain().map_or_else(
                || format!("[{} encoded]", m.entries.len()),
                |plain| ids(&plain.lock())
            ),
            m.decided_idx
        ),
        PaxosMsg::AcceptStopSign(m) => format!(
            "AcceptStopSign n={} idx={} {} decided={}",
            ballot(m.n),
            m.idx,
            id(stop_sign_id(&m.stopsign)),
            m.decided_idx
        ),
        PaxosMsg::Accepted(m) => format!(
            "Accepted n={} accepted={} decided={}{}",
            ballot(m.n),
            m.accepted_idx,
            m.decided_idx,
            if m.gap { " gap" } else { "" }
        ),
        PaxosMsg::NotAccepted(m) => format!("NotAccepted n={}", ballot(m.n)),
        PaxosMsg::Decide(m) => {
            format!("Decide n={} decided={}", ballot(m.n), m.decided_idx)
        }
        PaxosMsg::CatchUpRedirect(m) => {
            format!(
                "CatchUpRedirect n={} source={} decided={}",
                ballot(m.n),
                m.source,
                m.decided_idx
            )
        }
        PaxosMsg::CatchUpRequest(m) => {
            let range = m.range.map(|r| format!(" range={}..{}", r.from_idx, r.until_idx));
            let piece = m
                .piece
                .map(|p| format!(" bytes={}..{} of {}", p.from, p.until, encoding(p.encoding)));
            let (range, piece) = (range.unwrap_or_default(), piece.unwrap_or_default());
            format!("CatchUpRequest decided={}{range}{piece}", m.decided_idx)
        }
        PaxosMsg::CatchUpChunk(m) if m.piece.is_some() => {
            let piece = m.piece.as_ref().map(|p| {
                format!("bytes={}+{} of {}", p.offset, p.bytes.len(), encoding(p.encoding))
            });
            let piece = piece.unwrap_or_default();
            format!("CatchUpChunk base={} {piece} decided={}", m.base, m.decided_idx)
        }
        PaxosMsg::CatchUpChunk(m) => {
            let snapshot = match &m.snapshot {
                Some(SnapshotType::Complete(s)) => format!("complete={:?} ", T::covered(s)),
                Some(SnapshotType::Delta(s)) => format!("delta={:?} ", T::covered(s)),
                None => String::new(),
            };
            let stopsign = m.stopsign.as_ref().map(|s| id(stop_sign_id(s))).unwrap_or_default();
            let (base, from, decided) = (m.base, m.from_idx, m.decided_idx);
            let entries = ids(&m.entries.lock());
            format!(
                "CatchUpChunk base={base} {snapshot}from={from} {entries}{stopsign} \
                 decided={decided}"
            )
        }
        PaxosMsg::ProposalForward(entries) => format!("ProposalForward {}", ids(entries)),
        PaxosMsg::ForwardedProposals(m) => {
            let (first, first_ballot, entries) =
                (proposal(m.first), ballot(m.first_ballot), ids(&m.entries));
            format!(
                "ForwardedProposals {first} first_ballot={first_ballot} min_idx={} {entries}",
                m.min_idx
            )
        }
        PaxosMsg::ProposalRejection(m) => {
            format!("ProposalRejection {} count={} {:?}", proposal(m.first), m.count, m.reason)
        }
        PaxosMsg::ForwardStopSign(m) => {
            format!("ForwardStopSign {}", id(stop_sign_id(&m.stopsign)))
        }
        PaxosMsg::Compaction(m) => format!("Compaction {:?}", m.action),
        PaxosMsg::ReadIndexRequest(m) => {
            format!(
                "ReadIndexRequest origin={} incarnation={} number={} n={}",
                m.origin,
                m.incarnation,
                m.number,
                ballot(m.n)
            )
        }
        PaxosMsg::ReadIndexResponse(m) => format!(
            "ReadIndexResponse origin={} incarnation={} number={} idx={}",
            m.origin, m.incarnation, m.number, m.read_idx
        ),
        PaxosMsg::LeadershipCheck(m) => {
            format!("LeadershipCheck n={} round={}", ballot(m.n), m.round)
        }
        PaxosMsg::LeadershipCheckAck(m) => {
            format!("LeadershipCheckAck n={} round={}", ballot(m.n), m.round)
        }
        PaxosMsg::TransferLeadership(m) => format!("TransferLeadership n={}", ballot(m.n)),
        PaxosMsg::Joining(m) => format!("Joining decided={:?}", m.decided_idx),
    }
}

/// The id of a proposal.
pub fn proposal(id: ProposalId) -> String {
    format!("{}.{}.{}", id.origin, id.incarnation, id.number)
}

/// An operation of a storage.
pub fn op<T: SimEntry>(op: &StorageOp<T>) -> String {
    match op {
        StorageOp::AppendEntry(entry) => format!("append {}", entry.id()),
        StorageOp::AppendEntries(entries) => format!("append {}", ids(entries)),
        StorageOp::AppendShared(entries) => format!("append {}", ids(&entries.lock())),
        StorageOp::AppendOnPrefix(from, entries) => format!("cut {from} append {}", ids(entries)),
        StorageOp::AppendSharedOnPrefix(from, entries) => {
            format!("cut {from} append {}", ids(&entries.lock()))
        }
        StorageOp::SetPromise(n) => format!("promise {}", ballot(*n)),
        StorageOp::SetDecidedIndex(idx) => format!("decided {idx}"),
        StorageOp::SetAcceptedRound(n) => format!("round {}", ballot(*n)),
        StorageOp::SetCompactedIdx(idx) => format!("compacted {idx}"),
        StorageOp::Trim(count) => format!("trim {count}"),
        StorageOp::SetStopsign(stopsign) => {
            let stopsign = stopsign.as_ref().map(|s| id(stop_sign_id(s)));
            format!("stopsign {}", stopsign.as_deref().unwrap_or("none"))
        }
        StorageOp::SetSnapshot(snapshot) => {
            format!("snapshot {:?}", snapshot.as_ref().and_then(T::covered))
        }
        StorageOp::SetEpochs(epochs) => {
            let first: Vec<_> = epochs.iter().map(|epoch| epoch.first_idx).collect();
            format!("epochs from {first:?}")
        }
    }
}

/// Names an encoding of a snapshot.
fn encoding(encoding: SnapshotEncoding) -> String {
    format!("{}:{:x}", encoding.idx, encoding.digest & 0xFFFF)
}
