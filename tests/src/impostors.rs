//! Clusters with impostors: servers that lost their disks, that were given the
//! disks of others, that have a twin, or that were started with other nodes.
//!
//! A run is made from a seed. There is one decided log among all that take part in the
//! configuration, and nothing of it goes, as long as every server that kept its disk knows those of
//! the others. A network that takes the identities off the messages is the negative control.

use crate::{
    lab::{words, Disk, Word},
    rng::Rng,
};
use omnipaxos::{
    events::Event,
    identity::{Conflict, SenderIdentity, Stamp},
    messages::{ballot_leader_election::HeartbeatMsg, sequence_paxos::PaxosMsg, Message},
    proposals::{Outcome, ProposalId},
    storage::Storage,
    util::{FlexibleQuorum, NodeId},
    ClusterConfig, ServerConfig,
};
use omnipaxos_harness::{Cluster, Fate, Network};
use std::collections::BTreeMap;

/// Ticks with faults, and ticks in which all must be well again.
const TICKS: u64 = 1_500;
const ENDING: u64 = 500;

/// What the network does to the identities that messages bear.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Identities {
    /// Nothing.
    Kept,
    /// It takes them off: a quorum counts anybody then.
    TakenOff,
}

/// The kinds of impostors.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Impostor {
    /// A server that lost its disk, and was started with an empty one.
    Wiped,
    /// As this, with a storage that has no id.
    WipedWithoutId,
    /// A second server with the id of a running server.
    Twin,
    /// A server with other nodes under the same configuration id, beside the right one.
    OtherNodes,
    /// A server that was given the disk of another: it must not start.
    Swapped,
}

/// What a run has shown.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many of each kind there were.
    pub impostors: BTreeMap<Impostor, u64>,
    /// Number of entries decided.
    pub decided: u64,
    /// What did not hold, if something did not.
    pub failure: Option<String>,
}

/// A process.
struct Process {
    /// Its place in the cluster.
    place: NodeId,
    pid: NodeId,
    config: ClusterConfig,
    disk: Disk,
    back_at: u64,
    /// Its kind, if it is an impostor.
    impostor: Option<Impostor>,
    checked: u64,
    proposed: BTreeMap<ProposalId, String>,
}

/// Loses messages, delivers them twice or late, and to one or all of those with the id of the receiver.
struct Wire {
    rng: Rng,
    is_fair: bool,
    identities: Identities,
}

impl Network<Word> for Wire {
    fn fate(&mut self, _now: u64, message: &mut Message<Word>) -> Fate {
        if self.identities == Identities::TakenOff {
            take_off(message);
        }
        if self.is_fair {
            return Fate::Arrives(1);
        }
        match self.rng.below(10) {
            0 => Fate::Lost,
            1 => Fate::ArrivesTwice(self.delay(), self.delay()),
            _once => Fate::Arrives(self.delay()),
        }
    }

    fn choose(&mut self, count: usize) -> Option<usize> {
        (count > 1 && self.rng.chance(1, 2)).then(|| self.rng.index(count))
    }
}

impl Wire {
    fn delay(&mut self) -> u64 {
        match self.rng.chance(1, 100) {
            false => self.rng.between(1, 3),
            true => self.rng.between(20, 300),
        }
    }
}

struct World {
    rng: Rng,
    nodes: Vec<NodeId>,
    quorum: Option<FlexibleQuorum>,
    cluster: Cluster<Word, Disk, Wire>,
    processes: Vec<Process>,
    /// Number of processes so far.
    started: NodeId,
    /// The one decided log.
    log: Vec<String>,
    words: u64,
    report: Report,
}

/// Runs a seed.
pub fn run(seed: u64, identities: Identities) -> Report {
    let mut world = World::new(seed, identities);
    let outcome = world.play();
    world.report.failure =
        outcome.err().map(|what| format!("tick {}: {what}", world.cluster.now()));
    world.report.decided = world.log.len() as u64;
    world.report
}

