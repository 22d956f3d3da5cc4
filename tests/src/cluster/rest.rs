//! Questions about a cluster without faults.

use super::{server::Server, Cluster};
use crate::{
    checker::{ensure, violated, Check, Violation},
    coverage::Kind,
    plan::{Compaction, EntryKind, Links},
    value::{SimEntry, LARGEST, LARGEST_SNAPSHOT},
};
use omnipaxos::{
    errors::{CompactionErr, TryCompactionErr},
    util::LogEntry,
    ServerConfig,
};

/// Ticks from a message to what its answer brings about, with perfect links and with a drain at the
/// end of each tick: one for each way, and one at either end.
const ROUND_TRIP: u64 = 4;

/// The most bytes of an entry of the simulator in a message, with its id.
const ENTRY_BYTES: u64 = 64;

/// The most messages in a round that have the same entry on the same link: a forward, a Promise, an
/// AcceptSync or AcceptDecide, and a chunk.
const COPIES: u64 = 4;

/// The bytes of the messages between two servers in a heartbeat round, without entries.
const HEARTBEAT_BYTES: u64 = 1_000;

/// The election timeouts in which a leader whose peers all answer has prepared, and they are in step.
const ROUNDS_TO_PREPARE: u64 = 2;

/// Whether all servers agree on all that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    /// They do.
    InStep,
    /// They do not. The text names the servers that differ.
    Apart(String),
}

impl<T: SimEntry> Cluster<T> {
    /// Number of servers of the configuration. Observers come after those.
    pub fn size(&self) -> usize {
        self.setting.servers.len()
    }

    /// A calm run has ended, in which servers were asked to take over so often. Each takeover needs a
    /// ballot, and the first leader one.
    ///
    /// # Errors
    /// There were more.
    pub fn check_stability(&mut self, asked: u64) -> Result<(), Violation> {
        self.counts.add(Kind::CalmRun);
        let replicas = self.servers.iter().filter_map(Server::replica);
        let highest = replicas.map(|replica| u64::from(replica.get_promise().n)).max();
        match highest.unwrap_or(0) <= 1 + asked {
            true => Ok(()),
            false => violated(
                Check::Stability,
                format!("{asked} takeovers were asked for: {}", self.describe()),
            ),
        }
    }

    /// Counts something that the ending does.
    pub fn count(&mut self, kind: Kind) {
        self.counts.add(kind);
    }

    /// The longest election timeout, and the time that a round trip waits on links with a limit.
    pub fn election_timeout(&self) -> u64 {
        self.longest(|config| config.election_tick_timeout) + 2 * self.queueing
    }

    /// The longest time that a batch waits.
    pub fn longest_flush_timer(&self) -> u64 {
        self.longest(|config| match config.batch_size {
            1 => 0,
            _ => config.flush_batch_tick_timeout,
        })
    }

    /// The longest timer of all.
    pub fn longest_timer(&self) -> u64 {
        self.longest_flush_timer().max(self.longest(|config| config.resend_message_tick_timeout))
    }

    /// Whether the servers of a group have decided all that was ever decided, and hold nothing
    /// else.
    pub fn agree(&self, group: &[usize]) -> bool {
        let len = self.checker.decided_len();
        group.iter().all(|at| {
            let replica = self.servers[*at].replica();
            replica.is_some_and(|r| r.get_decided_idx() == len && r.get_accepted_idx() == len)
        })
    }

    /// The leader of a group, if all of it run and follow it.
    pub fn leader_of(&self, group: &[usize]) -> Option<usize> {
        let mut leader = None;
        for at in group {
            let follows = self.servers[*at].replica()?.get_current_leader()?;
            if *leader.get_or_insert(follows) != follows {
                return None;
            }
        }
        group.iter().copied().find(|at| Some(self.servers[*at].pid()) == leader)
    }

    /// The server that leads in a component: it follows itself, as do all servers that it reaches. `None`
    /// if no server does so, or several do. A server that reaches no write quorum does not count: it may
    /// still have the highest ballot, and decides nothing.
    pub fn leader_in(&self, links: &Links, component: &[usize]) -> Option<usize> {
        let leads = |at: &usize| {
            let pid = self.servers[*at].pid();
            let reached = links.reach(*at);
            let majority = self.size() / 2 + 1;
            let quorum = self.setting.quorum.map_or(majority, |sizes| sizes.write_quorum_size);
            let decides = reached.len() >= quorum;
            decides && reached.into_iter().all(|peer| self.follows(peer) == Some(pid))
        };
        let mut leaders = component.iter().copied().filter(leads);
        leaders.next().filter(|_| leaders.next().is_none())
    }

