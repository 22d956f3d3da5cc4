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
    /// Creates a timer that expires every `timeout` ticks, first after `timeout` ticks.
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

    /// Returns the number of ticks after which it expires; at least 1.
    pub(crate) fn remaining(&self) -> u64 {
        self.timeout.saturating_sub(self.elapsed).max(1)
    }

    /// Lets ticks pass. The caller does not need to know whether it expires in this time.
    pub(crate) fn pass(&mut self, ticks: u64) {
        self.elapsed = match ticks < self.remaining() {
            true => self.elapsed + ticks,
            false => (ticks - self.remaining()) % self.timeout.max(1),
        };
    }

    /// Starts counting again from 0.
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
    fn ticks_that_pass_at_once_are_as_many_ticks() {
        for timeout in 1..5 {
            for (before, ticks) in (0..12).flat_map(|before| (0..12).map(move |n| (before, n))) {
                let mut one_by_one = Timer::every(timeout);
                (0..before).for_each(|_| _ = one_by_one.tick());
                let mut at_once = one_by_one.clone();
                let mut probe = one_by_one.clone();
                let expires = (1..).find(|_| probe.tick() == Tick::Expired);
                assert_eq!(expires, Some(one_by_one.remaining()));
                (0..ticks).for_each(|_| _ = one_by_one.tick());
                at_once.pass(ticks);
                assert_eq!(at_once.elapsed, one_by_one.elapsed, "{timeout} {before} {ticks}");
            }
        }
        let mut longest = Timer::every(u64::MAX);
        longest.pass(u64::MAX - 1);
        assert_eq!(longest.remaining(), 1);
    }

    #[test]
    fn a_restart_resets_the_count() {
        let mut timer = Timer::every(2);
        timer.tick();
        timer.restart();
        assert_eq!(timer.tick(), Tick::Running);
        assert_eq!(timer.tick(), Tick::Expired);
    }
}
