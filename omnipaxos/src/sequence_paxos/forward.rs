//! Knows forwarded proposals again when the network delivers them twice.
//!
//! A forward travels as plain entries, so it is known by its text: that of `Debug`. The receiver
//! takes each text once. The sender remembers what it sent, and what has the text of an earlier
//! forward travels with a number. Both sides compare texts in the same way, so entries whose text
//! does not tell them apart cost a number and lose nothing.

use crate::{ids::NodeId, messages::sequence_paxos::RepeatedForward};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::{Debug, Write},
    hash::{DefaultHasher, Hasher},
};

/// Number of forwards of one sender that its receiver remembers.
const REMEMBERED_BY_RECEIVER: usize = 1024;

/// Number of forwards that the sender remembers for each receiver. Once it has forgotten one, it
/// numbers all: the receiver may still know what it forgot, if most were lost since.
const REMEMBERED_BY_SENDER: usize = 4 * REMEMBERED_BY_RECEIVER;

/// What was forwarded from here and to here.
#[derive(Clone, Debug)]
pub(super) struct Forwards {
    sent: BTreeMap<NodeId, Recent>,
    received: BTreeMap<NodeId, Recent>,
    next_number: u64,
    numbers_all: bool,
}

/// How a forward must travel.
#[derive(Clone, Debug)]
pub(super) enum Forward<T> {
    Plain(Vec<T>),
    Repeated(RepeatedForward<T>),
}

/// Whether a forward came before.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    First,
    Again,
}

impl Forwards {
    /// A server that starts with a log of length `len`. A restarted one has forgotten what it sent
    /// and numbers all; it starts with a number that no earlier life of it used for what has since
    /// got into the log.
    pub(super) fn new(len: u64, is_restarted: bool) -> Self {
        Self {
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            next_number: len,
            numbers_all: is_restarted,
        }
    }

    /// Decides how `entries` travel to `to`.
    pub(super) fn send<T: Debug>(&mut self, to: NodeId, entries: Vec<T>) -> Forward<T> {
        let sent = self.sent.entry(to).or_default();
        let seen = sent.remember(text_of(&entries, None), REMEMBERED_BY_SENDER);
        if seen == Seen::First && !sent.has_forgotten && !self.numbers_all {
            return Forward::Plain(entries);
        }
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        Forward::Repeated(RepeatedForward { number, entries })
    }

    /// Whether a plain forward came before.
    pub(super) fn receive<T: Debug>(&mut self, from: NodeId, entries: &[T]) -> Seen {
        self.remember_received(from, text_of(entries, None))
    }

    /// Whether a numbered forward came before.
    pub(super) fn receive_repeated<T: Debug>(
        &mut self,
        from: NodeId,
        forward: &RepeatedForward<T>,
    ) -> Seen {
        self.remember_received(from, text_of(&forward.entries, Some(forward.number)))
    }

    fn remember_received(&mut self, from: NodeId, text: u64) -> Seen {
        self.received.entry(from).or_default().remember(text, REMEMBERED_BY_RECEIVER)
    }
}

/// The latest texts, as hashes.
#[derive(Clone, Debug, Default)]
struct Recent {
    texts: BTreeSet<u64>,
    oldest_first: VecDeque<u64>,
    has_forgotten: bool,
}

impl Recent {
    fn remember(&mut self, text: u64, limit: usize) -> Seen {
        if !self.texts.insert(text) {
            return Seen::Again;
        }
        self.oldest_first.push_back(text);
        if self.oldest_first.len() > limit {
            if let Some(oldest) = self.oldest_first.pop_front() {
                self.texts.remove(&oldest);
                self.has_forgotten = true;
            }
        }
        Seen::First
    }
}

/// A hash of what `Debug` says of the entries, and of the number.
fn text_of<T: Debug>(entries: &[T], number: Option<u64>) -> u64 {
    let mut text = HashedText(DefaultHasher::new());
    for entry in entries {
        // Hashing cannot fail. An entry whose `Debug` does is known by what it said before.
        let _ = write!(text, "{entry:?}\0");
    }
    if let Some(number) = number {
        text.0.write_u64(number);
    }
    text.0.finish()
}

struct HashedText(DefaultHasher);

impl Write for HashedText {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        self.0.write(part.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Forward, Forwards, Seen, REMEMBERED_BY_RECEIVER};

    fn deliver(receiver: &mut Forwards, forward: &Forward<&'static str>) -> Seen {
        match forward {
            Forward::Plain(entries) => receiver.receive(1, entries),
            Forward::Repeated(repeated) => receiver.receive_repeated(1, repeated),
        }
    }

    #[test]
    fn a_copy_is_known() {
        let mut sender = Forwards::new(0, false);
        let mut receiver = Forwards::new(0, false);
        let forward = sender.send(2, vec!["a", "b"]);
        assert!(matches!(forward, Forward::Plain(_)));
        assert_eq!(deliver(&mut receiver, &forward), Seen::First);
        assert_eq!(deliver(&mut receiver, &forward), Seen::Again);
    }

    #[test]
    fn a_repetition_that_is_meant_gets_through() {
        let mut sender = Forwards::new(0, false);
        let mut receiver = Forwards::new(0, false);
        let forwards: Vec<_> = (0..3).map(|_| sender.send(2, vec!["a"])).collect();
        for forward in &forwards {
            assert_eq!(deliver(&mut receiver, forward), Seen::First);
        }
        for forward in &forwards {
            assert_eq!(deliver(&mut receiver, forward), Seen::Again);
        }
    }

    #[test]
    fn a_sender_that_has_forgotten_does_not_pass_for_a_copy() {
        let mut sender = Forwards::new(0, false);
        let mut receiver = Forwards::new(0, false);
        assert_eq!(deliver(&mut receiver, &sender.send(2, vec!["a"])), Seen::First);
        let lost: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
        for text in lost {
            sender.send(2, vec![text]);
        }
        assert_eq!(deliver(&mut receiver, &sender.send(2, vec!["a"])), Seen::First);
    }

    #[test]
    fn a_restarted_sender_repeats_what_got_into_the_log() {
        let mut receiver = Forwards::new(0, false);
        let first_life = Forwards::new(0, false).send(2, vec!["a"]);
        let second_life = Forwards::new(1, true).send(2, vec!["a"]);
        let third_life = Forwards::new(2, true).send(2, vec!["a"]);
        for forward in [first_life, second_life, third_life] {
            assert_eq!(deliver(&mut receiver, &forward), Seen::First);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut receiver = Forwards::new(0, false);
        for number in 0..5000 {
            receiver.receive(1, &[number]);
        }
        assert_eq!(receiver.received[&1].texts.len(), REMEMBERED_BY_RECEIVER);
        assert_eq!(receiver.received[&1].oldest_first.len(), REMEMBERED_BY_RECEIVER);
    }
}
