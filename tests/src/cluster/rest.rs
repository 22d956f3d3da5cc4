//! Questions about a cluster without faults.

use super::Cluster;
use crate::{
    checker::{violated, Check, Violation},
    disk::Atomicity,
    faults::Kind,
    value::SimEntry,
};
use omnipaxos::errors::TryCompactionErr;

/// Whether all servers agree on all that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    /// They do.
    InStep,
    /// Says who does not.
    Apart(String),
}

impl<T: SimEntry> Cluster<T> {
    /// Number of servers.
    pub fn size(&self) -> usize {
        self.servers.len()
    }

    /// Counts something that the ending does.
    pub fn count(&mut self, kind: Kind) {
        self.counts.add(kind);
    }

    /// The longest election timeout.
    pub fn election_timeout(&self) -> u64 {
        self.longest(|config| config.election_tick_timeout)
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

    /// Number of entries that a server has compacted.
    pub fn compacted_idx(&self, at: usize) -> u64 {
        self.servers[at].replica().map_or(0, |replica| replica.get_compacted_idx())
    }

    /// Lets the leader trim all it can, where the disks allow it. Returns the index.
    ///
    /// # Errors
    /// The leader refuses for no good reason.
    pub fn trim_at_leader(&mut self) -> Result<Option<u64>, Violation> {
        if self.setting.atomicity == Atomicity::OneByOne {
            return Ok(None);
        }
        let all: Vec<usize> = (0..self.size()).collect();
        let Some(leader) = self.leader_of(&all) else {
            return violated(Check::Progress, format!("nobody leads: {}", self.describe()));
        };
        match self.input(leader, |replica| replica.try_trim(None))? {
            Some(Ok(())) => {
                self.counts.add(Kind::Trim);
                Ok(Some(self.compacted_idx(leader)))
            }
            Some(Err(TryCompactionErr::Refused(refused))) => {
                violated(Check::TrimSpreads, format!("the leader refuses to trim: {refused}"))
            }
            Some(Err(TryCompactionErr::Halted(_))) | None => Ok(None),
        }
    }

    /// Whether all follow one leader and show the same.
    pub fn rest(&self) -> Rest {
        let all: Vec<usize> = (0..self.size()).collect();
        if self.leader_of(&all).is_none() {
            return Rest::Apart(format!("there is no common leader: {}", self.describe()));
        }
        for server in &self.servers {
            let is_reconfigured = server.replica().map(|r| r.is_reconfigured().is_some());
            if is_reconfigured != Some(self.checker.is_stopped()) {
                let pid = server.pid();
                return Rest::Apart(format!("{pid} misjudges the stop sign: {}", self.describe()));
            }
        }
        match self.agree(&all) {
            true => Rest::InStep,
            false => Rest::Apart(format!("not all agree: {}", self.describe())),
        }
    }

    fn longest(&self, timer: impl Fn(&omnipaxos::ServerConfig) -> u64) -> u64 {
        self.servers.iter().map(|server| timer(&server.setting.config)).max().unwrap_or(1)
    }
}
