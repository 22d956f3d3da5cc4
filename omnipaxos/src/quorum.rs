//! How many servers must agree.

/// The sizes of read and write quorums, where they are not majorities.
///
/// A read quorum promises a new leader its ballot (the prepare phase), a write quorum accepts an
/// entry before it is decided. Any read quorum must meet any write quorum:
/// `read_quorum_size + write_quorum_size > n`. A small write quorum makes deciding cheap and
/// electing a leader dear.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(any(feature = "serde", feature = "toml_config"), derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FlexibleQuorum {
    /// Number of servers, the leader included, that must promise a ballot.
    pub read_quorum_size: usize,
    /// Number of servers, the leader included, that must accept an entry.
    pub write_quorum_size: usize,
}

/// The quorums of one configuration.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quorum {
    sizes: FlexibleQuorum,
}

impl Quorum {
    /// The quorums of a cluster of `n` servers: majorities unless `flexible` says otherwise.
    pub(crate) fn of(n: usize, flexible: Option<FlexibleQuorum>) -> Self {
        let majority = n / 2 + 1;
        let sizes = flexible
            .unwrap_or(FlexibleQuorum { read_quorum_size: majority, write_quorum_size: majority });
        Self { sizes }
    }

    pub(crate) fn sizes(&self) -> FlexibleQuorum {
        self.sizes
    }

    /// Whether so many servers, the leader included, are enough to prepare a ballot.
    pub(crate) fn can_prepare(&self, servers: usize) -> bool {
        servers >= self.sizes.read_quorum_size
    }

    /// Whether so many servers, the leader included, are enough to decide.
    pub(crate) fn can_accept(&self, servers: usize) -> bool {
        servers >= self.sizes.write_quorum_size
    }

    /// The largest index that a write quorum has reached, given the index of every server.
    /// Invariant I6: `accepted` holds each server of the configuration at most once.
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
    use super::{FlexibleQuorum, Quorum};

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
