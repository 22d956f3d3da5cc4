//! Runs in which few links are open at a time, and soon after others.
//!
//! A server often has no leader that it can reach. A leader that others have overtaken does not learn of that.
//! Its promises and entries come late, to and from servers that have learned other things meanwhile.

use super::{Action, Notify, Plan, Shape, Step};
use crate::rng::Rng;

/// Replaces the faults of a plan by links that come and go, with proposals and attempts to lead in between, and
/// with some clocks that stand still and some crashes.
pub(super) fn replace_faults(plan: &mut Plan) {
    let mut rng = Rng::of(&[plan.seed, 0x6665_776C]);
    let keeps_crashes = rng.chance(1, 4);
    plan.steps.retain(|step| match step.action {
        Action::Crash { .. } => keeps_crashes,
        Action::Reconfigure { .. } | Action::Forge { .. } => false,
        ref other => !other.is_fault(),
    });
    plan.next = None;
    let size = plan.setting.servers.len();
    let round = plan.setting.servers[0].config.election_tick_timeout;
    let open_of_six = rng.pick(&[1, 2, 2, 3]);
    let longest = rng.pick(&[round, 3 * round, 8 * round]);
    let mut phases =
        Phases { rng, size, round, at: 0, ticks: plan.setting.ticks, steps: Vec::new() };
    // Of some runs, all phases are of this kind.
    let has_stars = size >= 3 && Rng::of(&[plan.seed, 0x7374_6172]).chance(1, 3);
    while phases.at < phases.ticks {
        if has_stars {
            phases.star();
            continue;
        }
        match phases.rng.below(if size < 5 { 1 } else { 6 }) {
            0..=2 => phases.random(open_of_six, longest),
            3 => phases.stand_still(),
            4 if size > 6 => phases.overtake_two(),
            _ => phases.overtake(),
        }
    }
    plan.steps.append(&mut phases.steps);
    plan.steps.sort_by_key(|step| step.at);
}

/// Phases that follow each other. Each has links of its own.
struct Phases {
    rng: Rng,
    size: usize,
    /// Ticks of a heartbeat round.
    round: u64,
    /// Where the next phase begins.
    at: u64,
    /// Where the last one ends.
    ticks: u64,
    steps: Vec<Step>,
}

impl Phases {
    /// Any links, each with this probability.
    fn random(&mut self, open_of_six: u64, longest: u64) {
        let pairs: Vec<(usize, usize)> =
            (0..self.size).flat_map(|b| (0..b).map(move |a| (a, b))).collect();
        let mut open = 0;
        for (a, b) in pairs {
            if self.rng.chance(open_of_six, 6) {
                open |= Shape::link(a, b);
            }
        }
        let duration = self.rng.between(1, longest);
        for _ in 0..self.rng.below(3) {
            let (server, later) = (self.rng.index(self.size), self.rng.below(duration));
            self.act(later, Action::Append { server, count: 1 });
        }
        if self.rng.chance(1, 2) {
            // Most late in the phase: other links are then open for what follows.
            let (server, before_end) = (self.rng.index(self.size), self.rng.below(duration.min(5)));
            self.act(duration - 1 - before_end, Action::BecomeLeader { server });
        }
        self.pass(Some(open), duration);
    }

    /// One server reaches some others, in half of the cases a quorum, and is asked to lead. Further links may be
    /// open, over which other servers learn. Then it is the next server's turn. The clock of any server may stand
    /// still for a while, and any may crash.
    fn star(&mut self) {
        let servers = self.shuffled();
        let link = |a: usize, b: usize| Shape::link(a, b);
        let [centre, others @ ..] = &servers[..] else {
            return;
        };
        let quorum = self.size / 2;
        let reached = match self.rng.below(4) {
            0 => 1,
            1 => quorum.saturating_sub(1).max(1),
            2 => quorum,
            _ => self.rng.between(1, others.len() as u64) as usize,
        };
        let mut open = others[..reached].iter().fold(0, |all, to| all | link(*centre, *to));
        for _ in 0..self.rng.below(3) {
            let (a, b) = (self.rng.index(others.len()), self.rng.index(others.len()));
            if a != b {
                open |= link(others[a], others[b]);
            }
        }
        let later = self.rng.below(2 * self.round);
        let duration = later + self.rounds(1, 5);
        if self.rng.chance(3, 4) {
            self.act(later, Action::BecomeLeader { server: *centre });
        }
        for _ in 0..self.rng.below(3) {
            let server = if self.rng.chance(2, 3) { *centre } else { self.rng.pick(&servers) };
            let (later, count) = (self.rng.below(duration), self.rng.between(1, 3));
            self.act(later, Action::Append { server, count });
        }
        if self.rng.chance(1, 6) {
            let (server, ticks) = (self.rng.pick(&servers), self.rounds(4, 12));
            self.act(duration - 1, Action::PauseTicks { server, ticks });
        }
        if self.rng.chance(1, 12) {
            let (server, down) = (self.rng.pick(&servers), self.rounds(0, 4));
            self.act(duration - 1, Action::Crash { server, down });
        }
        self.pass(Some(open), duration);
    }

    /// All servers in any order.
    fn shuffled(&mut self) -> Vec<usize> {
        let mut servers: Vec<usize> = (0..self.size).collect();
        for at in 0..self.size {
            let other = at + self.rng.index(self.size - at);
            servers.swap(at, other);
        }
        servers
    }

