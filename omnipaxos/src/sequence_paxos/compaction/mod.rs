//! Compaction of the log, here and at the other servers. The user asks for it, or all applications
//! have applied the entries.

mod applied;
mod requests;

use self::{applied::Applied, requests::CompactionRequests};
use super::{state::State, SequencePaxos};
use crate::{
    errors::{CompactionErr, Halted, TryCompactionErr},
    ids::NodeId,
    messages::sequence_paxos::{AppliedReport, CompactionAction},
    observe::trace::LogEvent,
    storage::{Entry, Snapshot, Storage},
};

/// The state of compaction at one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Compactions {
    requests: CompactionRequests,
    applied: Applied,
    /// The highest compacted index that a source of this observer has reported.
    of_sources: u64,
}

impl Compactions {
    /// Continues in the next epoch, with these peers.
    pub(super) fn in_next_epoch(self, peers: &[NodeId]) -> Self {
        let Self { requests, applied, of_sources } = self;
        let (requests, applied) = (requests.in_next_epoch(peers), applied.in_next_epoch(peers));
        Self { requests, applied, of_sources }
    }

    /// Records the compacted index of a source.
    pub(super) fn note_source(&mut self, compacted_idx: u64) {
        self.of_sources = self.of_sources.max(compacted_idx);
    }

    /// Repeats requests and reports without an answer.
    pub(super) fn repeat(&mut self) {
        self.requests.repeat();
        self.applied.repeat();
    }

    /// Repeats requests and reports to one peer.
    pub(super) fn repeat_to(&mut self, pid: NodeId) {
        self.requests.repeat_to(pid);
        self.applied.repeat_to(pid);
    }

    /// Returns whether no message is due.
    #[inline]
    pub(super) fn is_silent(&self) -> bool {
        self.requests.is_silent() && self.applied.is_silent()
    }

    /// Builds the due messages.
    pub(super) fn build_messages(&mut self, mut send: impl FnMut(NodeId, CompactionAction)) {
        self.requests.build_messages(&mut send);
        self.applied.build_messages(|to, report| send(to, CompactionAction::Applied(report)));
    }
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Trims the entries before `idx` at all servers; `None`: the entries that all have accepted.
    pub(crate) fn trim(&mut self, idx: Option<u64>) -> Result<(), TryCompactionErr> {
        let State::Leading(_) = self.state else {
            return Err(CompactionErr::NotCurrentLeader(self.leader().unwrap_or(0)).into());
        };
        let accepted_by_all = self.accepted_by_all().unwrap_or(0);
        let idx = match idx.map(|idx| self.without_stopsign(idx)) {
            Some(idx) if idx > accepted_by_all => {
                return Err(CompactionErr::NotAllDecided(accepted_by_all).into());
            }
            Some(idx) => {
                self.log.trim(idx)?;
                idx
            }
            None => {
                // A snapshot may have compacted more here; the others still trim up to this index.
                let all = accepted_by_all.min(self.log.decided_before_stopsign());
                self.log.trim(all.max(self.log.compacted_idx()))?;
                all
            }
        };
        self.compaction.requests.ask_to_trim(self.members.co_members(), idx);
        self.announce_trim();
        Ok(())
    }

    /// Replaces the entries before `idx` by a snapshot, here and, unless `local_only`, at all
    /// servers; `None`: all decided entries.
    pub(crate) fn snapshot(
        &mut self,
        idx: Option<u64>,
        local_only: bool,
    ) -> Result<(), TryCompactionErr> {
        if !T::Snapshot::can_create() {
            return Err(TryCompactionErr::NotFromEntries);
        }
        let idx = self.without_stopsign(idx.unwrap_or(self.log.decided_idx()));
        self.log.take_snapshot(idx)?;
        if !local_only {
            self.compaction.requests.ask_for_snapshot(self.members.co_members(), idx);
        }
        Ok(())
    }

    /// Replaces the entries before `idx` by a snapshot of the application, at this server.
    pub(crate) fn compact_with(
        &mut self,
        idx: u64,
        snapshot: T::Snapshot,
    ) -> Result<(), TryCompactionErr> {
        let before_stopsign = self.without_stopsign(idx);
        // The state contains the stop sign. A snapshot stands for it once the next epoch has begun.
        if self.log.continues() && before_stopsign < idx {
            return Err(CompactionErr::UndecidedIndex(before_stopsign).into());
        }
        self.log.compact_with(before_stopsign, snapshot)
    }

    /// Excludes the stop sign: the decided index may count it, and it is never compacted.
    pub(super) fn without_stopsign(&self, idx: u64) -> u64 {
        if idx == self.log.decided_idx() {
            self.log.decided_before_stopsign()
        } else {
            idx
        }
    }

    /// Announces a trim to servers that may not know it: the server that asked them may be gone. A
    /// leader and a restarted server announce it to all, a follower to its leader.
    ///
    /// A trim that ends where the present epoch begins, or before, stays where it is: it may be that of this
    /// server alone, as an observer; and a server that has joined was not asked whether its application needs
    /// these entries.
    pub(super) fn announce_trim(&mut self) {
        let begin = self.log.present_epoch().map_or(0, |epoch| epoch.first_idx);
        if self.log.is_trimmed() && self.log.compacted_idx() > begin {
            let to = match &self.state {
                State::Following(_) => vec![self.log.promise().pid],
                State::Recovering
                | State::Promised { .. }
                | State::Preparing(_)
                | State::Leading(_) => self.members.co_members().to_vec(),
            };
            self.compaction.requests.ask_to_trim(&to, self.log.compacted_idx());
        }
    }

