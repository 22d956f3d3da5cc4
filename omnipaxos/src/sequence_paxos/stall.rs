//! Whether what waits at a server does not move.
//!
//! Heartbeat rounds have a fixed length. A link may open and close in step with them, so that the same message
//! is lost in each round. A server that notices that nothing moves changes the length of its rounds a little.

use super::SequencePaxos;
use crate::{entry::Entry, proposals::ProposalId, storage::Storage};

/// After this number of rounds in which something waited and did not move, a server counts as stalled.
const ROUNDS_UNTIL_STALLED: u32 = 8;

/// The first of each kind that waits here at the end of a round. As long as it is the same, nothing
/// of its kind has moved.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Waiting {
    /// The decided index, if entries are not decided, or wait to be appended or forwarded.
    entry: Option<u64>,
    /// The first proposal of this server that has not ended.
    proposal: Option<ProposalId>,
    /// The number up to which reads of this server are ready, if others wait.
    read: Option<u64>,
}

/// For how long what waits has not moved.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Stall {
    waiting: Waiting,
    entry_rounds: u32,
    proposal_rounds: u32,
    read_rounds: u32,
}

impl Stall {
    /// Ends a round.
    fn end_round(&mut self, waiting: Waiting) {
        let before = std::mem::replace(&mut self.waiting, waiting);
        count(&mut self.entry_rounds, before.entry, waiting.entry);
        count(&mut self.proposal_rounds, before.proposal, waiting.proposal);
        count(&mut self.read_rounds, before.read, waiting.read);
    }

    fn is_stalled(&self) -> bool {
        self.entry_rounds.max(self.proposal_rounds).max(self.read_rounds) >= ROUNDS_UNTIL_STALLED
    }
}

/// Counts a round, if the same as before waits.
fn count<W: PartialEq>(rounds: &mut u32, before: Option<W>, now: Option<W>) {
    *rounds = match now.is_some() && now == before {
        true => rounds.saturating_add(1),
        false => 0,
    };
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Ends a heartbeat round.
    pub(super) fn end_round_of_stall(&mut self) {
        let decided_idx = self.log.decided_idx();
        let entries_wait = decided_idx < self.log.len() || self.proposals.are_queued();
        let waiting = Waiting {
            entry: entries_wait.then_some(decided_idx),
            proposal: self.proposals.first_pending(),
            read: self.reads.ready_if_waiting(),
        };
        self.stall.end_round(waiting);
    }

    /// Returns whether what waits here has not moved for some rounds.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stall.is_stalled()
    }
}

#[cfg(test)]
mod tests {
    use super::{ProposalId, Stall, Waiting};

    fn entry(idx: u64) -> Waiting {
        Waiting { entry: Some(idx), ..Default::default() }
    }

    fn proposal(number: u64) -> Waiting {
        let id = ProposalId { origin: 1, incarnation: 1, number };
        Waiting { proposal: Some(id), ..Default::default() }
    }

    fn read(number: u64) -> Waiting {
        Waiting { read: Some(number), ..Default::default() }
    }

    /// Returns whether a server is stalled after rounds in which these wait.
    fn is_stalled(rounds: impl IntoIterator<Item = Waiting>) -> bool {
        let mut stall = Stall::default();
        rounds.into_iter().for_each(|waiting| stall.end_round(waiting));
        stall.is_stalled()
    }

    #[test]
    fn a_server_is_stalled_if_something_waits_and_does_not_move() {
        for waiting in [entry(0), entry(5), proposal(3), read(0)] {
            assert!(!is_stalled([waiting; 8]), "{waiting:?}");
            assert!(is_stalled([waiting; 9]), "{waiting:?}");
        }
        assert!(!is_stalled([Waiting::default(); 20]), "nothing waits");
        assert!(!is_stalled((0..20).map(entry)), "entries are decided");
        assert!(!is_stalled((0..20).map(proposal)), "proposals end");
        assert!(!is_stalled((0..20).map(read)), "reads are ready");
        let reads_only = (0..20).map(|n| Waiting { read: Some(n), ..proposal(3) });
        assert!(is_stalled(reads_only), "one kind is enough");
        assert!(!is_stalled([vec![entry(0); 20], vec![entry(1)]].concat()), "it has moved");
        assert!(!is_stalled([vec![entry(0); 20], vec![Waiting::default()]].concat()));
    }
}
