//! From a seed to a run with faults that last.

use super::{Adversary, Bound, Direction, Disturbance, Kind, Lasting, Pattern, Reads, What};
use crate::{
    disk::{Atomicity, Honesty, Medium},
    network::{InFlight, LinkConditions, Order},
    plan::{
        Compaction, Drains, Early, Ending, EntryKind, Notify, Refusal, ServerSetting, Setting,
        Wire, CONFIGURATION,
    },
    rng::Rng,
    value::LARGEST_SNAPSHOT,
};
use omnipaxos::ServerConfig;

/// The length of a run: a multiple of the longest wait that is allowed, within these bounds in ticks.
const WAITS: u64 = 3;
const LEAST_TICKS: u64 = 600;
const MOST_TICKS: u64 = 20_000;

impl Lasting {
    /// The run of a seed. Each kind in turn.
    pub fn of(seed: u64) -> Self {
        Self::of_kind(seed, Kind::of(seed))
    }

    /// As [`of`](Self::of), with faults of one kind.
    pub fn of_kind(seed: u64, kind: Kind) -> Self {
        let mut rng = Rng::of(&[seed, 0x6C61_7374]);
        let size = match kind {
            Kind::Adversary => rng.pick(&[3, 4, 5, 6, 7]),
            _other => rng.pick(&[2, 3, 3, 4, 4, 5, 5, 5, 6, 7]),
        };
        let mut lasting = Self::drawn(seed, &mut rng, kind, size, None);
        let mut rng = Rng::of(&[seed, 0x7374_6570]);
        if kind == Kind::Flaps && rng.chance(1, 3) {
            lasting.flap_in_step(&mut rng);
        }
        lasting
    }

    /// As [`of_kind`](Self::of_kind), with so many servers, all of them with an election timeout of so
    /// many ticks.
    pub fn of_size(seed: u64, kind: Kind, size: usize, election_timeout: u64) -> Self {
        let mut rng = Rng::of(&[seed, size as u64, 0x7369_7A65]);
        Self::drawn(seed, &mut rng, kind, size, Some(election_timeout))
    }

    fn drawn(
        seed: u64,
        rng: &mut Rng,
        kind: Kind,
        size: usize,
        election_timeout: Option<u64>,
    ) -> Self {
        let keeper = rng.index(size);
        let mut quorum: Vec<usize> = (0..size).map(|nth| (keeper + nth) % size).collect();
        for nth in (2..size).rev() {
            quorum.swap(nth, 1 + rng.index(nth));
        }
        quorum.truncate(size / 2 + 1);
        let setting = setting(rng, kind, size, election_timeout);
        let mut lasting = Self {
            seed,
            kind,
            links: vec![Pattern::OPEN; size * size],
            setting,
            keeper,
            quorum,
            adversary: None,
            disturbances: Vec::new(),
            reads: match Rng::of(&[seed, 0x7265_6164]).chance(1, 2) {
                true => Reads::EachTick,
                false => Reads::OneByOne,
            },
            ticks: 0,
        };
        lasting.disturb(rng);
        let longest = Bound::of(&lasting).longest;
        lasting.ticks = (WAITS * longest).clamp(LEAST_TICKS, MOST_TICKS.max(longest));
        lasting.setting.ticks = lasting.ticks;
        lasting
    }

