//! The state of a replica at one moment.

use omnipaxos::{
    ballot_leader_election::Ballot,
    messages::ballot_leader_election::HeartbeatReply,
    status::{Role, Status},
    util::NodeId,
    utils::ui::OmniPaxosStates,
};
use std::collections::BTreeMap;

/// The state of a replica at one moment, from
/// [`OmniPaxos::get_ui_states`](omnipaxos::OmniPaxos::get_ui_states) or
/// [`OmniPaxos::status`](omnipaxos::OmniPaxos::status).
///
/// The latter contains accepted indices without a limit on the pids, and observers.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub(crate) ballot: Ballot,
    pub(crate) leader: Option<NodeId>,
    pub(crate) decided_idx: u64,
    /// The answers of the last complete heartbeat round.
    pub(crate) replies: BTreeMap<NodeId, HeartbeatReply>,
    /// The accepted index of each server. Empty if it is not known: only a leader in its accept
    /// phase knows it.
    pub(crate) accepted: BTreeMap<NodeId, u64>,
    /// The lag of each observer, if it is known.
    pub(crate) observers: BTreeMap<NodeId, u64>,
}

fn by_sender(replies: impl Iterator<Item = HeartbeatReply>) -> BTreeMap<NodeId, HeartbeatReply> {
    replies.map(|reply| (reply.ballot.pid, reply)).collect()
}

impl From<OmniPaxosStates> for Observation {
    fn from(states: OmniPaxosStates) -> Self {
        let indexes = states.cluster_state.accepted_indexes;
        // All are 0 at a server that does not know them, and at a leader with an empty log.
        let is_known = indexes.iter().any(|idx| *idx > 0);
        let accepted = (0..).zip(indexes).filter(|_| is_known).collect();
        Self {
            ballot: states.current_ballot,
            leader: states.current_leader,
            decided_idx: states.decided_idx,
            replies: by_sender(states.heartbeats.into_iter()),
            accepted,
            observers: BTreeMap::new(),
        }
    }
}

impl From<&Status> for Observation {
    fn from(status: &Status) -> Self {
        let accepted = match status.role {
            Role::Leading => status
                .peers
                .iter()
                .filter_map(|peer| Some((peer.pid, peer.follower?.accepted_idx)))
                .chain([(status.pid, status.accepted_idx)])
                .collect(),
            _ => BTreeMap::new(),
        };
        Self {
            ballot: status.ballot,
            leader: status.leader,
            decided_idx: status.decided_idx,
            replies: by_sender(status.peers.iter().filter_map(|peer| peer.heartbeat)),
            accepted,
            observers: status
                .observers
                .iter()
                .map(|observer| (observer.pid, observer.lag))
                .collect(),
        }
    }
}
