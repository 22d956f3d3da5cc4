//! The proposals of this server, until they are seen to be decided.
//!
//! Each is kept here and offered, to whoever leads, until its id is in the own log. It ends when
//! it is decided there, or when the configuration ends without it. What the log lost when another
//! leader took over is offered anew; a leader takes no id twice.

use super::Outcomes;
use crate::{
    amount::Amount,
    ballot::Ballot,
    messages::sequence_paxos::{Verdict, VerdictReason},
    proposals::{IdRun, Outcome, ProposalId},
    replica_log::{Ids, ReplicaLog},
    storage::{Entry, Storage},
};
use std::collections::BTreeMap;

/// The most heartbeat rounds between two offers of a proposal.
const MOST_PATIENCE: u32 = 4;

/// What was proposed here with an id, or was given one to be forwarded.
#[derive(Clone, Debug)]
pub(super) struct Tracked<T> {
    by_id: BTreeMap<ProposalId, Kept<T>>,
    /// Those of them that are in doubt: each may be decided at this index or later, where ids are
    /// not known here.
    in_doubt_from: BTreeMap<ProposalId, u64>,
    amount: Amount,
    /// None of them is decided before this index, but for those that are in doubt.
    scanned_idx: u64,
    /// How often another server had told what it has forgotten when that was looked at last.
    looked_at: u64,
    /// Whether some were decided in this heartbeat round, so that there may be room for others.
    is_progressing: bool,
}

/// A proposal that is kept.
#[derive(Clone, Debug)]
struct Kept<T> {
    entry: T,
    bytes: u64,
    interest: Interest,
    /// The ballot in which it was offered first.
    since: Option<Ballot>,
    /// The ballot in which it was offered last.
    offered_in: Ballot,
    /// Whether it waits in the queue of proposals.
    is_queued: bool,
    /// Heartbeat rounds until it is offered again.
    rounds: u32,
    patience: u32,
}

/// Whether the user wants to know how a proposal ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    Outcome,
    None,
}

/// A proposal as it is offered.
#[derive(Clone, Debug)]
pub(super) struct Claim<T> {
    pub(super) id: ProposalId,
    pub(super) since: Ballot,
    pub(super) not_before: u64,
    pub(super) entry: T,
    pub(super) bytes: u64,
}

