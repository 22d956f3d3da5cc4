//! What chance brings while there are faults.

use super::{
    kinds::Kind,
    world::{Part, World, MOST_SERVERS},
};
use crate::{
    disk::{Failure, WriteFault},
    plan::quorum_sizes,
    rng::Rng,
    value::SimEntry,
};
use omnipaxos::{
    errors::TryCompactionErr,
    members::{MemberChange, WaitsFor},
    proposals::Outcome,
    status::Role,
    storage::Snapshot,
    util::{FlexibleQuorum, NodeId},
    ClusterConfig, OmniPaxosConfig, ServerConfig,
};
use std::collections::BTreeSet;

/// Chooses quorum sizes of so many nodes, for some configurations.
pub(super) fn quorum(rng: &mut Rng, size: usize) -> Option<FlexibleQuorum> {
    rng.chance(1, 3).then(|| quorum_sizes(rng, size))
}

impl<T: SimEntry> World<T> {
    /// Does what chance brings in this tick.
    pub(super) fn act(&mut self, rng: &mut Rng) -> Result<(), String> {
        self.pump_old_epoch();
        let running = self.running();
        if running.is_empty() {
            return Ok(());
        }
        let pid = rng.pick(&running);
        match rng.below(1000) {
            0..150 => self.propose(pid, rng.chance(1, 2)),
            150..160 => self.change(pid, rng),
            160..170 if self.restarts => self.crash_or_tear(pid, rng),
            170..180 => self.cut(rng),
            180..190 => self.heal(),
            190..196 => self.join(rng),
            196..210 | 222..300 => self.read(pid),
            210..220 => self.compact(pid, rng)?,
            220..222 if self.restarts => self.wipe(rng),
            300..306 if self.restarts => self.come_back(rng),
            306..312 => self.transfer(pid, rng),
            312..316 => self.take_over(pid),
            316..326 if self.trims => self.trim(rng),
            _ => {}
        }
        Ok(())
    }

    /// While the members that were removed are parted from the others: they are asked to read, and the
    /// others decide.
    fn pump_old_epoch(&mut self) {
        let Some(Part { old, until, proposer }) = &self.part else {
            return;
        };
        if *until <= self.now {
            self.part = None;
            return self.heal();
        }
        if let Some((proposer, config_id)) = *proposer {
            return self.overtake(proposer, config_id);
        }
        let old: Vec<NodeId> = old.iter().copied().collect();
        if old.is_empty() {
            return;
        }
        old.iter().for_each(|pid| self.read(*pid));
        if self.now.is_multiple_of(3) {
            let running = self.running();
            let present = &self.truth.present().nodes;
            if let Some(pid) = running.iter().find(|pid| present.contains(pid)).copied() {
                self.propose(pid, false);
            }
        }
    }

    /// Proposes an entry at a server.
    pub(super) fn propose(&mut self, pid: NodeId, wants_outcome: bool) {
        let id = self.next_id;
        self.next_id += 1;
        let Some(slot) = self.slots.get_mut(&pid) else {
            return;
        };
        let Some(server) = slot.server.as_mut() else {
            return;
        };
        if server.status().role == Role::Observing {
            self.counts.add(Kind::ObserverProposal);
        }
        match wants_outcome {
            true => match server.propose(T::with_id(id)) {
                Ok(proposal) => {
                    self.truth.note_proposed(id);
                    slot.open.insert(proposal, id);
                }
                Err(_) => self.ended.push((id, Outcome::NotDecided)),
            },
            false => {
                if server.try_append(T::with_id(id)).is_ok() {
                    slot.appended.push(id);
                }
            }
        }
        self.say(|| format!("{pid} proposes {id}"));
    }

