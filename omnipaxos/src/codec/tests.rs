use super::{Codec, CodedEntries, Decoded};
use crate::{
    amount::Amount,
    entry::{
        unicache::{FieldCache, LRUniCache, MaybeEncoded, UniCache},
        SharedEntries,
    },
    storage::{Entry, NoSnapshot},
};

#[derive(Clone, Debug, PartialEq)]
struct Letter(char);

impl Entry for Letter {
    type Snapshot = NoSnapshot;
    type Encoded = u8;
    type Encodable = char;
    type NotEncodable = ();
    type EncodeResult = MaybeEncoded<char, u8>;
    type UniCache = Letters;
}

#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Letters(LRUniCache<char, u8>);

impl UniCache for Letters {
    type T = Letter;

    fn new() -> Self {
        Letters(LRUniCache::new(2))
    }

    fn try_encode(&mut self, entry: &Letter) -> MaybeEncoded<char, u8> {
        self.0.try_encode(&entry.0)
    }

    fn decode(&mut self, processed: MaybeEncoded<char, u8>) -> Letter {
        Letter(self.0.decode(processed))
    }

    fn try_decode(&mut self, processed: MaybeEncoded<char, u8>) -> Option<Letter> {
        self.0.try_decode(processed).map(Letter)
    }
}

/// A leader with its log, whose caches are empty at index `since`.
struct Leader {
    log: Vec<Letter>,
    codec: Codec<Letter>,
}

impl Leader {
    fn new(log: &str, entries: u64) -> Self {
        Self::that_keeps(Amount { entries, bytes: u64::MAX }, log)
    }

    fn that_keeps(most: Amount, log: &str) -> Self {
        let log: Vec<_> = log.chars().map(Letter).collect();
        let mut codec = Codec::new(most);
        codec.reset(log.len() as u64);
        Self { log, codec }
    }

    /// Each letter is a byte.
    fn append(&mut self, letters: &str) {
        let from_idx = self.log.len();
        self.log.extend(letters.chars().map(Letter));
        let appended = SharedEntries::from(self.log[from_idx..].to_vec());
        self.codec.encode(from_idx as u64, &appended, letters.len() as u64);
    }

    /// All messages from an index on.
    fn messages(&self, mut from_idx: u64) -> Vec<(u64, CodedEntries<Letter>)> {
        let end = self.log.len() as u64;
        let mut messages = Vec::new();
        while from_idx < end {
            let to = self.codec.end_of_run(from_idx, end);
            let entries = self.log[from_idx as usize..to as usize].to_vec();
            messages.push((from_idx, self.codec.coded(from_idx, SharedEntries::from(entries))));
            from_idx = to;
        }
        messages
    }
}

struct Follower {
    log: String,
    codec: Codec<Letter>,
}

impl Follower {
    fn new(log: &str) -> Self {
        Self { log: log.to_string(), codec: Codec::new(Amount::default()) }
    }

    /// Takes a message in. The error names what failed.
    fn take(
        &mut self,
        (from_idx, coded): &(u64, CodedEntries<Letter>),
    ) -> Result<(), &'static str> {
        let end = self.log.len() as u64;
        match self.codec.decode(*from_idx, coded.clone(), end) {
            Decoded::Unreadable => Err("unreadable"),
            Decoded::Entries { from_idx, .. } if from_idx > end => Err("a gap"),
            Decoded::Entries { from_idx, entries } => {
                let entries = entries.lock();
                let lacking = entries.iter().skip((end - from_idx) as usize);
                self.log.extend(lacking.map(|letter| letter.0));
                Ok(())
            }
        }
    }
}

fn forms(messages: &[(u64, CodedEntries<Letter>)]) -> Vec<(u64, usize, bool)> {
    messages.iter().map(|(idx, m)| (*idx, m.len(), m.plain().is_none())).collect()
}

#[test]
fn a_follower_in_step_reads_what_is_encoded() {
    let mut leader = Leader::new("xy", 100);
    let mut follower = Follower::new("xy");
    for letters in ["ab", "abc", "cab", "b"] {
        let from_idx = leader.log.len() as u64;
        leader.append(letters);
        let messages = leader.messages(from_idx);
        assert_eq!(forms(&messages), [(from_idx, letters.len(), true)]);
        assert_eq!(follower.take(&messages[0]), Ok(()));
        assert_eq!(follower.take(&messages[0]), Ok(()), "a copy adds nothing");
    }
    assert_eq!(follower.log, "xyababccabb");
    let whole = leader.messages(2);
    assert_eq!(forms(&whole), [(2, 9, true)], "of several flushes");
    let mut late = Follower::new("xy");
    assert_eq!(late.take(&whole[0]), Ok(()));
    assert_eq!(late.log, follower.log);
}

