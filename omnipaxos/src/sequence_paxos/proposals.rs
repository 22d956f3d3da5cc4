//! Proposals on their way into the log: entries and the stop sign.

use super::{
    forward::{Forward, Seen},
    state::State,
    SequencePaxos,
};
use crate::{
    clock::{Ring, Timer},
    config::{ClusterConfig, ConfigError},
    errors::ProposeErr,
    ids::NodeId,
    messages::sequence_paxos::{PaxosMsg, RepeatedForward},
    storage::{Entry, StopSign, Storage},
};

/// What was proposed here and is not in the log yet.
///
/// At the leader entries wait for a full batch or the timer; elsewhere all wait for the next drain
/// with a leader to forward them to.
#[derive(Clone, Debug)]
pub(super) struct Proposals<T> {
    entries: Vec<T>,
    stopsign: Option<StopSign>,
    /// Forwarded here though this server does not lead. They travel on only after the next
    /// heartbeat round, so that two servers which take each other for the leader do not play ball.
    relayed: Vec<T>,
    /// As `relayed`.
    relayed_stopsign: Option<StopSign>,
    batch_size: usize,
    batch_timer: Timer,
}

impl<T> Proposals<T> {
    /// Batches of `batch_size` entries, or what has come within `timeout` ticks.
    pub(super) fn new(batch_size: usize, timeout: u64) -> Self {
        Self {
            entries: Vec::new(),
            stopsign: None,
            relayed: Vec::new(),
            relayed_stopsign: None,
            batch_size,
            batch_timer: Timer::every(timeout),
        }
    }

    /// Lets one tick pass. Rings when a batch must go though it is not full.
    pub(super) fn tick(&mut self) -> Ring {
        if self.entries.is_empty() {
            self.batch_timer.restart();
            return Ring::Silent;
        }
        self.batch_timer.tick()
    }

    pub(super) fn release_relayed(&mut self) {
        self.entries.append(&mut self.relayed);
        self.stopsign = self.stopsign.take().or_else(|| self.relayed_stopsign.take());
    }

    /// Whether nothing waits to be proposed or forwarded.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.stopsign.is_none()
    }

    /// Whether an entry is a full batch by itself, and none is before it.
    fn waits_for_nothing(&self) -> bool {
        self.batch_size <= 1 && self.entries.is_empty()
    }

    fn is_batch_full(&self) -> bool {
        self.entries.len() >= self.batch_size
    }
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Proposes an entry at this server.
    pub(crate) fn append(&mut self, entry: T) -> Result<(), ProposeErr<T>> {
        if self.is_reconfiguring() {
            return Err(ProposeErr::PendingReconfigEntry(entry));
        }
        if self.proposals.waits_for_nothing() && matches!(self.state, State::Leading(_)) {
            self.log.append(entry);
            return Ok(());
        }
        self.proposals.entries.push(entry);
        self.propose_if_leading();
        Ok(())
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

    /// A server that takes this one for the leader forwards proposals.
    pub(super) fn handle_forward(&mut self, entries: Vec<T>, from: NodeId) {
        match self.forwards.receive(from, &entries) {
            Seen::First => self.take_forwarded(entries),
            Seen::Again => {}
        }
    }

    /// As [`handle_forward`](Self::handle_forward), for entries that were forwarded before.
    pub(super) fn handle_repeated_forward(&mut self, forward: RepeatedForward<T>, from: NodeId) {
        match self.forwards.receive_repeated(from, &forward) {
            Seen::First => self.take_forwarded(forward.entries),
            Seen::Again => {}
        }
    }

    /// Entries that come after a stop sign are dropped: they cannot be decided in this
    /// configuration, and their origin learns of the sign with the log.
    fn take_forwarded(&mut self, mut entries: Vec<T>) {
        if self.is_reconfiguring() {
            return;
        }
        match self.state {
            State::Preparing(_) | State::Leading(_) => {
                self.proposals.entries.append(&mut entries);
                self.propose_if_leading();
            }
            State::Recovering | State::Promised { .. } | State::Following(_) => {
                self.proposals.relayed.append(&mut entries);
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
                self.proposals.relayed_stopsign = Some(stopsign);
            }
        }
    }

    /// Takes what was proposed into the log, if this server leads and the batch is full. A stop
    /// sign does not wait, and takes what was proposed before it along.
    pub(super) fn propose_if_leading(&mut self) {
        if self.proposals.is_batch_full() || self.proposals.stopsign.is_some() {
            self.propose_batch();
        }
    }

    /// Takes what was proposed into the log, if this server leads. Where a stop sign has got
    /// there first, entries can no longer be decided in this configuration.
    pub(super) fn propose_batch(&mut self) {
        let State::Leading(_) = self.state else {
            return;
        };
        self.proposals.batch_timer.restart();
        let stopsign = self.proposals.stopsign.take();
        if self.log.stopsign().is_some() {
            self.proposals.entries.clear();
            return;
        }
        for entry in self.proposals.entries.drain(..) {
            self.log.append(entry);
        }
        if let Some(stopsign) = stopsign {
            self.log.append_stopsign(stopsign);
        }
    }

    /// Forwards what was proposed here, if this server follows another. It has stored its promise
    /// then, so that it knows after a restart that it may have forwarded something.
    pub(super) fn draw_forwards(&mut self, mut send: impl FnMut(NodeId, PaxosMsg<T>)) {
        if self.proposals.is_empty() {
            return;
        }
        if self.followed_ballot().is_none() {
            return;
        }
        let Some(leader) = self.leader().filter(|leader| *leader != self.pid) else {
            return;
        };
        if !self.proposals.entries.is_empty() {
            let entries = std::mem::take(&mut self.proposals.entries);
            send(
                leader,
                match self.forwards.send(leader, entries) {
                    Forward::Plain(entries) => PaxosMsg::ProposalForward(entries),
                    Forward::Repeated(forward) => PaxosMsg::RepeatedForward(forward),
                },
            );
        }
        if let Some(stopsign) = self.proposals.stopsign.take() {
            send(leader, PaxosMsg::ForwardStopSign(Box::new(stopsign)));
        }
    }
}
