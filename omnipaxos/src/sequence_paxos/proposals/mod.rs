//! Proposals, as one part.
//!
//! An entry waits in the [`queue`], if it must. Where this server leads it
//! [goes into the log](append), else it is [forwarded](forward) to the leader, and is [`pending`]
//! here until it is decided. What cannot be stored gets no [`admission`].

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
    messages::sequence_paxos::ForwardedStopSign,
    proposals::{Outcome, ProposalId},
    replica_log::ReplicaLog,
    storage::{Entry, Storage},
};

/// At least so many outcomes are kept for a user who does not ask.
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
    /// Those of a server that starts with what its `log` holds.
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

    /// Lets one tick pass.
    pub(super) fn tick(&mut self) {
        if self.queue.tick() == Tick::Expired {
            self.queue.release_all();
        }
    }

    /// The number of ticks after which a batch must go though it is not full; `None` without one.
    pub(super) fn next_timeout(&self) -> Option<u64> {
        self.queue.next_timeout()
    }

    /// Lets ticks pass, fewer than those after which a batch must go.
    pub(super) fn pass(&mut self, ticks: u64) {
        self.queue.pass(ticks);
    }

    /// Lets all entries go into the log as soon as there is room.
    pub(super) fn release_all(&mut self) {
        self.queue.release_all();
    }

    /// A heartbeat round has ended: what was held for it travels on.
    pub(super) fn release_held(&mut self) {
        self.queue.release_held();
    }

    /// This server leads no longer in the ballot that it led in.
    pub(super) fn note_led(&mut self) {
        self.queue.note_led();
    }

    /// Whether nothing waits to be proposed, forwarded or answered.
    #[inline]
    pub(super) fn has_nothing_due(&self) -> bool {
        self.queue.is_empty() && self.rejections.is_empty()
    }

    /// Whether no outcome is to be found in what is decided.
    #[inline]
    pub(super) fn is_settled<B: Storage<T>>(&self, log: &ReplicaLog<T, B>) -> bool
    where
        T: Entry,
    {
        self.pending.is_settled(log)
    }

    /// Whether some proposals of this server have not ended.
    #[inline]
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether a proposal of this server that has not ended is not in the log.
    pub(super) fn lacks_some(&self, has: impl Fn(ProposalId) -> bool) -> bool {
        self.pending.lacks_some(has)
    }

    /// How much waits here.
    pub(super) fn waiting(&self) -> Amount {
        self.queue.waiting()
    }

    /// How much is pending.
    pub(super) fn pending(&self) -> Amount {
        self.pending.amount()
    }

    /// The number of the next proposal, which is given away.
    pub(super) fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Tells the user how something ended that was proposed here.
    pub(super) fn report(&mut self, id: ProposalId, outcome: Outcome) {
        self.outcomes.push(id, outcome);
    }

    /// The stop sign that waits to be proposed or forwarded.
    pub(super) fn stopsign(&self) -> Option<&ForwardedStopSign> {
        self.queue.stopsign.as_ref()
    }

    pub(super) fn queue_stopsign(&mut self, sign: ForwardedStopSign) {
        self.queue.stopsign = Some(sign);
    }

    /// A stop sign waits for the end of the heartbeat round, and travels on then.
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
