//! Changing the members of a log that continues.

/// How a [change of members](crate::OmniPaxos::change_members) waits for the servers that join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// The servers that must have caught up before the members change. Default: all that join.
    pub waits_for: WaitsFor,
    /// A server counts as caught up if it lacks at most this number of entries. Default 100.
    pub most_missing: u64,
    /// The number of heartbeat rounds without progress after which the change no longer waits for a
    /// server. If the change needs that server, it ends as
    /// [`NotJoined`](crate::proposals::Outcome::NotJoined). Default 100.
    pub most_silent_rounds: u32,
    /// Information for all servers, which the stop sign contains: for instance the addresses of the
    /// members. Default `None`.
    pub metadata: Option<Vec<u8>>,
}

/// The servers for which a change of members waits.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitsFor {
    /// All joining servers, and a quorum of the next configuration among these and the members that
    /// stay.
    #[default]
    All,
    /// A quorum of the next configuration.
    Quorum,
    /// None. If no quorum of the next configuration ever runs, the log ends there for good.
    ///
    /// **Start the servers that join with
    /// [`OmniPaxosConfig::observe`](crate::OmniPaxosConfig::observe) only.** A server that was
    /// started with the next [`ClusterConfig`](crate::ClusterConfig) is a founder of that
    /// configuration: it begins with an empty log. If founders are a quorum, they decide other
    /// entries than the cluster, and the logs diverge. The other variants prevent that, since they
    /// do not count a founder as caught up. This variant checks nothing.
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
