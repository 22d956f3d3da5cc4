//! How proposals ended, until the user asks.

use crate::proposals::{Outcome, ProposalId};
use std::collections::VecDeque;

/// Outcomes in the order in which they became known.
#[derive(Clone, Debug)]
pub(super) struct Outcomes {
    ended: VecDeque<(ProposalId, Outcome)>,
    /// So many are kept for a user who does not ask: as many as can end at once.
    most: u64,
}

impl Outcomes {
    /// None yet, and never more than `most`.
    pub(super) fn at_most(most: u64) -> Self {
        Self { ended: VecDeque::new(), most }
    }

    pub(super) fn push(&mut self, id: ProposalId, outcome: Outcome) {
        if self.ended.len() as u64 >= self.most {
            self.ended.pop_front();
        }
        self.ended.push_back((id, outcome));
    }

    /// Returns the oldest.
    pub(super) fn pop(&mut self) -> Option<(ProposalId, Outcome)> {
        self.ended.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Outcomes, ProposalId};

    #[test]
    fn the_oldest_are_forgotten() {
        let mut outcomes = Outcomes::at_most(9);
        for number in 0..12 {
            let id = ProposalId { origin: 1, incarnation: 1, number };
            outcomes.push(id, Outcome::Decided(number));
        }
        assert_eq!(outcomes.ended.len(), 9);
        assert_eq!(outcomes.pop().map(|(_, outcome)| outcome), Some(Outcome::Decided(3)));
    }
}
