//! Time, counted in ticks.

/// Expires once every `timeout` ticks.
#[derive(Clone, Debug)]
pub(crate) struct Timer {
    timeout: u64,
    elapsed: u64,
}

/// What one tick did to a [`Timer`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    Running,
    Expired,
}

impl Timer {
    /// A timer that expires first after `timeout` ticks, then again after as many.
    pub(crate) fn every(timeout: u64) -> Self {
        Self { timeout, elapsed: 0 }
    }

    /// Lets one tick pass.
    pub(crate) fn tick(&mut self) -> Tick {
        self.elapsed = self.elapsed.saturating_add(1);
        if self.elapsed < self.timeout {
            return Tick::Running;
        }
        self.elapsed = 0;
        Tick::Expired
    }

    /// Starts counting anew.
    pub(crate) fn restart(&mut self) {
        self.elapsed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Tick, Timer};

    #[test]
    fn expires_after_each_timeout() {
        let mut timer = Timer::every(3);
        let expired: Vec<bool> = (0..7).map(|_| timer.tick() == Tick::Expired).collect();
        assert_eq!(expired, [false, false, true, false, false, true, false]);
    }

    #[test]
    fn a_restart_counts_anew() {
        let mut timer = Timer::every(2);
        timer.tick();
        timer.restart();
        assert_eq!(timer.tick(), Tick::Running);
        assert_eq!(timer.tick(), Tick::Expired);
    }
}
