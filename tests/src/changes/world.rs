//! The servers, their disks, and the links between them.

use super::{
    acts::quorum,
    checks::Truth,
    kinds::Kind,
    stranger::{Stranger, STRANGER},
    Counts,
};
use crate::{
    coverage,
    disk::{Atomicity, SimDisk},
    network::{InFlight, LinkConditions, Network, Order, Parcel},
    rng::Rng,
    value::{SimEntry, LARGEST_SNAPSHOT},
};
use omnipaxos::{
    events::Event,
    members::WaitsFor,
    messages::{
        sequence_paxos::{PaxosMessage, PaxosMsg},
        Message,
    },
    proposals::{Outcome, ProposalId},
    reads::{ReadId, ReadState},
    status::Role,
    storage::Snapshot,
    util::NodeId,
    ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig,
};
use std::collections::{BTreeMap, BTreeSet};

type Server<T> = OmniPaxos<T, SimDisk<T>>;

/// Servers that there may be at once.
pub(super) const MOST_SERVERS: u64 = 9;

/// Links are kept by the ids of servers, all of which are below this.
const SIZE: usize = STRANGER as usize + 1;

/// A place for a server.
pub(super) struct Slot<T: SimEntry> {
    pub(super) disk: SimDisk<T>,
    pub(super) config: OmniPaxosConfig,
    pub(super) server: Option<Server<T>>,
    /// When it starts again.
    pub(super) down_until: u64,
    /// Its decided log was compared up to here.
    pub(super) seen: u64,
    /// What its application has reported as applied, with this disk.
    pub(super) applied: u64,
    /// Its reads: what each must show, and the configuration in which it was requested.
    pub(super) reads: Vec<(ReadId, u64, u32)>,
    /// What it proposed in this incarnation, and what ended.
    pub(super) open: BTreeMap<ProposalId, u64>,
    /// The changes that it proposed likewise.
    pub(super) changes: BTreeMap<ProposalId, ClusterConfig>,
    /// The plain entries that it took in this incarnation.
    pub(super) appended: Vec<u64>,
    /// Whether it was ever named in a configuration.
    pub(super) has_voted: bool,
    /// Stopped for good.
    pub(super) is_stopped: bool,
}

impl<T: SimEntry> Slot<T> {
    /// Forgets what its server was asked.
    fn forget_requests(&mut self) {
        self.reads.clear();
        self.open.clear();
        self.changes.clear();
        self.appended.clear();
    }
}

/// The servers that learn of the end of an epoch are parted from the others for a while.
pub(super) struct Part {
    pub(super) until: u64,
    /// The members that were removed, if they are those others.
    pub(super) old: BTreeSet<NodeId>,
    /// The server that proposed the change, and its configuration, if that server is the only other one.
    pub(super) proposer: Option<(NodeId, u32)>,
}

/// All of it.
pub(super) struct World<T: SimEntry> {
    pub(super) seed: u64,
    pub(super) now: u64,
    is_traced: bool,
    pub(super) slots: BTreeMap<NodeId, Slot<T>>,
    stranger: Option<Stranger<T>>,
    pub(super) network: Network<T>,
    /// Chance that is drawn when a change is decided.
    chance: Rng,
    pub(super) delay: u64,
    pub(super) part: Option<Part>,
    pub(super) truth: Truth,
    pub(super) ended: Vec<(u64, Outcome)>,
    /// What each server proposed last, at the end.
    pub(super) last: BTreeMap<NodeId, u64>,
    /// Changes that were given up.
    pub(super) given_up: Vec<ClusterConfig>,
    pub(super) all_changes: Vec<ClusterConfig>,
    /// Whether servers are stopped for good as soon as they may.
    stops: bool,
    /// Whether servers crash, and are wiped.
    pub(super) restarts: bool,
    /// Whether leaders trim.
    pub(super) trims: bool,
    /// Whether servers that proposed a change are overtaken by the next one.
    pub(super) overtakes: bool,
    /// For whom changes wait.
    pub(super) waits_for: Vec<WaitsFor>,
    pub(super) has_flexible_quorums: bool,
    pub(super) next_id: u64,
    /// No two changes have the same id.
    pub(super) next_configuration: u32,
    pub(super) settings: ServerConfig,
    atomicity: Atomicity,
    pub(super) calm: bool,
    pub(super) counts: coverage::Counts<Kind>,
    links: coverage::Counts,
    pub(super) slowest_end: u64,
}

