//! The end of a run: all faults stop, and the log continues at every server.

use super::{kinds::Kind, world::World};
use crate::{network::LinkConditions, value::SimEntry};
use omnipaxos::{status::Status, util::NodeId, ClusterConfig};
use std::collections::BTreeSet;

impl<T: SimEntry> World<T> {
    /// Ends all faults: all servers run, and all links are whole.
    pub(super) fn end_faults(&mut self) {
        self.calm = true;
        self.part = None;
        let calm = LinkConditions { delay: self.delay, ..LinkConditions::PERFECT };
        self.network.set_conditions(self.now, calm);
        let present = self.truth.present().configuration_id;
        let members = self.truth.present().nodes.clone();
        let informed = self.informed(present);
        // A leader notifies the servers of earlier epochs that it remembers.
        let remembers = |member: &NodeId, pid: NodeId| {
            self.slots.get(member).is_some_and(|slot| {
                slot.disk.peek(|image| {
                    let earlier = image.epochs.split_last().map_or(&[][..], |(_, earlier)| earlier);
                    earlier.iter().any(|epoch| epoch.configuration.nodes.contains(&pid))
                })
            })
        };
        let is_notified = |pid: NodeId| {
            members.iter().all(|member| informed.contains(member) && remembers(member, pid))
        };
        let notified: BTreeSet<NodeId> =
            self.slots.keys().copied().filter(|pid| is_notified(*pid)).collect();
        let mut lost = Vec::new();
        for (pid, slot) in &mut self.slots {
            slot.down_until = self.now;
            slot.disk.forget_faults();
            let known = slot.disk.peek(|image| image.epochs.last().cloned());
            let known = known.map_or_else(Vec::new, |epoch| epoch.configuration.nodes);
            let sources = &mut slot.config.server_config.observes;
            let mut all = known.iter().chain(sources.iter()).filter(|at| *at != pid).peekable();
            let is_lost = !informed.contains(pid) && all.peek().is_some();
            if is_lost && !notified.contains(pid) && !all.any(|pid| informed.contains(pid)) {
                // It may know nobody who knows the members. Its operator names some.
                let others = members.iter().chain(&informed).filter(|at| *at != pid);
                let others: BTreeSet<NodeId> = others.copied().collect();
                if !others.is_empty() {
                    *sources = others.into_iter().collect();
                    lost.push(*pid);
                }
            }
        }
        lost.into_iter().for_each(|pid| self.crash(pid, 1));
        self.say(|| "the faults end".to_string());
    }

    /// The servers that are not stopped for good and have begun the epoch of a configuration.
    pub(super) fn informed(&self, config_id: u32) -> BTreeSet<NodeId> {
        let has_begun = |slot: &super::world::Slot<T>| {
            let last = slot.disk.peek(|image| image.epochs.last().cloned());
            last.is_some_and(|epoch| epoch.configuration.configuration_id == config_id)
        };
        let informed = self.slots.iter().filter(|(_, slot)| !slot.is_stopped && has_begun(slot));
        informed.map(|(pid, _)| *pid).collect()
    }

    /// Whether a server lacks entries that all those have trimmed which it can ask: a member asks the other
    /// members of its epoch, and an observer also those that it was told to observe. Without snapshots it
    /// learns nothing any more.
    fn is_cut_off_by_trims(&self, pid: NodeId) -> bool {
        let Some(slot) = self.slots.get(&pid).filter(|_| !self.has_snapshots()) else {
            return false;
        };
        let status_of = |pid: &NodeId| Some(self.slots.get(pid)?.server.as_ref()?.status());
        let Some(own) = status_of(&pid) else {
            return false;
        };
        let configured = match own.nodes.contains(&pid) {
            true => &[][..],
            false => &slot.config.server_config.observes[..],
        };
        let mut sources = own.nodes.iter().chain(configured).filter_map(status_of);
        let can_help = |source: Status| {
            source.decided_idx > own.decided_idx && source.compacted_idx <= own.decided_idx
        };
        own.decided_idx < self.truth.len() && !sources.any(can_help)
    }

    /// Whether so many members lack trimmed entries that no quorum is left. What was compacted before a
    /// change began may be trimmed after the servers that join have caught up: `docs/membership.md`.
    pub(super) fn has_trimmed_a_quorum_away(&mut self) -> bool {
        if self.has_snapshots() || !self.now.is_multiple_of(50) {
            return false;
        }
        let ClusterConfig { nodes, flexible_quorum, .. } = self.truth.present();
        let lost = nodes.iter().filter(|pid| self.is_cut_off_by_trims(**pid)).count();
        let needed = flexible_quorum.map_or(nodes.len() / 2 + 1, |quorum| quorum.read_quorum_size);
        let is_lost = nodes.len() - lost < needed;
        if is_lost {
            self.counts.add(Kind::QuorumTrimmed);
        }
        is_lost
    }

    /// Whether all servers know all that is decided.
    pub(super) fn is_in_step(&self) -> bool {
        let present = self.truth.present().configuration_id;
        self.slots.iter().filter(|(_, slot)| !slot.is_stopped).all(|(pid, slot)| {
            let is_in_step = slot.changes.is_empty()
                && slot.open.is_empty()
                && slot.reads.is_empty()
                && slot.server.as_ref().is_some_and(|server| {
                    let status = server.status();
                    status.decided_idx == self.truth.len()
                        && status.configuration_id == present
                        && status.leader.is_some()
                })
                && self.unkept(&slot.appended).next().is_none();
            is_in_step || self.is_cut_off_by_trims(*pid)
        })
    }

    /// Those of the plain entries that a server took which are not decided, and have to be.
    fn unkept<'a>(&'a self, appended: &'a [u64]) -> impl Iterator<Item = u64> + 'a {
        let must = self.truth.is_strict() && self.settings.keeps_undecided_appends;
        let undecided = move |id: &&u64| must && self.truth.index_of(**id).is_none();
        appended.iter().filter(undecided).copied()
    }

    /// Proposes an entry at each server, and another one where the outcome of the first is unknown. Returns
    /// whether one of each server is decided.
    pub(super) fn propose_until_decided(&mut self) -> bool {
        let mut are_decided = true;
        for pid in self.running() {
            let last = self.last.get(&pid).copied();
            if last.is_some_and(|id| self.truth.index_of(id).is_some())
                || self.is_cut_off_by_trims(pid)
            {
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

    /// Notes how long the end took, and what is left of each kind.
    pub(super) fn note_quiet(&mut self, since: u64) {
        self.slowest_end = self.now - since;
        let cut_off =
            self.running().into_iter().filter(|pid| self.is_cut_off_by_trims(*pid)).count();
        self.counts.add_many(Kind::CutOffByTrim, cut_off as u64);
        if self.truth.is_strict() {
            self.counts.add(Kind::NoRestart);
            if self.settings.keeps_undecided_appends {
                let kept: usize = self.slots.values().map(|slot| slot.appended.len()).sum();
                self.counts.add_many(Kind::Kept, kept as u64);
            }
        }
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
