//! A server of `openraft`, of the kind of its public examples.
//!
//! - The log is a file, which is synced at each append.
//! - The state machine is in memory; its snapshots are files.

mod log_store;
mod network;
mod server;
mod state_machine;

use self::{log_store::LogStore, state_machine::Store};
use super::{plan::ServerPlan, protocol::Put, Failure};
use openraft::{declare_raft_types, EmptyNode};
use std::io::Cursor;

/// The servers know each other's addresses.
type Node = EmptyNode;

declare_raft_types!(
    /// What is replicated.
    pub(super) Types:
        D = Put,
        R = (),
        Node = Node,
        SnapshotData = Cursor<Vec<u8>>,
);

/// Runs a server until it fails.
pub(super) async fn serve(plan: &ServerPlan) -> Result<(), Failure> {
    std::fs::create_dir_all(&plan.folder)?;
    let (log, store) = (LogStore::open(&plan.folder)?, Store::open(&plan.folder)?);
    server::serve(plan, log, store.clone(), store).await
}

fn command_of(put: &Put) -> Put {
    put.clone()
}
