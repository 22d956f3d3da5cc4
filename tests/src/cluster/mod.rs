//! The servers of a run, their clocks, disks and links.

mod application;
mod clock;
mod events;
mod forge;
mod forge_observing;
mod inputs;
mod lasting;
mod leader_transfer;
mod next_configuration;
mod observers;
mod reads;
mod rest;
mod server;
mod steps;
mod targeted_faults;
mod trace;

use self::{
    leader_transfer::Transfers,
    next_configuration::Next,
    reads::Reads,
    server::{Running, Server},
};
pub use self::{reads::Requested, rest::Rest, steps::Proposed, trace::Trace};
use crate::{
    checker::{ensure, Check, Checker, Limits, Violation},
    coverage::{Counts, Kind},
    describe,
    disk::Taken,
    network::{LinkConditions, Network, Parcel},
    plan::{Drains, Notify, Plan, ServerSetting, Setting, Shape, Wire},
    rng::Rng,
    value::SimEntry,
};
use omnipaxos::{
    messages::{sequence_paxos::PaxosMsg, Message},
    status::{Dropped, Status},
    storage::SnapshotType,
};

/// The servers of a run, their clocks, disks and links.
#[derive(Debug)]
pub struct Cluster<T: SimEntry> {
    seed: u64,
    setting: Setting,
    now: u64,
    /// When a server was last asked to lead.
    asked_at: Option<u64>,
    servers: Vec<Server<T>>,
    network: Network<T>,
    healings: Vec<Healing>,
    checker: Checker,
    counts: Counts,
    traffic: Traffic,
    reads: Reads,
    transfers: Transfers,
    /// See [`slack`](Self::slack).
    slack: u64,
    /// See [`queueing`](Self::queueing).
    queueing: u64,
    trace: Trace,
    buffer: Vec<Message<T>>,
    early_buffer: Vec<Message<T>>,
    next: Next<T>,
    /// Whether another configuration came before.
    is_next: bool,
    /// Messages that arrived here and also reach the other configuration.
    strays: Vec<Message<T>>,
    /// Number of messages that arrived.
    arrived: u64,
    /// Entries that the next configuration has decided.
    decided_next: u64,
}

/// Clients cannot cause this many messages in flight: the servers multiply them.
const FLOOD: usize = 20_000;

/// Links that will be back.
#[derive(Clone, Debug)]
struct Healing {
    at: u64,
    shape: Shape,
    notify: Notify,
}

/// Messages sent so far.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Of Sequence Paxos.
    pub paxos: u64,
    /// Heartbeats.
    pub heartbeats: u64,
    /// Of Sequence Paxos, the questions of observers for more entries, and the answers.
    pub observing: u64,
    /// Of Sequence Paxos, the proposals and reads of observers, and the answers.
    pub observers: u64,
}

impl<T: SimEntry> Cluster<T> {
    /// Builds the servers of a plan.
    ///
    /// # Errors
    /// A server cannot be built from an empty disk.
    pub fn new(plan: &Plan, trace: Trace) -> Result<Self, Violation> {
        let mut cluster = Self::unstarted(plan, trace);
        for at in 0..cluster.servers.len() {
            let starts_at = cluster.servers[at].setting.starts_at;
            cluster.servers[at].running = Running::Down { until: starts_at };
            if starts_at == 0 {
                cluster.start(at)?;
            }
        }
        Ok(cluster)
    }

    /// The servers of a plan, which nobody has started yet.
    fn unstarted(plan: &Plan, trace: Trace) -> Self {
        let setting = plan.setting.clone();
        let members = setting.servers.len();
        let size = setting.all().count();
        let write_quorum = setting.quorum.map_or(members / 2 + 1, |q| q.write_quorum_size);
        let pids = setting.all().map(|server| server.config.pid).collect();
        let limits = setting.all().map(|server| Limits::of(&server.config)).collect();
        let taken = Taken::default();
        let mut cluster = Self {
            seed: plan.seed,
            now: 0,
            asked_at: None,
            servers: (0..size)
                .map(|at| Server::new(&setting, at, &taken, plan.seed, trace.is_on()))
                .collect(),
            network: Network::new(size, setting.conditions, setting.in_flight, plan.seed),
            healings: Vec::new(),
            checker: Checker::new(pids, write_quorum)
                .in_configuration(setting.configuration)
                .with_members(members)
                .limited_to(limits)
                .compacted_by(&setting),
            counts: Counts::default(),
            traffic: Traffic::default(),
            reads: Reads::default(),
            transfers: Transfers::default(),
            slack: 0,
            queueing: 0,
            trace,
            buffer: Vec::new(),
            early_buffer: Vec::new(),
            next: plan.next.clone().map_or(Next::Never, Next::Planned),
            is_next: false,
            strays: Vec::new(),
            arrived: 0,
            decided_next: 0,
            setting,
        };
        cluster.count_setting();
        cluster
    }

