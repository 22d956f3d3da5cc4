//! Runs in which the members change, under faults: one log through every reconfiguration.
//!
//! Servers join, leave, come back, crash, are cut off, and are named in the next configuration while they
//! are none of this. All the while entries are proposed everywhere, and read. `checks` has what must
//! hold. At the end all faults stop, and the log must continue at every server.

mod acts;
mod checks;
mod ending;
mod kinds;
mod overtaken;
mod stranger;
mod world;

pub use self::kinds::Kind;
use self::world::World;
use crate::{
    coverage::{self, Kind as Fault},
    rng::Rng,
    value::{Plain, SimEntry, Stateful, Summed},
};
use std::fmt;

/// One run.
#[derive(Copy, Clone, Debug)]
pub struct Changes {
    /// All else follows from it.
    pub seed: u64,
    /// Ticks with faults.
    pub ticks: u64,
}

/// The faults of links that must occur.
const FAULTS: [Fault; 6] = [
    Fault::Loss,
    Fault::Duplicate,
    Fault::Reorder,
    Fault::Straggle,
    Fault::Overflow,
    Fault::Severed,
];

/// What runs were like.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// What was done, and what came of it.
    pub kinds: coverage::Counts<Kind>,
    /// What happened to messages.
    pub links: coverage::Counts,
    /// Longest time until the end was quiet, in ticks.
    pub slowest_end: u64,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.kinds.merge(&other.kinds);
        self.links.merge(&other.links);
        self.slowest_end = self.slowest_end.max(other.slowest_end);
    }

    /// The kinds that never occurred, though they could.
    pub fn missing(&self) -> Vec<&'static str> {
        let faults = FAULTS.iter().filter(|fault| self.links.of(**fault) == 0);
        let kinds = self.kinds.missing();
        kinds.iter().map(|kind| kind.name()).chain(faults.map(|fault| fault.name())).collect()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in Kind::ALL {
            writeln!(f, "{:>12} {}", self.kinds.of(*kind), kind.name())?;
        }
        for fault in FAULTS {
            writeln!(f, "{:>12} {}", self.links.of(fault), fault.name())?;
        }
        writeln!(f, "{:>12} ticks until the slowest end was quiet", self.slowest_end)
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

/// Ticks until the log must continue at all servers after the last fault: rounds that were lengthened to 16
/// times 12 ticks end, and then a few of each kind follow: to learn each epoch that was missed, to elect,
/// to catch up.
const QUIET_WITHIN: u64 = 6000;

/// Plays a run. With `is_traced` it prints what happens.
pub fn run(changes: Changes, is_traced: bool) -> Report {
    match Rng::of(&[changes.seed, 0xE27]).below(4) {
        0 => run_with::<Plain>(changes, is_traced),
        1 => run_with::<Stateful>(changes, is_traced),
        _ => run_with::<Summed>(changes, is_traced),
    }
}

fn run_with<T: SimEntry>(changes: Changes, is_traced: bool) -> Report {
    let mut rng = Rng::of(&[changes.seed, 0xC4A6]);
    let mut world = World::<T>::new(&mut rng, changes.seed, is_traced);
    let failure = play(&mut world, &mut rng, changes.ticks).err();
    let failure = failure.map(|what| format!("tick {}: {what}\n{}", world.now(), world.describe()));
    Report { counts: world.counts(), failure }
}

fn play<T: SimEntry>(world: &mut World<T>, rng: &mut Rng, ticks: u64) -> Result<(), String> {
    for _ in 0..ticks {
        world.act(rng)?;
        world.tick()?;
    }
    world.end_faults();
    let start = world.now();
    while !world.is_in_step() || !world.propose_until_decided() {
        if world.now() - start > QUIET_WITHIN {
            return Err("the log does not continue at all servers".to_string());
        }
        world.tick()?;
        if world.has_trimmed_a_quorum_away() {
            break;
        }
    }
    world.note_quiet(start);
    world.check_outcomes()
}