impl World {
    fn new(seed: u64, identities: Identities) -> Self {
        let mut rng = Rng::of(&[seed, 0x696D_706F]);
        let size = rng.pick(&[3, 3, 3, 5, 4]);
        let quorum =
            (size == 4).then_some(FlexibleQuorum { read_quorum_size: 3, write_quorum_size: 2 });
        let nodes: Vec<NodeId> = (1..=size).collect();
        let wire = Wire { rng: Rng::of(&[rng.number()]), is_fair: false, identities };
        let mut world = Self {
            rng,
            nodes: nodes.clone(),
            quorum,
            cluster: Cluster::of([], wire),
            processes: Vec::new(),
            started: 0,
            log: Vec::new(),
            words: 0,
            report: Report::default(),
        };
        for pid in nodes {
            let disk = Disk::with_id(world.rng.number().max(1));
            let config = world.config(&world.nodes);
            world.add(pid, config, disk, None);
        }
        world
    }

    fn config(&self, nodes: &[NodeId]) -> ClusterConfig {
        let flexible_quorum = self.quorum.filter(|_| nodes.len() == self.nodes.len());
        ClusterConfig { configuration_id: 1, nodes: nodes.to_vec(), flexible_quorum }
    }

    fn add(&mut self, pid: NodeId, config: ClusterConfig, disk: Disk, impostor: Option<Impostor>) {
        self.started += 1;
        self.processes.push(Process {
            place: self.started,
            pid,
            config,
            disk,
            back_at: self.cluster.now(),
            impostor,
            checked: 0,
            proposed: BTreeMap::new(),
        });
    }

    fn play(&mut self) -> Result<(), String> {
        let at = self.rng.between(200, TICKS - 300);
        let second = self.rng.between(at, TICKS - 200);
        for now in 0..TICKS {
            if now == at || (now == second && self.rng.chance(1, 2)) {
                self.deceive()?;
            }
            self.disturb();
            self.tick()?;
        }
        self.cluster.network.is_fair = true;
        for process in &mut self.processes {
            process.back_at = process.back_at.min(self.cluster.now());
        }
        (0..ENDING).try_for_each(|_| self.tick())?;
        self.check_ending()
    }

    /// Makes a server an impostor.
    fn deceive(&mut self) -> Result<(), String> {
        let kind = self.rng.pick(&[
            Impostor::Wiped,
            Impostor::Wiped,
            Impostor::WipedWithoutId,
            Impostor::Twin,
            Impostor::OtherNodes,
            Impostor::Swapped,
        ]);
        let victim = self.rng.index(self.nodes.len());
        let pid = self.nodes[victim];
        let disk = match kind {
            Impostor::WipedWithoutId => Disk::default(),
            Impostor::Wiped | Impostor::Twin | Impostor::OtherNodes | Impostor::Swapped => {
                Disk::with_id(self.rng.number().max(1))
            }
        };
        match kind {
            Impostor::Wiped | Impostor::WipedWithoutId | Impostor::Twin => {
                if !self.may_lose(pid, kind) {
                    return Ok(());
                }
                if kind != Impostor::Twin {
                    let lost = self.processes.extract_if(.., |process| process.pid == pid);
                    lost.for_each(|process| drop(self.cluster.crash(process.place)));
                }
                let config = self.config(&self.nodes);
                self.add(pid, config, disk, Some(kind));
            }
            Impostor::OtherNodes => {
                let mut nodes = self.nodes.clone();
                let others = self.rng.index(nodes.len());
                nodes.retain(|node| *node == pid || *node as usize <= others);
                if nodes.len() == self.nodes.len() {
                    nodes = vec![pid];
                }
                self.add(pid, self.config(&nodes), disk, Some(kind));
            }
            Impostor::Swapped => {
                let other = self.rng.index(self.processes.len());
                let process = &self.processes[other];
                if process.pid == pid || process.disk.get_identity().ok().flatten().is_none() {
                    return Ok(());
                }
                let config = ServerConfig { pid, ..Default::default() };
                let disk = process.disk.copy();
                if self.config(&self.nodes).build_for_server(config, disk).is_ok() {
                    return Err(format!("{pid} starts with the disk of {}", process.pid));
                }
            }
        }
        *self.report.impostors.entry(kind).or_default() += 1;
        Ok(())
    }

