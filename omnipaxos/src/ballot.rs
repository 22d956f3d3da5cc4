//! The ballot: who leads, and since when.

use crate::ids::{ConfigurationId, NodeId};

/// The number of a round of leadership (paper §5).
///
/// Ballots are ordered by configuration, then `n`, then `priority`, then `pid`, so no two servers
/// ever own the same one. A ballot has one owner and one incarnation: a server leads in a given
/// ballot at most once, also over restarts.
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
    /// The configuration in which this ballot counts.
    pub config_id: ConfigurationId,
    /// The number, raised by each takeover. 0 in the ballot of nobody.
    pub n: u32,
    /// The priority of the owner when it took over.
    pub priority: u32,
    /// The owner.
    pub pid: NodeId,
}

impl Ballot {
    /// A ballot of the given parts.
    pub fn with(config_id: ConfigurationId, n: u32, priority: u32, pid: NodeId) -> Self {
        Self { config_id, n, priority, pid }
    }

    /// Whether this is the ballot of nobody, which precedes all others.
    pub(crate) fn is_nobodys(&self) -> bool {
        self.n == 0
    }
}