    /// Lets a tick of the run pass: links heal, servers restart, messages arrive, clocks tick.
    ///
    /// # Errors
    /// What does not hold.
    pub fn pass_tick(&mut self) -> Result<(), Violation> {
        self.now += 1;
        self.heal_due()?;
        for at in 0..self.servers.len() {
            if self.servers[at].is_back(self.now) {
                self.count_start(at);
                self.start(at)?;
            }
        }
        while let Some(parcel) = self.network.arrival(self.now, &mut self.counts) {
            self.deliver(parcel)?;
        }
        for at in 0..self.servers.len() {
            for _ in 0..self.servers[at].ticks(self.now) {
                self.tick(at)?;
            }
        }
        let in_flight = self.network.in_flight();
        ensure!(in_flight <= FLOOD, Check::Flood, "{in_flight} messages are in flight");
        self.drain_some()?;
        self.pass_tick_of_next()
    }

    /// When a server was last asked to lead.
    pub fn asked_at(&self) -> Option<u64> {
        self.asked_at
    }

    /// The time of the run.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// What was seen.
    pub fn checker(&self) -> &Checker {
        &self.checker
    }

    /// What was done.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What was sent.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The trace, which is taken away.
    pub fn take_trace(&mut self) -> Trace {
        std::mem::replace(&mut self.trace, Trace::Off)
    }

    /// Ends all faults: links heal, messages arrive in the next tick, or when their link has carried the
    /// bytes before them; all servers run, and their clocks with the same speed; disks write what waited.
    ///
    /// # Errors
    /// What does not hold when a server restarts.
    pub fn set_conditions(&mut self, notify: Notify) -> Result<(), Violation> {
        self.trace.note(|| format!("{} the faults are over", self.now));
        let mut cut = Vec::new();
        self.each_link(|network, a, b| {
            if !network.is_open(a, b) || !network.is_open(b, a) {
                cut.push((a, b));
            }
        });
        self.network.set_conditions(self.now, LinkConditions::PERFECT);
        self.healings.clear();
        self.setting.drains = Drains::EachTick;
        for at in 0..self.servers.len() {
            self.servers[at].setting.speed = ServerSetting::FULL_SPEED;
            self.servers[at].wake(self.now);
            if !matches!(self.servers[at].running, Running::Up(_)) {
                self.count_start(at);
                self.start(at)?;
            }
            self.servers[at].disk.repair();
            self.servers[at].disk.finish_snapshots();
        }
        self.network.limit(self.limit_at_rest());
        self.measure_slack();
        match notify {
            Notify::Nobody => {}
            Notify::Both => {
                for (a, b) in cut {
                    self.reconnected(a, b)?;
                    self.reconnected(b, a)?;
                }
            }
        }
        Ok(())
    }

    /// Cuts the links of a shape.
    pub fn cut(&mut self, shape: Shape) {
        self.trace.note(|| format!("{} cut {shape:?}", self.now));
        for (from, to) in self.cuts_of(shape) {
            self.network.cut(from, to);
        }
        match shape {
            Shape::Unpromised(server) => self.network.lose_promises(server),
            Shape::Unprepared { from, but } => self.network.lose_prepares(from, but),
            _ => {}
        }
    }

