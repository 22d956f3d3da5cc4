//! What a run does: a cluster, the conditions on its links, and a list of steps. Made from a seed.

mod bursts;
mod few_links;
mod generate;
mod limits;
mod links;
mod observers;
mod shape;

pub(crate) use self::generate::quorum_sizes;
pub use self::{links::Links, shape::Shape};
use crate::{
    disk::{Atomicity, Honesty, Medium, WriteFault},
    network::{InFlight, LinkConditions},
    rng::Rng,
};
use omnipaxos::{util::FlexibleQuorum, ServerConfig};

/// The first configuration of a run. There are lower ones, for forgers.
pub const CONFIGURATION: u32 = 3;

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where all of it comes from; also decides what happens to each message.
    pub seed: u64,
    /// What holds for the whole run.
    pub setting: Setting,
    /// What happens, in order of time.
    pub steps: Vec<Step>,
    /// The next configuration, which begins when a stop sign is decided. The times of its steps count
    /// from then on.
    pub next: Option<Box<Plan>>,
}

/// What holds for a whole run.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The id of the configuration.
    pub configuration: u32,
    /// The servers.
    pub servers: Vec<ServerSetting>,
    /// The observers, which are no servers of the configuration.
    pub observers: Vec<ServerSetting>,
    /// Quorums, where they are not majorities.
    pub quorum: Option<FlexibleQuorum>,
    /// Whether the entry type has snapshots.
    pub entries: EntryKind,
    /// How logs are compacted.
    pub compaction: Compaction,
    /// How the disks write.
    pub atomicity: Atomicity,
    /// Whether the disks do what they acknowledge.
    pub honesty: Honesty,
    /// What the disks are made of.
    pub medium: Medium,
    /// Where the values for which [`is_refused`](crate::value::is_refused) is true are refused.
    pub refusal: Refusal,
    /// When messages are drained.
    pub drains: Drains,
    /// When messages are taken that leave before a write.
    pub early: Early,
    /// Whether messages go through bytes.
    pub wire: Wire,
    /// What the network does.
    pub conditions: LinkConditions,
    /// What becomes of messages on a link that is cut.
    pub in_flight: InFlight,
    /// Ticks with faults.
    pub ticks: u64,
    /// How the run ends.
    pub ending: Ending,
}

impl Setting {
    /// The servers and then the observers.
    pub fn all(&self) -> impl Iterator<Item = &ServerSetting> {
        self.servers.iter().chain(&self.observers)
    }

    /// The server or observer at a position.
    pub fn at(&self, at: usize) -> &ServerSetting {
        match at.checked_sub(self.servers.len()) {
            None => &self.servers[at],
            Some(nth) => &self.observers[nth],
        }
    }
}

/// The servers of which the disks refuse some values before they are taken.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// None: all values are taken.
    Nowhere,
    /// All servers.
    Everywhere,
    /// All but one, where they are proposed and by which they are taken while it leads.
    EverywhereBut(usize),
}

impl Refusal {
    /// Whether the disk of a server refuses some values.
    pub fn is_at(self, server: usize) -> bool {
        match self {
            Refusal::Nowhere => false,
            Refusal::Everywhere => true,
            Refusal::EverywhereBut(lenient) => lenient != server,
        }
    }
}

/// One server of a run.
#[derive(Clone, Debug)]
pub struct ServerSetting {
    /// Its configuration.
    pub config: ServerConfig,
    /// How many ticks of its clock pass in [`ServerSetting::FULL_SPEED`] ticks of the run.
    pub speed: u64,
    /// The tick of the run in which it starts for the first time. In a next configuration it counts
    /// from when the server sees the stop sign, or from the beginning if it joins.
    pub starts_at: u64,
    /// The id of its disk, if that has one.
    pub storage_id: Option<u64>,
}

impl ServerSetting {
    /// The speed of a clock that is right.
    pub const FULL_SPEED: u64 = 8;
}

/// Which entry type a run uses.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// [`crate::value::Summed`], with snapshots.
    Summed,
    /// [`crate::value::Plain`], without.
    Plain,
    /// [`crate::value::Stateful`], with snapshots that only the application can make.
    Stateful,
}

/// How logs are compacted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// By trims and snapshots, which do not care for applications.
    AsAsked,
    /// Without snapshots, as far as all applications have applied.
    AsApplied,
}

