//! The ballot: names one leadership.

use crate::ids::{ConfigurationId, NodeId};

/// The number of one leadership (paper §5).
///
/// Ballots are ordered by configuration, then `n`, then `priority`, then `pid`. So two servers
/// never own the same ballot. One incarnation of the owner leads in a ballot: a server leads in it
/// at most once, also over restarts.
///
/// ```
/// use omnipaxos::ballot_leader_election::Ballot;
///
/// let first = Ballot::with(1, 1, 0, 2);
/// assert!(first < Ballot::with(1, 1, 0, 3), "the pid breaks a tie");
/// assert!(Ballot::with(1, 1, 5, 1) > first, "the priority comes before it");
/// assert!(Ballot::with(1, 2, 0, 1) > Ballot::with(1, 1, 5, 1), "the number before both");
/// ```
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ballot {
    /// The configuration to which the ballot belongs.
    pub config_id: ConfigurationId,
    /// The number, raised by each server that takes over. 0 means: no ballot.
    pub n: u32,
    /// The priority of the owner at the time when it took over.
    pub priority: u32,
    /// The owner.
    pub pid: NodeId,
}

impl Ballot {
    /// Creates a ballot from its parts.
    pub fn with(config_id: ConfigurationId, n: u32, priority: u32, pid: NodeId) -> Self {
        Self { config_id, n, priority, pid }
    }

    /// Returns whether this is no ballot of a server. It precedes all others.
    pub(crate) fn is_nobodys(&self) -> bool {
        self.n == 0
    }
}
