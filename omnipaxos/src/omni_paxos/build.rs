//! Builds a replica from a configuration and a storage.

use super::{epochs::Retirement, identity::identify, OmniPaxos};
use crate::{
    ballot_leader_election::BallotLeaderElection,
    config::{ClusterConfig, ConfigError, OmniPaxosConfig, ServerConfig},
    errors::{BuildErr, StorageFailed},
    messages::validate::MessageValidator,
    observe::{events::LastReported, metrics, trace::Trace},
    replica_log::ReplicaLog,
    sequence_paxos::SequencePaxos,
    storage::{Entry, Epoch, Storage},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

impl OmniPaxosConfig {
    /// Builds the replica from the content of `storage`.
    ///
    /// # Errors
    /// [`ConfigError::InvalidConfig`] if a field is wrong, if the storage fails, or if it belongs
    /// to another server or configuration. [`try_build`](Self::try_build) also returns the cause.
    pub fn build<T, B>(self, storage: B) -> Result<OmniPaxos<T, B>, ConfigError>
    where
        T: Entry,
        B: Storage<T>,
    {
        self.validate()?;
        Ok(OmniPaxos::build(self, storage)?)
    }

    /// Builds the replica from the content of `storage`, with an error that keeps its cause.
    ///
    /// [`build`](Self::build) can report a failure of the storage only as the text of a
    /// [`ConfigError::InvalidConfig`].
    ///
    /// # Errors
    /// [`BuildErr`] contains the reason.
    ///
    /// # Example
    /// ```
    /// use omnipaxos::{errors::BuildErr, ClusterConfig, OmniPaxosConfig, ServerConfig};
    /// # use omnipaxos::{macros::Entry, OmniPaxos};
    /// # use omnipaxos_storage::memory_storage::MemoryStorage;
    /// # #[derive(Clone, Debug, Entry)]
    /// # struct Number(u64);
    /// # fn start(config: OmniPaxosConfig, storage: MemoryStorage<Number>) -> &'static str {
    /// match config.try_build(storage) {
    ///     # Ok(replica) => { let _: OmniPaxos<Number, MemoryStorage<Number>> = replica; "started" }
    ///     # /*
    ///     Ok(replica) => run(replica),
    ///     # */
    ///     Err(BuildErr::Storage(_)) => "check the disk, and start this server again",
    ///     Err(BuildErr::StorageMismatch(_)) => "this is the disk of another server",
    ///     Err(_) => "the configuration is not legal",
    /// }
    /// # }
    /// # let text = start(OmniPaxosConfig::default(), MemoryStorage::default());
    /// # assert_eq!(text, "the configuration is not legal");
    /// ```
    pub fn try_build<T, B>(self, storage: B) -> Result<OmniPaxos<T, B>, BuildErr>
    where
        T: Entry,
        B: Storage<T>,
    {
        self.validate()?;
        OmniPaxos::build(self, storage)
    }
}

impl ClusterConfig {
    /// Builds the replica of one server of this configuration from the content of `storage`.
    ///
    /// # Errors
    /// Returns the errors of [`OmniPaxosConfig::build`].
    pub fn build_for_server<T, B>(
        self,
        server_config: ServerConfig,
        storage: B,
    ) -> Result<OmniPaxos<T, B>, ConfigError>
    where
        T: Entry,
        B: Storage<T>,
    {
        OmniPaxosConfig { cluster_config: self, server_config }.build(storage)
    }

    /// Builds the replica of one server, with an error that keeps its cause.
    ///
    /// It does the same as [`build_for_server`](Self::build_for_server).
    ///
    /// # Errors
    /// [`BuildErr`] contains the reason.
    pub fn try_build_for_server<T, B>(
        self,
        server_config: ServerConfig,
        storage: B,
    ) -> Result<OmniPaxos<T, B>, BuildErr>
    where
        T: Entry,
        B: Storage<T>,
    {
        OmniPaxosConfig { cluster_config: self, server_config }.try_build(storage)
    }
}

/// Returns the epochs in the storage, if the log continues; `None` if it ends with its configuration. The
/// epochs contain the members.
fn read_epochs<T: Entry, B: Storage<T>>(
    log: &ReplicaLog<T, B>,
    config: &mut OmniPaxosConfig,
) -> Result<Option<Vec<Epoch>>, BuildErr> {
    let stored = log.stored_epochs().map_err(StorageFailed::new)?;
    let present = stored.as_ref().and_then(|epochs| epochs.last());
    match (present, config.server_config.continues) {
        (None, false) => return Ok(None),
        (Some(present), false) => {
            return Err(BuildErr::StorageMismatch(format!(
                "the log in the storage continues through reconfigurations, and is in configuration \
                 {}: set ServerConfig::continues",
                present.configuration.configuration_id
            )));
        }
        (Some(present), true) => config.cluster_config = present.configuration.clone(),
        // The server founds the log, as one of its first members, unless it observes.
        (None, true) => config.check_names_itself()?,
    }
    match stored {
        Some(epochs) => Ok(Some(epochs)),
        None => Err(BuildErr::StorageMismatch(
            "the storage keeps no epochs, which ServerConfig::continues needs: implement \
             Storage::get_epochs and set_epochs, or use another storage"
                .to_string(),
        )),
    }
}

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Builds a server from a valid configuration and the content of its storage.
    fn build(mut config: OmniPaxosConfig, storage: B) -> Result<Self, BuildErr> {
        let trace = Trace::new(&config.server_config)?;
        let learns_members = config.learns_members();
        let mut log = ReplicaLog::load(storage).map_err(StorageFailed::new)?;
        let epochs = read_epochs(&log, &mut config)?;
        let promise = log.promise();
        let is_continued = epochs.as_ref().is_some_and(|epochs| !epochs.is_empty());
        let identities = identify(&mut log, &config, is_continued)?;
        if let Some(epochs) = epochs {
            let is_founded = is_continued || config.learns_members();
            let founding =
                (!is_founded).then(|| Epoch::new(0, config.cluster_config.clone(), None));
            log.set_continues(epochs, founding).map_err(StorageFailed::new)?;
        }
        let incarnation =
            log.begin_incarnation(config.server_config.incarnation).map_err(StorageFailed::new)?;
        let incarnation = match config.server_config.is_observer() {
            true => incarnation.of_storage(log.storage_id().map_err(StorageFailed::new)?),
            false => incarnation,
        };
        // Nobody joins the first epoch: its members are those that began it. A storage with a promise is
        // that of such a member, since an observer makes none.
        let is_first = log.present_epoch().is_some_and(|epoch| epoch.first_idx == 0);
        let members = Arc::new(match learns_members && is_first && promise.is_nobodys() {
            true => config.membership_of_observer(),
            false => config.membership(),
        });
        metrics::describe();
        let retirement = Retirement::of(&config, log.epochs(), &members);
        let nodes = log.epochs().iter().flat_map(|epoch| &epoch.configuration.nodes);
        let earlier_peers = nodes.copied().collect();
        let mut paxos =
            SequencePaxos::new(&config, members.clone(), log, incarnation, trace.clone());
        if learns_members {
            paxos.note_learned_members();
        }
        Ok(Self {
            pid: config.server_config.pid,
            validator: MessageValidator::new(&config, members.clone(), identities),
            ble: BallotLeaderElection::new(&config, members, promise, paxos.own_max_entry_bytes()),
            paxos,
            input: None,
            halted: OnceLock::new(),
            last_reported: LastReported::default(),
            trace,
            is_idle: false,
            retirement,
            aware: BTreeSet::new(),
            earlier_peers,
            early_prepare: None,
            config,
        })
    }
}
