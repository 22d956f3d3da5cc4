//! Makes a failing plan smaller.

use crate::{
    checker::Check,
    cluster::Trace,
    network::{LinkConditions, Order},
    plan::{Drains, Early, Notify, Plan, Refusal, ServerSetting, Step, Wire},
    run::{run, Failure},
};

/// A plan that was made smaller, and how it fails.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The plan.
    pub plan: Plan,
    /// How it fails.
    pub failure: Failure,
    /// How many runs that took.
    pub runs: u64,
}

/// Makes a plan smaller while it fails the same check, with at most `budget` runs.
pub fn shrink(plan: &Plan, failure: &Failure, budget: u64) -> Shrunk {
    let smallest = Shrunk { plan: plan.clone(), failure: failure.clone(), runs: 0 };
    let check = failure.violation.check;
    let mut shrinker = Shrinker { smallest, check, budget };
    loop {
        let size = shrinker.size();
        shrinker.shorten();
        shrinker.drop_next();
        shrinker.drop_steps(|plan| Some(&mut plan.steps));
        shrinker.drop_steps(|plan| plan.next.as_mut().map(|next| &mut next.steps));
        shrinker.simplify();
        let is_spent = shrinker.smallest.runs >= budget;
        if is_spent || shrinker.size() == size {
            return shrinker.smallest;
        }
    }
}

struct Shrinker {
    smallest: Shrunk,
    check: Check,
    budget: u64,
}

/// What became of an attempt.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Attempt {
    Fails,
    Passes,
}

impl Shrinker {
    fn size(&self) -> (usize, u64) {
        let plan = &self.smallest.plan;
        let later = plan.next.as_ref().map_or(0, |next| next.steps.len() + 1);
        (plan.steps.len() + later, plan.setting.ticks)
    }

    fn attempt(&mut self, plan: Plan) -> Attempt {
        if self.smallest.runs >= self.budget {
            return Attempt::Passes;
        }
        self.smallest.runs += 1;
        match run(&plan, Trace::Off).failure {
            Some(failure) if failure.violation.check == self.check => {
                self.smallest.plan = plan;
                self.smallest.failure = failure;
                Attempt::Fails
            }
            Some(_) | None => Attempt::Passes,
        }
    }

    /// Ends the run when it fails, or earlier.
    fn shorten(&mut self) {
        for part in [1, 2, 3] {
            let ticks = self.smallest.plan.setting.ticks;
            let needed = self.smallest.failure.at.min(ticks * part / 4);
            self.cut_after(needed);
        }
        let last = self.smallest.plan.steps.last().map_or(0, |step| step.at);
        self.cut_after(last + 1);
        self.cut_after(self.smallest.failure.at);
    }

    fn cut_after(&mut self, ticks: u64) {
        if ticks < self.smallest.plan.setting.ticks && ticks > 0 {
            let mut plan = self.smallest.plan.clone();
            plan.setting.ticks = ticks;
            plan.steps.retain(|step| step.at < ticks);
            self.attempt(plan);
        }
    }

    /// Removes the next configuration.
    fn drop_next(&mut self) {
        if self.smallest.plan.next.is_some() {
            self.attempt(Plan { next: None, ..self.smallest.plan.clone() });
        }
    }

    /// Removes runs of steps, long ones first.
    fn drop_steps(&mut self, steps_of: fn(&mut Plan) -> Option<&mut Vec<Step>>) {
        let count = |plan: &mut Plan| steps_of(plan).map_or(0, |steps| steps.len());
        let mut length = count(&mut self.smallest.plan).div_ceil(2);
        while length > 0 {
            let mut start = 0;
            while start < count(&mut self.smallest.plan) {
                let mut plan = self.smallest.plan.clone();
                let end = (start + length).min(count(&mut plan));
                if let Some(steps) = steps_of(&mut plan) {
                    steps.drain(start..end);
                }
                if self.attempt(plan) == Attempt::Passes {
                    start += length;
                }
            }
            length /= 2;
        }
    }

    /// Replaces what holds for the whole run by something plainer.
    fn simplify(&mut self) {
        let plainer: [fn(&mut Plan); 14] = [
            Plan::drop_observers,
            |plan| plan.setting.refusal = Refusal::Nowhere,
            |plan| plan.setting.conditions.bytes_per_tick = None,
            |plan| plan.setting.conditions.loss = 0,
            |plan| plan.setting.conditions.duplicates = 0,
            |plan| plan.setting.conditions.stragglers = 0,
            |plan| plan.setting.conditions.order = Order::Kept,
            |plan| plan.setting.conditions.delay = 0,
            |plan| plan.setting.conditions = LinkConditions::PERFECT,
            |plan| plan.setting.early = Early::Never,
            |plan| plan.setting.drains = Drains::EachTick,
            |plan| plan.setting.servers.iter_mut().for_each(ServerSetting::lift_limits),
            |plan| {
                plan.setting.wire = Wire::Values;
                plan.setting.ending.notify = Notify::Nobody;
                plan.setting.ending.partial = None;
            },
            |plan| {
                for server in &mut plan.setting.servers {
                    server.speed = ServerSetting::FULL_SPEED;
                    server.config.batch_size = 1;
                }
            },
        ];
        for simplify in plainer {
            let mut plan = self.smallest.plan.clone();
            simplify(&mut plan);
            self.attempt(plan);
        }
    }
}
