//! How proposals end that are followed.

use super::{ensure, violated, Check, Checker, Violation};
use crate::{describe, value::STOP_SIGN};
use omnipaxos::proposals::{Outcome, ProposalId};
use std::collections::{BTreeMap, BTreeSet};

/// What was proposed with an id.
#[derive(Debug, Default)]
pub(super) struct Followed {
    by_id: BTreeMap<ProposalId, Proposal>,
    /// The values that were reported as never decided.
    not_decided: BTreeSet<u64>,
    values: BTreeSet<u64>,
    /// By server and its incarnation, what was taken there without an id, and how much was decided there then.
    plain: BTreeMap<(usize, u64), Vec<(u64, u64)>>,
    /// The servers, in which incarnation, that took a stop sign without an id.
    plain_stop_signs: BTreeSet<(usize, u64)>,
}

#[derive(Debug)]
struct Proposal {
    server: usize,
    incarnation: u64,
    value: u64,
    /// How much its server had decided when it was proposed.
    decided: u64,
    outcome: Option<Outcome>,
}

impl Followed {
    /// Whether a value has an id, and must be decided once at most.
    pub(super) fn contains(&self, value: u64) -> bool {
        self.values.contains(&value)
    }

    /// Whether a value was reported as never decided.
    pub(super) fn is_ruled_out(&self, value: u64) -> bool {
        self.not_decided.contains(&value)
    }
}

impl Checker {
    /// A server, in one of its incarnations, has given a value an id.
    ///
    /// # Errors
    /// Another has it.
    pub fn follow(
        &mut self,
        server: usize,
        incarnation: u64,
        id: ProposalId,
        value: u64,
    ) -> Result<(), Violation> {
        let words = describe::proposal(id);
        let decided = self.shown[server].decided;
        let proposal = Proposal { server, incarnation, value, decided, outcome: None };
        self.followed.values.insert(value);
        self.history.begin_write(value);
        match self.followed.by_id.insert(id, proposal) {
            None => Ok(()),
            Some(other) => {
                violated(Check::Outcome, format!("{words} names {value} and {}", other.value))
            }
        }
    }

    /// A server, in one of its incarnations, has given the stop sign of a number an id.
    ///
    /// # Errors
    /// Another proposal has it.
    pub fn follow_stop_sign(
        &mut self,
        server: usize,
        incarnation: u64,
        id: ProposalId,
        number: u64,
    ) -> Result<(), Violation> {
        let words = describe::proposal(id);
        let (decided, value) = (self.shown[server].decided, STOP_SIGN | number);
        let proposal = Proposal { server, incarnation, value, decided, outcome: None };
        match self.followed.by_id.insert(id, proposal) {
            None => Ok(()),
            Some(other) => violated(
                Check::Outcome,
                format!("{words} names the stop sign {number} and {}", other.value),
            ),
        }
    }

    /// A server reports how a proposal ended: once, in the incarnation in which it was proposed, and
    /// true.
    ///
    /// # Errors
    /// What does not hold.
    pub fn ended(
        &mut self,
        server: usize,
        incarnation: u64,
        id: ProposalId,
        outcome: Outcome,
    ) -> Result<(), Violation> {
        let words = describe::proposal(id);
        let Some(proposal) = self.followed.by_id.get_mut(&id) else {
            return violated(Check::Outcome, format!("{words} was never proposed: {outcome:?}"));
        };
        let reported_to = (proposal.server, proposal.incarnation);
        let who = self.pids[server];
        ensure!(
            reported_to == (server, incarnation) && proposal.outcome.is_none(),
            Check::Outcome,
            "server {who}, incarnation {incarnation}, tells {outcome:?} of {proposal:?}"
        );
        proposal.outcome = Some(outcome.clone());
        let (value, decided_then) = (proposal.value, proposal.decided);
        let is_stop_sign = value & STOP_SIGN != 0;
        match outcome {
            Outcome::Decided(idx) => {
                let decided = self.log.id_at(idx);
                ensure!(
                    decided == Some(value),
                    Check::Outcome,
                    "server {who} tells that {value} is decided at {idx}, where {decided:?} is"
                );
                if !is_stop_sign {
                    self.history.end_write(value);
                }
            }
            Outcome::DecidedBefore(idx) => {
                let first = self.log.first_idx(value);
                ensure!(
                    first.is_some_and(|first| first < idx),
                    Check::Outcome,
                    "server {who} tells that {value} is decided before {idx}, and it is at {first:?}"
                );
                ensure!(
                    self.forgets_indices() && !is_stop_sign,
                    Check::Outcome,
                    "server {who} does not know where {value} is decided, and nobody forgets so much"
                );
                self.history.end_write(value);
            }
            Outcome::NotDecided | Outcome::Refused(_) => {
                self.followed.not_decided.insert(value);
                if !is_stop_sign {
                    self.history.withdraw_write(value);
                }
                ensure!(
                    !self.log.contains(value),
                    Check::Outcome,
                    "server {who} tells that {value} is never decided, and it is"
                );
            }
            other => ensure!(
                other == Outcome::Unknown
                    && self.may_not_know_from(decided_then)
                    && !is_stop_sign,
                Check::Outcome,
                "server {who} returns {other:?} for {value}, and nobody was restarted with more than the \
                 {decided_then} entries that were decided there before"
            ),
        }
        Ok(())
    }

