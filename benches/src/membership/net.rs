//! Links that carry a number of bytes in a tick, between servers whose memory is counted.

use super::{Changing, Meter, Used};
use std::collections::{BTreeMap, VecDeque};

/// All links.
pub(super) struct Net<'a> {
    links: BTreeMap<(u64, u64), Link>,
    bytes_per_tick: usize,
    /// Number of messages of each kind, if that is counted.
    kinds: Option<BTreeMap<String, i64>>,
    largest: usize,
    meter: Meter<'a>,
    /// The memory of each server, above that at the start.
    heaps: BTreeMap<u64, Heap>,
    /// Messages that were taken.
    taken: Vec<(u64, Vec<u8>)>,
}

/// Bytes that a server has allocated.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heap {
    pub(super) now: i64,
    pub(super) peak: i64,
}

#[derive(Debug, Default)]
struct Link {
    queue: VecDeque<Vec<u8>>,
    /// Bytes of the first message that were sent.
    begun: usize,
    /// Bytes of all messages.
    sent: usize,
    /// Bytes in the queue.
    queued: usize,
    /// The most of them.
    most_queued: usize,
}

impl<'a> Net<'a> {
    pub(super) fn new(bytes_per_tick: usize, meter: Meter<'a>) -> Self {
        Self {
            links: BTreeMap::new(),
            bytes_per_tick,
            kinds: None,
            largest: 0,
            meter,
            heaps: BTreeMap::new(),
            taken: Vec::with_capacity(1 << 12),
        }
    }

    /// Counts for a server what `work` allocates and frees.
    pub(super) fn count(&mut self, pid: u64, mut work: impl FnMut()) {
        let used = (self.meter)(&mut work);
        self.heaps.entry(pid).or_default().add(used);
    }

    /// Lets a tick pass at all servers, takes their messages, and delivers what has arrived.
    pub(super) fn pass_tick<C: Changing>(&mut self, servers: &mut C) {
        for from in servers.pids() {
            let mut taken = std::mem::take(&mut self.taken);
            self.count(from, || {
                servers.tick(from);
                servers.take(from, &mut |to, bytes| taken.push((to, bytes)));
            });
            for (to, bytes) in taken.drain(..) {
                if let Some(kinds) = &mut self.kinds {
                    *kinds.entry(C::kind(&bytes)).or_default() += 1;
                }
                self.largest = self.largest.max(bytes.len());
                self.heaps.entry(from).or_default().now -= bytes.capacity() as i64;
                self.links.entry((from, to)).or_default().push(bytes);
            }
            self.taken = taken;
        }
        let running = servers.pids();
        for ((_, to), link) in &mut self.links {
            let mut left = self.bytes_per_tick;
            while let Some(bytes) = link.pop(&mut left) {
                if running.contains(to) {
                    let used = (self.meter)(&mut || servers.handle(*to, &bytes));
                    self.heaps.entry(*to).or_default().add(used);
                }
            }
        }
    }

    /// Forgets what was counted.
    pub(super) fn forget(&mut self) {
        self.links.values_mut().for_each(|link| (link.sent, link.most_queued) = (0, 0));
        self.largest = 0;
        self.heaps.clear();
    }

    /// The bytes of each link.
    pub(super) fn sent(&self) -> impl Iterator<Item = ((u64, u64), usize)> + '_ {
        self.links.iter().map(|(ends, link)| (*ends, link.sent))
    }

    /// The most bytes that were on their way over one link to a server.
    pub(super) fn most_queued(&self, to: u64) -> usize {
        let links = self.links.iter().filter(|((_, end), _)| *end == to);
        links.map(|(_, link)| link.most_queued).max().unwrap_or_default()
    }

    pub(super) fn heap(&self, pid: u64) -> Heap {
        self.heaps.get(&pid).copied().unwrap_or_default()
    }

    /// Counts the messages of each kind from now on.
    pub(super) fn count_kinds(&mut self) {
        self.kinds = Some(BTreeMap::new());
    }

    pub(super) fn kinds(self) -> BTreeMap<String, i64> {
        self.kinds.unwrap_or_default()
    }

    pub(super) fn largest(&self) -> usize {
        self.largest
    }
}

impl Heap {
    fn add(&mut self, used: Used) {
        self.peak = self.peak.max(self.now + used.most as i64);
        self.now += used.left;
    }
}

impl Link {
    fn push(&mut self, bytes: Vec<u8>) {
        self.sent += bytes.len();
        self.queued += bytes.len();
        self.most_queued = self.most_queued.max(self.queued);
        self.queue.push_back(bytes);
    }

    /// Returns the next message, if what is left of the tick suffices for the rest of it.
    fn pop(&mut self, left: &mut usize) -> Option<Vec<u8>> {
        let rest = self.queue.front()?.len() - self.begun;
        if rest > *left {
            self.begun += *left;
            *left = 0;
            return None;
        }
        (*left, self.begun) = (*left - rest, 0);
        let first = self.queue.pop_front()?;
        self.queued -= first.len();
        Some(first)
    }
}