    /// Takes the cuts of a shape back.
    ///
    /// # Errors
    /// What does not hold when servers are told.
    pub fn heal(&mut self, shape: Shape, notify: Notify) -> Result<(), Violation> {
        self.trace.note(|| format!("{} heal {shape:?}, tell {notify:?}", self.now));
        match shape {
            Shape::Unpromised(server) => self.network.carry_promises(server),
            Shape::Unprepared { from, but } => self.network.carry_prepares(from, but),
            _ => {}
        }
        for (from, to) in self.cuts_of(shape) {
            let healed = self.network.heal(from, to);
            match notify {
                Notify::Nobody => self.counts.add(Kind::HealUnnotified),
                Notify::Both if healed => {
                    self.counts.add(Kind::HealNotified);
                    self.reconnected(from, to)?;
                    self.reconnected(to, from)?;
                }
                Notify::Both => {}
            }
        }
        Ok(())
    }

    /// All servers, in short.
    pub fn describe(&self) -> String {
        let servers: Vec<String> = self.servers.iter().map(Server::describe).collect();
        servers.join("; ") + &self.describe_next()
    }

    fn each_link(&self, mut f: impl FnMut(&Network<T>, usize, usize)) {
        for a in 0..self.servers.len() {
            for b in 0..a {
                f(&self.network, a, b);
            }
        }
    }

    fn heal_due(&mut self) -> Result<(), Violation> {
        let now = self.now;
        let due: Vec<Healing> = self.healings.iter().filter(|h| h.at <= now).cloned().collect();
        self.healings.retain(|healing| healing.at > now);
        for healing in due {
            self.heal(healing.shape, healing.notify)?;
        }
        Ok(())
    }

    fn deliver(&mut self, parcel: Parcel<T>) -> Result<(), Violation> {
        let to = &self.servers[parcel.to];
        if to.frozen_until > self.now {
            self.network.put_back(to.frozen_until, parcel);
            return Ok(());
        }
        if parcel.incarnation != to.incarnation {
            self.counts.add(Kind::Stale);
        }
        let (from, to) = (self.servers[parcel.from].pid(), to.pid());
        self.trace.note(|| {
            format!("{} {from} -> {to}: {}", self.now, describe::message(&parcel.message))
        });
        self.count_delivered(&parcel.message);
        self.count_observing(parcel.from, parcel.to, &parcel.message);
        self.keep_stray(&parcel.message);
        if self.servers[parcel.to].replica().is_none() {
            return self.handle(parcel.to, parcel.message);
        }
        if self.is_unknown(parcel.from, parcel.to, &parcel.message) {
            return self.handle_unknown(parcel.to, parcel.message);
        }
        self.checker.heard(parcel.to, &parcel.message);
        let is_chunk = matches!(
            &parcel.message,
            Message::SequencePaxos(paxos) if matches!(paxos.msg, PaxosMsg::CatchUpChunk(_))
        );
        self.handle(parcel.to, parcel.message)?;
        match self.servers[parcel.to].replica().filter(|_| is_chunk) {
            Some(replica) => self.checker.check_held(parcel.to, &replica.status()),
            None => Ok(()),
        }
    }

    /// Whether a message comes from a disk that is not stored at the receiver, and shows it.
    fn is_unknown(&self, from: usize, to: usize, message: &Message<T>) -> bool {
        let Message::SequencePaxos(message) = message else {
            return false;
        };
        if self.is_observer(from) || self.is_observer(to) {
            return false;
        }
        let shows_none = matches!(
            message.msg,
            PaxosMsg::NotAccepted(_)
                | PaxosMsg::CatchUpRedirect(_)
                | PaxosMsg::CatchUpRequest(_)
                | PaxosMsg::ProposalForward(_)
                | PaxosMsg::ForwardStopSign(_)
                | PaxosMsg::LeadershipCheck(_)
                | PaxosMsg::TransferLeadership(_)
                | PaxosMsg::Joining(_)
        );
        let id = self.servers[from].setting.storage_id;
        let stored = self.servers[to].disk.peek(|image| {
            let identity = image.identity.as_ref();
            identity.and_then(|identity| identity.peers.get(&message.from).copied())
        });
        id.is_some() && stored != id && !shows_none
    }

