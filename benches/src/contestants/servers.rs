//! Servers of ours or of the published crate.

use super::replica::Replica;
use crate::cluster::{deliver, Cluster, KeyValue, Wire};

/// Servers that exchange messages by hand. They are known by position, from 0.
pub struct Servers<R: Replica> {
    /// The servers.
    pub servers: Vec<R>,
    /// Position of the leader at the start.
    pub leader: usize,
    /// Bytes of the largest message so far, if they are serialised.
    pub largest_message: usize,
    messages: Vec<R::Message>,
    wire: Wire,
}

impl<R: Replica> Servers<R> {
    /// `n` servers with a leader, and an election timeout in ticks if it is not the default.
    pub fn with(n: u64, wire: Wire, election_timeout: Option<u64>) -> Self {
        let servers = (1..=n).map(|pid| R::new(pid, n, election_timeout)).collect();
        let messages = Vec::new();
        let mut cluster = Self { servers, leader: 0, largest_message: 0, messages, wire };
        for _ in 0..100 {
            cluster.tick();
            deliver(&mut cluster);
        }
        let leader = cluster.servers[0].leader().expect("the servers elect a leader");
        cluster.leader = leader as usize - 1;
        cluster
    }

    /// Lets one tick pass at each server.
    pub fn tick(&mut self) {
        self.servers.iter_mut().for_each(R::tick);
    }

    /// One hop between the servers that are connected. The other messages are lost.
    pub fn hop_between(&mut self, are_connected: impl Fn(usize, usize) -> bool) -> usize {
        for server in &mut self.servers {
            server.take(&mut self.messages);
        }
        let moved = self.messages.len();
        for message in self.messages.drain(..) {
            let (from, to) = R::ends(&message);
            let to = to as usize - 1;
            if are_connected(from as usize - 1, to) {
                let (message, bytes) = R::travel(message, self.wire);
                self.largest_message = self.largest_message.max(bytes);
                self.servers[to].handle(message);
            }
        }
        moved
    }

    /// Appends entries at the leader in groups of 1000, while the links stay as they are.
    pub fn decide_between(
        &mut self,
        log: Vec<KeyValue>,
        are_connected: impl Fn(usize, usize) -> bool,
    ) {
        let mut log = log.into_iter();
        while log.len() > 0 {
            for entry in log.by_ref().take(1000) {
                self.append(entry);
            }
            while self.hop_between(&are_connected) > 0 {}
        }
    }
}

impl<R: Replica> Cluster for Servers<R> {
    fn elected(n: u64, wire: Wire) -> Self {
        Self::with(n, wire, None)
    }

    fn append(&mut self, entry: KeyValue) {
        assert!(self.servers[self.leader].append(entry), "the leader takes an entry");
    }

    fn hop(&mut self) -> usize {
        self.hop_between(|_, _| true)
    }

    fn decided(&self) -> u64 {
        self.servers.iter().map(R::decided_idx).min().unwrap_or(0)
    }
}
