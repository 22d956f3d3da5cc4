//! The applied indices of the applications, for entry types without snapshots.
//!
//! Entries that some application has not applied must stay, since no snapshot can replace them. So
//! each server records the index that its application reports as applied. It reports this index to
//! all other servers, until each has confirmed it. Each server trims the entries that all
//! applications have applied.
//!
//! Invariant I17: a server uses no applied index above the one that its own application reported.
//! Received reports are kept in memory. A restarted server receives them again when its own
//! application reports again, and the leader has it trim its log.

use crate::{ids::NodeId, messages::sequence_paxos::AppliedReport};
use std::collections::{BTreeMap, BTreeSet};

/// The known applied indices. Bounded by the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Applied {
    /// The index that the application here has reported in this incarnation.
    own_idx: u64,
    /// The index that each peer has reported.
    by_peer: BTreeMap<NodeId, u64>,
    /// The peers that have not confirmed `own_idx`.
    unconfirmed: BTreeSet<NodeId>,
    /// The peers to which the next output reports.
    due: BTreeSet<NodeId>,
}

impl Applied {
    /// Continues in the next epoch, with these peers: each of them reports again.
    pub(super) fn in_next_epoch(self, peers: &[NodeId]) -> Self {
        let mut applied = Self::default();
        applied.advance(self.own_idx, peers);
        applied
    }

    /// Records the applied index of the application here. A higher one is reported to the peers.
    pub(super) fn advance(&mut self, idx: u64, peers: &[NodeId]) {
        if idx > self.own_idx {
            self.own_idx = idx;
            self.unconfirmed.extend(peers);
            self.due.extend(peers);
        }
    }

    /// Records a report of a peer: its applied index, and the index that it knows of this server.
    pub(super) fn record(&mut self, from: NodeId, report: AppliedReport) {
        let AppliedReport { applied_idx, confirmed_idx, asks } = report;
        let known = self.by_peer.entry(from).or_default();
        *known = applied_idx.max(*known);
        if confirmed_idx >= self.own_idx {
            self.unconfirmed.remove(&from);
        } else {
            // It was restarted, or this report is older than its present knowledge.
            self.unconfirmed.insert(from);
        }
        if asks {
            self.due.insert(from);
        }
    }

    /// Returns the number of entries that the applications of this server and of all `peers` have
    /// applied.
    pub(super) fn by_all(&self, peers: &[NodeId]) -> u64 {
        let reported = peers.iter().map(|peer| self.by_peer.get(peer).copied().unwrap_or(0));
        reported.fold(self.own_idx, u64::min)
    }

    /// Returns the applied index of the application here.
    pub(super) fn own_idx(&self) -> u64 {
        self.own_idx
    }

    /// Returns the applied index of the application at a peer, if it was reported.
    pub(super) fn of_peer(&self, pid: NodeId) -> Option<u64> {
        self.by_peer.get(&pid).copied()
    }

    /// Repeats the report to peers that have not confirmed it.
    pub(super) fn repeat(&mut self) {
        self.due.extend(&self.unconfirmed);
    }

    /// Repeats the report to one peer, if it has not confirmed it.
    pub(super) fn repeat_to(&mut self, pid: NodeId) {
        if self.unconfirmed.contains(&pid) {
            self.due.insert(pid);
        }
    }

    /// Returns whether no report is due.
    #[inline]
    pub(super) fn is_silent(&self) -> bool {
        self.due.is_empty()
    }

