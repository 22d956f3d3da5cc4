//! Faults that last, and the trials that are made of them.

use super::ELECTION_TICKS;
use omnipaxos_tests::{
    lasting::{Bound, Kind, Lasting, Pattern},
    network::{LinkConditions, Order},
    rng::Rng,
};

/// Ticks in which a cluster gets a leader before a fault strikes it.
const CALM_TICKS: u64 = 100;

/// The most ticks of a measurement.
const MOST_TICKS: u64 = 200 * ELECTION_TICKS;

/// A kind of fault.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None: the servers start.
    Start,
    /// The leader stops for good.
    LeaderStops,
    /// Links open and close, each with a period of its own, but for those of one server with a quorum.
    Flaps,
    /// As `Flaps`, and the links of that server close for a while, all together.
    Windows,
    /// All links are open half of the time, each with a period and phase of its own.
    HalfOpen,
    /// Some links are cut in one direction.
    OneWay,
    /// One server has a quorum, and all other links are cut while the cluster has a leader.
    OneHub,
    /// As `OneHub`, and each other link is cut or not.
    Partial,
    /// The servers form a chain.
    Chain,
    /// 5 to 50 % of the messages are lost.
    Loss,
    /// Messages take 1 to 4 ticks: an exchange is shorter than a unit.
    Jitter,
    /// Messages take up to 10 units.
    Delay,
    /// As `Delay`, and the servers start so.
    DelayedStart,
    /// Clocks differ by a factor of up to 30.
    Skew,
    /// The server that leads is cut off again and again.
    Adversary,
    /// A minority crashes and starts again, freezes, or loses ticks, again and again.
    Restarts,
    /// One or two servers are asked to lead again and again.
    Takeovers,
    /// A minority starts late.
    LateStart,
    /// Links open and close, with some loss, delays, and clocks that differ.
    Mixed,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Fault; 19] = [
        Fault::Start,
        Fault::LeaderStops,
        Fault::Flaps,
        Fault::Windows,
        Fault::HalfOpen,
        Fault::OneWay,
        Fault::OneHub,
        Fault::Partial,
        Fault::Chain,
        Fault::Loss,
        Fault::Jitter,
        Fault::Delay,
        Fault::DelayedStart,
        Fault::Skew,
        Fault::Adversary,
        Fault::Restarts,
        Fault::Takeovers,
        Fault::LateStart,
        Fault::Mixed,
    ];

    /// The kind of this name, as `Debug` has it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| format!("{fault:?}").eq_ignore_ascii_case(name))
    }

    /// Whether one server reaches a quorum for long enough at all times, or again and again.
    pub fn leaves_a_quorum(self) -> bool {
        self != Fault::HalfOpen
    }

    /// The fewest servers among which it makes a difference.
    fn least_servers(self) -> usize {
        match self {
            Fault::Start
            | Fault::Windows
            | Fault::HalfOpen
            | Fault::Loss
            | Fault::Jitter
            | Fault::Delay
            | Fault::DelayedStart
            | Fault::Skew
            | Fault::Takeovers
            | Fault::Mixed => 2,
            Fault::LeaderStops
            | Fault::Flaps
            | Fault::OneWay
            | Fault::OneHub
            | Fault::Chain
            | Fault::Adversary
            | Fault::Restarts
            | Fault::LateStart => 3,
            // With three servers there is but one link that may be cut.
            Fault::Partial => 4,
        }
    }

    /// The kind of the generator that it is made from.
    fn kind(self) -> Kind {
        match self {
            Fault::Start => Kind::Calm,
            Fault::Flaps | Fault::HalfOpen => Kind::Flaps,
            Fault::Windows => Kind::Windows,
            Fault::OneWay
            | Fault::OneHub
            | Fault::Partial
            | Fault::Chain
            | Fault::Jitter
            | Fault::LeaderStops => Kind::OneWay,
            Fault::Loss => Kind::Loss,
            Fault::Delay | Fault::DelayedStart => Kind::Delay,
            Fault::Skew => Kind::Skew,
            Fault::Adversary => Kind::Adversary,
            Fault::Restarts => Kind::Restarts,
            Fault::Takeovers => Kind::Takeovers,
            Fault::LateStart => Kind::LateStart,
            Fault::Mixed => Kind::Mixed,
        }
    }
}

