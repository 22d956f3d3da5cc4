//! Entries with several owners at once.

use parking_lot::{MappedReentrantMutexGuard, ReentrantMutex, ReentrantMutexGuard};
use std::{
    fmt::Debug,
    iter,
    num::NonZeroUsize,
    ops::{Deref, Range},
    option,
    panic::{RefUnwindSafe, UnwindSafe},
    slice,
    sync::Arc,
    vec,
};

/// The largest number of entries cloned under one lock. Each lock costs as much as a short clone,
/// and the clones of a batch are in memory at once.
const BATCH_LEN: usize = 16;

/// A run of entries, shared and immutable: one allocation for the leader's storage and for the
/// messages to all followers.
///
/// Equality and serialisation are those of the entries, in order.
///
/// # Threads
/// Entries that are `Send` but not `Sync` may be shared between threads, since only one thread at a
/// time reads a run: [`lock`](Self::lock) waits for the others.
///
/// A serialiser, a formatter and a [visitor](Self::for_each) of a caller never run under the lock
/// while other owners exist: they get copies of the entries. So a blocked connection never blocks a
/// replica or another connection.
#[derive(Clone)]
pub struct SharedEntries<T> {
    held: Held<T>,
}

/// The entries of a [`SharedEntries`], locked against other threads until this value is dropped.
///
/// The same thread may lock them again. Not `Send`.
pub struct LockedEntries<'a, T>(Option<MappedReentrantMutexGuard<'a, [T]>>);

#[derive(Clone)]
enum Held<T> {
    /// No entry, which needs no allocation, or a single one, which needs no vector.
    AtMostOne(Option<Arc<ReentrantMutex<T>>>),
    /// The `len` entries from `start` on.
    Part { all: Arc<ReentrantMutex<Vec<T>>>, start: usize, len: NonZeroUsize },
}

impl<T> SharedEntries<T> {
    /// Creates a run of one entry.
    #[inline]
    pub(crate) fn one(entry: T) -> Self {
        Self { held: Held::AtMostOne(Some(Arc::new(ReentrantMutex::new(entry)))) }
    }

    /// Returns the number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.held {
            Held::AtMostOne(entry) => usize::from(entry.is_some()),
            Held::Part { len, .. } => len.get(),
        }
    }

    /// Returns whether there are no entries.
    #[inline]
    pub fn is_empty(&self) -> bool {
        matches!(self.held, Held::AtMostOne(None))
    }

    /// Returns the entries at `range`, in the same memory; `None` if some do not exist.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let Some(len) = NonZeroUsize::new(range.end - range.start) else {
            return Some(Self::default());
        };
        let held = match &self.held {
            Held::AtMostOne(entry) => Held::AtMostOne(entry.clone()),
            Held::Part { all, start, .. } => {
                Held::Part { all: all.clone(), start: start + range.start, len }
            }
        };
        Some(Self { held })
    }

    /// Waits until no other thread reads the entries, and locks them.
    ///
    /// Meanwhile other threads wait, including the replica: hold the lock briefly, and do not
    /// block.
    #[inline]
    pub fn lock(&self) -> LockedEntries<'_, T> {
        LockedEntries(match &self.held {
            Held::AtMostOne(entry) => {
                entry.as_ref().map(|one| ReentrantMutexGuard::map(one.lock(), slice::from_ref))
            }
            Held::Part { all, start, len } => {
                let range = *start..*start + len.get();
                let all = all.lock();
                Some(ReentrantMutexGuard::map(all, |all| all.get(range).unwrap_or_default()))
            }
        })
    }

    /// Returns whether another owner holds them, too.
    #[inline]
    pub fn is_shared(&self) -> bool {
        match &self.held {
            Held::AtMostOne(entry) => entry.as_ref().is_some_and(|one| Arc::strong_count(one) > 1),
            Held::Part { all, .. } => Arc::strong_count(all) > 1,
        }
    }

    /// Moves the entries into a vector.
    ///
    /// # Errors
    /// Another owner holds them, too. Contains the entries.
    pub fn try_into_vec(self) -> Result<Vec<T>, Self> {
        let held = match self.held {
            Held::AtMostOne(None) => return Ok(Vec::new()),
            Held::AtMostOne(Some(entry)) => match Arc::try_unwrap(entry) {
                Ok(entry) => return Ok(vec![entry.into_inner()]),
                Err(entry) => Held::AtMostOne(Some(entry)),
            },
            Held::Part { all, start, len } => match Arc::try_unwrap(all) {
                Ok(all) => {
                    let mut all = all.into_inner();
                    all.truncate(start + len.get());
                    if start > 0 {
                        all.drain(..start);
                    }
                    return Ok(all);
                }
                Err(all) => Held::Part { all, start, len },
            },
        };
        Err(Self { held })
    }
}

