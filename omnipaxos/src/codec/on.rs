//! Encodes entries if the sender and the receiver have the same caches.
//!
//! A leader passes each entry through its cache once, in log order. Every follower passes the same
//! entries through its own cache, whether they travel encoded or not. So a cache is a function of
//! the entries since the index at which it was empty. Each message contains that index, and nothing
//! else has to be agreed on.
//!
//! A follower may not know all entries since then: it was restarted, or caught up from other
//! servers. It accepts plain entries, and reports that it cannot decode the others. Then the leader
//! begins with an empty cache at the end of its log.
//!
//! Invariant I15: a follower decodes an entry only with a cache that processed exactly the entries
//! of its leader's log before that entry, from the index in the message on.

use super::Decoded;
use crate::{
    amount::Amount,
    entry::{unicache::UniCache, SharedEntries},
    storage::Entry,
};
use std::collections::VecDeque;

/// The entries of an [`AcceptDecide`](crate::messages::sequence_paxos::AcceptDecide).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub struct CodedEntries<T: Entry> {
    /// The cache was empty before the entry with this index. No earlier entry passes through it.
    since: u64,
    form: Form<T>,
}

#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
enum Form<T: Entry> {
    Plain(SharedEntries<T>),
    Encoded(SharedEntries<T::EncodeResult>),
}

impl<T: Entry> CodedEntries<T> {
    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Plain(entries) => entries.len(),
            Form::Encoded(results) => results.len(),
        }
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the entries, if they are plain.
    pub fn plain(&self) -> Option<&SharedEntries<T>> {
        match &self.form {
            Form::Plain(entries) => Some(entries),
            Form::Encoded(_) => None,
        }
    }
}

/// Makes plain entries, which pass through no cache.
impl<T: Entry> From<SharedEntries<T>> for CodedEntries<T> {
    fn from(entries: SharedEntries<T>) -> Self {
        Self { since: u64::MAX, form: Form::Plain(entries) }
    }
}

impl<T: Entry> From<Vec<T>> for CodedEntries<T> {
    fn from(entries: Vec<T>) -> Self {
        SharedEntries::from(entries).into()
    }
}

/// The cache and the encoded entries of a leader, or the cache of a follower.
#[derive(Clone, Debug)]
pub(crate) struct Codec<T: Entry> {
    /// `None` if it is not known which entries passed through the cache of the leader.
    cache: Option<Cache<T>>,
    /// The entries that a leader has encoded and may send.
    encoded: Encoded<T>,
}

/// A cache that processed the entries `since..end` of the leader's log, in order.
#[derive(Clone, Debug)]
struct Cache<T: Entry> {
    since: u64,
    end: u64,
    state: T::UniCache,
}

/// The encoded entries up to the end of the leader's log that are kept.
#[derive(Clone, Debug)]
struct Encoded<T: Entry> {
    /// One batch per flush.
    batches: VecDeque<Batch<T>>,
    /// The amount of all batches.
    total: Amount,
    /// The largest amount that is kept: no more than this is in flight.
    most: Amount,
}

/// The encoded entries of one flush.
#[derive(Clone, Debug)]
struct Batch<T: Entry> {
    /// Index of the first entry.
    first: u64,
    results: SharedEntries<T::EncodeResult>,
    /// Their amount before encoding.
    amount: Amount,
}

impl<T: Entry> Codec<T> {
    /// Creates an empty codec. It keeps the encoded forms of entries up to about `most`.
    pub(crate) fn new(most: Amount) -> Self {
        let encoded = Encoded { batches: VecDeque::new(), total: Amount::default(), most };
        Self { cache: None, encoded }
    }

    /// Leader: begins with an empty cache at index `idx`, the end of the log.
    pub(crate) fn reset(&mut self, idx: u64) {
        self.encoded.clear();
        let is_used = T::UniCache::is_used();
        self.cache = is_used.then(|| Cache { since: idx, end: idx, state: T::UniCache::new() });
    }

    /// Leader: encodes entries appended to the log, from index `from_idx` on. They have `bytes`
    /// bytes.
    pub(crate) fn encode(&mut self, from_idx: u64, entries: &SharedEntries<T>, bytes: u64) {
        let end = from_idx + entries.len() as u64;
        let Some(cache) = self.cache.as_mut().filter(|cache| cache.end < end) else {
            return;
        };
        if cache.end < from_idx {
            return self.reset(end);
        }
        let first = cache.end;
        let entries = entries.lock();
        let new = entries.iter().skip(to_position(first - from_idx));
        let bytes = match first == from_idx {
            true => bytes,
            false => new.clone().map(|entry| entry.size_hint() as u64).sum(),
        };
        let results: Vec<_> = new.map(|entry| cache.state.try_encode(entry)).collect();
        cache.end = end;
        let amount = Amount { entries: end - first, bytes };
        self.encoded.push(Batch { first, results: results.into(), amount });
    }

    /// Leader: drops the encoded forms of entries before this index. Every follower has accepted
    /// them, so they are not sent again.
    pub(crate) fn forget_before(&mut self, accepted_by_all: impl FnOnce() -> Option<u64>) {
        if !self.encoded.batches.is_empty() {
            self.encoded.forget_before(accepted_by_all().unwrap_or_default());
        }
    }

    /// Leader: returns the index, at most `end`, up to which entries from `from_idx` on have one
    /// form.
    pub(crate) fn end_of_run(&self, from_idx: u64, end: u64) -> u64 {
        match self.encoded.batches.front() {
            Some(Batch { first, .. }) if from_idx < *first => end.min(*first),
            Some(_) | None => end,
        }
    }

