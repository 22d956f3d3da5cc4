//! A plain view of a replica, for dashboards.

use crate::{ballot::Ballot, ids::NodeId, messages::ballot_leader_election::HeartbeatReply};

/// The largest pid that has a place in [`ClusterState::accepted_indexes`].
pub const LARGEST_PID_SHOWN: NodeId = 1024;

/// The state of a replica for a dashboard.
#[derive(Clone, Debug)]
pub struct OmniPaxosStates {
    /// The ballot that this server sends as its own.
    pub current_ballot: Ballot,
    /// The leader, if one is known.
    pub current_leader: Option<NodeId>,
    /// Number of entries decided here.
    pub decided_idx: u64,
    /// The replies of the last complete heartbeat round.
    pub heartbeats: Vec<HeartbeatReply>,
    /// The state of the cluster as this server knows it.
    pub cluster_state: ClusterState,
}

/// The state of the cluster as one server knows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterState {
    /// The accepted index of each server as the leader knows it; the position is the pid. All are 0
    /// if this server does not lead. Servers with a pid above [`LARGEST_PID_SHOWN`] are omitted.
    pub accepted_indexes: Vec<u64>,
    /// The replies of the last complete heartbeat round.
    pub heartbeats: Vec<HeartbeatReply>,
}
