//! The end of the next configuration, after that of the one before.

use crate::{checker::Violation, cluster::Cluster, plan::Plan, value::SimEntry};

impl<T: SimEntry> Cluster<T> {
    /// If a next configuration has begun, lets its faults pass, while the replicas of this one linger.
    /// Then these are gone, and it must come to rest as every other.
    ///
    /// # Errors
    /// What does not hold.
    pub(super) fn end_next(&mut self) -> Result<(), Violation> {
        while self.has_faults_next() {
            self.pass_tick()?;
        }
        let Some((plan, mut next)) = self.take_next() else {
            return Ok(());
        };
        let ended = next.end_as_next(&plan);
        self.take_counts(&mut next);
        ended.map_err(|violation| {
            let Violation { check, what } = violation;
            let servers = next.describe();
            Violation { check, what: format!("in the next configuration: {what}; {servers}") }
        })
    }

    fn end_as_next(&mut self, plan: &Plan) -> Result<(), Violation> {
        self.end(plan.setting.ending)?;
        self.checker().check_history()
    }
}
