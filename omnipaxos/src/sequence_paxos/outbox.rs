//! What is to be said once and cannot be seen from the state later.

use crate::{ids::NodeId, messages::sequence_paxos::CatchUpRequest};
use std::collections::BTreeMap;

/// What is due to each peer. Bounded: each kind is said once per output, however often it was asked
/// for, with the state as it is then.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    due: BTreeMap<NodeId, Due>,
}

/// What is due to one peer.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Due {
    /// Ask for the leader.
    pub(crate) prepare_req: bool,
    /// Refuse its ballot.
    pub(crate) not_accepted: bool,
    /// Tell it that there is nothing left to compact up to this index.
    pub(crate) compacted: Option<u64>,
    /// Ask it for decided entries.
    pub(crate) chunk_request: bool,
    /// Tell it what is decided, as it asked.
    pub(crate) chunk: Option<CatchUpRequest>,
}

impl Outbox {
    pub(crate) fn ask_for_leader(&mut self, to: NodeId) {
        self.due.entry(to).or_default().prepare_req = true;
    }

    pub(crate) fn refuse(&mut self, to: NodeId) {
        self.due.entry(to).or_default().not_accepted = true;
    }

    pub(crate) fn tell_compacted(&mut self, to: NodeId, idx: u64) {
        let compacted = &mut self.due.entry(to).or_default().compacted;
        *compacted = (*compacted).max(Some(idx));
    }

    pub(crate) fn request_chunk(&mut self, to: NodeId) {
        self.due.entry(to).or_default().chunk_request = true;
    }

    pub(crate) fn send_chunk(&mut self, to: NodeId, asks: CatchUpRequest) {
        self.due.entry(to).or_default().chunk = Some(asks);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// The next peer to which something is due.
    pub(crate) fn pop(&mut self) -> Option<(NodeId, Due)> {
        self.due.pop_first()
    }
}