    /// The leader that a server knows.
    pub fn follows(&self, at: usize) -> Option<u64> {
        self.servers[at].replica()?.get_current_leader()
    }

    /// Number of entries that a server has decided, if it runs.
    pub fn decided_idx(&self, at: usize) -> Option<u64> {
        self.servers[at].replica().map(|replica| replica.get_decided_idx())
    }

    /// Number of proposals that servers had no room for, in their present incarnations.
    pub fn dropped_proposals(&self) -> u64 {
        let replicas = self.servers.iter().filter_map(Server::replica);
        replicas.map(|replica| replica.dropped().proposals).sum()
    }

    /// Whether the log of a server ends with a stop sign, decided or not.
    pub fn ends_with_stop_sign(&self, at: usize) -> bool {
        self.servers[at].replica().is_some_and(|replica| {
            let last = replica.get_accepted_idx().checked_sub(1);
            matches!(last.map(|idx| replica.try_read(idx)), Some(Ok(Some(LogEntry::StopSign(..)))))
        })
    }

    /// Whether some server has taken a stop sign, and forwards it.
    pub fn awaits_stop_sign(&self) -> bool {
        let mut servers = self.servers.iter().enumerate();
        servers.any(|(at, server)| self.checker.awaits_stop_sign(at, server.incarnation))
    }

    /// Whether a write quorum is smaller than a read quorum.
    pub fn has_smaller_write_quorum(&self) -> bool {
        self.setting.quorum.is_some_and(|of| of.write_quorum_size < of.read_quorum_size)
    }

    /// Whether some server has tiny limits.
    pub fn is_limited(&self) -> bool {
        self.servers.iter().any(|server| server.setting.is_limited())
    }

    /// Ticks by which tiny limits may delay what happens after the faults; 0 where there are none.
    ///
    /// At the end of the faults a server may lack much, and proposals may wait. In one round trip a
    /// server with tiny limits learns no more than one message holds, and a leader gets no more
    /// decided than that, or than it may have in flight. What it has no room for is forwarded again
    /// after a heartbeat round, so it takes no more in one than may wait there. With the default
    /// limits all of it fits into one message.
    pub fn slack(&self) -> u64 {
        self.slack
    }

    /// Ticks that a message waits at rest, on a link with a limit of bytes a tick, until the last of its
    /// bytes was sent: those of all messages that the link may carry in a heartbeat round.
    pub fn queueing(&self) -> u64 {
        self.queueing
    }

    /// Adds the longest heartbeat round to [`slack`](Self::slack). A server may have lengthened its
    /// rounds while replies came late. The present round lasts until then, if a reply that it
    /// waits for cannot come. The next waits only for those that came in this one.
    pub fn allow_a_lengthened_round(&mut self) {
        self.slack += self.longest(|config| {
            config.election_tick_timeout * config.max_election_tick_factor.saturating_sub(1)
        });
    }

    /// Adds heartbeat rounds to [`slack`](Self::slack).
    pub fn allow_rounds(&mut self, rounds: u64) {
        self.slack += rounds * self.election_timeout();
    }

    /// Measures [`slack`](Self::slack) again.
    pub(super) fn measure_slack(&mut self) {
        (self.slack, self.queueing) = (0, 0);
        if let Some(bytes_per_tick) = self.network.bytes_per_tick() {
            self.queueing = self.bytes_on_a_link().div_ceil(bytes_per_tick);
        }
        if self.is_limited() {
            let (lacking, waiting) = self.lacking();
            let at_once = self.least_at_once();
            let room = self.servers.iter().map(|server| entries_in_room(&server.setting.config));
            let forwards = waiting.div_ceil(room.min().unwrap_or(1));
            // One that such a server receives already may be old: then it needs another one.
            let is_receiving = self.receivers().any(|server| server.disk.is_receiving());
            let snapshots = 1 + u64::from(is_receiving);
            let fetching = lacking.div_ceil(at_once) * self.round_trip()
                + snapshots * self.ticks_of_a_snapshot();
            self.slack = fetching + forwards * self.election_timeout();
        }
    }