    /// A leader stands still while another one overtakes it, and follows a ballot that no server prepares any
    /// more. Then it reaches a server that has learned from others what was decided meanwhile.
    fn stand_still(&mut self) {
        let servers = self.shuffled();
        let [first, middle, second, learner, ..] = servers[..] else {
            return;
        };
        let link = |a: usize, b: usize| Shape::link(a, b);
        let voters: Vec<usize> = servers[4..].iter().copied().chain([middle]).collect();
        let to_voters = |from| voters.iter().fold(0, |all, to| all | link(from, *to));
        let asked = self.rounds(0, 1);
        self.act(asked, Action::BecomeLeader { server: first });
        let duration = asked + self.rounds(2, 4);
        self.pass(Some(to_voters(first)), duration);

        let later = self.rounds(1, 3);
        self.act(later, Action::BecomeLeader { server: second });
        let duration = later + self.rounds(2, 5);
        let proposed = later + self.rng.below(duration - later);
        self.act(proposed, Action::Append { server: second, count: 1 });
        let (learns, follows) = (self.rounds(1, 3), self.rounds(6, 9));
        let still = duration + learns + follows;
        self.act(0, Action::PauseTicks { server: first, ticks: still });
        self.act(duration, Action::Crash { server: second, down: still - duration });
        self.pass(Some(to_voters(second)), duration);

        self.pass(Some(link(middle, learner)), learns);
        self.pass(Some(link(first, learner)), follows);
    }

    /// A leader waits for promises while two others overtake it, of whom the later one decides something. A
    /// server learns that from others, and promises first the first one and then the second.
    fn overtake_two(&mut self) {
        let servers = self.shuffled();
        let [first, a, b, second, c, third, learner] = servers[..7] else {
            return;
        };
        let link = |a: usize, b: usize| Shape::link(a, b);
        let to_voters = |from| [a, b, c].iter().fold(0, |all, to| all | link(from, *to));
        let asked = self.rounds(0, 1);
        for (voter, wait) in [(a, asked), (b, 0)] {
            let duration = wait + self.rounds(1, 2);
            let but_one = Shape::Unprepared { from: first, but: voter };
            self.act(0, Action::Cut { shape: but_one, ticks: duration, notify: Notify::Nobody });
            self.act(wait, Action::BecomeLeader { server: first });
            self.pass(None, duration);
        }
        for (leader, more) in [(second, 0), (third, link(a, learner))] {
            let later = self.rounds(1, 2);
            self.act(later, Action::BecomeLeader { server: leader });
            let duration = later + self.rounds(2, 4);
            if leader == third {
                let proposed = later + self.rng.below(duration - later);
                self.act(proposed, Action::Append { server: third, count: 1 });
            }
            self.pass(Some(to_voters(leader) | more), duration);
        }
        let duration = self.rounds(1, 4);
        self.pass(Some(link(first, learner)), duration);
        let duration = self.rounds(1, 3);
        self.pass(Some(link(second, learner)), duration);
    }

    /// A leader waits for promises while another one overtakes it. Then it reaches a server that has learned from
    /// others what was decided, and does not know the other leader.
    fn overtake(&mut self) {
        let servers = self.shuffled();
        let [first, voter, second, learner, middle] = servers[..5] else {
            return;
        };
        let link = |a: usize, b: usize| Shape::link(a, b);
        self.act(0, Action::BecomeLeader { server: first });
        let duration = self.rounds(2, 5);
        self.pass(None, duration);

        let of_others = servers[1..].iter().map(|to| link(first, *to)).fold(0, |all, it| all | it);
        let count = self.rng.between(1, 2);
        self.act(0, Action::Append { server: first, count });
        let duration = self.rounds(1, 2);
        if self.rng.chance(1, 2) {
            self.act(duration - 1, Action::Crash { server: first, down: 0 });
        }
        self.pass(Some(!of_others), duration);

        let duration = self.rounds(1, 4);
        let but_one = Shape::Unprepared { from: first, but: voter };
        self.act(0, Action::Cut { shape: but_one, ticks: duration, notify: Notify::Nobody });
        let later = self.rng.below(duration);
        self.act(later, Action::BecomeLeader { server: first });
        self.pass(None, duration);

        let mut open = link(second, middle) | link(middle, learner) | link(second, voter);
        for other in &servers[5..] {
            open |= link(second, *other);
        }
        let later = self.rounds(1, 3);
        self.act(later, Action::BecomeLeader { server: second });
        let duration = later + self.rounds(2, 5);
        let proposed = later + self.rng.below(duration - later);
        self.act(proposed, Action::Append { server: second, count });
        self.pass(Some(open), duration);

        let duration = self.rounds(1, 4);
        self.pass(Some(open | link(first, learner)), duration);
    }

    fn rounds(&mut self, least: u64, most: u64) -> u64 {
        self.rng.between(least * self.round, most * self.round)
    }

    /// Adds an action so many ticks after the beginning of the phase.
    fn act(&mut self, later: u64, action: Action) {
        if self.at + later < self.ticks {
            self.steps.push(Step { at: self.at + later, action });
        }
    }

    /// Ends the phase, in which these links are open; `None` for all.
    fn pass(&mut self, open: Option<u64>, duration: u64) {
        if let Some(open) = open {
            let shape = Shape::FewLinks { open };
            self.act(0, Action::Cut { shape, ticks: duration, notify: Notify::Nobody });
        }
        self.at += duration;
    }
}
