//! Proposals on their way into the log: entries and the stop sign.

use crate::{
    amount::Amount,
    clock::{Ring, Timer},
    config::ServerConfig,
    ids::NodeId,
    messages::sequence_paxos::RepeatedForward,
    storage::{Entry, StopSign},
};
use std::collections::VecDeque;

/// What was proposed and is not in the log yet.
///
/// At the leader entries wait for a full batch or the timer, and for room in the log; elsewhere all
/// wait for the next drain with a leader to forward them to. How many may wait is limited.
#[derive(Clone, Debug)]
pub(super) struct Proposals<T> {
    /// Proposed here.
    pub(super) own: VecDeque<T>,
    /// Forwarded here. Each is passed on as its origin made it, so that copies are known wherever
    /// it goes.
    relayed: VecDeque<Relayed<T>>,
    /// As `relayed`, where this server does not lead. They travel on only after the next heartbeat
    /// round, so that two servers which take each other for the leader do not play ball.
    held: VecDeque<Relayed<T>>,
    is_own_next: bool,
    /// So many of the own and relayed entries wait for room only, not for their batch to fill.
    pub(super) released: u64,
    pub(super) stopsign: Option<StopSign>,
    /// As `held`.
    pub(super) held_stopsign: Option<StopSign>,
    /// How much waits: own, relayed and held.
    waiting: Amount,
    /// How much is held.
    on_hold: Amount,
    limit: Amount,
    /// Number of proposals for which there was no room.
    dropped: u64,
    batch_size: u64,
    batch_timer: Timer,
}

/// A forward, or what is left of it.
#[derive(Clone, Debug)]
struct Relayed<T> {
    origin: NodeId,
    number: Option<u64>,
    /// Number of entries when it came.
    count: usize,
    entries: std::vec::IntoIter<T>,
}

/// What becomes of a forward at the server that it came to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Goes {
    IntoTheLog,
    /// To the leader.
    On,
    /// It was proposed here, and is as if it was just now.
    Back,
}

impl<T> Proposals<T> {
    pub(super) fn new(config: &ServerConfig) -> Self {
        Self {
            own: VecDeque::new(),
            relayed: VecDeque::new(),
            held: VecDeque::new(),
            is_own_next: false,
            released: 0,
            stopsign: None,
            held_stopsign: None,
            waiting: Amount::default(),
            on_hold: Amount::default(),
            limit: config.limits().pending,
            dropped: 0,
            batch_size: config.batch_size as u64,
            batch_timer: Timer::every(config.flush_batch_tick_timeout),
        }
    }

    /// Lets one tick pass. Rings when a batch must go though it is not full.
    pub(super) fn tick(&mut self) -> Ring {
        if self.count() == 0 {
            self.batch_timer.restart();
            return Ring::Silent;
        }
        self.batch_timer.tick()
    }

    /// Lets travel on what was held for this heartbeat round.
    pub(super) fn release_held(&mut self) {
        self.relayed.append(&mut self.held);
        self.on_hold = Amount::default();
        self.stopsign = self.stopsign.take().or_else(|| self.held_stopsign.take());
    }

    /// Lets all entries go into the log as soon as there is room, whether or not a batch is full.
    pub(super) fn release_all(&mut self) {
        self.released = self.count();
        self.batch_timer.restart();
    }

    /// Number of entries to be proposed or forwarded.
    pub(super) fn count(&self) -> u64 {
        self.waiting.entries - self.on_hold.entries
    }

    /// Whether nothing waits to be proposed or forwarded.
    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0 && self.stopsign.is_none()
    }

    /// Whether an entry is a full batch by itself, and none is before it.
    pub(super) fn waits_for_nothing(&self) -> bool {
        self.batch_size <= 1 && self.count() == 0
    }

    /// Whether the entries that are not released must be: the batch is full, nothing more can wait,
    /// or a stop sign follows, which takes what was proposed before it along.
    pub(super) fn is_batch_full(&self) -> bool {
        self.count() - self.released >= self.batch_size
            || !self.has_room()
            || self.stopsign.is_some()
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_below(self.limit)
    }

    /// Counts a proposal that is given up since there is no room.
    pub(super) fn drop_one(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Gives up all: the configuration has ended.
    pub(super) fn clear(&mut self) {
        self.own.clear();
        self.relayed.clear();
        self.held.clear();
        self.released = 0;
        (self.waiting, self.on_hold) = (Amount::default(), Amount::default());
        (self.stopsign, self.held_stopsign) = (None, None);
    }
}

