//! The servers for which a change of members waits until they have caught up.

use crate::{
    config::ClusterConfig,
    ids::NodeId,
    members::{MemberChange, WaitsFor},
    membership::{FlexibleQuorum, Quorum},
    observe::status::JoinerStatus,
};
use std::{collections::BTreeMap, ops::Range};

/// The other servers of the next configuration. Those that are members now may be down, or far behind,
/// and count only once they have answered.
#[derive(Clone, Debug)]
pub(super) struct Joiners {
    by_pid: BTreeMap<NodeId, Joiner>,
    /// Whether all that are no members now must have caught up.
    needs_all: bool,
    /// Number of the servers above that must have caught up: with this one a quorum that can prepare and
    /// decide.
    needed: usize,
    most_missing: u64,
    most_silent_rounds: u32,
}

/// What is known of a server of the next configuration.
#[derive(Copy, Clone, Debug, Default)]
struct Joiner {
    /// Whether it is a member now.
    stays: bool,
    /// The number of entries that it last reported.
    decided_idx: Option<u64>,
    has_caught_up: bool,
    /// Heartbeat rounds since it reported more than before.
    silent_rounds: u32,
}

impl Joiners {
    /// Returns the servers for which a change at server `own` waits; `None` if it waits for none.
    pub(super) fn of(
        next: &ClusterConfig,
        change: &MemberChange,
        own: NodeId,
        is_member: impl Fn(NodeId) -> bool,
    ) -> Option<Self> {
        let others = next.nodes.iter().filter(|pid| **pid != own);
        let joiner = |pid: &NodeId| Joiner { stays: is_member(*pid), ..Joiner::default() };
        let by_pid: BTreeMap<_, _> = others.map(|pid| (*pid, joiner(pid))).collect();
        let FlexibleQuorum { read_quorum_size, write_quorum_size } =
            Quorum::of(next.nodes.len(), next.flexible_quorum).sizes();
        let this_one = usize::from(next.nodes.contains(&own));
        let joiners = Self {
            by_pid,
            needs_all: change.waits_for == WaitsFor::All,
            needed: read_quorum_size.max(write_quorum_size).saturating_sub(this_one),
            most_missing: change.most_missing,
            most_silent_rounds: change.most_silent_rounds,
        };
        (change.waits_for != WaitsFor::Nobody && !joiners.have_caught_up()).then_some(joiners)
    }

    /// Records what a server reported. This server has decided the records before the end of `held`, and can
    /// send those from its start on: a server that lacks trimmed ones can never catch up here.
    pub(super) fn record(&mut self, pid: NodeId, decided_idx: u64, held: &Range<u64>) {
        let Some(joiner) = self.by_pid.get_mut(&pid) else {
            return;
        };
        if joiner.decided_idx < Some(decided_idx) {
            (joiner.decided_idx, joiner.silent_rounds) = (Some(decided_idx), 0);
        }
        let lacks_little = decided_idx.saturating_add(self.most_missing) >= held.end;
        joiner.has_caught_up |= lacks_little && decided_idx >= held.start;
    }

    /// Returns whether enough of them have caught up.
    pub(super) fn have_caught_up(&self) -> bool {
        self.are_enough(|joiner| joiner.has_caught_up)
    }

    /// Returns whether those are enough of which `counts` returns true.
    fn are_enough(&self, counts: impl Fn(&Joiner) -> bool) -> bool {
        let all = || self.by_pid.values().all(|joiner| joiner.stays || counts(joiner));
        let count = self.by_pid.values().filter(|joiner| counts(joiner)).count();
        count >= self.needed && (!self.needs_all || all())
    }

    /// Returns those that have not caught up.
    pub(super) fn missing(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.by_pid.iter().filter(|(_, joiner)| !joiner.has_caught_up).map(|(pid, _)| *pid)
    }

    /// Returns those that have not caught up and that the change needs.
    ///
    /// Members that stay are named only if the others are too few for a quorum.
    pub(super) fn needed_and_missing(&self) -> Vec<NodeId> {
        let others_suffice = self.are_enough(|joiner| joiner.has_caught_up || !joiner.stays);
        let is_spared = |joiner: &Joiner| joiner.has_caught_up || (others_suffice && joiner.stays);
        self.by_pid.iter().filter(|(_, joiner)| !is_spared(joiner)).map(|(pid, _)| *pid).collect()
    }

