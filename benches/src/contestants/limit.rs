//! No protocol: the least data movement that replicas need.

use crate::cluster::{Cluster, KeyValue, Wire};
use std::sync::Arc;

/// One push a replica, an `Arc` clone per entry and follower, one small acknowledgement, one decide.
/// Its messages are always moved.
pub struct Limit {
    leader: Leader,
    followers: Vec<Follower>,
    messages: Vec<(usize, Message)>,
}

#[derive(Default)]
struct Leader {
    log: Vec<Arc<KeyValue>>,
    accepted: Vec<usize>,
    sent: usize,
    decided: usize,
    announced: usize,
}

#[derive(Default)]
struct Follower {
    log: Vec<Arc<KeyValue>>,
    acknowledged: usize,
    decided: usize,
}

enum Message {
    Accept(Vec<Arc<KeyValue>>, usize),
    Accepted(usize),
    Decide(usize),
}

impl Cluster for Limit {
    fn elected(n: u64, _wire: Wire) -> Self {
        let followers: Vec<_> = (1..n).map(|_| Follower::default()).collect();
        let leader = Leader { accepted: vec![0; followers.len()], ..Leader::default() };
        Self { leader, followers, messages: Vec::new() }
    }

    fn append(&mut self, entry: KeyValue) {
        self.leader.log.push(Arc::new(entry));
    }

    fn hop(&mut self) -> usize {
        self.leader.draw(&mut self.messages);
        for (from, follower) in self.followers.iter_mut().enumerate() {
            if follower.acknowledged < follower.log.len() {
                follower.acknowledged = follower.log.len();
                self.messages.push((from, Message::Accepted(follower.acknowledged)));
            }
        }
        let moved = self.messages.len();
        for (of, message) in self.messages.drain(..) {
            match message {
                Message::Accept(entries, decided) => {
                    self.followers[of].log.extend(entries);
                    self.followers[of].decided = decided;
                }
                Message::Decide(decided) => self.followers[of].decided = decided,
                Message::Accepted(accepted) => self.leader.accept(of, accepted),
            }
        }
        moved
    }

    fn decided(&self) -> u64 {
        let followers = self.followers.iter().map(|follower| follower.decided);
        followers.chain([self.leader.decided]).min().unwrap_or(0) as u64
    }
}

impl Leader {
    fn draw(&mut self, messages: &mut Vec<(usize, Message)>) {
        for to in 0..self.accepted.len() {
            if self.sent < self.log.len() {
                let entries = self.log[self.sent..].to_vec();
                messages.push((to, Message::Accept(entries, self.decided)));
            } else if self.announced < self.decided {
                messages.push((to, Message::Decide(self.decided)));
            }
        }
        self.sent = self.log.len();
        self.announced = self.decided;
    }

    /// Decides what a majority has accepted, of which the leader is one.
    fn accept(&mut self, from: usize, accepted: usize) {
        self.accepted[from] = accepted;
        let needed = self.accepted.len().div_ceil(2);
        if self.accepted.iter().filter(|idx| **idx >= accepted).count() >= needed {
            self.decided = self.decided.max(accepted);
        }
    }
}