fn conditions(rng: &mut Rng) -> LinkConditions {
    LinkConditions {
        loss: rng.pick(&[0, 0, 20, 50, 100]),
        duplicates: rng.pick(&[0, 20]),
        stragglers: rng.pick(&[0, 0, 5]),
        least_delay: 0,
        delay: rng.pick(&[0, 0, 1, 4]),
        order: rng.pick(&[Order::Kept, Order::Free]),
        bytes_per_tick: rng.chance(1, 8).then(|| rng.pick(&[30, 100, 300])),
    }
}

impl<T: SimEntry> World<T> {
    pub(super) fn new(rng: &mut Rng, seed: u64, is_traced: bool) -> Self {
        let nodes: Vec<NodeId> = (1..=rng.between(1, 5)).collect();
        let has_flexible_quorums = rng.chance(1, 3);
        let flexible_quorum = if has_flexible_quorums { quorum(rng, nodes.len()) } else { None };
        let founding = ClusterConfig { configuration_id: 1, nodes: nodes.clone(), flexible_quorum };
        let is_tiny = rng.chance(1, 3);
        // Snapshots travel in pieces then.
        let has_pieces = Rng::of(&[seed, 0x913]).chance(1, 2);
        // So few pieces are in flight that a snapshot may take several heartbeat rounds.
        let has_slow_pieces = Rng::of(&[seed, 0x914]).chance(1, 3);
        let settings = ServerConfig {
            continues: true,
            election_tick_timeout: 12,
            resend_message_tick_timeout: 60,
            max_message_entries: if is_tiny { rng.between(1, 6) as usize } else { 1 << 14 },
            max_in_flight_entries: if is_tiny { rng.between(1, 20) as usize } else { 1 << 16 },
            max_message_bytes: match (is_tiny, has_pieces) {
                (true, true) => 12,
                (true, false) => 100,
                (false, _) => 1 << 20,
            },
            max_in_flight_bytes: match is_tiny && has_pieces && has_slow_pieces {
                true => 24,
                false => ServerConfig::default().max_in_flight_bytes,
            },
            keeps_undecided_appends: rng.chance(1, 2),
            max_snapshot_bytes: LARGEST_SNAPSHOT,
            ..Default::default()
        };
        let conditions = conditions(rng);
        let has_snapshots = T::Snapshot::use_snapshots();
        // Without snapshots a server that joins may lack what was trimmed, and is no use then.
        let waits_for = match has_snapshots {
            true => vec![WaitsFor::All, WaitsFor::Quorum, WaitsFor::Nobody],
            false => vec![WaitsFor::All],
        };
        let mut world = Self {
            seed,
            now: 0,
            is_traced,
            slots: BTreeMap::new(),
            stranger: None,
            network: Network::new(SIZE, conditions, InFlight::Lost, seed ^ 0x11F7),
            chance: Rng::of(&[seed, 0x5A17]),
            delay: conditions.delay,
            part: None,
            truth: Truth::new(founding.clone()),
            ended: Vec::new(),
            last: BTreeMap::new(),
            given_up: Vec::new(),
            all_changes: Vec::new(),
            stops: rng.chance(1, 2),
            restarts: rng.chance(4, 5),
            overtakes: has_snapshots && Rng::of(&[seed, 0x0803]).chance(1, 8),
            trims: !has_snapshots && rng.chance(1, 2),
            waits_for,
            has_flexible_quorums,
            next_id: 1,
            next_configuration: 2,
            settings,
            atomicity: rng.pick(&[Atomicity::Atomic, Atomicity::OneByOne]),
            calm: false,
            counts: coverage::Counts::default(),
            links: coverage::Counts::default(),
            slowest_end: 0,
        };
        if conditions.bytes_per_tick.is_some() {
            world.counts.add(Kind::LimitedLinks);
        }
        if rng.chance(1, 5) {
            world.counts.add(Kind::Stranger);
            match Stranger::new(rng, &founding, &world.settings, seed) {
                Ok(stranger) => world.stranger = Some(stranger),
                Err(error) => panic!("seed {seed}: a founder of another cluster: {error}"),
            }
        }
        let stranger = world.stranger_pid();
        for pid in nodes.into_iter().filter(|pid| Some(*pid) != stranger) {
            let server_config = ServerConfig { pid, ..world.settings.clone() };
            world.add(OmniPaxosConfig { cluster_config: founding.clone(), server_config });
        }
        world
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn has_snapshots(&self) -> bool {
        T::Snapshot::use_snapshots()
    }

    pub(super) fn counts(&self) -> Counts {
        let mut kinds = self.counts.clone();
        let epochs = self.truth.epochs();
        kinds.add_many(Kind::Entry, self.truth.entries());
        kinds.add_many(Kind::Decided, epochs.len() as u64 - 1);
        kinds.add_many(Kind::Disjoint, self.truth.disjoint());
        let flexible = epochs.iter().filter(|(_, config)| config.flexible_quorum.is_some()).count();
        kinds.add_many(Kind::FlexibleQuorum, flexible as u64);
        if self.stranger.as_ref().is_some_and(|stranger| stranger.has_complained) {
            kinds.add(Kind::StrangerConflict);
        }
        Counts { kinds, links: self.links.clone(), slowest_end: self.slowest_end }
    }

    /// What the servers say of themselves.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("epochs {:?}\n", self.truth.epochs());
        for (pid, slot) in &self.slots {
            let server = slot.server.as_ref().map(|server| {
                let status = server.status();
                format!(
                    "{:?} in {}, leader {:?}, promise {:?}, {}/{} compacted {}",
                    status.role,
                    status.configuration_id,
                    status.leader,
                    status.promise,
                    status.decided_idx,
                    status.accepted_idx,
                    status.compacted_idx
                )
            });
            let open: Vec<&u64> = slot.open.values().collect();
            let server = server.unwrap_or_else(|| "is down".to_string());
            text += &format!("  {pid}: {server}, waits for {open:?} {:?}\n", slot.changes);
        }
        text
    }

