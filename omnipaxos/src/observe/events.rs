//! Events: what has happened at a replica since the last call of
//! [`OmniPaxos::take_events`](crate::OmniPaxos::take_events).
//!
//! `take_events` compares the present state with the state that it reported last. So events cost
//! nothing between two calls. If a value has changed several times, only the last value is
//! reported. The outcomes of proposals are the exception: a replica keeps each of them, up to a
//! limit. The limit is the larger of `max_pending_entries` and 65,536.

pub use crate::messages::validate::HigherConfiguration;

use crate::{
    ballot::Ballot,
    config::ClusterConfig,
    errors::Halted,
    identity::PeerConflict,
    ids::{ConfigurationId, NodeId},
    proposals::{Outcome, ProposalId},
    reads::ReadId,
    storage::{Epoch, StopSign},
};
use std::fmt;

/// One event.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// This server knows another leader, or none; or `is_ready` has changed.
    LeaderChanged {
        /// The ballot of the leader, which is the server `pid` in it; `None` if no leader is known.
        leader: Option<Ballot>,
        /// Whether this server is in the accept phase of that ballot: as the leader, which can then
        /// decide, or as a replicating follower. Until then proposals wait. It is `false` once the
        /// replica has halted.
        is_ready: bool,
    },
    /// Entries were trimmed or replaced by a snapshot here.
    Compacted {
        /// The entries before this index are trimmed or replaced by a snapshot.
        idx: u64,
    },
    /// Entries were decided.
    Decided {
        /// The entries before this index are decided and can be read here, except compacted ones.
        idx: u64,
    },
    /// The stop sign is decided: the log has ended. Not reported if the log
    /// [continues](crate::ServerConfig::continues).
    Reconfigured(StopSign),
    /// The log [continues](crate::ServerConfig::continues), and these are its members now. At the start
    /// it reports the configuration that the storage holds.
    ConfigurationBegan {
        /// The configuration.
        configuration: ClusterConfig,
        /// The index of its first record: the one after the stop sign.
        first_idx: u64,
    },
    /// This server is no member any more. It observes, and serves the log that it holds.
    Retired {
        /// Whether the cluster does not need this server or any other that was removed: a write quorum
        /// of the members holds all entries before the present configuration. Then this server may be
        /// stopped for good. The event comes again when this becomes true.
        may_stop: bool,
    },
    /// A [proposal](crate::OmniPaxos::propose) has ended.
    ProposalEnded {
        /// The proposal.
        id: ProposalId,
        /// The outcome of the proposal.
        outcome: Outcome,
    },
    /// [Reads](crate::OmniPaxos::request_read) are ready.
    /// [`read_state`](crate::OmniPaxos::read_state) returns the index.
    ReadReady {
        /// This read, and all that were requested here before it and not refused.
        up_to: ReadId,
    },
    /// A [transfer](crate::OmniPaxos::transfer_leadership) has ended. If it succeeded, the other
    /// server leads, and this server knows that or will learn it. If it was cancelled, this server
    /// continues to decide proposals, unless it was deposed.
    LeadershipTransferEnded {
        /// The server that was asked to take over.
        to: NodeId,
    },
    /// A peer that answered heartbeats does not answer any more.
    PeerLost(NodeId),
    /// A peer answers heartbeats. At the start, no peer does.
    PeerBack(NodeId),
    /// A member has reported a higher configuration: a hint that this server missed a
    /// reconfiguration.
    HigherConfiguration(HigherConfiguration),
    /// This server and another one ignore each other: their configurations differ, or a storage is
    /// not the known one. Each conflict is reported once, and again if it returns after some rounds
    /// without it.
    Conflict(PeerConflict),
    /// The leader lacks entries that are decided here: servers have lost accepted entries. Stop the
    /// cluster: see [`LostEntries`].
    EntriesLost(LostEntries),
    /// Another server observes this one, directly or through another observer. Its
    /// [status](crate::status::ObserverStatus) contains its progress.
    ObserverAdded(NodeId),
    /// This server removed an observer that was silent for ten heartbeat rounds.
    ObserverRemoved(NodeId),
    /// This server is an observer, or was removed, and a source has trimmed entries that it lacks: those
    /// before `idx`. The server asks its other sources. If all have trimmed the entries, it never gets
    /// them. An entry type with snapshots avoids that.
    TrimmedAtSource {
        /// Number of entries that the source has trimmed.
        idx: u64,
    },
    /// The storage has failed or user code panicked. The replica sends nothing more.
    Halted(Halted),
}

