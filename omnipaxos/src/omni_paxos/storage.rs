//! The storage after its replica.

use super::OmniPaxos;
use crate::storage::{Entry, Storage};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Ends this replica and gives its storage back.
    ///
    /// What changed is written first, as [`flush`](Self::flush) does: the storage then holds the
    /// promise, the log and all indices as this replica shows them, and a replica
    /// that is built from it goes on from there. What is lost is what only memory holds: proposals
    /// that are not in the log yet, and messages that were not taken.
    ///
    /// If the replica has [halted](Self::halted), or that write fails, the storage comes back as the
    /// failure left it; open it anew before you build from it, as after a crash.
    /// To learn whether it failed, call `flush` before.
    pub fn into_storage(mut self) -> B {
        // A failure is of no consequence here: the replica that would have to halt has ended.
        let _flushed_or_halted = self.flush();
        self.paxos.into_storage()
    }
}
