//! Takeovers: when a server takes over, and in which ballot.

use super::{candidates::Rank, BallotLeaderElection, Preempted};
use crate::{ballot::Ballot, ids::NodeId, messages::ballot_leader_election::HeartbeatReply};

/// The point of a round at which a takeover is considered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum RoundPoint {
    InRound,
    AtTheEnd,
}

/// After a server has waited for a better one, it does not wait again for this number of rounds.
const INSISTS_FOR: u32 = 8;

/// Number of rounds after the present one for which a server waits for a better one to take over.
const YIELDS_FOR: u32 = 1;

/// As [`YIELDS_FOR`], where the better one is steady and this one is not. It is longer, so a steady server
/// that waits too takes over first.
const YIELDS_TO_STEADY_FOR: u32 = 2;

/// Number of rounds that it takes to notice that a leader is lost, and to elect another.
pub(super) const ROUNDS_OF_A_CHANGE: u32 = 4;

impl BallotLeaderElection {
    /// Returns whether all peers have answered that answered the last round. If none did, all peers
    /// must have answered.
    pub(super) fn have_all_answered(&self) -> bool {
        let is_there = |peer: &NodeId| self.replies.contains_key(peer);
        match self.last_replies.is_empty() {
            true => self.members.peers().iter().all(is_there),
            false => self.last_replies.keys().all(is_there),
        }
    }

    /// Takes over, if it may, as soon as these peers have answered.
    pub(super) fn take_over_if_all_answered(&mut self) {
        if self.have_all_answered() {
            self.take_over_if_nobody_is_happy(RoundPoint::InRound);
        }
    }

    pub(super) fn take_over_if_nobody_is_happy(&mut self, point: RoundPoint) {
        let mut replies = self.replies.iter();
        let somebody_is = replies.any(|(peer, reply)| self.is_known_to_be_happy(*peer, reply));
        let can = self.members.quorum().can_prepare(self.reached()) && self.is_rested();
        if self.happy || somebody_is || !can {
            if point == RoundPoint::AtTheEnd {
                self.end_yielding();
            }
        } else if !self.yields(point) {
            self.go_on_or_take_over();
        }
    }

    /// Returns whether a server is happy, and would notice if it had no reason to be. A server
    /// whose clock stands still would not. It must not keep all others from taking over.
    fn is_known_to_be_happy(&self, peer: NodeId, reply: &HeartbeatReply) -> bool {
        let is_refuted = self.refuted.contains(&peer) && self.is_contradicted(reply);
        reply.happy && !is_refuted && self.clocks.runs(peer)
    }

    /// Returns whether a server is happy with a leader that denies it in its reply to the same
    /// round: the leader does not lead in that ballot, or is unhappy.
    fn is_contradicted(&self, reply: &HeartbeatReply) -> bool {
        let named = reply.leader;
        let says = match named.pid == self.pid {
            true => Some((self.leader, self.happy)),
            false => self.replies.get(&named.pid).map(|leader| (leader.leader, leader.happy)),
        };
        reply.happy && says.is_some_and(|(leader, is_happy)| leader != named || !is_happy)
    }

    /// Records at the end of a round which servers were contradicted in it. A server whose clock
    /// runs learns within one round that its leader is lost. So a server that is contradicted in
    /// two consecutive rounds does not count.
    pub(super) fn note_contradicted(&mut self) {
        let contradicted = self.replies.iter().filter(|(_, reply)| self.is_contradicted(reply));
        self.refuted = contradicted.map(|(peer, _)| *peer).collect();
    }

    /// Returns whether this server waits for a better one to take over. It waits until the end of
    /// the next round: by then the other server has received the same reports, and has asked for
    /// promises. If it has not taken over by then, this server does not wait again for some rounds.
    ///
    /// A server that is not steady waits one round more, and each time, for every steady server that
    /// sent a heartbeat recently. So a server that keeps its quorum never competes with one that
    /// does not.
    fn yields(&mut self, point: RoundPoint) -> bool {
        let is_over = self.yields_until == Some(self.round) && point == RoundPoint::AtTheEnd;
        if self.can_go_on() || is_over {
            return false;
        }
        let own = Rank { steady: self.is_steady(), priority: self.priority, pid: self.pid };
        let answered = self.replies.iter();
        let others = answered.filter_map(|(pid, reply)| self.candidates.rank(*pid, reply));
        let steady = self.candidates.best_steady().filter(|_| !own.steady);
        let best = others.chain(self.candidates.best_that_asked()).chain(steady).max();
        let is_to_steady = !own.steady && best.is_some_and(|best| best.steady);
        if best <= Some(own) || (self.insists > 0 && !is_to_steady) {
            return false;
        }
        let rounds = if is_to_steady { YIELDS_TO_STEADY_FOR } else { YIELDS_FOR };
        self.yields_until.get_or_insert(self.round.wrapping_add(rounds));
        true
    }

