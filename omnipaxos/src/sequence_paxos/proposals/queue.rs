//! The queue of proposals: entries and the stop sign.

use super::pending::IdentifiedProposal;
use crate::{
    amount::Amount,
    ballot::Ballot,
    clock::{Tick, Timer},
    config::ServerConfig,
    identity::Stamp,
    ids::NodeId,
    messages::sequence_paxos::{ForwardedProposals, ForwardedStopSign},
    proposals::ProposalId,
    storage::Entry,
};
use std::collections::VecDeque;

/// Proposals that are not in the log yet. Their number is limited.
///
/// At the leader, entries wait for a full batch or the timer, and for room in the log. Elsewhere
/// all wait for the next output with a leader to which they are forwarded.
#[derive(Clone, Debug)]
pub(super) struct ProposalQueue<T> {
    /// Proposals made here.
    own: VecDeque<Own<T>>,
    /// The number of proposals at the front of `own` that were there when this server last led.
    led: usize,
    /// Proposals forwarded to this server.
    relayed: VecDeque<Relayed<T>>,
    /// The same, if this server does not lead. They are relayed only after the next heartbeat
    /// round, so that two servers which consider each other the leader do not exchange them
    /// endlessly.
    held: VecDeque<Relayed<T>>,
    is_own_next: bool,
    /// Number of own and relayed entries.
    count: u64,
    /// The number of entries that wait only for room, not for a full batch.
    pub(super) released: u64,
    pub(super) stopsign: Option<ForwardedStopSign>,
    /// The stop sign that is held likewise.
    pub(super) held_stopsign: Option<ForwardedStopSign>,
    /// The waiting amount: own, relayed and held entries, except pending ones.
    waiting: Amount,
    limit: Amount,
    /// Number of proposals for which there was no room.
    dropped: u64,
    batch_size: u64,
    batch_timer: Timer,
}

/// A proposal of this server in the queue.
#[derive(Clone, Debug)]
enum Own<T> {
    /// Without an id.
    Plain(T),
    /// A [pending](super::pending::PendingProposals) proposal with this id.
    Pending(ProposalId),
}

/// The rest of a forward.
#[derive(Clone, Debug)]
struct Relayed<T> {
    /// The server that sent it.
    via: NodeId,
    /// The id of the next entry.
    next: ProposalId,
    first_ballot: Ballot,
    min_idx: u64,
    entries: std::vec::IntoIter<T>,
    /// Number of servers that have relayed it.
    hops: u8,
}

/// The route of a forward from the server that received it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    IntoTheLog,
    /// To the leader, when the heartbeat round has ended.
    RelayLater,
    /// To the leader, with the next output.
    Relay,
}

/// An entry that leaves the queue to be appended.
#[derive(Clone, Debug)]
pub(super) enum Next<T> {
    /// An entry proposed here, without an id.
    Plain(T),
    /// A pending proposal of this server.
    Pending(ProposalId),
    /// A forwarded proposal, and the server to which an answer goes.
    Forwarded(IdentifiedProposal<T>, NodeId),
}

/// Own proposals that leave the queue to be forwarded.
#[derive(Clone, Debug)]
pub(super) enum OwnBatch<T> {
    /// Entries that fit into a message.
    Plain(Vec<T>),
    Pending(ProposalId),
}

impl<T> ProposalQueue<T> {
    pub(super) fn new(config: &ServerConfig) -> Self {
        Self {
            own: VecDeque::new(),
            led: 0,
            relayed: VecDeque::new(),
            held: VecDeque::new(),
            is_own_next: false,
            count: 0,
            released: 0,
            stopsign: None,
            held_stopsign: None,
            waiting: Amount::default(),
            limit: config.limits().pending,
            dropped: 0,
            batch_size: config.batch_size as u64,
            batch_timer: Timer::every(config.flush_batch_tick_timeout),
        }
    }

    /// Lets one tick pass. It expires when an incomplete batch must be released.
    pub(super) fn tick(&mut self) -> Tick {
        if self.count == 0 {
            self.batch_timer.restart();
            return Tick::Running;
        }
        self.batch_timer.tick()
    }

    /// Returns the number of ticks after which an incomplete batch must be released.
    pub(super) fn next_timeout(&self) -> Option<u64> {
        (self.count > 0).then(|| self.batch_timer.remaining())
    }

    /// Lets ticks pass, fewer than [`next_timeout`](Self::next_timeout).
    pub(super) fn pass(&mut self, ticks: u64) {
        if self.count == 0 {
            self.batch_timer.restart();
        } else {
            self.batch_timer.pass(ticks);
        }
    }

