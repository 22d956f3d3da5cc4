//! The events of replicas, compared with what they answer.

use super::{
    server::{Replica, Running},
    Cluster,
};
use crate::{
    checker::{ensure, violated, Check, Violation},
    coverage::Kind,
    describe,
    value::SimEntry,
};
use omnipaxos::{
    ballot_leader_election::Ballot,
    events::Event,
    proposals::Outcome,
    reads::ReadId,
    status::{HigherConfiguration, Role, Stage},
};
use std::collections::BTreeSet;

/// What a replica has reported in its incarnation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reported {
    leader: Option<Ballot>,
    pub(super) is_ready: bool,
    compacted_idx: u64,
    decided_idx: u64,
    reconfigured: u64,
    halted: u64,
    answering: BTreeSet<u64>,
    higher: Option<HigherConfiguration>,
    ready_read: Option<ReadId>,
    observers: BTreeSet<u64>,
    trimmed_at_source: Option<u64>,
}

impl Reported {
    /// Takes an event in.
    fn hear(&mut self, event: &Event, configuration: u32) -> Result<(), String> {
        let is_new = match event {
            Event::LeaderChanged { leader, is_ready } => {
                self.leader = *leader;
                self.is_ready = *is_ready;
                true
            }
            Event::Compacted { idx } => *idx > std::mem::replace(&mut self.compacted_idx, *idx),
            Event::Decided { idx } => *idx > std::mem::replace(&mut self.decided_idx, *idx),
            Event::Reconfigured(_) => {
                self.reconfigured += 1;
                self.reconfigured == 1
            }
            Event::PeerLost(pid) => self.answering.remove(pid),
            Event::PeerBack(pid) => self.answering.insert(*pid),
            Event::HigherConfiguration(higher) => {
                let before = self.higher.replace(*higher);
                before.map_or(configuration, |before| before.configuration_id)
                    < higher.configuration_id
            }
            Event::ReadReady { up_to } => {
                let before = self.ready_read.replace(*up_to);
                before < Some(*up_to)
            }
            Event::ObserverAdded(pid) => self.observers.insert(*pid),
            Event::ObserverRemoved(pid) => self.observers.remove(pid),
            Event::TrimmedAtSource { idx } => {
                let before = self.trimmed_at_source.replace(*idx);
                before < Some(*idx)
            }
            Event::LeadershipTransferEnded { .. } | Event::ProposalEnded { .. } => true,
            Event::Halted(_) => {
                self.halted += 1;
                self.halted == 1
            }
            other => return Err(format!("nobody knows what to make of {other:?}")),
        };
        match is_new {
            true => Ok(()),
            false => Err(format!("{event:?} is not new")),
        }
    }
}

impl<T: SimEntry> Cluster<T> {
    /// Takes the events of a server, working or halted, and compares what they report with what it
    /// answers.
    pub(super) fn take_events(&mut self, at: usize) -> Result<(), Violation> {
        let server = &mut self.servers[at];
        let (replica, is_halted) = match &mut server.running {
            Running::Up(replica) => (replica, false),
            Running::Halted { replica, .. } => (replica, true),
            Running::Down { .. } => return Ok(()),
        };
        let pid = replica.get_pid();
        let events = replica.take_events();
        let again = replica.take_events();
        ensure!(again.is_empty(), Check::Events, "server {pid} tells {again:?} at once again");
        for event in &events {
            if let Err(what) = server.reported.hear(event, self.setting.configuration) {
                return violated(Check::Events, format!("server {pid}: {what}"));
            }
        }
        let incarnation = server.incarnation;
        let answers = answers(replica, &server.reported);
        let (leader, known) = (server.reported.leader, replica.get_current_leader());
        ensure!(
            leader.map(|ballot| ballot.pid) == known,
            Check::Events,
            "server {pid} told of {leader:?} and follows {known:?}"
        );
        // After a failed write it may not be able to read what it reported as decided or compacted.
        let expected = Reported {
            compacted_idx: if is_halted {
                server.reported.compacted_idx
            } else {
                answers.compacted_idx
            },
            decided_idx: if is_halted { server.reported.decided_idx } else { answers.decided_idx },
            reconfigured: if is_halted {
                server.reported.reconfigured
            } else {
                answers.reconfigured
            },
            ..answers
        };
        ensure!(
            server.reported == expected,
            Check::Events,
            "server {pid} told {:?} and answers {expected:?}",
            server.reported
        );
        for event in &events {
            self.counts.add(match event {
                Event::HigherConfiguration(_) => Kind::ReportedHigher,
                Event::TrimmedAtSource { .. } => Kind::ObserverTrimmed,
                Event::Halted(_) => Kind::ReportedHalted,
                Event::ReadReady { .. } => Kind::ReportedReads,
                Event::LeadershipTransferEnded { .. } => Kind::ReportedTransfer,
                Event::ProposalEnded { outcome: Outcome::Decided(_), .. } => Kind::EndedDecided,
                Event::ProposalEnded { outcome: Outcome::DecidedBefore(_), .. } => {
                    Kind::EndedDecidedBefore
                }
                Event::ProposalEnded { outcome: Outcome::NotDecided, .. } => Kind::EndedNotDecided,
                Event::ProposalEnded { outcome: Outcome::Refused(_), .. } => Kind::EndedRefused,
                Event::ProposalEnded { .. } => Kind::EndedUnknown,
                _another => Kind::Reported,
            });
            if let Event::ProposalEnded { id, outcome } = event {
                let until = match outcome {
                    Outcome::Decided(idx) => Some(idx + 1),
                    Outcome::DecidedBefore(idx) => Some(*idx),
                    _other => None,
                };
                if let Some(idx) = until {
                    let decided_idx = self.servers[at].reported.decided_idx;
                    ensure!(
                        idx <= decided_idx || is_halted,
                        Check::Outcome,
                        "server {pid} tells of {idx}, and that {decided_idx} are decided"
                    );
                }
                self.trace.note(|| format!("{} {} {outcome:?}", self.now, describe::proposal(*id)));
                self.checker.ended(at, incarnation, *id, outcome.clone())?;
            }
        }
        Ok(())
    }

