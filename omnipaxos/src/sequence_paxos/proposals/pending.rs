//! The pending proposals of this server.
//!
//! Each is forwarded to the present leader until its id is in the log of this server. It ends when
//! it is decided there, or when the configuration ends without it. If the log loses it because
//! another leader takes over, it is forwarded again. A leader appends no id twice.

use crate::{
    amount::Amount,
    ballot::Ballot,
    messages::sequence_paxos::{ProposalRejection, RejectionReason},
    proposals::{IdRun, Outcome, ProposalId},
    replica_log::{Ids, ReplicaLog},
    storage::{Entry, Storage},
};
use std::collections::{BTreeMap, VecDeque};

/// The largest number of heartbeat rounds between two forwards of a proposal.
const MOST_BACKOFF_ROUNDS: u32 = 4;

/// Proposals made here with an id, or that got one to be forwarded.
#[derive(Clone, Debug)]
pub(super) struct PendingProposals<T> {
    by_id: BTreeMap<ProposalId, Pending<T>>,
    /// The proposals in doubt. Each may be decided at its index or later, among entries whose ids
    /// are not known here.
    in_doubt_from: BTreeMap<ProposalId, u64>,
    amount: Amount,
    /// None of the proposals is decided before this index, except those in doubt.
    scanned_idx: u64,
    /// The number of reports of forgotten ids when these were last checked.
    looked_at: u64,
    /// Whether some ended in this heartbeat round, so that there may be room for others.
    is_progressing: bool,
    /// Number of proposals that have ended.
    ended: u64,
}

/// A pending proposal.
#[derive(Clone, Debug)]
struct Pending<T> {
    entry: T,
    bytes: u64,
    interest: Interest,
    /// The decided index of this server when it was kept: it is not among the entries before.
    kept_at: u64,
    /// The ballot in which it was forwarded first.
    first_ballot: Option<Ballot>,
    /// The ballot in which it was forwarded last.
    forwarded_in: Ballot,
    /// Whether it waits in the queue.
    is_queued: bool,
    /// Heartbeat rounds until the next forward.
    rounds: u32,
    backoff_rounds: u32,
}

/// Whether the user gets the outcome of a proposal.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    Outcome,
    None,
}

/// A proposal with the data of its forward.
#[derive(Clone, Debug)]
pub(super) struct IdentifiedProposal<T> {
    pub(super) id: ProposalId,
    pub(super) first_ballot: Ballot,
    pub(super) min_idx: u64,
    pub(super) entry: T,
    pub(super) bytes: u64,
}