impl<T> Tracked<T> {
    /// Nothing is tracked, in a log that is decided up to `decided_idx`.
    pub(super) fn new(decided_idx: u64) -> Self {
        Self {
            by_id: BTreeMap::new(),
            in_doubt_from: BTreeMap::new(),
            amount: Amount::default(),
            scanned_idx: decided_idx,
            looked_at: 0,
            is_progressing: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How much is kept.
    pub(super) fn amount(&self) -> Amount {
        self.amount
    }

    /// Keeps a proposal, which waits in the queue, unless it is kept already.
    pub(super) fn keep(
        &mut self,
        id: ProposalId,
        entry: T,
        bytes: u64,
        interest: Interest,
        decided_idx: u64,
    ) {
        if self.by_id.is_empty() {
            self.scanned_idx = decided_idx;
        }
        if self.by_id.contains_key(&id) {
            return;
        }
        self.amount.add(Amount { entries: 1, bytes });
        let kept = Kept {
            entry,
            bytes,
            interest,
            since: None,
            offered_in: Ballot::default(),
            is_queued: true,
            rounds: 1,
            patience: 1,
        };
        self.by_id.insert(id, kept);
    }

    fn remove(&mut self, id: ProposalId) -> Option<Kept<T>> {
        let kept = self.by_id.remove(&id)?;
        self.in_doubt_from.remove(&id);
        self.amount.subtract(Amount { entries: 1, bytes: kept.bytes });
        Some(kept)
    }

    /// It was offered in ballot `n`, to leaders of ballot `since` or later.
    pub(super) fn was_offered(&mut self, id: ProposalId, since: Ballot, n: Ballot) {
        if let Some(kept) = self.by_id.get_mut(&id) {
            kept.is_queued = false;
            (kept.since, kept.offered_in) = (Some(since), n);
        }
    }

    /// What is kept now and not in doubt is in no log before this index.
    pub(super) fn not_before(&self) -> u64 {
        self.scanned_idx
    }

    fn end(&mut self, id: ProposalId, outcome: Outcome, outcomes: &mut Outcomes) {
        if let Some(kept) = self.remove(id) {
            match kept.interest {
                Interest::Outcome => outcomes.push(id, outcome),
                Interest::None => {}
            }
        }
    }

    /// A leader says why proposals are not taken. One that is decided there and not here yet ends
    /// when it is, or is offered again then. Looks only at what ends, or is in doubt: the message
    /// names as many proposals as it likes.
    pub(super) fn handle_verdict(
        &mut self,
        verdict: &Verdict,
        decided_idx: u64,
        outcomes: &mut Outcomes,
    ) {
        let Verdict { first, count, .. } = *verdict;
        match verdict.reason {
            VerdictReason::Refused(_) => {}
            VerdictReason::Decided(idx) => {
                let decided_here = decided_idx.saturating_sub(idx).min(count);
                let run = IdRun { idx, count: decided_here, first };
                self.end_decided(&run, outcomes);
            }
            VerdictReason::DecidedBefore(before) if before <= self.scanned_idx => {
                let decided = self.by_id.range(first..first.later(count)).map(|(id, _)| *id);
                for id in decided.collect::<Vec<_>>() {
                    self.end(id, Outcome::DecidedBefore(before), outcomes);
                }
            }
            VerdictReason::DecidedBefore(_) => {}
            VerdictReason::Unknown(known_from) => {
                let in_doubt = self.in_doubt_from.range(first..first.later(count));
                let unknown = in_doubt.filter(|(_, idx)| **idx < known_from).map(|(id, _)| *id);
                for id in unknown.collect::<Vec<_>>() {
                    self.end(id, Outcome::Unknown, outcomes);
                }
            }
        }
    }

    /// A run of the log is decided here. It may be as long as the log: what is kept is looked for in
    /// it, and not the other way round.
    fn end_decided(&mut self, run: &IdRun, outcomes: &mut Outcomes) {
        let first = run.first;
        let kept = self.by_id.range(first..first.later(run.count)).map(|(id, _)| *id);
        for id in kept.collect::<Vec<_>>() {
            let idx = run.idx + (id.number - first.number);
            self.end(id, Outcome::Decided(idx), outcomes);
        }
    }

    /// The proposals that a verdict is of, and that have not ended.
    pub(super) fn among(&self, verdict: &Verdict) -> Vec<ProposalId> {
        let last = verdict.first.later(verdict.count);
        self.by_id.range(verdict.first..last).map(|(id, _)| *id).collect()
    }

    /// Whether a proposal was offered in a ballot above `n`.
    pub(super) fn is_offered_since(&self, id: ProposalId, n: Ballot) -> bool {
        self.by_id.get(&id).is_some_and(|kept| kept.offered_in > n)
    }

    /// A proposal ends since it cannot be stored. Returns how many ended of which nobody is told.
    pub(super) fn refuse(&mut self, id: ProposalId, cause: &str, outcomes: &mut Outcomes) -> u64 {
        match self.by_id.get(&id).map(|kept| kept.interest) {
            Some(Interest::Outcome) => {
                self.end(id, Outcome::Refused(cause.to_string()), outcomes);
                0
            }
            Some(Interest::None) => {
                self.remove(id);
                1
            }
            None => 0,
        }
    }

    /// The leader, which is this server, cannot tell whether the proposal is in its log.
    pub(super) fn give_up(&mut self, id: ProposalId, outcomes: &mut Outcomes) {
        self.end(id, Outcome::Unknown, outcomes);
    }

    /// A heartbeat round has ended: returns what is to be offered again.
    pub(super) fn end_round(&mut self, has: impl Fn(ProposalId) -> bool) -> Vec<ProposalId> {
        let is_progressing = std::mem::take(&mut self.is_progressing);
        for kept in self.by_id.values_mut().filter(|kept| !kept.is_queued) {
            if is_progressing {
                (kept.rounds, kept.patience) = (kept.rounds.min(1), 1);
            }
            kept.rounds = kept.rounds.saturating_sub(1);
        }
        self.overdue(has)
    }

    /// The leader of ballot `n` takes over: returns what is to be offered to it at once.
    pub(super) fn begin_anew(
        &mut self,
        n: Ballot,
        has: impl Fn(ProposalId) -> bool,
    ) -> Vec<ProposalId> {
        for kept in self.by_id.values_mut().filter(|kept| kept.offered_in < n) {
            (kept.rounds, kept.patience) = (0, 1);
        }
        self.overdue(has)
    }

    /// Whether something that is kept is not in the log.
    pub(super) fn lacks_some(&self, has: impl Fn(ProposalId) -> bool) -> bool {
        self.by_id.keys().any(|id| !has(*id))
    }

    /// Returns all that is to be offered and does not wait for it.
    pub(super) fn offer_all(&mut self, has: impl Fn(ProposalId) -> bool) -> Vec<ProposalId> {
        for kept in self.by_id.values_mut() {
            (kept.rounds, kept.patience) = (0, 1);
        }
        self.overdue(has)
    }

    /// What is not in the log and was not offered for a while.
    fn overdue(&mut self, has: impl Fn(ProposalId) -> bool) -> Vec<ProposalId> {
        let mut overdue = Vec::new();
        for (id, kept) in &mut self.by_id {
            let is_due = !kept.is_queued && kept.rounds == 0;
            if !is_due || has(*id) {
                continue;
            }
            kept.is_queued = true;
            kept.patience = (kept.patience * 2).min(MOST_PATIENCE);
            kept.rounds = kept.patience;
            overdue.push(*id);
        }
        overdue
    }
}

impl<T: Entry> Tracked<T> {
    /// A proposal leaves the queue, to be offered in ballot `n`. `None` if it has ended, or was
    /// found in the log.
    pub(super) fn claim(&mut self, id: ProposalId, is_found: bool, n: Ballot) -> Option<Claim<T>> {
        let kept = self.by_id.get_mut(&id)?;
        (kept.is_queued, kept.offered_in) = (false, n);
        if is_found {
            return None;
        }
        Some(Claim {
            id,
            since: *kept.since.get_or_insert(n),
            not_before: *self.in_doubt_from.get(&id).unwrap_or(&self.scanned_idx),
            entry: kept.entry.clone(),
            bytes: kept.bytes,
        })
    }

    /// Whether all that is decided was looked at.
    pub(super) fn is_settled<B: Storage<T>>(&self, log: &ReplicaLog<T, B>) -> bool {
        let is_known = || self.looked_at == log.ids().told_forgotten();
        self.by_id.is_empty() || (self.scanned_idx == log.decided_idx() && is_known())
    }

    /// Ends what is decided.
    pub(super) fn settle<B: Storage<T>>(
        &mut self,
        log: &ReplicaLog<T, B>,
        outcomes: &mut Outcomes,
    ) {
        let (scanned_idx, decided_idx) = (self.scanned_idx, log.decided_idx());
        if self.is_settled(log) {
            return;
        }
        let Some(origin) = self.by_id.keys().next().map(|id| id.origin) else {
            return;
        };
        let ids = log.ids();
        if ids.all_known_from(origin) > scanned_idx {
            for (id, _) in self.by_id.iter().filter(|(_, kept)| kept.since.is_some()) {
                if ids.known_from(*id) > scanned_idx {
                    self.in_doubt_from.entry(*id).or_insert(scanned_idx);
                }
            }
        }
        let all = ids.all_in(scanned_idx, decided_idx.min(log.end()));
        for run in all.filter(|run| run.first.origin == origin) {
            self.end_decided(&run, outcomes);
            self.is_progressing = true;
        }
        self.scanned_idx = decided_idx;
        self.end_forgotten(ids, outcomes);
        if log.decided_stopsign().is_some() {
            while let Some((id, _)) = self.by_id.first_key_value() {
                let outcome = match self.in_doubt_from.contains_key(id) {
                    false => Outcome::NotDecided,
                    true => Outcome::Unknown,
                };
                self.end(*id, outcome, outcomes);
            }
        }
    }

    /// Ends what is decided and forgotten, once all is decided here among which it is.
    fn end_forgotten(&mut self, ids: &Ids, outcomes: &mut Outcomes) {
        let before = ids.forgotten_before();
        if self.looked_at == ids.told_forgotten() || before > self.scanned_idx {
            return;
        }
        self.looked_at = ids.told_forgotten();
        let forgotten = self.by_id.keys().copied().filter(|id| ids.is_forgotten(*id));
        for id in forgotten.collect::<Vec<_>>() {
            self.end(id, Outcome::DecidedBefore(before), outcomes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ballot, Interest, Outcome, Outcomes, ProposalId, Tracked, Verdict, VerdictReason};
    use crate::identity::Stamp;

    fn id(number: u64) -> ProposalId {
        ProposalId { origin: 1, incarnation: 1, number }
    }

    fn n(n: u32) -> Ballot {
        Ballot { config_id: 1, n, priority: 0, pid: 2 }
    }

    /// Three proposals, of which the first two were offered in ballot 1.
    fn tracked() -> Tracked<&'static str> {
        let mut tracked = Tracked::new(5);
        for number in 0..3 {
            tracked.keep(id(number), "entry", 10, Interest::Outcome, 7);
        }
        (0..2).for_each(|number| tracked.was_offered(id(number), n(1), n(1)));
        tracked
    }

    #[test]
    fn what_is_not_in_the_log_is_offered_less_and_less_often() {
        let mut tracked = tracked();
        let mut again = Vec::new();
        for round in 1..14 {
            let due = tracked.end_round(|found| found == id(1));
            assert!(due.iter().all(|due| *due == id(0)), "in the log, or in the queue: {due:?}");
            if !due.is_empty() {
                again.push(round);
                due.iter().for_each(|id| tracked.was_offered(*id, n(1), n(1)));
            }
        }
        assert_eq!(again, [1, 3, 7, 11]);
    }

    #[test]
    fn another_leader_is_offered_what_is_missing_at_once() {
        let mut tracked = tracked();
        assert!(tracked.begin_anew(n(1), |_| false).is_empty(), "it has got them");
        assert_eq!(tracked.begin_anew(n(2), |_| false), [id(0), id(1)]);
        assert!(tracked.begin_anew(n(2), |_| false).is_empty(), "they are queued");
    }

    #[test]
    fn a_proposal_is_kept_once() {
        let mut tracked = tracked();
        tracked.keep(id(0), "entry", 10, Interest::None, 7);
        assert_eq!((tracked.amount().entries, tracked.amount().bytes), (3, 30));
        assert_eq!(tracked.not_before(), 7);
    }

    #[test]
    fn a_verdict_ends_what_it_names() {
        let (mut tracked, mut outcomes) = (tracked(), Outcomes::at_most(9));
        let verdict = |number, reason| Verdict {
            config_id: 1,
            first: id(number),
            count: 2,
            reason,
            stamp: Stamp::default(),
        };
        tracked.handle_verdict(&verdict(0, VerdictReason::Unknown(99)), 9, &mut outcomes);
        assert_eq!(outcomes.pop(), None, "they are not in doubt here");
        tracked.handle_verdict(&verdict(1, VerdictReason::Decided(4)), 4, &mut outcomes);
        assert_eq!(outcomes.pop(), None, "they are not decided here");
        for _copy in 0..2 {
            tracked.handle_verdict(&verdict(1, VerdictReason::Decided(4)), 6, &mut outcomes);
        }
        assert_eq!(outcomes.pop(), Some((id(1), Outcome::Decided(4))));
        assert_eq!(outcomes.pop(), Some((id(2), Outcome::Decided(5))));
        assert_eq!(outcomes.pop(), None);
        tracked.in_doubt_from.insert(id(0), 7);
        tracked.handle_verdict(&verdict(0, VerdictReason::Unknown(7)), 9, &mut outcomes);
        assert_eq!(outcomes.pop(), None, "the leader knows all from 7 on");
        tracked.handle_verdict(&verdict(0, VerdictReason::Unknown(8)), 9, &mut outcomes);
        assert_eq!(outcomes.pop(), Some((id(0), Outcome::Unknown)));
        assert!(tracked.is_empty() && tracked.amount().bytes == 0);
    }
}
