//! Compaction of the log, here and at the other servers.

use super::{state::State, SequencePaxos};
use crate::{
    errors::{CompactionErr, Halted, TryCompactionErr},
    ids::NodeId,
    messages::sequence_paxos::CompactionAction,
    storage::{Entry, Snapshot, Storage},
    trace::LogEvent,
};
use std::collections::BTreeSet;

/// What the others were asked to compact, until each has answered. Bounded: of each kind the
/// largest index only.
#[derive(Clone, Debug, Default)]
pub(super) struct CompactionRequests {
    trim: Option<Request>,
    snapshot: Option<Request>,
}

#[derive(Clone, Debug)]
struct Request {
    idx: u64,
    unanswered: BTreeSet<NodeId>,
    /// The peers to which it is to be said with the next output.
    due: BTreeSet<NodeId>,
}

impl Request {
    fn to(peers: &[NodeId], idx: u64) -> Option<Self> {
        let unanswered: BTreeSet<NodeId> = peers.iter().copied().collect();
        Some(Self { idx, due: unanswered.clone(), unanswered })
    }
}

impl CompactionRequests {
    fn all_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.trim.iter_mut().chain(&mut self.snapshot)
    }

    /// Asks `peers` to trim up to `idx`. A trim asked for earlier that goes further says it all.
    fn ask_to_trim(&mut self, peers: &[NodeId], idx: u64) {
        if self.trim.as_ref().is_none_or(|open| open.idx < idx) {
            self.trim = Request::to(peers, idx);
        }
    }

    /// Asks again whoever has not answered.
    pub(super) fn repeat(&mut self) {
        for request in self.all_mut() {
            request.due.clone_from(&request.unanswered);
        }
    }

    /// Asks one peer again, if it has not answered.
    pub(super) fn repeat_to(&mut self, pid: NodeId) {
        for request in self.all_mut() {
            if request.unanswered.contains(&pid) {
                request.due.insert(pid);
            }
        }
    }

    /// Whether nothing is due.
    #[inline]
    pub(super) fn is_silent(&self) -> bool {
        [&self.trim, &self.snapshot].into_iter().flatten().all(|request| request.due.is_empty())
    }

    /// Builds what is due.
    pub(super) fn build_messages(&mut self, mut send: impl FnMut(NodeId, CompactionAction)) {
        if let Some(Request { idx, due, .. }) = &mut self.trim {
            while let Some(to) = due.pop_first() {
                send(to, CompactionAction::Trim(*idx));
            }
        }
        if let Some(Request { idx, due, .. }) = &mut self.snapshot {
            while let Some(to) = due.pop_first() {
                send(to, CompactionAction::Snapshot(*idx));
            }
        }
    }

    /// `from` has nothing left to compact up to `idx`.
    fn answer(&mut self, from: NodeId, idx: u64) {
        for request in [&mut self.trim, &mut self.snapshot] {
            if let Some(open) = request {
                if open.idx <= idx {
                    open.unanswered.remove(&from);
                    open.due.remove(&from);
                }
                if open.unanswered.is_empty() {
                    *request = None;
                }
            }
        }
    }
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Trims the entries before `idx` at all servers; `None`: as many as all have accepted.
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
                // A snapshot may have compacted more here; the others still trim so much.
                let all = accepted_by_all.min(self.log.decided_idx()).min(self.log.end());
                self.log.trim(all.max(self.log.compacted_idx()))?;
                all
            }
        };
        self.compactions.ask_to_trim(&self.peers, idx);
        self.announce_trim();
        Ok(())
    }

    /// Replaces the entries before `idx` by a snapshot, here and, unless `local_only`, at all
    /// servers; `None`: all that is decided.
    pub(crate) fn snapshot(
        &mut self,
        idx: Option<u64>,
        local_only: bool,
    ) -> Result<(), TryCompactionErr> {
        let idx = self.without_stopsign(idx.unwrap_or(self.log.decided_idx()));
        self.log.take_snapshot(idx)?;
        if !local_only {
            self.compactions.snapshot = Request::to(&self.peers, idx);
        }
        Ok(())
    }

    /// The decided index may count a stop sign, which is never compacted.
    pub(super) fn without_stopsign(&self, idx: u64) -> u64 {
        if idx == self.log.decided_idx() {
            idx.min(self.log.end())
        } else {
            idx
        }
    }

    /// Lets the others know of a trim which some may not have heard of: the server that asked them
    /// may be gone. A leader and a restarted server tell all, a follower tells its leader.
    pub(super) fn announce_trim(&mut self) {
        if self.log.is_trimmed() {
            let to = match &self.state {
                State::Following(_) => vec![self.log.promise().pid],
                State::Recovering
                | State::Promised { .. }
                | State::Preparing(_)
                | State::Leading(_) => self.peers.clone(),
            };
            self.compactions.ask_to_trim(&to, self.log.compacted_idx());
        }
    }

    /// Another server asks to compact the log, or answers. What is not decided here yet is not
    /// answered, and asked again.
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
                self.compactions.answer(from, idx);
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
                | TryCompactionErr::Unstorable(_),
            ) => {
                // Also one that cannot be stored is answered: to ask again is no use.
                self.outbox.tell_compacted(from, idx);
                if self.log.compacted_idx() > compacted_before && self.followers_mut().is_some() {
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
}