    fn disturb(&mut self, rng: &mut Rng) {
        let Bound { round, change, .. } = Bound::of(self);
        match self.kind {
            Kind::Calm | Kind::Loss | Kind::Delay | Kind::Skew => {}
            Kind::Flaps => self.flap(rng, 4 * round),
            Kind::Mixed => self.flap(rng, 4 * round),
            Kind::Windows => {
                self.flap(rng, 2 * round);
                let up = change + rng.below(2 * round);
                let period = up + rng.between(1, 8 * round);
                let phase = rng.below(period);
                self.each_link_of_keeper(|link| *link = Pattern { period, up, phase });
            }
            Kind::OneWay => {
                let size = self.size();
                for at in 0..size * size {
                    if rng.chance(2, 5) && !self.is_kept(at / size, at % size) {
                        self.links[at] = Pattern::CUT;
                    }
                }
            }
            Kind::Adversary => {
                let every = change + rng.below(4 * round);
                let hold = rng.pick(&[1, round / 2, round, 2 * round, every / 2, every]).max(1);
                let cuts = rng.pick(&[Direction::Both, Direction::Incoming, Direction::Outgoing]);
                self.adversary = Some(Adversary { every, hold: hold.min(every), cuts });
            }
            Kind::Restarts => {
                for server in (0..self.size()).filter(|at| !self.quorum.contains(at)) {
                    let every = rng.between(1, 6 * round);
                    let ticks = rng.between(0, 3 * round);
                    let what = rng.pick(&[
                        What::Crash { down: ticks },
                        What::Crash { down: 0 },
                        What::Freeze { ticks },
                        What::PauseTicks { ticks },
                    ]);
                    self.disturbances.push(Disturbance { server, every, what });
                }
            }
            Kind::Takeovers => {
                // One server may be asked as often as you like. Two that are asked must leave each
                // other the time to decide.
                let is_alone = rng.chance(1, 2);
                let count = if is_alone { 1 } else { 2 };
                for nth in 0..count {
                    let server = (self.keeper + nth) % self.size();
                    let every = if is_alone { rng.between(1, 2 * round) } else { 2 * change };
                    self.disturbances.push(Disturbance {
                        server,
                        every,
                        what: What::TransferLeadership,
                    });
                }
                let (server, every) = (rng.index(self.size()), rng.between(1, 2 * round));
                self.disturbances.push(Disturbance { server, every, what: What::Priority });
            }
            Kind::LateStart => {
                for server in 0..self.size() {
                    if !self.quorum.contains(&server) {
                        self.setting.servers[server].starts_at = rng.between(1, 8 * round);
                    }
                }
            }
            Kind::StoppedClocks => {
                let begin = change + rng.below(4 * round);
                self.stop_clocks(rng, begin);
            }
        }
    }

    /// At `begin` the clocks of servers without the keeper's quorum stop for good, and some links of theirs are
    /// cut. Mostly one of these servers leads then.
    fn stop_clocks(&mut self, rng: &mut Rng, begin: u64) {
        let size = self.size();
        let others: Vec<usize> = (0..size).filter(|at| !self.quorum.contains(at)).collect();
        let forever = Pattern { period: u64::MAX, up: begin, phase: 0 };
        for (a, b) in (0..size).flat_map(|a| (0..a).map(move |b| (a, b))) {
            let is_cut = (others.contains(&a) || others.contains(&b)) && rng.chance(3, 5);
            if is_cut {
                self.links[a * size + b] = forever;
                self.links[b * size + a] = forever;
            }
        }
        let last = others.last().copied();
        for server in others {
            let is_needed = last == Some(server) && self.disturbances.is_empty();
            if rng.chance(3, 4) || is_needed {
                self.setting.servers[server].config.leader_priority = rng.pick(&[0, 7]);
                let what = What::PauseTicks { ticks: MOST_TICKS };
                self.disturbances.push(Disturbance { server, every: begin, what });
            }
        }
    }

    /// Lets all links but those of the keeper's quorum open and close.
    fn flap(&mut self, rng: &mut Rng, longest: u64) {
        let size = self.size();
        let is_same_period = rng.chance(1, 2);
        let common = rng.between(2, longest);
        for (a, b) in (0..size).flat_map(|a| (0..a).map(move |b| (a, b))) {
            if self.is_kept(a, b) {
                continue;
            }
            let mut pattern = || {
                let period = if is_same_period { common } else { rng.between(2, longest) };
                let part = rng.below(period + 1);
                let up = rng.pick(&[0, period, part, part]);
                Pattern { period, up, phase: rng.below(period) }
            };
            let there = pattern();
            let back = pattern();
            let is_two_way = rng.chance(2, 3);
            self.links[a * size + b] = there;
            self.links[b * size + a] = if is_two_way { there } else { back };
        }
    }

