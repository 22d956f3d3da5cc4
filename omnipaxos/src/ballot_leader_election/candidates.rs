//! The candidates: which of the servers that may take over should.
//!
//! When several servers lose their leader at the same time, each of them may take over. One of them
//! is the best. The others give it a round to take over.

use crate::{
    ballot::Ballot,
    ids::NodeId,
    messages::ballot_leader_election::{HeartbeatReply, HeartbeatRequest},
};
use std::collections::BTreeMap;

/// The state of the peers, from their last requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    by_pid: BTreeMap<NodeId, Report>,
}

/// The state of the sender of a request.
#[derive(Copy, Clone, Debug)]
struct Report {
    /// The round of the sender.
    round: u32,
    leader: Ballot,
    happy: bool,
    priority: u32,
    electable: bool,
    steady: bool,
    /// Number of rounds of this server that have ended since.
    age: u32,
}

/// The order of candidates: a steady one wins, then the highest priority, then the highest id.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Whether the server was not restarted, and did not lose its quorum, in the last rounds.
    pub(super) steady: bool,
    pub(super) priority: u32,
    pub(super) pid: NodeId,
}

/// Number of rounds after which a report is out of date.
const OUT_OF_DATE_AFTER: u32 = 2;

impl Candidates {
    /// Records the report of a request. Returns whether it is later than the last one of its
    /// sender.
    pub(super) fn record(&mut self, from: NodeId, request: &HeartbeatRequest) -> bool {
        let HeartbeatRequest { round, leader, happy, priority, electable, steady, .. } = *request;
        if self.by_pid.get(&from).is_some_and(|report| report.round > round) {
            return false;
        }
        let report = Report { round, leader, happy, priority, electable, steady, age: 0 };
        self.by_pid.insert(from, report);
        true
    }

    /// Ends a round.
    pub(super) fn end_round(&mut self) {
        self.by_pid.retain(|_, report| {
            report.age += 1;
            report.age <= OUT_OF_DATE_AFTER
        });
    }

    /// Returns the last round in which the owner of a ballot reported that it leads in it, and is happy.
    pub(super) fn round_as_leader(&self, ballot: Ballot) -> Option<u32> {
        let report = self.by_pid.get(&ballot.pid)?;
        (report.happy && report.leader == ballot).then_some(report.round)
    }

    /// Returns the rank of a server that replied as unhappy. `None` if it cannot take over, or is a
    /// leader that lost its quorum: no server waits for such a leader.
    pub(super) fn rank(&self, pid: NodeId, reply: &HeartbeatReply) -> Option<Rank> {
        let report = self.by_pid.get(&pid);
        if reply.leader.pid == pid || report.is_some_and(|report| !report.electable) {
            return None;
        }
        let priority = report.map_or(reply.ballot.priority, |report| report.priority);
        let steady = report.is_none_or(|report| report.steady);
        Some(Rank { steady, priority, pid })
    }

    /// Returns the best of the servers that sent a request in this round, are unhappy and can take
    /// over, whether or not they have answered.
    pub(super) fn best_that_asked(&self) -> Option<Rank> {
        let asked = self.by_pid.iter().filter(|(_, report)| report.age == 0);
        let can = asked.filter(|(pid, report)| {
            report.electable && !report.happy && report.leader.pid != **pid
        });
        let rank = |(pid, report): (&NodeId, &Report)| Rank {
            steady: report.steady,
            priority: report.priority,
            pid: *pid,
        };
        can.map(rank).max()
    }

    /// The best of the steady servers that have asked lately and can take over. A server that was happy
    /// when it asked may become unhappy at any time.
    pub(super) fn best_steady(&self) -> Option<Rank> {
        let can = self.by_pid.iter().filter(|(pid, report)| {
            report.steady && report.electable && report.leader.pid != **pid
        });
        can.map(|(pid, report)| Rank { steady: true, priority: report.priority, pid: *pid }).max()
    }
}

#[cfg(test)]
mod tests {
    use super::{Ballot, Candidates, HeartbeatReply, HeartbeatRequest, Rank};

    fn request(round: u32, priority: u32, electable: bool) -> HeartbeatRequest {
        let leader = Ballot::default();
        HeartbeatRequest {
            config_id: 1,
            round,
            leader,
            happy: false,
            priority,
            electable,
            steady: true,
            max_entry_bytes: u64::MAX,
            sender: Box::default(),
            observes: false,
        }
    }

    fn reply(pid: u64, leader: Ballot) -> HeartbeatReply {
        HeartbeatReply { round: 1, ballot: Ballot::with(1, 0, 5, pid), leader, happy: false }
    }

    #[test]
    fn a_steady_one_comes_first_then_priority_then_the_id() {
        let rank = |steady, priority, pid| Rank { steady, priority, pid };
        assert!(rank(true, 0, 1) > rank(false, 9, 2));
        assert!(rank(true, 9, 1) > rank(true, 8, 2) && rank(true, 9, 2) > rank(true, 9, 1));
    }

    #[test]
    fn the_last_request_counts() {
        let mut candidates = Candidates::default();
        let rank = |candidates: &Candidates| candidates.rank(2, &reply(2, Ballot::default()));
        assert_eq!(rank(&candidates).map(|rank| rank.priority), Some(5), "by the reply");
        assert!(candidates.record(2, &request(7, 1, true)));
        assert!(!candidates.record(2, &request(6, 2, false)), "an earlier one");
        assert_eq!(rank(&candidates), Some(Rank { steady: true, priority: 1, pid: 2 }));
        assert_eq!(candidates.best_that_asked(), rank(&candidates));
        assert!(candidates.record(2, &request(7, 1, true)), "a change in the same round");
        candidates.end_round();
        assert_eq!(candidates.best_that_asked(), None, "in an earlier round");
        assert!(candidates.record(2, &request(8, 1, false)));
        assert_eq!((rank(&candidates), candidates.best_that_asked()), (None, None));
        (0..3).for_each(|_| candidates.end_round());
        assert!(rank(&candidates).is_some(), "out of date");
        assert!(candidates.record(2, &request(1, 0, true)), "it was restarted");
    }

    #[test]
    fn the_rounds_of_a_leader_are_those_in_which_it_is_happy() {
        let mut candidates = Candidates::default();
        let (ballot, later) = (Ballot::with(1, 3, 0, 2), Ballot::with(1, 4, 0, 2));
        let leads =
            |round, happy| HeartbeatRequest { leader: ballot, happy, ..request(round, 0, true) };
        assert_eq!(candidates.round_as_leader(ballot), None);
        candidates.record(2, &leads(7, true));
        assert_eq!(candidates.round_as_leader(ballot), Some(7));
        assert_eq!(candidates.round_as_leader(later), None);
        candidates.record(3, &leads(9, true));
        assert_eq!(candidates.round_as_leader(ballot), Some(7), "3 only follows it");
        candidates.record(2, &leads(8, false));
        assert_eq!(candidates.round_as_leader(ballot), None);
    }

    #[test]
    fn nobody_waits_for_a_leader_that_lost_its_quorum() {
        let candidates = Candidates::default();
        assert_eq!(candidates.rank(2, &reply(2, Ballot::with(1, 4, 0, 2))), None);
        assert!(candidates.rank(2, &reply(2, Ballot::with(1, 4, 0, 3))).is_some());
    }
}
