//! The identity in the storage: the server to which it belongs.

use super::{named, ReplicaLog};
use crate::{
    errors::Halted,
    identity::Identity,
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> ReplicaLog<T, B> {
    /// Returns the identity in the storage.
    ///
    /// # Errors
    /// The storage failed.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, Halted> {
        named(self.storage.get_identity(), "read the identity")
    }

    /// Returns the id of the storage.
    ///
    /// # Errors
    /// The storage failed.
    pub(crate) fn storage_id(&self) -> Result<Option<u64>, Halted> {
        let id = named(self.storage.get_storage_id(), "read its id")?;
        Ok(id.filter(|id| *id != 0))
    }

    /// Stores an identity at once, without waiting for the next flush.
    ///
    /// # Errors
    /// The storage failed, and the replica must halt.
    pub(crate) fn store_identity(&mut self, identity: Identity) -> Result<(), Halted> {
        named(self.storage.set_identity(identity), "store the identity")
    }
}