    /// Releases proposals that were held for this heartbeat round.
    pub(super) fn release_held(&mut self) {
        self.count += self.held.iter().map(|held| held.entries.len() as u64).sum::<u64>();
        self.relayed.append(&mut self.held);
        self.stopsign = self.stopsign.take().or_else(|| self.held_stopsign.take());
    }

    /// Releases all entries, even if no batch is full.
    pub(super) fn release_all(&mut self) {
        self.released = self.count;
        self.batch_timer.restart();
    }

    /// Returns the number of entries to append or forward.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Returns whether no proposal waits to be appended or forwarded.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0 && self.stopsign.is_none()
    }

    /// Returns whether a single entry is a full batch, and no entry waits before it.
    pub(super) fn waits_for_nothing(&self) -> bool {
        self.batch_size <= 1 && self.count == 0
    }

    /// Returns whether waiting entries must be released: the batch is full, there is no room for
    /// another, or a stop sign follows.
    pub(super) fn is_batch_full(&self, pending: Amount) -> bool {
        self.batched() >= self.batch_size || !self.has_room(pending) || self.stopsign.is_some()
    }

    /// Returns the number of proposals that wait for a full batch.
    pub(super) fn batched(&self) -> u64 {
        self.count - self.released
    }

    /// Returns whether another entry may wait, with this amount pending.
    pub(super) fn has_room(&self, pending: Amount) -> bool {
        let mut all = self.waiting;
        all.add(pending);
        all.is_below(self.limit)
    }

    /// Counts a proposal that is dropped for lack of room.
    pub(super) fn drop_one(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns the amount that waits to be appended, forwarded or relayed.
    pub(super) fn waiting(&self) -> Amount {
        self.waiting
    }

    /// Records that this server stops leading in its ballot.
    pub(super) fn note_led(&mut self) {
        self.led = self.own.len();
    }

    /// Drops all proposals, since the configuration has ended.
    pub(super) fn clear(&mut self) {
        self.own.clear();
        self.led = 0;
        self.relayed.clear();
        self.held.clear();
        (self.count, self.released) = (0, 0);
        self.waiting = Amount::default();
        (self.stopsign, self.held_stopsign) = (None, None);
    }

    /// Begins the next epoch: what was proposed here stays, and is appended or forwarded there. The
    /// origins of other proposals forward them again.
    pub(super) fn begin_epoch(&mut self)
    where
        T: Entry,
    {
        for forward in self.relayed.drain(..).chain(self.held.drain(..)) {
            self.waiting.subtract(amount_of(forward.entries.as_slice()));
        }
        self.count = self.own.len() as u64;
        self.released = self.released.min(self.count);
        self.led = 0;
        (self.stopsign, self.held_stopsign) = (None, None);
    }

    /// Adds a pending proposal to the queue.
    pub(super) fn push_pending(&mut self, id: ProposalId) {
        self.count += 1;
        self.own.push_back(Own::Pending(id));
    }

    pub(super) fn check_invariants(&self) {
        let (released, count) = (self.released, self.count);
        debug_assert!(released <= count, "{released} entries are released of {count}");
        let relayed: usize = self.relayed.iter().map(|forward| forward.entries.len()).sum();
        let queued = self.own.len() + relayed;
        debug_assert!(count == queued as u64, "{count} entries are counted of {queued}");
    }

    /// Counts entries that leave the queue.
    fn leave(&mut self, entries: u64) {
        self.count -= entries;
        self.released = self.released.saturating_sub(entries);
    }
}

impl<T: Entry> ProposalQueue<T> {
    /// Adds an entry to the queue.
    pub(super) fn push(&mut self, entry: T, amount: Amount) {
        self.waiting.add(amount);
        self.count += 1;
        self.own.push_back(Own::Plain(entry));
    }

    /// Returns the next entry to append: alternately one proposed here and one forwarded here, so
    /// that neither waits forever.
    pub(super) fn pop(&mut self) -> Option<Next<T>> {
        self.is_own_next = !self.is_own_next;
        match self.is_own_next {
            true => self.pop_own().or_else(|| self.pop_forwarded()),
            false => self.pop_forwarded().or_else(|| self.pop_own()),
        }
    }

