//! The peers whose clocks run.
//!
//! A server notices at the end of its rounds that its leader is lost. If its clock stands still, it
//! never notices, and continues to answer that it is happy. But it sends no requests, and that
//! shows the fault.

use crate::ids::NodeId;
use std::collections::BTreeMap;

/// The time of the last request of each peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Clocks {
    by_pid: BTreeMap<NodeId, Gap>,
}

/// The number of rounds of this server between requests of a peer.
#[derive(Copy, Clone, Debug, Default)]
struct Gap {
    /// Since the last request.
    present: u32,
    /// The longest so far, up to [`LONGEST`].
    longest: u32,
}

/// A peer whose clock is slower by more than this factor counts as one whose clock stands still.
const LONGEST: u32 = 32;

/// The number of rounds by which the time without a request may exceed the longest so far: requests
/// may be lost.
const MARGIN: u32 = 8;

impl Clocks {
    /// Records a request of a peer.
    pub(super) fn record(&mut self, from: NodeId) {
        let gap = self.by_pid.entry(from).or_default();
        gap.longest = gap.longest.max(gap.present).min(LONGEST);
        gap.present = 0;
    }

    /// Ends a round.
    pub(super) fn end_round(&mut self, peers: &[NodeId]) {
        for peer in peers {
            let gap = self.by_pid.entry(*peer).or_default();
            gap.present = gap.present.saturating_add(1);
        }
    }

    /// Returns whether a request of this peer came in the round that has just ended. After the first round of
    /// this server, each peer counts as one that sent one.
    pub(super) fn asked(&self, peer: NodeId) -> bool {
        self.by_pid.get(&peer).is_some_and(|gap| gap.present <= 1)
    }

    /// Returns whether the clock of a peer runs, as far as its requests show.
    pub(super) fn runs(&self, peer: NodeId) -> bool {
        self.by_pid.get(&peer).is_none_or(|gap| gap.present <= gap.longest + MARGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::Clocks;

    #[test]
    fn a_clock_runs_while_its_server_asks_about_as_often_as_before() {
        let mut clocks = Clocks::default();
        let mut pass = |rounds: u32, asks: bool| {
            if asks {
                clocks.record(2);
            }
            (0..rounds).for_each(|_| clocks.end_round(&[2]));
            clocks.runs(2)
        };
        assert!(pass(8, false));
        assert!(!pass(1, false), "it never asked");
        assert!(pass(17, true), "it was silent for nine rounds before");
        assert!(!pass(1, false));
        assert!(!pass(100, true) && !pass(41, true), "there is a limit");
        assert!(pass(40, true));
    }
}
