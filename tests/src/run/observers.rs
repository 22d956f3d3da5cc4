//! What observers do once the faults are over.

use super::ending::{Place, DECIDES_WITHIN};
use crate::{
    checker::{ensure, violated, Check, Violation},
    cluster::{Cluster, Proposed},
    coverage::Kind,
    value::SimEntry,
};

/// Rounds in which a request is sent again and a source that is silent is given up; an answer to a heartbeat
/// shows before that which sources are there.
const ROUNDS_TO_CHANGE_SOURCE: u64 = 6;

/// Rounds until an observer is sure that a peer knows a way to the leader.
const ROUNDS_TO_BE_SURE: u64 = 4;

/// Rounds after which observers that have lost the leader know that there is no way: each round the way
/// seems longer by a message, up to eight, and they stay happy for two more.
const ROUNDS_TO_LOSE_THE_WAY: u64 = 12;

/// Ticks that news takes over a link beyond the first: none waits for a heartbeat.
const TICKS_A_HOP: u64 = 1;

/// Rounds in which observers that have all come to wait for more.
const ROUNDS_TO_WAIT: u64 = 4;

impl<T: SimEntry> Cluster<T> {
    /// Each observer learns what it has a way to.
    ///
    /// Over each link an observer asks one of its sources in a round, in turn, and in each second round the
    /// one that it waits for. Then entries come in chunks, one a round trip.
    ///
    /// # Errors
    /// One does not in time, though it is not excused.
    pub(super) fn let_observers_learn(&mut self) -> Result<(), Violation> {
        if self.observers().is_empty() {
            return Ok(());
        }
        let hops = self.observers().len() as u64 + 1;
        let rounds = hops * (ROUNDS_TO_CHANGE_SOURCE + 2 * self.most_sources());
        let round = self.election_timeout();
        let found = self.now() + rounds * round + self.longest_round();
        let (lag, decided) = (self.largest_lag(), self.checker().decided_len());
        let mut fetching = 0;
        loop {
            let lacking = self.unlearned();
            if lacking.is_empty() {
                return self.hear_observers();
            }
            // Members may still decide what waited there, and that is fetched, too.
            let entries = lag + self.checker().decided_len() - decided;
            // One that has received a snapshot needs none any more, and had to wait for it.
            fetching = self.ticks_to_fetch(entries).max(fetching);
            if self.now() > found + fetching * hops {
                let (learnable, servers) = (self.learnable(), self.describe());
                let what = format!("observers {lacking:?} lack some of {learnable:?}: {servers}");
                return violated(Check::ObserversLearn, what);
            }
            self.pass_tick()?;
        }
    }

    /// Observers propose and read through the leader, if they have a way to it.
    ///
    /// # Errors
    /// Something does not end.
    pub(super) fn let_observers_work(&mut self) -> Result<(), Violation> {
        self.let_observers_learn()?;
        for at in self.observers() {
            let Some(rounds) = self.rounds_to_the_leader(at) else {
                continue;
            };
            for _ in 0..rounds * self.election_timeout() + self.longest_round() {
                self.pass_tick()?;
            }
            let has = |cluster: &Self, id: u64| {
                let len = cluster.checker().decided_len();
                cluster.is_decided_or_stopped(id) && cluster.decided_idx(at) == Some(len)
            };
            let timeouts = DECIDES_WITHIN + rounds;
            self.decide_from(
                at,
                Place::Afar,
                timeouts,
                "to decide what an observer proposes",
                has,
            )?;
            self.count(Kind::ObserverProposed);
            self.read_at(at, timeouts)?;
            self.count(Kind::ObserverRead);
            let members: Vec<usize> = (0..self.size()).collect();
            self.wait_for(
                &members,
                DECIDES_WITHIN,
                "to learn what an observer proposed",
                |c, m| c.agree(m),
            )?;
        }
        self.let_observers_learn()
    }

