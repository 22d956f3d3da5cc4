//! The application at each server: registers, which it makes of the decided log.

use super::{
    server::{Replica, Running, Server},
    Cluster,
};
use crate::{
    checker::{ensure, violated, Check, Violation},
    coverage::Kind,
    linearizable::INITIAL,
    plan::Until,
    rng::Rng,
    value::{Chain, Registers, SimEntry, REGISTERS},
};
use omnipaxos::{
    errors::{CompactionErr, TryCompactionErr},
    util::LogEntry,
};

/// What an application has made of the decided log, as of each index since it was started or last
/// took a snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Application {
    applied_idx: u64,
    /// Nothing is known of earlier indices than this, that of the last snapshot.
    oldest_idx: u64,
    versions: [Vec<Version>; REGISTERS],
    /// The state at the oldest index, and after each entry that it applied since.
    states: Vec<Chain>,
}

/// A register holds a value where this many entries are applied, or more.
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
                self.states = vec![sum];
            }
            LogEntry::Trimmed(until) => return Err(Lost { until }),
            LogEntry::Undecided(_) | LogEntry::StopSign(..) => {}
        }
        Ok(())
    }

    fn apply<T: SimEntry>(&mut self, entry: &T) {
        self.applied_idx += 1;
        let state = self.states.last().copied().unwrap_or_default();
        if self.states.is_empty() {
            self.states.push(state);
        }
        self.states.push(state.and(entry.id()).writing(entry.id(), entry.register()));
        if let Some(register) = entry.register() {
            let version = Version { idx: self.applied_idx, value: entry.id() };
            self.versions[register].push(version);
        }
    }

    /// The state where this many entries are applied; if that is not known, that of the moment.
    fn state_at(&self, idx: u64) -> Chain {
        let at = idx.checked_sub(self.oldest_idx).and_then(|at| usize::try_from(at).ok());
        let known = at.and_then(|at| self.states.get(at)).or(self.states.last());
        known.copied().unwrap_or_default()
    }

    /// The registers where this many entries are applied, or as early as is known.
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

    /// The application at a server is restarted. It remembers what it applied only if the log
    /// does not hold it any more.
    pub(super) fn restart_application(&mut self, at: usize) -> Result<(), Violation> {
        let before = std::mem::take(&mut self.servers[at].application);
        if self.apply(at).is_ok() {
            return Ok(());
        }
        self.servers[at].application = before;
        self.apply(at)
    }

    /// The application that lags applies some of what is decided at its server, which must have it,
    /// and mostly reports that.
    pub(super) fn apply_slowly(&mut self, at: usize, seed: u64) -> Result<(), Violation> {
        let mut rng = Rng::of(&[seed]);
        let Server { running: Running::Up(replica), slowly_applied_idx, disk, .. } =
            &mut self.servers[at]
        else {
            return Ok(());
        };
        let (pid, from_idx) = (replica.get_pid(), *slowly_applied_idx);
        let end = replica.get_decided_idx() - u64::from(replica.is_reconfigured().is_some());
        let to_idx = from_idx + rng.below(end.saturating_sub(from_idx) + 1);
        let mut seen = 0;
        let visited =
            disk.clone().undisturbed(|| replica.for_each_decided(from_idx, |_entry| seen += 1));
        ensure!(
            from_idx >= end || (visited, seen) == (Some(end), end - from_idx),
            Check::AppliedFirst,
            "server {pid}: the application has applied {from_idx} of {end}, and finds {seen}, up to \
             {visited:?}"
        );
        *slowly_applied_idx = to_idx;
        if to_idx > end || !rng.chance(4, 5) {
            return Ok(());
        }
        self.checker.say_applied(at, to_idx);
        self.servers[at].reported_applied_idx = to_idx;
        self.counts.add(Kind::SaidApplied);
        let recorded = self.input(at, |replica| replica.try_compact(to_idx))?;
        match recorded {
            Some(Ok(()) | Err(TryCompactionErr::Halted(_))) | None => Ok(()),
            Some(Err(refused)) => {
                violated(Check::AppliedFirst, format!("server {pid}: {to_idx} of {end}: {refused}"))
            }
        }
    }

    /// The application at a server hands over its state as of an index, which may be outdated or
    /// beyond what is decided.
    pub(super) fn compact_with(&mut self, at: usize, until: Until) -> Result<(), Violation> {
        self.apply(at)?;
        let Server { running: Running::Up(replica), application, .. } = &self.servers[at] else {
            return Ok(());
        };
        let (pid, decided) = (replica.get_pid(), replica.get_decided_idx());
        let compacted = replica.get_compacted_idx();
        let idx = match until {
            Until::Default => application.applied_idx,
            Until::Percent(percent) => decided * percent / 100,
        };
        let Some(snapshot) = T::handed_over(application.state_at(idx)) else {
            return Ok(());
        };
        let done = self.compact(at, |replica| replica.compact_with(idx, snapshot))?;
        let is_right = match &done {
            Some(Ok(())) => (compacted..=decided).contains(&idx),
            Some(Err(TryCompactionErr::Refused(CompactionErr::TrimmedIndex(_)))) => idx < compacted,
            Some(Err(TryCompactionErr::Refused(CompactionErr::UndecidedIndex(_)))) => idx > decided,
            Some(Err(TryCompactionErr::Halted(_))) | None => return Ok(()),
            Some(Err(_)) => false,
        };
        ensure!(
            is_right,
            Check::HandedOver,
            "server {pid} has {decided} decided, {compacted} compacted: a state at {idx}: {done:?}"
        );
        self.counts.add(match done {
            Some(Ok(())) => Kind::HandedOver,
            _ => Kind::HandOverRefused,
        });
        Ok(())
    }

    /// The applications hand over the states after all that is decided at their servers. Returns whether each
    /// state contains the first `end` entries. It may contain more: observers may propose meanwhile.
    pub(super) fn hand_over_all(&mut self, end: u64) -> Result<bool, Violation> {
        for at in 0..self.size() {
            self.compact_with(at, Until::Default)?;
        }
        Ok((0..self.size()).all(|at| self.compacted_idx(at) >= end))
    }

    /// What all applications have reported as applied, in the present incarnations of their
    /// servers.
    pub fn applied_by_all(&self) -> u64 {
        let members = self.servers.iter().take(self.size());
        members.map(|server| server.reported_applied_idx).min().unwrap_or(0)
    }

    /// All applications apply all that is decided, and report that. Returns how much that is.
    pub fn apply_all(&mut self) -> Result<u64, Violation> {
        let end = self.checker.decided_len() - u64::from(self.checker.is_stopped());
        for at in 0..self.size() {
            self.servers[at].slowly_applied_idx = end;
            self.checker.say_applied(at, end);
            let recorded = self.input(at, |replica| replica.try_compact(end))?;
            ensure!(
                matches!(recorded, Some(Ok(()))),
                Check::AppliedFirst,
                "server {at} at rest, {end}: {recorded:?}"
            );
        }
        Ok(end)
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
