//! Runs in which the members change, under faults: one log through every reconfiguration.
//!
//! Servers join, leave, come back, crash, are cut off, and are named in the next configuration while they
//! are none of this. All the while entries are proposed everywhere, and read. `checks` has what must
//! hold. At the end all faults stop, and the log must go on at every server.

mod checks;
mod world;

use self::world::World;
use crate::rng::Rng;
use std::fmt;

/// One run.
#[derive(Copy, Clone, Debug)]
pub struct Changes {
    /// All else follows from it.
    pub seed: u64,
    /// Ticks with faults.
    pub ticks: u64,
}

/// What runs were like.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes proposed.
    pub proposed: u64,
    /// Changes decided.
    pub decided: u64,
    /// Changes that ended otherwise.
    pub given_up: u64,
    /// Changes after which no member stayed.
    pub disjoint: u64,
    /// Servers that began as observers.
    pub joined: u64,
    /// Restarts.
    pub restarts: u64,
    /// Restarts of servers that were no members then.
    pub observer_restarts: u64,
    /// Crashes between two operations of a write.
    pub torn: u64,
    /// Disks of observers that were wiped.
    pub wiped: u64,
    /// Servers that were stopped for good when they might.
    pub stopped: u64,
    /// Servers that came back after they were stopped for good.
    pub came_back: u64,
    /// Snapshots made.
    pub snapshots: u64,
    /// Entries decided.
    pub entries: u64,
    /// Reads answered.
    pub reads: u64,
    /// Longest time until the end was quiet, in ticks.
    pub slowest_end: u64,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.proposed += other.proposed;
        self.decided += other.decided;
        self.given_up += other.given_up;
        self.disjoint += other.disjoint;
        self.joined += other.joined;
        self.restarts += other.restarts;
        self.observer_restarts += other.observer_restarts;
        self.torn += other.torn;
        self.wiped += other.wiped;
        self.stopped += other.stopped;
        self.snapshots += other.snapshots;
        self.came_back += other.came_back;
        self.entries += other.entries;
        self.reads += other.reads;
        self.slowest_end = self.slowest_end.max(other.slowest_end);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, what) in [
            (self.proposed, "changes proposed"),
            (self.decided, "changes decided"),
            (self.given_up, "changes that ended otherwise"),
            (self.disjoint, "changes after which no member stayed"),
            (self.joined, "servers that began as observers"),
            (self.restarts, "restarts"),
            (self.observer_restarts, "restarts of servers that were no members then"),
            (self.torn, "crashes between two operations of a write"),
            (self.wiped, "wiped disks of observers"),
            (self.stopped, "servers stopped for good when they might"),
            (self.came_back, "servers that came back after they were stopped for good"),
            (self.snapshots, "snapshots made"),
            (self.entries, "entries decided"),
            (self.reads, "reads answered"),
            (self.slowest_end, "ticks until the slowest end was quiet"),
        ] {
            writeln!(f, "{count:>12} {what}")?;
        }
        Ok(())
    }
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it was like.
    pub counts: Counts,
    /// What did not hold, and when.
    pub failure: Option<String>,
}

/// Ticks until the log must go on at all servers after the last fault: rounds that were lengthened to 16
/// times 12 ticks end, and then a few of each kind follow: to learn each epoch that was missed, to elect,
/// to catch up.
const QUIET_WITHIN: u64 = 6000;

/// Plays a run. With `is_traced` it prints what happens.
pub fn run(changes: Changes, is_traced: bool) -> Report {
    let mut rng = Rng::of(&[changes.seed, 0xC4A6]);
    let mut world = World::new(&mut rng, changes.seed, is_traced);
    let failure = play(&mut world, &mut rng, changes.ticks).err();
    let failure = failure.map(|what| format!("tick {}: {what}\n{}", world.now(), world.describe()));
    Report { counts: world.counts(), failure }
}

fn play(world: &mut World, rng: &mut Rng, ticks: u64) -> Result<(), String> {
    for _ in 0..ticks {
        world.act(rng);
        world.tick()?;
    }
    world.end_faults();
    let start = world.now();
    while !world.is_in_step() || !world.propose_until_decided() {
        if world.now() - start > QUIET_WITHIN {
            return Err("the log does not go on at all servers".to_string());
        }
        world.tick()?;
    }
    world.note_quiet(start);
    world.check_outcomes()
}
