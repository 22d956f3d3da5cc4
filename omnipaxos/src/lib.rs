//! A replicated log that is as simple to use as a local one.
//!
//! Each server holds an [`OmniPaxos`] and uses it as follows. It [appends](OmniPaxos::append)
//! entries at any server of the cluster. It calls [`tick`](OmniPaxos::tick) regularly. It passes
//! messages between the servers, through any network. It reads the decided entries.
//!
//! All servers have the same log, whatever combination of faults occurs: messages that are lost,
//! duplicated or reordered, links that are cut, servers that crash and restart.
//!
//! The protocol is described in the paper "Omni-Paxos: Breaking the Barriers of Partial
//! Connectivity" (EuroSys 2023). Start with the example at [`OmniPaxos`].
//!
//! # Features
//! - `macros` (default): `derive(Entry)`.
//! - `batch_accept` (default): accepted for compatibility; accepts are always batched.
//! - `serde`: messages can be serialised. Snapshots must be serialisable, too.
//! - `toml_config`: `OmniPaxosConfig::with_toml`.
//! - `logging`, `tracing`: log lines for slog, events for `tracing`.
//! - `metrics`: gauges and counters for the recorder of the [`metrics`](https://docs.rs/metrics)
//!   crate, for Prometheus and others. The replica reports them at the end of each heartbeat round
//!   and when it halts. Install the recorder first; no other call is needed. `docs/metrics.md` has
//!   the table.
//! - `unicache`: fields that repeat travel as short codes: see the module `unicache`.
#![forbid(unsafe_code)]

mod amount;
mod ballot;
pub mod ballot_leader_election;
mod clock;
mod codec;
mod config;
mod entry;
pub mod errors;
pub mod identity;
mod ids;
pub mod leader_transfer;
mod log_entry;
pub mod members;
mod membership;
pub mod messages;
mod observe;
mod omni_paxos;
pub mod proposals;
pub mod reads;
mod replica_log;
mod sequence_paxos;
pub mod storage;
pub mod util;
pub mod utils;

/// Derive macros.
#[cfg(feature = "macros")]
pub mod macros {
    pub use omnipaxos_macros::*;
}

/// Counters of a replica.
pub mod counters {
    pub use crate::messages::validate::Dropped;
}

pub use config::{ClusterConfig, OmniPaxosConfig, ServerConfig};
#[doc(hidden)]
pub use entry::derive_support;
#[cfg(feature = "unicache")]
pub use entry::unicache;
pub use errors::{CompactionErr, ProposeErr};
pub use observe::{events, status};
pub use omni_paxos::OmniPaxos;
