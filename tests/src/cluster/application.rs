//! The application at each server: registers, which it makes of the decided log.

use super::{
    server::{Replica, Running, Server},
    Cluster,
};
use crate::{
    checker::{ensure, Check, Violation},
    faults::Kind,
    linearizable::INITIAL,
    rng::Rng,
    value::{Registers, SimEntry, REGISTERS},
};
use omnipaxos::util::LogEntry;

/// What an application has made of the decided log, as of each index since it was started or last
/// took a snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Application {
    applied_idx: u64,
    /// Nothing is known of earlier indices than this, that of the last snapshot.
    oldest_idx: u64,
    versions: [Vec<Version>; REGISTERS],
}

/// A register holds a value where so many entries are applied, or more.
#[derive(Copy, Clone, Debug)]
struct Version {
    idx: u64,
    value: u64,
}

/// Entries before this index were trimmed before they were applied.
#[derive(Debug)]
#[expect(dead_code, reason = "it is shown")]
struct Lost {
    until: u64,
}

impl Application {
    /// Applies what is decided, by the questions that users have.
    fn catch_up<T: SimEntry>(&mut self, replica: &Replica<T>) -> Result<(), Lost> {
        if self.applied_idx >= replica.get_decided_idx() {
            return Ok(());
        }
        let from_idx = self.applied_idx;
        if replica.for_each_decided(from_idx, |entry| self.apply(entry)).is_some() {
            return Ok(());
        }
        let suffix = replica.read_decided_suffix(from_idx).unwrap_or_default();
        suffix.into_iter().try_for_each(|entry| self.apply_logged(entry))
    }

    fn apply_logged<T: SimEntry>(&mut self, entry: LogEntry<T>) -> Result<(), Lost> {
        match entry {
            LogEntry::Decided(entry) => self.apply(&entry),
            LogEntry::Snapshotted(snapshotted) => {
                self.applied_idx = snapshotted.trimmed_idx;
                self.oldest_idx = self.applied_idx;
                let sum = T::covered(&snapshotted.snapshot).unwrap_or_default();
                for (versions, value) in self.versions.iter_mut().zip(sum.registers) {
                    *versions = vec![Version { idx: self.applied_idx, value }];
                }
            }
            LogEntry::Trimmed(until) => return Err(Lost { until }),
            LogEntry::Undecided(_) | LogEntry::StopSign(..) => {}
        }
        Ok(())
    }

    fn apply<T: SimEntry>(&mut self, entry: &T) {
        self.applied_idx += 1;
        if let Some(register) = entry.register() {
            let version = Version { idx: self.applied_idx, value: entry.id() };
            self.versions[register].push(version);
        }
    }

    /// The registers where so many entries are applied, or as early as is known.
    fn at(&self, idx: u64) -> Registers {
        let idx = idx.max(self.oldest_idx);
        let mut found = Registers::default();
        for (found, versions) in found.iter_mut().zip(&self.versions) {
            let newer = versions.partition_point(|version| version.idx <= idx);
            let newest = newer.checked_sub(1).and_then(|at| versions.get(at));
            *found = newest.map_or(INITIAL, |version| version.value);
        }
        found
    }
}

impl<T: SimEntry> Cluster<T> {
    /// The application at a server applies what is decided there.
    pub(super) fn apply(&mut self, at: usize) -> Result<(), Violation> {
        let Server { running: Running::Up(replica), application, disk, .. } = &mut self.servers[at]
        else {
            return Ok(());
        };
        let (pid, applied_idx) = (replica.get_pid(), application.applied_idx);
        let applied = disk.clone().undisturbed(|| application.catch_up(replica));
        ensure!(
            applied.is_ok(),
            Check::TrimSafe,
            "server {pid} has applied {applied_idx} entries, and {applied:?}"
        );
        Ok(())
    }

    /// The application at a server is started anew. It remembers what it applied only if the log
    /// does not tell any more.
    pub(super) fn restart_application(&mut self, at: usize) -> Result<(), Violation> {
        let before = std::mem::take(&mut self.servers[at].application);
        if self.apply(at).is_ok() {
            return Ok(());
        }
        self.servers[at].application = before;
        self.apply(at)
    }

    /// A read ends that can be served from index `idx`: now and then from the state then, else from
    /// that of the moment.
    pub(super) fn serve(&mut self, at: usize, invoked: u64, idx: u64) -> Result<(), Violation> {
        let application = &self.servers[at].application;
        let applied_idx = application.applied_idx;
        let pid = self.servers[at].pid();
        ensure!(
            idx <= applied_idx,
            Check::Linearizable,
            "server {pid} has applied {applied_idx}, and serves a read from {idx} on"
        );
        let is_earliest = Rng::of(&[self.seed, invoked]).chance(1, 2);
        self.counts.add(if is_earliest { Kind::ServedEarly } else { Kind::ServedNow });
        let found = application.at(if is_earliest { idx } else { applied_idx });
        self.trace.note(|| format!("{} {pid} serves {found:?}, as of {idx}", self.now));
        self.checker.end_read(invoked, found);
        Ok(())
    }
}