    /// Proposes other members at a server.
    fn change(&mut self, pid: NodeId, rng: &mut Rng) {
        let waits_for = rng.pick(&self.waits_for);
        let is_stopped = |pid: &NodeId| self.slots.get(pid).is_some_and(|slot| slot.is_stopped);
        // Some may join later, or never. A change that does not wait for them would end the log.
        let may_lack = u64::from(waits_for != WaitsFor::Nobody);
        let most = self.slots.keys().max().copied().unwrap_or(1) + rng.below(1 + may_lack);
        let stranger = self.stranger_pid();
        let known: Vec<NodeId> = (1..=most)
            .filter(|pid| !is_stopped(pid) && (may_lack > 0 || self.slots.contains_key(pid)))
            .filter(|pid| Some(*pid) != stranger)
            .collect();
        if known.is_empty() {
            return;
        }
        let mut nodes: Vec<NodeId> = known.clone();
        let wanted = rng.between(1, 5).min(known.len() as u64) as usize;
        while nodes.len() > wanted {
            let at = rng.index(nodes.len());
            nodes.remove(at);
        }
        let flexible_quorum = if self.has_flexible_quorums { quorum(rng, wanted) } else { None };
        let Some(server) = self.slots.get_mut(&pid).and_then(|slot| slot.server.as_mut()) else {
            return;
        };
        let next =
            ClusterConfig { configuration_id: self.next_configuration, nodes, flexible_quorum };
        let change = MemberChange {
            waits_for,
            most_missing: rng.pick(&[0, 5, 100]),
            most_silent_rounds: rng.pick(&[3, 10]),
            metadata: None,
        };
        let proposed = server.change_members(next.clone(), change);
        self.say(|| format!("{pid} changes to {next:?}: {proposed:?}"));
        if let Ok(id) = proposed {
            self.counts.add(Kind::Proposed);
            if waits_for == WaitsFor::Nobody {
                self.counts.add(Kind::Nobody);
            }
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
                self.set_open(one, *other, false);
                if rng.chance(3, 4) {
                    self.set_open(*other, one, false);
                }
            }
        }
        self.say(|| format!("cuts {one}"));
    }

    /// Servers that are not stopped for good, some of them.
    fn some_sources(&self, rng: &mut Rng) -> Vec<NodeId> {
        let runs =
            |(pid, slot): (&NodeId, &super::world::Slot<T>)| (!slot.is_stopped).then_some(*pid);
        let all: Vec<NodeId> = self.slots.iter().filter_map(runs).collect();
        let sources: BTreeSet<NodeId> = (0..rng.between(1, 3)).map(|_| rng.pick(&all)).collect();
        sources.into_iter().collect()
    }

    /// Starts a server that is none yet, with some addresses to begin with.
    fn join(&mut self, rng: &mut Rng) {
        let is_taken =
            |pid: &u64| self.slots.contains_key(pid) || self.stranger_pid() == Some(*pid);
        let Some(pid) = (1..=MOST_SERVERS).find(|pid| !is_taken(pid)) else {
            return;
        };
        let sources = self.some_sources(rng);
        let server = ServerConfig { pid, ..self.settings.clone() };
        self.add(OmniPaxosConfig::observe(server, &sources));
        self.counts.add(Kind::Joined);
    }

    /// Requests a linearizable read at a server.
    fn read(&mut self, pid: NodeId) {
        let decided = self.truth.len();
        let present = self.truth.present().configuration_id;
        let Some(slot) = self.slots.get_mut(&pid) else {
            return;
        };
        let Some(server) = slot.server.as_mut() else {
            return;
        };
        let status = server.status();
        if status.role == Role::Leading && status.configuration_id < present {
            self.counts.add(Kind::OldLeaderRead);
        }
        if let Ok(read) = server.request_read() {
            slot.reads.push((read, decided, status.configuration_id));
        }
    }

    /// A server that takes itself for the leader.
    fn leader(&self) -> Option<NodeId> {
        self.running().into_iter().find(|pid| self.role_of(*pid) == Some(Role::Leading))
    }

    fn transfer(&mut self, pid: NodeId, rng: &mut Rng) {
        let leader = self.leader().and_then(|pid| self.slots.get_mut(&pid));
        let Some(server) = leader.and_then(|slot| slot.server.as_mut()) else {
            return;
        };
        if server.transfer_leadership(pid, rng.between(5, 60)).is_ok() {
            self.counts.add(Kind::Transfer);
        }
    }

    fn take_over(&mut self, pid: NodeId) {
        if let Some(server) = self.slots.get_mut(&pid).and_then(|slot| slot.server.as_mut()) {
            server.try_become_leader();
            self.counts.add(Kind::Takeover);
        }
    }

    /// Compacts at a server, as its entries allow. Without snapshots nobody does while a change is under
    /// way.
    fn compact(&mut self, pid: NodeId, rng: &mut Rng) -> Result<(), String> {
        if !T::Snapshot::use_snapshots() && self.is_changing() {
            return Ok(());
        }
        let Some(slot) = self.slots.get_mut(&pid) else {
            return Ok(());
        };
        let Some(server) = slot.server.as_mut() else {
            return Ok(());
        };
        if !T::Snapshot::use_snapshots() {
            // Its application has applied what was compared.
            let applied_idx = rng.between(0, slot.seen);
            return match server.try_compact(applied_idx) {
                Ok(()) => {
                    slot.applied = slot.applied.max(applied_idx);
                    self.counts.add(Kind::Applied);
                    Ok(())
                }
                // A trim may have been first.
                Err(TryCompactionErr::Refused(_) | TryCompactionErr::Halted(_)) => Ok(()),
                Err(other) => Err(format!("server {pid}: {applied_idx} are applied: {other}")),
            };
        }
        if !T::Snapshot::can_create() || rng.chance(1, 3) {
            let idx = rng.between(server.get_compacted_idx(), slot.seen);
            let state = self.truth.sum(idx).and_then(T::handed_over);
            if let Some(state) = state {
                if server.compact_with(idx, state).is_ok() {
                    self.counts.add(Kind::HandedOver);
                }
            }
        } else if server.try_snapshot(None, true).is_ok() {
            self.counts.add(Kind::Snapshot);
        }
        Ok(())
    }

    /// A leader trims what all members have. Nobody does while a change is under way.
    fn trim(&mut self, rng: &mut Rng) {
        if self.is_changing() {
            return;
        }
        let Some(slot) = self.leader().and_then(|pid| self.slots.get_mut(&pid)) else {
            return;
        };
        let idx = rng.chance(1, 2).then(|| rng.between(0, slot.seen));
        if slot.server.as_mut().is_some_and(|server| server.try_trim(idx).is_ok()) {
            self.counts.add(Kind::Trim);
        }
    }

    /// Wipes the disk of a server that was never a member. A change that has not ended may name it.
    fn wipe(&mut self, rng: &mut Rng) {
        let named =
            |pid: &NodeId| self.truth.epochs().iter().any(|(_, config)| config.nodes.contains(pid));
        let fresh: Vec<NodeId> = self
            .slots
            .iter()
            .filter(|(pid, slot)| !slot.has_voted && !slot.is_stopped && !named(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if fresh.is_empty() {
            return;
        }
        let pid = rng.pick(&fresh);
        if self.is_named_ahead(pid) {
            self.counts.add(Kind::WipedJoiner);
        }
        if let Some(slot) = self.slots.remove(&pid) {
            self.truth.note_restart();
            self.add(slot.config);
            self.counts.add(Kind::Wiped);
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
            self.counts.add(Kind::CameBack);
            (slot.is_stopped, slot.down_until) = (false, self.now);
        }
    }
}