    /// The limit of a link in bytes a tick once the faults are over. It is higher than before where a
    /// link would be busy for more than a fourth of a heartbeat round with all that servers lack:
    /// heartbeats wait behind that, and a server that misses them takes over, which is right.
    pub(super) fn limit_at_rest(&self) -> Option<u64> {
        let rounds = self.servers.iter().map(|server| server.setting.config.election_tick_timeout);
        let ticks = (rounds.min().unwrap_or_default() / 4).max(1);
        let least = self.bytes_on_a_link().div_ceil(ticks);
        self.setting.conditions.bytes_per_tick.map(|bytes_per_tick| bytes_per_tick.max(least))
    }

    /// The most bytes that a link carries in a heartbeat round at rest.
    fn bytes_on_a_link(&self) -> u64 {
        let (lacking, _) = self.lacking();
        let entries = lacking.max(self.largest_lag());
        HEARTBEAT_BYTES + LARGEST_SNAPSHOT + COPIES * ENTRY_BYTES * entries
    }

    /// The most entries that a member lacks, those included that wait; and these alone.
    fn lacking(&self) -> (u64, u64) {
        let replicas = || self.servers.iter().take(self.size()).filter_map(Server::replica);
        let longest = replicas().map(|r| r.get_accepted_idx()).max().unwrap_or_default();
        let shortest = replicas().map(|r| r.get_decided_idx()).min().unwrap_or_default();
        let is_open = |id: &&u64| !self.checker.is_decided(**id);
        // Any may wait at another server than the one that took it, which may be another
        // incarnation.
        let taken = self.servers.iter().flat_map(|server| &server.taken);
        let waiting = taken.filter(is_open).count() as u64;
        (longest - shortest + waiting, waiting)
    }

    /// Ticks in which a snapshot surely arrives and is written. Half of what may be in flight has come, and
    /// is written, when more is asked for. So each round trip brings that much, or a piece.
    pub(super) fn ticks_of_a_snapshot(&self) -> u64 {
        let at_once = self.servers.iter().map(|server| {
            let config = &server.setting.config;
            config.max_in_flight_bytes.max(config.max_message_bytes).div_ceil(2)
        });
        let round_trips = LARGEST_SNAPSHOT.div_ceil(at_once.min().unwrap_or(1) as u64);
        round_trips * (self.round_trip() + self.slowness_of_receivers())
    }

    /// Ticks that the slowest disk of a server which needs a snapshot takes to write what has come.
    fn slowness_of_receivers(&self) -> u64 {
        self.receivers().map(|server| server.disk.slowness()).max().unwrap_or_default()
    }

    /// The servers that need a snapshot: others have compacted entries that they have not decided.
    fn receivers(&self) -> impl Iterator<Item = &Server<T>> {
        let compacted_idx = (0..self.servers.len()).map(|at| self.compacted_idx(at)).max();
        let receivers = self.servers.iter().enumerate().filter(move |(at, _)| {
            self.decided_idx(*at).unwrap_or_default() < compacted_idx.unwrap_or_default()
        });
        receivers.map(|(_, server)| server)
    }

    /// Ticks from a message to what its answer brings about.
    pub(super) fn round_trip(&self) -> u64 {
        ROUND_TRIP + 2 * self.queueing
    }

    /// Number of entries that a server has compacted.
    pub fn compacted_idx(&self, at: usize) -> u64 {
        self.servers[at].replica().map_or(0, |replica| replica.get_compacted_idx())
    }

