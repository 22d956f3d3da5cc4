//! What has happened at a replica since it was asked last.
//!
//! [`OmniPaxos::take_events`](crate::OmniPaxos::take_events) compares what is with what it told
//! before. So news cost nothing until they are asked for, and of what changed several times the last
//! is told. Only the ends of proposals are kept, each by itself: as many as may wait, or 65,536.

pub use crate::other_configurations::HigherConfiguration;

use crate::{
    ballot::Ballot,
    errors::Halted,
    identity::PeerConflict,
    ids::NodeId,
    proposals::{Outcome, ProposalId},
    reads::ReadId,
    storage::StopSign,
};
use std::fmt;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Another leader is known here, or none; or whether the present one is ready has changed.
    LeaderChanged {
        /// The ballot of the leader, which is the server `pid` of it; `None` if none is known.
        leader: Option<Ballot>,
        /// Whether this server is in the accept phase of that ballot: as the leader, which can
        /// decide then, or as a follower in step. Until then proposals wait. Never so once the
        /// replica has halted.
        is_ready: bool,
    },
    /// Entries were compacted here.
    Compacted {
        /// The entries before this index are trimmed or replaced by a snapshot.
        idx: u64,
    },
    /// Entries were decided.
    Decided {
        /// The entries before this index are decided and can be read here, unless they are
        /// compacted.
        idx: u64,
    },
    /// The stop sign is decided: nothing more is decided in this configuration.
    Reconfigured(StopSign),
    /// A [proposal](crate::OmniPaxos::propose) has ended.
    ProposalEnded {
        /// The proposal.
        id: ProposalId,
        /// How it ended.
        outcome: Outcome,
    },
    /// [Reads](crate::OmniPaxos::request_read) can be served, which
    /// [`read_state`](crate::OmniPaxos::read_state) tells how.
    ReadReady {
        /// This one, and all that were requested here before it and not refused.
        up_to: ReadId,
    },
    /// A [handover](crate::OmniPaxos::hand_over) is over. If it succeeded, its server is the leader
    /// now or will be once this one has heard of it; if it was given up, proposals go on here.
    HandoverEnded {
        /// The server that was to lead.
        to: NodeId,
    },
    /// A peer that answered heartbeats does not answer any more.
    PeerLost(NodeId),
    /// A peer answers heartbeats. At first, none does.
    PeerBack(NodeId),
    /// A member has told of a higher configuration: a hint that this server has missed a
    /// reconfiguration.
    HigherConfiguration(HigherConfiguration),
    /// This server and another ignore each other, since their configurations differ, or a storage is
    /// not the one that it was. Told once, and again if it is found after some rounds without.
    Conflict(PeerConflict),
    /// The leader lacks entries that are decided here: servers have lost what they had accepted. Stop
    /// the cluster: see [`LostEntries`].
    EntriesLost(LostEntries),
    /// The storage has failed, and the replica says nothing more.
    Halted(Halted),
}

/// The proof that a quorum has lost entries that were decided: this server has them, and its leader
/// has not.
///
/// Disks of other servers were lost or replaced, and no server of the quorum knew. This server keeps
/// its entries and does not follow that leader while it has fewer. But the cluster goes on without
/// them. Stop all servers, and start the cluster anew from what this one has decided.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LostEntries {
    /// The ballot of the leader.
    pub leader: Ballot,
    /// Length of the log with which it led, when this server noticed.
    pub leader_idx: u64,
    /// Number of entries decided here at that time.
    pub decided_idx: u64,
}

impl fmt::Display for LostEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} entries are decided here, and the leader, server {}, has {}: servers have lost what \
             they had accepted; stop the cluster, and start it anew from what this server has",
            self.decided_idx, self.leader.pid, self.leader_idx
        )
    }
}

