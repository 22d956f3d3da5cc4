//! The identity of this server and of its peers.

use super::OmniPaxos;
use crate::{
    config::OmniPaxosConfig,
    errors::{BuildErr, Halted, StorageFailed},
    identity::{other_configuration, Identity},
    messages::{validate::PeerIdentities, Message},
    observe::trace::LogEvent,
    replica_log::ReplicaLog,
    storage::{Entry, Storage},
};

/// Checks that the storage belongs to this server. A storage without an owner gets it as the owner,
/// durably. If the log has continued to the configuration, the epochs in the storage prove that.
pub(super) fn identify<T: Entry, B: Storage<T>>(
    log: &mut ReplicaLog<T, B>,
    config: &OmniPaxosConfig,
    is_continued: bool,
) -> Result<PeerIdentities, BuildErr> {
    let (cluster, server) = (&config.cluster_config, &config.server_config);
    let mut own = Identity::new(server.pid, cluster.clone(), server.cluster_name.clone());
    let (promise, config_id) = (log.promise(), cluster.configuration_id);
    let mut stored = log.identity().map_err(StorageFailed::new)?;
    if let Some(stored) = stored.as_mut().filter(|_| is_continued) {
        // The epochs contain the configuration. A crash may have left the identity in an earlier one.
        *stored = stored.in_configuration(cluster);
    }
    if let Some(stored) = &stored {
        if let Some(refusal) = stored.refusal(&own) {
            return Err(BuildErr::StorageMismatch(refusal));
        }
        own.peers.clone_from(&stored.peers);
    }
    // The storage is of an earlier version, or keeps no identity.
    if !promise.is_nobodys() && promise.config_id != config_id {
        return Err(BuildErr::StorageMismatch(other_configuration(promise.config_id, config_id)));
    }
    let is_kept = stored.is_some_and(|stored| stored.cluster_name == own.cluster_name);
    let storage_id = log.storage_id().map_err(StorageFailed::new)?;
    if !is_kept {
        log.store_identity(own.clone()).map_err(StorageFailed::new)?;
    }
    Ok(PeerIdentities::new(config, own, storage_id))
}

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Stores the storage ids that other servers have reported. This is rare: once for each server.
    #[inline]
    pub(super) fn store_peer_identities(&mut self) -> Result<(), Halted> {
        if !self.validator.identities().is_unstored() {
            return Ok(());
        }
        let identity = self.validator.identities().unstored();
        self.paxos.store_identity(identity.clone())?;
        self.validator.identities_mut().stored(identity);
        Ok(())
    }

    /// Stamps the outgoing messages of `buffer` from position `from` on.
    pub(super) fn stamp(&self, buffer: &mut [Message<T>], from: usize) {
        let epochs = || self.paxos.log().epochs();
        self.validator.identities().stamp(buffer.iter_mut().skip(from), epochs);
    }

    /// Logs the conflicts that were found.
    pub(super) fn log_conflicts(&mut self) {
        while let Some(found) = self.validator.identities_mut().take_unlogged() {
            self.trace.emit(|| {
                LogEvent::error("is in conflict with a server")
                    .with_peer(found.pid)
                    .because(found.conflict)
            });
        }
    }
}
