//! Leadership transfer: see
//! [`OmniPaxos::transfer_leadership`](crate::OmniPaxos::transfer_leadership).

use crate::{errors::Halted, identity::PeerConflict, ids::NodeId};
use thiserror::Error;

/// Why leadership is not transferred.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransferErr {
    /// Only the leader can transfer leadership. Contains the leader that this server knows. It is
    /// this server itself while it prepares its ballot.
    #[error("only a leader can transfer leadership, and {}", described(*.0))]
    NotLeader(Option<NodeId>),
    /// The server is not a member of this configuration.
    #[error("server {0} is not a member of this configuration")]
    NotAMember(NodeId),
    /// The server leads already.
    #[error("this server leads already")]
    ToItself,
    /// Leadership is being transferred to this server already.
    #[error("leadership is being transferred to server {0}")]
    AlreadyTransferring(NodeId),
    /// This server and the other one ignore each other: this server cannot ask the other one to
    /// take over, and would not follow it.
    #[error("server {} cannot lead this one: {}", .0.pid, .0.conflict)]
    InConflict(PeerConflict),
    /// The replica has halted.
    #[error(transparent)]
    Halted(#[from] Halted),
}

fn described(leader: Option<NodeId>) -> String {
    match leader {
        Some(pid) => format!("the leader known here is server {pid}"),
        None => "no leader is known here".to_string(),
    }
}
