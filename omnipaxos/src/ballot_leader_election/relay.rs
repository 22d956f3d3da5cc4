//! The link to the leader, and the relay: a peer that the leader answers, or that has a route to it, if the
//! leader answers this server not at all or only now and then.

use super::BallotLeaderElection;
use crate::{
    ballot::Ballot, ids::NodeId, membership::Membership,
    messages::ballot_leader_election::HeartbeatReply,
};

/// A server that learns of a new leader may be happy with it for two rounds before it notices that
/// it does not reach the leader. In the third round it has got an answer, also if it was unhappy meanwhile:
/// without an answer it is not happy with the same ballot again. If its rounds are longer than those of this
/// server, it may be wrong: then it says so at the end of its round.
const ROUNDS_TO_BE_SURE: u32 = 3;

/// If the leader did not answer in this number of the last eight rounds, the link to it counts as unsteady.
const SILENT_ROUNDS: u32 = 3;

/// If no request of the leader came in this number of the last eight rounds, what the leader sends with its
/// heartbeats may be lost. It repeats some messages only every fourth round. So the loss of its requests in one
/// of four rounds may lose all repetitions.
const UNHEARD_ROUNDS: u32 = 2;

/// An observer at which nothing moves tries another relay after this number of such rounds.
const STALLED_ROUNDS_OF_A_RELAY: u32 = 4;

/// The link to the leader in the last rounds.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Link {
    /// One bit for each of the last eight rounds: whether the leader did not answer.
    silent: u8,
    /// The same: whether no request of the leader came.
    unheard: u8,
}

impl Link {
    /// Ends a round.
    fn end_round(&mut self, has_answered: bool, has_asked: bool) {
        self.silent = self.silent << 1 | u8::from(!has_answered);
        self.unheard = self.unheard << 1 | u8::from(!has_asked);
    }

    /// Returns whether messages to the leader may be lost again and again, though it answers now and
    /// then. A link may be open just for a heartbeat and its answer, and what is sent after the answer is
    /// lost.
    fn is_unsteady(self) -> bool {
        self.silent.count_ones() >= SILENT_ROUNDS
    }
}

/// The longest route of an observer to the leader, in messages. Observers that observe each other
/// in a circle and have lost the leader count up to this number. Then they know that there is no
/// route.
const LONGEST_WAY: u32 = 8;

impl BallotLeaderElection {
    /// Counts the rounds in which each peer is happy with the leader of this server, and those in which
    /// the leader does not answer here, or sends no request.
    pub(super) fn count_content_rounds(&mut self) {
        let leader = self.leader.pid;
        if leader == self.pid {
            self.content_rounds.clear();
            return;
        }
        self.link.end_round(self.answered(leader), self.clocks.asked(leader));
        for (peer, reply) in self.last_replies.iter().filter(|(peer, _)| **peer != leader) {
            if self.knows_the_leader(reply) {
                let rounds = self.content_rounds.entry(*peer).or_insert(0);
                *rounds = rounds.saturating_add(1);
            }
        }
    }

    /// Returns whether the requests of the leader are lost again and again, or its rounds are longer than those
    /// of this server.
    pub(crate) fn misses_requests(&self) -> bool {
        self.link.unheard.count_ones() >= UNHEARD_ROUNDS
    }

    /// Returns a peer that the leader answers, if the link from here to the leader is unsteady. The peer
    /// reported so in the last round: the leader may answer it now and then, and another peer meanwhile.
    ///
    /// If possible, its clock runs: a peer passes proposals on when its next round begins, and notices at the end of
    /// a round that it does not reach the leader. An observer gets no requests, and cannot know whose clock runs.
    /// It takes the peers with the shortest route to the leader, in turn while nothing moves.
    pub(crate) fn relay(&self) -> Option<NodeId> {
        if !self.link.is_unsteady() {
            return None;
        }
        let is_sure = |peer: &NodeId| {
            self.content_rounds.get(peer).is_some_and(|rounds| *rounds >= ROUNDS_TO_BE_SURE)
        };
        let content = self.last_replies.iter().filter(|(_, reply)| self.knows_the_leader(reply));
        let sure = content.map(|(peer, _)| *peer).filter(is_sure);
        if !self.members.is_observer() {
            return sure.min_by_key(|peer| (!self.clocks.runs(*peer), *peer));
        }
        let shortest = sure.clone().map(|peer| self.way_through(peer)).min()?;
        let nearest = sure.filter(|peer| self.way_through(*peer) == shortest);
        let turn = (self.stalled_rounds / STALLED_ROUNDS_OF_A_RELAY) as usize;
        nearest.clone().nth(turn.checked_rem(nearest.count())?)
    }

    /// Returns whether the sender of a reply is happy with the leader of this server, or knows a route to it.
    fn knows_the_leader(&self, reply: &HeartbeatReply) -> bool {
        let way = way_from(&self.members, reply);
        reply.happy && reply.leader == self.leader && way < LONGEST_WAY
    }

    /// Returns the length of the route to the leader from a peer, in messages.
    fn way_through(&self, peer: NodeId) -> u32 {
        self.last_replies.get(&peer).map_or(LONGEST_WAY, |reply| way_from(&self.members, reply))
    }

    /// Records, after the end of a round, whether this server lacks entries that its sources have trimmed.
    pub(crate) fn note_lack_of_entries(&mut self, lacks_entries: bool) {
        self.lacks_entries = lacks_entries;
    }

    /// Builds the reply to an observer. An observer is happy with a server that knows a route to
    /// the leader. It never takes over, so the priority in its ballot is the length of its own
    /// route. A server that lacks entries reports no route: its own proposals may never end, and then it
    /// passes on no others.
    pub(super) fn reply_to_observer(&self, round: u32) -> HeartbeatReply {
        let relay = self.relay();
        let way = match (self.is_happy(), relay) {
            _ if self.lacks_entries => LONGEST_WAY,
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
