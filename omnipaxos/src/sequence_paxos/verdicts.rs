//! Answers to offers that are not taken.

use crate::{
    ids::NodeId,
    messages::sequence_paxos::{Verdict, VerdictReason},
};

/// The most answers that wait for a drain. What gets none is offered again.
const MOST_VERDICTS: usize = 1024;

/// What is to be answered with the next drain.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdicts {
    due: Vec<(NodeId, Verdict)>,
}

impl Verdicts {
    /// Answers `to`, together with the answer before where they follow on each other.
    pub(super) fn push(&mut self, to: NodeId, verdict: Verdict) {
        if let Some((last_to, last)) = self.due.last_mut() {
            if *last_to == to && follows(last, &verdict) {
                last.count += verdict.count;
                return;
            }
        }
        if self.due.len() < MOST_VERDICTS {
            self.due.push((to, verdict));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Hands over all.
    pub(super) fn take(&mut self) -> Vec<(NodeId, Verdict)> {
        std::mem::take(&mut self.due)
    }
}

/// Whether an answer goes on where the one before ends.
fn follows(last: &Verdict, next: &Verdict) -> bool {
    let same_reason = match (&last.reason, &next.reason) {
        (VerdictReason::Decided(first), VerdictReason::Decided(idx)) => {
            first.checked_add(last.count) == Some(*idx)
        }
        (VerdictReason::DecidedBefore(before), VerdictReason::DecidedBefore(idx)) => before == idx,
        (VerdictReason::Unknown(_), VerdictReason::Unknown(_))
        | (VerdictReason::Refused(_), VerdictReason::Refused(_)) => last.reason == next.reason,
        (
            VerdictReason::Decided(_)
            | VerdictReason::DecidedBefore(_)
            | VerdictReason::Unknown(_)
            | VerdictReason::Refused(_),
            VerdictReason::Decided(_)
            | VerdictReason::DecidedBefore(_)
            | VerdictReason::Unknown(_)
            | VerdictReason::Refused(_),
        ) => false,
    };
    same_reason && last.first.later(last.count) == next.first
}

#[cfg(test)]
mod tests {
    use super::{Verdict, VerdictReason, Verdicts, MOST_VERDICTS};
    use crate::identity::Stamp;
    use crate::proposals::ProposalId;

    fn verdict(number: u64, reason: VerdictReason) -> Verdict {
        let first = ProposalId { origin: 1, incarnation: 1, number };
        Verdict { config_id: 1, first, count: 1, reason, stamp: Stamp::default() }
    }

    #[test]
    fn what_follows_travels_together() {
        let mut verdicts = Verdicts::default();
        for (number, reason) in [
            (4, VerdictReason::Decided(7)),
            (5, VerdictReason::Decided(8)),
            (6, VerdictReason::Decided(8)),
            (7, VerdictReason::Unknown(3)),
            (8, VerdictReason::Unknown(3)),
            (8, VerdictReason::Unknown(3)),
        ] {
            verdicts.push(2, verdict(number, reason));
        }
        let counts: Vec<u64> = verdicts.take().iter().map(|(_, verdict)| verdict.count).collect();
        assert_eq!(counts, [2, 1, 2, 1]);
        assert!(verdicts.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut verdicts = Verdicts::default();
        for number in 0..3000 {
            verdicts.push(2, verdict(2 * number, VerdictReason::Unknown(0)));
        }
        assert_eq!(verdicts.take().len(), MOST_VERDICTS);
    }
}