    pub(super) fn end_yielding(&mut self) {
        if self.yields_until.take().is_some() {
            self.insists = INSISTS_FOR;
        }
    }

    /// Records at the end of a round whether this server lost its quorum: as a leader, which `missed`
    /// it, or in any other role. A server that loses its quorum now and then also does so as a leader.
    pub(super) fn note_lost_quorum(&mut self, missed: bool) {
        let reaches_quorum = self.members.quorum().can_prepare(self.reached());
        if (missed && self.leads()) || (self.had_quorum && !reaches_quorum) {
            self.be_unsteady();
        }
        self.had_quorum |= reaches_quorum;
    }

    /// Returns whether this server is steady.
    pub(super) fn is_steady(&self) -> bool {
        self.unsteady_rounds == 0
    }

    /// Marks this server as not steady: it was restarted, or lost its quorum, and that may happen
    /// again. Steady servers come first for as long as all servers may need to lead once. So a
    /// server that keeps its quorum gets to lead.
    pub(super) fn be_unsteady(&mut self) {
        self.unsteady_rounds = self.rounds_for_all();
    }

    /// Returns the number of rounds in which each server can lead once.
    pub(super) fn rounds_for_all(&self) -> u32 {
        let servers = u32::try_from(self.members.peers().len() + 1).unwrap_or(u32::MAX);
        ROUNDS_OF_A_CHANGE.saturating_mul(servers)
    }

    /// Returns whether this server owns the highest ballot and still leads in it. Then it needs no
    /// higher ballot: the promises of this one count.
    fn can_go_on(&self) -> bool {
        self.leads() && self.promise == self.ballot && self.highest <= self.ballot
    }

    fn go_on_or_take_over(&mut self) {
        if self.can_go_on() {
            self.name_leader(self.ballot);
            self.happy = true;
        } else {
            self.take_over();
        }
    }

    pub(super) fn take_over_if_possible(&mut self) {
        if self.members.quorum().can_prepare(self.reached()) {
            self.take_over();
        }
    }

    /// Leads in a new ballot, above all that were seen. If the numbers are exhausted, it does
    /// nothing; no cluster gets that far.
    pub(crate) fn take_over(&mut self) {
        if let Some(n) = self.highest.n.checked_add(1) {
            self.ballot = Ballot::with(self.config_id, n, self.priority, self.pid);
            self.highest = self.ballot;
            self.name_leader(self.ballot);
            self.happy = true;
            self.preempted = Preempted::No;
            self.rests = 0;
            self.success.begin_ballot();
        }
    }

    /// Takes over at the user's request: at once, but only once in as many rounds as there are
    /// servers. If a program asks all the time, at all servers, a leader must still have time to
    /// decide. If this server owns the highest ballot already, a higher one would only invalidate
    /// promises.
    pub(crate) fn be_asked_to_lead(&mut self) {
        if self.can_go_on() || self.members.is_observer() {
            return;
        }
        self.is_asked = true;
        if self.asked_rounds == 0 {
            self.take_over_since_asked();
        }
    }

    fn take_over_since_asked(&mut self) {
        if std::mem::take(&mut self.is_asked) && !self.can_go_on() {
            self.asked_rounds = u32::try_from(self.members.peers().len() + 1).unwrap_or(u32::MAX);
            self.take_over();
        }
    }

    /// At the end of a round, takes over if the user asked too early.
    pub(super) fn take_over_if_asked(&mut self) {
        self.asked_rounds = self.asked_rounds.saturating_sub(1);
        if self.asked_rounds == 0 {
            self.take_over_since_asked();
        }
    }

    /// Takes over if the leader transfers leadership to this server, and the server reached enough
    /// peers in the last round.
    pub(crate) fn take_over_on_transfer(&mut self) {
        if self.members.quorum().can_prepare(self.last_replies.len() + 1) {
            self.take_over();
        }
    }

    /// Records that Sequence Paxos resigned in the ballot of this server. Then it follows no
    /// leader.
    pub(crate) fn resign(&mut self) {
        if self.leads() {
            self.leader = Ballot::default();
            self.is_leader_new = false;
            self.content_rounds.clear();
            self.happy = false;
        }
    }

    /// Records that Sequence Paxos resigned, since no quorum promised though a quorum answered.
    /// Another server may be promised. For this number of rounds the others have time to take over.
    pub(crate) fn rest(&mut self, rounds: u32) {
        self.resign();
        self.rests = rounds;
    }

    /// Records, after the end of a round, that this server has decided something as the leader in `ballot`. It
    /// may have taken over in a higher one since.
    pub(crate) fn note_success(&mut self, ballot: Ballot) {
        self.success.record(ballot == self.ballot);
    }

    /// Returns whether this server may take over, as far as its own failures are concerned.
    pub(super) fn is_rested(&self) -> bool {
        self.rests == 0 && self.success.is_rested()
    }
}
