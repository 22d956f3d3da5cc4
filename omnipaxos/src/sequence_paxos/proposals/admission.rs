//! Which entries and stop signs may get into the log.
//!
//! An entry that some storage cannot hold, or not give back, would halt every server that gets it,
//! one leader after the other. So it is checked before it is taken: at the server where it is
//! proposed, and by the leader if another server forwards it. What the leader has taken is checked
//! nowhere else. The limits of the storages travel with the heartbeats, and the smallest counts.

use super::pending::IdentifiedProposal;
use crate::{
    ballot::Ballot,
    config::ServerConfig,
    ids::NodeId,
    messages::sequence_paxos::{ProposalRejection, Refusal, RejectionReason},
    observe::trace::LogEvent,
    sequence_paxos::{state::State, SequencePaxos},
    storage::{Entry, StopSign, Storage},
};
use std::collections::BTreeMap;

/// The limits that an entry must keep.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    /// The largest size hint.
    largest_hint: usize,
    /// The limit of the own storage.
    own: u64,
    /// The limits of the storages of the peers, as each reported last.
    reported: BTreeMap<NodeId, u64>,
    /// The smallest of these, and of the own.
    limit: u64,
    /// Whether that has ever become smaller: what was checked before may not keep it.
    has_fallen: bool,
    /// Number of entries given up without anybody to give them back to.
    refused: u64,
    /// The numbers of entries without an id that leaders have refused: such an answer may come twice. From
    /// each on, so many.
    refused_numbers: BTreeMap<u64, u64>,
}

/// So many ranges of numbers that were refused are remembered.
const MOST_REFUSED_NUMBERS: usize = 1024;

impl Admission {
    /// Nothing is known of the peers.
    pub(super) fn new(config: &ServerConfig, own: u64) -> Self {
        Self {
            largest_hint: config.max_entry_bytes.unwrap_or(usize::MAX),
            own,
            reported: BTreeMap::new(),
            limit: own,
            has_fallen: false,
            refused: 0,
            refused_numbers: BTreeMap::new(),
        }
    }

    /// A peer reports the limit of its storage.
    fn report(&mut self, from: NodeId, limit: u64) {
        if self.reported.insert(from, limit) == Some(limit) {
            return;
        }
        let before = self.limit;
        self.limit = self.reported.values().copied().fold(self.own, u64::min);
        self.has_fallen |= self.limit < before;
    }

    /// A leader refuses so many numbers. Returns how many of them it did not refuse before.
    fn refuse_numbers(&mut self, first: u64, count: u64) -> u64 {
        if self.refused_numbers.len() >= MOST_REFUSED_NUMBERS {
            self.refused_numbers.clear();
        }
        let end = first.saturating_add(count);
        let (mut union, mut known) = ((first, end), 0);
        while let Some((number, count)) = self.refused_numbers.range(..end).next_back() {
            let (number, other_end) = (*number, number.saturating_add(*count));
            if other_end <= first {
                break;
            }
            self.refused_numbers.remove(&number);
            known += other_end.min(end) - number.max(first);
            union = (union.0.min(number), union.1.max(other_end));
        }
        if first < end {
            self.refused_numbers.insert(union.0, union.1 - union.0);
        }
        end - first - known
    }

    #[inline]
    fn check_hint(&self, what: &str, bytes: usize) -> Result<(), String> {
        match bytes <= self.largest_hint {
            true => Ok(()),
            false => Err(self.exceeded(what, bytes)),
        }
    }

    #[cold]
    fn exceeded(&self, what: &str, bytes: usize) -> String {
        let limit = self.largest_hint;
        format!("{what} of about {bytes} bytes exceeds max_entry_bytes, which is {limit}")
    }
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// A peer reports the largest entry that its storage holds.
    pub(crate) fn handle_max_entry_bytes(&mut self, from: NodeId, limit: u64) {
        self.proposals.admission.report(from, limit);
    }

