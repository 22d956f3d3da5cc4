//! Links that carry a number of bytes in a tick.

use super::Changing;
use std::collections::{BTreeMap, VecDeque};

/// All links.
#[derive(Debug)]
pub(super) struct Net {
    links: BTreeMap<(u64, u64), Link>,
    bytes_per_tick: usize,
    messages: usize,
    largest: usize,
}

#[derive(Debug, Default)]
struct Link {
    queue: VecDeque<Vec<u8>>,
    /// Bytes of the first message that were sent.
    begun: usize,
    /// Bytes of all messages.
    sent: usize,
}

impl Net {
    pub(super) fn new(bytes_per_tick: usize) -> Self {
        Self { links: BTreeMap::new(), bytes_per_tick, messages: 0, largest: 0 }
    }

    /// Lets a tick pass at all servers, takes their messages, and delivers what has arrived.
    pub(super) fn pass_tick<C: Changing>(&mut self, servers: &mut C) {
        for from in servers.pids() {
            servers.tick(from);
            servers.take(from, &mut |to, bytes| {
                self.messages += 1;
                self.largest = self.largest.max(bytes.len());
                let link = self.links.entry((from, to)).or_default();
                link.sent += bytes.len();
                link.queue.push_back(bytes);
            });
        }
        let running = servers.pids();
        for ((_, to), link) in &mut self.links {
            let mut left = self.bytes_per_tick;
            while let Some(first) = link.queue.front() {
                let rest = first.len() - link.begun;
                if rest > left {
                    link.begun += left;
                    break;
                }
                left -= rest;
                link.begun = 0;
                if let Some(bytes) = link.queue.pop_front().filter(|_| running.contains(to)) {
                    servers.handle(*to, &bytes);
                }
            }
        }
    }

    /// Forgets what was counted.
    pub(super) fn forget(&mut self) {
        self.links.values_mut().for_each(|link| link.sent = 0);
        (self.messages, self.largest) = (0, 0);
    }

    /// The bytes of each link.
    pub(super) fn sent(&self) -> impl Iterator<Item = ((u64, u64), usize)> + '_ {
        self.links.iter().map(|(ends, link)| (*ends, link.sent))
    }

    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    pub(super) fn largest(&self) -> usize {
        self.largest
    }
}