    /// Leader: returns the entries from `from_idx` on, of one [run](Self::end_of_run), in the form
    /// in which they are sent.
    pub(crate) fn coded(&self, from_idx: u64, entries: SharedEntries<T>) -> CodedEntries<T> {
        let Some(cache) = &self.cache else {
            return entries.into();
        };
        let form = match self.encoded.get(from_idx, entries.len()) {
            Some(results) => Form::Encoded(results),
            None => Form::Plain(entries),
        };
        CodedEntries { since: cache.since, form }
    }

    /// Follower: drops the cache, since the log was changed from another source or has another
    /// leader.
    pub(crate) fn invalidate(&mut self) {
        self.cache = None;
        self.encoded.clear();
    }

    /// Follower with a log that ends at `end`: decodes the leader's entries that the log lacks.
    pub(crate) fn decode(&mut self, from_idx: u64, coded: CodedEntries<T>, end: u64) -> Decoded<T> {
        let CodedEntries { since, form } = coded;
        let (Some(held), true) = (end.checked_sub(from_idx), T::UniCache::is_used()) else {
            // If there is a gap before them, or no cache, there is nothing to decode.
            return match form {
                Form::Plain(entries) => Decoded::Entries { from_idx, entries },
                Form::Encoded(_) => {
                    Decoded::Entries { from_idx, entries: SharedEntries::default() }
                }
            };
        };
        let held = to_position(held);
        match form {
            Form::Plain(entries) => {
                let lacking = held.min(entries.len())..entries.len();
                if let Some(lacking) = entries.slice(lacking) {
                    self.pass(end, since, &lacking.lock());
                }
                Decoded::Entries { from_idx, entries }
            }
            Form::Encoded(results) => {
                self.read(end, since, results.into_vec().into_iter().skip(held))
            }
        }
    }

    /// Passes entries from index `from_idx` on, the end of the log, through the cache that was
    /// empty at `since`.
    fn pass(&mut self, from_idx: u64, since: u64, entries: &[T]) {
        if entries.is_empty() {
            return;
        }
        let end = from_idx + entries.len() as u64;
        if end <= since {
            return self.invalidate();
        }
        let skipped = since.saturating_sub(from_idx);
        let Some(cache) = self.cache_at(from_idx + skipped, since) else {
            return self.invalidate();
        };
        for entry in entries.iter().skip(to_position(skipped)) {
            cache.state.try_encode(entry);
        }
        cache.end = end;
    }

    /// Decodes entries from index `from_idx` on, the end of the log.
    fn read(
        &mut self,
        from_idx: u64,
        since: u64,
        results: impl ExactSizeIterator<Item = T::EncodeResult>,
    ) -> Decoded<T> {
        if results.len() == 0 {
            return Decoded::Entries { from_idx, entries: SharedEntries::default() };
        }
        let Some(cache) = self.cache_at(from_idx, since) else {
            return Decoded::Unreadable;
        };
        let end = from_idx + results.len() as u64;
        let decoded = results.map(|result| cache.state.try_decode(result));
        match decoded.collect::<Option<Vec<T>>>() {
            Some(entries) => {
                cache.end = end;
                Decoded::Entries { from_idx, entries: entries.into() }
            }
            None => {
                self.invalidate();
                Decoded::Unreadable
            }
        }
    }

    /// Returns the cache that processed the entries `since..idx`; an empty one if there are none.
    fn cache_at(&mut self, idx: u64, since: u64) -> Option<&mut Cache<T>> {
        if idx == since {
            self.cache = Some(Cache { since, end: since, state: T::UniCache::new() });
        }
        self.cache.as_mut().filter(|cache| cache.since == since && cache.end == idx)
    }
}

impl<T: Entry> Encoded<T> {
    fn push(&mut self, batch: Batch<T>) {
        self.total.add(batch.amount);
        self.batches.push_back(batch);
        while let Some(oldest) = self.batches.front() {
            let rest = self.total.without(oldest.amount);
            if rest.is_below(self.most) {
                break;
            }
            self.total = rest;
            self.batches.pop_front();
        }
    }

    fn forget_before(&mut self, idx: u64) {
        while let Some(oldest) = self.batches.front() {
            if oldest.first + oldest.amount.entries > idx {
                break;
            }
            self.total.subtract(oldest.amount);
            self.batches.pop_front();
        }
    }

    fn clear(&mut self) {
        self.batches.clear();
        self.total = Amount::default();
    }

    /// Returns `count` encoded entries from `from_idx` on, shared if one flush brought them.
    fn get(&self, from_idx: u64, count: usize) -> Option<SharedEntries<T::EncodeResult>> {
        if count == 0 {
            return None;
        }
        let after = self.batches.partition_point(|batch| batch.first <= from_idx);
        let position = after.checked_sub(1)?;
        let Batch { first, results, .. } = self.batches.get(position)?;
        let start = to_position(from_idx - first);
        if let Some(results) = results.slice(start..start + count) {
            return Some(results);
        }
        let mut results = Vec::new();
        for batch in self.batches.range(position..) {
            let skipped = if results.is_empty() { start } else { 0 };
            let lacking = count - results.len();
            results.extend(batch.results.lock().iter().skip(skipped).take(lacking).cloned());
        }
        (results.len() == count).then(|| results.into())
    }
}

/// Converts a number of entries to a position in a slice.
fn to_position(entries: u64) -> usize {
    usize::try_from(entries).unwrap_or(usize::MAX)
}
