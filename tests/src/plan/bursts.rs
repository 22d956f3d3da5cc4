//! Stretches of a run in which one kind of thing happens again and again.

use super::{Action, Missed, Setting, Step, TargetedFault, Whom};
use crate::rng::Rng;

/// What happens again and again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Burst {
    /// A server crashes soon after each start.
    Restarts,
    /// A server stands still.
    Pauses,
    /// One or two servers are asked to take over.
    Takeovers,
    /// Priorities change.
    Priorities,
    /// A fault hits the leader, or the server that is about to lead.
    TargetedFaults,
    /// A server is asked to take over, and crashes before or after it could.
    Attempts,
}

const CALM: [Burst; 2] = [Burst::Takeovers, Burst::Priorities];
const ALL: [Burst; 8] = [
    Burst::Restarts,
    Burst::Pauses,
    Burst::Takeovers,
    Burst::Priorities,
    Burst::TargetedFaults,
    Burst::TargetedFaults,
    Burst::Attempts,
    Burst::Attempts,
];

/// Whether faults may happen.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Faults {
    None,
    Any,
}

/// Adds bursts to half of the runs.
pub(super) fn brew(rng: &mut Rng, faults: Faults, setting: &Setting, steps: &mut Vec<Step>) {
    if !rng.chance(1, 2) {
        return;
    }
    for _ in 0..rng.between(1, 3) {
        let burst = match faults {
            Faults::None => rng.pick(&CALM),
            Faults::Any => rng.pick(&ALL),
        };
        let start = rng.below(setting.ticks);
        let end = setting.ticks.min(start + rng.between(20, setting.ticks / 2 + 20));
        Stretch { rng, setting, start, end, steps }.fill(burst);
    }
}

struct Stretch<'a> {
    rng: &'a mut Rng,
    setting: &'a Setting,
    start: u64,
    end: u64,
    steps: &'a mut Vec<Step>,
}

impl Stretch<'_> {
    fn fill(&mut self, burst: Burst) {
        let size = self.setting.servers.len();
        let round = self.setting.servers[0].config.election_tick_timeout;
        let server = self.rng.index(size);
        match burst {
            Burst::Restarts => {
                let (every, down) =
                    (self.rng.between(2, 4 * round), self.rng.pick(&[0, 0, 1, round]));
                self.each(every, |_rng| vec![(0, Action::Crash { server, down })]);
            }
            Burst::Pauses => {
                let every = self.rng.between(2, 4 * round);
                let ticks = self.rng.between(1, 2 * every);
                let missed = self.rng.pick(&[Missed::Skipped, Missed::Made]);
                self.each(every, |_rng| vec![(0, Action::Freeze { server, ticks, missed })]);
            }
            Burst::Takeovers => {
                let other = if self.rng.chance(1, 2) { server } else { self.rng.index(size) };
                let every = self.rng.between(1, 2 * round);
                self.each(every, |rng| {
                    let server = rng.pick(&[server, other]);
                    vec![(0, Action::BecomeLeader { server })]
                });
            }
            Burst::Priorities => {
                let every = self.rng.between(1, 2 * round);
                self.each(every, |rng| {
                    let (server, priority) = (rng.index(size), rng.pick(&[0, 1, 9, u32::MAX]));
                    vec![(0, Action::SetPriority { server, priority })]
                });
            }
            Burst::TargetedFaults => {
                let every = self.rng.between(1, 6 * round);
                let whom = self.rng.pick(&[Whom::Leader, Whom::Leader, Whom::Candidate]);
                let fault = self.rng.pick(&[
                    TargetedFault::Crash,
                    TargetedFault::Crash,
                    TargetedFault::Freeze,
                    TargetedFault::PauseTicks,
                    TargetedFault::Isolate,
                    TargetedFault::Deafen,
                    TargetedFault::Mute,
                ]);
                let longest = self.rng.pick(&[1, round, 6 * round]);
                self.each(every, |rng| {
                    vec![(0, Action::TargetedFault { whom, fault, ticks: rng.below(longest + 1) })]
                });
            }
            Burst::Attempts => {
                let every = self.rng.between(4, 4 * round);
                let down = self.rng.pick(&[0, 0, 1, round]);
                self.each(every, |rng| {
                    let crash = (rng.below(4), Action::Crash { server, down });
                    vec![(0, Action::BecomeLeader { server }), crash]
                });
            }
        }
    }

    /// Adds actions at a fixed distance in ticks, each after a delay.
    fn each(&mut self, every: u64, mut actions: impl FnMut(&mut Rng) -> Vec<(u64, Action)>) {
        let mut at = self.start;
        while at < self.end {
            for (later, action) in actions(self.rng) {
                let at = (at + later).min(self.end - 1);
                self.steps.push(Step { at, action });
            }
            at += every;
        }
    }
}
