//! Time, counted in ticks.

/// Rings once every `timeout` ticks.
#[derive(Clone, Debug)]
pub(crate) struct Timer {
    timeout: u64,
    elapsed: u64,
}

/// What one tick did to a [`Timer`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    Silent,
    Rings,
}

impl Timer {
    /// A timer that rings first after `timeout` ticks, then again after as many.
    pub(crate) fn every(timeout: u64) -> Self {
        Self { timeout, elapsed: 0 }
    }

    /// Lets one tick pass.
    pub(crate) fn tick(&mut self) -> Ring {
        self.elapsed = self.elapsed.saturating_add(1);
        if self.elapsed < self.timeout {
            return Ring::Silent;
        }
        self.elapsed = 0;
        Ring::Rings
    }

    /// Starts counting anew.
    pub(crate) fn restart(&mut self) {
        self.elapsed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Ring, Timer};

    #[test]
    fn rings_after_each_timeout() {
        let mut timer = Timer::every(3);
        let rings: Vec<bool> = (0..7).map(|_| timer.tick() == Ring::Rings).collect();
        assert_eq!(rings, [false, false, true, false, false, true, false]);
    }

    #[test]
    fn a_restart_counts_anew() {
        let mut timer = Timer::every(2);
        timer.tick();
        timer.restart();
        assert_eq!(timer.tick(), Ring::Silent);
        assert_eq!(timer.tick(), Ring::Rings);
    }
}
