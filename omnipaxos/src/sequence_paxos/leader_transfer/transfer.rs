//! How far a transfer of leadership is.

use crate::{
    clock::{Tick, Timer},
    ids::NodeId,
};

/// A transfer that is under way at the leader.
#[derive(Clone, Debug)]
pub(in crate::sequence_paxos) struct Transfer {
    to: NodeId,
    step: Step,
    /// Expires when it is given up.
    timer: Timer,
    /// Whether the other server is asked with the next output.
    is_due: bool,
}

/// How far a transfer is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The other server lacks some of the log as it was, up to this index, when this step began.
    CatchingUp(u64),
    /// The rest is on its way; nothing more gets into the log.
    HoldingBack,
    /// The other server has accepted all.
    Asked,
}

/// What the leader knows of the other server.
#[derive(Copy, Clone, Debug)]
pub(super) struct Target {
    pub(super) accepted_idx: u64,
    /// Whether the whole log was sent to it.
    pub(super) is_all_sent: bool,
    pub(super) is_reachable: bool,
}

/// What a change at the other server led to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Advanced {
    Waits,
    /// The other server has all, and is asked to take over.
    Asks,
}

impl Transfer {
    /// Begins a transfer to `to`, for so many ticks at most, of a leader whose log has length `len`.
    pub(super) fn new(to: NodeId, len: u64, timeout_ticks: u64) -> Self {
        let timer = Timer::every(timeout_ticks);
        Self { to, step: Step::CatchingUp(len), timer, is_due: false }
    }

    /// The other server.
    pub(super) fn to(&self) -> NodeId {
        self.to
    }

    /// Whether proposals wait for it.
    pub(in crate::sequence_paxos) fn holds_back(&self) -> bool {
        match self.step {
            Step::CatchingUp(_) => false,
            Step::HoldingBack | Step::Asked => true,
        }
    }

    /// Whether the next output must look here.
    pub(in crate::sequence_paxos) fn is_due(&self) -> bool {
        self.is_due
    }

    /// The server to ask with this output.
    pub(super) fn take_due(&mut self) -> Option<NodeId> {
        std::mem::take(&mut self.is_due).then_some(self.to)
    }

    /// Lets one tick pass. Expires when the transfer is to be given up.
    pub(super) fn tick(&mut self) -> Tick {
        self.timer.tick()
    }

    /// The number of ticks after which it is to be given up, or can go on; at least 1. `target` is
    /// `None` where the leader knows nothing of the other server.
    pub(super) fn timeout(&self, target: Option<Target>, len: u64) -> u64 {
        let goes_on = target.is_some_and(|target| self.next_step(target, len).is_some());
        match self.is_due || goes_on {
            true => 1,
            false => self.timer.remaining(),
        }
    }

    /// Lets ticks pass, fewer than [`timeout`](Self::timeout).
    pub(super) fn pass(&mut self, ticks: u64) {
        self.timer.pass(ticks);
    }

    /// Goes on as far as the other server has got with the log, which has length `len` now.
    pub(super) fn advance(&mut self, target: Target, len: u64) -> Advanced {
        let Some(step) = self.next_step(target, len) else {
            return Advanced::Waits;
        };
        self.step = step;
        match step {
            Step::CatchingUp(_) | Step::HoldingBack => Advanced::Waits,
            Step::Asked => {
                self.is_due = true;
                Advanced::Asks
            }
        }
    }

    /// The step that it can go on to, if it can.
    fn next_step(&self, target: Target, len: u64) -> Option<Step> {
        let Target { accepted_idx, is_all_sent, is_reachable } = target;
        let has_all = accepted_idx >= len;
        match self.step {
            Step::CatchingUp(goal) => {
                let goes_on = is_reachable && accepted_idx >= goal && is_all_sent;
                goes_on.then_some(if has_all { Step::Asked } else { Step::HoldingBack })
            }
            Step::HoldingBack => has_all.then_some(Step::Asked),
            Step::Asked => None,
        }
    }

    /// A heartbeat round has ended: asks again. Where the other server is gone, proposals do not
    /// wait for it.
    pub(super) fn end_round(&mut self, is_reachable: bool, len: u64) {
        if !is_reachable {
            self.step = Step::CatchingUp(len);
            self.is_due = false;
        }
        if self.step == Step::Asked {
            self.is_due = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Advanced, Target, Tick, Transfer};

    /// Of a server that has accepted so much; all was sent to it.
    fn target(accepted_idx: u64) -> Target {
        Target { accepted_idx, is_all_sent: true, is_reachable: true }
    }

    #[test]
    fn proposals_wait_once_the_rest_is_on_its_way() {
        let table = [
            (Target { is_all_sent: false, ..target(5) }, false),
            (Target { is_reachable: false, ..target(5) }, false),
            (target(4), false),
            (target(5), true),
            (target(6), true),
        ];
        for (target, holds_back) in table {
            let mut transfer = Transfer::new(2, 5, 9);
            assert_eq!(transfer.advance(target, 7), Advanced::Waits);
            assert_eq!(transfer.holds_back(), holds_back, "{target:?}");
        }
    }

    #[test]
    fn a_server_that_has_all_is_asked_once_a_round() {
        let mut transfer = Transfer::new(2, 5, 9);
        assert_eq!(transfer.advance(target(6), 7), Advanced::Waits);
        assert_eq!((transfer.is_due(), transfer.take_due()), (false, None));
        assert_eq!(transfer.advance(target(7), 7), Advanced::Asks);
        assert_eq!((transfer.take_due(), transfer.take_due()), (Some(2), None));
        assert_eq!(transfer.advance(target(7), 7), Advanced::Waits);
        transfer.end_round(true, 7);
        assert_eq!(transfer.take_due(), Some(2));
    }

    #[test]
    fn proposals_do_not_wait_for_a_server_that_is_gone() {
        let mut transfer = Transfer::new(2, 5, 9);
        transfer.advance(target(7), 7);
        transfer.end_round(false, 7);
        assert!(!transfer.holds_back() && !transfer.is_due());
        assert_eq!(transfer.advance(target(7), 7), Advanced::Asks, "it is back");
    }

    #[test]
    fn it_is_given_up_after_a_while() {
        let mut transfer = Transfer::new(2, 5, 3);
        let ticks = [Tick::Running, Tick::Running, Tick::Expired];
        assert_eq!(ticks.map(|_| transfer.tick()), ticks);
    }

    #[test]
    fn the_tick_that_goes_on_or_gives_up_is_known_before() {
        let mut transfer = Transfer::new(2, 5, 9);
        assert_eq!(transfer.timeout(None, 7), 9);
        assert_eq!(transfer.timeout(Some(target(4)), 7), 9);
        assert_eq!(transfer.timeout(Some(target(5)), 7), 1, "it can go on");
        transfer.advance(target(5), 7);
        transfer.pass(3);
        assert_eq!(transfer.timeout(Some(target(6)), 7), 6);
        assert_eq!(transfer.timeout(Some(target(7)), 7), 1, "it can ask");
        transfer.advance(target(7), 7);
        assert_eq!(transfer.timeout(Some(target(7)), 7), 1, "it asks with the next output");
        transfer.take_due();
        assert_eq!(transfer.timeout(Some(target(7)), 7), 6);
    }
}
