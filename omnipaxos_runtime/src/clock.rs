//! The ticks of a replica, counted by the clock of the machine.

use std::{future::pending, pin::Pin, time::Duration};
use tokio::time::{sleep_until, Instant, Sleep};

/// A timer that is set again and again.
///
/// The runtime wakes itself with a system call when a new timer is due before all others. To set a timer
/// to a later time costs next to nothing.
#[derive(Debug)]
pub(crate) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    pub(crate) fn new() -> Self {
        Self(Box::pin(sleep_until(Instant::now())))
    }

    /// Sleeps until this time, and without one for ever. If the future is dropped, the next call may set another time.
    pub(crate) async fn until(&mut self, time: Option<Instant>) {
        let Some(time) = time else {
            return pending().await;
        };
        if self.0.deadline() != time {
            self.0.as_mut().reset(time);
        }
        self.0.as_mut().await;
    }
}

/// Counts ticks for a node that sleeps between the ticks that do something.
#[derive(Debug)]
pub(crate) struct Clock {
    tick: Duration,
    /// The time of the last counted tick.
    last: Instant,
    alarm: Alarm,
}

impl Clock {
    /// Starts a clock with ticks of this length.
    pub(crate) fn start(tick: Duration) -> Self {
        let tick = tick.max(Duration::from_micros(1));
        Self { tick, last: Instant::now(), alarm: Alarm::new() }
    }

    /// Sleeps until this number of ticks after the last counted tick.
    pub(crate) async fn sleep(&mut self, ticks: u64) {
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        // `None` if it is later than the clock can tell.
        self.alarm.until(self.last.checked_add(self.tick.saturating_mul(ticks))).await;
    }

    /// Returns the ticks since the last call.
    pub(crate) fn count(&mut self) -> u64 {
        let ticks = self.last.elapsed().as_nanos() / self.tick.as_nanos();
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        self.last += self.tick.saturating_mul(ticks);
        ticks.into()
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn counts_each_tick_once() {
        let mut clock = Clock::start(Duration::from_millis(10));
        for ticks in [1, 3, 0, 100] {
            clock.sleep(ticks).await;
            assert_eq!(clock.count(), ticks);
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
        assert_eq!(clock.count(), 1);
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(clock.count(), 1);
    }
}
