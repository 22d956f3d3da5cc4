//! How long a leader waits for its followers before it writes.
//!
//! Followers that are as quick as the leader decide entries without its write. It then handles inputs
//! instead of waiting for its disk, writes more at once, and leaves the disk to others. It does not wait
//! for slower followers.

use omnipaxos::status::WriteUrgency;
use std::time::Duration;
use tokio::time::Instant;

/// Followers may take this time at least.
const LEAST_WAIT: Duration = Duration::from_millis(1);

/// Followers may take as long as this number of writes.
const WRITES: u32 = 3;

/// A write waits for a tick at most, and never longer than this.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// The time without waiting after followers were too slow. It doubles each time.
const LEAST_CAUTION: Duration = Duration::from_millis(10);
const LONGEST_CAUTION: Duration = Duration::from_secs(10);

/// Decides when entries are written that followers may decide without that.
#[derive(Debug)]
pub(super) struct Patience {
    /// The longest time that a write waits.
    longest: Duration,
    /// The time that a write takes: a moving average.
    write: Duration,
    /// When the entries began to wait for the write.
    first: Option<Instant>,
    /// The decided index, and when it last grew or the entries began to wait.
    undecided: Option<(u64, Instant)>,
    /// There is no waiting before.
    cautious_until: Instant,
    caution: Duration,
}

impl Patience {
    pub(super) fn new(tick: Duration) -> Self {
        Self {
            longest: tick.min(LONGEST_WAIT),
            write: Duration::ZERO,
            first: None,
            undecided: None,
            cautious_until: Instant::now(),
            caution: LEAST_CAUTION,
        }
    }

    /// Notes how long a write took.
    pub(super) fn wrote(&mut self, took: Duration) {
        self.write = (self.write * 7 + took) / 8;
    }

    /// Returns until when the write may wait, if it need not be now.
    pub(super) fn deadline(&mut self, urgency: WriteUrgency, decided_idx: u64) -> Option<Instant> {
        let now = Instant::now();
        let deadline = match urgency {
            WriteUrgency::Later => {
                self.note_decided(decided_idx, now);
                self.undecided = None;
                Some(*self.first.get_or_insert(now) + self.longest)
            }
            WriteUrgency::UnlessDecided if self.trusts(now) => {
                self.note_decided(decided_idx, now);
                let first = *self.first.get_or_insert(now) + self.longest;
                let (_, since) = *self.undecided.get_or_insert((decided_idx, now));
                let decided_by = since + self.followers_may_take();
                if decided_by <= now {
                    self.be_cautious(now);
                }
                Some(first.min(decided_by))
            }
            // Also an urgency of a later version of the core.
            _now => None,
        };
        let deadline = deadline.filter(|deadline| *deadline > now);
        if deadline.is_none() {
            self.first = None;
            self.undecided = None;
        }
        deadline
    }

    /// Returns whether followers may be as quick as the disk of this server, and this disk is quick
    /// enough that the write can follow in the same tick.
    fn trusts(&self, now: Instant) -> bool {
        self.cautious_until <= now && self.followers_may_take() < self.longest
    }

    fn followers_may_take(&self) -> Duration {
        LEAST_WAIT.max(self.write * WRITES)
    }

    /// Trusts the followers more if they have decided entries in time.
    fn note_decided(&mut self, decided_idx: u64, now: Instant) {
        if let Some((idx, since)) = self.undecided {
            if decided_idx > idx {
                self.undecided = Some((decided_idx, now));
                match now.duration_since(since) > self.followers_may_take() {
                    true => self.be_cautious(now),
                    false => self.caution = LEAST_CAUTION,
                }
            }
        }
    }

    fn be_cautious(&mut self, now: Instant) {
        self.cautious_until = now + self.caution;
        self.caution = LONGEST_CAUTION.min(self.caution * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::Patience;
    use omnipaxos::status::WriteUrgency::{Later, Now, UnlessDecided};
    use std::time::Duration;
    use tokio::time::{advance, Instant};

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn patience() -> Patience {
        Patience::new(10 * MILLISECOND)
    }

    #[tokio::test(start_paused = true)]
    async fn decided_entries_wait_for_a_tick() {
        let mut patience = patience();
        let until = Some(Instant::now() + 10 * MILLISECOND);
        assert_eq!(patience.deadline(Later, 1), until);
        advance(9 * MILLISECOND).await;
        assert_eq!(patience.deadline(Later, 2), until, "counted from the first");
        advance(MILLISECOND).await;
        assert_eq!(patience.deadline(Later, 3), None);
        assert!(patience.deadline(Later, 4).is_some(), "after that write");
        assert_eq!(patience.deadline(Now, 4), None);
    }

    #[tokio::test(start_paused = true)]
    async fn quick_followers_are_waited_for() {
        let mut patience = patience();
        for decided_idx in 0..9 {
            let until = Some(Instant::now() + MILLISECOND);
            assert_eq!(patience.deadline(UnlessDecided, decided_idx), until);
            advance(MILLISECOND).await;
        }
        assert!(patience.deadline(UnlessDecided, 9).is_some());
        advance(MILLISECOND).await;
        assert_eq!(patience.deadline(UnlessDecided, 10), None, "a tick has passed");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_followers_are_waited_for_less_and_less() {
        let mut patience = patience();
        let mut pauses = Vec::new();
        for _failure in 0..4 {
            assert!(patience.deadline(UnlessDecided, 0).is_some());
            advance(MILLISECOND).await;
            assert_eq!(patience.deadline(UnlessDecided, 0), None);
            let failed = Instant::now();
            while patience.deadline(UnlessDecided, 0).is_none() {
                advance(MILLISECOND).await;
            }
            pauses.push(failed.elapsed().as_millis());
            assert_eq!(patience.deadline(Now, 0), None);
        }
        assert_eq!(pauses, [10, 20, 40, 80]);
        // In time.
        assert!(patience.deadline(UnlessDecided, 0).is_some());
        assert!(patience.deadline(Later, 1).is_some());
        assert_eq!(patience.deadline(Now, 1), None);
        assert!(patience.deadline(UnlessDecided, 1).is_some());
        // Decided, but late: as bad as not decided.
        advance(3 * MILLISECOND).await;
        assert!(patience.deadline(Later, 2).is_some());
        assert_eq!(patience.deadline(Now, 2), None);
        assert_eq!(patience.deadline(UnlessDecided, 2), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_disk_writes_at_once() {
        let mut patience = patience();
        for _write in 0..100 {
            patience.wrote(3 * MILLISECOND);
        }
        assert!(patience.deadline(UnlessDecided, 0).is_some(), "three writes are less than a tick");
        assert_eq!(patience.deadline(Now, 0), None);
        for _write in 0..100 {
            patience.wrote(4 * MILLISECOND);
        }
        assert_eq!(patience.deadline(UnlessDecided, 0), None);
    }
}