    /// Builds the due reports.
    pub(super) fn build_messages(&mut self, mut send: impl FnMut(NodeId, AppliedReport)) {
        while let Some(to) = self.due.pop_first() {
            let applied_idx = self.own_idx;
            let confirmed_idx = self.by_peer.get(&to).copied().unwrap_or(0);
            let asks = self.unconfirmed.contains(&to);
            send(to, AppliedReport { applied_idx, confirmed_idx, asks });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Applied, AppliedReport, NodeId};
    use std::collections::BTreeMap;

    const NODES: [NodeId; 3] = [1, 2, 3];

    fn peers(of: NodeId) -> Vec<NodeId> {
        NODES.into_iter().filter(|pid| *pid != of).collect()
    }

    /// Delivers all that is due, until nothing is. Returns the number of messages.
    fn settle(servers: &mut BTreeMap<NodeId, Applied>, lost: &[(NodeId, NodeId)]) -> usize {
        let mut count = 0;
        loop {
            let mut sent = Vec::new();
            for (from, server) in servers.iter_mut() {
                server.build_messages(|to, report| sent.push((*from, to, report)));
            }
            if sent.is_empty() {
                return count;
            }
            count += sent.len();
            assert!(count < 100, "messages breed: {sent:?}");
            for (from, to, report) in sent {
                if let Some(server) = servers.get_mut(&to).filter(|_| !lost.contains(&(from, to))) {
                    server.record(from, report);
                }
            }
        }
    }

    fn servers() -> BTreeMap<NodeId, Applied> {
        NODES.into_iter().map(|pid| (pid, Applied::default())).collect()
    }

    fn advance(servers: &mut BTreeMap<NodeId, Applied>, pid: NodeId, idx: u64) {
        if let Some(server) = servers.get_mut(&pid) {
            server.advance(idx, &peers(pid));
        }
    }

    fn by_all(servers: &BTreeMap<NodeId, Applied>) -> Vec<u64> {
        servers.iter().map(|(pid, server)| server.by_all(&peers(*pid))).collect()
    }

    #[test]
    fn the_slowest_counts_everywhere() {
        let mut servers = servers();
        for (pid, idx, expected) in [(1, 8, 0), (2, 5, 0), (3, 3, 3), (3, 9, 5), (2, 7, 7)] {
            advance(&mut servers, pid, idx);
            assert_eq!(settle(&mut servers, &[]), 4, "sent to two, and confirmed");
            assert_eq!(by_all(&servers), [expected; 3], "{pid} has applied {idx}");
        }
    }

    #[test]
    fn what_is_lost_is_reported_again() {
        let mut servers = servers();
        (1..=3).for_each(|pid| advance(&mut servers, pid, 4));
        settle(&mut servers, &[(1, 2), (3, 1)]);
        assert_eq!(by_all(&servers), [0, 0, 4]);
        servers.values_mut().for_each(Applied::repeat);
        settle(&mut servers, &[]);
        assert_eq!(by_all(&servers), [4; 3]);
        servers.values_mut().for_each(Applied::repeat);
        assert_eq!(settle(&mut servers, &[]), 0, "all is confirmed");
    }

    #[test]
    fn a_restarted_server_counts_for_what_it_reported_and_receives_the_other_reports_again() {
        let mut servers = servers();
        for (pid, idx) in [(1, 8), (2, 6), (3, 5)] {
            advance(&mut servers, pid, idx);
        }
        settle(&mut servers, &[]);
        servers.insert(3, Applied::default());
        advance(&mut servers, 1, 9);
        settle(&mut servers, &[]);
        assert_eq!(by_all(&servers), [5, 5, 0], "its application has reported nothing");
        advance(&mut servers, 3, 7);
        settle(&mut servers, &[]);
        assert_eq!(by_all(&servers), [6; 3]);
    }

    #[test]
    fn a_late_report_takes_nothing_back() {
        let mut servers = servers();
        let late = AppliedReport { applied_idx: 2, confirmed_idx: 0, asks: true };
        (1..=3).for_each(|pid| advance(&mut servers, pid, 4));
        settle(&mut servers, &[]);
        for _copy in 0..2 {
            if let Some(server) = servers.get_mut(&1) {
                server.record(2, late);
            }
            assert_eq!(settle(&mut servers, &[]), 2, "it is answered, and confirmed");
            assert_eq!(by_all(&servers), [4; 3]);
        }
    }
}
