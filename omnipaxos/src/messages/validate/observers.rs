//! The observers that this server serves.

use crate::ids::NodeId;
use std::collections::BTreeMap;

/// Heartbeat rounds without a message after which an observer is removed.
const ROUNDS_KEPT: u32 = 10;

/// The observers that this server serves: those that ask it, and those whose proposals and reads it
/// relays. Bounded by a setting.
#[derive(Clone, Debug)]
pub(crate) struct Observers {
    limit: usize,
    /// For each observer the number of rounds since its last message.
    silent_rounds: BTreeMap<NodeId, u32>,
}

impl Observers {
    pub(super) fn at_most(limit: usize) -> Self {
        Self { limit, silent_rounds: BTreeMap::new() }
    }

    /// Returns whether no server may observe this one.
    #[inline]
    pub(super) fn are_refused(&self) -> bool {
        self.limit == 0
    }

    pub(crate) fn contains(&self, pid: NodeId) -> bool {
        self.silent_rounds.contains_key(&pid)
    }

    /// Returns whether `pid` is one of the observers, or may become one.
    pub(super) fn has_place_for(&self, pid: NodeId) -> bool {
        pid != 0 && (self.contains(pid) || self.silent_rounds.len() < self.limit)
    }

    /// Records a message of an observer, received directly or through another server.
    pub(super) fn hear(&mut self, pid: NodeId) {
        if self.has_place_for(pid) {
            self.silent_rounds.insert(pid, 0);
        }
    }

    /// Ends a heartbeat round: removes observers that were silent for too long.
    pub(crate) fn end_round(&mut self) {
        self.silent_rounds.retain(|_, rounds| {
            *rounds += 1;
            *rounds <= ROUNDS_KEPT
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Observers, ROUNDS_KEPT};

    #[test]
    fn a_place_is_free_when_its_observer_is_silent() {
        let mut observers = Observers::at_most(2);
        [7, 8, 9, 0].into_iter().for_each(|pid| observers.hear(pid));
        assert!(observers.contains(7) && observers.contains(8));
        assert!(!observers.has_place_for(9) && !observers.has_place_for(0));
        for _ in 0..ROUNDS_KEPT {
            observers.end_round();
            observers.hear(8);
        }
        assert!(observers.contains(7));
        observers.end_round();
        assert!(!observers.contains(7) && observers.has_place_for(9));
    }

    #[test]
    fn by_default_nobody_observes() {
        let mut observers = Observers::at_most(0);
        observers.hear(7);
        assert!(observers.are_refused() && !observers.contains(7));
    }
}
