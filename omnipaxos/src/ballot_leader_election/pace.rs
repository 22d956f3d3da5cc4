//! The length of a heartbeat round.
//!
//! A round is useless if the needed replies arrive after its end. Then the next rounds are longer,
//! and shorter again once replies arrive sooner (paper §5.2).

use crate::clock::Tick;
use std::collections::VecDeque;

/// The length of the rounds of one server.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    shortest: u64,
    longest: u64,
    /// The length of the present round, in ticks.
    length: u64,
    /// Number of ticks by which the present round is longer, to be out of step with others.
    extra: u64,
    elapsed: u64,
    /// The previous rounds and their lengths, the latest first, as far back as a round may be long.
    before: VecDeque<(u32, u64)>,
    /// Number of ticks that the slowest reply to the present round took.
    slowest: u64,
    /// Number of ticks that the slowest late reply took, of those that arrived in this round.
    late: Option<u64>,
}

/// Whether replies to the present round may still arrive.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    ForReplies,
    ForNone,
}

/// Whether a reply to an earlier round counts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// A round may be as long as this reply took.
    Reply,
    /// The reply counts for no round.
    OutOfDate,
}

impl Waits {
    pub(super) fn if_not(all_answered: bool) -> Self {
        match all_answered {
            true => Waits::ForNone,
            false => Waits::ForReplies,
        }
    }
}

impl Pace {
    /// Creates rounds of `shortest` ticks, which may become `factor` times as long.
    pub(super) fn new(shortest: u64, factor: u64) -> Self {
        Self {
            shortest,
            longest: shortest.saturating_mul(factor),
            length: shortest,
            extra: 0,
            elapsed: 0,
            before: VecDeque::new(),
            slowest: 0,
            late: None,
        }
    }

    /// Lets one tick pass. It expires at the end of a round. A lengthened round ends as soon as all
    /// replies that it `waits` for have arrived.
    pub(super) fn tick(&mut self, waits: Waits) -> Tick {
        self.elapsed = self.elapsed.saturating_add(1);
        match self.elapsed < self.length_if(waits) {
            true => Tick::Running,
            false => Tick::Expired,
        }
    }

    /// Returns the number of ticks after which the round ends; at least 1.
    pub(super) fn remaining(&self, waits: Waits) -> u64 {
        self.length_if(waits).saturating_sub(self.elapsed).max(1)
    }

    /// Lets ticks pass, fewer than [`remaining`](Self::remaining).
    pub(super) fn pass(&mut self, ticks: u64) {
        self.elapsed = self.elapsed.saturating_add(ticks);
    }

    fn length_if(&self, waits: Waits) -> u64 {
        let length = match waits {
            Waits::ForReplies => self.length,
            Waits::ForNone => self.shortest,
        };
        length.saturating_add(self.extra)
    }

    /// Makes the round that has begun longer, by 0 to a quarter of the shortest, or by 0 or 1 tick. `number` chooses
    /// by how much.
    pub(super) fn vary(&mut self, number: u64) {
        let most = (self.shortest / 4).max(1);
        self.extra = number % (most + 1);
    }

    /// Returns whether the present round may be longer than the shortest.
    pub(super) fn is_lengthened(&self) -> bool {
        self.length > self.shortest
    }

    /// Records a reply to the present round.
    pub(super) fn note_reply(&mut self) {
        self.slowest = self.elapsed;
    }

    /// Records a reply to an earlier round.
    pub(super) fn note_late_reply(&mut self, round: u32) -> Late {
        let mut ticks = self.elapsed;
        for (earlier, length) in &self.before {
            ticks = ticks.saturating_add(*length);
            if *earlier == round {
                self.late = self.late.max(Some(ticks));
                return Late::Reply;
            }
        }
        Late::OutOfDate
    }

