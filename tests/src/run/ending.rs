//! The end of a run: no more faults; the cluster must become live, and then silent.

use crate::{
    checker::{ensure, violated, Check, Violation},
    cluster::{Cluster, Proposed, Requested, Rest},
    plan::Ending,
    value::SimEntry,
};
use omnipaxos::reads::{ReadRefused, ReadState};

/// How a cluster came to rest. Times are in election timeouts of its slowest server.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Ended {
    /// With some links cut.
    pub partly: Option<Partly>,
    /// Until all had decided the same.
    pub live: f64,
    /// Until one more value was decided everywhere.
    pub decides: f64,
    /// Until no message was left to send.
    pub silent: f64,
}

/// How a cluster came to rest with some links cut.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Partly {
    /// Until the server with most links and its peers had decided the same, or there was a leader.
    pub live: f64,
    /// From then until all that have a way to each other had decided the same.
    pub learned: f64,
    /// Until one more value was decided by all that have a way to the leader.
    pub decides: f64,
}

/// Bounds, in election timeouts.
pub(super) const ELECTIONS_END_WITHIN: u64 = 4;
pub(super) const LIVE_WITHIN: u64 = 4;
pub(super) const DECIDES_WITHIN: u64 = 5;
const SILENT_WITHIN: u64 = 6;
/// How often something is proposed that is dropped for lack of room.
const TRIES: u32 = 5;
/// How long no message may be sent, for silence.
const SILENCE: u64 = 4;

/// Where something is proposed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the leader, or at a server with a link to it.
    Near,
    /// Where a peer must pass it on, once the server is sure which can. Until then a stop sign that
    /// was proposed there before waits too, and all else is refused.
    Afar,
}

impl<T: SimEntry> Cluster<T> {
    /// Ends the faults, and waits until the cluster is live and silent.
    ///
    /// # Errors
    /// It does not come to rest in time, or something else does not hold.
    pub fn end(&mut self, ending: Ending) -> Result<Ended, Violation> {
        let mut ended = Ended::default();
        if let Some(partial) = ending.partial {
            ended.partly = Some(self.end_partly(partial)?);
        }
        self.set_conditions(ending.notify)?;
        let all: Vec<usize> = (0..self.size()).collect();
        ended.live = self.become_live(&all, "to be live")?;
        let anywhere = self.checker().decided_len() as usize % self.size();
        ended.decides = self.decide_one_more(anywhere, &all)?;
        self.read_at_each(&all)?;
        self.let_observers_work()?;
        ensure!(!self.is_read_waiting(), Check::ReadEnds, "a read waits for ever");
        self.trim_one_more(&all)?;
        ended.silent = self.fall_silent()?;
        self.hear_all()?;
        self.hear_observers()?;
        self.send_news()?;
        self.lose_the_way()?;
        Ok(ended)
    }

