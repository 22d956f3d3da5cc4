//! Admission: which entries and stop signs may be appended to the log.
//!
//! An entry that some storage cannot hold or return would halt every server that stores it, one
//! leader after the other. So it is checked before it is appended: at its origin, and by the leader
//! if another server forwards it. An entry that the leader has appended is not checked again.
//! Heartbeats report the limits of the storages, and the smallest counts.

use super::pending::IdentifiedProposal;
use crate::{
    ballot::Ballot,
    config::ServerConfig,
    ids::NodeId,
    messages::sequence_paxos::{ProposalRejection, Refusal, RejectionReason},
    observe::trace::LogEvent,
    proposals::ProposalId,
    replica_log::IdRanges,
    sequence_paxos::{state::State, SequencePaxos},
    storage::{Entry, StopSign, Storage},
};
use std::collections::BTreeMap;

/// The limits for an entry.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    /// The largest size hint that is allowed.
    largest_hint: usize,
    /// The limit of this server's storage.
    own: u64,
    /// The limits of the peers' storages, as last reported.
    reported: BTreeMap<NodeId, u64>,
    /// The smallest of these and this server's limit.
    limit: u64,
    /// Whether that has ever decreased: then entries that were checked before may exceed it.
    has_fallen: bool,
    /// Number of refused entries without an outcome.
    refused: u64,
    /// The refused content ids: such a rejection may arrive twice.
    refused_ids: IdRanges,
}

/// The largest number of ranges of refused ids that are remembered.
const MOST_REFUSED_RANGES: usize = 1024;

impl Admission {
    /// Creates the admission of a server that knows no limit of a peer.
    pub(super) fn new(config: &ServerConfig, own: u64) -> Self {
        Self {
            largest_hint: config.max_entry_bytes.unwrap_or(usize::MAX),
            own,
            reported: BTreeMap::new(),
            limit: own,
            has_fallen: false,
            refused: 0,
            refused_ids: IdRanges::default(),
        }
    }

    /// Records the limit that a peer reports.
    fn report(&mut self, from: NodeId, limit: u64) {
        if self.reported.insert(from, limit) == Some(limit) {
            return;
        }
        let before = self.limit;
        self.limit = self.reported.values().copied().fold(self.own, u64::min);
        self.has_fallen |= self.limit < before;
    }

    /// Begins a configuration with these members: the limits of the others do not count any more.
    pub(super) fn begin_epoch(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.reported.retain(|pid, _| is_member(*pid));
        self.limit = self.reported.values().copied().fold(self.own, u64::min);
    }

    /// Records ids that a leader refused. Returns how many of them were not refused before.
    fn refuse(&mut self, first: ProposalId, count: u64) -> u64 {
        if self.refused_ids.len() >= MOST_REFUSED_RANGES {
            self.refused_ids.clear();
        }
        self.refused_ids.add(first, count)
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
    /// Records the largest entry that a peer's storage can hold.
    pub(crate) fn handle_max_entry_bytes(&mut self, from: NodeId, limit: u64) {
        self.proposals.admission.report(from, limit);
    }

    /// Returns the size of the largest entry that this server's storage can hold.
    pub(crate) fn own_max_entry_bytes(&self) -> u64 {
        self.proposals.admission.own
    }

    /// Checks that an entry may be appended; the error is the reason why not.
    #[inline]
    pub(super) fn check_entry(&self, entry: &T, bytes: u64) -> Result<(), String> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.proposals.admission.check_hint("an entry", bytes)?;
        self.log.check_entry(entry, self.proposals.admission.limit)
    }

    /// Checks an entry again that passed the check when it was proposed here.
    #[inline]
    fn check_again(&self, entry: &T, bytes: u64) -> Result<(), String> {
        match self.proposals.admission.has_fallen {
            true => self.check_entry(entry, bytes),
            false => Ok(()),
        }
    }

    /// Checks that a stop sign may be appended.
    pub(in crate::sequence_paxos) fn check_stopsign(
        &self,
        stopsign: &StopSign,
    ) -> Result<(), String> {
        let bytes = stopsign.metadata.as_ref().map_or(0, Vec::len);
        self.proposals.admission.check_hint("metadata", bytes)?;
        self.log.check_stopsign(stopsign, self.proposals.admission.limit)
    }

