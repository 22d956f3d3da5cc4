//! Knows forwarded proposals again when the network delivers them twice.
//!
//! A forward travels as plain entries, so it is known by its text: that of `Debug`. The receiver
//! takes each text of an origin once. The origin remembers what it sent, and what has the text of
//! an earlier forward travels with a number. Both sides compare texts in the same way, so entries
//! whose text does not tell them apart cost a number and lose nothing. A server that passes a
//! forward on names the origin, so that the leader knows a copy whichever way it came.

use crate::{ids::NodeId, messages::sequence_paxos::RepeatedForward};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::{Debug, Write},
    hash::{DefaultHasher, Hasher},
};

/// Number of forwards of one origin that a receiver remembers.
const REMEMBERED_BY_RECEIVER: usize = 1024;

/// Number of forwards that their origin remembers. Once it has forgotten one, it numbers all: a
/// receiver may still know what it forgot, if most were lost since.
const REMEMBERED_BY_ORIGIN: usize = 4 * REMEMBERED_BY_RECEIVER;

/// What was forwarded from here and to here.
#[derive(Clone, Debug)]
pub(super) struct Forwards {
    sent: Recent,
    /// By origin.
    received: BTreeMap<NodeId, Recent>,
    next_number: u64,
    numbers_all: bool,
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
            sent: Recent::default(),
            received: BTreeMap::new(),
            next_number: len,
            numbers_all: is_restarted,
        }
    }

    /// Prepares to forward `entries`, which were proposed here, at server `origin`.
    pub(super) fn send<T: Debug>(&mut self, origin: NodeId, entries: Vec<T>) -> RepeatedForward<T> {
        let seen = self.sent.remember(text_of(&entries, None), REMEMBERED_BY_ORIGIN);
        if seen == Seen::First && !self.sent.has_forgotten && !self.numbers_all {
            return RepeatedForward { origin, number: None, entries };
        }
        let number = Some(self.next_number);
        self.next_number = self.next_number.wrapping_add(1);
        RepeatedForward { origin, number, entries }
    }

    /// Whether a forward came before.
    pub(super) fn receive<T: Debug>(&mut self, forward: &RepeatedForward<T>) -> Seen {
        let text = text_of(&forward.entries, forward.number);
        self.received.entry(forward.origin).or_default().remember(text, REMEMBERED_BY_RECEIVER)
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
    use super::{Forwards, RepeatedForward, Seen, REMEMBERED_BY_RECEIVER};

    #[test]
    fn a_copy_is_known() {
        let mut origin = Forwards::new(0, false);
        let mut receiver = Forwards::new(0, false);
        let forward = origin.send(1, vec!["a", "b"]);
        assert_eq!(forward.number, None);
        assert_eq!(receiver.receive(&forward), Seen::First);
        assert_eq!(receiver.receive(&forward), Seen::Again);
    }

    #[test]
    fn a_repetition_that_is_meant_gets_through() {
        let mut origin = Forwards::new(0, false);
        let mut receiver = Forwards::new(0, false);
        let forwards: Vec<_> = (0..3).map(|_| origin.send(1, vec!["a"])).collect();
        for forward in &forwards {
            assert_eq!(receiver.receive(forward), Seen::First);
        }
        for forward in &forwards {
            assert_eq!(receiver.receive(forward), Seen::Again);
        }
    }

    #[test]
    fn two_origins_may_say_the_same() {
        let mut receiver = Forwards::new(0, false);
        for origin in [1, 2] {
            let forward = Forwards::new(0, false).send(origin, vec!["a"]);
            assert_eq!(receiver.receive(&forward), Seen::First);
        }
    }

    #[test]
    fn an_origin_that_has_forgotten_does_not_pass_for_a_copy() {
        let mut origin = Forwards::new(0, false);
        let mut receiver = Forwards::new(0, false);
        assert_eq!(receiver.receive(&origin.send(1, vec!["a".to_string()])), Seen::First);
        for number in 0..5000 {
            origin.send(1, vec![number.to_string()]);
        }
        assert_eq!(receiver.receive(&origin.send(1, vec!["a".to_string()])), Seen::First);
    }

    #[test]
    fn a_restarted_origin_repeats_what_got_into_the_log() {
        let mut receiver = Forwards::new(0, false);
        let first_life = Forwards::new(0, false).send(1, vec!["a"]);
        let second_life = Forwards::new(1, true).send(1, vec!["a"]);
        let third_life = Forwards::new(2, true).send(1, vec!["a"]);
        for forward in [first_life, second_life, third_life] {
            assert_eq!(receiver.receive(&forward), Seen::First);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut receiver = Forwards::new(0, false);
        for number in 0..5000 {
            receiver.receive(&RepeatedForward { origin: 1, number: None, entries: vec![number] });
        }
        assert_eq!(receiver.received[&1].texts.len(), REMEMBERED_BY_RECEIVER);
        assert_eq!(receiver.received[&1].oldest_first.len(), REMEMBERED_BY_RECEIVER);
    }
}
