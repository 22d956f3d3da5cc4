//! A replicated log that is as simple to use as a local one.
#![forbid(unsafe_code)]

mod ballot;
mod bounds;
mod clock;
mod config;
pub mod errors;
mod ids;
mod log_entry;
pub mod messages;
mod omni_paxos;
mod quorum;
mod shared_entries;
pub mod storage;
mod ui;
pub mod util;
pub mod utils;

/// Derive macros.
#[cfg(feature = "macros")]
pub mod macros {
    pub use omnipaxos_macros::*;
}

/// Ballots, and the election of a leader.
pub mod ballot_leader_election {
    pub use crate::ballot::Ballot;
}

pub use config::{ClusterConfig, OmniPaxosConfig, ServerConfig};
pub use errors::{CompactionErr, ProposeErr};
pub use omni_paxos::OmniPaxos;
