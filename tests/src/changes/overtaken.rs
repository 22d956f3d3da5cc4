//! A server proposes a change, and learns of its end only by a snapshot of a later configuration.

use super::{
    kinds::Kind,
    world::{Part, World},
};
use crate::value::SimEntry;
use omnipaxos::{members::MemberChange, status::Role, util::NodeId, ClusterConfig};

/// The most ticks until the proposer is parted from the others no longer.
const LONGEST: u64 = 300;

impl<T: SimEntry> World<T> {
    /// Server `first` is the first to know that a change is decided. If another one proposed it, that one is
    /// parted from all others before it knows. Returns whether that is so.
    pub(super) fn part_proposer(&mut self, first: NodeId) -> bool {
        let present = self.truth.present().clone();
        let proposer = self
            .slots
            .iter()
            .filter(|(pid, slot)| **pid != first && slot.server.is_some())
            .find(|(_, slot)| slot.changes.values().any(|next| *next == present))
            .map(|(pid, _)| *pid);
        let Some(proposer) = proposer else {
            return false;
        };
        self.part_from_others(&[proposer].into());
        self.counts.add(Kind::PartedProposer);
        let (until, old) = (self.now + LONGEST, [].into());
        let proposer = Some((proposer, present.configuration_id));
        self.part = Some(Part { until, old, proposer });
        true
    }

    /// While the proposer of configuration `config_id` is parted from the others: they change the members
    /// again, and compact beyond that. Then the proposer is back.
    pub(super) fn overtake(&mut self, proposer: NodeId, config_id: u32) {
        let (first_idx, present) = (self.truth.present_idx(), self.truth.present().clone());
        let others: Vec<NodeId> =
            self.running().into_iter().filter(|pid| *pid != proposer).collect();
        if present.configuration_id == config_id {
            if !self.is_changing() {
                self.change_without(proposer, &others, &present);
            }
            return;
        }
        others.iter().for_each(|pid| self.compact_all(*pid, first_idx));
        let has_compacted = |pid: &NodeId| {
            let server = self.slots.get(pid).and_then(|slot| slot.server.as_ref());
            server.is_some_and(|server| server.get_compacted_idx() >= first_idx)
        };
        if others.iter().all(has_compacted) {
            self.counts.add(Kind::Overtaken);
            self.part = None;
            self.heal();
        }
    }

    /// The leader changes the members to those without the proposer.
    fn change_without(&mut self, proposer: NodeId, others: &[NodeId], present: &ClusterConfig) {
        let leads = |pid: &&NodeId| self.role_of(**pid) == Some(Role::Leading);
        let Some(leader) = others.iter().find(leads).copied() else {
            return;
        };
        let nodes: Vec<NodeId> =
            present.nodes.iter().copied().filter(|pid| *pid != proposer).collect();
        let Some(slot) = self.slots.get_mut(&leader).filter(|_| !nodes.is_empty()) else {
            return;
        };
        let Some(server) = slot.server.as_mut() else {
            return;
        };
        let configuration_id = self.next_configuration;
        let next = ClusterConfig { configuration_id, nodes, flexible_quorum: None };
        if let Ok(id) = server.change_members(next.clone(), MemberChange::default()) {
            self.counts.add(Kind::Proposed);
            self.next_configuration += 1;
            slot.changes.insert(id, next.clone());
            self.all_changes.push(next);
        }
    }

    /// A server compacts all that it has decided, if the present epoch has begun there.
    fn compact_all(&mut self, pid: NodeId, first_idx: u64) {
        let Some(slot) = self.slots.get_mut(&pid) else {
            return;
        };
        let Some(server) = slot.server.as_mut() else {
            return;
        };
        if slot.seen < first_idx || server.get_compacted_idx() >= first_idx {
            return;
        }
        let state = self.truth.sum(slot.seen).and_then(T::handed_over);
        let is_compacted = match state {
            Some(state) => server.compact_with(slot.seen, state).is_ok(),
            None => server.try_snapshot(None, true).is_ok(),
        };
        if is_compacted {
            self.counts.add(Kind::Snapshot);
        }
    }
}
