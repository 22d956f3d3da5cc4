//! What is replicated: lines, and a handle that stands for all lines before an index.

use omnipaxos::{macros::Entry, storage::Snapshot, util::NodeId};
use serde::{Deserialize, Serialize};
use std::hash::Hasher;

/// A line that is added to the state.
#[derive(Clone, Debug, Entry, Serialize, Deserialize)]
#[snapshot(Handle)]
pub(crate) struct Line(pub(crate) String);

/// Names a state without containing it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Handle {
    /// The server that has the file. Its address is not in here: it may change.
    pub(crate) server: NodeId,
    /// The number of entries that the state contains.
    pub(crate) idx: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: u64,
}

impl Handle {
    pub(crate) fn of(server: NodeId, idx: u64, state: &[u8]) -> Self {
        // A real application uses a cryptographic hash function.
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(state);
        Self { server, idx, bytes: state.len() as u64, digest: hasher.finish() }
    }

    /// Whether this is the state that the handle names.
    pub(crate) fn is_of(&self, state: &[u8]) -> bool {
        *self == Self::of(self.server, self.idx, state)
    }
}

impl Snapshot<Line> for Handle {
    fn create(_: &[Line]) -> Self {
        unreachable!("can_create is false: only the application writes files")
    }

    fn merge(&mut self, _: Self) {
        unreachable!("can_create is false")
    }

    fn use_snapshots() -> bool {
        true
    }

    fn can_create() -> bool {
        false
    }
}