impl<T: Entry> Proposals<T> {
    pub(super) fn push(&mut self, entry: T, amount: Amount) {
        self.waiting.add(amount);
        self.own.push_back(entry);
    }

    /// The next entry to be proposed, and its bytes: one proposed here and one forwarded here in
    /// turn, so that neither waits for ever.
    pub(super) fn pop(&mut self) -> Option<(T, u64)> {
        self.is_own_next = !self.is_own_next;
        let entry = match self.is_own_next {
            true => self.own.pop_front().or_else(|| self.pop_forwarded()),
            false => self.pop_forwarded().or_else(|| self.own.pop_front()),
        }?;
        let amount = Amount::one(entry.size_hint());
        self.go(amount);
        Some((entry, amount.bytes))
    }

    fn pop_forwarded(&mut self) -> Option<T> {
        loop {
            match self.relayed.front_mut()?.entries.next() {
                Some(entry) => return Some(entry),
                None => drop(self.relayed.pop_front()),
            }
        }
    }

    pub(super) fn check_invariants(&self) {
        let (waiting, on_hold) = (self.waiting.entries, self.on_hold.entries);
        debug_assert!(on_hold <= waiting, "{on_hold} entries are held of {waiting} that wait");
        let (released, count) = (self.released, waiting - on_hold);
        debug_assert!(released <= count, "{released} entries are released of {count}");
    }

    /// So much does not wait any more.
    fn go(&mut self, amount: Amount) {
        self.waiting.subtract(amount);
        self.released = self.released.saturating_sub(amount.entries);
    }

    /// Takes what another server forwarded, as a whole, if there is room for its first entry: a
    /// part of it would not be known for what it is where it is passed on.
    pub(super) fn take_forwarded(&mut self, forward: RepeatedForward<T>, goes: Goes) {
        let RepeatedForward { origin, number, entries } = forward;
        let count = entries.len();
        if !self.has_room() {
            self.dropped = self.dropped.saturating_add(count as u64);
            return;
        }
        let mut taken = Amount::default();
        entries.iter().for_each(|entry| taken.add(Amount::one(entry.size_hint())));
        self.waiting.add(taken);
        let forward = Relayed { origin, number, count, entries: entries.into_iter() };
        match goes {
            Goes::Back => self.own.extend(forward.entries),
            Goes::IntoTheLog => self.relayed.push_back(forward),
            Goes::On => {
                self.on_hold.add(taken);
                self.held.push_back(forward);
            }
        }
    }

    /// The next forward that travels on. What is left of one that went into the log in part, when
    /// this server led, is as if it was proposed here.
    pub(super) fn pop_relayed(&mut self) -> Option<RepeatedForward<T>> {
        loop {
            let Relayed { origin, number, count, entries } = self.relayed.pop_front()?;
            if entries.len() < count {
                self.own.extend(entries);
                continue;
            }
            let entries: Vec<T> = entries.collect();
            let mut amount = Amount::default();
            entries.iter().for_each(|entry| amount.add(Amount::one(entry.size_hint())));
            self.go(amount);
            return Some(RepeatedForward { origin, number, entries });
        }
    }

    /// The next own entries that fit into a message.
    pub(super) fn pop_own(&mut self, limit: Amount) -> Vec<T> {
        let mut amount = Amount::default();
        for entry in &self.own {
            let mut with = amount;
            with.add(Amount::one(entry.size_hint()));
            if amount.entries > 0 && !with.fits(limit) {
                break;
            }
            amount = with;
        }
        self.go(amount);
        self.own.drain(..usize::try_from(amount.entries).unwrap_or(usize::MAX)).collect()
    }
}
