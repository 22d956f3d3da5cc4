//! The end of a run: no more faults; the cluster must become live, and then silent.

use crate::{
    checker::{violated, Check, Violation},
    cluster::{Cluster, Proposed, Rest},
    faults::Kind,
    plan::{Ending, Notify, Shape},
    value::SimEntry,
};

/// How a cluster came to rest. Times are in election timeouts of its slowest server.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Ended {
    /// Until the server with most links and its peers had decided the same, with some links cut.
    pub partly: Option<f64>,
    /// Until all had decided the same.
    pub live: f64,
    /// Until one more value was decided everywhere.
    pub decides: f64,
    /// Until there was nothing left to say.
    pub silent: f64,
}

/// Bounds, in election timeouts.
const ELECTIONS_END_WITHIN: u64 = 4;
const LIVE_WITHIN: u64 = 4;
const DECIDES_WITHIN: u64 = 5;
const SILENT_WITHIN: u64 = 6;
/// How long nothing must be said, for silence.
const SILENCE: u64 = 4;

impl<T: SimEntry> Cluster<T> {
    /// Ends the faults, and waits until the cluster is live and silent.
    ///
    /// # Errors
    /// It does not come to rest in time, or something else does not hold.
    pub fn end(&mut self, ending: Ending) -> Result<Ended, Violation> {
        let mut ended = Ended::default();
        if let Some(shape) = ending.partial {
            ended.partly = Some(self.end_partly(shape)?);
        }
        self.clear_up(ending.notify)?;
        let all: Vec<usize> = (0..self.size()).collect();
        ended.live = self.become_live(&all, "to be live")?;
        let anywhere = self.checker().decided_len() as usize % self.size();
        ended.decides = self.decide_one_more(anywhere, &all)?;
        self.trim_one_more(&all)?;
        ended.silent = self.fall_silent()?;
        Ok(ended)
    }

    /// Leaves some links cut; the server with most links and its peers must be live.
    fn end_partly(&mut self, shape: Shape) -> Result<f64, Violation> {
        self.count(Kind::PartialHeal);
        self.clear_up(Notify::Nobody)?;
        self.cut(shape);
        let cuts = shape.cuts(self.size());
        let peers_of = |at: usize| {
            let all = 0..self.size();
            all.filter(|to| *to == at || !cuts.contains(&(at, *to))).collect::<Vec<_>>()
        };
        let groups = (0..self.size()).map(|at| (at, peers_of(at)));
        let (middle, reachable) = groups.max_by_key(|(_, group)| group.len()).unwrap_or_default();
        let live = self.become_live(&reachable, "to be partly live")?;
        // Another server may take for the leader, by hearsay, one that it cannot reach: what it
        // forwards there is lost, as is documented (seed 777000736).
        self.decide_one_more(middle, &reachable)?;
        Ok(live)
    }

    /// Lets elections come to an end, until all have one leader and one log.
    fn become_live(&mut self, group: &[usize], what: &str) -> Result<f64, Violation> {
        let settling = ELECTIONS_END_WITHIN * self.election_timeout();
        let start = self.now();
        let is_live = |cluster: &Self, group: &[usize]| {
            cluster.agree(group) && cluster.leader_of(group).is_some()
        };
        let mut live_since = None;
        while self.now() < start + settling {
            self.pass_tick()?;
            match is_live(self, group) {
                true => live_since = live_since.or(Some(self.now())),
                false => live_since = None,
            }
        }
        let waited = self.wait_for(group, LIVE_WITHIN, what, is_live)?;
        let until = live_since.unwrap_or(self.now()) - start;
        Ok(waited.max(until as f64 / self.election_timeout() as f64))
    }

    fn decide_one_more(&mut self, at: usize, group: &[usize]) -> Result<f64, Violation> {
        let proposed = self.append(at)?;
        let is_stopped = self.checker().is_stopped();
        match proposed {
            Proposed::Taken(id) if !is_stopped => {
                let has = |cluster: &Self, group: &[usize]| {
                    cluster.checker().is_decided(id) && cluster.agree(group)
                };
                self.wait_for(group, DECIDES_WITHIN, "to decide one more", has)
            }
            Proposed::Refused if is_stopped => Ok(0.0),
            Proposed::Taken(_) | Proposed::Refused | Proposed::Nowhere => violated(
                Check::Proposing,
                format!("{proposed:?} at rest, stopped: {is_stopped}; {}", self.describe()),
            ),
        }
    }

    /// A trim by the leader reaches all.
    fn trim_one_more(&mut self, group: &[usize]) -> Result<(), Violation> {
        let Some(idx) = self.trim_at_leader()? else {
            return Ok(());
        };
        let all_have = |cluster: &Self, group: &[usize]| {
            group.iter().all(|at| cluster.compacted_idx(*at) >= idx)
        };
        match self.wait_for(group, DECIDES_WITHIN, "to trim", all_have) {
            Err(Violation { check: Check::Progress, what }) => violated(Check::TrimSpreads, what),
            other => other.map(drop),
        }
    }

    fn fall_silent(&mut self) -> Result<f64, Violation> {
        let timeout = self.election_timeout();
        let start = self.now();
        let (mut said, mut since) = (self.traffic().paxos, start);
        while self.now() - since < SILENCE * timeout {
            self.pass_tick()?;
            if self.traffic().paxos != said {
                (said, since) = (self.traffic().paxos, self.now());
            }
            if self.now() - start > SILENT_WITHIN * timeout + self.longest_timer() {
                return violated(Check::Silence, format!("still talking: {}", self.describe()));
            }
        }
        match self.rest() {
            Rest::InStep => Ok((since - start) as f64 / timeout as f64),
            Rest::Apart(what) => violated(Check::Progress, format!("silent, but {what}")),
        }
    }

    /// Lets ticks pass until something holds; returns the election timeouts that took.
    fn wait_for(
        &mut self,
        group: &[usize],
        timeouts: u64,
        what: &str,
        holds: impl Fn(&Self, &[usize]) -> bool,
    ) -> Result<f64, Violation> {
        let timeout = self.election_timeout();
        let start = self.now();
        let bound = timeouts * timeout + self.longest_flush_timer();
        while !holds(self, group) {
            if self.now() - start > bound {
                let servers = self.describe();
                return violated(
                    Check::Progress,
                    format!("{bound} ticks are not enough {what}: {servers}"),
                );
            }
            self.pass_tick()?;
        }
        Ok((self.now() - start) as f64 / timeout as f64)
    }
}