/// The proof that a quorum has lost decided entries: this server has them, and its leader has not.
///
/// The storages of other servers were lost or replaced, and no server of the quorum detected that.
/// This server keeps its entries, and does not follow that leader while the leader has fewer. But
/// the cluster continues without them. Stop all servers, and start a new cluster from the entries
/// decided here.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LostEntries {
    /// The ballot of the leader.
    pub leader: Ballot,
    /// Length of the leader's log when this server noticed the loss.
    pub leader_idx: u64,
    /// Number of entries decided here at that time.
    pub decided_idx: u64,
}

impl fmt::Display for LostEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} entries are decided here, and the leader, server {}, has {}: servers have lost \
             accepted entries; stop the cluster, and start a new one from the entries of this server",
            self.decided_idx, self.leader.pid, self.leader_idx
        )
    }
}

/// The present state of a replica.
#[derive(Clone, Debug)]
pub(crate) struct Observed<'a> {
    pub(crate) leader: Option<Ballot>,
    pub(crate) is_ready: bool,
    pub(crate) compacted_idx: u64,
    pub(crate) decided_idx: u64,
    pub(crate) stopsign: Option<&'a StopSign>,
    pub(crate) epoch: Option<&'a Epoch>,
    pub(crate) may_stop: Option<bool>,
    pub(crate) ready_read: Option<ReadId>,
    pub(crate) transfer: Option<NodeId>,
    pub(crate) higher: Option<HigherConfiguration>,
    pub(crate) conflicts: Vec<PeerConflict>,
    pub(crate) lost: Option<LostEntries>,
    pub(crate) trimmed_at_source: Option<u64>,
    pub(crate) observers: Vec<NodeId>,
    pub(crate) halted: Option<&'a Halted>,
}

/// The state of a replica at the last call. At the start it is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastReported {
    leader: Option<Ballot>,
    is_ready: bool,
    compacted_idx: u64,
    decided_idx: u64,
    is_reconfigured: bool,
    /// The configuration last reported, where the log continues.
    configuration_id: ConfigurationId,
    may_stop: Option<bool>,
    ready_read: Option<ReadId>,
    transfer: Option<NodeId>,
    higher: Option<HigherConfiguration>,
    is_halted: bool,
    conflicts: Vec<PeerConflict>,
    lost: Option<LostEntries>,
    trimmed_at_source: Option<u64>,
    /// The observers last reported, in order. Bounded by a setting.
    observers: Vec<NodeId>,
    /// The peers last reported as answering, in order. Bounded by the configuration.
    answering: Vec<NodeId>,
}

impl LastReported {
    /// Records that a transfer has begun.
    pub(crate) fn begin_transfer(&mut self, to: NodeId) {
        self.transfer = Some(to);
    }

