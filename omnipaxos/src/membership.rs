//! The servers of a configuration, which of them this one is, and the quorum sizes.

use crate::ids::NodeId;

/// The sizes of read and write quorums, if they are not majorities.
///
/// A read quorum promises a new leader its ballot (the prepare phase). A write quorum accepts an
/// entry before it is decided. Any read quorum must intersect any write quorum:
/// `read_quorum_size + write_quorum_size > n`. With a small write quorum, fewer servers decide an
/// entry, and more servers must be reachable to elect a leader.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(any(feature = "serde", feature = "toml_config"), derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FlexibleQuorum {
    /// Number of servers, the leader included, that must promise a ballot.
    pub read_quorum_size: usize,
    /// Number of servers, the leader included, that must accept an entry.
    pub write_quorum_size: usize,
}

/// The servers of one configuration, from the view of one of them. Election, replication and
/// validation share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pid: NodeId,
    /// The servers of the configuration, in order. They are few, so a scan is faster than a search.
    members: Vec<NodeId>,
    /// The servers with which this one exchanges heartbeats, in order: the other members, or those
    /// that an observer observes.
    peers: Vec<NodeId>,
    quorum: Quorum,
    is_observer: bool,
}

impl Membership {
    /// Creates the membership of server `pid` among `nodes`, which are distinct.
    pub(crate) fn new(pid: NodeId, nodes: &[NodeId], flexible: Option<FlexibleQuorum>) -> Self {
        let members = sorted(nodes);
        let mut peers = members.clone();
        peers.retain(|peer| *peer != pid);
        Self { pid, members, peers, quorum: Quorum::of(nodes.len(), flexible), is_observer: false }
    }

    /// Creates the membership of server `pid`, which is not in `nodes` and learns their decisions
    /// from `sources`.
    pub(crate) fn observer(pid: NodeId, nodes: &[NodeId], sources: &[NodeId]) -> Self {
        Self {
            pid,
            members: sorted(nodes),
            peers: sorted(sources),
            quorum: Quorum::UNREACHABLE,
            is_observer: true,
        }
    }

    /// Returns whether this server is no member: it has no vote, and learns the decided entries.
    #[inline]
    pub(crate) fn is_observer(&self) -> bool {
        self.is_observer
    }

    pub(crate) fn pid(&self) -> NodeId {
        self.pid
    }

    /// Returns the servers with which this one exchanges heartbeats, in order: the other members,
    /// or those that this observer observes.
    pub(crate) fn peers(&self) -> &[NodeId] {
        &self.peers
    }

    /// Returns whether `pid` is another member, with which this one decides: none is at an observer.
    #[inline]
    pub(crate) fn is_co_member(&self, pid: NodeId) -> bool {
        !self.is_observer && self.peers.contains(&pid)
    }

    /// Returns the other members, with which this one decides: none at an observer.
    pub(crate) fn co_members(&self) -> &[NodeId] {
        match self.is_observer() {
            true => &[],
            false => &self.peers,
        }
    }

    pub(crate) fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// Returns whether `pid` is a server of this configuration.
    #[inline]
    pub(crate) fn contains(&self, pid: NodeId) -> bool {
        self.members.contains(&pid)
    }

    /// Returns whether `pid` is another server of this configuration.
    #[inline]
    pub(crate) fn is_peer(&self, pid: NodeId) -> bool {
        pid != self.pid && self.contains(pid)
    }

    /// Returns whether this server is an observer, and observes `pid`.
    pub(crate) fn observes(&self, pid: NodeId) -> bool {
        self.is_observer() && self.peers.contains(&pid)
    }
}

fn sorted(pids: &[NodeId]) -> Vec<NodeId> {
    let mut sorted = pids.to_vec();
    sorted.sort_unstable();
    sorted
}

/// The quorums of one configuration.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quorum {
    sizes: FlexibleQuorum,
}

impl Quorum {
    /// The quorums of an observer: no number of servers is enough.
    const UNREACHABLE: Self = Self {
        sizes: FlexibleQuorum { read_quorum_size: usize::MAX, write_quorum_size: usize::MAX },
    };

