//! The steps of a plan.

use super::{
    forge,
    forge_observing::{self, Lie},
    next_configuration::Next,
    server::{indices, Replica},
    Cluster, Healing,
};
use crate::{
    checker::{ensure, violated, Check, Indices, Violation},
    coverage::Kind,
    plan::{Action, EntryKind, Missed, Notify, Refusal, Shape, Until},
    rng::Rng,
    value::{is_refused, stop_sign_metadata, SimEntry},
};
use omnipaxos::{
    ballot_leader_election::Ballot,
    errors::{ReconfigurationErr, TryCompactionErr, TryProposeErr},
    util::LogEntry,
    ClusterConfig, ProposeErr,
};

/// What became of a proposal.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// It was taken.
    Taken(u64),
    /// It was given back, as a stop sign is in the log.
    Refused,
    /// It was given back, as too many wait.
    Busy,
    /// It was given back, as the disk of its server refuses it.
    Unstorable,
    /// The server does not run, or met an error of its storage.
    Nowhere,
}

impl<T: SimEntry> Cluster<T> {
    /// Does one step.
    ///
    /// # Errors
    /// What does not hold.
    pub fn act(&mut self, action: &Action) -> Result<(), Violation> {
        self.trace.note(|| format!("{} {action:?}", self.now));
        match *action {
            Action::Append { server, count } => {
                for _ in 0..count {
                    self.append(server)?;
                }
                Ok(())
            }
            Action::Reconfigure { server } => self.reconfigure(server).map(drop),
            Action::Trim { server, until } => self.trim(server, until),
            Action::Apply { server, seed } => self.apply_slowly(server, seed),
            Action::Snapshot { server, until, local } => self.snapshot(server, until, local),
            Action::CompactWith { server, until } => self.compact_with(server, until),
            Action::SetPriority { server, priority } => {
                self.counts.add(Kind::SetPriority);
                self.servers[server].setting.config.leader_priority = priority;
                self.input(server, |replica| replica.set_priority(priority)).map(drop)
            }
            Action::BecomeLeader { server } => self.become_leader(server),
            Action::Read { server, seed } => self.read_some(server, seed),
            Action::Flush { server } => self.input(server, Replica::flush).map(drop),
            Action::TakeEvents { server } => self.take_events(server),
            Action::Status { server } => self.ask_status(server),
            Action::Crash { server, down } => {
                if self.servers[server].replica().is_none() {
                    return Ok(());
                }
                self.counts.add(Kind::Crash);
                self.crash(server, down)
            }
            Action::WriteFault { server, fault, down } => {
                self.servers[server].down = down;
                self.servers[server].disk.plan_write_fault(fault);
                Ok(())
            }
            Action::ReadFault { server, after, down } => {
                self.servers[server].down = down;
                self.servers[server].disk.plan_read_fault(after);
                Ok(())
            }
            Action::Cut { shape, ticks, notify } => {
                self.cut_for(shape, ticks, notify);
                Ok(())
            }
            Action::PauseTicks { server, ticks } => {
                self.counts.add(Kind::TickPause);
                self.servers[server].pause(self.now + ticks);
                Ok(())
            }
            Action::Freeze { server, ticks, missed } => {
                self.counts.add(Kind::Freeze);
                if missed == Missed::Made {
                    self.counts.add(Kind::TickBurst);
                }
                self.servers[server].freeze(self.now + ticks, missed);
                Ok(())
            }
            Action::TargetedFault { whom, fault, ticks } => self.inject(whom, fault, ticks),
            Action::Forge { server, seed } => self.forge(server, seed),
            Action::Reconnected { server, peer } => {
                self.counts.add(Kind::Reconnected);
                self.reconnected(server, peer)
            }
            Action::RequestRead { server } => self.request_read(server).map(drop),
            Action::TransferLeadership { to, ticks } => self.transfer_leadership(to, ticks),
        }
    }

