//! What the dashboard has to know before it is fed.

use omnipaxos::{
    util::{ConfigurationId, NodeId},
    OmniPaxosConfig,
};

/// The replica that a dashboard shows: made of the configuration that the replica is built with.
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
    /// The members, each once, in order.
    pub(crate) nodes: Vec<NodeId>,
    /// Number of servers, this one included, that a leader needs to prepare a ballot.
    pub(crate) read_quorum: usize,
}

impl From<OmniPaxosConfig> for UIAppConfig {
    fn from(config: OmniPaxosConfig) -> Self {
        let mut nodes = config.cluster_config.nodes;
        nodes.sort_unstable();
        nodes.dedup();
        let majority = nodes.len() / 2 + 1;
        let flexible = config.cluster_config.flexible_quorum;
        Self {
            pid: config.server_config.pid,
            configuration_id: config.cluster_config.configuration_id,
            nodes,
            read_quorum: flexible.map_or(majority, |sizes| sizes.read_quorum_size),
        }
    }
}
