//! The requests to other servers to compact.

use crate::{ids::NodeId, messages::sequence_paxos::CompactionAction};
use std::collections::BTreeSet;

/// The requests to compact, until each peer has answered. Bounded: of each kind only the largest
/// index.
#[derive(Clone, Debug, Default)]
pub(super) struct CompactionRequests {
    trim: Option<Request>,
    snapshot: Option<Request>,
}

#[derive(Clone, Debug)]
struct Request {
    idx: u64,
    unanswered: BTreeSet<NodeId>,
    /// The peers that get the request with the next output.
    due: BTreeSet<NodeId>,
}

impl Request {
    fn to(peers: &[NodeId], idx: u64) -> Option<Self> {
        let unanswered: BTreeSet<NodeId> = peers.iter().copied().collect();
        Some(Self { idx, due: unanswered.clone(), unanswered })
    }
}

impl CompactionRequests {
    /// Continues in the next epoch: these peers are asked again for a snapshot. A request to trim ends, since a
    /// server that has joined may still need the entries.
    pub(super) fn in_next_epoch(self, peers: &[NodeId]) -> Self {
        let peers = Some(peers).filter(|peers| !peers.is_empty());
        let snapshot = self.snapshot.zip(peers);
        let snapshot = snapshot.and_then(|(open, peers)| Request::to(peers, open.idx));
        Self { trim: None, snapshot }
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.trim.iter_mut().chain(&mut self.snapshot)
    }

    /// Asks `peers` to trim up to `idx`. An earlier request for a higher index includes it. One for the same
    /// index continues, since another leader may have been asked.
    pub(super) fn ask_to_trim(&mut self, peers: &[NodeId], idx: u64) {
        match &mut self.trim {
            Some(open) if open.idx > idx => {}
            Some(open) if open.idx == idx => {
                let added = peers.iter().filter(|peer| open.unanswered.insert(**peer));
                open.due.extend(added);
            }
            Some(_) | None => self.trim = Request::to(peers, idx),
        }
    }

    /// Asks `peers` to replace the entries before `idx` by a snapshot.
    pub(super) fn ask_for_snapshot(&mut self, peers: &[NodeId], idx: u64) {
        self.snapshot = Request::to(peers, idx);
    }

    /// Repeats the requests to peers that have not answered.
    pub(super) fn repeat(&mut self) {
        for request in self.all_mut() {
            request.due.clone_from(&request.unanswered);
        }
    }

    /// Repeats the requests to one peer, if it has not answered.
    pub(super) fn repeat_to(&mut self, pid: NodeId) {
        for request in self.all_mut() {
            if request.unanswered.contains(&pid) {
                request.due.insert(pid);
            }
        }
    }

    /// Returns whether no request is due.
    #[inline]
    pub(super) fn is_silent(&self) -> bool {
        [&self.trim, &self.snapshot].into_iter().flatten().all(|request| request.due.is_empty())
    }

    /// Builds the due requests.
    pub(super) fn build_messages(&mut self, mut send: impl FnMut(NodeId, CompactionAction)) {
        if let Some(Request { idx, due, .. }) = &mut self.trim {
            while let Some(to) = due.pop_first() {
                send(to, CompactionAction::Trim(*idx));
            }
        }
        if let Some(Request { idx, due, .. }) = &mut self.snapshot {
            while let Some(to) = due.pop_first() {
                send(to, CompactionAction::Snapshot(*idx));
            }
        }
    }

    /// Records that `from` has nothing left to compact before `idx`.
    pub(super) fn answer(&mut self, from: NodeId, idx: u64) {
        for request in [&mut self.trim, &mut self.snapshot] {
            if let Some(open) = request {
                if open.idx <= idx {
                    open.unanswered.remove(&from);
                    open.due.remove(&from);
                }
                if open.unanswered.is_empty() {
                    *request = None;
                }
            }
        }
    }
}
