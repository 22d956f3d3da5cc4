//! The heartbeats that a server sends.

use super::{Asked, BallotLeaderElection};
use crate::{
    ballot::Ballot,
    ids::NodeId,
    messages::ballot_leader_election::{
        BLEMessage, HeartbeatMsg, HeartbeatReply, HeartbeatRequest,
    },
};

/// The state of this server, as a request reports it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Mine {
    leader: Ballot,
    happy: bool,
    priority: u32,
    electable: bool,
    steady: bool,
}

impl BallotLeaderElection {
    /// Builds a request of this round. It also notifies a server of another configuration of this
    /// one.
    pub(crate) fn request(&self, to: NodeId) -> BLEMessage {
        let Mine { leader, happy, priority, electable, steady } = self.mine();
        let request = HeartbeatRequest {
            config_id: self.config_id,
            round: self.round,
            leader,
            happy,
            priority,
            electable,
            steady,
            observes: self.members.is_observer(),
            max_entry_bytes: self.max_entry_bytes,
            sender: Box::default(),
        };
        BLEMessage { from: self.pid, to, msg: HeartbeatMsg::Request(request) }
    }

    pub(super) fn mine(&self) -> Mine {
        Mine {
            leader: self.leader,
            happy: self.happy,
            priority: self.priority,
            electable: self.is_rested()
                && (self.heard_of_quorum
                    || self.members.quorum().can_prepare(self.heard_of.len() + 1)),
            steady: self.is_steady(),
        }
    }

    /// Builds the heartbeats that are due. An unhappy server reports each change of its state at
    /// once, so that all servers that may take over know of each other.
    #[inline]
    pub(crate) fn build_messages(&mut self, send: impl FnMut(BLEMessage)) {
        if self.has_news() {
            self.is_request_due = true;
        }
        if self.is_request_due || !self.replies_due.is_empty() {
            self.build_due(send);
        }
    }

    /// Returns whether there is nothing to send.
    pub(crate) fn is_silent(&self) -> bool {
        !self.is_request_due && self.replies_due.is_empty() && !self.has_news()
    }

    /// Returns whether all peers are to get another request in this round, after the first.
    pub(crate) fn repeats_request(&self) -> bool {
        self.has_news() && !self.is_request_due
    }

    /// Returns whether one peer is to get another request in this round.
    pub(crate) fn asks_again(&self, peer: NodeId) -> bool {
        self.asked_again.get(&peer) == Some(&Asked::Due)
    }

    /// Returns whether the other servers should know a state that the last request did not report.
    #[inline]
    fn has_news(&self) -> bool {
        !self.happy && self.last_reported != Some(self.mine())
    }

    #[cold]
    fn build_due(&mut self, mut send: impl FnMut(BLEMessage)) {
        let from = self.pid;
        let asked = std::mem::take(&mut self.asked_again);
        self.asked_again = asked
            .into_iter()
            .map(|(to, asked)| {
                if asked == Asked::Due && !self.is_request_due {
                    send(self.request(to));
                }
                (to, Asked::Done)
            })
            .collect();
        if std::mem::take(&mut self.is_request_due) {
            self.last_reported = Some(self.mine());
            self.members.peers().iter().for_each(|to| send(self.request(*to)));
        }
        while let Some((to, round)) = self.replies_due.pop_first() {
            let reply = match self.members.contains(to) {
                true => HeartbeatReply {
                    round,
                    ballot: self.ballot,
                    leader: self.leader,
                    happy: self.happy,
                },
                false => self.reply_to_observer(round),
            };
            send(BLEMessage { from, to, msg: HeartbeatMsg::Reply(reply) });
        }
    }
}