    /// Ends the round. If the server `missed` replies that arrived late, the next round is long
    /// enough for them. Otherwise it is shortened halfway to the time of the slowest reply.
    pub(super) fn end_round(&mut self, round: u32, missed: bool) {
        let margin = self.shortest / 2;
        match self.late.filter(|_| missed) {
            Some(ticks) => {
                let needed = ticks.saturating_add(margin).min(self.longest);
                self.length = self.length.max(needed.min(self.length.saturating_mul(2)));
            }
            None => {
                let enough = self.slowest.saturating_add(margin).max(self.shortest);
                self.length -= self.length.saturating_sub(enough).div_ceil(2);
            }
        }
        self.before.push_front((round, self.elapsed));
        let mut ticks = 0_u64;
        let longest = self.longest;
        self.before.retain(|(_, length)| {
            let is_recent = ticks < longest;
            ticks = ticks.saturating_add(*length);
            is_recent
        });
        (self.elapsed, self.extra, self.slowest, self.late) = (0, 0, 0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::{Late, Pace, Tick, Waits};

    /// Lets a round pass, with a reply after `reply_after` ticks. Returns its length.
    fn round(pace: &mut Pace, round: u32, reply_after: Option<u64>, missed: bool) -> u64 {
        let mut ticks = 0;
        loop {
            let tick = pace.tick(Waits::ForReplies);
            ticks += 1;
            if Some(ticks) == reply_after {
                pace.note_reply();
            }
            if tick == Tick::Expired {
                pace.end_round(round, missed);
                return ticks;
            }
        }
    }

    fn ticks(pace: &mut Pace, count: u64) {
        for _ in 0..count {
            pace.tick(Waits::ForReplies);
        }
    }

    #[test]
    fn a_late_reply_that_was_missed_lengthens_the_next_round() {
        let mut pace = Pace::new(10, 8);
        round(&mut pace, 1, None, true);
        round(&mut pace, 2, None, true);
        ticks(&mut pace, 4);
        assert_eq!(pace.note_late_reply(1), Late::Reply);
        assert_eq!(pace.note_late_reply(7), Late::OutOfDate);
        pace.end_round(3, true);
        ticks(&mut pace, 10);
        assert_eq!(pace.note_late_reply(2), Late::Reply);
        assert_eq!(pace.length, 20, "twice as long");
        pace.end_round(4, true);
        assert_eq!(round(&mut pace, 5, Some(24), false), 29, "24 ticks, and half a round");
        assert_eq!(round(&mut pace, 6, Some(24), false), 29, "as long as it is needed");
    }

    #[test]
    fn a_round_is_shortened_when_replies_come_sooner() {
        let mut pace = Pace::new(10, 8);
        pace.length = 50;
        let lengths: Vec<u64> = (3..9).map(|n| round(&mut pace, n, Some(2), false)).collect();
        assert_eq!(lengths, [50, 30, 20, 15, 12, 11]);
        assert_eq!(round(&mut pace, 9, None, true), 10);
    }

    #[test]
    fn a_long_round_ends_when_all_have_answered() {
        let mut pace = Pace::new(10, 8);
        pace.length = 50;
        let expired: Vec<bool> =
            (0..10).map(|_| pace.tick(Waits::ForNone) == Tick::Expired).collect();
        assert_eq!(expired, [vec![false; 9], vec![true]].concat());
    }

    #[test]
    fn the_end_of_a_round_is_known_before() {
        for waits in [Waits::ForReplies, Waits::ForNone] {
            let mut pace = Pace::new(10, 8);
            pace.length = 50;
            for _ in 0..120 {
                let mut at_once = pace.clone();
                let remaining = pace.remaining(waits);
                at_once.pass(remaining - 1);
                assert_eq!(at_once.remaining(waits), 1, "{at_once:?}");
                assert_eq!(pace.tick(waits) == Tick::Expired, remaining == 1);
            }
        }
    }

    #[test]
    fn a_round_may_vary() {
        for (shortest, number, expected) in [
            (10, 0, 10),
            (10, 1, 11),
            (10, 2, 12),
            (10, 5, 12),
            (1, 1, 2),
            (1, 2, 1),
            (400, 100, 500),
        ] {
            let mut pace = Pace::new(shortest, 8);
            pace.vary(number);
            assert!(!pace.is_lengthened());
            assert_eq!(pace.remaining(Waits::ForNone), expected);
            assert_eq!(round(&mut pace, 1, None, false), expected, "{shortest} {number}");
            assert_eq!(round(&mut pace, 2, None, false), shortest, "only that round");
        }
    }

    #[test]
    fn a_late_reply_that_is_not_missed_changes_nothing() {
        let mut pace = Pace::new(10, 8);
        round(&mut pace, 1, None, true);
        assert_eq!(pace.note_late_reply(1), Late::Reply);
        pace.end_round(2, false);
        assert_eq!(round(&mut pace, 3, None, true), 10);
    }

    #[test]
    fn the_length_is_bounded() {
        let mut pace = Pace::new(10, 3);
        for n in 1..40 {
            round(&mut pace, n, None, true);
            ticks(&mut pace, 9);
            pace.note_late_reply(n.saturating_sub(2));
        }
        assert!(pace.length <= 30 && pace.before.len() <= 4, "{pace:?}");
        assert!(pace.is_lengthened());
        let mut pace = Pace::new(10, 3);
        (1..9).for_each(|n| assert_eq!(round(&mut pace, n, None, true), 10));
        assert!(!pace.is_lengthened());
        assert_eq!(pace.before, [(8, 10), (7, 10), (6, 10)], "as far back as a round may be long");
        assert_eq!(Pace::new(10, 1).longest, 10);
    }
}
