//! The configuration of a dashboard.

use omnipaxos::{
    util::{ConfigurationId, NodeId},
    OmniPaxosConfig,
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
        let mut nodes = config.cluster_config.nodes;
        nodes.sort_unstable();
        nodes.dedup();
        let majority = nodes.len() / 2 + 1;
        let has_vote = !config.server_config.is_observer();
        if !has_vote {
            nodes.push(config.server_config.pid);
            nodes.sort_unstable();
        }
        let flexible = config.cluster_config.flexible_quorum;
        Self {
            pid: config.server_config.pid,
            configuration_id: config.cluster_config.configuration_id,
            nodes,
            has_vote,
            read_quorum: flexible.map_or(majority, |sizes| sizes.read_quorum_size),
        }
    }
}
