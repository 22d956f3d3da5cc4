//! The relay: a peer that the leader answers, or that has a route to it, if the leader does not
//! answer this server.

use super::BallotLeaderElection;
use crate::{
    ballot::Ballot, ids::NodeId, membership::Membership,
    messages::ballot_leader_election::HeartbeatReply,
};

/// A server that learns of a new leader may be happy with it for two rounds before it notices that
/// it does not reach the leader. In the third round it has got an answer.
const ROUNDS_TO_BE_SURE: u32 = 3;

/// The longest route of an observer to the leader, in messages. Observers that observe each other
/// in a circle and have lost the leader count up to this number. Then they know that there is no
/// route.
const LONGEST_WAY: u32 = 8;

impl BallotLeaderElection {
    /// Counts the rounds in which each peer is happy with a leader that does not answer here.
    pub(super) fn count_content_rounds(&mut self) {
        let leader = self.leader;
        if leader.pid == self.pid || self.answered(leader.pid) {
            self.content_rounds.clear();
            return;
        }
        let members = &self.members;
        let is_content = |reply: &HeartbeatReply| {
            reply.happy && reply.leader == leader && way_from(members, reply) < LONGEST_WAY
        };
        let replies = &self.last_replies;
        self.content_rounds.retain(|peer, _| replies.get(peer).is_some_and(is_content));
        for (peer, _) in replies.iter().filter(|(_, reply)| is_content(reply)) {
            let rounds = self.content_rounds.entry(*peer).or_insert(0);
            *rounds = rounds.saturating_add(1);
        }
    }

    /// Returns a peer that the leader answers, if the leader did not answer here in the last
    /// rounds. An observer may also reach the leader through other observers: then it is the one
    /// with the shortest route.
    pub(crate) fn relay(&self) -> Option<NodeId> {
        let peers = self.content_rounds.iter();
        let sure = peers.filter(|(_, rounds)| **rounds >= ROUNDS_TO_BE_SURE).map(|(peer, _)| *peer);
        sure.min_by_key(|peer| (self.way_through(*peer), *peer))
    }

    /// Returns the length of the route to the leader from a peer, in messages.
    fn way_through(&self, peer: NodeId) -> u32 {
        self.last_replies.get(&peer).map_or(LONGEST_WAY, |reply| way_from(&self.members, reply))
    }

    /// Builds the reply to an observer. An observer is happy with a server that knows a route to
    /// the leader. It never takes over, so the priority in its ballot is the length of its own
    /// route.
    pub(super) fn reply_to_observer(&self, round: u32) -> HeartbeatReply {
        let relay = self.relay();
        let way = match (self.is_happy(), relay) {
            (true, _) => 1,
            (false, Some(peer)) => self.way_through(peer).saturating_add(1),
            (false, None) => LONGEST_WAY,
        };
        let ballot = match self.members.is_observer() {
            true => Ballot { priority: way, ..self.ballot },
            false => self.ballot,
        };
        let happy = way < LONGEST_WAY;
        HeartbeatReply { round, ballot, leader: self.leader, happy }
    }
}

/// Returns the length of the route to the leader from the sender of a reply, in messages; 0 for a
/// member.
fn way_from(members: &Membership, reply: &HeartbeatReply) -> u32 {
    match members.contains(reply.ballot.pid) {
        true => 0,
        false => reply.ballot.priority,
    }
}
