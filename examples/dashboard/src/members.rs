//! The members of the cluster, and the members that the user wants. No process, no clock.

use crate::protocol::{Change, Refusal};
use omnipaxos::{
    status::Status,
    util::{ConfigurationId, NodeId},
};
use std::collections::BTreeSet;

/// The present members, and those that the next change is to bring about.
#[derive(Debug)]
pub(crate) struct Members {
    configuration_id: ConfigurationId,
    /// The index at which the present configuration begins.
    first_idx: u64,
    present: BTreeSet<NodeId>,
    wanted: BTreeSet<NodeId>,
    /// The servers that have been members.
    ever: BTreeSet<NodeId>,
    /// The servers that never were members, and that the user has removed.
    dropped: BTreeSet<NodeId>,
    /// The servers that are named by changes which were asked for, and which may still be decided.
    asked: BTreeSet<NodeId>,
}

/// The part of a server.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Member,
    /// It is a member, and is to be none.
    Leaver,
    /// It is to become a member, and is none yet.
    Joiner,
    /// It was a member, and is none any more.
    Removed,
    /// It never was a member, and is not to become one.
    Observer,
    /// It never was a member, and the user has removed it.
    Dropped,
}

impl Members {
    /// The members of the first configuration.
    pub(crate) fn founders(founders: impl IntoIterator<Item = NodeId>) -> Self {
        let present: BTreeSet<NodeId> = founders.into_iter().collect();
        let (wanted, ever) = (present.clone(), present.clone());
        let (dropped, asked) = (BTreeSet::new(), BTreeSet::new());
        Self { configuration_id: 1, first_idx: 0, present, wanted, ever, dropped, asked }
    }

    /// Takes note of the configuration that a server reports. Returns whether it is a new one.
    pub(crate) fn learn(&mut self, status: &Status) -> bool {
        if status.configuration_id <= self.configuration_id {
            return false;
        }
        self.configuration_id = status.configuration_id;
        self.first_idx = status.epoch_idx.unwrap_or(0);
        self.present = status.nodes.iter().copied().collect();
        self.ever.extend(&self.present);
        // A change that was asked for is this one, or comes to nothing: its id is not higher.
        self.asked.clear();
        true
    }

    /// Wants a server among the members.
    pub(crate) fn want(&mut self, pid: NodeId) {
        self.wanted.insert(pid);
        self.dropped.remove(&pid);
    }

    /// Wants a server no longer. Returns whether another one would be left among the members.
    pub(crate) fn want_without(&mut self, pid: NodeId) -> bool {
        let is_possible = self.wanted.iter().any(|other| *other != pid);
        if is_possible {
            self.wanted.remove(&pid);
            if !self.ever.contains(&pid) {
                self.dropped.insert(pid);
            }
        }
        is_possible
    }

    /// Takes note that a change is asked for, which names these servers.
    pub(crate) fn ask(&mut self, nodes: &[NodeId]) {
        self.asked.extend(nodes);
    }

    /// Returns whether a change that was asked for may still make this server a member, if it is none.
    pub(crate) fn may_join(&self, pid: NodeId) -> bool {
        self.asked.contains(&pid)
    }

    /// Returns the next change, if the members are not those that the user wants, or may still become
    /// others. In the latter case the change may name the present members: it settles who they are.
    pub(crate) fn change(&self) -> Option<Change> {
        let configuration_id = self.configuration_id.saturating_add(1);
        let nodes = || self.wanted.iter().copied().collect();
        let is_over = |pid: &NodeId| matches!(self.part(*pid), Part::Removed | Part::Dropped);
        let is_settled = self.wanted == self.present && !self.asked.iter().any(is_over);
        (!is_settled).then(|| Change { configuration_id, nodes: nodes() })
    }

    /// Takes note that a change came to nothing. Returns whether that was what the user wants: then
    /// the members stay as they are.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) -> bool {
        let is_wanted = self.change().as_ref() == Some(&refusal.change);
        if is_wanted {
            self.wanted.clone_from(&self.present);
        }
        is_wanted
    }

    pub(crate) fn part(&self, pid: NodeId) -> Part {
        match (self.present.contains(&pid), self.wanted.contains(&pid), self.ever.contains(&pid)) {
            (true, true, _) => Part::Member,
            (true, false, _) => Part::Leaver,
            (false, true, _) => Part::Joiner,
            (false, false, true) => Part::Removed,
            (false, false, false) if self.dropped.contains(&pid) => Part::Dropped,
            (false, false, false) => Part::Observer,
        }
    }

    pub(crate) fn configuration_id(&self) -> ConfigurationId {
        self.configuration_id
    }

    pub(crate) fn first_idx(&self) -> u64 {
        self.first_idx
    }

    pub(crate) fn present(&self) -> &BTreeSet<NodeId> {
        &self.present
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Members, Part, Refusal};
    use crate::protocol::Number;
    use omnipaxos::{status::Status, util::NodeId, ClusterConfig, ServerConfig};
    use omnipaxos_storage::memory_storage::MemoryStorage;

    /// What a server of this configuration reports.
    fn status(configuration_id: u32, nodes: &[NodeId]) -> Status {
        let cluster =
            ClusterConfig { configuration_id, nodes: nodes.to_vec(), ..Default::default() };
        let server = ServerConfig { pid: nodes[0], continues: true, ..Default::default() };
        let replica = cluster.build_for_server(server, MemoryStorage::<Number>::default());
        replica.unwrap().status()
    }

    fn change(configuration_id: u32, nodes: &[NodeId]) -> Option<Change> {
        Some(Change { configuration_id, nodes: nodes.to_vec() })
    }

    #[test]
    fn what_is_wanted_is_asked_for_until_it_is_so() {
        let mut members = Members::founders(1..=3);
        assert_eq!(members.change(), None);
        members.want(4);
        assert_eq!((members.change(), members.part(4)), (change(2, &[1, 2, 3, 4]), Part::Joiner));
        assert!(members.want_without(2));
        assert_eq!(members.change(), change(2, &[1, 3, 4]));
        // The first wish was decided before the second one came.
        assert!(members.learn(&status(2, &[1, 2, 3, 4])));
        assert!(!members.learn(&status(2, &[1, 2, 3, 4])));
        assert_eq!((members.part(4), members.part(2)), (Part::Member, Part::Leaver));
        assert_eq!(members.change(), change(3, &[1, 3, 4]));
        assert!(members.learn(&status(3, &[1, 3, 4])));
        assert_eq!((members.change(), members.part(2)), (None, Part::Removed));
        assert_eq!(members.part(5), Part::Observer);
    }

    #[test]
    fn what_is_refused_is_wanted_no_longer() {
        let mut members = Members::founders(1..=3);
        members.want(4);
        let refusal = |change: Option<Change>| Refusal {
            change: change.expect("a change"),
            why: String::new(),
        };
        assert!(!members.refuse(&refusal(change(2, &[1, 2, 3, 9]))), "another one");
        assert_eq!(members.change(), change(2, &[1, 2, 3, 4]));
        assert!(members.refuse(&refusal(members.change())));
        assert_eq!((members.change(), members.part(4)), (None, Part::Observer));
    }

    #[test]
    fn the_last_member_stays() {
        let mut members = Members::founders([1, 2]);
        assert!(members.want_without(1));
        assert!(!members.want_without(2));
        assert_eq!(members.change(), change(2, &[2]));
    }
}