    pub(super) fn say(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{} {}", self.now, what());
        }
    }

    pub(super) fn add(&mut self, config: OmniPaxosConfig) {
        let pid = config.server_config.pid;
        let disk_seed = self.seed ^ pid ^ (self.now << 8);
        let disk = SimDisk::plain(self.atomicity, disk_seed);
        if Rng::of(&[disk_seed, 0xDEFE]).chance(1, 2) {
            disk.defer_snapshots();
        }
        disk.set_id(self.seed.wrapping_mul(31).wrapping_add(pid << 32 | self.now) | 1);
        let has_voted = !config.server_config.is_observer();
        let slot = Slot {
            disk,
            config,
            server: None,
            down_until: 0,
            seen: 0,
            applied: 0,
            reads: Vec::new(),
            open: BTreeMap::new(),
            changes: BTreeMap::new(),
            appended: Vec::new(),
            has_voted,
            is_stopped: false,
        };
        self.slots.insert(pid, slot);
        self.start(pid);
    }

    fn start(&mut self, pid: NodeId) {
        let Some(slot) = self.slots.get_mut(&pid) else {
            return;
        };
        slot.disk.restart();
        let built = slot.config.clone().build(slot.disk.clone());
        match built {
            Ok(server) => slot.server = Some(server),
            Err(error) => panic!("seed {}, server {pid} does not start: {error}", self.seed),
        }
        slot.seen = 0;
        self.say(|| format!("starts {pid}"));
    }

    pub(super) fn crash(&mut self, pid: NodeId, down: u64) {
        let now = self.now;
        if let Some(slot) = self.slots.get_mut(&pid) {
            slot.server = None;
            slot.down_until = now + down;
            slot.forget_requests();
            if slot.disk.would_undo_compaction() {
                self.counts.add(Kind::Undone);
                let before = slot.disk.peek(|image| image.compacted_idx);
                let after = slot.disk.compacted_idx();
                let has_ended =
                    |(first, _): &&(u64, ClusterConfig)| (before + 1..=after).contains(first);
                if self.truth.epochs().iter().any(|epoch| has_ended(&epoch)) {
                    self.counts.add(Kind::UndoneEpoch);
                }
            }
        }
        self.truth.note_restart();
        self.say(|| format!("{pid} crashes"));
    }

    pub(super) fn stopped(&self) -> BTreeSet<NodeId> {
        let is_stopped = |(pid, slot): (&NodeId, &Slot<T>)| slot.is_stopped.then_some(*pid);
        self.slots.iter().filter_map(is_stopped).collect()
    }

    pub(super) fn running(&self) -> Vec<NodeId> {
        let runs = |(pid, slot): (&NodeId, &Slot<T>)| slot.server.is_some().then_some(*pid);
        self.slots.iter().filter_map(runs).collect()
    }

    /// Opens or cuts one direction of a link.
    pub(super) fn set_open(&mut self, from: NodeId, to: NodeId, is_open: bool) {
        self.network.set_open(from as usize, to as usize, is_open);
    }

    /// Mends all links.
    pub(super) fn heal(&mut self) {
        for from in 0..SIZE {
            (0..SIZE).for_each(|to| self.network.set_open(from, to, true));
        }
    }

    /// The changes that may still be decided.
    fn open_changes(&self) -> impl Iterator<Item = &ClusterConfig> {
        let present = self.truth.present().configuration_id;
        let later = self.all_changes.iter().filter(move |next| next.configuration_id > present);
        later.filter(|next| !self.given_up.contains(next))
    }

    /// Whether a change may still be decided.
    pub(super) fn is_changing(&self) -> bool {
        self.open_changes().next().is_some()
    }

    /// Whether a change that may still be decided names a server.
    pub(super) fn is_named_ahead(&self, pid: NodeId) -> bool {
        self.open_changes().any(|next| next.nodes.contains(&pid))
    }

    /// Lets a tick pass.
    pub(super) fn tick(&mut self) -> Result<(), String> {
        self.now += 1;
        let due: Vec<NodeId> = self
            .slots
            .iter()
            .filter(|(_, slot)| {
                slot.server.is_none() && !slot.is_stopped && slot.down_until <= self.now
            })
            .map(|(pid, _)| *pid)
            .collect();
        for pid in due {
            self.counts.add(Kind::Restart);
            self.start(pid);
            if self.role_of(pid) == Some(Role::Observing) {
                self.counts.add(Kind::ObserverRestart);
            }
        }
        while let Some(Parcel { message, .. }) = self.network.arrival(self.now, &mut self.links) {
            self.deliver(message)?;
        }
        for pid in self.running() {
            let Some(server) = self.slots.get_mut(&pid).and_then(|slot| slot.server.as_mut())
            else {
                continue;
            };
            let ticked = server.try_tick().map_err(|halted| halted.to_string());
            self.note_halt(pid, ticked)?;
            self.drain(pid)?;
        }
        if let Some(stranger) = &mut self.stranger {
            let (pid, messages) = (stranger.pid, stranger.tick(&mut self.truth)?);
            for message in messages {
                self.check_message(pid, &message)?;
                self.send(message);
            }
        }
        Ok(())
    }

    /// The server that does not belong to this cluster, if there is one.
    pub(super) fn stranger_pid(&self) -> Option<NodeId> {
        self.stranger.as_ref().map(|stranger| stranger.pid)
    }

    pub(super) fn role_of(&self, pid: NodeId) -> Option<Role> {
        Some(self.slots.get(&pid)?.server.as_ref()?.status().role)
    }

    fn deliver(&mut self, message: Message<T>) -> Result<(), String> {
        let to = message.get_receiver();
        if self.is_traced {
            self.say(|| format!("{} -> {to}: {message:?}", message.get_sender()));
        }
        if let Message::SequencePaxos(PaxosMessage {
            msg: PaxosMsg::AcceptDecide(accept), ..
        }) = &message
        {
            if accept.entries.plain().is_none() {
                self.counts.add(Kind::Encoded);
            }
        }
        if let Some(stranger) = self.stranger.as_mut().filter(|stranger| stranger.pid == to) {
            stranger.handle(message);
            return Ok(());
        }
        let Some(server) = self.slots.get_mut(&to).and_then(|slot| slot.server.as_mut()) else {
            return Ok(());
        };
        let handled = server.try_handle_incoming(message).map_err(|halted| halted.to_string());
        self.note_halt(to, handled)
    }

    fn send(&mut self, message: Message<T>) {
        let (from, to) = (message.get_sender() as usize, message.get_receiver() as usize);
        self.network.send(self.now, Parcel::new(from, to, 0, message), &mut self.links);
    }

    /// A server halts only where its disk was told to fail.
    fn note_halt(&mut self, pid: NodeId, result: Result<(), String>) -> Result<(), String> {
        let Err(halted) = result else {
            return Ok(());
        };
        let slot = &self.slots[&pid];
        if slot.disk.accident().is_none() {
            return Err(format!("server {pid} halts: {halted}"));
        }
        self.counts.add(Kind::Torn);
        let down = slot.down_until.saturating_sub(self.now).max(1);
        self.crash(pid, down);
        Ok(())
    }

    fn drain(&mut self, pid: NodeId) -> Result<(), String> {
        let mut messages = Vec::new();
        let Some(server) = self.slots.get_mut(&pid).and_then(|slot| slot.server.as_mut()) else {
            return Ok(());
        };
        let drained = server.try_take_outgoing_messages(&mut messages);
        self.note_halt(pid, drained.map_err(|halted| halted.to_string()))?;
        let epochs = self.truth.epochs().len();
        self.check(pid).map_err(|what| format!("server {pid}: {what}"))?;
        if self.truth.epochs().len() > epochs {
            self.part_some(pid);
        }
        for message in messages {
            self.check_message(pid, &message)?;
            self.send(message);
        }
        Ok(())
    }

    /// A server is the first to know that a change is decided. In some cases this and some others are parted
    /// from the rest for a while.
    fn part_some(&mut self, first: NodeId) {
        if self.calm || (self.overtakes && self.part_proposer(first)) {
            return;
        }
        if !self.chance.chance(1, 3) {
            return;
        }
        let epochs = self.truth.epochs();
        let [.., (_, before), (_, after)] = epochs else {
            return;
        };
        let removed = |pid: &NodeId| before.nodes.contains(pid) && !after.nodes.contains(pid);
        let is_old = self.chance.chance(1, 2);
        let all = self.slots.keys().copied().filter(|pid| *pid != first);
        let rest: BTreeSet<NodeId> = match is_old {
            true => all.filter(removed).collect(),
            false => all.filter(|_| self.chance.chance(1, 2)).collect(),
        };
        if rest.is_empty() {
            return;
        }
        self.part_from_others(&rest);
        if is_old {
            self.counts.add(Kind::PartedOld);
        }
        let until = self.now + self.chance.between(20, 300);
        let old = if is_old { rest } else { BTreeSet::new() };
        self.part = Some(Part { until, old, proposer: None });
    }

    /// Parts these servers from all others.
    pub(super) fn part_from_others(&mut self, rest: &BTreeSet<NodeId>) {
        self.heal();
        let others: Vec<NodeId> =
            self.slots.keys().copied().filter(|p| !rest.contains(p)).collect();
        for (one, other) in
            rest.iter().flat_map(|one| others.iter().map(move |other| (*one, *other)))
        {
            self.set_open(one, other, false);
            self.set_open(other, one, false);
        }
        self.say(|| format!("parts {rest:?} from {others:?}"));
        self.counts.add(Kind::Parted);
    }

    fn check_message(&self, pid: NodeId, message: &Message<T>) -> Result<(), String> {
        let Message::SequencePaxos(PaxosMessage { msg, to, .. }) = message else {
            return Ok(());
        };
        let (voted_in, is_answer) = match msg {
            PaxosMsg::Promise(promise) => (promise.n.config_id, true),
            PaxosMsg::Accepted(accepted) => (accepted.n.config_id, true),
            PaxosMsg::Prepare(prepare) => (prepare.n.config_id, false),
            _ => return Ok(()),
        };
        let stranger = self.stranger_pid();
        if is_answer && voted_in == 1 && (stranger == Some(pid) || stranger == Some(*to)) {
            return Err(format!("M5: {pid} votes for {to}, and one of them is of another cluster"));
        }
        let Some(slot) = self.slots.get(&pid) else {
            return Ok(());
        };
        let held = slot.disk.peek(|image| (image.compacted_idx, image.log.len() as u64));
        self.truth.check_vote(pid, voted_in, held)
    }

    fn check(&mut self, pid: NodeId) -> Result<(), String> {
        let Some(slot) = self.slots.get_mut(&pid) else {
            return Ok(());
        };
        let Some(server) = slot.server.as_mut() else {
            return Ok(());
        };
        let decided_idx = server.get_decided_idx();
        if decided_idx > slot.seen {
            let read = slot.disk.undisturbed(|| server.try_read_decided_suffix(slot.seen));
            let read = read.map_err(|failed| failed.to_string())?.unwrap_or_default();
            slot.seen = self.truth.learn(slot.seen, read)?;
            if slot.seen != decided_idx {
                return Err(format!("has decided {decided_idx}, and reads {}", slot.seen));
            }
        }
        let compacted_idx = server.get_compacted_idx();
        if !T::Snapshot::use_snapshots() && !self.trims && compacted_idx > slot.applied {
            let applied = slot.applied;
            return Err(format!("M6: has trimmed {compacted_idx}, and {applied} are applied"));
        }
        let status = server.status();
        self.truth.check_epoch(decided_idx, status.configuration_id)?;
        // A crash may leave the identity of the epoch before.
        let stray = slot.disk.peek(|image| {
            let present_id = status.configuration_id;
            let identity = image.identity.as_ref();
            let identity = identity.filter(|at| at.configuration.configuration_id == present_id);
            let known = identity.into_iter().flat_map(|identity| identity.peers.keys());
            known.copied().find(|peer| !status.nodes.contains(peer))
        });
        if let Some(stray) = stray {
            return Err(format!(
                "knows the storage of {stray}, and {:?} are members",
                status.nodes
            ));
        }
        let stranger = self.stranger.as_ref().map(|stranger| stranger.pid);
        let mut is_told_to_stop = false;
        for event in server.take_events() {
            match event {
                Event::ProposalEnded { id, outcome } => {
                    if let Some(entry) = slot.open.remove(&id) {
                        self.truth.check_outcome(entry, &outcome)?;
                        self.ended.push((entry, outcome));
                    } else if let Some(next) = slot.changes.remove(&id) {
                        self.truth.check_change(&next, &outcome)?;
                        if !matches!(outcome, Outcome::Decided(_)) {
                            self.counts.add(Kind::GivenUp);
                        }
                        self.given_up.extend(match outcome {
                            Outcome::Decided(_) | Outcome::Unknown => None,
                            _ => Some(next),
                        });
                    }
                }
                Event::Retired { may_stop: true } => is_told_to_stop = true,
                Event::EntriesLost(lost) => return Err(format!("has lost entries: {lost:?}")),
                Event::Conflict(conflict) if Some(conflict.pid) == stranger => {
                    self.counts.add(Kind::Conflict);
                }
                Event::Conflict(conflict) => {
                    return Err(format!("is in conflict: {conflict:?}"));
                }
                _ => {}
            }
        }
        let mut wrong = None;
        let counts = &mut self.counts;
        slot.reads.retain(|(read, must, requested_in)| match server.read_state(*read) {
            ReadState::Waiting => true,
            ReadState::Ready(idx) => {
                counts.add(Kind::Read);
                if *requested_in < status.configuration_id {
                    counts.add(Kind::ReadAcross);
                }
                if status.role == Role::Observing {
                    counts.add(Kind::ObserverRead);
                }
                if idx < *must {
                    wrong = Some(format!("a read shows {idx}, and {must} were decided"));
                }
                false
            }
            _ => false,
        });
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        if status.may_stop == Some(true) {
            self.check_may_stop(pid)?;
        }
        if is_told_to_stop && self.stops {
            self.stop(pid);
        }
        Ok(())
    }

    /// Stops a server for good that may be stopped, unless a change on its way names it: its operator
    /// knows that.
    fn stop(&mut self, pid: NodeId) {
        let present = self.truth.present().configuration_id;
        let is_named = self
            .all_changes
            .iter()
            .any(|next| next.configuration_id >= present && next.nodes.contains(&pid));
        if is_named || self.calm {
            return;
        }
        if let Some(slot) = self.slots.get_mut(&pid) {
            (slot.server, slot.is_stopped) = (None, true);
            slot.forget_requests();
            self.counts.add(Kind::Stopped);
            self.say(|| format!("{pid} is stopped for good"));
        }
    }

    /// Checks that the cluster does not need a server that may be stopped (M4): a write quorum of the
    /// epoch that it knows holds everything before that epoch.
    fn check_may_stop(&self, pid: NodeId) -> Result<(), String> {
        let epoch_of = |pid: &NodeId| {
            let slot = self.slots.get(pid)?;
            slot.disk.peek(|image| Some(image.epochs.last()?.configuration.clone()))
        };
        let Some(ClusterConfig { configuration_id, nodes, flexible_quorum }) = epoch_of(&pid)
        else {
            return Ok(());
        };
        let has_begun =
            |pid: &&NodeId| epoch_of(pid).is_some_and(|at| at.configuration_id >= configuration_id);
        let holders = nodes.iter().filter(has_begun).count();
        let needed = flexible_quorum.map_or(nodes.len() / 2 + 1, |quorum| quorum.write_quorum_size);
        match holders >= needed {
            true => Ok(()),
            false => Err(format!("M4: {pid} may stop, and {holders} of {nodes:?} go on")),
        }
    }
}