    /// Whether all others know the disk of `pid`, and are enough without it.
    fn may_lose(&self, pid: NodeId, kind: Impostor) -> bool {
        let genuine = self.processes.iter().filter(|process| process.impostor.is_none());
        let others: Vec<&Process> = genuine.filter(|process| process.pid != pid).collect();
        let knows = |process: &&Process| {
            let identity = process.disk.get_identity().ok().flatten();
            identity.is_some_and(|identity| {
                let is_peer = |node: &&NodeId| **node != process.pid;
                self.nodes.iter().filter(is_peer).all(|node| identity.peers.contains_key(node))
            })
        };
        let is_there = self.processes.iter().any(|p| p.pid == pid && p.impostor.is_none());
        let least = self.quorum.map_or(self.nodes.len() / 2 + 1, |quorum| quorum.read_quorum_size);
        let left = others.len() + usize::from(kind == Impostor::Twin);
        is_there && others.iter().all(knows) && left >= least
    }

    /// Crashes a process now and then, and proposes.
    fn disturb(&mut self) {
        let at = self.rng.index(self.processes.len());
        let place = self.processes[at].place;
        if self.rng.chance(1, 150) {
            self.cluster.crash(place);
            let process = &mut self.processes[at];
            process.back_at = self.cluster.now() + self.rng.between(1, 80);
            process.proposed.clear();
        }
        if self.rng.chance(1, 4) {
            self.propose(at);
        }
        if self.rng.chance(1, 200) {
            if let Some(replica) = self.cluster.running_at(place) {
                replica.try_become_leader();
            }
        }
    }