    /// Handles a request to compact the log, or an answer. A request for entries that are not
    /// decided here yet gets no answer, and is repeated.
    pub(super) fn handle_compaction(
        &mut self,
        action: CompactionAction,
        from: NodeId,
    ) -> Result<(), Halted> {
        let compacted_before = self.log.compacted_idx();
        let (idx, done) = match action {
            CompactionAction::Trim(idx) => (idx, self.log.trim(idx)),
            CompactionAction::Snapshot(idx) if T::Snapshot::use_snapshots() => {
                (idx, self.log.take_snapshot(idx))
            }
            CompactionAction::Snapshot(idx) => (idx, Ok(())),
            CompactionAction::Compacted(idx) => {
                self.compaction.requests.answer(from, idx);
                return Ok(());
            }
            CompactionAction::Applied(report) => return self.handle_applied(report, from),
        };
        if let Err(TryCompactionErr::Unstorable(cause)) = &done {
            self.trace.emit(|| {
                LogEvent::warn("does not compact, since the snapshot cannot be stored")
                    .because(cause)
            });
        }
        match done {
            Ok(())
            | Err(
                TryCompactionErr::Refused(CompactionErr::TrimmedIndex(_))
                | TryCompactionErr::Unstorable(_)
                | TryCompactionErr::NoSnapshots
                | TryCompactionErr::NotFromEntries,
            ) => {
                // A snapshot that cannot be made or stored is answered, too: a repetition is useless.
                self.outbox.report_compacted(from, idx);
                // The others learn it from the leader. The sender may have led before, and its own request is
                // answered now.
                let is_due = match &self.state {
                    State::Following(_) => self.log.promise().pid != from,
                    State::Preparing(_) | State::Leading(_) => true,
                    State::Recovering | State::Promised { .. } => false,
                };
                if self.log.compacted_idx() > compacted_before && is_due {
                    self.announce_trim();
                }
                Ok(())
            }
            Err(TryCompactionErr::Refused(
                CompactionErr::UndecidedIndex(_)
                | CompactionErr::NotAllDecided(_)
                | CompactionErr::NotCurrentLeader(_),
            )) => Ok(()),
            Err(TryCompactionErr::Halted(halted)) => Err(halted),
        }
    }

    /// Records that the application here has applied the entries before `idx`, and does not need
    /// them any more.
    pub(crate) fn record_applied(&mut self, idx: u64) -> Result<(), TryCompactionErr> {
        if idx > self.log.decided_idx() {
            return Err(CompactionErr::UndecidedIndex(self.log.decided_idx()).into());
        }
        self.compaction.applied.advance(self.without_stopsign(idx), self.members.co_members());
        Ok(self.give_up_applied()?)
    }

    /// Handles the report of a peer's applied index.
    pub(super) fn handle_applied(
        &mut self,
        report: AppliedReport,
        from: NodeId,
    ) -> Result<(), Halted> {
        self.compaction.applied.record(from, report);
        self.give_up_applied()
    }

    /// Trims the entries that all applications have applied. The leader asks the others to do the
    /// same, since a restarted one does not know.
    ///
    /// What a member has trimmed in its epoch, the members have agreed on. An observer has asked nobody. So in a
    /// log that continues it keeps what its sources have not compacted: it may hold the last copy for a member
    /// that was down. If its configuration names it, it may be a member of this epoch after a restart, and
    /// keeps all entries of this epoch.
    pub(super) fn give_up_applied(&mut self) -> Result<(), Halted> {
        let by_all = self.compaction.applied.by_all(self.members.co_members());
        let idx = match self.log.present_epoch().filter(|_| self.members.is_observer()) {
            Some(epoch) if self.members.contains(self.members.pid()) => {
                by_all.min(self.compaction.of_sources).min(epoch.first_idx)
            }
            Some(_) => by_all.min(self.compaction.of_sources),
            None => by_all,
        };
        if idx <= self.log.compacted_idx() {
            return Ok(());
        }
        match self.log.trim(idx) {
            Ok(()) => {
                if let State::Leading(_) = self.state {
                    self.compaction.requests.ask_to_trim(self.members.co_members(), idx);
                }
                Ok(())
            }
            Err(TryCompactionErr::Halted(halted)) => Err(halted),
            // An index up to the decided index here is not refused, and there is no snapshot that
            // the storage could refuse.
            Err(
                TryCompactionErr::Refused(_)
                | TryCompactionErr::Unstorable(_)
                | TryCompactionErr::NoSnapshots
                | TryCompactionErr::NotFromEntries,
            ) => Ok(()),
        }
    }

    /// Returns the applied index of the application here, as far as it has reported it.
    pub(crate) fn applied_idx(&self) -> u64 {
        self.compaction.applied.own_idx().max(self.log.compacted_idx())
    }

    /// Returns the applied index of the application at a peer, if it was reported.
    pub(crate) fn applied_idx_of(&self, pid: NodeId) -> Option<u64> {
        self.compaction.applied.of_peer(pid)
    }
}

#[cfg(test)]
mod tests;