impl<T: Clone> SharedEntries<T> {
    /// Returns the entries as a vector: moved if there is no other owner, otherwise cloned.
    pub fn into_vec(self) -> Vec<T> {
        self.try_into_vec().unwrap_or_else(|shared| shared.to_vec())
    }

    /// Copies the entries into a vector.
    pub fn to_vec(&self) -> Vec<T> {
        self.lock().to_vec()
    }

    /// Calls `visit` with each existing entry of `range`, in order.
    ///
    /// If there are other owners, it passes clones, so that they need not wait for `visit`.
    pub fn for_each(&self, range: Range<usize>, mut visit: impl FnMut(&T)) {
        let end = range.end.min(self.len());
        let range = range.start.min(end)..end;
        if !self.is_shared() {
            return self.lock()[range].iter().for_each(visit);
        }
        if range.len() == 1 {
            let clone = self.lock()[range.start].clone();
            return visit(&clone);
        }
        let mut clones = Vec::new();
        for batch in batches(range) {
            self.clone_batch(batch, &mut clones);
            clones.iter().for_each(&mut visit);
        }
    }

    /// Replaces `clones` by clones of the entries at `batch`, which must exist. The clones are made
    /// under the lock, and used after it.
    fn clone_batch(&self, batch: Range<usize>, clones: &mut Vec<T>) {
        clones.clear();
        clones.extend_from_slice(&self.lock()[batch]);
    }
}

/// Returns the positions `range` in batches for [`clone_batch`](SharedEntries::clone_batch).
fn batches(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(BATCH_LEN).map(move |from| from..end.min(from + BATCH_LEN))
}

/// Returns the entries one by one: moved if there is no other owner, otherwise cloned.
impl<T: Clone> IntoIterator for SharedEntries<T> {
    type Item = T;
    type IntoIter = iter::Chain<option::IntoIter<T>, vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        match self.held {
            Held::AtMostOne(entry) => entry.map(unwrap_or_clone).into_iter().chain(Vec::new()),
            held @ Held::Part { .. } => None.into_iter().chain(Self { held }.into_vec()),
        }
    }
}

fn unwrap_or_clone<T: Clone>(entry: Arc<ReentrantMutex<T>>) -> T {
    match Arc::try_unwrap(entry) {
        Ok(entry) => entry.into_inner(),
        Err(shared) => shared.lock().clone(),
    }
}

impl<T> From<Vec<T>> for SharedEntries<T> {
    fn from(entries: Vec<T>) -> Self {
        let held = match NonZeroUsize::new(entries.len()) {
            None => Held::AtMostOne(None),
            Some(len) => Held::Part { all: Arc::new(ReentrantMutex::new(entries)), start: 0, len },
        };
        Self { held }
    }
}

impl<T> Default for SharedEntries<T> {
    fn default() -> Self {
        Self { held: Held::AtMostOne(None) }
    }
}

impl<T> Deref for LockedEntries<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<T: Debug> Debug for LockedEntries<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Writes after the lock is released, since a writer may block.
impl<T: Debug> Debug for SharedEntries<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = if f.alternate() {
            format!("{:#?}", self.lock())
        } else {
            format!("{:?}", self.lock())
        };
        f.write_str(&text)
    }
}

/// Never locks two runs at once: two threads that compare the same two would wait for each other.
impl<T: PartialEq + Clone> PartialEq for SharedEntries<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.to_vec() == *other.lock()
    }
}

/// A panic under the lock does not change the entries: no code writes to them.
impl<T: UnwindSafe> UnwindSafe for SharedEntries<T> {}

impl<T: RefUnwindSafe> RefUnwindSafe for SharedEntries<T> {}

#[cfg(feature = "serde")]
impl<T: serde::Serialize + Clone> serde::Serialize for SharedEntries<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;

        if !self.is_shared() {
            return serializer.collect_seq(self.lock().iter());
        }
        let mut sequence = serializer.serialize_seq(Some(self.len()))?;
        let mut clones = Vec::new();
        for batch in batches(0..self.len()) {
            self.clone_batch(batch, &mut clones);
            clones.iter().try_for_each(|entry| sequence.serialize_element(entry))?;
        }
        sequence.end()
    }
}

#[cfg(feature = "serde")]
impl<'de, T: serde::Deserialize<'de>> serde::Deserialize<'de> for SharedEntries<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(from_serde::Entries(std::marker::PhantomData))
    }
}

/// Deserialises a single entry without a vector.
#[cfg(feature = "serde")]
mod from_serde {
    use super::SharedEntries;
    use serde::de::{Deserialize, SeqAccess, Visitor};
    use std::{fmt, marker::PhantomData};