    /// Returns the new events. `answered` returns whether a peer answered the last heartbeat round.
    pub(crate) fn new_events(
        &mut self,
        observed: &Observed<'_>,
        peers: &[NodeId],
        answered: impl Fn(NodeId) -> bool,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        let Observed { leader, is_ready, compacted_idx, decided_idx, .. } = *observed;
        if (leader, is_ready) != (self.leader, self.is_ready) {
            (self.leader, self.is_ready) = (leader, is_ready);
            events.push(Event::LeaderChanged { leader, is_ready });
        }
        // Before `Decided`, so that a reader knows that a snapshot may stand for some entries.
        if compacted_idx > self.compacted_idx {
            self.compacted_idx = compacted_idx;
            events.push(Event::Compacted { idx: compacted_idx });
        }
        if decided_idx > self.decided_idx {
            self.decided_idx = decided_idx;
            events.push(Event::Decided { idx: decided_idx });
        }
        if let Some(stopsign) = observed.stopsign.filter(|_| !self.is_reconfigured) {
            self.is_reconfigured = true;
            events.push(Event::Reconfigured(stopsign.clone()));
        }
        let is_new = |epoch: &&Epoch| epoch.configuration.configuration_id > self.configuration_id;
        if let Some(epoch) = observed.epoch.filter(is_new) {
            let (configuration, first_idx) = (epoch.configuration.clone(), epoch.first_idx);
            self.configuration_id = configuration.configuration_id;
            self.may_stop = None;
            events.push(Event::ConfigurationBegan { configuration, first_idx });
        }
        if let Some(may_stop) = observed.may_stop.filter(|_| observed.may_stop != self.may_stop) {
            self.may_stop = Some(may_stop);
            events.push(Event::Retired { may_stop });
        }
        if let Some(up_to) = observed.ready_read.filter(|read| self.ready_read < Some(*read)) {
            self.ready_read = Some(up_to);
            events.push(Event::ReadReady { up_to });
        }
        if let Some(to) = self.transfer.filter(|_| observed.transfer != self.transfer) {
            self.transfer = observed.transfer;
            events.push(Event::LeadershipTransferEnded { to });
        }
        for pid in peers {
            match (self.answering.binary_search(pid), answered(*pid)) {
                (Ok(at), false) => {
                    self.answering.remove(at);
                    events.push(Event::PeerLost(*pid));
                }
                (Err(at), true) => {
                    self.answering.insert(at, *pid);
                    events.push(Event::PeerBack(*pid));
                }
                (Ok(_), true) | (Err(_), false) => {}
            }
        }
        if let Some(higher) = observed.higher.filter(|higher| self.higher != Some(*higher)) {
            self.higher = Some(higher);
            events.push(Event::HigherConfiguration(higher));
        }
        if observed.conflicts != self.conflicts {
            let is_new = |found: &&PeerConflict| !self.conflicts.contains(found);
            events.extend(observed.conflicts.iter().filter(is_new).copied().map(Event::Conflict));
            self.conflicts.clone_from(&observed.conflicts);
        }
        if let Some(lost) = observed.lost.filter(|lost| self.lost != Some(*lost)) {
            self.lost = Some(lost);
            events.push(Event::EntriesLost(lost));
        }
        if observed.observers != self.observers {
            let removed = self.observers.iter().filter(|pid| !observed.observers.contains(pid));
            let added = observed.observers.iter().filter(|pid| !self.observers.contains(pid));
            events.extend(removed.copied().map(Event::ObserverRemoved));
            events.extend(added.copied().map(Event::ObserverAdded));
            self.observers.clone_from(&observed.observers);
        }
        if observed.trimmed_at_source != self.trimmed_at_source {
            self.trimmed_at_source = observed.trimmed_at_source;
            events.extend(observed.trimmed_at_source.map(|idx| Event::TrimmedAtSource { idx }));
        }
        if let Some(halted) = observed.halted.filter(|_| !self.is_halted) {
            self.is_halted = true;
            events.push(Event::Halted(halted.clone()));
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Ballot, Event, Halted, HigherConfiguration, LastReported, NodeId, Observed, ReadId,
        StopSign,
    };
    use crate::config::ClusterConfig;

    const NOTHING: Observed<'_> = Observed {
        epoch: None,
        may_stop: None,
        leader: None,
        is_ready: false,
        compacted_idx: 0,
        decided_idx: 0,
        stopsign: None,
        ready_read: None,
        transfer: None,
        higher: None,
        conflicts: Vec::new(),
        lost: None,
        trimmed_at_source: None,
        observers: Vec::new(),
        halted: None,
    };

    fn new_events(
        last: &mut LastReported,
        observed: &Observed<'_>,
        answering: &[NodeId],
    ) -> Vec<Event> {
        let events = last.new_events(observed, &[2, 3], |pid| answering.contains(&pid));
        assert_eq!(
            last.new_events(observed, &[2, 3], |pid| answering.contains(&pid)),
            [],
            "reported twice"
        );
        events
    }

    #[test]
    fn nothing_is_no_event() {
        let events = LastReported::default().new_events(&NOTHING, &[2, 3], |_| false);
        assert_eq!((events.len(), events.capacity()), (0, 0), "no allocation");
    }

