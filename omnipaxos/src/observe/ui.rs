//! A plain view of a replica, for dashboards.

use crate::{ballot::Ballot, ids::NodeId, messages::ballot_leader_election::HeartbeatReply};

/// The largest pid that has a place in [`ClusterState::accepted_indexes`].
pub const LARGEST_PID_SHOWN: NodeId = 1024;

/// The state of a replica as a dashboard shows it.
#[derive(Clone, Debug)]
pub struct OmniPaxosStates {
    /// The ballot that this server gossips as its own.
    pub current_ballot: Ballot,
    /// The leader, if one is known.
    pub current_leader: Option<NodeId>,
    /// Number of entries decided here.
    pub decided_idx: u64,
    /// The replies of the last complete heartbeat round.
    pub heartbeats: Vec<HeartbeatReply>,
    /// What this server knows of the cluster.
    pub cluster_state: ClusterState,
}

/// What one server knows of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterState {
    /// The length of each server's log as the leader knows it; the position is the pid. All 0
    /// where this server does not lead. Servers with a pid above [`LARGEST_PID_SHOWN`] are left
    /// out.
    pub accepted_indexes: Vec<u64>,
    /// The replies of the last complete heartbeat round.
    pub heartbeats: Vec<HeartbeatReply>,
}