    /// Appends an entry of this server without an id.
    pub(super) fn take_plain(&mut self, entry: T) {
        let bytes = entry.size_hint() as u64;
        match self.check_again(&entry, bytes) {
            Ok(()) => self.log.append(entry, bytes),
            Err(cause) => self.drop_unstorable(1, &cause),
        }
    }

    /// Appends a proposal of this server with an id that is not in the log. If it cannot be stored,
    /// and another leader may have appended it, the outcome shows later.
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

    /// Appends a forwarded proposal that is not in the log. If it cannot be stored, its origin gets
    /// a rejection once no earlier leader can have decided it. Until then the origin forwards it
    /// again.
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

    /// Returns whether no earlier leader can have decided a proposal that is not in this leader's
    /// log. Either it was forwarded first in this ballot, or a write quorum has accepted this log:
    /// then every later leader adopts a log that continues it.
    pub(in crate::sequence_paxos) fn is_nowhere_else(&self, first_ballot: Ballot) -> bool {
        let State::Leading(leading) = &self.state else {
            return false;
        };
        let accepted = leading.followers.in_step() + 1;
        first_ballot == self.log.promise()
            || (self.log.is_accepted_round_stored() && self.members.quorum().can_accept(accepted))
    }

    /// Handles a refusal of this server's proposals. Entries without an outcome are dropped. A
    /// later leader that is known here may have appended them, and gets them forwarded.
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
            let news = self.proposals.admission.refuse(rejection.first, rejection.count);
            return self.drop_unstorable(news, cause);
        }
        let mut lost = 0;
        for id in self.proposals.pending.among(rejection) {
            if !self.log.has(id) {
                lost += self.proposals.pending.refuse(id, cause, &mut self.proposals.outcomes);
            }
        }
        self.drop_unstorable(lost, cause);
    }

    /// Drops and counts entries that cannot be stored, and whose outcome the user did not request.
    pub(crate) fn drop_unstorable(&mut self, entries: u64, cause: &str) {
        if entries > 0 {
            self.proposals.admission.refused =
                self.proposals.admission.refused.saturating_add(entries);
            self.trace.emit(|| {
                LogEvent::warn("drops an appended entry that cannot be stored").because(cause)
            });
        }
    }

    /// Drops and counts the stop sign of [`reconfigure`](crate::OmniPaxos::reconfigure), which a
    /// leader refused.
    pub(crate) fn drop_unstorable_stopsign(&mut self, cause: &str) {
        let refused = &mut self.proposals.admission.refused;
        *refused = refused.saturating_add(1);
        self.trace
            .emit(|| LogEvent::warn("drops a stop sign that cannot be stored").because(cause));
    }

    /// Returns the number of entries and stop signs dropped since they cannot be stored.
    pub(crate) fn dropped_unstorable(&self) -> u64 {
        self.proposals.admission.refused
    }
}

#[cfg(test)]
mod tests {
    use super::{Admission, ProposalId, ServerConfig, MOST_REFUSED_RANGES};

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
    fn the_limit_of_a_server_ends_with_its_membership() {
        let mut admission = Admission::new(&ServerConfig::default(), 100);
        [(2, 50), (3, 40), (4, 60)]
            .into_iter()
            .for_each(|(pid, limit)| admission.report(pid, limit));
        for (members, limit) in [(vec![2, 4], 50), (vec![4], 60), (vec![], 100)] {
            admission.begin_epoch(|pid| members.contains(&pid));
            assert_eq!(admission.limit, limit, "{members:?}");
        }
    }

    #[test]
    fn what_is_refused_twice_counts_once() {
        let mut admission = Admission::new(&ServerConfig::default(), 100);
        let id = |number| ProposalId { origin: 1, incarnation: 0, number };
        for (first, count, news) in [(10, 5, 5), (10, 5, 0), (12, 5, 2), (0, 30, 23)] {
            assert_eq!(admission.refuse(id(first), count), news, "{count} from {first}");
        }
        for number in 0..3 * MOST_REFUSED_RANGES as u64 {
            admission.refuse(id(100 + 2 * number), 1);
        }
        assert!(admission.refused_ids.len() <= MOST_REFUSED_RANGES);
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