    /// Proposes a new value at a server.
    ///
    /// # Errors
    /// What does not hold.
    pub fn append(&mut self, at: usize) -> Result<Proposed, Violation> {
        let Some(replica) = self.servers[at].replica() else {
            return Ok(Proposed::Nowhere);
        };
        let kind = match replica.get_current_leader() == Some(replica.get_pid()) {
            true => Kind::Append,
            false => Kind::AppendElsewhere,
        };
        let id = self.checker.propose();
        self.trace.note(|| format!("{} propose {id}", self.now));
        let is_followed = Rng::of(&[self.seed, id]).chance(1, 2);
        let value = if is_followed { T::writing(id) } else { T::with_id(id) };
        // An output may follow at once, and report the outcome.
        let appended = match is_followed {
            true => self.propose_followed(at, id, value)?,
            false => self.input(at, |replica| replica.try_append(value))?,
        };
        match appended {
            Some(Ok(())) => {
                self.counts.add(kind);
                self.servers[at].taken.push(id);
                if !is_followed && !self.may_be_refused(id) {
                    self.checker.took(at, self.servers[at].incarnation, id);
                }
                Ok(Proposed::Taken(id))
            }
            Some(Err(TryProposeErr::Refused(ProposeErr::PendingReconfigEntry(value))))
                if value.id() == id =>
            {
                Ok(self.given_back(id, Proposed::Refused, Kind::Refused))
            }
            Some(Err(TryProposeErr::Busy(value))) if value.id() == id => {
                let config = &self.servers[at].setting;
                ensure!(config.is_limited(), Check::Proposing, "server {at} is busy for nothing");
                Ok(self.given_back(id, Proposed::Busy, Kind::Busy))
            }
            Some(Err(TryProposeErr::Unstorable(value, _))) if value.id() == id => {
                let refuses = self.setting.refusal.is_at(at) && is_refused(id);
                ensure!(refuses, Check::Proposing, "server {at} refuses {id} for nothing");
                Ok(self.given_back(id, Proposed::Unstorable, Kind::Unstorable))
            }
            Some(Err(TryProposeErr::Halted(_))) | None => Ok(Proposed::Nowhere),
            Some(Err(refused)) => violated(Check::Proposing, format!("server {at}: {refused:?}")),
        }
    }

    /// Whether a leader of this run refuses the value of an id.
    fn may_be_refused(&self, id: u64) -> bool {
        is_refused(id) && self.setting.refusal != Refusal::Nowhere
    }

    /// As [`append`](Self::append), a value that no disk refuses.
    ///
    /// # Errors
    /// What does not hold.
    pub fn append_storable(&mut self, at: usize) -> Result<Proposed, Violation> {
        while self.may_be_refused(self.checker.next_id()) {
            let id = self.checker.propose();
            self.checker.refuse(id);
        }
        self.append(at)
    }

    /// Proposes a value with an id.
    #[allow(clippy::type_complexity, reason = "what the method returns, if the server runs")]
    fn propose_followed(
        &mut self,
        at: usize,
        id: u64,
        value: T,
    ) -> Result<Option<Result<(), TryProposeErr<T>>>, Violation> {
        let Some(replica) = self.servers[at].replica_mut() else {
            return Ok(None);
        };
        let proposed = match replica.propose(value) {
            Ok(proposal) => {
                self.counts.add(Kind::Propose);
                self.checker.follow(at, self.servers[at].incarnation, proposal, id)?;
                Ok(())
            }
            Err(refused) => Err(refused),
        };
        self.input(at, |_replica| proposed)
    }

    /// Proposes a stop sign at a server.
    ///
    /// # Errors
    /// What does not hold.
    pub fn reconfigure(&mut self, at: usize) -> Result<Proposed, Violation> {
        let id = self.checker.propose();
        let next = self.next_config();
        let metadata = Some(stop_sign_metadata(id));
        if Rng::of(&[self.seed, id]).chance(1, 2) {
            return self.propose_reconfiguration(at, id, next, metadata);
        }
        let proposed = self.input(at, |replica| replica.try_reconfigure(next, metadata))?;
        match proposed {
            Some(Ok(())) => {
                self.counts.add(Kind::Reconfigure);
                self.checker.took_stop_sign(at, self.servers[at].incarnation);
                Ok(Proposed::Taken(id))
            }
            Some(Err(TryProposeErr::Refused(ProposeErr::PendingReconfigConfig(..)))) => {
                Ok(self.given_back(id, Proposed::Refused, Kind::Refused))
            }
            Some(Err(TryProposeErr::Halted(_))) | None => Ok(Proposed::Nowhere),
            Some(Err(refused)) => violated(Check::Proposing, format!("server {at}: {refused:?}")),
        }
    }

