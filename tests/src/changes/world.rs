//! The servers, their disks, and the links between them.

use super::{checks::Truth, Counts};
use crate::{
    disk::{Atomicity, Failure, SimDisk, WriteFault},
    rng::Rng,
    value::{SimEntry, Summed},
};
use omnipaxos::{
    events::Event,
    members::{MemberChange, WaitsFor},
    messages::{
        sequence_paxos::{PaxosMessage, PaxosMsg},
        Message,
    },
    proposals::{Outcome, ProposalId},
    reads::{ReadId, ReadState},
    storage::Epoch,
    util::NodeId,
    ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig,
};
use std::collections::{BTreeMap, BTreeSet};

type Server = OmniPaxos<Summed, SimDisk<Summed>>;

/// Servers that there may be at once.
const MOST_SERVERS: u64 = 9;

/// A place for a server.
struct Slot {
    disk: SimDisk<Summed>,
    config: OmniPaxosConfig,
    server: Option<Server>,
    /// When it starts again.
    down_until: u64,
    /// Its decided log was compared up to here.
    seen: u64,
    reads: Vec<(ReadId, u64)>,
    /// What it proposed in this incarnation, and what ended.
    open: BTreeMap<ProposalId, u64>,
    /// The changes that it proposed likewise.
    changes: BTreeMap<ProposalId, ClusterConfig>,
    /// Whether it was ever named in a configuration.
    has_voted: bool,
    /// Stopped for good.
    is_stopped: bool,
}

/// All of it.
pub(super) struct World {
    seed: u64,
    now: u64,
    is_traced: bool,
    slots: BTreeMap<NodeId, Slot>,
    in_flight: BTreeMap<u64, Vec<Message<Summed>>>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    links: Rng,
    loss: u64,
    delay: u64,
    truth: Truth,
    ended: Vec<(u64, Outcome)>,
    /// What each server proposed last, at the end.
    last: BTreeMap<NodeId, u64>,
    /// Changes that were given up.
    given_up: Vec<ClusterConfig>,
    all_changes: Vec<ClusterConfig>,
    /// Whether servers are stopped for good as soon as they may.
    stops: bool,
    next_id: u64,
    /// No two changes have the same id.
    next_configuration: u32,
    settings: ServerConfig,
    atomicity: Atomicity,
    calm: bool,
    counts: Counts,
}

