//! The requests of handles to the node.

use crate::{
    batch::Batch,
    errors::{
        AppendError, CompactError, DecidedError, NodeError, ReadError, ReconfigureError,
        TransferError,
    },
    reply::{Reply, ReplyTo},
    room::Taken,
};
use omnipaxos::{
    members::MemberChange, status::Status, storage::Entry, util::NodeId, ClusterConfig,
};
use tokio::time::Instant;

/// The result of an append.
pub(crate) type Appended<T> = Result<u64, AppendError<T>>;

/// A read index, or why there is none.
pub(crate) type ReadIdx = Result<u64, ReadError>;

/// A read of decided entries from an index on, as many as a batch has, once there are some.
pub(crate) struct Pull<T: Entry> {
    pub(crate) from: u64,
    pub(crate) reply: Reply<Result<Batch<T>, DecidedError>>,
}

/// One request.
pub(crate) enum Request<T: Entry> {
    /// With the room that the entry takes in the queue.
    Append(T, ReplyTo<Appended<T>>, Taken),
    /// Until this time, if there is one.
    ReadIndex(Option<Instant>, ReplyTo<ReadIdx>),
    Status(Reply<Status>),
    TransferLeadership(NodeId, Reply<Result<(), TransferError>>),
    Reconfigure(ClusterConfig, Option<Vec<u8>>, Reply<Result<u64, ReconfigureError>>),
    ChangeMembers(ClusterConfig, MemberChange, Reply<Result<u64, ReconfigureError>>),
    Compact(u64, Option<T::Snapshot>, Reply<Result<(), CompactError>>),
    /// Ends the node, for this reason.
    End(NodeError),
}

impl<T: Entry> Request<T> {
    /// Answers a request that the node has not begun. All but an append learn from the closed reply
    /// that the node has ended.
    pub(crate) fn refuse(self, cause: &NodeError) {
        match self {
            Self::Append(entry, reply, _room) => {
                reply.send(Err(AppendError::Ended { cause: cause.clone(), entry: Some(entry) }));
            }
            Self::ReadIndex(..)
            | Self::Status(_)
            | Self::TransferLeadership(..)
            | Self::Reconfigure(..)
            | Self::ChangeMembers(..)
            | Self::Compact(..)
            | Self::End(_) => {}
        }
    }
}
