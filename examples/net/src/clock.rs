//! The ticks of a replica, counted by the clock of the machine.

use std::time::Duration;
use tokio::time::{sleep_until, Instant};

/// Counts ticks, for a program that sleeps between those that do something.
#[derive(Debug)]
pub struct Clock {
    tick: Duration,
    /// The time of the last tick that was counted.
    last: Instant,
}

impl Clock {
    /// A clock that starts now, with ticks of this length.
    pub fn every(tick: Duration) -> Self {
        Self { tick, last: Instant::now() }
    }

    /// Sleeps until this number of ticks after the last one that was counted.
    pub async fn sleep(&self, ticks: u64) {
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        sleep_until(self.last + self.tick.saturating_mul(ticks)).await;
    }

    /// Returns the ticks since the last call.
    pub fn count(&mut self) -> u64 {
        let ticks = self.last.elapsed().as_nanos() / self.tick.as_nanos().max(1);
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        self.last += self.tick.saturating_mul(ticks);
        ticks.into()
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test]
    async fn counts_each_tick_once() {
        let tick = Duration::from_millis(2);
        let (started, mut clock) = (Instant::now(), Clock::every(tick));
        let mut counted = 0;
        for ticks in [1, 3, 0] {
            clock.sleep(ticks).await;
            let now = clock.count();
            assert!(now >= ticks);
            counted += now;
        }
        assert!(tick * u32::try_from(counted).unwrap() <= started.elapsed());
    }
}