/// A replica as it is.
#[derive(Clone, Debug)]
pub(crate) struct Present<'a> {
    pub(crate) leader: Option<Ballot>,
    pub(crate) is_ready: bool,
    pub(crate) compacted_idx: u64,
    pub(crate) decided_idx: u64,
    pub(crate) stopsign: Option<&'a StopSign>,
    pub(crate) ready_read: Option<ReadId>,
    pub(crate) handover: Option<NodeId>,
    pub(crate) higher: Option<HigherConfiguration>,
    pub(crate) conflicts: Vec<PeerConflict>,
    pub(crate) lost: Option<LostEntries>,
    pub(crate) halted: Option<&'a Halted>,
}

/// A replica as it was told last. At first, nothing was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    leader: Option<Ballot>,
    is_ready: bool,
    compacted_idx: u64,
    decided_idx: u64,
    is_reconfigured: bool,
    ready_read: Option<ReadId>,
    handover: Option<NodeId>,
    higher: Option<HigherConfiguration>,
    is_halted: bool,
    conflicts: Vec<PeerConflict>,
    lost: Option<LostEntries>,
    /// The peers that were said to answer, in order. Bounded by the configuration.
    answering: Vec<NodeId>,
}

impl Told {
    /// A handover has begun.
    pub(crate) fn begin_handover(&mut self, to: NodeId) {
        self.handover = Some(to);
    }

    /// What is news. `answered` tells which of the `peers` answered the last heartbeat round.
    pub(crate) fn news(
        &mut self,
        present: &Present<'_>,
        peers: &[NodeId],
        answered: impl Fn(NodeId) -> bool,
    ) -> Vec<Event> {
        let mut news = Vec::new();
        let Present { leader, is_ready, compacted_idx, decided_idx, .. } = *present;
        if (leader, is_ready) != (self.leader, self.is_ready) {
            (self.leader, self.is_ready) = (leader, is_ready);
            news.push(Event::LeaderChanged { leader, is_ready });
        }
        // First, so that whoever reads on knows that a snapshot may stand in between.
        if compacted_idx > self.compacted_idx {
            self.compacted_idx = compacted_idx;
            news.push(Event::Compacted { idx: compacted_idx });
        }
        if decided_idx > self.decided_idx {
            self.decided_idx = decided_idx;
            news.push(Event::Decided { idx: decided_idx });
        }
        if let Some(stopsign) = present.stopsign.filter(|_| !self.is_reconfigured) {
            self.is_reconfigured = true;
            news.push(Event::Reconfigured(stopsign.clone()));
        }
        if let Some(up_to) = present.ready_read.filter(|read| self.ready_read < Some(*read)) {
            self.ready_read = Some(up_to);
            news.push(Event::ReadReady { up_to });
        }
        if let Some(to) = self.handover.filter(|_| present.handover != self.handover) {
            self.handover = present.handover;
            news.push(Event::HandoverEnded { to });
        }
        for pid in peers {
            match (self.answering.binary_search(pid), answered(*pid)) {
                (Ok(at), false) => {
                    self.answering.remove(at);
                    news.push(Event::PeerLost(*pid));
                }
                (Err(at), true) => {
                    self.answering.insert(at, *pid);
                    news.push(Event::PeerBack(*pid));
                }
                (Ok(_), true) | (Err(_), false) => {}
            }
        }
        if let Some(higher) = present.higher.filter(|higher| self.higher != Some(*higher)) {
            self.higher = Some(higher);
            news.push(Event::HigherConfiguration(higher));
        }
        if present.conflicts != self.conflicts {
            let is_new = |found: &&PeerConflict| !self.conflicts.contains(found);
            news.extend(present.conflicts.iter().filter(is_new).copied().map(Event::Conflict));
            self.conflicts.clone_from(&present.conflicts);
        }
        if let Some(lost) = present.lost.filter(|lost| self.lost != Some(*lost)) {
            self.lost = Some(lost);
            news.push(Event::EntriesLost(lost));
        }
        if let Some(halted) = present.halted.filter(|_| !self.is_halted) {
            self.is_halted = true;
            news.push(Event::Halted(halted.clone()));
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Ballot, Event, Halted, HigherConfiguration, NodeId, Present, ReadId, StopSign, Told,
    };
    use crate::config::ClusterConfig;

    const NOTHING: Present<'_> = Present {
        leader: None,
        is_ready: false,
        compacted_idx: 0,
        decided_idx: 0,
        stopsign: None,
        ready_read: None,
        handover: None,
        higher: None,
        conflicts: Vec::new(),
        lost: None,
        halted: None,
    };