    /// Returns the quorums of `n` servers: majorities unless `flexible` is set.
    pub(crate) fn of(n: usize, flexible: Option<FlexibleQuorum>) -> Self {
        let majority = n / 2 + 1;
        let sizes = flexible
            .unwrap_or(FlexibleQuorum { read_quorum_size: majority, write_quorum_size: majority });
        Self { sizes }
    }

    pub(crate) fn sizes(&self) -> FlexibleQuorum {
        self.sizes
    }

    /// Returns whether this number of servers, including the leader, can prepare a ballot.
    pub(crate) fn can_prepare(&self, servers: usize) -> bool {
        servers >= self.sizes.read_quorum_size
    }

    /// Returns whether this number of servers, including the leader, can decide.
    pub(crate) fn can_accept(&self, servers: usize) -> bool {
        servers >= self.sizes.write_quorum_size
    }

    /// Returns the largest index that a write quorum has reached, given the index of every server.
    /// Invariant I6: `accepted` contains each server of the configuration at most once.
    #[inline]
    pub(crate) fn chosen_idx(&self, accepted: &mut [u64]) -> u64 {
        accepted.sort_unstable_by(|a, b| b.cmp(a));
        self.sizes
            .write_quorum_size
            .checked_sub(1)
            .and_then(|weakest| accepted.get(weakest))
            .copied()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{FlexibleQuorum, Membership, Quorum};

    #[test]
    fn a_server_is_a_member_and_no_peer_of_itself() {
        let members = Membership::new(3, &[9, 3, 1], None);
        assert_eq!((members.pid(), members.peers()), (3, &[1, 9][..]));
        assert!(members.contains(3) && members.contains(9) && !members.contains(2));
        assert!(members.is_peer(1) && !members.is_peer(3) && !members.is_peer(2));
        assert!(members.quorum().can_accept(2) && !members.quorum().can_accept(1));
    }

    #[test]
    fn an_observer_is_no_member_and_reaches_no_quorum() {
        let members = Membership::observer(7, &[3, 1, 2], &[9, 1]);
        assert_eq!((members.pid(), members.peers()), (7, &[1, 9][..]));
        assert!(members.is_observer() && !members.contains(7) && !members.contains(9));
        assert!(members.is_peer(3) && members.observes(9) && !members.observes(3));
        assert!(!members.quorum().can_prepare(9) && !members.quorum().can_accept(9));
        assert!(!Membership::new(1, &[1, 2], None).is_observer());
    }

    #[test]
    fn majorities() {
        for (n, majority) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)] {
            let quorum = Quorum::of(n, None);
            assert!(quorum.can_prepare(majority) && quorum.can_accept(majority), "n = {n}");
            assert!(!quorum.can_prepare(majority - 1) && !quorum.can_accept(majority - 1));
        }
    }

    #[test]
    fn flexible_sizes_are_taken_as_they_are() {
        let sizes = FlexibleQuorum { read_quorum_size: 4, write_quorum_size: 2 };
        let quorum = Quorum::of(5, Some(sizes));
        assert!(quorum.can_accept(2) && !quorum.can_accept(1));
        assert!(quorum.can_prepare(4) && !quorum.can_prepare(3));
    }

    #[test]
    fn chosen_is_what_a_write_quorum_has() {
        let table: [(usize, &[u64], u64); 6] = [
            (1, &[7], 7),
            (2, &[7, 3], 3),
            (3, &[7, 3, 0], 3),
            (3, &[7], 0),
            (4, &[9, 9, 2, 9], 9),
            (5, &[1, 5, 3, 2, 4], 3),
        ];
        for (n, accepted, chosen) in table {
            assert_eq!(Quorum::of(n, None).chosen_idx(&mut accepted.to_vec()), chosen, "{n}");
        }
        let sizes = FlexibleQuorum { read_quorum_size: 4, write_quorum_size: 2 };
        assert_eq!(Quorum::of(5, Some(sizes)).chosen_idx(&mut [1, 5, 3, 2, 4]), 4);
    }
}