/// Faults of one kind that follow from a number.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The kind.
    pub fault: Fault,
    /// The number.
    pub number: u64,
    /// When links are open, how messages travel, and what happens to servers.
    pub lasting: Lasting,
    /// The tick from which on the faults last, and in which the measurement begins. Before it there are
    /// none, and the cluster gets a leader, but where the fault is about how servers start.
    pub from: u64,
}

impl Trial {
    /// The trial of a number. `None` if the fault makes no difference among so few servers.
    pub fn of(fault: Fault, servers: usize, number: u64) -> Option<Self> {
        if servers < fault.least_servers() {
            return None;
        }
        let lasting = Lasting::of_size(number, fault.kind(), servers, ELECTION_TICKS);
        let mut trial = Self { fault, number, lasting, from: 0 };
        trial.change();
        Some(trial)
    }

    /// Turns what the generator made into what the fault is.
    fn change(&mut self) {
        let size = self.lasting.size();
        let mut rng = Rng::of(&[self.number, size as u64, 0x6C69_7665]);
        self.from = match self.fault {
            Fault::Start | Fault::DelayedStart | Fault::LateStart => 0,
            _other => CALM_TICKS + rng.below(ELECTION_TICKS),
        };
        match self.fault {
            Fault::Start
            | Fault::Flaps
            | Fault::Windows
            | Fault::OneWay
            | Fault::Loss
            | Fault::Delay
            | Fault::DelayedStart
            | Fault::Skew
            | Fault::Adversary
            | Fault::Restarts
            | Fault::Takeovers
            | Fault::LateStart
            | Fault::Mixed => {}
            Fault::LeaderStops => {
                self.lasting.links.fill(Pattern::OPEN);
                self.lasting.setting.conditions = LinkConditions::PERFECT;
            }
            Fault::HalfOpen => {
                for (a, b) in pairs(size) {
                    let half = rng.between(1, 3 * ELECTION_TICKS);
                    let phase = rng.below(2 * half);
                    self.set_link(a, b, Pattern { period: 2 * half, up: half, phase });
                }
            }
            Fault::OneHub | Fault::Partial => {
                let (keeper, quorum) = (self.lasting.keeper, self.lasting.quorum.clone());
                for (a, b) in pairs(size) {
                    let is_of_keeper =
                        (a == keeper || b == keeper) && quorum.contains(&a) && quorum.contains(&b);
                    let is_open =
                        is_of_keeper || (self.fault == Fault::Partial && rng.chance(1, 2));
                    self.set_link(a, b, if is_open { Pattern::OPEN } else { Pattern::CUT });
                }
            }
            Fault::Chain => {
                let mut chain: Vec<usize> = (0..size).collect();
                for nth in (1..size).rev() {
                    chain.swap(nth, rng.index(nth + 1));
                }
                for (a, b) in pairs(size) {
                    self.set_link(a, b, Pattern::CUT);
                }
                for link in chain.windows(2) {
                    self.set_link(link[0], link[1], Pattern::OPEN);
                }
            }
            Fault::Jitter => {
                self.lasting.links.fill(Pattern::OPEN);
                self.lasting.setting.conditions =
                    LinkConditions { delay: 3, order: Order::Free, ..LinkConditions::PERFECT };
            }
        }
    }

    fn set_link(&mut self, a: usize, b: usize, pattern: Pattern) {
        let size = self.lasting.size();
        self.lasting.links[a * size + b] = pattern;
        self.lasting.links[b * size + a] = pattern;
    }

    /// Ticks after which a server of ours has decided something if it can.
    pub fn bound(&self) -> u64 {
        Bound::of(&self.lasting).longest
    }

    /// Ticks of the measurement.
    pub fn ticks(&self) -> u64 {
        self.lasting.ticks.min(MOST_TICKS)
    }
}

fn pairs(size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..size).flat_map(|a| (0..a).map(move |b| (a, b)))
}