    /// The largest entry that the own storage holds.
    pub(crate) fn own_max_entry_bytes(&self) -> u64 {
        self.proposals.admission.own
    }

    /// Whether an entry may get into the log; the error says why not.
    #[inline]
    pub(super) fn check_entry(&self, entry: &T, bytes: u64) -> Result<(), String> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.proposals.admission.check_hint("an entry", bytes)?;
        self.log.check_entry(entry, self.proposals.admission.limit)
    }

    /// As [`check_entry`](Self::check_entry), an entry that passed it when it was proposed here.
    #[inline]
    fn check_again(&self, entry: &T, bytes: u64) -> Result<(), String> {
        match self.proposals.admission.has_fallen {
            true => self.check_entry(entry, bytes),
            false => Ok(()),
        }
    }

    /// Whether a stop sign may get into the log.
    pub(in crate::sequence_paxos) fn check_stopsign(
        &self,
        stopsign: &StopSign,
    ) -> Result<(), String> {
        let bytes = stopsign.metadata.as_ref().map_or(0, Vec::len);
        self.proposals.admission.check_hint("metadata", bytes)?;
        self.log.check_stopsign(stopsign, self.proposals.admission.limit)
    }

    /// Takes an own entry without an id into the log.
    pub(super) fn take_plain(&mut self, entry: T) {
        let bytes = entry.size_hint() as u64;
        match self.check_again(&entry, bytes) {
            Ok(()) => self.log.append(entry, bytes),
            Err(cause) => self.drop_unstorable(1, &cause),
        }
    }

    /// Takes an own proposal with an id into the log, which does not have it. If it cannot be stored
    /// and another leader may have taken it, that is found out later.
    pub(super) fn take_own_proposal(&mut self, proposal: IdentifiedProposal<T>) {
        match self.check_again(&proposal.entry, proposal.bytes) {
            Ok(()) => self.log.append_proposal(proposal.entry, proposal.bytes, proposal.id),
            Err(cause) if self.is_nowhere_else(proposal.first_ballot) => {
                let lost = self.proposals.pending.refuse(
                    proposal.id,
                    &cause,
                    &mut self.proposals.outcomes,
                );
                self.drop_unstorable(lost, &cause);
            }
            Err(_) => {}
        }
    }

    /// Takes a proposal that a server forwards into the log, which does not have it. If it cannot
    /// be stored, its origin is told, once it is certain that no earlier leader has it decided:
    /// until then the origin forwards it again.
    pub(super) fn take_peer_proposal(&mut self, proposal: IdentifiedProposal<T>, via: NodeId) {
        match self.check_entry(&proposal.entry, proposal.bytes) {
            Ok(()) => self.log.append_proposal(proposal.entry, proposal.bytes, proposal.id),
            Err(cause) if self.is_nowhere_else(proposal.first_ballot) => {
                self.trace.emit(|| {
                    let event = LogEvent::warn("refuses a proposal that cannot be stored");
                    event.with_peer(proposal.id.origin).because(&cause)
                });
                let n = self.log.promise();
                self.send_rejection(
                    via,
                    proposal.id,
                    RejectionReason::Refused(Box::new(Refusal { n, cause })),
                );
            }
            Err(_) => {}
        }
    }

    /// Whether a proposal that is not in the log of this leader cannot be decided by an earlier
    /// one: it was forwarded first in this ballot, or a write quorum has accepted this log, so that
    /// every later leader adopts a log that goes on from it.
    pub(in crate::sequence_paxos) fn is_nowhere_else(&self, first_ballot: Ballot) -> bool {
        let State::Leading(leading) = &self.state else {
            return false;
        };
        let accepted = leading.followers.in_step() + 1;
        first_ballot == self.log.promise()
            || (self.log.is_accepted_round_stored() && self.members.quorum().can_accept(accepted))
    }

    /// A leader has refused proposals of this server. Entries without an outcome are given up. If a
    /// later leader is known here, it may have taken them meanwhile, and is forwarded them.
    pub(super) fn handle_refusal(&mut self, rejection: &ProposalRejection, refusal: &Refusal) {
        let Refusal { n, cause } = refusal;
        if self.log.promise().max(self.elected) > *n {
            return;
        }
        if self.is_reconfiguration(rejection.first) {
            return self.handle_refused_stopsign(rejection.first, cause);
        }
        if self.incarnation.is_none() {
            // Nothing is pending.
            let news =
                self.proposals.admission.refuse_numbers(rejection.first.number, rejection.count);
            return self.drop_unstorable(news, cause);
        }
        let mut lost = 0;
        for id in self.proposals.pending.among(rejection) {
            if !self.log.has(id) && !self.proposals.pending.is_forwarded_since(id, *n) {
                lost += self.proposals.pending.refuse(id, cause, &mut self.proposals.outcomes);
            }
        }
        self.drop_unstorable(lost, cause);
    }

    /// Gives up entries that cannot be stored, and that nobody asks for.
    pub(crate) fn drop_unstorable(&mut self, entries: u64, cause: &str) {
        if entries > 0 {
            self.proposals.admission.refused =
                self.proposals.admission.refused.saturating_add(entries);
            self.trace.emit(|| {
                LogEvent::warn("drops an appended entry that cannot be stored").because(cause)
            });
        }
    }

    /// Drops the stop sign of [`reconfigure`](crate::OmniPaxos::reconfigure), which a leader refused.
    pub(crate) fn drop_unstorable_stopsign(&mut self, cause: &str) {
        let refused = &mut self.proposals.admission.refused;
        *refused = refused.saturating_add(1);
        self.trace
            .emit(|| LogEvent::warn("drops a stop sign that cannot be stored").because(cause));
    }

    /// Number of entries and stop signs given up since they cannot be stored.
    pub(crate) fn dropped_unstorable(&self) -> u64 {
        self.proposals.admission.refused
    }
}

