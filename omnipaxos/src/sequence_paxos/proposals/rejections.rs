//! The rejections of forwarded proposals.

use crate::{
    ids::NodeId,
    messages::sequence_paxos::{ProposalRejection, RejectionReason},
};

/// The largest number of rejections that wait for an output. A forward without an answer is
/// repeated.
const MOST_REJECTIONS: usize = 1024;

/// The rejections that the next output sends.
#[derive(Clone, Debug, Default)]
pub(super) struct Rejections {
    due: Vec<(NodeId, ProposalRejection)>,
}

impl Rejections {
    /// Adds a rejection for `to`. It extends the last one if their ids are consecutive.
    pub(super) fn push(&mut self, to: NodeId, rejection: ProposalRejection) {
        if let Some((last_to, last)) = self.due.last_mut() {
            if *last_to == to && follows(last, &rejection) {
                last.count += rejection.count;
                last.hops = last.hops.max(rejection.hops);
                return;
            }
        }
        if self.due.len() < MOST_REJECTIONS {
            self.due.push((to, rejection));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Takes all rejections.
    pub(super) fn take(&mut self) -> Vec<(NodeId, ProposalRejection)> {
        std::mem::take(&mut self.due)
    }
}

/// Returns whether a rejection continues the last one.
fn follows(last: &ProposalRejection, next: &ProposalRejection) -> bool {
    let same_reason = match (&last.reason, &next.reason) {
        (RejectionReason::Decided(first), RejectionReason::Decided(idx)) => {
            first.checked_add(last.count) == Some(*idx)
        }
        (RejectionReason::DecidedBefore(before), RejectionReason::DecidedBefore(idx)) => {
            before == idx
        }
        (RejectionReason::Unknown(_), RejectionReason::Unknown(_))
        | (RejectionReason::Refused(_), RejectionReason::Refused(_)) => last.reason == next.reason,
        (
            RejectionReason::Decided(_)
            | RejectionReason::DecidedBefore(_)
            | RejectionReason::Unknown(_)
            | RejectionReason::Refused(_),
            RejectionReason::Decided(_)
            | RejectionReason::DecidedBefore(_)
            | RejectionReason::Unknown(_)
            | RejectionReason::Refused(_),
        ) => false,
    };
    same_reason && last.first.later(last.count) == next.first
}

#[cfg(test)]
mod tests {
    use super::{ProposalRejection, RejectionReason, Rejections, MOST_REJECTIONS};
    use crate::identity::Stamp;
    use crate::proposals::ProposalId;

    fn rejection(number: u64, reason: RejectionReason) -> ProposalRejection {
        let first = ProposalId { origin: 1, incarnation: 1, number };
        ProposalRejection {
            config_id: 1,
            first,
            count: 1,
            reason,
            hops: 0,
            stamp: Stamp::default(),
        }
    }

    #[test]
    fn what_follows_travels_together() {
        let mut rejections = Rejections::default();
        for (number, reason) in [
            (4, RejectionReason::Decided(7)),
            (5, RejectionReason::Decided(8)),
            (6, RejectionReason::Decided(8)),
            (7, RejectionReason::Unknown(3)),
            (8, RejectionReason::Unknown(3)),
            (8, RejectionReason::Unknown(3)),
            (9, RejectionReason::DecidedBefore(4)),
            (10, RejectionReason::DecidedBefore(4)),
            (11, RejectionReason::DecidedBefore(5)),
        ] {
            rejections.push(2, rejection(number, reason));
        }
        let counts: Vec<u64> =
            rejections.take().iter().map(|(_, rejection)| rejection.count).collect();
        assert_eq!(counts, [2, 1, 2, 1, 2, 1]);
        assert!(rejections.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut rejections = Rejections::default();
        for number in 0..3000 {
            rejections.push(2, rejection(2 * number, RejectionReason::Unknown(0)));
        }
        assert_eq!(rejections.take().len(), MOST_REJECTIONS);
    }
}