    /// The largest amount of memory reserved in advance: a peer chooses the number of entries.
    const MOST_EXPECTED_BYTES: usize = 1 << 20;

    pub(super) struct Entries<T>(pub(super) PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
        type Value = SharedEntries<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a sequence of entries")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let Some(first) = seq.next_element()? else {
                return Ok(SharedEntries::default());
            };
            let Some(second) = seq.next_element()? else {
                return Ok(SharedEntries::one(first));
            };
            let most = MOST_EXPECTED_BYTES / size_of::<T>().max(1);
            let expected = seq.size_hint().unwrap_or_default().min(most);
            let mut entries = Vec::with_capacity(2 + expected);
            entries.extend([first, second]);
            while let Some(entry) = seq.next_element()? {
                entries.push(entry);
            }
            Ok(entries.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SharedEntries, BATCH_LEN};
    use std::cell::Cell;

    #[test]
    fn a_thread_may_lock_again() {
        let entries = SharedEntries::from(vec![1, 2]);
        entries.for_each(0..9, |_| assert_eq!(entries, entries.clone()));
        let locked = entries.lock();
        assert_eq!(format!("{entries:?}"), format!("{:?}", &*locked));
        assert_eq!(format!("{entries:#?}"), format!("{:#?}", &*locked));
    }

    #[test]
    fn visits_a_range() {
        for (range, visited) in [(0..0, ""), (0..2, "ab"), (1..9, "bc"), (3..9, ""), (9..9, "")] {
            let entries = SharedEntries::from(vec!['a', 'b', 'c']);
            let mut found = String::new();
            entries.for_each(range.clone(), |letter| found.push(*letter));
            let others = entries.clone();
            others.for_each(range.clone(), |letter| found.push(*letter));
            assert_eq!(found, visited.repeat(2), "{range:?}");
        }
    }

    #[test]
    fn shared_entries_are_visited_in_batches() {
        for len in [BATCH_LEN - 1, BATCH_LEN, BATCH_LEN + 1, 3 * BATCH_LEN] {
            let entries = SharedEntries::from((0..len).collect::<Vec<_>>());
            let others = entries.clone();
            let mut visited = Vec::new();
            others.for_each(2..len, |number| visited.push(*number));
            assert_eq!(visited, (2..len).collect::<Vec<_>>());
        }
    }

    /// A visitor and a writer may wait for a thread that reads the same entries.
    #[test]
    fn nobody_waits_for_a_visitor_of_entries_that_others_hold() {
        let entries = SharedEntries::from(vec![Cell::new(1)]);
        let others = entries.clone();
        entries.for_each(0..1, |_| {
            std::thread::scope(|scope| {
                let other = scope.spawn(|| others.to_vec());
                assert_eq!(other.join().expect("it reads"), [Cell::new(1)]);
            });
        });
    }

    #[test]
    fn slices_are_ranges_of_ranges() {
        let all = SharedEntries::from(vec![0, 1, 2, 3, 4]);
        let tail = all.slice(1..5).unwrap();
        assert_eq!(*tail.lock(), [1, 2, 3, 4]);
        assert_eq!(*tail.slice(1..3).unwrap().lock(), [2, 3]);
        assert_eq!(tail.slice(2..5), None);
        assert_eq!(tail.slice(1..1).unwrap().len(), 0);
    }

    #[test]
    fn one_alone_is_as_a_run_of_one() {
        let (alone, run) = (SharedEntries::one(7), SharedEntries::from(vec![7]));
        for one in [alone, run] {
            assert_eq!((&*one.lock(), one.len(), one.is_empty()), (&[7][..], 1, false));
            assert!(one.slice(1..1).unwrap().is_empty());
            assert_eq!(one.slice(0..2), None);
            let same = one.slice(0..1).unwrap();
            assert!(one.is_shared() && same == one);
            assert_eq!(same.try_into_vec().expect_err("it is held"), one);
            assert!(!one.is_shared());
            assert_eq!(one.clone().into_iter().collect::<Vec<_>>(), [7]);
            assert_eq!(one.try_into_vec().unwrap(), [7]);
        }
    }

    #[test]
    fn take_as_much_room_as_three_words() {
        assert_eq!(size_of::<SharedEntries<u8>>(), 3 * size_of::<usize>());
    }

    #[test]
    fn into_vec_moves_what_nobody_else_holds() {
        let all = SharedEntries::from(vec![0, 1, 2, 3]);
        let part = all.slice(1..3).unwrap();
        assert_eq!(part.clone().into_vec(), [1, 2]);
        let part = part.try_into_vec().expect_err("it is held");
        drop(all);
        assert_eq!(part.try_into_vec().unwrap(), [1, 2]);
    }
}
