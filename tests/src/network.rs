//! Messages in flight.

use crate::{
    coverage::{Counts, Kind},
    rng::Rng,
    value::{encoded_len, SimEntry},
};
use omnipaxos::messages::{sequence_paxos::PaxosMsg, Message};
use std::collections::BTreeMap;

/// How the network treats messages. Chances are of 1,000.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LinkConditions {
    /// Chance that a message is lost.
    pub loss: u64,
    /// Chance that a message is delivered twice.
    pub duplicates: u64,
    /// Chance that a message is held for very long.
    pub stragglers: u64,
    /// Ticks that each message takes, beyond one.
    pub least_delay: u64,
    /// Largest number of ticks that a message takes beyond those.
    pub delay: u64,
    /// Whether messages on one link stay in order.
    pub order: Order,
    /// Bytes that each direction of a link carries in a tick. Messages wait for those before them, up to
    /// [`LONGEST_QUEUE`]. `None`: any number.
    pub bytes_per_tick: Option<u64>,
}

/// Ticks that a message waits for others on its link at most. A message that would wait longer is
/// lost, as at a connection whose buffer is full.
pub const LONGEST_QUEUE: u64 = 40;

/// Whether messages on one link stay in order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// They do.
    Kept,
    /// Each takes its own time.
    Free,
}

impl LinkConditions {
    /// Each message arrives, once, in the next tick.
    pub const PERFECT: LinkConditions = LinkConditions {
        loss: 0,
        duplicates: 0,
        stragglers: 0,
        least_delay: 0,
        delay: 0,
        order: Order::Kept,
        bytes_per_tick: None,
    };
}

/// What happens to messages in flight when their link is cut.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// They are lost.
    Lost,
    /// They arrive.
    Arrives,
}

/// A message in flight.
#[derive(Clone, Debug)]
pub struct Parcel<T: SimEntry> {
    /// The sender, by its position in the cluster.
    pub from: usize,
    /// The receiver, by its position in the cluster.
    pub to: usize,
    /// The incarnation of the receiver when the message was sent.
    pub incarnation: u64,
    /// The message.
    pub message: Message<T>,
    sent: u64,
}

/// The links, and what is on them.
#[derive(Debug)]
pub struct Network<T: SimEntry> {
    seed: u64,
    size: usize,
    conditions: LinkConditions,
    in_flight: InFlight,
    parcels: BTreeMap<(u64, u64), Parcel<T>>,
    sent: u64,
    /// For each link, how many cuts hold it.
    cuts: Vec<u32>,
    /// For each server, how many faults keep large promises from it.
    unpromised: Vec<u32>,
    /// For each link, how many faults keep Prepares from it.
    unprepared: Vec<u32>,
    /// For each link, when the last message arrives.
    busy_until: Vec<u64>,
    /// For each link, the number of the last message delivered.
    delivered: Vec<u64>,
    /// For each link, the number of bytes that it can have carried when it is free again, since the
    /// beginning.
    queued_until: Vec<u64>,
}

impl<T: SimEntry> Network<T> {
    /// Links among `size` servers.
    pub fn new(size: usize, conditions: LinkConditions, in_flight: InFlight, seed: u64) -> Self {
        let links = size * size;
        Self {
            seed,
            size,
            conditions,
            in_flight,
            parcels: BTreeMap::new(),
            sent: 0,
            cuts: vec![0; links],
            unpromised: vec![0; size],
            unprepared: vec![0; links],
            busy_until: vec![0; links],
            delivered: vec![0; links],
            queued_until: vec![0; links],
        }
    }

    /// Puts a message on its link.
    pub fn send(&mut self, now: u64, mut parcel: Parcel<T>, counts: &mut Counts) {
        self.sent += 1;
        let link = self.link(parcel.from, parcel.to);
        if self.cuts[link] > 0 || self.loses(&parcel) {
            counts.add(Kind::Severed);
            return;
        }
        let Some(now) = self.queue(now, link, &parcel.message) else {
            counts.add(Kind::Overflow);
            return;
        };
        let mut rng = Rng::of(&[self.seed, now, self.sent]);
        if rng.chance(self.conditions.loss, 1000) {
            counts.add(Kind::Loss);
            return;
        }
        parcel.sent = self.sent;
        if rng.chance(self.conditions.duplicates, 1000) {
            counts.add(Kind::Duplicate);
            let at = now + 1 + rng.below(3 * self.conditions.delay + 5);
            self.sent += 1;
            self.parcels.insert((at, self.sent), parcel.clone());
        }
        let mut at = now + 1 + self.conditions.least_delay + rng.below(self.conditions.delay + 1);
        if rng.chance(self.conditions.stragglers, 1000) {
            counts.add(Kind::Straggle);
            at += rng.between(20, 400);
        } else if self.conditions.order == Order::Kept {
            at = at.max(self.busy_until[link]);
            self.busy_until[link] = at;
        }
        self.parcels.insert((at, self.sent), parcel);
    }