    /// A server has taken a value without an id.
    pub fn took(&mut self, server: usize, incarnation: u64, value: u64) {
        let decided = self.shown[server].decided;
        self.followed.plain.entry((server, incarnation)).or_default().push((value, decided));
    }

    /// A server has taken a stop sign without an id.
    pub fn took_stop_sign(&mut self, server: usize, incarnation: u64) {
        self.followed.plain_stop_signs.insert((server, incarnation));
    }

    /// Whether an incarnation of a server took a stop sign, and none is decided.
    pub fn lost_stop_sign(&self, server: usize, incarnation: u64) -> bool {
        !self.is_stopped() && self.followed.plain_stop_signs.contains(&(server, incarnation))
    }

    /// A server has lost leadership. What it took without an id while it led, and before, and what is
    /// not decided, is dropped, as documented, unless a setting keeps it.
    pub fn may_drop(&mut self, server: usize, incarnation: u64) {
        self.followed.plain.remove(&(server, incarnation));
    }

    /// Whether an incarnation of a server took a stop sign that may yet be decided.
    pub fn awaits_stop_sign(&self, server: usize, incarnation: u64) -> bool {
        let is_open = |value: &u64| value & STOP_SIGN != 0;
        self.lost_stop_sign(server, incarnation)
            || self.open_proposals(server, incarnation).iter().any(is_open)
    }

    /// The values that an incarnation of a server took without an id and that are not decided. Where all
    /// know their ids there must be none, unless a stop sign is decided.
    pub fn lost(&self, server: usize, incarnation: u64) -> Vec<u64> {
        if self.is_stopped() {
            return Vec::new();
        }
        let taken = self.followed.plain.get(&(server, incarnation)).into_iter().flatten();
        let known = taken.filter(|(_, decided)| !self.may_not_know_from(*decided));
        known.map(|(value, _)| *value).filter(|value| !self.log.contains(*value)).collect()
    }

    /// Whether some server may not know whether a proposal is in its log from an index on: it was restarted
    /// with a longer log. What loses its index meanwhile is known to be decided.
    fn may_not_know_from(&self, idx: u64) -> bool {
        self.restarted_with.iter().any(|len| *len > idx)
    }

    /// Whether some server may have forgotten an index.
    fn forgets_indices(&self) -> bool {
        let longest = self.shown.iter().map(|indices| indices.accepted).max().unwrap_or_default();
        self.limits.iter().any(|limits| limits.forgets_ids(longest))
    }

    /// The proposals of an incarnation of a server that have not ended.
    pub fn open_proposals(&self, server: usize, incarnation: u64) -> Vec<u64> {
        let of_incarnation = |p: &&Proposal| {
            (p.server, p.incarnation) == (server, incarnation) && p.outcome.is_none()
        };
        self.followed.by_id.values().filter(of_incarnation).map(|proposal| proposal.value).collect()
    }
}
