//! The servers for which a change of members waits until they have caught up.

use crate::{
    config::ClusterConfig,
    ids::NodeId,
    members::{MemberChange, WaitsFor},
    membership::Quorum,
    observe::status::JoinerStatus,
};
use std::collections::BTreeMap;

/// The servers of the next configuration that are no members now.
#[derive(Clone, Debug)]
pub(super) struct Joiners {
    by_pid: BTreeMap<NodeId, Joiner>,
    /// Number of them that must have caught up.
    needed: usize,
    most_missing: u64,
    most_silent_rounds: u32,
}

/// What is known of a server that joins.
#[derive(Copy, Clone, Debug, Default)]
struct Joiner {
    /// The number of entries that it last reported.
    decided_idx: Option<u64>,
    has_caught_up: bool,
    /// Heartbeat rounds since it reported more than before.
    silent_rounds: u32,
}

impl Joiners {
    /// Returns the servers for which a change waits; `None` if it waits for none.
    pub(super) fn of(
        next: &ClusterConfig,
        change: &MemberChange,
        is_member: impl Fn(NodeId) -> bool,
    ) -> Option<Self> {
        let joining = next.nodes.iter().filter(|pid| !is_member(**pid));
        let by_pid: BTreeMap<_, _> = joining.map(|pid| (*pid, Joiner::default())).collect();
        let quorum = Quorum::of(next.nodes.len(), next.flexible_quorum).sizes();
        let staying = next.nodes.len() - by_pid.len();
        let needed = match change.waits_for {
            WaitsFor::All => by_pid.len(),
            WaitsFor::Quorum => quorum.read_quorum_size.saturating_sub(staying),
            WaitsFor::Nobody => 0,
        };
        (needed > 0).then_some(Self {
            by_pid,
            needed,
            most_missing: change.most_missing,
            most_silent_rounds: change.most_silent_rounds,
        })
    }

    /// Records what a server reported. This server has decided `own` entries.
    pub(super) fn hear(&mut self, pid: NodeId, decided_idx: u64, own: u64) {
        let Some(joiner) = self.by_pid.get_mut(&pid) else {
            return;
        };
        if joiner.decided_idx < Some(decided_idx) {
            (joiner.decided_idx, joiner.silent_rounds) = (Some(decided_idx), 0);
        }
        joiner.has_caught_up |= decided_idx.saturating_add(self.most_missing) >= own;
    }

    /// Returns whether enough of them have caught up.
    pub(super) fn have_caught_up(&self) -> bool {
        self.by_pid.values().filter(|joiner| joiner.has_caught_up).count() >= self.needed
    }

    /// Returns those that have not caught up.
    pub(super) fn missing(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.by_pid.iter().filter(|(_, joiner)| !joiner.has_caught_up).map(|(pid, _)| *pid)
    }

    /// Ends a heartbeat round. Returns whether so many are silent that the change cannot go on.
    pub(super) fn end_round(&mut self) -> bool {
        for joiner in self.by_pid.values_mut() {
            joiner.silent_rounds = joiner.silent_rounds.saturating_add(1);
        }
        let most = self.most_silent_rounds;
        let may_come = |joiner: &&Joiner| joiner.has_caught_up || joiner.silent_rounds <= most;
        self.by_pid.values().filter(may_come).count() < self.needed
    }

    /// Returns what is known of each.
    pub(super) fn status(&self, own: u64) -> Vec<JoinerStatus> {
        let status = |(pid, joiner): (&NodeId, &Joiner)| JoinerStatus {
            pid: *pid,
            decided_idx: joiner.decided_idx,
            lag: own.saturating_sub(joiner.decided_idx.unwrap_or_default()),
            has_caught_up: joiner.has_caught_up,
        };
        self.by_pid.iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{ClusterConfig, Joiners, MemberChange, WaitsFor};

    fn joiners(waits_for: WaitsFor) -> Option<Joiners> {
        let next =
            ClusterConfig { configuration_id: 2, nodes: vec![1, 4, 5], ..Default::default() };
        let change = MemberChange { waits_for, most_silent_rounds: 3, ..Default::default() };
        Joiners::of(&next, &change, |pid| pid <= 3)
    }

    #[test]
    fn a_change_waits_for_all_or_a_quorum_or_nobody() {
        assert!(joiners(WaitsFor::Nobody).is_none());
        for (waits_for, needed) in [(WaitsFor::Quorum, 1), (WaitsFor::All, 2)] {
            let mut joiners = joiners(waits_for).expect("two join");
            for (count, pid) in [(1, 4), (2, 5)] {
                joiners.hear(9, 1000, 1000);
                assert_eq!(joiners.have_caught_up(), count > needed);
                joiners.hear(pid, 100, 1000);
                assert_eq!(joiners.have_caught_up(), count > needed, "it lacks too much");
                joiners.hear(pid, 950, 1000);
                assert_eq!(joiners.have_caught_up(), count >= needed);
            }
        }
    }

    #[test]
    fn who_makes_no_progress_ends_the_change() {
        let mut joiners = joiners(WaitsFor::All).expect("two join");
        joiners.hear(4, 1000, 1000);
        for round in 1..10 {
            joiners.hear(5, round, 1000);
            assert!(!joiners.end_round(), "it makes progress");
        }
        let ends: Vec<bool> = (0..4).map(|_| joiners.end_round()).collect();
        assert_eq!(ends, [false, false, true, true]);
        assert_eq!(joiners.missing().collect::<Vec<_>>(), [5]);
    }
}