    /// The next configuration as it is planned; the same servers if none is.
    fn next_config(&self) -> ClusterConfig {
        let (servers, flexible_quorum) = match &self.next {
            Next::Planned(plan) | Next::Begun { plan, .. } => {
                (&plan.setting.servers, plan.setting.quorum)
            }
            Next::Never => (&self.setting.servers, None),
        };
        let nodes = servers.iter().map(|server| server.config.pid).collect();
        let configuration_id = self.setting.configuration + 1;
        ClusterConfig { configuration_id, nodes, flexible_quorum }
    }

    /// Proposes a stop sign with an id.
    fn propose_reconfiguration(
        &mut self,
        at: usize,
        id: u64,
        next: ClusterConfig,
        metadata: Option<Vec<u8>>,
    ) -> Result<Proposed, Violation> {
        let Some(replica) = self.servers[at].replica_mut() else {
            return Ok(Proposed::Nowhere);
        };
        let proposed = replica.propose_reconfiguration(next, metadata);
        let outcome = match proposed {
            Ok(proposal) => {
                self.counts.add(Kind::ProposeReconfiguration);
                self.checker.follow_stop_sign(at, self.servers[at].incarnation, proposal, id)?;
                Proposed::Taken(id)
            }
            Err(ReconfigurationErr::Pending(..)) => {
                self.given_back(id, Proposed::Refused, Kind::Refused)
            }
            Err(ReconfigurationErr::Halted(_)) => Proposed::Nowhere,
            Err(refused) => {
                return violated(Check::Proposing, format!("server {at}: {refused:?}"));
            }
        };
        self.input(at, |_replica| outcome).map(|outcome| outcome.unwrap_or(Proposed::Nowhere))
    }

    fn given_back(&mut self, id: u64, outcome: Proposed, kind: Kind) -> Proposed {
        self.checker.refuse(id);
        self.counts.add(kind);
        outcome
    }

    fn trim(&mut self, at: usize, until: Until) -> Result<(), Violation> {
        let trimmed = self.compact(at, |replica| {
            let idx = index(replica, until);
            replica.try_trim(idx)
        })?;
        self.count_compaction(trimmed, Kind::Trim)
    }

    fn snapshot(&mut self, at: usize, until: Until, local: bool) -> Result<(), Violation> {
        let taken = self.compact(at, |replica| {
            let idx = index(replica, until);
            replica.try_snapshot(idx, local)
        })?;
        self.count_compaction(taken, if local { Kind::LocalSnapshot } else { Kind::Snapshot })
    }

    /// Has a server compact its log.
    pub(super) fn compact<R>(
        &mut self,
        at: usize,
        f: impl FnOnce(&mut Replica<T>) -> R,
    ) -> Result<Option<R>, Violation> {
        let asked_before = self.checker.begin_compaction();
        let result = self.input(at, f)?;
        let stored = self.servers[at].disk.peek(|image| image.compacted_idx);
        self.checker.end_compaction(asked_before, stored.max(self.compacted_idx(at)));
        Ok(result)
    }

    fn count_compaction(
        &mut self,
        done: Option<Result<(), TryCompactionErr>>,
        kind: Kind,
    ) -> Result<(), Violation> {
        match done {
            Some(Ok(())) => self.counts.add(kind),
            Some(Err(TryCompactionErr::Refused(_))) => self.counts.add(Kind::CompactionRefused),
            Some(Err(TryCompactionErr::NotFromEntries))
                if self.setting.entries == EntryKind::Stateful =>
            {
                self.counts.add(Kind::CompactionRefused);
            }
            Some(Err(TryCompactionErr::Halted(_))) | None => {}
            Some(Err(refused)) => {
                return violated(Check::Proposing, format!("a snapshot is refused: {refused}"));
            }
        }
        Ok(())
    }

    fn become_leader(&mut self, at: usize) -> Result<(), Violation> {
        self.counts.add(Kind::BecomeLeader);
        self.asked_at = Some(self.now);
        // The method has no twin that returns an error, and panics with one.
        let disk = self.servers[at].disk.clone();
        disk.undisturbed(|| self.input(at, |replica| replica.try_become_leader()).map(drop))
    }

