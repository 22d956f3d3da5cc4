//! The route to the leader, for proposals and reads: direct, or through a relay.

use super::{state::State, SequencePaxos};
use crate::{
    ballot::Ballot,
    ids::NodeId,
    storage::{Entry, Storage},
};

/// The reachable servers.
#[derive(Clone, Debug, Default)]
pub(super) struct Routing {
    /// The peers that answered the last heartbeat round, or since then, in order.
    reachable: Vec<NodeId>,
    /// A leader that did not answer all of the last heartbeat rounds, and a peer that it answers.
    relay: Option<Relay>,
    /// A leader that does not answer, and sent a heartbeat request in this round. What leaves with the reply
    /// may reach it.
    asked_by: Option<NodeId>,
    /// The same in the last round.
    was_asked_by: Option<NodeId>,
}

/// A route to a leader that answers here not at all or only now and then.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relay {
    pub(crate) leader: Ballot,
    /// A peer that the leader answers.
    pub(crate) peer: NodeId,
}

/// The route to the leader.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The leader answers here, or has just sent a request.
    Direct(NodeId),
    /// The leader answers this peer, and here at most now and then.
    Through(NodeId),
}

impl Route {
    /// Returns the server to send to.
    pub(super) fn next_hop(self) -> NodeId {
        match self {
            Route::Direct(to) | Route::Through(to) => to,
        }
    }
}

impl Routing {
    /// Records that a peer has answered a heartbeat.
    fn note_reachable(&mut self, pid: NodeId) {
        if let Err(position) = self.reachable.binary_search(&pid) {
            self.reachable.insert(position, pid);
        }
    }

    /// Ends a heartbeat round that these peers `answered`, in order. If the leader does not answer each
    /// time, `relay` is a peer that it answers.
    pub(super) fn end_round(
        &mut self,
        answered: impl Iterator<Item = NodeId>,
        relay: Option<Relay>,
    ) {
        self.reachable.clear();
        self.reachable.extend(answered);
        self.relay = relay;
        self.was_asked_by = self.asked_by.take();
    }

    /// Records a heartbeat request of a leader. Returns whether it is the first in this round, and the leader
    /// does not answer.
    pub(super) fn note_asked_by(&mut self, leader: NodeId) -> bool {
        let is_first = !self.is_reachable(leader) && self.asked_by != Some(leader);
        if is_first {
            self.asked_by = Some(leader);
        }
        is_first
    }

    /// Returns whether a leader that does not answer sent a request in the last round.
    pub(super) fn was_asked_by(&self, leader: NodeId) -> bool {
        self.was_asked_by == Some(leader)
    }

    pub(super) fn is_reachable(&self, pid: NodeId) -> bool {
        self.reachable.contains(&pid)
    }

    /// Returns the reachable peers, in order.
    pub(super) fn reachable(&self) -> &[NodeId] {
        &self.reachable
    }

    /// Returns the route of what begins here to `leader`, if there is one: rather through a relay than over
    /// an unsteady link.
    pub(super) fn to(&self, leader: NodeId) -> Option<Route> {
        self.through(leader).or_else(|| self.direct(leader)).or_else(|| self.with_reply(leader))
    }

    /// Returns the route of what another server sent to `leader` through this one. What a member sent is
    /// not relayed again. So it goes directly if the leader answers here.
    pub(super) fn of_relayed(&self, leader: NodeId) -> Option<Route> {
        self.direct(leader).or_else(|| self.through(leader)).or_else(|| self.with_reply(leader))
    }

    fn direct(&self, leader: NodeId) -> Option<Route> {
        self.is_reachable(leader).then_some(Route::Direct(leader))
    }

    /// Returns the direct route to a leader that does not answer, after a request of it came: what leaves
    /// with the reply may arrive.
    fn with_reply(&self, leader: NodeId) -> Option<Route> {
        (self.asked_by == Some(leader)).then_some(Route::Direct(leader))
    }

    fn through(&self, leader: NodeId) -> Option<Route> {
        let relay = self.relay.filter(|relay| relay.leader.pid == leader);
        relay.map(|relay| Route::Through(relay.peer))
    }
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Records that a peer has answered a heartbeat.
    pub(crate) fn note_reachable(&mut self, pid: NodeId) {
        self.routing.note_reachable(pid);
    }

    /// Returns the ballot in which this server takes part, as a follower or the leader.
    pub(crate) fn followed_ballot(&self) -> Option<Ballot> {
        match self.state {
            State::Recovering => None,
            State::Promised { .. }
            | State::Following(_)
            | State::Preparing(_)
            | State::Leading(_) => Some(self.log.promise()),
        }
    }