    /// Compares the status of a server, working or halted, with what it answers.
    pub(super) fn ask_status(&mut self, at: usize) -> Result<(), Violation> {
        let (replica, is_halted) = match &self.servers[at].running {
            Running::Up(replica) => (replica, false),
            Running::Halted { replica, .. } => (replica, true),
            Running::Down { .. } => return Ok(()),
        };
        self.counts.add(Kind::Status);
        let status = replica.status();
        let shown = (status.promise, status.leader, status.next_configuration_id);
        let stopsign = replica.is_reconfigured();
        let next = stopsign.map(|stopsign| stopsign.next_config.configuration_id);
        let answered = (replica.get_promise(), replica.get_current_leader(), next);
        self.checker.check_held(at, &status)?;
        let mut wrong = vec![
            (shown != answered, "the promise, the leader or the stop sign"),
            (status.pid != replica.get_pid(), "the pid"),
            (status.configuration_id != self.setting.configuration, "the configuration"),
            (status.decided_idx != replica.get_decided_idx(), "the decided index"),
            (status.accepted_idx != replica.get_accepted_idx(), "the accepted index"),
            (status.compacted_idx != replica.get_compacted_idx(), "the compacted index"),
            (status.dropped != replica.dropped(), "what was dropped"),
            ((status.role == Role::Halted) != is_halted, "whether it has halted"),
            (status.peers.len() != self.peers_of(at), "the peers"),
            (status.observers.len() > self.places_at(at), "the observers"),
        ];
        let is_leader = matches!(status.role, Role::Preparing | Role::Leading);
        let observes = status.role == Role::Observing;
        wrong.push((observes != self.is_observer(at) && !is_halted, "whether it observes"));
        wrong.push((is_leader && status.promise.pid != status.pid, "who leads"));
        for follower in status.peers.iter().map(|peer| peer.follower) {
            wrong.push((follower.is_some() != is_leader && !is_halted, "followers"));
            let Some(follower) = follower else {
                continue;
            };
            let acknowledged = follower.accepted_idx + follower.lag;
            let nothing = follower.in_flight.entries == 0;
            let may_fly = matches!(follower.stage, Stage::Syncing | Stage::Replicating);
            wrong.push((acknowledged != status.accepted_idx, "a lag"));
            wrong.push((!may_fly && follower.stage != Stage::CatchingUp && !nothing, "in flight"));
        }
        match wrong.iter().find(|(is_wrong, _)| *is_wrong) {
            None => Ok(()),
            Some((_, what)) => violated(Check::Events, format!("{what} differs in {status:?}")),
        }
    }

    /// Asks all servers of a cluster at rest: all that is reported by then must be so, and all are in the
    /// accept phase of their leader.
    ///
    /// # Errors
    /// What does not hold.
    pub fn hear_all(&mut self) -> Result<(), Violation> {
        for at in 0..self.size() {
            self.take_events(at)?;
            self.ask_status(at)?;
            let Reported { leader, is_ready, .. } = &self.servers[at].reported;
            let is_in_step = *is_ready && leader.map(|ballot| ballot.pid) == self.follows(at);
            let told = &self.servers[at].reported;
            ensure!(is_in_step, Check::Events, "server {at} told {told:?} of a cluster at rest");
            let open = self.checker.open_proposals(at, self.servers[at].incarnation);
            ensure!(
                open.is_empty(),
                Check::Outcome,
                "server {at} does not tell how {open:?} ended"
            );
        }
        Ok(())
    }
}

/// What a replica answers, as if it had reported all of it, the ballot of its leader and its reads aside.
fn answers<T: SimEntry>(replica: &Replica<T>, told: &Reported) -> Reported {
    let leader = told.leader;
    let status = replica.status();
    let in_step = matches!(status.role, Role::Following | Role::Leading);
    // Whether an observer knows a way to the leader it does not answer.
    let is_ready = match status.role {
        Role::Observing => told.is_ready,
        _role => in_step && leader == Some(status.promise),
    };
    Reported {
        leader,
        is_ready,
        compacted_idx: replica.get_compacted_idx(),
        decided_idx: replica.get_decided_idx(),
        reconfigured: u64::from(replica.is_reconfigured().is_some()),
        halted: u64::from(replica.halted().is_some()),
        answering: status.peers.iter().filter(|p| p.answered()).map(|p| p.pid).collect(),
        higher: replica.higher_configuration(),
        ready_read: told.ready_read,
        observers: status.observers.iter().map(|observer| observer.pid).collect(),
        trimmed_at_source: status.trimmed_at_source.or(told.trimmed_at_source),
    }
}
