//! Log and state machine in memory.

use super::Types;
use openraft::{
    storage::{LogFlushed, LogState, RaftLogStorage, RaftStateMachine, Snapshot},
    EmptyNode, Entry, EntryPayload, LogId, RaftLogReader, RaftSnapshotBuilder, SnapshotMeta,
    StorageError, StoredMembership, Vote,
};
use std::{
    collections::VecDeque,
    fmt::Debug,
    io::Cursor,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, MutexGuard},
};

/// The log of a server, shared by those that read it.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    vote: Option<Vote<u64>>,
    purged: Option<LogId<u64>>,
    /// The index of the first entry.
    first: u64,
    entries: VecDeque<Entry<Types>>,
}

impl Stored {
    fn position(&self, index: u64) -> usize {
        (index.saturating_sub(self.first) as usize).min(self.entries.len())
    }
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
            Bound::Included(start) => stored.position(*start),
            Bound::Excluded(before) => stored.position(*before + 1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => stored.position(*last + 1),
            Bound::Excluded(end) => stored.position(*end),
            Bound::Unbounded => stored.entries.len(),
        };
        Ok(stored.entries.range(start.min(end)..end).cloned().collect())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError<u64>> {
        let stored = self.stored();
        let last_log_id = stored.entries.back().map(|entry| entry.log_id).or(stored.purged);
        Ok(LogState { last_purged_log_id: stored.purged, last_log_id })
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
        let mut stored = self.stored();
        let end = stored.position(from.index);
        stored.entries.truncate(end);
        Ok(())
    }

    async fn purge(&mut self, up_to: LogId<u64>) -> Result<(), StorageError<u64>> {
        let mut stored = self.stored();
        let end = stored.position(up_to.index + 1);
        stored.entries.drain(..end);
        stored.entries.shrink_to_fit();
        (stored.first, stored.purged) = (up_to.index + 1, Some(up_to));
        Ok(())
    }
}

/// The state machine of a server, which is a number of bytes. Clones share it.
#[derive(Clone)]
pub(super) struct State(Arc<Mutex<Applied>>);

struct Applied {
    state_bytes: usize,
    last: Option<LogId<u64>>,
    membership: StoredMembership<u64, EmptyNode>,
    snapshot: Option<(SnapshotMeta<u64, EmptyNode>, Vec<u8>)>,
}

impl State {
    pub(super) fn new(state_bytes: usize) -> Self {
        let membership = StoredMembership::default();
        Self(Arc::new(Mutex::new(Applied { state_bytes, last: None, membership, snapshot: None })))
    }

    /// Number of applied entries.
    pub(super) fn applied(&self) -> u64 {
        self.state().last.map_or(0, |last| last.index + 1)
    }

    fn state(&self) -> MutexGuard<'_, Applied> {
        self.0.lock().expect("nothing panics while it holds the state")
    }
}

fn copy_of((meta, state): &(SnapshotMeta<u64, EmptyNode>, Vec<u8>)) -> Snapshot<Types> {
    Snapshot { meta: meta.clone(), snapshot: Box::new(Cursor::new(state.clone())) }
}

impl RaftSnapshotBuilder<Types> for State {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError<u64>> {
        let mut state = self.state();
        let meta = SnapshotMeta {
            last_log_id: state.last,
            last_membership: state.membership.clone(),
            snapshot_id: "state".to_string(),
        };
        let snapshot = (meta, vec![7; state.state_bytes]);
        let copy = copy_of(&snapshot);
        state.snapshot = Some(snapshot);
        Ok(copy)
    }
}

impl RaftStateMachine<Types> for State {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, EmptyNode>), StorageError<u64>> {
        let state = self.state();
        Ok((state.last, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        let (mut responses, mut state) = (Vec::new(), self.state());
        for entry in entries {
            state.last = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                state.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            responses.push(());
        }
        Ok(responses)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(
        &mut self,
    ) -> Result<Box<Cursor<Vec<u8>>>, StorageError<u64>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, EmptyNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        let mut state = self.state();
        (state.last, state.membership) = (meta.last_log_id, meta.last_membership.clone());
        state.snapshot = Some((meta.clone(), snapshot.into_inner()));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError<u64>> {
        Ok(self.state().snapshot.as_ref().map(copy_of))
    }
}