    /// Drops entries that were appended here without an id while this server led. Returns their
    /// number.
    pub(super) fn drop_led(&mut self) -> u64 {
        let rest = self.own.split_off(std::mem::take(&mut self.led).min(self.own.len()));
        let mut dropped = 0;
        for own in std::mem::replace(&mut self.own, rest).into_iter().rev() {
            match own {
                Own::Pending(_) => self.own.push_front(own),
                Own::Plain(entry) => {
                    self.waiting.subtract(Amount::one(entry.size_hint()));
                    dropped += 1;
                }
            }
        }
        self.leave(dropped);
        dropped
    }

    fn pop_own(&mut self) -> Option<Next<T>> {
        let own = self.own.pop_front()?;
        self.led = self.led.saturating_sub(1);
        self.leave(1);
        Some(match own {
            Own::Plain(entry) => {
                self.waiting.subtract(Amount::one(entry.size_hint()));
                Next::Plain(entry)
            }
            Own::Pending(id) => Next::Pending(id),
        })
    }

    fn pop_forwarded(&mut self) -> Option<Next<T>> {
        loop {
            let forward = self.relayed.front_mut()?;
            let Some(entry) = forward.entries.next() else {
                self.relayed.pop_front();
                continue;
            };
            let Relayed { via, next: id, first_ballot, min_idx, entries: _, hops: _ } = *forward;
            forward.next = id.later(1);
            let amount = Amount::one(entry.size_hint());
            self.waiting.subtract(amount);
            self.leave(1);
            let proposal =
                IdentifiedProposal { id, first_ballot, min_idx, entry, bytes: amount.bytes };
            return Some(Next::Forwarded(proposal, via));
        }
    }

    /// Queues a forward as a whole, if there is room for its first entry.
    pub(super) fn take_forwarded(
        &mut self,
        forwarded: ForwardedProposals<T>,
        via: NodeId,
        route: Route,
        pending: Amount,
    ) {
        let ForwardedProposals { first, first_ballot, min_idx, entries, hops, .. } = forwarded;
        if !self.has_room(pending) {
            self.dropped = self.dropped.saturating_add(entries.len() as u64);
            return;
        }
        let taken = amount_of(&entries);
        self.waiting.add(taken);
        let entries = entries.into_iter();
        let forward = Relayed { via, next: first, first_ballot, min_idx, entries, hops };
        match route {
            Route::IntoTheLog | Route::Relay => {
                self.count += taken.entries;
                self.relayed.push_back(forward);
            }
            Route::RelayLater => self.held.push_back(forward),
        }
    }

    /// Returns the next forward to relay.
    pub(super) fn pop_relayed(&mut self) -> Option<ForwardedProposals<T>> {
        let forward = loop {
            let forward = self.relayed.pop_front()?;
            if forward.entries.len() > 0 {
                break forward;
            }
        };
        let Relayed { via: _, next: first, first_ballot, min_idx, entries, hops } = forward;
        let entries: Vec<T> = entries.collect();
        self.waiting.subtract(amount_of(&entries));
        self.leave(entries.len() as u64);
        let (hops, stamp) = (hops.saturating_add(1), Stamp::default());
        Some(ForwardedProposals { first, first_ballot, min_idx, entries, hops, stamp })
    }

    /// Returns the next own proposals: plain ones that fit into a message, or a pending one.
    pub(super) fn pop_own_batch(&mut self, limit: Amount) -> Option<OwnBatch<T>> {
        if let Own::Pending(id) = self.own.front()? {
            let id = *id;
            self.own.pop_front();
            self.led = self.led.saturating_sub(1);
            self.leave(1);
            return Some(OwnBatch::Pending(id));
        }
        let mut amount = Amount::default();
        for own in &self.own {
            let Own::Plain(entry) = own else {
                break;
            };
            let mut with = amount;
            with.add(Amount::one(entry.size_hint()));
            if amount.entries > 0 && !with.fits(limit) {
                break;
            }
            amount = with;
        }
        self.waiting.subtract(amount);
        self.leave(amount.entries);
        let taken = usize::try_from(amount.entries).unwrap_or(usize::MAX);
        self.led = self.led.saturating_sub(taken);
        let taken = self.own.drain(..taken);
        let entries = taken.filter_map(|own| match own {
            Own::Plain(entry) => Some(entry),
            Own::Pending(_) => None,
        });
        Some(OwnBatch::Plain(entries.collect()))
    }
}

fn amount_of<T: Entry>(entries: &[T]) -> Amount {
    let mut amount = Amount::default();
    entries.iter().for_each(|entry| amount.add(Amount::one(entry.size_hint())));
    amount
}
