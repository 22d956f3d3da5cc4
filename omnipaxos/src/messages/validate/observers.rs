//! The observers that this server serves.

use super::{MessageValidator, Reason};
use crate::{
    ids::NodeId,
    messages::{ballot_leader_election::HeartbeatMsg, sequence_paxos::PaxosMsg, Message},
    storage::Entry,
};
use std::collections::{BTreeMap, BTreeSet};

/// Heartbeat rounds without a message after which an observer is removed.
const ROUNDS_KEPT: u32 = 10;

/// The observers that this server serves: those that ask it, and those whose proposals and reads it
/// relays. Bounded by a setting.
#[derive(Clone, Debug)]
pub(crate) struct Observers {
    limit: usize,
    /// For each observer the number of rounds since its last message.
    silent_rounds: BTreeMap<NodeId, u32>,
    /// Those of them that have sent a request of the present epoch.
    in_epoch: BTreeSet<NodeId>,
}

impl Observers {
    pub(super) fn at_most(limit: usize) -> Self {
        Self { limit, silent_rounds: BTreeMap::new(), in_epoch: BTreeSet::new() }
    }

    /// Begins the next epoch: removes the observers that are not to be kept.
    pub(super) fn begin_epoch(&mut self, is_kept: impl Fn(NodeId) -> bool) {
        self.silent_rounds.retain(|pid, _| is_kept(*pid));
        self.in_epoch.clear();
    }

    /// Returns whether an observer has shown that it has begun the present epoch.
    pub(crate) fn is_in_epoch(&self, pid: NodeId) -> bool {
        self.in_epoch.contains(&pid)
    }

    /// Returns whether no server may observe this one.
    #[inline]
    pub(super) fn are_refused(&self) -> bool {
        self.limit == 0
    }

    pub(crate) fn contains(&self, pid: NodeId) -> bool {
        self.silent_rounds.contains_key(&pid)
    }

    /// Returns whether `pid` is one of the observers, or may become one.
    pub(super) fn has_place_for(&self, pid: NodeId) -> bool {
        pid != 0 && (self.contains(pid) || self.silent_rounds.len() < self.limit)
    }

    /// Records a message of an observer, received directly or through another server.
    pub(super) fn record(&mut self, pid: NodeId) {
        if self.has_place_for(pid) {
            self.silent_rounds.insert(pid, 0);
        }
    }

    /// Ends a heartbeat round: removes observers that were silent for too long.
    pub(crate) fn end_round(&mut self) {
        self.silent_rounds.retain(|_, rounds| {
            *rounds += 1;
            *rounds <= ROUNDS_KEPT
        });
        self.in_epoch.retain(|pid| self.silent_rounds.contains_key(pid));
    }
}

/// The part of a message between an observer and its source.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Part {
    /// An observer sends it, for itself or for the observer `origin`.
    Request { origin: NodeId },
    /// A source sends it.
    Answer,
    /// It travels between members only.
    OfMembers,
}

impl Part {
    fn of<T: Entry>(message: &Message<T>) -> Self {
        let from = message.get_sender();
        match message {
            Message::BLE(ble) => match &ble.msg {
                HeartbeatMsg::Request(request) if request.observes => {
                    Part::Request { origin: from }
                }
                HeartbeatMsg::Request(_) => Part::OfMembers,
                HeartbeatMsg::Reply(_) => Part::Answer,
            },
            Message::SequencePaxos(paxos) => match &paxos.msg {
                PaxosMsg::CatchUpRequest(_) => Part::Request { origin: from },
                PaxosMsg::ForwardedProposals(m) => Part::Request { origin: m.first.origin },
                PaxosMsg::ForwardStopSign(m) => Part::Request { origin: m.id.origin },
                PaxosMsg::ReadIndexRequest(m) => Part::Request { origin: m.origin },
                PaxosMsg::CatchUpChunk(_)
                | PaxosMsg::ProposalRejection(_)
                | PaxosMsg::ReadIndexResponse(_) => Part::Answer,
                PaxosMsg::PrepareReq(_)
                | PaxosMsg::Prepare(_)
                | PaxosMsg::Promise(_)
                | PaxosMsg::AcceptSync(_)
                | PaxosMsg::AcceptDecide(_)
                | PaxosMsg::AcceptStopSign(_)
                | PaxosMsg::Accepted(_)
                | PaxosMsg::NotAccepted(_)
                | PaxosMsg::Decide(_)
                | PaxosMsg::CatchUpRedirect(_)
                | PaxosMsg::ProposalForward(_)
                | PaxosMsg::Compaction(_)
                | PaxosMsg::LeadershipCheck(_)
                | PaxosMsg::LeadershipCheckAck(_)
                | PaxosMsg::TransferLeadership(_)
                | PaxosMsg::Joining(_) => Part::OfMembers,
            },
        }
    }
}

