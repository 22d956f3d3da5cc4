//! Proposals: all their parts.
//!
//! An entry waits in the [`queue`], if it must. If this server leads, the entry is
//! [appended](append). Otherwise it is [forwarded](forward) to the leader, and is [`pending`] here
//! until it is decided. An entry that cannot be stored gets no [`admission`].

mod admission;
mod append;
mod content_ids;
mod forward;
mod pending;
mod queue;
mod rejections;

use self::{
    admission::Admission,
    content_ids::ContentIds,
    pending::{Outcomes, PendingProposals},
    queue::ProposalQueue,
    rejections::Rejections,
};
use crate::{
    amount::Amount,
    clock::Tick,
    config::ServerConfig,
    membership::Membership,
    messages::sequence_paxos::ForwardedStopSign,
    proposals::{Outcome, ProposalId},
    replica_log::ReplicaLog,
    storage::{Entry, Storage},
};

/// The smallest limit of outcomes that are kept until the user takes them.
const LEAST_OUTCOMES: u64 = 1 << 16;

/// The proposals of one server.
#[derive(Clone, Debug)]
pub(super) struct Proposals<T> {
    queue: ProposalQueue<T>,
    pending: PendingProposals<T>,
    admission: Admission,
    content_ids: ContentIds,
    outcomes: Outcomes,
    rejections: Rejections,
    /// The number of the next proposal of this incarnation.
    next_number: u64,
}

impl<T> Proposals<T> {
    /// Creates the proposals of a server from its `log`.
    pub(super) fn new<B: Storage<T>>(config: &ServerConfig, log: &ReplicaLog<T, B>) -> Self
    where
        T: Entry,
    {
        Self {
            queue: ProposalQueue::new(config),
            pending: PendingProposals::new(log.decided_idx()),
            admission: Admission::new(config, log.max_entry_bytes()),
            content_ids: ContentIds::new(log.len(), log.has_history()),
            outcomes: Outcomes::at_most(config.limits().pending.entries.max(LEAST_OUTCOMES)),
            rejections: Rejections::default(),
            next_number: 0,
        }
    }

    /// Begins the next epoch of a log that continues, with these members.
    pub(super) fn begin_epoch(&mut self, members: &Membership)
    where
        T: Entry,
    {
        self.admission.begin_epoch(|pid| members.contains(pid));
        self.queue.begin_epoch();
        self.pending.begin_epoch();
        self.rejections = Rejections::default();
    }

    /// Lets one tick pass.
    pub(super) fn tick(&mut self) {
        if self.queue.tick() == Tick::Expired {
            self.queue.release_all();
        }
    }

    /// Returns the number of ticks after which an incomplete batch is released; `None` without one.
    pub(super) fn next_timeout(&self) -> Option<u64> {
        self.queue.next_timeout()
    }

    /// Lets ticks pass, fewer than [`next_timeout`](Self::next_timeout).
    pub(super) fn pass(&mut self, ticks: u64) {
        self.queue.pass(ticks);
    }

    /// Releases all entries: they are appended as soon as there is room.
    pub(super) fn release_all(&mut self) {
        self.queue.release_all();
    }

    /// Ends a heartbeat round: proposals held for it are relayed.
    pub(super) fn release_held(&mut self) {
        self.queue.release_held();
    }

    /// Records that this server stops leading in its ballot.
    pub(super) fn note_led(&mut self) {
        self.queue.note_led();
    }

    /// Returns whether no proposal waits to be appended, forwarded or answered.
    #[inline]
    pub(super) fn has_nothing_due(&self) -> bool {
        self.queue.is_empty() && self.rejections.is_empty()
    }

    /// Returns whether the decided entries contain no further outcome.
    #[inline]
    pub(super) fn is_settled<B: Storage<T>>(&self, log: &ReplicaLog<T, B>) -> bool
    where
        T: Entry,
    {
        self.pending.is_settled(log)
    }

    /// Returns whether some proposals of this server have not ended.
    #[inline]
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Returns whether a pending proposal of this server is not in the log.
    pub(super) fn lacks_some(&self, has: impl Fn(ProposalId) -> bool) -> bool {
        self.pending.lacks_some(has)
    }

    /// Returns the amount of waiting proposals.
    pub(super) fn waiting(&self) -> Amount {
        self.queue.waiting()
    }

    /// Returns the amount of pending proposals.
    pub(super) fn pending(&self) -> Amount {
        self.pending.amount()
    }

    /// Returns whether proposals wait to be appended or forwarded.
    pub(super) fn are_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Returns the number of proposals of this server that have ended, if another has not.
    pub(super) fn ended_if_waiting(&self) -> Option<u64> {
        (!self.pending.is_empty()).then(|| self.pending.ended())
    }

    /// Returns the number of the next proposal, and uses it.
    pub(super) fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Reports an outcome to the user.
    pub(super) fn report(&mut self, id: ProposalId, outcome: Outcome) {
        self.outcomes.push(id, outcome);
    }

    /// Returns the stop sign that waits to be appended or forwarded.
    pub(super) fn stopsign(&self) -> Option<&ForwardedStopSign> {
        self.queue.stopsign.as_ref()
    }

    pub(super) fn queue_stopsign(&mut self, sign: ForwardedStopSign) {
        self.queue.stopsign = Some(sign);
    }

    /// Holds a stop sign until the end of the heartbeat round, when it is relayed.
    pub(super) fn hold_stopsign(&mut self, sign: ForwardedStopSign) {
        self.queue.held_stopsign = Some(sign);
    }

    pub(super) fn take_stopsign(&mut self) -> Option<ForwardedStopSign> {
        self.queue.stopsign.take()
    }

    pub(super) fn drop_stopsign_if(&mut self, is_dropped: impl Fn(&ForwardedStopSign) -> bool) {
        self.queue.stopsign.take_if(|sign| is_dropped(sign));
    }

    pub(super) fn check_invariants(&self) {
        self.queue.check_invariants();
    }
}

#[cfg(test)]
mod tests;
