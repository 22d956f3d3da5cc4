//! Building a replica from a configuration and a storage.

use super::{
    identity::{identify, Unfit},
    OmniPaxos,
};
use crate::{
    ballot_leader_election::BallotLeaderElection,
    config::{ClusterConfig, ConfigError, OmniPaxosConfig, ServerConfig},
    errors::Halted,
    messages::validate::MessageValidator,
    observe::{events::LastReported, metrics, trace::Trace},
    replica_log::ReplicaLog,
    sequence_paxos::SequencePaxos,
    storage::{Entry, Storage},
};
use std::sync::{Arc, OnceLock};

impl OmniPaxosConfig {
    /// Builds the replica, from what `storage` holds.
    ///
    /// # Errors
    /// [`ConfigError::InvalidConfig`] if a field is wrong, or if the storage cannot be read or
    /// belongs to another configuration.
    pub fn build<T, B>(self, storage: B) -> Result<OmniPaxos<T, B>, ConfigError>
    where
        T: Entry,
        B: Storage<T>,
    {
        self.validate()?;
        OmniPaxos::build(self, storage)
    }
}

impl ClusterConfig {
    /// Builds the replica of one server of this configuration, from what `storage` holds.
    ///
    /// # Errors
    /// As [`OmniPaxosConfig::build`].
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
}

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Builds a server from a valid configuration and what its storage holds.
    fn build(config: OmniPaxosConfig, storage: B) -> Result<Self, ConfigError> {
        let refused = |failed: Halted| {
            let (operation, cause) = (failed.operation(), failed.cause());
            ConfigError::InvalidConfig(format!("the storage failed to {operation}: {cause}"))
        };
        let trace = Trace::new(&config.server_config)?;
        let mut log = ReplicaLog::load(storage).map_err(refused)?;
        let promise = log.promise();
        let identities = identify(&mut log, &config).map_err(|unfit| match unfit {
            Unfit::Failed(failed) => refused(failed),
            Unfit::Refused(why) => ConfigError::InvalidConfig(why),
        })?;
        let incarnation =
            log.begin_incarnation(config.server_config.incarnation).map_err(refused)?;
        let members = Arc::new(config.membership());
        metrics::describe();
        let paxos = SequencePaxos::new(&config, members.clone(), log, incarnation, trace.clone());
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
        })
    }
}
