//! The state of a replica at one moment.

use omnipaxos::{
    ballot_leader_election::Ballot,
    messages::ballot_leader_election::HeartbeatReply,
    status::{JoinerStatus, Role, Status},
    util::{ConfigurationId, FlexibleQuorum, NodeId},
    utils::ui::OmniPaxosStates,
};
use std::collections::BTreeMap;

/// The state of a replica at one moment, from
/// [`OmniPaxos::get_ui_states`](omnipaxos::OmniPaxos::get_ui_states) or
/// [`OmniPaxos::status`](omnipaxos::OmniPaxos::status).
///
/// The latter contains accepted indices without a limit on the pids, observers, and the members of a log
/// that continues.
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
    /// The members, and what changes them, if they are reported.
    pub(crate) membership: Option<Membership>,
}

/// The configuration of a replica at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Membership {
    pub(crate) configuration_id: ConfigurationId,
    /// Empty at a server that has not learned the members.
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) flexible_quorum: Option<FlexibleQuorum>,
    /// The index at which the configuration begins in a log that continues.
    pub(crate) first_idx: Option<u64>,
    /// Whether the server was removed, and if so, whether it may stop.
    pub(crate) may_stop: Option<bool>,
    /// The number of entries that each server lacks for which a change of members waits.
    pub(crate) joiners: BTreeMap<NodeId, u64>,
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
            membership: None,
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
            membership: Some(membership(status)),
        }
    }
}

fn membership(status: &Status) -> Membership {
    let is_waited_for = |joiner: &&JoinerStatus| !joiner.has_caught_up;
    let joiners = status.joiners.iter().filter(is_waited_for);
    Membership {
        configuration_id: status.configuration_id,
        nodes: status.nodes.clone(),
        flexible_quorum: status.flexible_quorum,
        first_idx: status.epoch_idx,
        may_stop: status.may_stop,
        joiners: joiners.map(|joiner| (joiner.pid, joiner.lag)).collect(),
    }
}
