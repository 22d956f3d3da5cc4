//! Log and state machine in memory. There are no snapshots, so the log is never purged.

use super::Types;
use openraft::{
    storage::{LogFlushed, LogState, RaftLogStorage, RaftStateMachine, Snapshot},
    EmptyNode, Entry, EntryPayload, LogId, RaftLogReader, RaftSnapshotBuilder, SnapshotMeta,
    StorageError, StoredMembership, Vote,
};
use std::{
    fmt::Debug,
    io::Cursor,
    ops::{Bound, RangeBounds},
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc, Mutex, MutexGuard,
    },
};
use tokio::sync::Notify;

/// The log of a server, shared by those that read it.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    vote: Option<Vote<u64>>,
    /// By index, from 0.
    entries: Vec<Entry<Types>>,
}

impl Log {
    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.0.lock().expect("nothing panics while it holds the log")
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<Types>>, StorageError<u64>> {
        let stored = self.stored();
        let start = match range.start_bound() {
            Bound::Included(start) => *start as usize,
            Bound::Excluded(before) => *before as usize + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => *last as usize + 1,
            Bound::Excluded(end) => *end as usize,
            Bound::Unbounded => usize::MAX,
        };
        let end = end.min(stored.entries.len());
        Ok(stored.entries.get(start..end).unwrap_or_default().to_vec())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError<u64>> {
        let last_log_id = self.stored().entries.last().map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: None, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        self.stored().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        Ok(self.stored().vote)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        self.stored().entries.extend(entries);
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.stored().entries.truncate(from.index as usize);
        Ok(())
    }

    async fn purge(&mut self, _up_to: LogId<u64>) -> Result<(), StorageError<u64>> {
        unreachable!("a log is purged after a snapshot, and there is none")
    }
}

/// How many appended entries each server has applied.
pub(super) struct Applied {
    /// By id, from 1.
    counts: Vec<AtomicU64>,
    grown: Notify,
}

impl Applied {
    pub(super) fn new(n: u64) -> Self {
        Self { counts: (0..n).map(|_| AtomicU64::new(0)).collect(), grown: Notify::new() }
    }

    /// Waits until every server has applied this number of entries.
    pub(super) async fn until_all_reach(&self, goal: u64) {
        while self.by_all() < goal {
            self.grown.notified().await;
        }
    }

    pub(super) fn by_all(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    fn add(&self, server: u64, entries: u64) {
        self.counts[server as usize - 1].fetch_add(entries, Ordering::Relaxed);
        self.grown.notify_one();
    }
}

/// The state machine of a server: counts what it applies.
pub(super) struct Counter {
    id: u64,
    applied: Arc<Applied>,
    last_applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, EmptyNode>,
}

impl Counter {
    pub(super) fn new(id: u64, applied: Arc<Applied>) -> Self {
        Self { id, applied, last_applied: None, membership: StoredMembership::default() }
    }
}

impl RaftStateMachine<Types> for Counter {
    type SnapshotBuilder = NoSnapshot;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, EmptyNode>), StorageError<u64>> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        let (mut responses, mut appended) = (Vec::new(), 0);
        for entry in entries {
            self.last_applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(_) => appended += 1,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
            }
            responses.push(());
        }
        self.applied.add(self.id, appended);
        Ok(responses)
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshot {
        NoSnapshot
    }

    async fn begin_receiving_snapshot(
        &mut self,
    ) -> Result<Box<Cursor<Vec<u8>>>, StorageError<u64>> {
        unreachable!("nobody sends a snapshot")
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta<u64, EmptyNode>,
        _snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        unreachable!("nobody sends a snapshot")
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError<u64>> {
        Ok(None)
    }
}

/// Builds no snapshot.
pub(super) struct NoSnapshot;

impl RaftSnapshotBuilder<Types> for NoSnapshot {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError<u64>> {
        unreachable!("the policy is never to take a snapshot")
    }
}