    fn cut_for(&mut self, shape: Shape, ticks: u64, notify: Notify) {
        self.counts.add(match shape {
            Shape::OneWay { .. } => Kind::OneWayCut,
            Shape::TwoWay { .. } => Kind::TwoWayCut,
            Shape::Isolated(_) => Kind::Isolation,
            Shape::Deaf(_) => Kind::Deaf,
            Shape::Mute(_) => Kind::Mute,
            Shape::Unpromised(_) => Kind::Unpromised,
            Shape::Unprepared { .. } => Kind::Unprepared,
            Shape::Halves(_) => Kind::Halves,
            Shape::Star(_) => Kind::Star,
            Shape::Constrained { .. } => Kind::Constrained,
            Shape::Chain(_) => Kind::Chain,
            Shape::Ring => Kind::Ring,
            Shape::FewLinks { .. } => Kind::FewLinks,
        });
        self.cut(shape);
        self.healings.push(Healing { at: self.now + ticks, shape, notify });
    }

    /// Reads ranges of all sorts.
    fn read_some(&mut self, at: usize, seed: u64) -> Result<(), Violation> {
        let server = &self.servers[at];
        let Some(replica) = server.replica() else {
            return Ok(());
        };
        self.counts.add(Kind::Read);
        let mut rng = Rng::of(&[seed]);
        let Indices { decided, accepted, .. } = indices(replica);
        let mut bound = || match rng.below(8) {
            0 => u64::MAX,
            1 => u64::MAX - 1,
            2 => accepted,
            3 => decided,
            _ => rng.below(accepted + 3),
        };
        for _ in 0..4 {
            let range = bound()..bound();
            let (from, to) = (range.start, range.end);
            let entries = server.disk.undisturbed(|| replica.read_entries(range.clone()));
            self.checker.check_read(at, range, entries.as_deref())?;
            let suffix = server.disk.undisturbed(|| replica.read_decided_suffix(from));
            self.checker.check_read(at, from..decided, suffix.as_deref())?;
            let mut visited = Vec::new();
            let visit = |entry: &T| visited.push(LogEntry::Decided(entry.clone()));
            let end = server.disk.undisturbed(|| replica.for_each_decided(from, visit));
            let decided_entries = match suffix.as_deref() {
                Some(entries @ [LogEntry::Decided(_), ..]) => {
                    entries.iter().filter(|entry| matches!(entry, LogEntry::Decided(_))).count()
                }
                Some(_) | None => 0,
            };
            ensure!(
                visited.len() == decided_entries,
                Check::Reading,
                "server {}: {} entries visited from {from} on, {decided_entries} are decided",
                replica.get_pid(),
                visited.len()
            );
            let visited = Some(&visited[..]).filter(|visited| !visited.is_empty());
            self.checker.check_read(at, from..end.unwrap_or(from), visited)?;
            let one = server.disk.undisturbed(|| replica.read(to));
            let one = one.map(|entry| vec![entry]);
            self.checker.check_read(at, to..to.saturating_add(1), one.as_deref())?;
        }
        Ok(())
    }

    fn forge(&mut self, at: usize, seed: u64) -> Result<(), Violation> {
        let server = &self.servers[at];
        let Some(replica) = server.replica() else {
            return Ok(());
        };
        let pids: Vec<u64> = self.servers.iter().map(|server| server.pid()).collect();
        let (members, observers) = pids.split_at(self.size());
        let before = (indices(replica), replica.get_current_leader());
        let (config_id, promise) = (self.setting.configuration, replica.get_promise());
        let mut rng = Rng::of(&[seed, 0x6F62_7365]);
        let (kind, message) = if observers.is_empty() || (at < members.len() && rng.chance(1, 2)) {
            forge::message::<T>(seed, members, at, config_id, promise)
        } else {
            let n = Ballot { config_id, pid: members[0], ..promise };
            let (to, decided_idx) = (pids[at], replica.get_decided_idx());
            forge_observing::message(&mut rng, Lie { members, observers, to, n, decided_idx })
        };
        let words = crate::describe::message(&message);
        self.counts.add(kind);
        self.trace.note(|| format!("{} {}: {words}", self.now, kind.name()));
        let drains = std::mem::replace(&mut self.setting.drains, crate::plan::Drains::EachTick);
        self.handle(at, message)?;
        self.setting.drains = drains;
        if let Some(replica) = self.servers[at].replica() {
            let after = (indices(replica), replica.get_current_leader());
            ensure!(
                after == before,
                Check::ForgedIgnored,
                "server {}: {before:?} became {after:?} by {words}",
                replica.get_pid()
            );
        }
        Ok(())
    }
}

/// An index to compact up to.
fn index<T: SimEntry>(replica: &Replica<T>, until: Until) -> Option<u64> {
    match until {
        Until::Default => None,
        Until::Percent(percent) => Some(replica.get_decided_idx() * percent / 100),
    }
}