    /// Ends a heartbeat round. Returns whether the change ends, since too many servers are silent.
    pub(super) fn end_round(&mut self) -> bool {
        for joiner in self.by_pid.values_mut() {
            joiner.silent_rounds = joiner.silent_rounds.saturating_add(1);
        }
        let most = self.most_silent_rounds;
        !self.are_enough(|joiner| joiner.has_caught_up || joiner.silent_rounds <= most)
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

    /// Server 1 changes the members 1, 2, 3 to 1, 2, 4, 5.
    fn joiners(waits_for: WaitsFor) -> Option<Joiners> {
        let nodes = vec![1, 2, 4, 5];
        let next = ClusterConfig { configuration_id: 2, nodes, ..Default::default() };
        let change = MemberChange { waits_for, most_silent_rounds: 3, ..Default::default() };
        Joiners::of(&next, &change, 1, |pid| pid <= 3)
    }

    #[test]
    fn a_change_waits_for_all_or_a_quorum_or_nobody() {
        assert!(joiners(WaitsFor::Nobody).is_none());
        for (waits_for, order, enough) in [
            (WaitsFor::Quorum, [4, 5, 2], 2),
            (WaitsFor::Quorum, [2, 4, 5], 2),
            (WaitsFor::All, [2, 4, 5], 3),
            (WaitsFor::All, [4, 5, 2], 2),
        ] {
            let mut joiners = joiners(waits_for).expect("two join");
            for (count, pid) in (1..).zip(order) {
                joiners.record(9, 1000, &(0..1000));
                joiners.record(pid, 100, &(0..1000));
                assert_eq!(joiners.have_caught_up(), count > enough, "it lacks too much");
                joiners.record(pid, 950, &(0..1000));
                assert_eq!(joiners.have_caught_up(), count >= enough, "{waits_for:?} {order:?}");
            }
        }
    }

    #[test]
    fn who_makes_no_progress_ends_the_change() {
        let mut joiners = joiners(WaitsFor::All).expect("two join");
        joiners.record(4, 1000, &(0..1000));
        for round in 1..10 {
            joiners.record(5, round, &(0..1000));
            assert!(!joiners.end_round(), "it makes progress, and server 2 is not needed");
        }
        let mut ends = Vec::new();
        for _ in 0..4 {
            joiners.record(5, 9, &(0..1000));
            ends.push(joiners.end_round());
        }
        assert_eq!(ends, [false, false, true, true]);
        assert_eq!(joiners.missing().collect::<Vec<_>>(), [2, 5]);
        assert_eq!(joiners.needed_and_missing(), [5], "servers 1, 4 and 5 are a quorum");
    }

    #[test]
    fn a_member_that_stays_is_missed_if_there_is_no_quorum_without_it() {
        let next =
            ClusterConfig { configuration_id: 2, nodes: vec![1, 2, 3, 4], ..Default::default() };
        let change = MemberChange::default();
        let mut joiners = Joiners::of(&next, &change, 1, |pid| pid <= 3).expect("one joins");
        joiners.record(4, 1000, &(0..1000));
        assert_eq!(joiners.needed_and_missing(), [2, 3], "one of these is needed");
        joiners.record(3, 1000, &(0..1000));
        assert!(joiners.have_caught_up());
    }

    /// It lacks few entries, and no server can send them.
    #[test]
    fn who_lacks_trimmed_entries_has_not_caught_up() {
        let mut joiners = joiners(WaitsFor::All).expect("two join");
        joiners.record(4, 950, &(0..1000));
        joiners.record(5, 950, &(951..1000));
        assert!(!joiners.have_caught_up());
        assert_eq!(joiners.missing().collect::<Vec<_>>(), [2, 5]);
        let status = joiners.status(1000);
        let status: Vec<_> = status.iter().map(|of| (of.pid, of.decided_idx, of.lag)).collect();
        assert_eq!(status, [(2, None, 1000), (4, Some(950), 50), (5, Some(950), 50)]);
        joiners.record(5, 951, &(951..1000));
        assert!(joiners.have_caught_up());
    }

    #[test]
    fn a_member_that_is_alone_waits_for_nobody() {
        let next = ClusterConfig { configuration_id: 2, nodes: vec![1], ..Default::default() };
        assert!(Joiners::of(&next, &MemberChange::default(), 1, |_| true).is_none());
        assert!(Joiners::of(&next, &MemberChange::default(), 2, |_| true).is_some());
    }
}
