//! What happens to messages on their way.

use crate::{kind, Cluster};
use omnipaxos::{
    messages::Message,
    storage::{Entry, Storage},
    util::NodeId,
};
use std::collections::BTreeMap;

/// What happens to a message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives this number of ticks later; with 0 in the same tick.
    Arrives(u64),
    /// It arrives twice, each time this number of ticks later.
    ArrivesTwice(u64, u64),
    /// It is lost.
    Lost,
    /// It waits for [`Cluster::release`].
    Held,
}

/// Decides what happens to messages.
pub trait Network<T: Entry> {
    /// Decides about a message that is sent in the tick `now`. May count it, or change it.
    fn fate(&mut self, now: u64, message: &mut Message<T>) -> Fate;

    /// Chooses one of `count` servers that run with the id of the receiver. `None`: all of them get
    /// the message.
    fn choose(&mut self, _count: usize) -> Option<usize> {
        None
    }
}

impl<T: Entry, F: FnMut(u64, &mut Message<T>) -> Fate> Network<T> for F {
    fn fate(&mut self, now: u64, message: &mut Message<T>) -> Fate {
        self(now, message)
    }
}

/// Each message arrives this number of ticks later; with 0 in the same tick.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Delay(pub u64);

impl<T: Entry> Network<T> for Delay {
    fn fate(&mut self, _now: u64, _message: &mut Message<T>) -> Fate {
        Fate::Arrives(self.0)
    }
}

/// Messages by sender, receiver and kind. `None` is any.
#[derive(Clone, Debug, Default)]
pub struct Pick {
    /// The sender.
    pub from: Option<NodeId>,
    /// The receiver.
    pub to: Option<NodeId>,
    /// The kind, as [`kind`] names it.
    pub kind: Option<String>,
}

impl Pick {
    /// The messages of a kind from one server to another.
    pub fn of(from: NodeId, to: NodeId, kind: &str) -> Self {
        Self { from: Some(from), to: Some(to), kind: Some(kind.to_string()) }
    }

    /// All messages of a kind.
    pub fn kind(kind: &str) -> Self {
        Self { kind: Some(kind.to_string()), ..Self::default() }
    }

    /// Whether this picks `message`.
    pub fn matches<T: Entry>(&self, message: &Message<T>) -> bool {
        self.from.is_none_or(|from| from == message.get_sender())
            && self.to.is_none_or(|to| to == message.get_receiver())
            && self.kind.as_ref().is_none_or(|wanted| wanted == kind(message))
    }
}

/// Drops messages and holds them back, as the test orders. Each other message arrives `delay` ticks
/// later. Counts what is sent.
#[derive(Clone, Debug)]
pub struct Scripted {
    delay: u64,
    drops: Vec<Picks>,
    holds: Vec<Picks>,
    sent: BTreeMap<&'static str, u64>,
}

/// Of the messages that `pick` picks, passes `skip` over and takes `count`.
#[derive(Clone, Debug)]
struct Picks {
    pick: Pick,
    skip: usize,
    count: usize,
    has_picked: bool,
}

impl Picks {
    fn new(pick: Pick, skip: usize, count: usize) -> Self {
        Self { pick, skip, count, has_picked: false }
    }
}

impl Scripted {
    /// Drops and holds back nothing yet.
    pub fn new(delay: u64) -> Self {
        Self { delay, drops: Vec::new(), holds: Vec::new(), sent: BTreeMap::new() }
    }
}

impl<T: Entry, B: Storage<T>> Cluster<T, B, Scripted> {
    /// Drops the next `count` messages that `pick` picks.
    pub fn drop_next(&mut self, pick: Pick, count: usize) {
        self.network.drops.push(Picks::new(pick, 0, count));
    }

    /// Drops the `nth` message, counted from 1, that `pick` picks.
    pub fn drop_nth(&mut self, pick: Pick, nth: usize) {
        self.network.drops.push(Picks::new(pick, nth.saturating_sub(1), 1));
    }

    /// Holds back the next `count` messages that `pick` picks, until [`release`](Self::release).
    pub fn hold_next(&mut self, pick: Pick, count: usize) {
        self.network.holds.push(Picks::new(pick, 0, count));
    }

    /// What was to be dropped or held back, of which no message was sent. A story with such an order has not
    /// told what it was written for.
    pub fn never_picked(&self) -> Vec<&Pick> {
        let picks = self.network.drops.iter().chain(&self.network.holds);
        picks.filter(|picks| !picks.has_picked).map(|picks| &picks.pick).collect()
    }

    /// The number of messages of a kind that left a server.
    pub fn sent(&self, kind: &str) -> u64 {
        self.network.sent.get(kind).copied().unwrap_or(0)
    }

    /// The number of messages other than heartbeats that left a server.
    pub fn sent_beside_heartbeats(&self) -> u64 {
        let is_heartbeat = |kind: &str| kind.starts_with("Heartbeat");
        self.network
            .sent
            .iter()
            .filter(|(kind, _)| !is_heartbeat(kind))
            .map(|(_, count)| count)
            .sum()
    }
}

impl<T: Entry> Network<T> for Scripted {
    fn fate(&mut self, _now: u64, message: &mut Message<T>) -> Fate {
        *self.sent.entry(kind(message)).or_default() += 1;
        if pick_one(&mut self.drops, message) {
            Fate::Lost
        } else if pick_one(&mut self.holds, message) {
            Fate::Held
        } else {
            Fate::Arrives(self.delay)
        }
    }
}

fn pick_one<T: Entry>(picks: &mut [Picks], message: &Message<T>) -> bool {
    let Some(picks) = picks.iter_mut().find(|p| p.count > 0 && p.pick.matches(message)) else {
        return false;
    };
    if picks.skip > 0 {
        picks.skip -= 1;
        return false;
    }
    picks.count -= 1;
    picks.has_picked = true;
    true
}
