//! Returns the storage at the end of a replica.

use super::OmniPaxos;
use crate::storage::{Entry, Storage};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Ends this replica and returns its storage.
    ///
    /// All changes are written first, as [`flush`](Self::flush) does. Then the storage holds the
    /// promise, the log and all indices as this replica shows them, and a replica built from it
    /// continues from there. What is only in memory is lost: proposals that are not in the log yet,
    /// and messages that were not taken.
    ///
    /// If the replica has [halted](Self::halted), or that write fails, the content of the storage
    /// is not known. Open it again before you build a replica from it, as after a crash. To learn
    /// whether the write failed, call `flush` before.
    pub fn into_storage(mut self) -> B {
        // A failure is of no consequence here: the replica that would have to halt has ended.
        let _flushed_or_halted = self.flush();
        self.paxos.into_storage()
    }
}
