//! The reconfiguration proposed at this server.
//!
//! This server forwards its stop sign to the present leader, once a heartbeat round, until a stop
//! sign is in its own log. It continues if a later leader removes that stop sign. The
//! reconfiguration ends when a stop sign is decided: this one or another. A leader appends one stop
//! sign, so copies change nothing.

use super::{joiners::Joiners, state::State, SequencePaxos};
use crate::{
    ballot::Ballot,
    config::{ClusterConfig, ConfigError},
    errors::{ProposeErr, ReconfigurationErr},
    ids::NodeId,
    members::MemberChange,
    messages::sequence_paxos::{ForwardedStopSign, Joining, Refusal, RejectionReason},
    observe::{status::JoinerStatus, trace::LogEvent},
    proposals::{Outcome, ProposalId},
    storage::{Entry, Epoch, StopSign, Storage},
};

/// The number of heartbeat rounds for which the stop sign waits until earlier proposals are in the
/// log. Proposals that are not there by then may never get there.
const MOST_ROUNDS_BEHIND: u32 = 8;

/// The stop sign that was proposed here and has not ended.
#[derive(Clone, Debug)]
pub(super) struct Reconfiguration {
    stopsign: StopSign,
    /// The id in messages. It is unique among incarnations only if these are counted.
    id: ProposalId,
    interest: Interest,
    /// Heartbeat rounds since it was proposed, or since the servers that join have caught up.
    rounds: u32,
    /// The servers for which it waits, in a log that continues.
    joiners: Option<Joiners>,
}

/// Whether the user gets the outcome of the reconfiguration.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Interest {
    Outcome,
    None,
}

/// Why a reconfiguration is refused.
enum Refused {
    Config(ConfigError, ClusterConfig, Option<Vec<u8>>),
    Pending(ClusterConfig, Option<Vec<u8>>),
}

impl<T: Entry> From<Refused> for ProposeErr<T> {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Config(error, next, metadata) => Self::ConfigError(error, next, metadata),
            Refused::Pending(next, metadata) => Self::PendingReconfigConfig(next, metadata),
        }
    }
}