/// When a server's messages are drained.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Drains {
    /// After every input.
    EachInput,
    /// At the end of each tick of the run.
    EachTick,
    /// At the end of this number of 100 ticks.
    Rarely(u64),
}

/// When messages are taken that leave before a write.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Early {
    /// They leave with all others, after it.
    Never,
    /// Before each drain. A crash in the write of the drain is one between the two.
    BeforeDrains,
    /// After each input too, if drains are rare. So answers may come before the write.
    AfterInputs,
}

impl Early {
    /// Chooses for a run.
    pub(crate) fn choose(rng: &mut Rng) -> Self {
        rng.pick(&[Early::Never, Early::BeforeDrains, Early::AfterInputs, Early::AfterInputs])
    }
}

/// How messages travel.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// As they are.
    Values,
    /// Encoded and decoded.
    Bytes,
}

/// How a run ends, once there are no more faults.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Whether the servers are notified that links are back.
    pub notify: Notify,
    /// What must hold under cuts, before all links heal.
    pub partial: Option<Partial>,
}

/// Cuts that outlast the other faults.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Which links are cut.
    pub shape: Shape,
    /// What the servers do all the same.
    pub service: Service,
}

/// What servers do though links are cut. Each does what follows it, too.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// The server with most links and all its peers follow one leader, in step.
    Follows,
    /// Some server reaches a quorum, so there is a leader that decides. It need not have a link to
    /// all that it has a way to.
    Decides,
    /// All that have a way to each other learn what one of them has decided.
    Learns,
}

/// The servers that are notified that a link is back.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Notify {
    /// Both ends.
    Both,
    /// Nobody.
    Nobody,
}

/// Something that happens at a tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The tick of the run.
    pub at: u64,
    /// What happens.
    pub action: Action,
}

/// What can happen. Servers are positions in [`Setting::servers`], and beyond those in
/// [`Setting::observers`].
#[expect(missing_docs, reason = "the fields are named for what they are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Values are proposed.
    Append { server: usize, count: u64 },
    /// A stop sign is proposed.
    Reconfigure { server: usize },
    /// The log is trimmed.
    Trim { server: usize, until: Until },
    /// The application at the server, which lags, applies some entries and mostly reports that.
    Apply { server: usize, seed: u64 },
    /// The log is replaced by a snapshot.
    Snapshot { server: usize, until: Until, local: bool },
    /// The application at the server hands over its state.
    CompactWith { server: usize, until: Until },
    /// The priority changes.
    SetPriority { server: usize, priority: u32 },
    /// The server is asked to take over.
    BecomeLeader { server: usize },
    /// Ranges are read.
    Read { server: usize, seed: u64 },
    /// What changed is written, and nothing sent.
    Flush { server: usize },
    /// The server is asked what has happened.
    TakeEvents { server: usize },
    /// The server is asked for its status.
    Status { server: usize },
    /// The server crashes, and is started after some ticks.
    Crash { server: usize, down: u64 },
    /// A write to come fails.
    WriteFault { server: usize, fault: WriteFault, down: u64 },
    /// A read to come fails.
    ReadFault { server: usize, after: u64, down: u64 },
    /// Links are cut for some ticks.
    Cut { shape: Shape, ticks: u64, notify: Notify },
    /// The clock stands still.
    PauseTicks { server: usize, ticks: u64 },
    /// The server stands still, and messages to it wait.
    Freeze { server: usize, ticks: u64, missed: Missed },
    /// A fault hits a server for what it does.
    TargetedFault { whom: Whom, fault: TargetedFault, ticks: u64 },
    /// A message that no honest member sent.
    Forge { server: usize, seed: u64 },
    /// The server is notified that a link is back.
    Reconnected { server: usize, peer: usize },
    /// A linearizable read is requested.
    RequestRead { server: usize },
    /// The leader begins to transfer leadership.
    TransferLeadership { to: usize, ticks: u64 },
}

impl Action {
    /// Whether a server, a link or a disk fails.
    pub fn is_fault(&self) -> bool {
        match self {
            Action::Crash { .. }
            | Action::WriteFault { .. }
            | Action::ReadFault { .. }
            | Action::Cut { .. }
            | Action::PauseTicks { .. }
            | Action::Freeze { .. }
            | Action::TargetedFault { .. } => true,
            Action::Append { .. }
            | Action::Reconfigure { .. }
            | Action::Trim { .. }
            | Action::Apply { .. }
            | Action::Snapshot { .. }
            | Action::CompactWith { .. }
            | Action::SetPriority { .. }
            | Action::BecomeLeader { .. }
            | Action::Read { .. }
            | Action::Flush { .. }
            | Action::TakeEvents { .. }
            | Action::Status { .. }
            | Action::Forge { .. }
            | Action::Reconnected { .. }
            | Action::RequestRead { .. }
            | Action::TransferLeadership { .. } => false,
        }
    }
}

