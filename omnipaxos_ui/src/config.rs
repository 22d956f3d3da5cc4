//! The configuration of a dashboard.

use crate::observation::Membership;
use omnipaxos::{
    util::{ConfigurationId, FlexibleQuorum, NodeId},
    ClusterConfig, OmniPaxosConfig,
};

/// The replica that a dashboard shows. It is converted from the configuration of the replica.
///
/// ```
/// use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};
/// use omnipaxos_ui::UIAppConfig;
///
/// let config = OmniPaxosConfig {
///     cluster_config: ClusterConfig {
///         configuration_id: 1,
///         nodes: vec![1, 2, 3],
///         ..Default::default()
///     },
///     server_config: ServerConfig { pid: 2, ..Default::default() },
/// };
/// let shown: UIAppConfig = config.into();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UIAppConfig {
    pub(crate) pid: NodeId,
    pub(crate) configuration_id: ConfigurationId,
    /// The members, and the shown server if it is an observer, each once, in order.
    pub(crate) nodes: Vec<NodeId>,
    /// Whether the shown server is a member.
    pub(crate) has_vote: bool,
    /// Number of servers, including this one, that a leader needs to prepare a ballot.
    pub(crate) read_quorum: usize,
}

impl From<OmniPaxosConfig> for UIAppConfig {
    fn from(config: OmniPaxosConfig) -> Self {
        let OmniPaxosConfig { cluster_config, server_config } = config;
        let ClusterConfig { configuration_id, nodes, flexible_quorum } = cluster_config;
        let has_vote = !server_config.is_observer();
        Self::of(server_config.pid, configuration_id, nodes, flexible_quorum, has_vote)
    }
}

impl UIAppConfig {
    fn of(
        pid: NodeId,
        configuration_id: ConfigurationId,
        mut nodes: Vec<NodeId>,
        flexible_quorum: Option<FlexibleQuorum>,
        has_vote: bool,
    ) -> Self {
        nodes.sort_unstable();
        nodes.dedup();
        let majority = nodes.len() / 2 + 1;
        if !has_vote {
            nodes.push(pid);
            nodes.sort_unstable();
        }
        let read_quorum = flexible_quorum.map_or(majority, |sizes| sizes.read_quorum_size);
        Self { pid, configuration_id, nodes, has_vote, read_quorum }
    }

    /// Follows the members of a log that continues.
    pub(crate) fn follow(&mut self, reported: &Membership) {
        let Membership { configuration_id, nodes, flexible_quorum, .. } = reported;
        let has_vote = nodes.contains(&self.pid);
        *self = Self::of(self.pid, *configuration_id, nodes.clone(), *flexible_quorum, has_vote);
    }

    /// Returns the number of members.
    pub(crate) fn members(&self) -> usize {
        self.nodes.len() - usize::from(!self.has_vote)
    }
}