    /// Lets the links from the keeper to servers outside its quorum open in step with the rounds, for little
    /// more than a heartbeat and its answer. All other links are open, so another server may lead.
    fn flap_in_step(&mut self, rng: &mut Rng) {
        let Bound { round, .. } = Bound::of(self);
        let (size, keeper) = (self.size(), self.keeper);
        self.links.fill(Pattern::OPEN);
        for other in (0..size).filter(|at| !self.quorum.contains(at)) {
            let period = rng.between(1, 4) * round;
            let pattern =
                Pattern { period, up: rng.between(1, 5).min(period - 1), phase: rng.below(period) };
            self.links[keeper * size + other] = pattern;
            self.links[other * size + keeper] = pattern;
        }
    }

    fn each_link_of_keeper(&mut self, mut change: impl FnMut(&mut Pattern)) {
        let size = self.size();
        for at in 0..size * size {
            if self.is_kept(at / size, at % size) {
                change(&mut self.links[at]);
            }
        }
    }

    /// Whether a link is one of the keeper with its quorum.
    pub(super) fn is_kept(&self, from: usize, to: usize) -> bool {
        let other = if from == self.keeper { to } else { from };
        (from == self.keeper || to == self.keeper) && self.quorum.contains(&other)
    }

    /// Number of servers.
    pub fn size(&self) -> usize {
        self.setting.servers.len()
    }
}

fn setting(rng: &mut Rng, kind: Kind, size: usize, election_timeout: Option<u64>) -> Setting {
    let drawn = rng.pick(&[3, 5, 5, 8, 10, 20]);
    let election = election_timeout.unwrap_or(drawn);
    let speeds: &[u64] = match kind {
        Kind::Skew => &[1, 1, 2, 5, 8, 15, 30],
        Kind::Mixed => &[4, 8, 12],
        _other => &[ServerSetting::FULL_SPEED],
    };
    let priorities: &[u32] = if rng.chance(1, 4) { &[0, 1, 7, u32::MAX] } else { &[0] };
    let mut server = |pid: u64| ServerSetting {
        storage_id: Some(pid),
        config: ServerConfig {
            pid,
            election_tick_timeout: election,
            resend_message_tick_timeout: 10 * election,
            leader_priority: rng.pick(priorities),
            max_snapshot_bytes: LARGEST_SNAPSHOT,
            ..ServerConfig::default()
        },
        speed: rng.pick(speeds),
        starts_at: 0,
    };
    let servers: Vec<ServerSetting> = (1..=size as u64).map(&mut server).collect();
    Setting {
        configuration: CONFIGURATION,
        servers,
        observers: Vec::new(),
        quorum: None,
        entries: EntryKind::Plain,
        compaction: Compaction::AsAsked,
        atomicity: Atomicity::Atomic,
        honesty: Honesty::Honest,
        medium: Medium::Memory,
        refusal: Refusal::Nowhere,
        drains: Drains::EachTick,
        early: Early::BeforeDrains,
        wire: Wire::Values,
        conditions: conditions(rng, kind, election),
        in_flight: rng.pick(&[InFlight::Lost, InFlight::Arrives]),
        ticks: 0,
        ending: Ending { notify: Notify::Nobody, partial: None },
    }
}

fn conditions(rng: &mut Rng, kind: Kind, election: u64) -> LinkConditions {
    let order = rng.pick(&[Order::Kept, Order::Free]);
    match kind {
        Kind::Loss => {
            LinkConditions { loss: rng.between(50, 500), order, ..LinkConditions::PERFECT }
        }
        Kind::Delay => LinkConditions {
            least_delay: rng.below(5 * election),
            delay: rng.pick(&[0, 1, election, 5 * election]),
            order,
            ..LinkConditions::PERFECT
        },
        Kind::Mixed => LinkConditions {
            loss: rng.pick(&[0, 20, 50]),
            delay: rng.below(election),
            order,
            ..LinkConditions::PERFECT
        },
        Kind::Calm | Kind::LateStart | Kind::StoppedClocks => LinkConditions::PERFECT,
        Kind::Flaps
        | Kind::Windows
        | Kind::OneWay
        | Kind::Skew
        | Kind::Adversary
        | Kind::Restarts
        | Kind::Takeovers => {
            LinkConditions { delay: rng.pick(&[0, 0, 1]), order, ..LinkConditions::PERFECT }
        }
    }
}
