//! The state of a replica for its user.

use super::OmniPaxos;
use crate::{
    ids::NodeId,
    observe::{
        status::{PeerStatus, Role, Status},
        ui::{ClusterState, OmniPaxosStates, LARGEST_PID_SHOWN},
    },
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Returns the state of this replica: its role, indices, peers, limits and counters.
    ///
    /// It reads nothing from the storage, costs a few allocations, and works also when the replica
    /// has halted.
    ///
    /// # Example
    /// ```
    /// # use omnipaxos::{macros::Entry, ClusterConfig, OmniPaxos, ServerConfig};
    /// # use omnipaxos_storage::memory_storage::MemoryStorage;
    /// use omnipaxos::status::Role;
    ///
    /// # #[derive(Clone, Debug, Entry)]
    /// # struct Word(&'static str);
    /// # let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    /// # let config = ServerConfig { pid: 1, ..Default::default() };
    /// # let mut replica: OmniPaxos<Word, MemoryStorage<Word>> =
    /// #     cluster.build_for_server(config, MemoryStorage::default())?;
    /// # (0..30).for_each(|_| replica.tick());
    /// # replica.append(Word("hello"))?;
    /// # replica.outgoing_messages();
    /// let status = replica.status();
    /// println!(
    ///     "server {} is {:?} and follows {:?}; {} of {} entries are decided, {} proposals wait",
    ///     status.pid,
    ///     status.role,
    ///     status.leader,
    ///     status.decided_idx,
    ///     status.accepted_idx,
    ///     status.waiting.entries,
    /// );
    /// for peer in &status.peers {
    ///     let lag = peer.follower.map(|follower| follower.lag);
    ///     println!("server {}: answers {}, lag {lag:?}", peer.pid, peer.answered());
    /// }
    /// # assert_eq!((status.role, status.decided_idx), (Role::Leading, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn status(&self) -> Status {
        let role = if self.input.is_some() { Role::Halted } else { self.paxos.role() };
        self.status_as(role, self.get_decided_idx())
    }

    pub(super) fn status_as(&self, role: Role, decided_idx: u64) -> Status {
        let log = self.paxos.log();
        let peer = |pid: &NodeId| PeerStatus {
            pid: *pid,
            heartbeat: self.ble.last_reply(*pid),
            follower: self.paxos.follower(*pid),
            applied_idx: self.paxos.applied_idx_of(*pid),
        };
        Status {
            pid: self.pid,
            configuration_id: self.ble.ballot().config_id,
            role,
            ballot: self.ble.ballot(),
            promise: log.promise(),
            leader: self.get_current_leader(),
            decided_idx,
            accepted_idx: log.len(),
            stored_idx: log.stored_len(),
            // A halted replica may not have stored the snapshot that it received.
            compacted_idx: log.compacted_idx().min(decided_idx),
            applied_idx: self.paxos.applied_idx().min(decided_idx),
            next_configuration_id: log
                .stopsign_before(decided_idx)
                .map(|stopsign| stopsign.next_config.configuration_id),
            higher_configuration: self.higher_configuration(),
            nodes: self.config.cluster_config.nodes.clone(),
            flexible_quorum: self.config.cluster_config.flexible_quorum,
            epoch_idx: log.present_epoch().map(|epoch| epoch.first_idx),
            kept_epochs: log.continues().then(|| log.epochs().len() as u64),
            may_stop: self.may_stop(),
            joiners: self.paxos.joiners(),
            conflicts: self.validator.identities().conflicts(),
            lost: self.paxos.loss(),
            peers: self.paxos.peers().iter().map(peer).collect(),
            observers: self.paxos.observers(),
            trimmed_at_source: self.paxos.trimmed_at_source(),
            waiting: self.paxos.waiting(),
            pending: self.paxos.pending(),
            catch_up: self.paxos.catch_up_status(),
            limits: self.paxos.limits(),
            dropped: self.dropped(),
        }
    }

    /// Returns the plain view of 0.2.2 for a dashboard. [`status`](Self::status) contains more.
    pub fn get_ui_states(&self) -> OmniPaxosStates {
        let status = self.status();
        let heartbeats: Vec<_> = status.peers.iter().filter_map(|peer| peer.heartbeat).collect();
        let accepted_indexes = accepted_indexes(&status);
        OmniPaxosStates {
            current_ballot: status.ballot,
            current_leader: status.leader,
            decided_idx: status.decided_idx,
            heartbeats: heartbeats.clone(),
            cluster_state: ClusterState { accepted_indexes, heartbeats },
        }
    }
}

/// Returns the accepted index of each server, by pid, if this server leads.
fn accepted_indexes(status: &Status) -> Vec<u64> {
    let own = match status.role {
        Role::Leading => Some(status.stored_idx),
        Role::Recovering
        | Role::Promised
        | Role::Following
        | Role::Preparing
        | Role::Observing
        | Role::Halted => None,
    };
    let peers = status
        .peers
        .iter()
        .map(|peer| (peer.pid, own.and(peer.follower).map_or(0, |follower| follower.accepted_idx)));
    let shown: Vec<(NodeId, u64)> = peers
        .chain([(status.pid, own.unwrap_or(0))])
        .filter(|(pid, _)| *pid <= LARGEST_PID_SHOWN)
        .collect();
    let largest = shown.iter().map(|(pid, _)| *pid).max().unwrap_or(0);
    let mut indexes: Vec<u64> = (0..=largest).map(|_| 0).collect();
    for (pid, accepted_idx) in shown {
        if let Some(shown) = usize::try_from(pid).ok().and_then(|pid| indexes.get_mut(pid)) {
            *shown = accepted_idx;
        }
    }
    indexes
}
