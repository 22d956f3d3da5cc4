//! Names forwarded proposals that travel without ids.
//!
//! Entries appended at a server that does not lead travel as plain entries the first time. So they
//! are named by their `Debug` text: origin and receiver make the same number from it. Entries with
//! the text of an earlier forward of the same origin always travel with ids.

use std::{
    collections::BTreeSet,
    fmt::{Debug, Write},
    hash::{DefaultHasher, Hasher},
};

/// The incarnation in content ids. The numbers made from texts differ from counted numbers in the
/// highest bit.
pub(super) const CONTENT_HASH: u64 = 0;

const IS_CONTENT_HASH: u64 = 1 << 63;

/// Number of forwards that an origin names by their texts. All others travel with ids: receivers keep no more
/// content ids of one server.
const REMEMBERED: usize = 4096;

/// Whether another server, on another storage, had this server's id before, and may have used the
/// ids that this server would use.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Predecessor {
    None,
    /// This server started without history, and did not replicate in any ballot yet.
    NotKnown,
    /// It was empty when it was synced by a leader that had entries.
    Possible,
}

/// The texts forwarded from here.
#[derive(Clone, Debug)]
pub(super) struct ContentIds {
    texts: BTreeSet<u64>,
    /// Whether a text may have been used before and is not remembered.
    has_forgotten: bool,
    predecessor: Predecessor,
    repetitions: u64,
}

impl ContentIds {
    /// Creates the content ids of a server with a log of length `len`. If it `has_history`, it has
    /// forgotten its earlier forwards. It counts repetitions from a number that no earlier
    /// incarnation used for entries appended since.
    pub(super) fn new(len: u64, has_history: bool) -> Self {
        Self {
            texts: BTreeSet::new(),
            has_forgotten: has_history,
            predecessor: match has_history {
                true => Predecessor::None,
                false => Predecessor::NotKnown,
            },
            repetitions: len,
        }
    }

    pub(super) fn predecessor(&self) -> Predecessor {
        self.predecessor
    }

    /// Records that this server replicates, with a log of length `len`.
    pub(super) fn get_in_step(&mut self, len: u64) {
        if self.predecessor == Predecessor::NotKnown {
            self.predecessor = match len {
                0 => Predecessor::None,
                1.. => Predecessor::Possible,
            };
        }
    }

    /// Returns the number of the first of `entries`, if they may travel without ids.
    pub(super) fn plain_number<T: Debug>(&mut self, entries: &[T]) -> Option<u64> {
        if self.has_forgotten || self.predecessor != Predecessor::None {
            return None;
        }
        if self.texts.len() == REMEMBERED {
            self.texts.clear();
            self.has_forgotten = true;
            return None;
        }
        let number = number_of(entries);
        self.texts.insert(number).then_some(number)
    }

    /// Returns a number for `entries` that are forwarded by a server without ids.
    pub(super) fn repeated_number<T: Debug>(&mut self, entries: &[T]) -> u64 {
        self.repetitions = self.repetitions.wrapping_add(1);
        number_of_text(entries, Some(self.repetitions))
    }
}

/// Returns the number of plain entries, made from their text.
pub(super) fn number_of<T: Debug>(entries: &[T]) -> u64 {
    number_of_text(entries, None)
}

/// Returns a hash of the `Debug` text of the entries, and of the repetition. It leaves room for as
/// many numbers after it as a message has entries.
fn number_of_text<T: Debug>(entries: &[T], repetition: Option<u64>) -> u64 {
    let mut text = HashedText(DefaultHasher::new());
    for entry in entries {
        // Hashing cannot fail. If `Debug` of an entry fails, the text before that names it.
        let _ = write!(text, "{entry:?}\0");
    }
    if let Some(number) = repetition {
        text.0.write_u64(number);
    }
    (text.0.finish() >> 2) | IS_CONTENT_HASH
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
    use super::{number_of, ContentIds, IS_CONTENT_HASH, REMEMBERED};

    #[test]
    fn each_number_leaves_room_for_those_of_a_message() {
        for number in (0..100).map(|entry| number_of(&[entry])) {
            assert_eq!(number & IS_CONTENT_HASH, IS_CONTENT_HASH);
            assert!(number < u64::MAX - (u64::MAX >> 2), "{number}");
        }
    }

    #[test]
    fn origin_and_receiver_make_the_same_number() {
        let mut origin = in_step(0, false);
        let number = origin.plain_number(&["a", "b"]);
        assert_eq!(number, Some(number_of(&["a".to_string(), "b".to_string()])));
        assert_ne!(number, origin.plain_number(&["ab"]));
        assert!(number.is_some_and(|number| number >= IS_CONTENT_HASH));
    }

    /// Does the same as [`ContentIds::new`], for a replicating server.
    fn in_step(len: u64, has_history: bool) -> ContentIds {
        let mut ids = ContentIds::new(len, has_history);
        ids.get_in_step(len);
        ids
    }

    #[test]
    fn a_text_is_used_where_there_was_no_predecessor() {
        let mut origin = ContentIds::new(0, false);
        assert_eq!(origin.plain_number(&["a"]), None);
        origin.get_in_step(0);
        assert!(origin.plain_number(&["a"]).is_some());
        origin.get_in_step(3);
        assert!(origin.plain_number(&["b"]).is_some());
        let mut origin = ContentIds::new(0, false);
        origin.get_in_step(3);
        assert_eq!(origin.plain_number(&["a"]), None);
    }

    #[test]
    fn a_text_is_used_once() {
        let mut origin = in_step(0, false);
        assert!(origin.plain_number(&["a"]).is_some());
        assert_eq!(origin.plain_number(&["a"]), None);
        assert_ne!(origin.repeated_number(&["a"]), origin.repeated_number(&["a"]));
    }

    #[test]
    fn whoever_has_forgotten_uses_none() {
        let mut origin = in_step(0, false);
        for number in 0..REMEMBERED {
            assert!(origin.plain_number(&[number]).is_some());
        }
        assert_eq!(origin.plain_number(&["a"]), None);
        assert_eq!(origin.plain_number(&["b"]), None);
        assert_eq!(in_step(1, true).plain_number(&["a"]), None);
    }

    #[test]
    fn a_restarted_server_repeats_what_got_into_the_log() {
        let mut incarnations = (0..3).map(|len| ContentIds::new(len, true).repeated_number(&["a"]));
        let (first, second) = (incarnations.next(), incarnations.next());
        assert_ne!(first, second);
        assert!(!incarnations.any(|number| Some(number) == first || Some(number) == second));
    }
}
