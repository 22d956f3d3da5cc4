//! The network that both contestants share.

use omnipaxos_tests::{
    network::{InFlight, LinkConditions, Order},
    rng::Rng,
};
use std::collections::BTreeMap;

/// A message in flight. Servers are known by position.
pub(super) struct Parcel<M> {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) message: M,
}

/// Links, and what is on them.
pub(super) struct Network<M> {
    seed: u64,
    size: usize,
    conditions: LinkConditions,
    in_flight: InFlight,
    /// By the tick of arrival, and in the order in which they were sent.
    parcels: BTreeMap<(u64, u64), Parcel<M>>,
    sent: u64,
    is_open: Vec<bool>,
    /// When the last message of each link arrives.
    busy_until: Vec<u64>,
    /// For each link, the tick of the last message and how many were sent in it.
    sent_in_tick: Vec<(u64, u64)>,
}

impl<M> Network<M> {
    pub(super) fn new(size: usize, in_flight: InFlight, seed: u64) -> Self {
        let links = size * size;
        Self {
            seed,
            size,
            conditions: LinkConditions::PERFECT,
            in_flight,
            parcels: BTreeMap::new(),
            sent: 0,
            is_open: vec![true; links],
            busy_until: vec![0; links],
            sent_in_tick: vec![(0, 0); links],
        }
    }

    pub(super) fn set_conditions(&mut self, conditions: LinkConditions) {
        self.conditions = conditions;
    }

    pub(super) fn set_open(&mut self, from: usize, to: usize, is_open: bool) {
        self.is_open[from * self.size + to] = is_open;
    }

    /// Sends a message. What becomes of it depends on its link, on the tick, and on how many were sent
    /// there in this tick: so it is the same for both contestants as far as it can be.
    pub(super) fn send(&mut self, now: u64, parcel: Parcel<M>) {
        let link = parcel.from * self.size + parcel.to;
        let (tick, nth) = &mut self.sent_in_tick[link];
        *nth = if *tick == now { *nth + 1 } else { 0 };
        *tick = now;
        let mut rng = Rng::of(&[self.seed, now, link as u64, *nth]);
        if !self.is_open[link] || rng.chance(self.conditions.loss, 1000) {
            return;
        }
        let mut at = now + 1 + self.conditions.least_delay + rng.below(self.conditions.delay + 1);
        if self.conditions.order == Order::Kept {
            at = at.max(self.busy_until[link]);
            self.busy_until[link] = at;
        }
        self.put(at, parcel);
    }

    /// Lets a message arrive at a tick.
    pub(super) fn put(&mut self, at: u64, parcel: Parcel<M>) {
        self.sent += 1;
        self.parcels.insert((at, self.sent), parcel);
    }

    /// The next message that has arrived by now.
    pub(super) fn arrival(&mut self, now: u64) -> Option<Parcel<M>> {
        loop {
            let first = self.parcels.first_entry()?;
            if first.key().0 > now {
                return None;
            }
            let parcel = first.remove();
            let is_open = self.is_open[parcel.from * self.size + parcel.to];
            if is_open || self.in_flight == InFlight::Arrives {
                return Some(parcel);
            }
        }
    }
}