impl<T> PendingProposals<T> {
    /// Creates an empty set, for a log with this decided index.
    pub(super) fn new(decided_idx: u64) -> Self {
        Self {
            by_id: BTreeMap::new(),
            in_doubt_from: BTreeMap::new(),
            amount: Amount::default(),
            scanned_idx: decided_idx,
            looked_at: 0,
            is_progressing: false,
            ended: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns the number of proposals that have ended.
    pub(super) fn ended(&self) -> u64 {
        self.ended
    }

    /// Returns the amount of pending proposals.
    pub(super) fn amount(&self) -> Amount {
        self.amount
    }

    /// Keeps a proposal, which waits in the queue, unless it is pending already.
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
        let pending = Pending {
            entry,
            bytes,
            interest,
            kept_at: decided_idx,
            first_ballot: None,
            forwarded_in: Ballot::default(),
            is_queued: true,
            rounds: 1,
            backoff_rounds: 1,
        };
        self.by_id.insert(id, pending);
    }

    fn remove(&mut self, id: ProposalId) -> Option<Pending<T>> {
        let pending = self.by_id.remove(&id)?;
        self.in_doubt_from.remove(&id);
        self.ended += 1;
        self.amount.subtract(Amount { entries: 1, bytes: pending.bytes });
        Some(pending)
    }

    /// Records that a proposal was forwarded in ballot `n`, to leaders of `first_ballot` or a later
    /// one.
    pub(super) fn was_forwarded(&mut self, id: ProposalId, first_ballot: Ballot, n: Ballot) {
        if let Some(pending) = self.by_id.get_mut(&id) {
            pending.is_queued = false;
            (pending.first_ballot, pending.forwarded_in) = (Some(first_ballot), n);
        }
    }

    /// Returns the index before which no log contains a pending proposal that is not in doubt.
    pub(super) fn min_idx(&self) -> u64 {
        self.scanned_idx
    }

    fn end(&mut self, id: ProposalId, outcome: Outcome, outcomes: &mut Outcomes) {
        if let Some(pending) = self.remove(id) {
            self.is_progressing = true;
            match pending.interest {
                Interest::Outcome => outcomes.push(id, outcome),
                Interest::None => {}
            }
        }
    }

    /// Handles a rejection. A proposal that is decided at the leader and not here yet ends when it
    /// is decided here, or is forwarded again then. The message may name any number of proposals,
    /// so only those that end, or are in doubt, are visited.
    pub(super) fn handle_rejection(
        &mut self,
        rejection: &ProposalRejection,
        decided_idx: u64,
        outcomes: &mut Outcomes,
    ) {
        let ProposalRejection { first, count, .. } = *rejection;
        match rejection.reason {
            RejectionReason::Refused(_) => {}
            RejectionReason::Decided(idx) => {
                let decided_here = decided_idx.saturating_sub(idx).min(count);
                let run = IdRun { idx, count: decided_here, first };
                self.end_decided(&run, outcomes);
            }
            RejectionReason::DecidedBefore(before) if before <= self.scanned_idx => {
                let decided = self.by_id.range(first..first.later(count)).map(|(id, _)| *id);
                for id in decided.collect::<Vec<_>>() {
                    self.end(id, Outcome::DecidedBefore(before), outcomes);
                }
            }
            RejectionReason::DecidedBefore(_) => {}
            RejectionReason::Unknown(known_from) => {
                let in_doubt = self.in_doubt_from.range(first..first.later(count));
                let unknown = in_doubt.filter(|(_, idx)| **idx < known_from).map(|(id, _)| *id);
                for id in unknown.collect::<Vec<_>>() {
                    self.end(id, Outcome::Unknown, outcomes);
                }
            }
        }
    }

    /// Ends the proposals of a run that is decided here. A run may be as long as the log, so
    /// pending proposals are searched in the run, not the reverse.
    fn end_decided(&mut self, run: &IdRun, outcomes: &mut Outcomes) {
        let first = run.first;
        let pending = self.by_id.range(first..first.later(run.count)).map(|(id, _)| *id);
        for id in pending.collect::<Vec<_>>() {
            let idx = run.idx + (id.number - first.number);
            self.end(id, Outcome::Decided(idx), outcomes);
        }
    }

    /// Returns the proposals in a rejection that have not ended.
    pub(super) fn among(&self, rejection: &ProposalRejection) -> Vec<ProposalId> {
        let last = rejection.first.later(rejection.count);
        self.by_id.range(rejection.first..last).map(|(id, _)| *id).collect()
    }

    /// Ends a proposal that cannot be stored. Returns the number of ended proposals without an
    /// outcome.
    pub(super) fn refuse(&mut self, id: ProposalId, cause: &str, outcomes: &mut Outcomes) -> u64 {
        match self.by_id.get(&id).map(|pending| pending.interest) {
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

    /// Ends a proposal, since the leader, which is this server, does not know whether it is in its
    /// log.
    pub(super) fn give_up(&mut self, id: ProposalId, outcomes: &mut Outcomes) {
        self.end(id, Outcome::Unknown, outcomes);
    }

    /// Ends a heartbeat round. Returns the proposals to forward again.
    pub(super) fn end_round(&mut self, has: impl Fn(ProposalId) -> bool) -> Vec<ProposalId> {
        let is_progressing = std::mem::take(&mut self.is_progressing);
        for pending in self.by_id.values_mut().filter(|pending| !pending.is_queued) {
            if is_progressing {
                (pending.rounds, pending.backoff_rounds) = (pending.rounds.min(1), 1);
            }
            pending.rounds = pending.rounds.saturating_sub(1);
        }
        self.overdue(has)
    }

    /// Returns the proposals to forward at once, after the leader of ballot `n` has taken over.
    pub(super) fn begin_ballot(
        &mut self,
        n: Ballot,
        has: impl Fn(ProposalId) -> bool,
    ) -> Vec<ProposalId> {
        for pending in self.by_id.values_mut().filter(|pending| pending.forwarded_in < n) {
            (pending.rounds, pending.backoff_rounds) = (0, 1);
        }
        self.overdue(has)
    }

    /// Begins the next epoch. This server forwards to its leaders what is not decided here. The ballot of
    /// the first forward proves to none of them that a proposal is absent from the epochs before.
    pub(super) fn begin_epoch(&mut self) {
        for pending in self.by_id.values_mut() {
            pending.first_ballot = pending.first_ballot.and(Some(Ballot::default()));
            pending.forwarded_in = Ballot::default();
        }
    }

    /// Returns whether a pending proposal is not in the log.
    pub(super) fn lacks_some(&self, has: impl Fn(ProposalId) -> bool) -> bool {
        self.by_id.keys().any(|id| !has(*id))
    }

    /// Returns all proposals to forward at once, without their backoff.
    pub(super) fn forward_all(&mut self, has: impl Fn(ProposalId) -> bool) -> Vec<ProposalId> {
        for pending in self.by_id.values_mut() {
            (pending.rounds, pending.backoff_rounds) = (0, 1);
        }
        self.overdue(has)
    }

    /// Returns the first proposals that are not in the log, as many as have room under `limit`, to forward
    /// at once. Their backoff continues.
    pub(super) fn forward_few(
        &mut self,
        limit: Amount,
        has: impl Fn(ProposalId) -> bool,
    ) -> Vec<ProposalId> {
        let mut few = Vec::new();
        let mut amount = Amount::default();
        for (id, pending) in self.by_id.iter_mut().filter(|(id, _)| !has(**id)) {
            if !amount.is_below(limit) {
                break;
            }
            amount.add(Amount { entries: 1, bytes: pending.bytes });
            if !std::mem::replace(&mut pending.is_queued, true) {
                few.push(*id);
            }
        }
        few
    }

    /// Returns the proposals that are not in the log and whose backoff has ended.
    fn overdue(&mut self, has: impl Fn(ProposalId) -> bool) -> Vec<ProposalId> {
        let mut overdue = Vec::new();
        for (id, pending) in &mut self.by_id {
            let is_due = !pending.is_queued && pending.rounds == 0;
            if !is_due || has(*id) {
                continue;
            }
            pending.is_queued = true;
            pending.backoff_rounds = (pending.backoff_rounds * 2).min(MOST_BACKOFF_ROUNDS);
            pending.rounds = pending.backoff_rounds;
            overdue.push(*id);
        }
        overdue
    }
}

impl<T> PendingProposals<T> {
    /// Records which forwarded proposals may be among entries that are decided now, of which this
    /// server knows the ids only from an index on.
    fn doubt(&mut self, known_from: impl Fn(ProposalId) -> u64) {
        for (id, pending) in self.by_id.iter().filter(|(_, pending)| pending.first_ballot.is_some())
        {
            let from = self.scanned_idx.max(pending.kept_at);
            if known_from(*id) > from {
                self.in_doubt_from.entry(*id).or_insert(from);
            }
        }
    }
}

impl<T: Entry> PendingProposals<T> {
    /// Removes a proposal from the queue, to be forwarded in ballot `n`. `None` if it has ended, or
    /// was found in the log.
    pub(super) fn leave_queue(
        &mut self,
        id: ProposalId,
        is_found: bool,
        n: Ballot,
    ) -> Option<IdentifiedProposal<T>> {
        let pending = self.by_id.get_mut(&id)?;
        (pending.is_queued, pending.forwarded_in) = (false, n);
        if is_found {
            return None;
        }
        Some(IdentifiedProposal {
            id,
            first_ballot: *pending.first_ballot.get_or_insert(n),
            min_idx: *self.in_doubt_from.get(&id).unwrap_or(&self.scanned_idx),
            entry: pending.entry.clone(),
            bytes: pending.bytes,
        })
    }

    /// Returns whether all decided entries were checked.
    pub(super) fn is_settled<B: Storage<T>>(&self, log: &ReplicaLog<T, B>) -> bool {
        let is_known = || self.looked_at == log.ids().told_forgotten();
        self.by_id.is_empty() || (self.scanned_idx == log.decided_idx() && is_known())
    }

    /// Ends the proposals that are decided.
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
            self.doubt(|id| ids.known_from(id));
        }
        let all = ids.all_in(scanned_idx, decided_idx);
        for run in all.filter(|run| run.first.origin == origin) {
            self.end_decided(&run, outcomes);
        }
        self.scanned_idx = decided_idx;
        self.end_forgotten(ids, outcomes);
        if log.has_ended() {
            while let Some((id, _)) = self.by_id.first_key_value() {
                let outcome = match self.in_doubt_from.contains_key(id) {
                    false => Outcome::NotDecided,
                    true => Outcome::Unknown,
                };
                self.end(*id, outcome, outcomes);
            }
        }
    }

    /// Ends the proposals that are decided and forgotten, once this server has decided all entries
    /// among which they are.
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

/// Outcomes, in the order in which they became known.
#[derive(Clone, Debug)]
pub(super) struct Outcomes {
    ended: VecDeque<(ProposalId, Outcome)>,
    /// The number of outcomes that are kept until the user takes them: as many as can end at once.
    most: u64,
}

impl Outcomes {
    /// Creates an empty list of at most `most` outcomes.
    pub(super) fn at_most(most: u64) -> Self {
        Self { ended: VecDeque::new(), most }
    }

    pub(super) fn push(&mut self, id: ProposalId, outcome: Outcome) {
        if self.ended.len() as u64 >= self.most {
            self.ended.pop_front();
        }
        self.ended.push_back((id, outcome));
    }

    /// Returns the oldest outcome.
    pub(super) fn pop(&mut self) -> Option<(ProposalId, Outcome)> {
        self.ended.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Ballot, Interest, Outcome, Outcomes, PendingProposals, ProposalId, ProposalRejection,
        RejectionReason,
    };
    use crate::identity::Stamp;

    fn id(number: u64) -> ProposalId {
        ProposalId { origin: 1, incarnation: 1, number }
    }

    fn n(n: u32) -> Ballot {
        Ballot { config_id: 1, n, priority: 0, pid: 2 }
    }

    /// Three proposals, of which the first two were forwarded in ballot 1.
    fn pending() -> PendingProposals<&'static str> {
        let mut pending = PendingProposals::new(5);
        for number in 0..3 {
            pending.keep(id(number), "entry", 10, Interest::Outcome, 7);
        }
        (0..2).for_each(|number| pending.was_forwarded(id(number), n(1), n(1)));
        pending
    }

    #[test]
    fn what_is_not_in_the_log_is_forwarded_less_and_less_often() {
        let mut pending = pending();
        let mut again = Vec::new();
        for round in 1..14 {
            let due = pending.end_round(|found| found == id(1));
            assert!(due.iter().all(|due| *due == id(0)), "in the log, or in the queue: {due:?}");
            if !due.is_empty() {
                again.push(round);
                due.iter().for_each(|id| pending.was_forwarded(*id, n(1), n(1)));
            }
        }
        assert_eq!(again, [1, 3, 7, 11]);
    }

    #[test]
    fn what_a_full_relay_dropped_is_forwarded_once_others_ended() {
        let (mut pending, mut outcomes) = (pending(), Outcomes::at_most(9));
        for round in 1..=3 {
            let due = pending.end_round(|_| false);
            due.iter().for_each(|id| pending.was_forwarded(*id, n(1), n(1)));
            assert_eq!(due.len(), if round == 2 { 0 } else { 2 }, "in round {round}");
        }
        pending.give_up(id(0), &mut outcomes);
        assert_eq!(pending.end_round(|_| false), [id(1)], "not only after four rounds");
    }

    #[test]
    fn another_leader_is_forwarded_what_is_missing_at_once() {
        let mut pending = pending();
        assert!(pending.begin_ballot(n(1), |_| false).is_empty(), "it has got them");
        assert_eq!(pending.begin_ballot(n(2), |_| false), [id(0), id(1)]);
        assert!(pending.begin_ballot(n(2), |_| false).is_empty(), "they are queued");
    }

    #[test]
    fn a_proposal_is_kept_once() {
        let mut pending = pending();
        pending.keep(id(0), "entry", 10, Interest::None, 7);
        assert_eq!((pending.amount().entries, pending.amount().bytes), (3, 30));
        assert_eq!(pending.min_idx(), 7);
    }

    #[test]
    fn a_rejection_ends_what_it_names() {
        let (mut pending, mut outcomes) = (pending(), Outcomes::at_most(9));
        let rejection = |number, reason| ProposalRejection {
            config_id: 1,
            first: id(number),
            count: 2,
            reason,
            hops: 0,
            stamp: Stamp::default(),
        };
        pending.handle_rejection(&rejection(0, RejectionReason::Unknown(99)), 9, &mut outcomes);
        assert_eq!(outcomes.pop(), None, "they are not in doubt here");
        pending.handle_rejection(&rejection(1, RejectionReason::Decided(4)), 4, &mut outcomes);
        assert_eq!(outcomes.pop(), None, "they are not decided here");
        for _copy in 0..2 {
            pending.handle_rejection(&rejection(1, RejectionReason::Decided(4)), 6, &mut outcomes);
        }
        assert_eq!(outcomes.pop(), Some((id(1), Outcome::Decided(4))));
        assert_eq!(outcomes.pop(), Some((id(2), Outcome::Decided(5))));
        assert_eq!(outcomes.pop(), None);
        pending.in_doubt_from.insert(id(0), 7);
        pending.handle_rejection(&rejection(0, RejectionReason::Unknown(7)), 9, &mut outcomes);
        assert_eq!(outcomes.pop(), None, "the leader knows all from 7 on");
        pending.handle_rejection(&rejection(0, RejectionReason::Unknown(8)), 9, &mut outcomes);
        assert_eq!(outcomes.pop(), Some((id(0), Outcome::Unknown)));
        assert!(pending.is_empty() && pending.amount().bytes == 0);
    }

    #[test]
    fn a_proposal_is_not_among_what_was_decided_before_it() {
        let mut pending = pending();
        pending.keep(id(3), "entry", 10, Interest::Outcome, 12);
        pending.was_forwarded(id(3), n(1), n(1));
        pending.doubt(|_| 12);
        let in_doubt: Vec<_> = pending.in_doubt_from.iter().map(|(id, idx)| (*id, *idx)).collect();
        assert_eq!(in_doubt, [(id(0), 7), (id(1), 7)]);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut outcomes = Outcomes::at_most(9);
        for number in 0..12 {
            let id = ProposalId { origin: 1, incarnation: 1, number };
            outcomes.push(id, Outcome::Decided(number));
        }
        assert_eq!(outcomes.ended.len(), 9);
        assert_eq!(outcomes.pop().map(|(_, outcome)| outcome), Some(Outcome::Decided(3)));
    }
}