    fn news(told: &mut Told, present: &Present<'_>, answering: &[NodeId]) -> Vec<Event> {
        let news = told.news(present, &[2, 3], |pid| answering.contains(&pid));
        assert_eq!(told.news(present, &[2, 3], |pid| answering.contains(&pid)), [], "told twice");
        news
    }

    #[test]
    fn nothing_is_no_news() {
        let events = Told::default().news(&NOTHING, &[2, 3], |_| false);
        assert_eq!((events.len(), events.capacity()), (0, 0), "no allocation");
    }

    #[test]
    fn the_last_of_several_changes_is_told() {
        let mut told = Told::default();
        let leader = Some(Ballot::with(1, 1, 0, 2));
        let new = Event::LeaderChanged { leader, is_ready: false };
        let present = Present { leader, decided_idx: 4, ..NOTHING };
        assert_eq!(news(&mut told, &present, &[]), [new, Event::Decided { idx: 4 }]);
        let present = Present { is_ready: true, decided_idx: 9, compacted_idx: 7, ..present };
        let ready = Event::LeaderChanged { leader, is_ready: true };
        let more = [ready, Event::Compacted { idx: 7 }, Event::Decided { idx: 9 }];
        assert_eq!(news(&mut told, &present, &[]), more);
        let gone = Event::LeaderChanged { leader: None, is_ready: false };
        let present = Present { compacted_idx: 7, decided_idx: 9, ..NOTHING };
        assert_eq!(news(&mut told, &present, &[]), [gone]);
    }

    #[test]
    fn indices_that_go_back_are_not_told() {
        let mut told = Told::default();
        let present = Present { decided_idx: 9, ..NOTHING };
        assert_eq!(news(&mut told, &present, &[]).len(), 1);
        for (decided_idx, expected) in [(5, None), (9, None), (10, Some(10))] {
            let present = Present { decided_idx, ..NOTHING };
            let expected: Vec<Event> =
                expected.map(|idx| Event::Decided { idx }).into_iter().collect();
            assert_eq!(news(&mut told, &present, &[]), expected);
        }
    }

    #[test]
    fn reads_and_handovers_are_told_once() {
        let mut told = Told::default();
        for number in [3, 5] {
            let up_to = ReadId::new(number);
            let present = Present { ready_read: Some(up_to), ..NOTHING };
            assert_eq!(news(&mut told, &present, &[]), [Event::ReadReady { up_to }]);
        }
        told.begin_handover(2);
        let under_way = Present { handover: Some(2), ..NOTHING };
        assert_eq!(news(&mut told, &under_way, &[]), []);
        assert_eq!(news(&mut told, &NOTHING, &[]), [Event::HandoverEnded { to: 2 }]);
    }

    #[test]
    fn peers_come_and_go() {
        let mut told = Told::default();
        for (answering, expected) in [
            (vec![3], vec![Event::PeerBack(3)]),
            (vec![2], vec![Event::PeerBack(2), Event::PeerLost(3)]),
            (vec![2, 3], vec![Event::PeerBack(3)]),
            (vec![], vec![Event::PeerLost(2), Event::PeerLost(3)]),
        ] {
            assert_eq!(news(&mut told, &NOTHING, &answering), expected);
        }
    }

    #[test]
    fn ends_are_told_once() {
        let mut told = Told::default();
        let stopsign = StopSign::with(ClusterConfig::default(), None);
        let halted = Halted::new("write", "the disk is full");
        let higher = HigherConfiguration { configuration_id: 2, told_by: 3 };
        let present = Present {
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
        assert_eq!(news(&mut told, &present, &[]), expected);
        let higher = HigherConfiguration { configuration_id: 4, told_by: 2 };
        let present = Present { higher: Some(higher), ..present };
        assert_eq!(news(&mut told, &present, &[]), [Event::HigherConfiguration(higher)]);
    }
}
