//! The observers of a run: servers without a vote, after the members.

use super::{Cluster, Traffic};
use crate::{
    checker::{ensure, Check, Violation},
    coverage::Kind,
    plan::Shape,
    value::SimEntry,
};
use omnipaxos::messages::{
    sequence_paxos::{PaxosMessage, PaxosMsg},
    Message,
};

impl<T: SimEntry> Cluster<T> {
    /// Whether a server observes, and is no server of the configuration.
    pub fn is_observer(&self, at: usize) -> bool {
        at >= self.size()
    }

    /// The positions of the observers.
    pub fn observers(&self) -> std::ops::Range<usize> {
        self.size()..self.servers.len()
    }

    /// The links that a shape cuts.
    pub(super) fn cuts_of(&self, shape: Shape) -> Vec<(usize, usize)> {
        shape.cuts(if shape.is_of_any() { self.servers.len() } else { self.size() })
    }

    /// The number of servers that a server exchanges heartbeats with of its own accord.
    pub(super) fn peers_of(&self, at: usize) -> usize {
        match self.is_observer(at) {
            true => self.servers[at].setting.config.observes.len(),
            false => self.size() - 1,
        }
    }

    /// The most observers that a server may serve.
    pub(super) fn places_at(&self, at: usize) -> usize {
        self.servers[at].setting.config.max_observers
    }

    /// Counts a message of Sequence Paxos that is sent.
    pub(super) fn count_sent(&mut self, paxos: &PaxosMessage<T>) {
        let observers = self.observers();
        let is_observers =
            |pid: u64| self.servers[observers.clone()].iter().any(|server| server.pid() == pid);
        let traffic = &mut self.traffic;
        let counter = match &paxos.msg {
            PaxosMsg::CatchUpRequest(_) if is_observers(paxos.from) => &mut traffic.observing,
            PaxosMsg::CatchUpChunk(_) if is_observers(paxos.to) => &mut traffic.observing,
            PaxosMsg::ForwardedProposals(m) if is_observers(m.first.origin) => {
                &mut traffic.observers
            }
            PaxosMsg::ForwardStopSign(m) if is_observers(m.id.origin) => &mut traffic.observers,
            PaxosMsg::ProposalRejection(m) if is_observers(m.first.origin) => {
                &mut traffic.observers
            }
            PaxosMsg::ReadIndexRequest(m) if is_observers(m.origin) => &mut traffic.observers,
            PaxosMsg::ReadIndexResponse(m) if is_observers(m.origin) => &mut traffic.observers,
            _other => &mut traffic.paxos,
        };
        *counter += 1;
    }

    /// Messages sent so far that a cluster at rest does not send. What an observer proposes or reads is
    /// repeated forever if it lacks what its sources have trimmed, or has no way to the leader.
    pub fn sent_at_work(&self) -> u64 {
        let Traffic { paxos, observers, .. } = self.traffic;
        paxos + if self.are_observers_in_step() { observers } else { 0 }
    }

    /// Whether all observers have a way to the leader, and lack nothing.
    pub fn are_observers_in_step(&self) -> bool {
        let all: Vec<usize> = (0..self.size()).collect();
        let leader = self.leader_of(&all);
        self.observers().all(|at| leader.is_some_and(|leader| self.is_in_step(at, leader)))
    }

    /// Counts what reaches an observer, or comes from one.
    pub(super) fn count_observing(&mut self, from: usize, to: usize, message: &Message<T>) {
        let Message::SequencePaxos(paxos) = message else {
            return;
        };
        let is_passed_on = match &paxos.msg {
            PaxosMsg::CatchUpChunk(_) if self.is_observer(to) => {
                self.counts.add(Kind::ObserverChunk);
                false
            }
            PaxosMsg::ForwardedProposals(m) => m.hops > 0,
            PaxosMsg::ReadIndexRequest(m) => m.hops > 0,
            _other => false,
        };
        if is_passed_on && self.is_observer(from) {
            self.counts.add(Kind::ObserverRelay);
        }
    }