    /// Lets elections come to an end, until all have one leader and one log.
    pub(super) fn become_live(&mut self, group: &[usize], what: &str) -> Result<f64, Violation> {
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

    pub(super) fn decide_one_more(&mut self, at: usize, group: &[usize]) -> Result<f64, Violation> {
        self.let_requests_to_lead_end(group)?;
        let has =
            |cluster: &Self, id: u64| cluster.is_decided_or_stopped(id) && cluster.agree(group);
        let decided =
            self.decide_from(at, Place::Near, DECIDES_WITHIN, "to decide one more", has)?;
        Ok(decided.unwrap_or(0.0))
    }

    /// Lets servers take over that were asked to before the faults were over, also those that cannot lead. A
    /// server keeps a request for as many rounds as there are servers. Then the group must be live again.
    fn let_requests_to_lead_end(&mut self, group: &[usize]) -> Result<(), Violation> {
        let kept = (self.size() as u64 + 1) * self.election_timeout();
        let until = self.asked_at().map_or(0, |asked_at| asked_at + kept);
        if self.now() >= until {
            return Ok(());
        }
        while self.now() < until {
            self.pass_tick()?;
        }
        self.become_live(group, "to be live after requests to lead").map(drop)
    }

    /// Proposes a value at a server at rest, and waits until something holds of it; returns the
    /// election timeouts that took. `None` if a stop sign is decided.
    ///
    /// A server without room drops what is forwarded to it, as is documented. With tiny limits that
    /// happens, and it is proposed again.
    pub(super) fn decide_from(
        &mut self,
        at: usize,
        place: Place,
        timeouts: u64,
        what: &str,
        holds: impl Fn(&Self, u64) -> bool,
    ) -> Result<Option<f64>, Violation> {
        let mut tries = 0;
        loop {
            let dropped = self.dropped_proposals();
            let Some(id) = self.propose(at, place)? else {
                return Ok(None);
            };
            tries += 1;
            match self.wait_for(&[], timeouts, what, |cluster, _| holds(cluster, id)) {
                Err(Violation { check: Check::Progress, .. })
                    if self.is_limited() && self.dropped_proposals() > dropped && tries < TRIES => {
                }
                other => return other.map(Some),
            }
        }
    }

    /// Proposes a value at a server at rest. `None` if a stop sign is decided.
    fn propose(&mut self, at: usize, place: Place) -> Result<Option<u64>, Violation> {
        let last = self.now() + self.time_limit(DECIDES_WITHIN);
        loop {
            let proposed = self.append_storable(at)?;
            let is_stopped = self.checker().is_stopped();
            // Where little gets into the log at a time, what was proposed before may still wait,
            // and a stop sign too.
            let waits = self.is_limited() || place == Place::Afar || self.awaits_stop_sign();
            let may_wait = waits && self.now() <= last;
            match proposed {
                Proposed::Taken(id) if !is_stopped => return Ok(Some(id)),
                Proposed::Refused if is_stopped => return Ok(None),
                // While it waited, a stop sign was decided, and the server does not know it.
                Proposed::Taken(_)
                    if may_wait && self.decided_idx(at) < Some(self.checker().decided_len()) =>
                {
                    return Ok(None);
                }
                Proposed::Refused if may_wait => {}
                Proposed::Busy if may_wait && self.is_limited() => {}
                Proposed::Taken(_)
                | Proposed::Refused
                | Proposed::Busy
                | Proposed::Unstorable
                | Proposed::Nowhere => {
                    let servers = self.describe();
                    return violated(
                        Check::Proposing,
                        format!("{proposed:?} at rest, stopped: {is_stopped}; {servers}"),
                    );
                }
            }
            self.pass_tick()?;
        }
    }

    /// Whether a proposal is decided. A stop sign that some server has forwarded since before may
    /// get in first.
    pub(super) fn is_decided_or_stopped(&self, id: u64) -> bool {
        self.checker().is_decided(id) || self.checker().is_stopped()
    }

    /// A read at each server of a group ends, and is requested again where it is refused.
    pub(super) fn read_at_each(&mut self, group: &[usize]) -> Result<(), Violation> {
        for at in group {
            self.read_at(*at, DECIDES_WITHIN)?;
        }
        Ok(())
    }

    pub(super) fn read_at(&mut self, at: usize, timeouts: u64) -> Result<(), Violation> {
        let last = self.now() + self.time_limit(timeouts);
        let mut requested = self.request_read(at)?;
        loop {
            let state = match requested.clone() {
                Requested::Taken(id) => self.read_state(at, id),
                Requested::Refused(refused) => Some(ReadState::Refused(refused)),
                Requested::Nowhere => None,
            };
            match state {
                Some(ReadState::Ready(_)) => return Ok(()),
                Some(ReadState::Refused(ReadRefused::Reconfigured))
                    if self.checker().is_stopped() =>
                {
                    return Ok(());
                }
                Some(ReadState::Waiting) if self.now() <= last => {}
                Some(ReadState::Refused(_)) if self.now() <= last => {
                    requested = self.request_read(at)?;
                }
                _ => {
                    let servers = self.describe();
                    let what = format!("a read at {at} does not end: {state:?}; {servers}");
                    return violated(Check::ReadEnds, what);
                }
            }
            self.pass_tick()?;
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
        let mut start = self.now();
        let (mut sent, mut since) = (self.sent_at_work(), start);
        // Observers that still learn what is decided ask often.
        let (mut asked, mut idle_since) = (self.traffic().observing, start);
        let mut decided = self.checker().decided_len();
        let mut reads = self.observer_reads_waiting();
        let bound = SILENT_WITHIN * timeout + self.longest_timer() + self.slack();
        while self.now() - since < SILENCE * timeout {
            let were_in_step = self.are_observers_in_step();
            self.pass_tick()?;
            if self.sent_at_work() != sent {
                (sent, since) = (self.sent_at_work(), self.now());
            }
            if since == self.now() || !self.are_observers_in_step() {
                (asked, idle_since) = (self.traffic().observing, self.now());
            }
            if self.checker().decided_len() > decided && !self.are_observers_in_step() {
                // An observer proposed it that the leader had no place for, or that lacks trimmed
                // entries. Nothing is promised on when such a proposal gets to the leader.
                decided = self.checker().decided_len();
                (start, since) = (self.now(), self.now());
            }
            if self.observer_reads_waiting() < reads && !were_in_step {
                // The same for its read, which members repeat until the leader has a place for it.
                (start, since) = (self.now(), self.now());
            }
            reads = self.observer_reads_waiting();
            if self.now() - start > bound {
                return violated(Check::Silence, format!("still talking: {}", self.describe()));
            }
        }
        self.check_idle_observers(self.traffic().observing - asked, self.now() - idle_since)?;
        match self.rest() {
            Rest::InStep => Ok((since - start) as f64 / timeout as f64),
            Rest::Apart(what) => violated(Check::Progress, format!("silent, but {what}")),
        }
    }

    /// The ticks of this number of election timeouts, with what batches and tiny limits add.
    fn time_limit(&self, timeouts: u64) -> u64 {
        timeouts * self.election_timeout() + self.longest_flush_timer() + self.slack()
    }

    /// Lets ticks pass until something holds; returns the election timeouts that took.
    pub(super) fn wait_for(
        &mut self,
        group: &[usize],
        timeouts: u64,
        what: &str,
        holds: impl Fn(&Self, &[usize]) -> bool,
    ) -> Result<f64, Violation> {
        let timeout = self.election_timeout();
        let start = self.now();
        let bound = self.time_limit(timeouts);
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