impl From<Refused> for ReconfigurationErr {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Config(error, next, metadata) => Self::Config(error, next, metadata),
            Refused::Pending(next, metadata) => Self::Pending(next, metadata),
        }
    }
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Proposes the next configuration (paper §6).
    pub(crate) fn reconfigure(
        &mut self,
        next_config: ClusterConfig,
        metadata: Option<Vec<u8>>,
    ) -> Result<(), ProposeErr<T>> {
        let number = self.proposals.next_number();
        let unnamed = ProposalId { origin: self.pid, incarnation: 0, number };
        let id = self.peek_id().unwrap_or(unnamed);
        let change = MemberChange { metadata, ..MemberChange::default() };
        self.begin_reconfiguration(next_config, change, id, Interest::None).map_err(Into::into)
    }

    /// Proposes the next configuration, and reports its outcome.
    pub(crate) fn propose_reconfiguration(
        &mut self,
        next_config: ClusterConfig,
        change: MemberChange,
    ) -> Result<ProposalId, ReconfigurationErr> {
        let Some(id) = self.peek_id() else {
            return Err(ReconfigurationErr::NoIncarnation(next_config, change.metadata));
        };
        match self.begin_reconfiguration(next_config, change, id, Interest::Outcome) {
            Ok(()) => Ok(id),
            Err(refused) => Err(refused.into()),
        }
    }

    fn begin_reconfiguration(
        &mut self,
        next_config: ClusterConfig,
        change: MemberChange,
        id: ProposalId,
        interest: Interest,
    ) -> Result<(), Refused> {
        let joiners = match self.log.continues() {
            true => Joiners::of(&next_config, &change, self.pid, |pid| self.members.contains(pid)),
            false => None,
        };
        let MemberChange { metadata, .. } = change;
        if let Err(error) = self.check_next(&next_config) {
            return Err(Refused::Config(error, next_config, metadata));
        }
        if self.is_reconfiguring() {
            return Err(Refused::Pending(next_config, metadata));
        }
        let stopsign = StopSign::with(next_config, metadata);
        if let Err(cause) = self.check_stopsign(&stopsign) {
            let error = unstorable(&cause);
            return Err(Refused::Config(error, stopsign.next_config, stopsign.metadata));
        }
        self.proposals.take_number();
        self.reconfiguration = Some(Reconfiguration { stopsign, id, interest, rounds: 0, joiners });
        self.record_followers_in_step();
        self.ask_joiners();
        self.submit_stopsign();
        Ok(())
    }

    fn check_next(&self, next_config: &ClusterConfig) -> Result<(), ConfigError> {
        next_config.validate()?;
        if self.log.continues() {
            next_config.check_may_be_followed()?;
        }
        if next_config.configuration_id <= self.config_id {
            return Err(ConfigError::InvalidConfig(format!(
                "configuration_id must be higher than that of this configuration, {}, but is {}",
                self.config_id, next_config.configuration_id
            )));
        }
        Ok(())
    }

    /// Returns whether a proposal at this server would come after a stop sign.
    pub(super) fn is_reconfiguring(&self) -> bool {
        self.reconfiguration.is_some() || self.takes_no_more()
    }

    /// Returns whether an entry that is proposed at this server would come after a stop sign, and the
    /// log ends there. In a log that continues the entry waits for the next epoch.
    pub(super) fn refuses_entries(&self) -> bool {
        !self.log.continues() && self.is_reconfiguring()
    }

    /// Returns whether a proposal of another server would come after a stop sign: in the log or, at
    /// a leader, in the queue.
    pub(super) fn takes_no_more(&self) -> bool {
        let leads = matches!(self.state, State::Preparing(_) | State::Leading(_));
        self.log.stopsign().is_some() || (leads && self.proposals.stopsign().is_some())
    }

    /// Queues the stop sign proposed here, to be appended or forwarded, unless a stop sign is in
    /// the own log.
    pub(super) fn submit_stopsign(&mut self) {
        if let Some(Reconfiguration { stopsign, id, joiners: None, .. }) = &self.reconfiguration {
            if self.log.stopsign().is_none() && self.proposals.stopsign().is_none() {
                let (config_id, stopsign) = (self.config_id, stopsign.clone());
                self.proposals.queue_stopsign(ForwardedStopSign {
                    config_id,
                    id: *id,
                    stopsign,
                    hops: 0,
                });
                self.propose_if_leading();
            }
        }
    }

    /// Ends a heartbeat round: forwards the stop sign again if none is in the log. Another server's
    /// stop sign is dropped, since its origin repeats it.
    pub(super) fn end_round_of_reconfiguration(&mut self) {
        let leads = matches!(self.state, State::Preparing(_) | State::Leading(_));
        let pid = self.pid;
        self.proposals.drop_stopsign_if(|sign| !leads && sign.id.origin != pid);
        self.end_round_of_joiners();
        if let Some(pending) = &mut self.reconfiguration {
            pending.rounds = pending.rounds.saturating_add(1);
            self.submit_stopsign();
        }
    }

    /// Returns whether a queued stop sign may be forwarded. A stop sign that was proposed here waits
    /// until earlier proposals of this server are in the log.
    pub(super) fn may_forward_stopsign(&self) -> bool {
        let own = self.reconfiguration.as_ref().filter(|_| {
            let queued = self.proposals.stopsign();
            queued.is_some_and(|sign| sign.id.origin == self.pid)
        });
        own.is_none_or(|pending| {
            pending.rounds >= MOST_ROUNDS_BEHIND
                || !self.proposals.lacks_some(|id| self.log.has(id))
        })
    }

    /// Handles a forwarded stop sign, as the leader or a relay. A second one in the same
    /// configuration is dropped. Its origin repeats it, in case the first one is lost.
    pub(super) fn handle_forwarded_stopsign(&mut self, mut sign: ForwardedStopSign, from: NodeId) {
        let is_own = sign.id.origin == self.pid;
        if is_own || self.takes_no_more() || self.check_next(&sign.stopsign.next_config).is_err() {
            return;
        }
        self.note_origin(sign.id.origin, from);
        let leads = matches!(self.state, State::Leading(_));
        if leads && self.refuse_stopsign(&sign, from) {
            return;
        }
        match self.state {
            State::Preparing(_) | State::Leading(_) => {
                self.proposals.queue_stopsign(sign);
                self.propose_if_leading();
            }
            State::Recovering | State::Promised { .. } | State::Following(_) => {
                if self.may_relay(sign.id.origin, from, sign.hops) {
                    sign.hops = sign.hops.saturating_add(1);
                    self.proposals.hold_stopsign(sign);
                }
            }
        }
    }

    /// Refuses a stop sign, if it cannot be stored. Its origin gets a rejection through `via` once
    /// no earlier leader can have decided it. Until then the origin forwards it again.
    fn refuse_stopsign(&mut self, sign: &ForwardedStopSign, via: NodeId) -> bool {
        let Err(cause) = self.check_stopsign(&sign.stopsign) else {
            return false;
        };
        self.trace.emit(|| {
            let event = LogEvent::warn("refuses a stop sign that cannot be stored");
            event.with_peer(sign.id.origin).because(&cause)
        });
        if self.is_nowhere_else(Ballot::default()) {
            if sign.id.origin == self.pid {
                self.handle_refused_stopsign(sign.id, &cause);
            } else {
                let n = self.log.promise();
                self.send_rejection(
                    via,
                    sign.id,
                    RejectionReason::Refused(Box::new(Refusal { n, cause })),
                );
            }
        }
        true
    }

    /// Returns whether the id is that of the pending stop sign of this server.
    pub(super) fn is_reconfiguration(&self, id: ProposalId) -> bool {
        self.reconfiguration.as_ref().is_some_and(|pending| pending.id == id)
    }

    /// Ends the reconfiguration of this server, since the leader has refused its stop sign, if the
    /// log here contains none.
    pub(super) fn handle_refused_stopsign(&mut self, id: ProposalId, cause: &str) {
        if self.log.stopsign().is_some() {
            return;
        }
        if let Some(refused) = self.reconfiguration.take_if(|pending| pending.id == id) {
            self.proposals.drop_stopsign_if(|sign| sign.id == id);
            match refused.interest {
                Interest::Outcome => self.proposals.report(id, Outcome::Refused(cause.to_string())),
                Interest::None => self.drop_unstorable_stopsign(cause),
            }
        }
    }

    /// Appends the queued stop sign to the log of this leader, after all entries that wait before
    /// it.
    pub(super) fn take_stopsign(&mut self) {
        if let Some(sign) = self.proposals.take_stopsign() {
            if self.refuse_stopsign(&sign, self.observers.way_to(sign.id.origin)) {
                return;
            }
            let ForwardedStopSign { stopsign, .. } = sign;
            let next = stopsign.next_config.configuration_id;
            self.trace.emit(|| {
                let event = LogEvent::info("appends a stop sign");
                event.at(self.log.len()).because(format!("configuration {next} is to follow"))
            });
            self.log.append_stopsign(stopsign);
        }
    }

    /// Returns whether the next output has no outcome of the reconfiguration to report.
    pub(super) fn is_reconfiguration_settled(&self) -> bool {
        self.reconfiguration.is_none() || self.log.decided_stopsign().is_none()
    }

    /// Reports the outcome of the reconfiguration, if a stop sign is decided.
    ///
    /// A snapshot may stand for the stop sign of this epoch. Then the decided one is that of a later epoch,
    /// and the beginning of the next epoch ends the reconfiguration.
    pub(super) fn settle_reconfiguration(&mut self) {
        if self.has_reached_later_epoch() {
            return;
        }
        let (Some(decided), Some(idx)) = (self.log.decided_stopsign(), self.log.stopsign_idx())
        else {
            return;
        };
        if let Some(Reconfiguration { stopsign, id, interest, .. }) = self.reconfiguration.take() {
            let outcome = match *decided == stopsign {
                true => Outcome::Decided(idx),
                false => Outcome::NotDecided,
            };
            match interest {
                Interest::Outcome => self.proposals.report(id, outcome),
                Interest::None => {}
            }
        }
    }
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Asks the servers of the next configuration how much of the log they have.
    fn ask_joiners(&mut self) {
        let joiners = self.reconfiguration.as_ref().and_then(|pending| pending.joiners.as_ref());
        for pid in joiners.into_iter().flat_map(Joiners::missing) {
            self.outbox.ask_to_join(pid);
        }
    }

    /// Handles a question to a server that is to join, or the answer of one.
    pub(super) fn handle_joining(&mut self, joining: Joining, from: NodeId) {
        let Some(decided_idx) = joining.decided_idx else {
            if joining.config_id > self.config_id {
                self.ask_informed(from);
            }
            // The other server is behind. Or this one was started as a founder of the next configuration,
            // and has a log of its own: it has caught up with nothing.
            if joining.config_id < self.config_id {
                return;
            }
            return self.outbox.report_progress(from, joining.config_id);
        };
        self.record_progress([(from, decided_idx)]);
    }

    /// Records what the followers have accepted that answer: a leader needs not ask these.
    fn record_followers_in_step(&mut self) {
        if self.reconfiguration.as_ref().is_none_or(|pending| pending.joiners.is_none()) {
            return;
        }
        let State::Leading(leading) = &self.state else {
            return;
        };
        let accepted = leading.followers.accepted();
        let reached = accepted.filter(|(pid, _)| self.routing.is_reachable(*pid));
        let reached: Vec<(NodeId, u64)> = reached.collect();
        self.record_progress(reached);
    }

    /// Records how much of the decided log servers hold. If enough of those that join have caught up,
    /// submits the stop sign.
    fn record_progress(&mut self, progress: impl IntoIterator<Item = (NodeId, u64)>) {
        let trimmed_idx = if self.log.is_trimmed() { self.log.compacted_idx() } else { 0 };
        let held = trimmed_idx..self.log.decided_idx();
        let Some(pending) = &mut self.reconfiguration else {
            return;
        };
        let Some(joiners) = &mut pending.joiners else {
            return;
        };
        for (pid, idx) in progress {
            joiners.record(pid, idx, &held);
        }
        if joiners.have_caught_up() {
            (pending.joiners, pending.rounds) = (None, 0);
            self.submit_stopsign();
        }
    }

    /// Ends a heartbeat round: asks the servers that join again. If they fall silent, the change is given
    /// up, and has changed nothing.
    fn end_round_of_joiners(&mut self) {
        self.record_followers_in_step();
        let Some(pending) = &mut self.reconfiguration else {
            return;
        };
        let Some(joiners) = &mut pending.joiners else {
            return;
        };
        if !joiners.end_round() {
            return self.ask_joiners();
        }
        let missing = joiners.needed_and_missing();
        self.trace.emit(|| {
            let event = LogEvent::warn("cancels a change of members");
            event.because(format!("servers {missing:?} have not caught up"))
        });
        if let Some(given_up) = self.reconfiguration.take() {
            if given_up.interest == Interest::Outcome {
                self.proposals.report(given_up.id, Outcome::NotJoined(missing));
            }
        }
    }

    /// Ends the reconfiguration that was proposed here, since this server begins an epoch. If a snapshot
    /// stands for the stop signs before it, it is not known whether this one was among them.
    pub(super) fn end_reconfiguration(&mut self, epoch: &Epoch) {
        let Some(pending) = self.reconfiguration.take() else {
            return;
        };
        let Epoch { first_idx, configuration, metadata } = epoch;
        let StopSign { next_config, metadata: metadata_of_this } = &pending.stopsign;
        let outcome = match &pending.joiners {
            Some(_) => Outcome::NotDecided,
            None if (next_config, metadata_of_this) == (configuration, metadata) => {
                Outcome::Decided(first_idx.saturating_sub(1))
            }
            None => Outcome::Unknown,
        };
        if pending.interest == Interest::Outcome {
            self.proposals.report(pending.id, outcome);
        }
    }

    /// Returns the servers that join, each with what it has reported, while a change waits for them.
    pub(crate) fn joiners(&self) -> Vec<JoinerStatus> {
        let joiners = self.reconfiguration.as_ref().and_then(|pending| pending.joiners.as_ref());
        joiners.map_or_else(Vec::new, |joiners| joiners.status(self.log.decided_idx()))
    }
}

/// Returns the error for a stop sign that cannot be stored.
fn unstorable(cause: &str) -> ConfigError {
    ConfigError::InvalidConfig(format!("the stop sign cannot be stored: {cause}"))
}

#[cfg(test)]
mod tests;
