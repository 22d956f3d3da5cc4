//! Which peer the leader answers, if it does not answer here.

use super::BallotLeaderElection;
use crate::{ids::NodeId, messages::ballot_leader_election::HeartbeatReply};

/// A server that hears of a new leader may be happy with it for two rounds before it finds out that
/// it does not reach it. In the third it has got an answer.
const ROUNDS_TO_BE_SURE: u32 = 3;

impl BallotLeaderElection {
    /// Counts the rounds in which each peer is happy with a leader that does not answer here.
    pub(super) fn count_content_rounds(&mut self) {
        let leader = self.leader;
        if leader.pid == self.pid || self.answered(leader.pid) {
            self.content_rounds.clear();
            return;
        }
        let is_content = |reply: &HeartbeatReply| reply.happy && reply.leader == leader;
        let replies = &self.last_replies;
        self.content_rounds.retain(|peer, _| replies.get(peer).is_some_and(is_content));
        for (peer, _) in replies.iter().filter(|(_, reply)| is_content(reply)) {
            let rounds = self.content_rounds.entry(*peer).or_insert(0);
            *rounds = rounds.saturating_add(1);
        }
    }

    /// If the leader did not answer the last rounds, a peer that it answers.
    pub(crate) fn relay(&self) -> Option<NodeId> {
        let mut peers = self.content_rounds.iter();
        peers.find(|(_, rounds)| **rounds >= ROUNDS_TO_BE_SURE).map(|(peer, _)| *peer)
    }
}
