//! Items of the decided log.

use crate::errors::DecidedError;
use omnipaxos::{
    storage::{Entry, StopSign},
    util::LogEntry,
};
use std::collections::VecDeque;

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
    pub(crate) bytes: usize,
}

impl<T: Entry> Batch<T> {
    /// Converts what the replica returned for the decided entries from `from` on.
    pub(crate) fn new(from: u64, read: Vec<LogEntry<T>>) -> Result<Self, DecidedError> {
        let mut batch = Self { items: VecDeque::with_capacity(read.len()), end: from, bytes: 0 };
        for item in read {
            match item {
                LogEntry::Decided(entry) => {
                    batch.bytes = batch.bytes.saturating_add(entry.size_hint());
                    batch.items.push_back(Decided::Entry { idx: batch.end, entry });
                    batch.end += 1;
                }
                LogEntry::Snapshotted(snapshotted) => {
                    batch.end = snapshotted.trimmed_idx;
                    let snapshot = snapshotted.snapshot;
                    batch.items.push_back(Decided::Snapshot { idx: batch.end, snapshot });
                }
                LogEntry::StopSign(stopsign, _decided) => {
                    batch.items.push_back(Decided::StopSign { idx: batch.end, stopsign });
                    batch.end += 1;
                }
                LogEntry::Trimmed(idx) => return Err(DecidedError::Trimmed(idx)),
                // The range ends at the decided index.
                LogEntry::Undecided(_) => break,
            }
        }
        Ok(batch)
    }
}