    /// The rounds until an observer has found its way to the leader, if it has one, and lacks nothing.
    fn rounds_to_the_leader(&self, at: usize) -> Option<u64> {
        let all: Vec<usize> = (0..self.size()).collect();
        let leader = self.leader_of(&all)?;
        let hops = self.way(at, |to| to < self.size())?;
        self.is_in_step(at, leader).then_some((hops + 1) * ROUNDS_TO_BE_SURE)
    }

    /// In a cluster at rest each observer sends a request a round, which waits. Nothing is said where an
    /// observer lacks what its sources have trimmed, or has no way to the leader: its proposals never end.
    ///
    /// # Errors
    /// There were more messages.
    pub(super) fn check_idle_observers(&self, sent: u64, ticks: u64) -> Result<(), Violation> {
        if !self.are_observers_in_step() {
            return Ok(());
        }
        let most = self.observers().map(|at| self.requests_in(at, ticks)).sum();
        ensure!(
            sent <= most,
            Check::Silence,
            "idle observers asked {sent} times in {ticks} ticks, and may {most} times: {}",
            self.describe()
        );
        Ok(())
    }

    /// In a cluster at rest, an entry reaches each observer without a wait for a heartbeat.
    ///
    /// # Errors
    /// It comes later.
    pub(super) fn send_news(&mut self) -> Result<(), Violation> {
        let all: Vec<usize> = (0..self.size()).collect();
        let Some(leader) = self.leader_of(&all).filter(|_| !self.checker().is_stopped()) else {
            return Ok(());
        };
        let waiting: Vec<(usize, u64)> = self
            .observers()
            .filter(|at| self.decided_idx(*at) == Some(self.checker().decided_len()))
            .filter_map(|at| Some((at, self.links_for_news(at)?)))
            .collect();
        if waiting.is_empty() {
            return Ok(());
        }
        for _ in 0..ROUNDS_TO_WAIT * self.election_timeout() {
            self.pass_tick()?;
        }
        let before = self.checker().decided_len();
        let Proposed::Taken(_) = self.append_storable(leader)? else {
            return Ok(());
        };
        let bound = self.now() + DECIDES_WITHIN * self.election_timeout() + self.longest_timer();
        while self.checker().decided_len() == before && self.now() <= bound {
            self.pass_tick()?;
        }
        // A follower decides a tick after the leader.
        let decided = self.now();
        let longest = waiting.iter().map(|(_, hops)| *hops).max().unwrap_or_default();
        let ticks_a_hop = TICKS_A_HOP + self.queueing();
        for ticks in 1..=longest * ticks_a_hop + 1 {
            self.pass_tick()?;
            for (at, hops) in &waiting {
                ensure!(
                    ticks <= hops * ticks_a_hop || self.decided_idx(*at) > Some(before),
                    Check::ObserversLearn,
                    "observer {at}, over {hops} links, does not know at {} of the entry that was decided at \
                     {decided}: {}",
                    self.now(),
                    self.describe()
                );
            }
        }
        self.count(Kind::ObserverNews);
        Ok(())
    }

    /// Observers that lose all members find out that no way leads to the leader, also in circles. The
    /// members forget them: they keep the place of a silent observer for fewer rounds.
    ///
    /// # Errors
    /// An observer believes in a way forever.
    pub(super) fn lose_the_way(&mut self) -> Result<(), Violation> {
        if self.observers().is_empty() {
            return Ok(());
        }
        self.part_observers();
        for _ in 0..ROUNDS_TO_LOSE_THE_WAY * self.election_timeout() + 2 * self.longest_round() {
            self.pass_tick()?;
        }
        for at in self.observers() {
            ensure!(
                !self.believes_in_a_way(at)?,
                Check::ObserversLearn,
                "observer {at} has lost the members, and knows a way to their leader: {}",
                self.describe()
            );
        }
        self.count(Kind::ObserversParted);
        self.check_forgotten()
    }
}
