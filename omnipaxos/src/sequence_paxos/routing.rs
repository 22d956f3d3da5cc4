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
    /// A leader that did not answer the last heartbeat rounds, and a peer that it answers.
    relay: Option<Relay>,
}

/// A route to a leader that does not answer here.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relay {
    pub(crate) leader: Ballot,
    /// A peer that the leader answers.
    pub(crate) peer: NodeId,
}

/// The route to the leader.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The leader answers here.
    Direct(NodeId),
    /// The leader answers this peer.
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

    /// Ends a heartbeat round that these peers `answered`, in order. If the leader did not, `relay`
    /// is a peer that it answers.
    pub(super) fn end_round(
        &mut self,
        answered: impl Iterator<Item = NodeId>,
        relay: Option<Relay>,
    ) {
        self.reachable.clear();
        self.reachable.extend(answered);
        self.relay = relay;
    }

    pub(super) fn is_reachable(&self, pid: NodeId) -> bool {
        self.reachable.contains(&pid)
    }

    /// Returns the reachable peers, in order.
    pub(super) fn reachable(&self) -> &[NodeId] {
        &self.reachable
    }

    /// Returns the route to `leader`, if there is one.
    pub(super) fn to(&self, leader: NodeId) -> Option<Route> {
        if self.is_reachable(leader) {
            return Some(Route::Direct(leader));
        }
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

    /// Returns the server to which proposals are sent.
    ///
    /// It is the leader, if the leader answers here and this server follows it; otherwise a peer
    /// that the leader answers. It is `None` if a later incarnation might use the same ids again.
    pub(super) fn way_for_proposals(&self) -> Option<NodeId> {
        if !self.has_lasting_ids() {
            return None;
        }
        let leader = self.leader().filter(|leader| *leader != self.pid)?;
        match self.routing.to(leader)? {
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

    /// The servers that answered, the relay, the leader, and the way to it.
    type Row = (&'static [u64], Option<Relay>, u64, Option<Route>);

    #[test]
    fn a_leader_that_does_not_answer_is_reached_through_a_peer() {
        let relay = Some(Relay { leader: Ballot::with(1, 1, 0, 3), peer: 2 });
        let table: [Row; 5] = [
            (&[2, 3], None, 3, Some(Route::Direct(3))),
            (&[2, 3], relay, 3, Some(Route::Direct(3))),
            (&[2], relay, 3, Some(Route::Through(2))),
            (&[2], relay, 4, None),
            (&[2], None, 3, None),
        ];
        for (answered, relay, leader, expected) in table {
            let mut routing = Routing::default();
            routing.end_round(answered.iter().copied(), relay);
            assert_eq!(routing.to(leader), expected, "{answered:?}, {relay:?}, to {leader}");
        }
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