    /// Whether a server has a place for each observer.
    pub fn places_for_all(&self, at: usize) -> bool {
        self.places_at(at) >= self.observers().len()
    }

    /// The longest heartbeat round of any server.
    pub fn longest_round(&self) -> u64 {
        self.longest(|config| config.election_tick_timeout * config.max_election_tick_factor)
    }

    /// Ticks in which an observer fetches this number of entries, chunk by chunk.
    pub fn ticks_to_fetch(&self, entries: u64) -> u64 {
        let round_trips = entries.div_ceil(self.least_at_once());
        round_trips * self.round_trip() + self.ticks_of_a_snapshot()
    }

    /// The most messages that an idle observer causes in `ticks` ticks, besides heartbeats: a request a
    /// round. At the beginning it may still be sent entries, and ask for more.
    pub fn requests_in(&self, at: usize, ticks: u64) -> u64 {
        ticks / self.servers[at].setting.config.election_tick_timeout + 3
    }

    /// The sources of an observer that surely serve it: the links are open, and each source has a place
    /// for all observers.
    pub fn sources(&self, at: usize) -> Vec<usize> {
        let observes = &self.servers[at].setting.config.observes;
        let serves = |source: &usize| {
            observes.contains(&self.servers[*source].pid())
                && self.places_for_all(*source)
                && self.network.is_open(at, *source)
                && self.network.is_open(*source, at)
        };
        (0..self.servers.len()).filter(serves).collect()
    }

    /// For each server how many entries it can learn of: an observer all that its sources can, if they
    /// have not trimmed what it lacks.
    pub fn learnable(&self) -> Vec<u64> {
        let decided = |at| self.decided_idx(at).unwrap_or_default();
        let mut learnable: Vec<u64> = (0..self.servers.len()).map(decided).collect();
        self.spread(&mut learnable, |source, from_idx| self.serves(source, from_idx));
        learnable
    }

    /// As [`learnable`](Self::learnable), as if no server had trimmed anything.
    fn known(&self) -> Vec<u64> {
        let decided = |at| self.decided_idx(at).unwrap_or_default();
        let mut known: Vec<u64> = (0..self.servers.len()).map(decided).collect();
        self.spread(&mut known, |_source, _from_idx| true);
        known
    }

    /// Spreads the largest number from sources to observers, where `serves` is true.
    fn spread(&self, numbers: &mut [u64], serves: impl Fn(usize, u64) -> bool) {
        let sources: Vec<(usize, Vec<usize>)> =
            self.observers().map(|at| (at, self.sources(at))).collect();
        for _ in self.observers() {
            for (at, sources) in &sources {
                for source in sources {
                    if numbers[*source] > numbers[*at] && serves(*source, numbers[*at]) {
                        numbers[*at] = numbers[*source];
                    }
                }
            }
        }
    }

    /// The number of links on the way from an observer to a server, through sources that surely serve
    /// it; `None` without a way.
    pub fn way(&self, from: usize, to: impl Fn(usize) -> bool) -> Option<u64> {
        let mut reached = vec![from];
        for hops in 0..=self.observers().len() as u64 {
            if reached.iter().any(|at| to(*at)) {
                return Some(hops);
            }
            let observers = reached.iter().filter(|at| self.is_observer(**at));
            let mut next: Vec<usize> = observers.flat_map(|at| self.sources(*at)).collect();
            next.extend(&reached);
            next.sort_unstable();
            next.dedup();
            reached = next;
        }
        reached.iter().any(|at| to(*at)).then_some(self.observers().len() as u64 + 1)
    }

    /// The number of links that news takes to an observer, if it is known whom it waits for: it observes
    /// members only, or one server. Two observers that observe each other and others may both wait for the
    /// other, until they ask the others in turn.
    pub fn links_for_news(&self, at: usize) -> Option<u64> {
        let mut at = at;
        for links in 1..=self.observers().len() as u64 {
            let sources = self.sources(at);
            let are_all = sources.len() == self.peers_of(at);
            if are_all && sources.iter().all(|source| *source < self.size()) {
                return Some(links);
            }
            at = *sources.first().filter(|_| are_all && sources.len() == 1)?;
        }
        None
    }

