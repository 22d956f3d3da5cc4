//! What is replicated: lines, and a handle that stands for all lines before an index.

use omnipaxos::{macros::Entry, storage::Snapshot};
use serde::{Deserialize, Serialize};
use std::{hash::Hasher, net::SocketAddr};

/// A line that is added to the state.
#[derive(Clone, Debug, Entry, Serialize, Deserialize)]
#[snapshot(Handle)]
pub(crate) struct Line(pub(crate) String);

/// Names a state without containing it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Handle {
    /// The server that has the file.
    pub(crate) address: SocketAddr,
    /// The number of entries that the state contains.
    pub(crate) idx: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: u64,
}

impl Handle {
    /// Returns the name of the file.
    pub(crate) fn file(&self) -> String {
        format!("state-{}", self.idx)
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

/// Returns the digest of a state. A real application uses a cryptographic hash function.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
