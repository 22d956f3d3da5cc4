//! Messages that answer one event, which the state does not show later.

use crate::{
    ids::{ConfigurationId, NodeId},
    messages::sequence_paxos::CatchUpRequest,
};
use std::collections::BTreeMap;

/// The most requests of one peer for decided entries that wait for an answer. A peer has at most eight for ranges and
/// another one at a time. It repeats those that are not answered.
const MOST_REQUESTS: usize = 9;

/// The messages due to each peer. Bounded: each kind is sent once per output, however often it was
/// requested, and is built from the state at that time. Requests for decided entries may wait for later outputs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    due: BTreeMap<NodeId, Due>,
    /// Requests for decided entries that the next output answers, and the peers.
    later: Vec<(NodeId, CatchUpRequest)>,
}

/// The messages due to one peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Due {
    /// Asks for the leader.
    pub(crate) prepare_req: bool,
    /// Refuses its ballot.
    pub(crate) not_accepted: bool,
    /// Answers that there is nothing left to compact before this index.
    pub(crate) compacted: Option<u64>,
    /// Asks how much of the log the peer has, which is to join.
    pub(crate) asks_to_join: bool,
    /// Reports how much of the log this server has, to a server of this configuration.
    pub(crate) reports_progress: Option<ConfigurationId>,
    /// Requests decided entries.
    pub(crate) chunk_request: bool,
    /// Answers these requests for decided entries: one for those after its decided index, and ranges.
    pub(crate) chunks: Vec<CatchUpRequest>,
}

impl Outbox {
    pub(crate) fn ask_for_leader(&mut self, to: NodeId) {
        self.due.entry(to).or_default().prepare_req = true;
    }

    pub(crate) fn refuse(&mut self, to: NodeId) {
        self.due.entry(to).or_default().not_accepted = true;
    }

    pub(crate) fn report_compacted(&mut self, to: NodeId, idx: u64) {
        let compacted = &mut self.due.entry(to).or_default().compacted;
        *compacted = (*compacted).max(Some(idx));
    }

    pub(crate) fn ask_to_join(&mut self, to: NodeId) {
        self.due.entry(to).or_default().asks_to_join = true;
    }

    pub(crate) fn report_progress(&mut self, to: NodeId, config_id: ConfigurationId) {
        self.due.entry(to).or_default().reports_progress = Some(config_id);
    }

    pub(crate) fn request_chunk(&mut self, to: NodeId) {
        self.due.entry(to).or_default().chunk_request = true;
    }

    /// Answers a request. Of several since the last output for what follows on the decided index of the
    /// peer, the last one counts. If they ask for pieces of one snapshot, all of these are sent: the peer
    /// asks for each piece once.
    pub(crate) fn send_chunk(&mut self, to: NodeId, mut asks: CatchUpRequest) {
        let chunks = &mut self.due.entry(to).or_default().chunks;
        if let Some(earlier) = chunks.iter_mut().find(|earlier| earlier.range == asks.range) {
            if let (Some(later), Some(earlier)) = (&mut asks.piece, earlier.piece) {
                *later = later.with_earlier(earlier);
            }
            *earlier = asks;
        } else {
            if chunks.len() == MOST_REQUESTS {
                // The peer may have given it up.
                chunks.remove(0);
            }
            chunks.push(asks);
        }
    }

    /// Answers a request in the next output.
    pub(crate) fn send_chunk_later(&mut self, to: NodeId, asks: CatchUpRequest) {
        self.later.push((to, asks));
    }

    /// Makes what is left for the next output due. Returns whether there is any.
    pub(crate) fn take_later(&mut self) -> bool {
        let later = std::mem::take(&mut self.later);
        let is_any = !later.is_empty();
        later.into_iter().for_each(|(to, asks)| self.send_chunk(to, asks));
        is_any
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Returns the next peer to which messages are due.
    pub(crate) fn pop(&mut self) -> Option<(NodeId, Due)> {
        self.due.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::{Outbox, MOST_REQUESTS};
    use crate::messages::sequence_paxos::{
        CatchUpRequest, DecidedRange, PieceRequest, SnapshotEncoding,
    };

    const ASKS: CatchUpRequest = CatchUpRequest {
        config_id: 1,
        decided_idx: 0,
        takes_delta: false,
        waits: false,
        takes_pieces: true,
        range: None,
        piece: None,
    };

    /// Returns the pieces that are sent of those that are asked for: the digest, and the offsets.
    fn sent(asked: &[(u64, u64, u64)]) -> (u64, u64, u64) {
        let mut outbox = Outbox::default();
        for (digest, from, until) in asked.iter().copied() {
            let encoding = SnapshotEncoding { idx: 9, len: 1000, digest };
            let piece = Some(PieceRequest { encoding, from, until });
            outbox.send_chunk(3, CatchUpRequest { piece, ..ASKS });
        }
        let (to, due) = outbox.pop().unwrap();
        let [CatchUpRequest { piece: Some(piece), .. }] = due.chunks[..] else {
            panic!("{to}: {due:?}");
        };
        (piece.encoding.digest, piece.from, piece.until)
    }

    #[test]
    fn requests_for_pieces_in_one_output_are_all_answered() {
        assert_eq!(sent(&[(7, 0, 100), (7, 100, 150), (7, 150, 151)]), (7, 0, 151));
        assert_eq!(sent(&[(7, 100, 200), (7, 100, 200)]), (7, 100, 200), "a copy");
        assert_eq!(sent(&[(7, 100, 200), (7, 50, 150)]), (7, 50, 200), "some were lost");
        assert_eq!(sent(&[(7, 100, 200), (7, 300, 400)]), (7, 300, 400), "a gap");
        assert_eq!(sent(&[(7, 0, 100), (8, 100, 200)]), (8, 100, 200), "another snapshot");
    }

    #[test]
    fn few_requests_of_a_peer_wait() {
        let mut outbox = Outbox::default();
        for from_idx in 0..100 {
            let range = Some(DecidedRange { from_idx, until_idx: from_idx + 1 });
            outbox.send_chunk(3, CatchUpRequest { range, ..ASKS });
        }
        let waiting = outbox.pop().unwrap().1.chunks;
        let from = |asks: &CatchUpRequest| asks.range.unwrap().from_idx;
        let last = 100 - MOST_REQUESTS as u64..100;
        assert!(waiting.iter().map(from).eq(last), "{waiting:?}");
    }
}
