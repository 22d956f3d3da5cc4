//! Changing the members of a log that continues.

/// How a [change of members](crate::OmniPaxos::change_members) waits for the servers that join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// The servers that must have caught up before the members change. Default: all that join.
    pub waits_for: WaitsFor,
    /// The number of entries that a server which has caught up may still lack. Default 100.
    pub most_missing: u64,
    /// The number of heartbeat rounds without progress after which a server is given up, and the change
    /// with it if it cannot do without that server. Default 100.
    pub most_silent_rounds: u32,
    /// Information for all servers, which the stop sign contains: for instance the addresses of the
    /// members. Default `None`.
    pub metadata: Option<Vec<u8>>,
}

/// The servers for which a change of members waits.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitsFor {
    /// All servers that join, and with the members that stay a quorum of the next configuration.
    #[default]
    All,
    /// A quorum of the next configuration.
    Quorum,
    /// None. If no quorum of the next configuration ever runs, the log ends there for good.
    ///
    /// **Start the servers that join with
    /// [`OmniPaxosConfig::observe`](crate::OmniPaxosConfig::observe) only.** A server that was started
    /// with the next [`ClusterConfig`](crate::ClusterConfig) is a founder of that configuration, and
    /// its log is another one. If founders are a quorum, they decide other entries than the cluster:
    /// the log is split. The other variants prevent that, since they do not count a founder as caught
    /// up. This variant checks nothing.
    Nobody,
}

impl Default for MemberChange {
    fn default() -> Self {
        Self {
            waits_for: WaitsFor::All,
            most_missing: 100,
            most_silent_rounds: 100,
            metadata: None,
        }
    }
}
