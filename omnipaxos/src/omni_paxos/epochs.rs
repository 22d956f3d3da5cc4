//! One log through reconfigurations: begins the next epoch in all parts of a replica.

use super::OmniPaxos;
use crate::{
    ballot_leader_election::BallotLeaderElection,
    config::{ClusterConfig, OmniPaxosConfig},
    errors::Halted,
    ids::NodeId,
    membership::{Membership, Quorum},
    messages::{
        sequence_paxos::{PaxosMessage, PaxosMsg},
        validate::PeerIdentities,
        Message,
    },
    observe::{metrics, trace::LogEvent},
    storage::{Entry, Epoch, Storage},
};
use std::{collections::BTreeSet, sync::Arc};

/// The number of servers of earlier epochs after which only those of the last one are remembered.
const MOST_EARLIER_PEERS: usize = 32;

/// The state of a server that was a member, and is none in the present epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct Retirement {
    /// The members that have begun the present epoch: each has stored everything before it.
    holders: BTreeSet<NodeId>,
}

impl Retirement {
    /// Returns the retirement of a server that starts, if it was a member.
    pub(super) fn of(
        config: &OmniPaxosConfig,
        epochs: &[Epoch],
        members: &Membership,
    ) -> Option<Self> {
        let pid = members.pid();
        let (_, earlier) = epochs.split_last()?;
        let was_named = earlier.iter().any(|epoch| epoch.configuration.nodes.contains(&pid));
        let was_member = was_named || !config.server_config.is_observer();
        (members.is_observer() && was_member).then(Self::default)
    }
}

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Returns whether this server, which is no member any more, may be stopped for good; `None` if it is
    /// a member or never was one.
    ///
    /// A write quorum of the members holds everything before the present epoch. It meets every read
    /// quorum. So whichever members elect a leader, one of them can bring the others in step.
    pub(super) fn may_stop(&self) -> Option<bool> {
        let Retirement { holders } = self.retirement.as_ref()?;
        let ClusterConfig { nodes, flexible_quorum, .. } = &self.config.cluster_config;
        if nodes.contains(&self.pid) {
            return None;
        }
        Some(Quorum::of(nodes.len(), *flexible_quorum).can_accept(holders.len()))
    }

    /// Ends a heartbeat round of a leader: notifies the servers that were removed, and have not shown that
    /// they know it. They may have been down, and know no server that is a member now.
    pub(super) fn notify_removed_servers(&mut self) {
        let Some((present, earlier)) = self.paxos.log().epochs().split_last() else {
            return;
        };
        if self.paxos.leader_in_step() != Some(self.pid) {
            return;
        }
        let removed = earlier.iter().flat_map(|epoch| &epoch.configuration.nodes);
        for pid in removed.filter(|pid| !present.configuration.nodes.contains(pid)) {
            if self.validator.observers().is_in_epoch(*pid) {
                self.aware.insert(*pid);
            } else if !self.aware.contains(pid) {
                self.validator.others_mut().schedule_notice(*pid);
            }
        }
    }

    /// Ends a heartbeat round of a member without a leader, or of an observer that reaches no server: it
    /// may have missed reconfigurations, and all servers of its configuration may be gone. It also asks
    /// the servers that it is configured to observe, and those that it reached in earlier epochs.
    pub(super) fn ask_beyond_members(&mut self) {
        let is_alone = match self.paxos.is_observer() {
            true => self.paxos.reaches_no_peer(),
            false => !self.ble.is_happy(),
        };
        if !is_alone {
            return;
        }
        let observes = &self.config.server_config.observes;
        for pid in observes.iter().chain(&self.earlier_peers) {
            if *pid != self.pid && !self.paxos.is_peer(*pid) {
                self.validator.others_mut().schedule_notice(*pid);
            }
        }
    }

    /// Records the servers that this one knows in the present epoch. The next configuration may name none
    /// of them, and they may be in a later one.
    fn note_earlier_peers(&mut self) {
        if self.earlier_peers.len() >= MOST_EARLIER_PEERS {
            self.earlier_peers.clear();
        }
        self.earlier_peers.extend(self.paxos.peers());
    }

    /// Ends a heartbeat round: notes which members have begun the present epoch.
    pub(super) fn note_holders(&mut self) {
        let Some(Retirement { holders }) = &mut self.retirement else {
            return;
        };
        let nodes = &self.config.cluster_config.nodes;
        holders.extend(nodes.iter().filter(|pid| self.ble.answered(**pid)));
    }

    /// Begins the epochs that the log has reached, one after the other. The messages from `first` on are
    /// those of the epoch before, and get its stamps; then those of the last epoch begin at `first`.
    #[cold]
    pub(super) fn begin_due_epochs(
        &mut self,
        buffer: &mut Vec<Message<T>>,
        first: &mut usize,
    ) -> Result<(), Halted> {
        while self.paxos.is_epoch_due() {
            self.stamp(buffer, *first);
            *first = buffer.len();
            self.begin_due_epoch()?;
            self.output_of_paxos(buffer)?;
        }
        Ok(())
    }

    /// Begins the epoch that the log has reached. The messages of the epoch before have been built.
    ///
    /// What the log holds is flushed before and after the beginning. So a crash leaves this server in
    /// one of the two epochs, with all that is before it.
    fn begin_due_epoch(&mut self) -> Result<(), Halted> {
        let Some(epoch) = self.paxos.due_epoch() else {
            return Ok(());
        };
        self.flush_all()?;
        let successor = self.successor(&epoch);
        // Of these servers a Prepare may have come before this server began the epoch.
        let is_ahead = successor.is_some_and(|pid| self.validator.others().is_informed(pid));
        let keeps_cadence = self.expects_leader(&epoch, successor);
        let earlier = self.enter(&epoch)?;
        if keeps_cadence {
            self.ble.keep_cadence(&earlier);
        }
        match successor {
            Some(pid) if pid == self.pid => self.ble.be_asked_to_lead(),
            Some(_) if self.early_prepare.is_some() => {}
            Some(pid) if is_ahead => self.paxos.ask_for_leader(pid),
            Some(_) | None => {}
        }
        self.sync_election()?;
        self.handle_early_prepare()
    }

    /// Keeps a Prepare of the epoch that this server begins with the next output. A leader that stays sends it
    /// with the decided index that ends the epoch before. The latest is kept.
    #[cold]
    pub(super) fn hold_prepare(&mut self, message: &Message<T>) {
        if let Message::SequencePaxos(PaxosMessage { msg: PaxosMsg::Prepare(_), .. }) = message {
            if self.paxos.is_epoch_due() {
                self.early_prepare = Some(message.clone());
            }
        }
    }

    /// Handles the Prepare that came before this server began the epoch, as if it came now. It was counted as
    /// dropped.
    #[cold]
    fn handle_early_prepare(&mut self) -> Result<(), Halted> {
        let Some(message) = self.early_prepare.take() else {
            return Ok(());
        };
        if !self.validator.is_valid(&message, self.ble.highest_n()) {
            return Ok(());
        }
        match message {
            Message::SequencePaxos(PaxosMessage {
                from, msg: PaxosMsg::Prepare(prepare), ..
            }) => {
                self.paxos.handle_prepare(prepare, from)?;
                self.sync_election()
            }
            Message::SequencePaxos(_) | Message::BLE(_) => Ok(()),
        }
    }

    /// Writes all changes, the decided index too.
    #[inline(never)]
    pub(super) fn flush_all(&mut self) -> Result<(), Halted> {
        self.paxos.schedule_decided_idx();
        self.paxos.flush()
    }

    /// Returns the server that takes over at once in an epoch which follows: the present leader, if
    /// it is a member. `None` if this server was not in step with the leader; another server may
    /// lead already.
    fn successor(&self, epoch: &Epoch) -> Option<NodeId> {
        let next = &epoch.configuration.nodes;
        let leader = self.paxos.leader_in_step()?;
        if next.contains(&leader) {
            return Some(leader);
        }
        let stays = next.iter().filter(|pid| self.paxos.is_member(**pid)).min();
        stays.or(next.iter().min()).copied()
    }

    /// Returns whether another server will lead at once in an epoch which follows, as far as this
    /// server can know. Only that server then needs the heartbeats of the others at once.
    fn expects_leader(&self, epoch: &Epoch, successor: Option<NodeId>) -> bool {
        match successor {
            Some(pid) => pid != self.pid && self.ble.answered(pid),
            // An observer does not know which member leads.
            None if self.paxos.is_observer() => {
                let nodes = &epoch.configuration.nodes;
                nodes.iter().any(|pid| self.paxos.is_member(*pid) && self.ble.answered(*pid))
            }
            None => false,
        }
    }

    /// Enters an epoch. Returns the election of the one before.
    fn enter(&mut self, epoch: &Epoch) -> Result<BallotLeaderElection, Halted> {
        let was_member = !self.paxos.is_observer();
        self.note_earlier_peers();
        self.config.cluster_config = epoch.configuration.clone();
        // A server may have lost its disk, and learn again of epochs in which it was a member.
        // Nobody joins the first epoch, and no server joins in an epoch that is over: a vote might
        // contradict an earlier one. A member stays one. Its vote may be needed: the only server
        // that knows the end of an epoch may be down.
        let is_first = epoch.first_idx == 0;
        let id = epoch.configuration.configuration_id;
        let is_over = !was_member && self.validator.others().is_over(id);
        let members = Arc::new(match is_first || is_over {
            true => self.config.membership_of_observer(),
            false => self.config.membership(),
        });
        self.paxos.begin_epoch(epoch, members.clone())?;
        self.flush_all()?;
        let identity = self.validator.identities().for_configuration(&epoch.configuration);
        self.paxos.store_identity(identity.clone())?;
        let storage = self.validator.identities().storage();
        let identities = PeerIdentities::new(&self.config, identity, storage);
        self.validator.begin_epoch(&self.config, members.clone(), identities);
        let promise = self.paxos.log().promise();
        let limit = self.paxos.own_max_entry_bytes();
        let priority = self.ble.priority();
        let election = BallotLeaderElection::new(&self.config, members, promise, limit);
        let earlier = std::mem::replace(&mut self.ble, election);
        self.ble.set_priority(priority);
        self.aware.clear();
        let peers = self.paxos.peers();
        let left = self.earlier_peers.iter().filter(|pid| !peers.contains(pid));
        metrics::clear_peers(self.pid, left.copied());
        let is_retired = was_member || self.retirement.is_some();
        self.retirement = (is_retired && self.paxos.is_observer()).then(Retirement::default);
        if was_member && self.paxos.is_observer() {
            self.trace.emit(|| {
                let event = LogEvent::info("is no member any more, and observes");
                event.at(epoch.first_idx).because(format!("configuration {id} does not name it"))
            });
        }
        Ok(earlier)
    }

    /// Asks a server of a later epoch for the log, unless this server begins that epoch with the next
    /// output. The message of that server was not valid in the present epoch.
    #[cold]
    pub(super) fn ask_of_later_epoch(&mut self) {
        if self.paxos.is_epoch_due() {
            return;
        }
        if let Some(informed) = self.validator.others_mut().take_informed() {
            self.is_idle = false;
            if self.paxos.ask_informed(informed) {
                self.validator.others_mut().note_asked(informed);
            }
        }
    }
}
