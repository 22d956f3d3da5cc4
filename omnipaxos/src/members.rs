//! Changing the members of a log that continues.

/// How a [change of members](crate::OmniPaxos::change_members) waits for the servers that join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// The servers that must have caught up before the members change. Default: all that join.
    pub waits_for: WaitsFor,
    /// The number of entries that such a server may still lack. Default 100.
    pub most_missing: u64,
    /// The number of heartbeat rounds after which a server that does not make any progress is given up.
    /// Default 100.
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
