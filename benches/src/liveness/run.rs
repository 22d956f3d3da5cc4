//! Runs a trial and measures.

use super::{
    network::{Network, Parcel},
    Fault, Server, Trial, ELECTION_TICKS,
};
use omnipaxos_tests::{
    lasting::{most_followed, CutOff, What},
    plan::ServerSetting,
};

/// What a trial came to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The longest time without a decision, in ticks.
    pub longest: u64,
    /// Entries that were decided while the fault lasted.
    pub decided: u64,
    /// Whether nothing was decided in the second half of that time.
    pub is_stuck: bool,
}

/// Runs a trial with a contestant.
///
/// At each server a client proposes an entry, and the next one as soon as that server has decided
/// something since, or after a unit. Something is decided when any server knows it to be.
pub fn run<S: Server>(trial: &Trial) -> Outcome {
    let mut cluster = Cluster::<S>::new(trial);
    let mut decided = (0, trial.from);
    let mut longest = 0;
    let mut before = 0;
    for now in 0..trial.from + trial.ticks() {
        cluster.pass_tick(trial, now);
        if now < trial.from {
            before = cluster.decided();
            decided.0 = before;
            continue;
        }
        if cluster.decided() > decided.0 {
            decided = (cluster.decided(), now);
        }
        longest = longest.max(now - decided.1);
    }
    let is_stuck = decided.1 < trial.from + trial.ticks() / 2;
    Outcome { longest, decided: cluster.decided() - before, is_stuck }
}

/// A place for a server.
struct Place<S: Server> {
    running: Option<S>,
    disk: S::Disk,
    incarnation: u64,
    /// When it starts, if it does not run.
    starts_at: u64,
    clock: u64,
    paused_until: u64,
    frozen_until: u64,
    /// When its client proposed last, and how much the server had decided then.
    proposed: Option<(u64, u64)>,
}

struct Cluster<S: Server> {
    seed: u64,
    places: Vec<Place<S>>,
    network: Network<S::Message>,
    /// The most entries that a server has ever known to be decided.
    decided: u64,
    proposals: u64,
    cut_off: CutOff,
}

impl<S: Server> Cluster<S> {
    fn new(trial: &Trial) -> Self {
        let setting = &trial.lasting.setting;
        let places = setting.servers.iter().map(|server| Place {
            running: None,
            disk: S::Disk::default(),
            incarnation: 0,
            starts_at: server.starts_at,
            clock: 0,
            paused_until: 0,
            frozen_until: 0,
            proposed: None,
        });
        let seed = trial.number;
        let size = setting.servers.len();
        Self {
            seed,
            places: places.collect(),
            network: Network::new(size, setting.in_flight, seed),
            decided: 0,
            proposals: 0,
            cut_off: CutOff::default(),
        }
    }

    fn decided(&self) -> u64 {
        self.decided
    }

    /// One tick: faults, messages that arrive, clocks, clients, messages that leave.
    fn pass_tick(&mut self, trial: &Trial, now: u64) {
        if now == trial.from {
            self.network.set_conditions(trial.lasting.setting.conditions);
        }
        if now >= trial.from {
            self.set_links(trial, now);
            self.disturb(trial, now);
        }
        self.start(now);
        self.deliver(now);
        let mut messages = Vec::new();
        for at in 0..self.places.len() {
            let speed = match now < trial.from {
                true => ServerSetting::FULL_SPEED,
                false => trial.lasting.setting.servers[at].speed,
            };
            self.places[at].tick(speed, now);
            self.propose(at, now);
            let place = &mut self.places[at];
            let Some(server) = place.running.as_mut().filter(|_| place.frozen_until <= now) else {
                continue;
            };
            server.take(&mut messages);
            self.decided = self.decided.max(server.decided());
            for (to, message) in messages.drain(..) {
                self.network.send(now, Parcel { from: at, to: to as usize - 1, message });
            }
        }
    }

    fn set_links(&mut self, trial: &Trial, now: u64) {
        if let Some(adversary) = trial.lasting.adversary {
            let follows = |at| follows(&self.places, at);
            self.cut_off.attack(adversary, self.places.len(), follows, now);
        }
        for (from, to, is_open) in trial.lasting.open_links(&self.cut_off, now) {
            self.network.set_open(from, to, is_open);
        }
    }

    /// The server that most servers follow.
    fn leader(&self) -> Option<usize> {
        most_followed(self.places.len(), |at| follows(&self.places, at))
    }

    fn disturb(&mut self, trial: &Trial, now: u64) {
        if trial.fault == Fault::LeaderStops && now == trial.from {
            let leader = self.leader().expect("a calm cluster has a leader");
            self.places[leader].stop(u64::MAX);
        }
        for disturbance in &trial.lasting.disturbances {
            if now == 0 || !now.is_multiple_of(disturbance.every) {
                continue;
            }
            let place = &mut self.places[disturbance.server];
            match disturbance.what {
                What::Crash { down } => place.stop(now + down),
                What::Freeze { ticks } => place.frozen_until = place.frozen_until.max(now + ticks),
                What::PauseTicks { ticks } => {
                    place.paused_until = place.paused_until.max(now + ticks);
                }
                What::TransferLeadership => {
                    if let Some(server) = &mut place.running {
                        server.ask_to_lead();
                    }
                }
                // Priorities of the two mean different things.
                What::Priority => {}
            }
        }
    }

    fn start(&mut self, now: u64) {
        let n = self.places.len() as u64;
        for (pid, place) in (1..).zip(&mut self.places) {
            if place.running.is_none() && place.starts_at <= now {
                place.incarnation += 1;
                let disk = std::mem::take(&mut place.disk);
                place.running = Some(S::start(pid, n, disk, self.seed, place.incarnation));
                place.proposed = None;
            }
        }
    }

    fn deliver(&mut self, now: u64) {
        while let Some(parcel) = self.network.arrival(now) {
            let place = &mut self.places[parcel.to];
            if place.frozen_until > now {
                self.network.put(place.frozen_until, parcel);
            } else if let Some(server) = &mut place.running {
                server.handle(parcel.message);
            }
        }
    }

    fn propose(&mut self, at: usize, now: u64) {
        let place = &mut self.places[at];
        let Some(server) = place.running.as_mut().filter(|_| place.frozen_until <= now) else {
            return;
        };
        let decided = server.decided();
        let is_due = place.proposed.is_none_or(|(tick, decided_then)| {
            decided > decided_then || now >= tick + ELECTION_TICKS
        });
        if is_due {
            self.proposals += 1;
            server.propose(self.proposals);
            place.proposed = Some((now, decided));
        }
    }
}

/// The position of the server that a server follows.
fn follows<S: Server>(places: &[Place<S>], at: usize) -> Option<usize> {
    let leader = places[at].running.as_ref()?.leader()?;
    Some(leader as usize - 1)
}

impl<S: Server> Place<S> {
    fn tick(&mut self, speed: u64, now: u64) {
        if self.paused_until > now || self.frozen_until > now {
            return;
        }
        self.clock += speed;
        let ticks = self.clock / ServerSetting::FULL_SPEED;
        self.clock %= ServerSetting::FULL_SPEED;
        if let Some(server) = &mut self.running {
            (0..ticks).for_each(|_| server.tick());
        }
    }

    fn stop(&mut self, until: u64) {
        if let Some(server) = self.running.take() {
            self.disk = server.stop();
            self.starts_at = until;
        }
    }
}