impl MessageValidator {
    /// Records the observers that sent a valid request. A server that this observer observes may send
    /// one, too.
    #[cold]
    pub(super) fn record_observers<T: Entry>(&mut self, message: &Message<T>) {
        let Part::Request { origin } = Part::of(message) else {
            return;
        };
        for pid in [message.get_sender(), origin] {
            if !self.is_member(pid) && pid != self.pid {
                self.observers.record(pid);
            }
        }
        let sender = message.get_sender();
        if self.observers.contains(sender) && !self.is_of_another_epoch(message) {
            self.observers.in_epoch.insert(sender);
        }
    }

    /// Checks a message to or from an observer. An observer sends requests, and the observed server
    /// answers. An observer takes part in nothing else.
    #[cold]
    pub(super) fn examine_observing<T: Entry>(
        &self,
        message: &Message<T>,
        from: NodeId,
    ) -> Result<(), Reason> {
        let is_source =
            self.members.is_observer() && (self.is_member(from) || self.members.observes(from));
        let is_heartbeat = matches!(message, Message::BLE(_));
        let is_expected = match Part::of(message) {
            Part::Request { .. } if is_heartbeat => self.observers.has_place_for(from),
            Part::Request { .. } if self.continues && self.is_of_another_epoch(message) => {
                self.observers.has_place_for(from)
            }
            Part::Request { .. } => self.observers.contains(from),
            Part::Answer if self.is_asked(message, from) => true,
            Part::Answer => is_source,
            // A source sends a heartbeat request only to report that it is in another configuration.
            Part::OfMembers => is_source && self.is_of_another_configuration(message),
        };
        if is_expected && from != self.pid {
            Ok(())
        } else {
            Err(Reason::Stranger)
        }
    }

    /// Returns whether a message brings decided entries from a server of a later configuration, which
    /// this one may have asked.
    fn is_asked<T: Entry>(&self, message: &Message<T>, from: NodeId) -> bool {
        match message {
            Message::SequencePaxos(paxos) => {
                matches!(paxos.msg, PaxosMsg::CatchUpChunk(_)) && self.others.is_informed(from)
            }
            Message::BLE(_) => false,
        }
    }

    /// Returns whether a message is a heartbeat request of another configuration.
    fn is_of_another_configuration<T: Entry>(&self, message: &Message<T>) -> bool {
        match message {
            Message::BLE(ble) => match &ble.msg {
                HeartbeatMsg::Request(request) => request.config_id != self.config_id,
                HeartbeatMsg::Reply(_) => false,
            },
            Message::SequencePaxos(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Observers, ROUNDS_KEPT};

    /// An observer that asks from an earlier epoch has not begun the present one: a leader notifies it
    /// again.
    #[test]
    fn an_observer_is_in_the_epoch_in_which_it_asks() {
        let mut observers = Observers::at_most(2);
        observers.record(4);
        assert!(observers.contains(4) && !observers.is_in_epoch(4));
        observers.in_epoch.insert(4);
        observers.end_round();
        assert!(observers.is_in_epoch(4));
        observers.begin_epoch(|_| true);
        assert!(observers.contains(4) && !observers.is_in_epoch(4));
        observers.in_epoch.insert(4);
        (0..=ROUNDS_KEPT).for_each(|_| observers.end_round());
        assert!(!observers.contains(4) && !observers.is_in_epoch(4));
    }

    #[test]
    fn a_place_is_free_when_its_observer_is_silent() {
        let mut observers = Observers::at_most(2);
        [7, 8, 9, 0].into_iter().for_each(|pid| observers.record(pid));
        assert!(observers.contains(7) && observers.contains(8));
        assert!(!observers.has_place_for(9) && !observers.has_place_for(0));
        for _ in 0..ROUNDS_KEPT {
            observers.end_round();
            observers.record(8);
        }
        assert!(observers.contains(7));
        observers.end_round();
        assert!(!observers.contains(7) && observers.has_place_for(9));
    }

    #[test]
    fn by_default_nobody_observes() {
        let mut observers = Observers::at_most(0);
        observers.record(7);
        assert!(observers.are_refused() && !observers.contains(7));
    }
}