    /// Returns the server to which proposals go: the owner of the highest ballot that this server
    /// follows or knows to be elected. `None` if that is this server and it does not lead.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.leader_ballot().map(|ballot| ballot.pid)
    }

    /// Returns the ballot of the [leader](Self::leader).
    pub(crate) fn leader_ballot(&self) -> Option<Ballot> {
        let leads = matches!(self.state, State::Preparing(_) | State::Leading(_));
        let ballot = self.followed_ballot().unwrap_or_default().max(self.elected);
        Some(ballot).filter(|ballot| !ballot.is_nobodys() && (ballot.pid != self.pid || leads))
    }

    /// Returns the server to which proposals of this server are sent.
    ///
    /// It is a peer that the leader answers, if the leader does not answer here each time; otherwise the
    /// leader, if this server follows it. It is `None` if a later incarnation might use the same ids again.
    pub(super) fn way_for_proposals(&self) -> Option<NodeId> {
        self.way(|leader| self.routing.to(leader))
    }

    /// Returns the server to which relayed proposals are sent; see
    /// [`way_for_proposals`](Self::way_for_proposals).
    pub(super) fn way_for_relayed(&self) -> Option<NodeId> {
        self.way(|leader| self.routing.of_relayed(leader))
    }

    fn way(&self, route_to: impl Fn(NodeId) -> Option<Route>) -> Option<NodeId> {
        if !self.has_lasting_ids() {
            return None;
        }
        let leader = self.leader().filter(|leader| *leader != self.pid)?;
        match route_to(leader)? {
            Route::Direct(leader) if self.is_observer() => Some(leader),
            Route::Direct(leader) => self.followed_ballot().map(|_| leader),
            Route::Through(peer) => Some(peer),
        }
    }

    /// Returns whether no later incarnation uses the ids of this one. Either incarnations are
    /// counted, or this server has made a promise. The promise is stored before a message leaves,
    /// so a restarted server knows that it may have sent messages.
    pub(super) fn has_lasting_ids(&self) -> bool {
        self.is_counted || !self.log.promise().is_nobodys()
    }
}

#[cfg(test)]
mod tests {
    use super::{Ballot, Relay, Route, Routing};

    /// The servers that answered, the relay, the leader, and the way to it of own and of relayed
    /// proposals.
    type Row = (&'static [u64], Option<Relay>, u64, Option<Route>, Option<Route>);

    #[test]
    fn a_leader_that_does_not_answer_each_time_is_reached_through_a_peer() {
        let relay = Some(Relay { leader: Ballot::with(1, 1, 0, 3), peer: 2 });
        let table: [Row; 5] = [
            (&[2, 3], None, 3, Some(Route::Direct(3)), Some(Route::Direct(3))),
            (&[2, 3], relay, 3, Some(Route::Through(2)), Some(Route::Direct(3))),
            (&[2], relay, 3, Some(Route::Through(2)), Some(Route::Through(2))),
            (&[2], relay, 4, None, None),
            (&[2], None, 3, None, None),
        ];
        for (answered, relay, leader, own, relayed) in table {
            let mut routing = Routing::default();
            routing.end_round(answered.iter().copied(), relay);
            let ways = (routing.to(leader), routing.of_relayed(leader));
            assert_eq!(ways, (own, relayed), "{answered:?}, {relay:?}, to {leader}");
        }
    }

    #[test]
    fn what_leaves_with_the_reply_to_a_leader_that_does_not_answer() {
        let mut routing = Routing::default();
        routing.end_round([2].into_iter(), None);
        assert!(!routing.note_asked_by(2), "it answers");
        assert!(routing.note_asked_by(3) && !routing.note_asked_by(3), "once in a round");
        let ways = |routing: &Routing| (routing.to(3), routing.of_relayed(3));
        assert_eq!(ways(&routing), (Some(Route::Direct(3)), Some(Route::Direct(3))));
        assert!(!routing.was_asked_by(3));
        let relay = Some(Relay { leader: Ballot::with(1, 1, 0, 3), peer: 2 });
        routing.end_round([2].into_iter(), relay);
        assert!(routing.was_asked_by(3) && routing.note_asked_by(3));
        let through = Some(Route::Through(2));
        assert_eq!(
            ways(&routing),
            (through, through),
            "that link may be open in one direction only"
        );
        routing.end_round([2].into_iter(), None);
        assert_eq!(ways(&routing), (None, None));
    }

    #[test]
    fn a_peer_that_answers_late_is_reachable_until_the_end_of_the_round() {
        let mut routing = Routing::default();
        routing.end_round([2, 9].into_iter(), None);
        [4, 2].into_iter().for_each(|pid| routing.note_reachable(pid));
        assert_eq!(routing.reachable(), [2, 4, 9]);
        routing.end_round([9].into_iter(), None);
        assert_eq!(routing.reachable(), [9]);
    }
}
