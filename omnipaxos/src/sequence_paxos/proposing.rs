//! Proposing at the leader, and forwarding to it.

use super::{forward::Seen, proposals::Goes, state::State, SequencePaxos};
use crate::{
    amount::Amount,
    config::{ClusterConfig, ConfigError},
    errors::{ProposeErr, TryProposeErr},
    ids::NodeId,
    messages::sequence_paxos::{PaxosMsg, RepeatedForward},
    storage::{Entry, StopSign, Storage},
};

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Proposes an entry at this server.
    pub(crate) fn append(&mut self, entry: T) -> Result<(), TryProposeErr<T>> {
        if self.is_reconfiguring() {
            return Err(ProposeErr::PendingReconfigEntry(entry).into());
        }
        let amount = Amount::one(entry.size_hint());
        if self.proposals.waits_for_nothing() && self.has_room_in_log() {
            self.log.append(entry, amount.bytes);
            return Ok(());
        }
        if !self.proposals.has_room() {
            return Err(TryProposeErr::Busy(entry));
        }
        self.proposals.push(entry, amount);
        self.propose_if_leading();
        Ok(())
    }

    /// Whether this server leads and may take another entry into its log. The undecided entries
    /// must fit into one message, for when the leader changes, unless they are decided here alone.
    fn has_room_in_log(&self) -> bool {
        let State::Leading(leading) = &self.state else {
            return false;
        };
        let limit = match self.quorum.can_accept(1) {
            true => self.limits.pending,
            false => self.limits.message,
        };
        self.log.undecided(leading.undecided.total()).is_below(limit)
    }

    /// Gives up a proposal for which there is no room.
    pub(crate) fn drop_proposal(&mut self) {
        self.proposals.drop_one();
    }

    /// Number of proposals given up since there was no room.
    pub(crate) fn dropped_proposals(&self) -> u64 {
        self.proposals.dropped()
    }

    /// Proposes the configuration that follows this one (paper §6).
    pub(crate) fn reconfigure(
        &mut self,
        next_config: ClusterConfig,
        metadata: Option<Vec<u8>>,
    ) -> Result<(), ProposeErr<T>> {
        if let Err(error) = self.check_next(&next_config) {
            return Err(ProposeErr::ConfigError(error, next_config, metadata));
        }
        if self.is_reconfiguring() {
            return Err(ProposeErr::PendingReconfigConfig(next_config, metadata));
        }
        self.proposals.stopsign = Some(StopSign::with(next_config, metadata));
        self.propose_if_leading();
        Ok(())
    }

    fn check_next(&self, next_config: &ClusterConfig) -> Result<(), ConfigError> {
        next_config.validate()?;
        if next_config.configuration_id <= self.config_id {
            return Err(ConfigError::InvalidConfig(format!(
                "configuration_id must be higher than that of this configuration, {}, but is {}",
                self.config_id, next_config.configuration_id
            )));
        }
        Ok(())
    }

    fn is_reconfiguring(&self) -> bool {
        self.log.stopsign().is_some() || self.proposals.stopsign.is_some()
    }

    /// A server that takes this one for the leader, or for one that reaches it, forwards proposals.
    ///
    /// Entries that come after a stop sign are dropped: they cannot be decided in this
    /// configuration, and their origin learns of the sign with the log.
    pub(super) fn handle_forward(&mut self, forward: RepeatedForward<T>) {
        if self.forwards.receive(&forward) == Seen::Again || self.is_reconfiguring() {
            return;
        }
        if forward.origin == self.pid {
            // It was passed on to here. Where it was, it is known, and would be taken for a copy.
            self.proposals.take_forwarded(forward, Goes::Back);
            return self.propose_if_leading();
        }
        match self.state {
            State::Preparing(_) | State::Leading(_) => {
                self.proposals.take_forwarded(forward, Goes::IntoTheLog);
                self.propose_if_leading();
            }
            State::Recovering | State::Promised { .. } | State::Following(_) => {
                self.proposals.take_forwarded(forward, Goes::On);
            }
        }
    }

    /// A server that takes this one for the leader forwards a reconfiguration. A second one in the
    /// same configuration is dropped.
    pub(super) fn handle_forwarded_stopsign(&mut self, stopsign: StopSign) {
        if self.is_reconfiguring() || self.check_next(&stopsign.next_config).is_err() {
            return;
        }
        match self.state {
            State::Preparing(_) | State::Leading(_) => {
                self.proposals.stopsign = Some(stopsign);
                self.propose_if_leading();
            }
            State::Recovering | State::Promised { .. } | State::Following(_) => {
                self.proposals.held_stopsign = Some(stopsign);
            }
        }
    }

    /// Takes what was proposed into the log, if this server leads, as far as batches are full and
    /// there is room. Where a stop sign has got there first, entries can no longer be decided in
    /// this configuration.
    pub(super) fn propose_if_leading(&mut self) {
        let State::Leading(_) = self.state else {
            return;
        };
        if self.proposals.is_empty() {
            return;
        }
        if self.log.stopsign().is_some() {
            self.proposals.clear();
            return;
        }
        if self.proposals.is_batch_full() {
            self.proposals.release_all();
        }
        while self.proposals.released > 0 && self.has_room_in_log() {
            if let Some((entry, bytes)) = self.proposals.pop() {
                self.log.append(entry, bytes);
            }
        }
        if self.proposals.count() == 0 {
            if let Some(stopsign) = self.proposals.stopsign.take() {
                self.log.append_stopsign(stopsign);
            }
        }
    }

    /// Forwards what was proposed here, or was forwarded here, if this server knows who leads and
    /// how to reach it. If it has made a promise, that is stored then, so that it knows after a
    /// restart that it may have forwarded something.
    pub(super) fn draw_forwards(&mut self, mut send: impl FnMut(NodeId, PaxosMsg<T>)) {
        if self.proposals.is_empty() {
            return;
        }
        let Some(to) = self.next_hop() else {
            return;
        };
        while let Some(forward) = self.proposals.pop_relayed() {
            send(to, PaxosMsg::RepeatedForward(forward));
        }
        while !self.proposals.own.is_empty() {
            let entries = self.proposals.pop_own(self.limits.message);
            let forward = self.forwards.send(self.pid, entries);
            send(
                to,
                match forward.number {
                    None => PaxosMsg::ProposalForward(forward.entries),
                    Some(_) => PaxosMsg::RepeatedForward(forward),
                },
            );
        }
        if let Some(stopsign) = self.proposals.stopsign.take() {
            send(to, PaxosMsg::ForwardStopSign(Box::new(stopsign)));
        }
    }

    /// Where proposals go: to the leader if it answers here, else to a peer that it answers.
    fn next_hop(&self) -> Option<NodeId> {
        let leader = self.leader().filter(|leader| *leader != self.pid)?;
        if self.present.contains(&leader) {
            return self.followed_ballot().map(|_| leader);
        }
        self.relay.filter(|relay| relay.leader.pid == leader).map(|relay| relay.peer)
    }
}