    fn propose(&mut self, at: usize) {
        self.words += 1;
        let process = &mut self.processes[at];
        let word = format!("{}@{}", self.words, process.pid);
        if let Some(replica) = self.cluster.running_at(process.place) {
            if self.words.is_multiple_of(3) {
                // Given back or dropped: of no consequence here.
                let _taken = replica.try_append(Word(word));
            } else if let Ok(id) = replica.propose(Word(word.clone())) {
                process.proposed.insert(id, word);
            }
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        for process in &self.processes {
            let is_down = self.cluster.running_at(process.place).is_none();
            if is_down && process.back_at <= self.cluster.now() {
                let config = ServerConfig {
                    pid: process.pid,
                    election_tick_timeout: 5,
                    ..Default::default()
                };
                let built = process.config.clone().build_for_server(config, process.disk.clone());
                self.cluster.start_at(process.place, built.map_err(|error| error.to_string())?);
            }
        }
        self.cluster.tick();
        (0..self.processes.len()).try_for_each(|at| self.check(at))
    }

    /// Compares what a process has decided with the one log, and what it reports of its proposals.
    fn check(&mut self, at: usize) -> Result<(), String> {
        let process = &mut self.processes[at];
        let Some(replica) = self.cluster.running_at(process.place) else {
            return Ok(());
        };
        if process.impostor == Some(Impostor::OtherNodes) {
            // Alone it cannot know. What it decides is a log of its own.
            return Ok(());
        }
        let decided_idx = replica.get_decided_idx();
        let entries = match process.checked == decided_idx {
            true => None,
            false => replica.read_decided_suffix(0),
        };
        for (word, idx) in words(entries.unwrap_or_default()).into_iter().zip(0..) {
            match self.log.get(idx) {
                Some(known) if *known == word => {}
                Some(known) => {
                    return Err(format!(
                        "{} ({:?}) decided {word} at {idx}, others {known}",
                        process.pid, process.impostor
                    ));
                }
                None => self.log.push(word),
            }
        }
        process.checked = decided_idx;
        for event in replica.take_events() {
            if let Event::ProposalEnded { id, outcome: Outcome::Decided(idx) } = event {
                let proposed = process.proposed.get(&id);
                if proposed.is_some() && proposed != self.log.get(idx as usize) {
                    let (pid, log) = (process.pid, self.log.get(idx as usize));
                    return Err(format!("{pid} says {proposed:?} is decided at {idx}: {log:?}"));
                }
            }
        }
        Ok(())
    }

    /// The servers that kept their disks continue with all that was decided, and both sides report what
    /// is wrong.
    fn check_ending(&mut self) -> Result<(), String> {
        let before = self.log.len();
        let genuine = |process: &Process| process.impostor.is_none();
        let Some(at) = self.processes.iter().position(genuine) else {
            return Err("nobody is left".into());
        };
        self.propose(at);
        (0..100).try_for_each(|_| self.tick())?;
        for process in self.processes.iter().filter(|process| genuine(process)) {
            let replica = self.cluster.running_at(process.place);
            let decided = replica.map_or(0, |replica| replica.get_decided_idx());
            if decided != self.log.len() as u64 || decided <= before as u64 {
                let len = self.log.len();
                return Err(format!(
                    "{} has decided {decided} of {len}, and {before} before",
                    process.pid
                ));
            }
        }
        let impostors: Vec<(NodeId, Impostor, usize)> = self
            .processes
            .iter()
            .filter_map(|p| Some((p.pid, p.impostor?, p.config.nodes.len())))
            .collect();
        for (pid, kind, nodes) in impostors {
            self.check_reported(pid, kind, nodes)?;
        }
        Ok(())
    }

    /// The impostor and the servers that know the true one report a conflict.
    fn check_reported(&mut self, pid: NodeId, kind: Impostor, nodes: usize) -> Result<(), String> {
        for process in &self.processes {
            let replica = self.cluster.running_at(process.place);
            let told = replica.map(|replica| replica.status().conflicts).unwrap_or_default();
            let is_expected = |conflict: &Conflict| match (kind, process.impostor) {
                (Impostor::OtherNodes, _) => {
                    matches!(conflict, Conflict::OtherConfiguration { .. })
                }
                (_, None) => matches!(conflict, Conflict::OtherStorage { .. }),
                (_, Some(_)) => matches!(conflict, Conflict::Ignored { .. }),
            };
            let is_told = match process.impostor {
                None if process.pid == pid => continue,
                // A server that takes no other for a member sends it nothing.
                None if kind == Impostor::OtherNodes && nodes < 2 => continue,
                None if kind == Impostor::OtherNodes => true,
                None => told.iter().any(|told| told.pid == pid && is_expected(&told.conflict)),
                Some(other) if process.pid == pid && other == kind => {
                    told.iter().any(|told| is_expected(&told.conflict))
                }
                Some(_) => continue,
            };
            if !is_told {
                return Err(format!(
                    "{} ({:?}) says nothing of {kind:?} {pid}: {told:?}",
                    process.pid, process.impostor
                ));
            }
        }
        Ok(())
    }
}

/// Takes the identity of its sender off a message; and the ids of proposals, since those of servers that are no
/// members give a sender away, too.
fn take_off(message: &mut Message<Word>) {
    match message {
        Message::BLE(ble) => match &mut ble.msg {
            HeartbeatMsg::Request(request) => *request.sender = SenderIdentity::default(),
            HeartbeatMsg::Reply(_) => {}
        },
        Message::SequencePaxos(paxos) => {
            let (stamp, ids) = match &mut paxos.msg {
                PaxosMsg::PrepareReq(m) => (&mut m.stamp, None),
                PaxosMsg::Prepare(m) => (&mut m.stamp, None),
                PaxosMsg::Promise(m) => (&mut m.stamp, m.sync.as_mut().map(|sync| &mut sync.ids)),
                PaxosMsg::AcceptSync(m) => (&mut m.stamp, Some(&mut m.sync.ids)),
                PaxosMsg::AcceptDecide(m) => (&mut m.stamp, Some(&mut m.ids)),
                PaxosMsg::Accepted(m) => (&mut m.stamp, None),
                PaxosMsg::Decide(m) => (&mut m.stamp, None),
                PaxosMsg::CatchUpChunk(m) => (&mut m.stamp, Some(&mut m.ids)),
                PaxosMsg::ForwardedProposals(m) => (&mut m.stamp, None),
                PaxosMsg::ProposalRejection(m) => (&mut m.stamp, None),
                _another => return,
            };
            *stamp = Stamp::default();
            if let Some(ids) = ids {
                *ids = None;
            }
        }
    }
}