    #[test]
    fn the_last_of_several_changes_is_told() {
        let mut last = LastReported::default();
        let leader = Some(Ballot::with(1, 1, 0, 2));
        let new = Event::LeaderChanged { leader, is_ready: false };
        let observed = Observed { leader, decided_idx: 4, ..NOTHING };
        assert_eq!(new_events(&mut last, &observed, &[]), [new, Event::Decided { idx: 4 }]);
        let observed = Observed { is_ready: true, decided_idx: 9, compacted_idx: 7, ..observed };
        let ready = Event::LeaderChanged { leader, is_ready: true };
        let more = [ready, Event::Compacted { idx: 7 }, Event::Decided { idx: 9 }];
        assert_eq!(new_events(&mut last, &observed, &[]), more);
        let gone = Event::LeaderChanged { leader: None, is_ready: false };
        let observed = Observed { compacted_idx: 7, decided_idx: 9, ..NOTHING };
        assert_eq!(new_events(&mut last, &observed, &[]), [gone]);
    }

    #[test]
    fn indices_that_go_back_are_not_told() {
        let mut last = LastReported::default();
        let observed = Observed { decided_idx: 9, ..NOTHING };
        assert_eq!(new_events(&mut last, &observed, &[]).len(), 1);
        for (decided_idx, expected) in [(5, None), (9, None), (10, Some(10))] {
            let observed = Observed { decided_idx, ..NOTHING };
            let expected: Vec<Event> =
                expected.map(|idx| Event::Decided { idx }).into_iter().collect();
            assert_eq!(new_events(&mut last, &observed, &[]), expected);
        }
    }

    #[test]
    fn reads_and_transfers_are_told_once() {
        let mut last = LastReported::default();
        for number in [3, 5] {
            let up_to = ReadId::new(number);
            let observed = Observed { ready_read: Some(up_to), ..NOTHING };
            assert_eq!(new_events(&mut last, &observed, &[]), [Event::ReadReady { up_to }]);
        }
        last.begin_transfer(2);
        let under_way = Observed { transfer: Some(2), ..NOTHING };
        assert_eq!(new_events(&mut last, &under_way, &[]), []);
        assert_eq!(
            new_events(&mut last, &NOTHING, &[]),
            [Event::LeadershipTransferEnded { to: 2 }]
        );
    }

    #[test]
    fn peers_come_and_go() {
        let mut last = LastReported::default();
        for (answering, expected) in [
            (vec![3], vec![Event::PeerBack(3)]),
            (vec![2], vec![Event::PeerBack(2), Event::PeerLost(3)]),
            (vec![2, 3], vec![Event::PeerBack(3)]),
            (vec![], vec![Event::PeerLost(2), Event::PeerLost(3)]),
        ] {
            assert_eq!(new_events(&mut last, &NOTHING, &answering), expected);
        }
    }

    #[test]
    fn observers_come_and_go() {
        let mut last = LastReported::default();
        for (observers, expected) in [
            (vec![7, 9], vec![Event::ObserverAdded(7), Event::ObserverAdded(9)]),
            (vec![8, 9], vec![Event::ObserverRemoved(7), Event::ObserverAdded(8)]),
            (vec![], vec![Event::ObserverRemoved(8), Event::ObserverRemoved(9)]),
        ] {
            let observed = Observed { observers, ..NOTHING };
            assert_eq!(new_events(&mut last, &observed, &[]), expected);
        }
        let observed = Observed { trimmed_at_source: Some(4), ..NOTHING };
        let trimmed = Event::TrimmedAtSource { idx: 4 };
        assert_eq!(new_events(&mut last, &observed, &[]), [trimmed]);
        assert_eq!(new_events(&mut last, &NOTHING, &[]), []);
    }

    #[test]
    fn ends_are_told_once() {
        let mut last = LastReported::default();
        let stopsign = StopSign::with(ClusterConfig::default(), None);
        let halted = Halted::new("write", "the disk is full");
        let higher = HigherConfiguration { configuration_id: 2, reported_by: 3 };
        let observed = Observed {
            stopsign: Some(&stopsign),
            higher: Some(higher),
            halted: Some(&halted),
            ..NOTHING
        };
        let expected = [
            Event::Reconfigured(stopsign.clone()),
            Event::HigherConfiguration(higher),
            Event::Halted(halted.clone()),
        ];
        assert_eq!(new_events(&mut last, &observed, &[]), expected);
        let higher = HigherConfiguration { configuration_id: 4, reported_by: 2 };
        let observed = Observed { higher: Some(higher), ..observed };
        assert_eq!(new_events(&mut last, &observed, &[]), [Event::HigherConfiguration(higher)]);
    }
}