    /// Invariant I18: a message from a disk that is not stored here changes nothing.
    fn handle_unknown(&mut self, at: usize, message: Message<T>) -> Result<(), Violation> {
        self.counts.add(Kind::UnknownDisk);
        let shown = |server: &Server<T>| server.replica().map(|replica| replica.status());
        let before = shown(&self.servers[at]);
        let words = describe::message(&message);
        let drains = std::mem::replace(&mut self.setting.drains, Drains::EachTick);
        self.handle(at, message)?;
        self.setting.drains = drains;
        let after = shown(&self.servers[at]);
        let state = |status: Option<Status>| {
            status.map(|mut status| {
                status.dropped = Dropped::default();
                status
            })
        };
        let (before, after) = (state(before), state(after));
        ensure!(
            after.is_none() || after == before,
            Check::KnownDisks,
            "server {at}: {words} from a disk that it does not know makes of {before:?} {after:?}"
        );
        match drains {
            Drains::EachInput => self.drain(at),
            Drains::EachTick | Drains::Rarely(_) => Ok(()),
        }
    }

    fn count_delivered(&mut self, message: &Message<T>) {
        let Message::SequencePaxos(message) = message else {
            return;
        };
        match &message.msg {
            PaxosMsg::AcceptDecide(m) if m.entries.plain().is_none() => {
                self.counts.add(Kind::Encoded);
            }
            PaxosMsg::CatchUpRedirect(_) => self.counts.add(Kind::Redirect),
            PaxosMsg::CatchUpRequest(request) if request.range.is_some() => {
                self.counts.add(Kind::Range);
            }
            PaxosMsg::TransferLeadership(_) => self.counts.add(Kind::TransferLeadership),
            PaxosMsg::Joining(_) => {}
            PaxosMsg::ReadIndexRequest(request) if request.origin != message.from => {
                self.counts.add(Kind::ReadRelayed);
            }
            PaxosMsg::CatchUpChunk(chunk) => {
                self.counts.add(Kind::Chunk);
                if chunk.piece.is_some() {
                    self.counts.add(Kind::Piece);
                }
                if chunk.snapshot.is_some() {
                    self.counts.add(Kind::SnapshotPiece);
                }
                if matches!(chunk.snapshot, Some(SnapshotType::Delta(_))) {
                    self.counts.add(Kind::DeltaChunk);
                }
            }
            _other => {}
        }
    }

    fn count_start(&mut self, at: usize) {
        self.counts.add(match self.servers[at].incarnation {
            0 if self.is_next => Kind::StartedNext,
            0 => Kind::LateStart,
            _ => Kind::Restart,
        });
    }

    fn drain_some(&mut self) -> Result<(), Violation> {
        for at in 0..self.servers.len() {
            let is_due = match self.setting.drains {
                Drains::EachInput => false,
                Drains::EachTick => true,
                Drains::Rarely(percent) => {
                    Rng::of(&[self.seed, self.now, at as u64]).chance(percent, 100)
                }
            };
            if is_due && self.servers[at].frozen_until <= self.now {
                self.drain(at)?;
            }
        }
        Ok(())
    }

    fn count_setting(&mut self) {
        let servers = &self.setting.servers;
        let is_same =
            |f: fn(&ServerSetting) -> u64| servers.iter().all(|server| f(server) == f(&servers[0]));
        let mut kinds = Vec::new();
        if !is_same(|server| server.speed) {
            kinds.push(Kind::Skew);
        }
        if !is_same(|server| server.config.batch_size as u64) {
            kinds.push(Kind::MixedBatches);
        }
        if servers.iter().any(ServerSetting::is_limited) {
            kinds.push(Kind::TinyLimits);
        }
        if servers.iter().any(|server| server.limits() != servers[0].limits()) {
            kinds.push(Kind::MixedLimits);
        }
        if matches!(self.setting.drains, Drains::Rarely(_)) {
            kinds.push(Kind::LateOutput);
        }
        if self.setting.atomicity == crate::disk::Atomicity::OneByOne {
            kinds.push(Kind::OneByOne);
        }
        if self.setting.conditions.bytes_per_tick.is_some() {
            kinds.push(Kind::LimitedLinks);
        }
        if self.setting.quorum.is_some() {
            kinds.push(Kind::Flexible);
        }
        kinds.into_iter().for_each(|kind| self.counts.add(kind));
    }

    /// Encodes and decodes a message, in runs that do so.
    fn transport(&mut self, message: Message<T>) -> Result<Message<T>, Violation> {
        match self.setting.wire {
            Wire::Values => Ok(message),
            Wire::Bytes => {
                self.counts.add(Kind::Codec);
                trace::through_bytes(&message)
            }
        }
    }
}