    /// The observers that have not learned what they can, or do not report what their sources have
    /// trimmed.
    pub fn unlearned(&self) -> Vec<usize> {
        let learnable = self.learnable();
        let lacks = |at: &usize| {
            let Some(replica) = self.servers[*at].replica() else {
                return true;
            };
            let decided_idx = replica.get_decided_idx();
            let must_report = self.lacks_trimmed(*at) && decided_idx == learnable[*at];
            decided_idx < learnable[*at]
                || (must_report && replica.status().trimmed_at_source.is_none())
        };
        self.observers().filter(lacks).collect()
    }

    /// Whether a source of an observer has trimmed what that lacks.
    fn lacks_trimmed(&self, at: usize) -> bool {
        let own = self.decided_idx(at).unwrap_or_default();
        let has_more = |source: &usize| self.decided_idx(*source) > Some(own);
        self.sources(at).iter().any(|source| has_more(source) && !self.serves(*source, own))
    }

    /// Whether a server can send entries from an index on, or a snapshot.
    fn serves(&self, at: usize, from_idx: u64) -> bool {
        let has_snapshot = self.servers[at].disk.peek(|image| image.snapshot.is_some());
        has_snapshot || self.compacted_idx(at) <= from_idx
    }

    /// Whether an observer has a way to `leader`, and lacks nothing.
    pub fn is_in_step(&self, at: usize, leader: usize) -> bool {
        self.places_for_all(leader)
            && self.decided_idx(at) == Some(self.checker.decided_len())
            && self.way(at, |to| to < self.size()).is_some()
    }

    /// The most entries that an observer lacks.
    pub fn largest_lag(&self) -> u64 {
        let known = self.known();
        let lag = |at: usize| known[at] - self.decided_idx(at).unwrap_or_default();
        self.observers().map(lag).max().unwrap_or_default()
    }

    /// The largest number of servers that an observer observes.
    pub fn most_sources(&self) -> u64 {
        self.observers().map(|at| self.peers_of(at) as u64).max().unwrap_or_default()
    }

    /// Whether an observer has reported a way to the leader.
    ///
    /// # Errors
    /// Its reports contradict each other.
    pub fn believes_in_a_way(&mut self, at: usize) -> Result<bool, Violation> {
        self.take_events(at)?;
        Ok(self.servers[at].reported.is_ready)
    }

    /// Whether all that was proposed at a server has ended.
    pub fn has_open_proposals(&self, at: usize) -> bool {
        !self.checker.open_proposals(at, self.servers[at].incarnation).is_empty()
    }

    /// Cuts the links of observers to members.
    pub fn part_observers(&mut self) {
        self.trace.note(|| format!("{} observers lose the members", self.now));
        for observer in self.observers() {
            for member in 0..self.size() {
                self.network.cut(observer, member);
                self.network.cut(member, observer);
            }
        }
    }

    /// Members have had no message of an observer for long, and serve none.
    ///
    /// # Errors
    /// One does.
    pub fn check_forgotten(&self) -> Result<(), Violation> {
        for at in 0..self.size() {
            let replica = self.servers[at].replica();
            let observers = replica.map(|replica| replica.status().observers).unwrap_or_default();
            ensure!(
                observers.is_empty(),
                Check::FewObservers,
                "server {at} keeps places for {observers:?}, which are silent"
            );
        }
        Ok(())
    }

    /// Looks at what observers report of themselves, and who serves them.
    ///
    /// # Errors
    /// What does not hold.
    pub fn hear_observers(&mut self) -> Result<(), Violation> {
        for at in self.observers() {
            self.take_events(at)?;
            self.ask_status(at)?;
        }
        for at in 0..self.servers.len() {
            let Some(replica) = self.servers[at].replica() else {
                continue;
            };
            let (served, places) = (replica.status().observers.len(), self.places_at(at));
            ensure!(
                served <= places,
                Check::FewObservers,
                "server {at} serves {served} observers, and has {places} places"
            );
        }
        Ok(())
    }
}