    /// The tick in which the last byte of a message leaves, after those before it; `None` if too many wait.
    fn queue(&mut self, now: u64, link: usize, message: &Message<T>) -> Option<u64> {
        let Some(bytes_per_tick) = self.conditions.bytes_per_tick else {
            return Some(now);
        };
        let begin = self.queued_until[link].max(now * bytes_per_tick);
        if begin > (now + LONGEST_QUEUE) * bytes_per_tick {
            return None;
        }
        let end = begin + encoded_len(message);
        self.queued_until[link] = end;
        Some(end.div_ceil(bytes_per_tick) - 1)
    }

    /// The next message that has arrived by `now`.
    pub fn arrival(&mut self, now: u64, counts: &mut Counts) -> Option<Parcel<T>> {
        loop {
            let first = self.parcels.first_entry()?;
            if first.key().0 > now {
                return None;
            }
            let parcel = first.remove();
            let link = self.link(parcel.from, parcel.to);
            if self.cuts[link] > 0 && self.in_flight == InFlight::Lost {
                counts.add(Kind::Severed);
                continue;
            }
            if parcel.sent < self.delivered[link] {
                counts.add(Kind::Reorder);
            }
            self.delivered[link] = self.delivered[link].max(parcel.sent);
            return Some(parcel);
        }
    }

    /// Puts a message back, to arrive at `at`.
    pub fn put_back(&mut self, at: u64, parcel: Parcel<T>) {
        self.sent += 1;
        self.parcels.insert((at, self.sent), parcel);
    }

    /// Opens or cuts one direction of a link, whatever held it before.
    pub fn set_open(&mut self, from: usize, to: usize, is_open: bool) {
        let link = self.link(from, to);
        self.cuts[link] = u32::from(!is_open);
    }

    /// Loses the promises to a server which bear some of the log; such faults add up.
    pub fn lose_promises(&mut self, to: usize) {
        self.unpromised[to] += 1;
    }

    /// Takes one such fault back.
    pub fn carry_promises(&mut self, to: usize) {
        self.unpromised[to] = self.unpromised[to].saturating_sub(1);
    }

    /// Loses the Prepares of a server, except to another; such faults add up.
    pub fn lose_prepares(&mut self, from: usize, but: usize) {
        for to in (0..self.size).filter(|to| *to != but) {
            let link = self.link(from, to);
            self.unprepared[link] += 1;
        }
    }

    /// Takes one such fault back.
    pub fn carry_prepares(&mut self, from: usize, but: usize) {
        for to in (0..self.size).filter(|to| *to != but) {
            let link = self.link(from, to);
            self.unprepared[link] = self.unprepared[link].saturating_sub(1);
        }
    }

    fn loses(&self, parcel: &Parcel<T>) -> bool {
        let Message::SequencePaxos(paxos) = &parcel.message else {
            return false;
        };
        match &paxos.msg {
            PaxosMsg::Promise(promise) => promise.sync.is_some() && self.unpromised[parcel.to] > 0,
            PaxosMsg::Prepare(_) => self.unprepared[self.link(parcel.from, parcel.to)] > 0,
            _ => false,
        }
    }

    /// Cuts one direction of a link; cuts add up.
    pub fn cut(&mut self, from: usize, to: usize) {
        let link = self.link(from, to);
        self.cuts[link] += 1;
    }

    /// Takes one cut back. Whether the link works again.
    pub fn heal(&mut self, from: usize, to: usize) -> bool {
        let link = self.link(from, to);
        let held = self.cuts[link] > 0;
        self.cuts[link] = self.cuts[link].saturating_sub(1);
        held && self.cuts[link] == 0
    }

    /// Whether messages pass.
    pub fn is_open(&self, from: usize, to: usize) -> bool {
        self.cuts[self.link(from, to)] == 0
    }

    /// Takes back all cuts; from now on messages arrive soon, also those in flight.
    pub fn set_conditions(&mut self, now: u64, conditions: LinkConditions) {
        self.conditions = conditions;
        self.cuts.fill(0);
        self.unpromised.fill(0);
        self.unprepared.fill(0);
        self.busy_until.fill(0);
        self.queued_until.fill(0);
        let parcels = std::mem::take(&mut self.parcels);
        for ((at, number), parcel) in parcels {
            let soon = if at <= now + 10 { at } else { now + 1 + at % 10 };
            self.parcels.insert((soon, number), parcel);
        }
    }

    /// Sets the limit of bytes a tick.
    pub fn limit(&mut self, bytes_per_tick: Option<u64>) {
        self.conditions.bytes_per_tick = bytes_per_tick;
    }

    /// The limit of bytes a tick, if there is one.
    pub fn bytes_per_tick(&self) -> Option<u64> {
        self.conditions.bytes_per_tick
    }

    /// Number of messages in flight.
    pub fn in_flight(&self) -> usize {
        self.parcels.len()
    }

    fn link(&self, from: usize, to: usize) -> usize {
        from * self.size + to
    }
}

impl<T: SimEntry> Parcel<T> {
    /// A message to be sent.
    pub fn new(from: usize, to: usize, incarnation: u64, message: Message<T>) -> Self {
        Self { from, to, incarnation, message, sent: 0 }
    }
}