impl World {
    pub(super) fn new(rng: &mut Rng, seed: u64, is_traced: bool) -> Self {
        let nodes: Vec<NodeId> = (1..=rng.between(1, 5)).collect();
        let founding =
            ClusterConfig { configuration_id: 1, nodes: nodes.clone(), ..Default::default() };
        let is_tiny = rng.chance(1, 3);
        let settings = ServerConfig {
            continues: true,
            election_tick_timeout: 12,
            resend_message_tick_timeout: 60,
            max_message_entries: if is_tiny { rng.between(1, 6) as usize } else { 1 << 14 },
            max_in_flight_entries: if is_tiny { rng.between(1, 20) as usize } else { 1 << 16 },
            max_message_bytes: if is_tiny { 100 } else { 1 << 20 },
            ..Default::default()
        };
        let mut world = Self {
            seed,
            now: 0,
            is_traced,
            slots: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            cuts: BTreeSet::new(),
            links: Rng::of(&[seed, 0x11F7]),
            loss: rng.pick(&[0, 0, 2, 5, 10]),
            delay: rng.pick(&[1, 1, 2, 5]),
            truth: Truth::new(founding.clone()),
            ended: Vec::new(),
            last: BTreeMap::new(),
            given_up: Vec::new(),
            all_changes: Vec::new(),
            stops: rng.chance(1, 2),
            next_id: 1,
            next_configuration: 2,
            settings,
            atomicity: rng.pick(&[Atomicity::Atomic, Atomicity::OneByOne]),
            calm: false,
            counts: Counts::default(),
        };
        for pid in nodes {
            let server_config = ServerConfig { pid, ..world.settings.clone() };
            world.add(OmniPaxosConfig { cluster_config: founding.clone(), server_config });
        }
        world
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            entries: self.truth.entries(),
            decided: self.truth.epochs().len() as u64 - 1,
            disjoint: self.truth.disjoint(),
            ..self.counts
        }
    }

    pub(super) fn note_quiet(&mut self, since: u64) {
        self.counts.slowest_end = self.now - since;
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

    fn say(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{} {}", self.now, what());
        }
    }

    fn add(&mut self, config: OmniPaxosConfig) {
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
            reads: Vec::new(),
            open: BTreeMap::new(),
            changes: BTreeMap::new(),
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

    fn crash(&mut self, pid: NodeId, down: u64) {
        let now = self.now;
        if let Some(slot) = self.slots.get_mut(&pid) {
            slot.server = None;
            slot.down_until = now + down;
            slot.reads.clear();
            slot.open.clear();
            slot.changes.clear();
        }
        self.say(|| format!("{pid} crashes"));
    }

    fn stopped(&self) -> BTreeSet<NodeId> {
        let is_stopped = |(pid, slot): (&NodeId, &Slot)| slot.is_stopped.then_some(*pid);
        self.slots.iter().filter_map(is_stopped).collect()
    }

    fn running(&self) -> Vec<NodeId> {
        let runs = |(pid, slot): (&NodeId, &Slot)| slot.server.is_some().then_some(*pid);
        self.slots.iter().filter_map(runs).collect()
    }

    /// Does what chance brings in this tick.
    pub(super) fn act(&mut self, rng: &mut Rng) {
        let running = self.running();
        if running.is_empty() {
            return;
        }
        let pid = rng.pick(&running);
        match rng.below(1000) {
            0..150 => self.propose(pid, rng.chance(1, 2)),
            150..160 => self.change(pid, rng),
            160..170 => self.crash_or_tear(pid, rng),
            170..180 => self.cut(rng),
            180..190 => self.cuts.clear(),
            190..196 => self.join(rng),
            196..210 | 222..300 => self.read(pid),
            210..220 => self.compact(pid),
            220..222 => self.wipe(rng),
            300..306 => self.come_back(rng),
            _ => {}
        }
    }

    fn propose(&mut self, pid: NodeId, wants_outcome: bool) {
        let id = self.next_id;
        self.next_id += 1;
        let Some(slot) = self.slots.get_mut(&pid) else {
            return;
        };
        let Some(server) = slot.server.as_mut() else {
            return;
        };
        match wants_outcome {
            true => match server.propose(Summed::with_id(id)) {
                Ok(proposal) => {
                    self.truth.note_proposed(id);
                    slot.open.insert(proposal, id);
                }
                Err(_) => self.ended.push((id, Outcome::NotDecided)),
            },
            false => drop(server.try_append(Summed::with_id(id))),
        }
        self.say(|| format!("{pid} proposes {id}"));
    }

    /// Proposes other members at a server.
    fn change(&mut self, pid: NodeId, rng: &mut Rng) {
        let is_stopped = |pid: &NodeId| self.slots.get(pid).is_some_and(|slot| slot.is_stopped);
        // Some may join later, or never.
        let most = self.slots.keys().max().copied().unwrap_or(1) + rng.below(2);
        let known: Vec<NodeId> = (1..=most).filter(|pid| !is_stopped(pid)).collect();
        let mut nodes: Vec<NodeId> = known.clone();
        let wanted = rng.between(1, 5).min(known.len() as u64) as usize;
        while nodes.len() > wanted {
            let at = rng.index(nodes.len());
            nodes.remove(at);
        }
        let Some(server) = self.slots.get_mut(&pid).and_then(|slot| slot.server.as_mut()) else {
            return;
        };
        let next = ClusterConfig {
            configuration_id: self.next_configuration,
            nodes,
            ..Default::default()
        };
        let change = MemberChange {
            waits_for: rng.pick(&[WaitsFor::All, WaitsFor::Quorum]),
            most_missing: rng.pick(&[0, 5, 100]),
            most_silent_rounds: rng.pick(&[3, 10]),
            metadata: None,
        };
        let proposed = server.change_members(next.clone(), change);
        self.say(|| format!("{pid} changes to {next:?}: {proposed:?}"));
        if let Ok(id) = proposed {
            self.counts.proposed += 1;
            self.next_configuration += 1;
            self.all_changes.push(next.clone());
            if let Some(slot) = self.slots.get_mut(&pid) {
                slot.changes.insert(id, next);
            }
        }
    }

    fn crash_or_tear(&mut self, pid: NodeId, rng: &mut Rng) {
        let down = rng.between(1, 120);
        match rng.chance(1, 2) {
            true => self.crash(pid, down),
            false => {
                let fault = WriteFault {
                    after: rng.below(6),
                    failure: Failure::Crash,
                    applied: rng.chance(1, 2),
                };
                if let Some(slot) = self.slots.get_mut(&pid) {
                    slot.disk.plan_write_fault(fault);
                    slot.down_until = self.now + down;
                }
            }
        }
    }

    fn cut(&mut self, rng: &mut Rng) {
        let all: Vec<NodeId> = self.slots.keys().copied().collect();
        let one = rng.pick(&all);
        let is_whole = rng.chance(1, 2);
        for other in all.iter().filter(|other| **other != one) {
            if is_whole || rng.chance(1, 2) {
                self.cuts.insert((one, *other));
                if rng.chance(3, 4) {
                    self.cuts.insert((*other, one));
                }
            }
        }
        self.say(|| format!("cuts {one}"));
    }

    /// Starts a server that is none yet, with some addresses to begin with.
    fn join(&mut self, rng: &mut Rng) {
        let Some(pid) = (1..=MOST_SERVERS).find(|pid| !self.slots.contains_key(pid)) else {
            return;
        };
        let all: Vec<NodeId> =
            self.slots.iter().filter(|(_, slot)| !slot.is_stopped).map(|(pid, _)| *pid).collect();
        let sources: BTreeSet<NodeId> = (0..rng.between(1, 3)).map(|_| rng.pick(&all)).collect();
        let sources: Vec<NodeId> = sources.into_iter().collect();
        let server = ServerConfig { pid, ..self.settings.clone() };
        self.add(OmniPaxosConfig::observe(server, &sources));
        self.counts.joined += 1;
    }

    fn read(&mut self, pid: NodeId) {
        let decided = self.truth.len();
        if let Some(slot) = self.slots.get_mut(&pid) {
            if let Some(Ok(read)) = slot.server.as_mut().map(|server| server.request_read()) {
                slot.reads.push((read, decided));
            }
        }
    }

    fn compact(&mut self, pid: NodeId) {
        if let Some(server) = self.slots.get_mut(&pid).and_then(|slot| slot.server.as_mut()) {
            if server.snapshot(None, true).is_ok() {
                self.counts.snapshots += 1;
            }
        }
    }

    /// Wipes the disk of a server that was never named in a configuration.
    fn wipe(&mut self, rng: &mut Rng) {
        let named =
            |pid: &NodeId| self.truth.epochs().iter().any(|(_, config)| config.nodes.contains(pid));
        let fresh: Vec<NodeId> = self
            .slots
            .iter()
            .filter(|(pid, slot)| !slot.has_voted && !named(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if fresh.is_empty() || self.counts.proposed > self.truth.epochs().len() as u64 - 1 {
            return;
        }
        let pid = rng.pick(&fresh);
        if let Some(slot) = self.slots.remove(&pid) {
            self.add(slot.config);
            self.counts.wiped += 1;
        }
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
            self.counts.restarts += 1;
            self.start(pid);
            let is_observer = self.slots[&pid]
                .server
                .as_ref()
                .is_some_and(|server| server.status().role == omnipaxos::status::Role::Observing);
            self.counts.observer_restarts += u64::from(is_observer);
        }
        for message in self.in_flight.remove(&self.now).unwrap_or_default() {
            let to = message.get_receiver();
            if self.is_traced {
                self.say(|| format!("{} -> {to}: {message:?}", message.get_sender()));
            }
            if let Some(server) = self.slots.get_mut(&to).and_then(|slot| slot.server.as_mut()) {
                let handled =
                    server.try_handle_incoming(message).map_err(|halted| halted.to_string());
                self.note_halt(to, handled)?;
            }
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
        Ok(())
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
        self.counts.torn += 1;
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
        self.check(pid).map_err(|what| format!("server {pid}: {what}"))?;
        for message in messages {
            self.check_message(pid, &message)?;
            let (from, to) = (message.get_sender(), message.get_receiver());
            if self.cuts.contains(&(from, to)) || (!self.calm && self.links.chance(self.loss, 100))
            {
                continue;
            }
            let at = self.now + self.links.between(1, self.delay);
            if !self.calm && self.links.chance(1, 50) {
                let later = at + self.links.below(30);
                self.in_flight.entry(later).or_default().push(message.clone());
            }
            self.in_flight.entry(at).or_default().push(message);
        }
        Ok(())
    }

    fn check_message(&self, pid: NodeId, message: &Message<Summed>) -> Result<(), String> {
        let Message::SequencePaxos(PaxosMessage { msg, .. }) = message else {
            return Ok(());
        };
        let voted_in = match msg {
            PaxosMsg::Promise(promise) => promise.n.config_id,
            PaxosMsg::Accepted(accepted) => accepted.n.config_id,
            PaxosMsg::Prepare(prepare) => prepare.n.config_id,
            _ => return Ok(()),
        };
        let held =
            self.slots[&pid].disk.peek(|image| (image.compacted_idx, image.log.len() as u64));
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
        self.truth.check_epoch(decided_idx, server.status().configuration_id)?;
        let mut may_stop = false;
        for event in server.take_events() {
            match event {
                Event::ProposalEnded { id, outcome } => {
                    if let Some(entry) = slot.open.remove(&id) {
                        self.truth.check_outcome(entry, &outcome)?;
                        self.ended.push((entry, outcome));
                    } else if let Some(next) = slot.changes.remove(&id) {
                        self.truth.check_change(&next, &outcome)?;
                        self.counts.given_up += u64::from(!matches!(outcome, Outcome::Decided(_)));
                        self.given_up.extend(match outcome {
                            Outcome::Decided(_) | Outcome::Unknown => None,
                            _ => Some(next),
                        });
                    }
                }
                Event::Retired { may_stop: true } if self.stops => may_stop = true,
                Event::EntriesLost(lost) => return Err(format!("has lost entries: {lost:?}")),
                Event::Conflict(conflict) => return Err(format!("is in conflict: {conflict:?}")),
                _ => {}
            }
        }
        let mut answered = 0;
        let mut wrong = None;
        slot.reads.retain(|(read, must)| match server.read_state(*read) {
            ReadState::Waiting => true,
            ReadState::Ready(idx) => {
                answered += 1;
                if idx < *must {
                    wrong = Some(format!("a read shows {idx}, and {must} were decided"));
                }
                false
            }
            _ => false,
        });
        self.counts.reads += answered;
        let present = self.truth.present().configuration_id;
        // Its operator does not stop a server that a change on its way names.
        let is_named = self
            .all_changes
            .iter()
            .any(|next| next.configuration_id >= present && next.nodes.contains(&pid));
        if may_stop && !is_named && !self.calm {
            (slot.server, slot.is_stopped) = (None, true);
            slot.open.clear();
            slot.changes.clear();
            slot.reads.clear();
            self.counts.stopped += 1;
            self.check_stopped(pid)?;
            self.say(|| format!("{pid} is stopped for good"));
        }
        wrong.map_or(Ok(()), Err)
    }

    /// Checks that the cluster gets on without a server that was stopped (M4): a write quorum of the epoch
    /// that it knew holds everything before that epoch.
    fn check_stopped(&self, pid: NodeId) -> Result<(), String> {
        let epoch_of = |pid: &NodeId| {
            let slot = self.slots.get(pid)?;
            slot.disk.peek(|image| Some(image.epochs.last()?.configuration.clone()))
        };
        let Some(known) = epoch_of(&pid) else {
            return Ok(());
        };
        let has_begun = |pid: &&NodeId| {
            epoch_of(pid).is_some_and(|at| at.configuration_id >= known.configuration_id)
        };
        let holders = known.nodes.iter().filter(has_begun).count();
        match holders > known.nodes.len() / 2 {
            true => Ok(()),
            false => Err(format!("M4: {pid} may stop, and {holders} of {:?} go on", known.nodes)),
        }
    }

    /// Lets a server that was stopped for good come back, with its disk.
    fn come_back(&mut self, rng: &mut Rng) {
        let stopped: Vec<NodeId> = self.stopped().into_iter().collect();
        if stopped.is_empty() {
            return;
        }
        let pid = rng.pick(&stopped);
        if let Some(slot) = self.slots.get_mut(&pid) {
            (slot.is_stopped, slot.down_until) = (false, self.now);
            self.counts.came_back += 1;
        }
    }

    /// Ends all faults: all servers run, and all links are whole.
    pub(super) fn end_faults(&mut self) {
        self.calm = true;
        self.cuts.clear();
        let present = self.truth.present().configuration_id;
        let members = self.truth.present().nodes.clone();
        // Those that run and are in the present epoch.
        let informed: BTreeSet<NodeId> = self
            .slots
            .iter()
            .filter(|(_, slot)| {
                let last = slot.disk.peek(|image| image.epochs.last().cloned());
                let is_present = |epoch: Epoch| epoch.configuration.configuration_id == present;
                !slot.is_stopped && last.is_some_and(is_present)
            })
            .map(|(pid, _)| *pid)
            .collect();
        let mut lost = Vec::new();
        for (pid, slot) in &mut self.slots {
            slot.down_until = self.now;
            slot.disk.forget_faults();
            let known = slot.disk.peek(|image| image.epochs.last().cloned());
            let known = known.map_or_else(Vec::new, |epoch| epoch.configuration.nodes);
            let sources = &mut slot.config.server_config.observes;
            let mut all = known.iter().chain(sources.iter()).filter(|at| *at != pid).peekable();
            let is_lost = !informed.contains(pid) && all.peek().is_some();
            if is_lost && !all.any(|pid| informed.contains(pid)) {
                // It may know nobody who knows the members. Its operator names some.
                let others: Vec<NodeId> = members.iter().filter(|at| *at != pid).copied().collect();
                if !others.is_empty() {
                    *sources = others;
                    lost.push(*pid);
                }
            }
        }
        lost.into_iter().for_each(|pid| self.crash(pid, 1));
        self.say(|| "the faults end".to_string());
    }

    /// Whether all servers know all that is decided.
    pub(super) fn is_in_step(&self) -> bool {
        let present = self.truth.present().configuration_id;
        self.slots.values().filter(|slot| !slot.is_stopped).all(|slot| {
            slot.changes.is_empty()
                && slot.open.is_empty()
                && slot.server.as_ref().is_some_and(|server| {
                    let status = server.status();
                    status.decided_idx == self.truth.len()
                        && status.configuration_id == present
                        && status.leader.is_some()
                })
        })
    }

    /// Proposes an entry at each server, and another one where the outcome of the first is unknown. Returns
    /// whether one of each server is decided.
    pub(super) fn propose_until_decided(&mut self) -> bool {
        let mut are_decided = true;
        for pid in self.running() {
            let last = self.last.get(&pid).copied();
            if last.is_some_and(|id| self.truth.index_of(id).is_some()) {
                continue;
            }
            are_decided = false;
            let has_ended = |id: u64| self.ended.iter().any(|(ended, _)| *ended == id);
            if last.is_none_or(has_ended) {
                self.last.insert(pid, self.next_id);
                self.propose(pid, true);
            }
        }
        are_decided
    }

    /// Checks again what ended, now that all is decided.
    pub(super) fn check_outcomes(&self) -> Result<(), String> {
        let begun = |next: &&ClusterConfig| self.truth.epoch(next.configuration_id).is_some();
        if let Some(next) = self.given_up.iter().find(begun) {
            return Err(format!("M3: the change to {next:?} was given up, and has begun"));
        }
        self.ended.iter().try_for_each(|(id, outcome)| self.truth.check_outcome(*id, outcome))
    }
}
