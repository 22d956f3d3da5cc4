//! The state of a leadership transfer.

use crate::{
    clock::{Tick, Timer},
    ids::NodeId,
};

/// A transfer at the leader.
#[derive(Clone, Debug)]
pub(in crate::sequence_paxos) struct Transfer {
    to: NodeId,
    step: Step,
    /// Expires when the transfer is cancelled.
    timer: Timer,
    /// Whether the next output asks the other server.
    is_due: bool,
}

/// The step of a transfer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The other server lacks entries before this index: the length of the log at the beginning of
    /// this step.
    CatchingUp(u64),
    /// The rest is on its way, and the leader appends nothing.
    HoldingBack,
    /// The other server has accepted all entries.
    Asked,
}

/// The progress of the other server, as the leader knows it.
#[derive(Copy, Clone, Debug)]
pub(super) struct Target {
    pub(super) accepted_idx: u64,
    /// Whether the whole log was sent to the server.
    pub(super) is_all_sent: bool,
    pub(super) is_reachable: bool,
}

/// The result of progress at the other server.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Advanced {
    Waits,
    /// The other server has all entries, and is asked to take over.
    Asks,
}

impl Transfer {
    /// Begins a transfer to `to`, with a timeout in ticks, at a leader whose log has length `len`.
    pub(super) fn new(to: NodeId, len: u64, timeout_ticks: u64) -> Self {
        let timer = Timer::every(timeout_ticks);
        Self { to, step: Step::CatchingUp(len), timer, is_due: false }
    }

    /// Returns the other server.
    pub(super) fn to(&self) -> NodeId {
        self.to
    }

    /// Returns whether proposals wait for the transfer.
    pub(in crate::sequence_paxos) fn holds_back(&self) -> bool {
        match self.step {
            Step::CatchingUp(_) => false,
            Step::HoldingBack | Step::Asked => true,
        }
    }

    /// Returns whether a request is due in the next output.
    pub(in crate::sequence_paxos) fn is_due(&self) -> bool {
        self.is_due
    }

    /// Returns the server to ask with this output.
    pub(super) fn take_due(&mut self) -> Option<NodeId> {
        std::mem::take(&mut self.is_due).then_some(self.to)
    }

    /// Lets one tick pass. It expires when the transfer must be cancelled.
    pub(super) fn tick(&mut self) -> Tick {
        self.timer.tick()
    }

    /// Returns the number of ticks after which the transfer is cancelled, or can continue; at least
    /// 1. `target` is `None` if the leader does not know the progress of the other server.
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

    /// Continues as far as the progress of the other server allows. `len` is the present length of
    /// the log.
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

    /// Returns the next step, if the transfer can continue.
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

    /// Ends a heartbeat round: asks again. If the other server does not answer, proposals do not
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

    /// A server that has accepted this many entries, and to which all were sent.
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
        assert_eq!(transfer.timeout(Some(target(5)), 7), 1, "it can continue");
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
