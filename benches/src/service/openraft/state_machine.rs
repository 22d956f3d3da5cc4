//! The state machine: a map in memory, and its latest snapshot in a file.

use super::{log_store::replace, Node, Types};
use crate::{
    protocol::{Put, Value},
    Failure,
};
use openraft::{
    storage::{RaftStateMachine, Snapshot},
    Entry, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, SnapshotMeta, StorageError,
    StorageIOError, StoredMembership,
};
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Cursor},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

type Meta = SnapshotMeta<u64, Node>;

#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    meta: Meta,
    #[serde(with = "serde_bytes")]
    state: Vec<u8>,
}

#[derive(Default)]
struct State {
    values: BTreeMap<u64, Value>,
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, Node>,
    snapshot: Option<Stored>,
}

/// The state machine of a server. Clones share it.
#[derive(Clone)]
pub(super) struct Store {
    state: Arc<Mutex<State>>,
    path: PathBuf,
}

impl Store {
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("snapshot");
        let store = Self { state: Arc::default(), path };
        if store.path.exists() {
            store.restore(decode(&fs::read(&store.path)?)?)?;
        }
        Ok(store)
    }

    /// Returns the value of a key. Another store may fail here.
    pub(super) fn get(&self, key: u64) -> Result<Option<Value>, Failure> {
        Ok(self.state().values.get(&key).cloned())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the state")
    }

    fn restore(&self, stored: Stored) -> Result<(), Failure> {
        let values = decode(&stored.state)?;
        *self.state() = State {
            values,
            applied: stored.meta.last_log_id,
            membership: stored.meta.last_membership.clone(),
            snapshot: Some(stored),
        };
        Ok(())
    }

    fn write(&self, stored: &Stored) -> Result<(), Failure> {
        Ok(replace(&self.path, &encode(stored)?)?)
    }

    /// Makes a snapshot. No command is applied while the state is copied.
    fn make_snapshot(&self) -> Result<Stored, Failure> {
        let (values, last_log_id, last_membership) = {
            let state = self.state();
            (state.values.clone(), state.applied, state.membership.clone())
        };
        let snapshot_id = format!("{}", last_log_id.map_or(0, |id| id.index));
        let meta = Meta { last_log_id, last_membership, snapshot_id };
        let stored = Stored { meta, state: encode(&values)? };
        self.write(&stored)?;
        self.state().snapshot = Some(stored.clone());
        Ok(stored)
    }
}

impl RaftSnapshotBuilder<Types> for Store {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError<u64>> {
        let store = self.clone();
        let made = tokio::task::spawn_blocking(move || store.make_snapshot()).await;
        Ok(snapshot(made.map_err(failed)?.map_err(failed)?))
    }
}

impl RaftStateMachine<Types> for Store {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, Node>), StorageError<u64>> {
        let state = self.state();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut responses = Vec::new();
        let mut state = self.state();
        for entry in entries {
            state.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(Put { key, value }) => {
                    state.values.insert(key, value);
                }
                EntryPayload::Membership(membership) => {
                    state.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
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
        meta: &Meta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        let stored = Stored { meta: meta.clone(), state: snapshot.into_inner() };
        self.write(&stored).map_err(failed)?;
        self.restore(stored).map_err(failed)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError<u64>> {
        Ok(self.state().snapshot.clone().map(snapshot))
    }
}

fn snapshot(stored: Stored) -> Snapshot<Types> {
    Snapshot { meta: stored.meta, snapshot: Box::new(Cursor::new(stored.state)) }
}

fn failed(failure: impl Into<Failure>) -> StorageError<u64> {
    StorageIOError::write_state_machine(&io::Error::other(failure)).into()
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    Ok(bincode::serde::encode_to_vec(value, bincode::config::standard())?)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    Ok(bincode::serde::decode_from_slice(bytes, bincode::config::standard())?.0)
}