#[cfg(test)]
mod tests {
    use super::{Admission, ServerConfig, MOST_REFUSED_NUMBERS};

    #[test]
    fn the_smallest_limit_counts() {
        let mut admission = Admission::new(&ServerConfig::default(), 100);
        for (from, limit, smallest, has_fallen) in [
            (2, 100, 100, false),
            (2, 200, 100, false),
            (3, 50, 50, true),
            (2, 40, 40, true),
            (2, 200, 50, true),
            (3, u64::MAX, 100, true),
        ] {
            admission.report(from, limit);
            assert_eq!((admission.limit, admission.has_fallen), (smallest, has_fallen));
        }
    }

    #[test]
    fn what_is_refused_twice_counts_once() {
        let mut admission = Admission::new(&ServerConfig::default(), 100);
        for (first, count, news) in [
            (10, 5, 5),
            (10, 5, 0),
            (12, 2, 0),
            (12, 5, 2),
            (5, 5, 5),
            (0, 30, 18),
            (0, 30, 0),
            (1 << 62, u64::MAX, u64::MAX - (1 << 62)),
        ] {
            assert_eq!(admission.refuse_numbers(first, count), news, "{count} from {first}");
        }
        for number in 0..3 * MOST_REFUSED_NUMBERS as u64 {
            admission.refuse_numbers(100 + 2 * number, 1);
        }
        assert!(admission.refused_numbers.len() <= MOST_REFUSED_NUMBERS);
    }

    #[test]
    fn size_hints_have_a_limit_if_one_is_set() {
        let config = ServerConfig { max_entry_bytes: Some(10), ..Default::default() };
        let admission = Admission::new(&config, u64::MAX);
        assert_eq!(admission.check_hint("an entry", 10), Ok(()));
        let cause = admission.check_hint("an entry", 11).unwrap_err();
        assert_eq!(cause, "an entry of about 11 bytes exceeds max_entry_bytes, which is 10");
        let admission = Admission::new(&ServerConfig::default(), u64::MAX);
        assert_eq!(admission.check_hint("an entry", usize::MAX), Ok(()));
    }
}