    /// Lets the leader trim all that is decided, where the disks allow it. Returns the index. The
    /// leader or a follower may have learned that from others, and is given a few heartbeat rounds
    /// to get in step.
    ///
    /// # Errors
    /// The leader refuses for no good reason.
    pub fn trim_at_leader(&mut self) -> Result<Option<u64>, Violation> {
        let all: Vec<usize> = (0..self.size()).collect();
        if self.setting.compaction == Compaction::AsApplied {
            // What was on its way to a server may still be decided, and a report be lost.
            let bound = self.now() + ROUNDS_TO_PREPARE * self.election_timeout() + self.slack();
            let applied = self.applied_by_all();
            let is_settled = |cluster: &Self| {
                let given_up = all.iter().map(|at| cluster.compacted_idx(*at)).min();
                cluster.agree(&all) && given_up >= Some(applied)
            };
            while !is_settled(self) && self.now() <= bound {
                self.pass_tick()?;
            }
            ensure!(
                is_settled(self),
                Check::TrimSpreads,
                "{applied} entries are applied everywhere, and kept: {}",
                self.describe()
            );
            return self.apply_all().map(Some);
        }
        let end = self.checker.decided_len() - u64::from(self.checker.is_stopped());
        let bound = self.now() + ROUNDS_TO_PREPARE * self.election_timeout() + self.slack();
        if self.setting.entries == EntryKind::Stateful {
            while !self.hand_over_all(end)? {
                ensure!(
                    self.now() <= bound,
                    Check::HandedOver,
                    "not all states after {end} entries are taken: {}",
                    self.describe()
                );
                self.pass_tick()?;
            }
            return Ok(Some(end));
        }
        let Some(leader) = self.leader_of(&all) else {
            return violated(Check::Progress, format!("nobody leads: {}", self.describe()));
        };
        loop {
            // Without an index the leader trims what all have accepted. That may be nothing, where a snapshot
            // of its own compacted more.
            match self.compact(leader, |replica| replica.try_trim(Some(end)))? {
                Some(Ok(())) => {
                    self.counts.add(Kind::Trim);
                    return Ok(Some(end));
                }
                Some(Err(TryCompactionErr::Refused(
                    CompactionErr::NotCurrentLeader(_) | CompactionErr::NotAllDecided(_),
                ))) if self.now() <= bound => {}
                Some(Err(TryCompactionErr::Halted(_))) | None => return Ok(None),
                Some(Err(TryCompactionErr::Refused(refused))) => {
                    let what = format!("the leader refuses to trim: {refused}");
                    return violated(Check::TrimSpreads, what);
                }
                Some(Err(other)) => return violated(Check::TrimSpreads, other.to_string()),
            }
            self.pass_tick()?;
        }
    }

    /// Whether all follow one leader and show the same.
    pub fn rest(&self) -> Rest {
        let all: Vec<usize> = (0..self.size()).collect();
        if self.leader_of(&all).is_none() {
            return Rest::Apart(format!("there is no common leader: {}", self.describe()));
        }
        for server in self.servers.iter().take(self.size()) {
            let is_reconfigured = server.replica().map(|r| r.is_reconfigured().is_some());
            if is_reconfigured != Some(self.checker.is_stopped()) {
                let pid = server.pid();
                return Rest::Apart(format!("{pid} misjudges the stop sign: {}", self.describe()));
            }
        }
        for (at, server) in self.servers.iter().enumerate().take(self.size()) {
            let lost = self.checker.lost(at, server.incarnation);
            if !lost.is_empty() {
                return Rest::Apart(format!("{} lost {lost:?}", server.pid()));
            }
            if self.checker.lost_stop_sign(at, server.incarnation) {
                return Rest::Apart(format!("{} lost a stop sign", server.pid()));
            }
        }
        match self.agree(&all) {
            true => Rest::InStep,
            false => Rest::Apart(format!("not all agree: {}", self.describe())),
        }
    }

    /// Number of entries that surely arrive in one round trip between any servers.
    pub(super) fn least_at_once(&self) -> u64 {
        let at_once = self.servers.iter().map(|server| entries_at_once(&server.setting.config));
        at_once.min().unwrap_or(1)
    }

    pub(super) fn longest(&self, timer: impl Fn(&ServerConfig) -> u64) -> u64 {
        self.servers.iter().map(|server| timer(&server.setting.config)).max().unwrap_or(1)
    }
}

/// Number of entries that surely arrive in one round trip.
fn entries_at_once(config: &ServerConfig) -> u64 {
    let message = fitting(config.max_message_entries, config.max_message_bytes);
    message.min(fitting(config.max_in_flight_entries, config.max_in_flight_bytes))
}

/// Number of entries for which there is surely room to wait.
fn entries_in_room(config: &ServerConfig) -> u64 {
    fitting(config.max_pending_entries, config.max_pending_bytes)
}

fn fitting(entries: usize, bytes: usize) -> u64 {
    entries.min(bytes / LARGEST).max(1) as u64
}
