//! How proposals ended, until the user asks.

use crate::proposals::{Outcome, ProposalId};
use std::collections::VecDeque;

/// The most outcomes that are kept for a user who does not ask.
const MOST_OUTCOMES: usize = 1 << 16;

/// Outcomes in the order in which they became known.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcomes {
    ended: VecDeque<(ProposalId, Outcome)>,
}

impl Outcomes {
    pub(super) fn push(&mut self, id: ProposalId, outcome: Outcome) {
        if self.ended.len() == MOST_OUTCOMES {
            self.ended.pop_front();
        }
        self.ended.push_back((id, outcome));
    }

    /// Hands over the oldest.
    pub(super) fn pop(&mut self) -> Option<(ProposalId, Outcome)> {
        self.ended.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Outcomes, ProposalId, MOST_OUTCOMES};

    #[test]
    fn the_oldest_are_forgotten() {
        let mut outcomes = Outcomes::default();
        for number in 0..MOST_OUTCOMES as u64 + 3 {
            let id = ProposalId { origin: 1, incarnation: 1, number };
            outcomes.push(id, Outcome::Decided(number));
        }
        assert_eq!(outcomes.ended.len(), MOST_OUTCOMES);
        assert_eq!(outcomes.pop().map(|(_, outcome)| outcome), Some(Outcome::Decided(3)));
    }
}
