//! A replicated log that is as simple to use as a local one.
//!
//! A server holds an [`OmniPaxos`], [appends](OmniPaxos::append) entries at any node of a cluster,
//! calls [`tick`](OmniPaxos::tick) now and then, passes messages between the servers with whatever
//! network it has, and reads what was decided. The log is the same on all servers, under any mix of
//! lost, doubled and reordered messages, cut links, crashes and restarts.
//!
//! The protocol is that of the paper "Omni-Paxos: Breaking the Barriers of Partial Connectivity"
//! (EuroSys 2023). Start with the example at [`OmniPaxos`].
//!
//! # Features
//! - `macros` (default): `derive(Entry)`.
//! - `batch_accept` (default): accepted for compatibility; accepts are always batched.
//! - `serde`: messages can be serialised. Snapshots must be, too.
//! - `toml_config`: `OmniPaxosConfig::with_toml`.
//! - `logging`, `tracing`: tell what happens, to slog or to `tracing`.
//! - `metrics`: gives gauges and counters to the recorder of the [`metrics`](https://docs.rs/metrics)
//!   crate, for Prometheus and others: with the end of each heartbeat round, and when the replica
//!   halts. Install the recorder first; nothing has to be called. `docs/metrics.md` has the table.
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

/// What a replica counts.
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
