//! The ticks of a replica, counted by the clock of the machine.

use std::{future::pending, time::Duration};
use tokio::time::{sleep_until, Instant};

/// Counts ticks for a node that sleeps between the ticks that do something.
#[derive(Debug)]
pub(crate) struct Clock {
    tick: Duration,
    /// The time of the last counted tick.
    last: Instant,
}

impl Clock {
    /// Starts a clock with ticks of this length.
    pub(crate) fn start(tick: Duration) -> Self {
        Self { tick: tick.max(Duration::from_micros(1)), last: Instant::now() }
    }

    /// Sleeps until this number of ticks after the last counted tick.
    pub(crate) async fn sleep(&self, ticks: u64) {
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        match self.last.checked_add(self.tick.saturating_mul(ticks)) {
            Some(time) => sleep_until(time).await,
            // Later than the clock can tell.
            None => pending().await,
        }
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
