//! Items of the decided log.

use crate::errors::DecidedError;
use omnipaxos::{
    errors::StorageFailed,
    storage::{Entry, StopSign},
    util::LogEntry,
};
use std::{collections::VecDeque, ops::Range};

/// The largest number of items in a batch.
const MAX_ITEMS: usize = 1024;

/// A batch of so many bytes, as [`Entry::size_hint`] counts them, is complete.
const ENOUGH_BYTES: usize = 256 * 1024;

/// Number of entries that are read first. Then twice as many are read each time, up to the most. Their size is
/// known once they are read, so a batch may have this many more than enough.
const FIRST_READ: usize = 16;
const MOST_READ: usize = 64;

/// One item of the decided log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Decided<T: Entry> {
    /// An entry.
    Entry {
        /// Number of entries before it.
        idx: u64,
        /// The entry.
        entry: T,
    },
    /// A snapshot, which stands for all entries before an index. The next item is that at `idx`.
    Snapshot {
        /// Number of entries for which the snapshot stands.
        idx: u64,
        /// The snapshot.
        snapshot: T::Snapshot,
    },
    /// The end of a configuration. Items follow only if the log
    /// [continues](omnipaxos::ServerConfig::continues).
    StopSign {
        /// Number of entries before it.
        idx: u64,
        /// The stop sign.
        stopsign: StopSign,
    },
}

/// Consecutive items.
pub(crate) struct Batch<T: Entry> {
    pub(crate) items: VecDeque<Decided<T>>,
    /// The index after the last item.
    pub(crate) end: u64,
    /// The bytes of the entries.
    bytes: usize,
}

impl<T: Entry> Batch<T> {
    /// Reads decided items from `from` on until the batch is complete. `read` reads a range of the log.
    pub(crate) fn read(
        from: u64,
        decided_idx: u64,
        mut read: impl FnMut(Range<u64>) -> Result<Option<Vec<LogEntry<T>>>, StorageFailed>,
    ) -> Result<Self, DecidedError> {
        let mut batch = Self { items: VecDeque::new(), end: from, bytes: 0 };
        let mut entries = FIRST_READ;
        while batch.end < decided_idx && batch.items.len() < MAX_ITEMS && batch.bytes < ENOUGH_BYTES
        {
            let start = batch.end;
            let most = entries.min(MAX_ITEMS - batch.items.len()) as u64;
            let range = start..start.saturating_add(most).min(decided_idx);
            batch.add(read(range).map_err(DecidedError::Storage)?.unwrap_or_default())?;
            if batch.end == start {
                break;
            }
            entries = MOST_READ.min(entries * 2);
        }
        Ok(batch)
    }

    /// Adds what the replica returned for the decided entries from the end of the batch on.
    fn add(&mut self, read: Vec<LogEntry<T>>) -> Result<(), DecidedError> {
        for item in read {
            match item {
                LogEntry::Decided(entry) => {
                    self.bytes = self.bytes.saturating_add(entry.size_hint());
                    self.items.push_back(Decided::Entry { idx: self.end, entry });
                    self.end += 1;
                }
                LogEntry::Snapshotted(snapshotted) => {
                    self.end = snapshotted.trimmed_idx;
                    let snapshot = snapshotted.snapshot;
                    self.items.push_back(Decided::Snapshot { idx: self.end, snapshot });
                }
                LogEntry::StopSign(stopsign, _decided) => {
                    self.items.push_back(Decided::StopSign { idx: self.end, stopsign });
                    self.end += 1;
                }
                LogEntry::Trimmed(idx) => return Err(DecidedError::Trimmed(idx)),
                // The range ends at the decided index.
                LogEntry::Undecided(_) => break,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use super::*;
    use omnipaxos::{storage::NoSnapshot, util::SnapshottedEntry};

    /// An entry of a size.
    #[derive(Clone, Debug)]
    struct Sized(usize);

    impl Entry for Sized {
        type Snapshot = NoSnapshot;

        fn size_hint(&self) -> usize {
            self.0
        }
    }

    /// Reads all of a log in batches. Returns the number of items and of bytes of each.
    fn batches(log: &[Sized]) -> Vec<(usize, usize)> {
        let decided_idx = u64::try_from(log.len()).unwrap();
        let read = |range: Range<u64>| {
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            Ok(Some(log[range].iter().cloned().map(LogEntry::Decided).collect()))
        };
        let (mut from, mut batches) = (0, Vec::new());
        while from < decided_idx {
            let batch = Batch::read(from, decided_idx, read).unwrap();
            assert!(batch.end > from);
            from = batch.end;
            batches.push((batch.items.len(), batch.bytes));
        }
        batches
    }

    #[test]
    fn a_batch_of_small_entries_has_many_and_large_ones_end_it() {
        let mut log = vec![Sized(8); 2000];
        assert_eq!(batches(&log), [(1024, 8192), (976, 7808)]);
        log.extend(vec![Sized(1 << 20); 100]);
        // The size of the small entries says nothing about the next ones.
        let largest = batches(&log).into_iter().map(|(_items, bytes)| bytes).max().unwrap();
        assert_eq!(largest, 976 * 8 + (32 << 20));
        assert_eq!(batches(&log).iter().map(|(items, _bytes)| items).sum::<usize>(), 2100);
    }

    #[test]
    fn the_first_batch_of_a_log_is_bounded_too() {
        assert_eq!(
            batches(&vec![Sized(1 << 20); 40]),
            [(16, 16 << 20), (16, 16 << 20), (8, 8 << 20)]
        );
        assert_eq!(batches(&[Sized(1 << 30)]), [(1, 1 << 30)]);
        assert_eq!(batches(&vec![Sized(10_000); 64])[0], (48, 480_000));
    }

    #[test]
    fn a_batch_takes_few_reads_and_never_has_more_items() {
        let mut reads = 0;
        let read = |range: Range<u64>| {
            reads += 1;
            // What is before index 10 is compacted.
            let snapshot = || SnapshottedEntry { trimmed_idx: 10, snapshot: NoSnapshot };
            let first = (range.start < 10).then(|| LogEntry::Snapshotted(snapshot()));
            let entries = (range.start.max(10)..range.end).map(|_| LogEntry::Decided(Sized(1)));
            Ok(Some(first.into_iter().chain(entries).collect()))
        };
        let batch = Batch::read(5, 5000, read).unwrap();
        assert_eq!((batch.items.len(), reads), (MAX_ITEMS, 18));
        assert_eq!(batch.end, 10 + 1023);
    }

    #[test]
    fn a_read_that_gives_nothing_ends_the_batch() {
        let batch = Batch::<Sized>::read(3, 9, |_range| Ok(None)).unwrap();
        assert_eq!((batch.items.len(), batch.end), (0, 3));
    }
}
