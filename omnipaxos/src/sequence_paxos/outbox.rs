//! Messages that answer one event, which the state does not show later.

use crate::{
    ids::{ConfigurationId, NodeId},
    messages::sequence_paxos::CatchUpRequest,
};
use std::collections::BTreeMap;

/// The most requests of one peer for decided entries that one output answers. The peer repeats the others.
const MOST_CHUNKS: usize = 4;

/// The messages due to each peer. Bounded: each kind is sent once per output, however often it was
/// requested, and is built from the state at that time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    due: BTreeMap<NodeId, Due>,
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

    pub(crate) fn send_chunk(&mut self, to: NodeId, asks: CatchUpRequest) {
        let chunks = &mut self.due.entry(to).or_default().chunks;
        if let Some(earlier) = chunks.iter_mut().find(|earlier| earlier.range == asks.range) {
            *earlier = asks;
        } else if chunks.len() < MOST_CHUNKS {
            chunks.push(asks);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Returns the next peer to which messages are due.
    pub(crate) fn pop(&mut self) -> Option<(NodeId, Due)> {
        self.due.pop_first()
    }
}