/// What becomes of the ticks of a server that stood still.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Missed {
    /// They are left out.
    Skipped,
    /// They all pass at once, after the messages that waited.
    Made,
}

/// A server that is chosen when the step is done.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Of the servers that take themselves for the leader, the one with the highest ballot.
    Leader,
    /// As `Leader`, if it waits for promises.
    Candidate,
}

/// What hits a server.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TargetedFault {
    /// It crashes.
    Crash,
    /// It stands still.
    Freeze,
    /// Its clock stands still.
    PauseTicks,
    /// It loses all links.
    Isolate,
    /// No message reaches it.
    Deafen,
    /// No message of it arrives.
    Mute,
}

/// Up to where a log is compacted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// Left to the server.
    Default,
    /// This number of 100 decided entries; may be beyond the end.
    Percent(u64),
}

impl Plan {
    /// If nothing in the run makes a heartbeat late or lost, so that no server has a reason to take over
    /// but the start: how often servers are asked to.
    pub fn calm_takeovers(&self) -> Option<u64> {
        let setting = &self.setting;
        let is_steady = |server: &ServerSetting| server.speed == ServerSetting::FULL_SPEED;
        let is_calm = setting.conditions == LinkConditions::PERFECT
            && !matches!(setting.drains, Drains::Rarely(_))
            && setting.servers.iter().all(is_steady);
        let mut takeovers = 0;
        for step in self.steps.iter().filter(|step| !self.is_of_observer(&step.action)) {
            match step.action {
                Action::BecomeLeader { .. } | Action::TransferLeadership { .. } => takeovers += 1,
                ref other if other.is_fault() => return None,
                _ => {}
            }
        }
        is_calm.then_some(takeovers)
    }

    /// Whether a step is one of an observer. It gives no member a reason to take over.
    fn is_of_observer(&self, action: &Action) -> bool {
        let is_observer = |at: usize| at >= self.setting.servers.len();
        match *action {
            Action::Crash { server, .. }
            | Action::WriteFault { server, .. }
            | Action::ReadFault { server, .. }
            | Action::PauseTicks { server, .. }
            | Action::Freeze { server, .. } => is_observer(server),
            Action::Cut { shape, .. } => match shape {
                Shape::OneWay { from, to } => is_observer(from) || is_observer(to),
                Shape::TwoWay { a, b } => is_observer(a) || is_observer(b),
                Shape::Isolated(at) | Shape::Deaf(at) | Shape::Mute(at) => is_observer(at),
                Shape::Unpromised(_)
                | Shape::Unprepared { .. }
                | Shape::Halves(_)
                | Shape::Star(_)
                | Shape::Constrained { .. }
                | Shape::Chain(_)
                | Shape::Ring
                | Shape::FewLinks { .. } => false,
            },
            Action::Append { server, .. }
            | Action::Reconfigure { server }
            | Action::Trim { server, .. }
            | Action::Snapshot { server, .. }
            | Action::CompactWith { server, .. }
            | Action::Read { server, .. }
            | Action::Flush { server }
            | Action::TakeEvents { server }
            | Action::Status { server }
            | Action::RequestRead { server }
            | Action::Forge { server, .. }
            | Action::Apply { server, .. } => is_observer(server),
            Action::TargetedFault { .. }
            | Action::BecomeLeader { .. }
            | Action::TransferLeadership { .. }
            | Action::SetPriority { .. }
            | Action::Reconnected { .. } => false,
        }
    }

    /// Removes the observers and what happens to them.
    pub fn drop_observers(&mut self) {
        let plan = self.clone();
        self.steps.retain(|step| !plan.is_of_observer(&step.action));
        self.setting.observers.clear();
    }

    /// The plan of a seed.
    pub fn of(seed: u64, ticks: u64) -> Self {
        generate::plan(seed, ticks)
    }

    /// Replaces the faults: few links are open at a time, and soon after others.
    pub fn open_few_links(&mut self) {
        few_links::replace_faults(self);
    }
}
