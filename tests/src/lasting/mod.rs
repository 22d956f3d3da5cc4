//! Faults that last, under which a cluster must decide all the same.
//!
//! The other runs end their faults and then ask whether the cluster is live. In these runs the
//! faults do not stop, but one server, the keeper, can exchange messages with a quorum. Proposals wait
//! there at all times (with an adversary, at each server), and reads. So the time between two decisions
//! of these proposals and the time between two reads are measured, and held against a [`Bound`]. All other
//! checks of the simulator hold as well.

mod bound;
mod cut_off;
mod generate;
mod report;
mod run;
mod shrink;

pub use self::{
    bound::Bound,
    cut_off::{most_followed, CutOff},
    report::Sums,
    run::{run, Measured, Report},
    shrink::shrink,
};
use crate::plan::Setting;

/// What lasts in a run.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// Nothing: all links are fair, and all clocks are alike.
    Calm,
    /// Each link of two servers opens and closes with a period of its own, some in one direction
    /// only. The links of the keeper with a quorum stay open. In some runs only links of the keeper open and
    /// close, in step with the rounds: for a heartbeat and its answer.
    Flaps,
    /// As [`Flaps`](Kind::Flaps), and the links of the keeper close for a while, all together.
    Windows,
    /// Some links are cut in one direction forever.
    OneWay,
    /// Messages are lost, on all links.
    Loss,
    /// Messages take long, up to several heartbeat rounds, each a different time.
    Delay,
    /// Some clocks are up to thirty times faster than others.
    Skew,
    /// The server that leads is cut off again and again.
    Adversary,
    /// Servers without the keeper's quorum crash, restart, freeze and lose ticks.
    Restarts,
    /// Servers are asked to take over again and again, and priorities change.
    Takeovers,
    /// A minority starts late.
    LateStart,
    /// The clocks of some servers without the keeper's quorum stand still for good. Then links of theirs are cut.
    StoppedClocks,
    /// Flapping links, some loss, delays and clocks that differ, together.
    Mixed,
}

impl Kind {
    /// All kinds. Seeds have all but the last one in turn, and that one now and then.
    pub const ALL: [Kind; 13] = [
        Kind::Calm,
        Kind::Flaps,
        Kind::Windows,
        Kind::OneWay,
        Kind::Loss,
        Kind::Delay,
        Kind::Skew,
        Kind::Adversary,
        Kind::Restarts,
        Kind::Takeovers,
        Kind::LateStart,
        Kind::Mixed,
        Kind::StoppedClocks,
    ];

    /// The kind of a seed: each in turn. Stopped clocks have half of the turns of a late start.
    fn of(seed: u64) -> Self {
        let turns = Self::ALL.len() as u64 - 1;
        match Self::ALL[(seed % turns) as usize] {
            Kind::LateStart if (seed / turns) % 2 == 1 => Kind::StoppedClocks,
            kind => kind,
        }
    }
}

/// How the keeper reads. One read is watched at a time.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Reads {
    /// It requests the next read when the one before has ended.
    OneByOne,
    /// It requests others in each tick meanwhile.
    EachTick,
}

/// A run with faults that last.
#[derive(Clone, Debug)]
pub struct Lasting {
    /// Where all of it comes from.
    pub seed: u64,
    /// What lasts.
    pub kind: Kind,
    /// The servers and the network.
    pub setting: Setting,
    /// The server that keeps a quorum.
    pub keeper: usize,
    /// The servers of that quorum, the keeper among them.
    pub quorum: Vec<usize>,
    /// When each directed link is open: from server `at / n` to server `at % n`.
    pub links: Vec<Pattern>,
    /// Who cuts off the leader.
    pub adversary: Option<Adversary>,
    /// What else happens again and again.
    pub disturbances: Vec<Disturbance>,
    /// How the keeper reads.
    pub reads: Reads,
    /// Ticks of the run.
    pub ticks: u64,
}

/// When a link is open.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Ticks after which it repeats.
    pub period: u64,
    /// The number of these ticks in which the link is open.
    pub up: u64,
    /// Where in the period the run begins.
    pub phase: u64,
}

impl Pattern {
    /// Open at all times.
    pub const OPEN: Pattern = Pattern { period: 1, up: 1, phase: 0 };
    /// Never open.
    pub const CUT: Pattern = Pattern { period: 1, up: 0, phase: 0 };

    /// Whether the link is open at a tick.
    pub fn is_open(self, now: u64) -> bool {
        (now + self.phase) % self.period.max(1) < self.up
    }
}

/// Cuts off the server that leads.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Adversary {
    /// Ticks from one cut to the next: long enough for a leader change and a decision.
    pub every: u64,
    /// Ticks for which a server is cut off.
    pub hold: u64,
    /// Which direction of its links is cut.
    pub cuts: Direction,
}

/// Directions of the links of a server.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To it and from it.
    Both,
    /// To it.
    Incoming,
    /// From it.
    Outgoing,
}

/// Something that happens to a server again and again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Disturbance {
    /// The server.
    pub server: usize,
    /// Ticks after which it happens again.
    pub every: u64,
    /// What happens.
    pub what: What,
}

/// What happens to a server again and again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It crashes, and starts after some ticks.
    Crash {
        /// The ticks.
        down: u64,
    },
    /// It stands still, and messages to it wait.
    Freeze {
        /// For so many ticks.
        ticks: u64,
    },
    /// Its clock stands still.
    PauseTicks {
        /// For so many ticks.
        ticks: u64,
    },
    /// It is asked to take over.
    TransferLeadership,
    /// Its priority changes.
    Priority,
}