#[test]
fn what_is_not_kept_travels_as_it_is_and_goes_through_the_cache() {
    let mut leader = Leader::new("x", 4);
    for letters in ["ab", "ba", "ca", "cb"] {
        leader.append(letters);
    }
    let messages = leader.messages(0);
    assert_eq!(forms(&messages), [(0, 5, false), (5, 4, true)]);
    let mut follower = Follower::new("");
    assert_eq!(follower.take(&messages[1]), Err("a gap"));
    assert_eq!(follower.take(&messages[0]), Ok(()));
    assert_eq!(follower.take(&messages[1]), Ok(()));
    assert_eq!(follower.log, "xabbacacb");
}

#[test]
fn no_more_is_kept_encoded_than_may_be_in_flight() {
    for most in [Amount { entries: 4, bytes: 100 }, Amount { entries: 100, bytes: 4 }] {
        let mut leader = Leader::that_keeps(most, "");
        for _ in 0..9 {
            leader.append("ab");
            let kept = &leader.messages(0).pop().unwrap().1;
            assert!(kept.plain().is_none() && kept.len() <= 4, "{} of {most:?}", kept.len());
        }
    }
}

#[test]
fn who_missed_something_reads_on_when_the_leader_starts_again() {
    let mut leader = Leader::new("", 100);
    let mut follower = Follower::new("");
    leader.append("ab");
    assert_eq!(follower.take(&leader.messages(0)[0]), Ok(()));
    let mut restarted = Follower::new("ab");
    leader.append("a");
    let message = leader.messages(2).remove(0);
    assert_eq!(restarted.take(&message), Err("unreadable"));
    leader.codec.reset(3);
    leader.append("ba");
    let messages = leader.messages(2);
    assert_eq!(forms(&messages), [(2, 1, false), (3, 2, true)]);
    for message in &messages {
        assert_eq!(restarted.take(message), Ok(()));
    }
    assert_eq!(follower.take(&message), Ok(()), "on its way since before");
    assert_eq!(follower.take(&messages[1]), Ok(()));
    assert_eq!((follower.log.as_str(), restarted.log.as_str()), ("ababa", "ababa"));
}

#[test]
fn a_code_that_nobody_gave_out_is_unreadable() {
    let mut leader = Leader::new("", 100);
    let mut follower = Follower::new("");
    leader.append("abab");
    let of_another = leader.codec.coded(2, SharedEntries::from(vec![Letter('a'), Letter('b')]));
    leader.codec.reset(0);
    assert_eq!(follower.take(&(0, of_another)), Err("unreadable"));
    leader.codec.encode(0, &SharedEntries::from(leader.log.clone()), 4);
    assert_eq!(follower.take(&leader.messages(0)[0]), Ok(()));
    assert_eq!(follower.log, "abab");
}

/// Leader and follower have passed "abab" through their caches, the leader the rest, too.
fn in_step(rest: &str) -> (Leader, Follower) {
    let (mut leader, mut follower) = (Leader::new("", 100), Follower::new(""));
    leader.append("abab");
    assert_eq!(follower.take(&leader.messages(0)[0]), Ok(()));
    leader.append(rest);
    (leader, follower)
}

#[test]
fn what_went_through_no_cache_makes_the_rest_unreadable() {
    let (leader, mut follower) = in_step("cca");
    follower.log.push_str("cc");
    assert_eq!(follower.take(&leader.messages(6)[0]), Err("unreadable"), "an AcceptSync had it");
}

#[test]
fn a_cache_that_was_empty_elsewhere_reads_nothing() {
    let (_, mut follower) = in_step("");
    let mut restarted = Leader::new("ab", 100);
    restarted.append("ab");
    restarted.append("ab");
    assert_eq!(follower.take(&restarted.messages(4)[0]), Err("unreadable"));
    follower.codec.invalidate();
    assert_eq!(follower.take(&restarted.messages(4)[0]), Err("unreadable"), "of no leader");
}

#[test]
fn what_travels_as_it_is_goes_through_the_cache_once() {
    let (mut leader, mut follower) = (Leader::new("", 2), Follower::new(""));
    leader.append("abab");
    assert_eq!(follower.take(&leader.messages(0)[0]), Ok(()));
    leader.append("c");
    leader.append("bc");
    let messages = leader.messages(0);
    assert_eq!(forms(&messages), [(0, 5, false), (5, 2, true)]);
    for message in &messages {
        assert_eq!(follower.take(message), Ok(()));
    }
    assert_eq!(follower.log, "ababcbc");
}

#[test]
fn a_leader_that_missed_entries_starts_again() {
    let (mut leader, mut follower) = in_step("");
    leader.log.extend("cd".chars().map(Letter));
    leader.append("d");
    leader.append("dc");
    for message in leader.messages(4) {
        assert_eq!(follower.take(&message), Ok(()));
    }
    leader.append("dc");
    assert_eq!(follower.take(&leader.messages(9)[0]), Ok(()));
    assert_eq!(follower.log, "ababcdddcdc");
}
