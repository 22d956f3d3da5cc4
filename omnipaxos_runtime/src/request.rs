//! What handles ask of the node.

use crate::{
    batch::Batch,
    errors::{
        AppendError, CompactError, DecidedError, NodeError, ReadError, ReconfigureError,
        TransferError,
    },
};
use omnipaxos::{
    members::MemberChange, status::Status, storage::Entry, util::NodeId, ClusterConfig,
};
use tokio::sync::oneshot;

/// Where the result of a request goes. It is closed if the caller has dropped its future.
pub(crate) type Reply<R> = oneshot::Sender<R>;

/// Sends the result of a request. The caller may have dropped its future: then no one reads it.
pub(crate) fn answer<R>(reply: Reply<R>, result: R) {
    let _ = reply.send(result);
}

/// The result of an append.
pub(crate) type Appended<T> = Result<u64, AppendError<T>>;

/// One request.
pub(crate) enum Request<T: Entry> {
    Append(T, Reply<Appended<T>>),
    ReadIndex(Reply<Result<u64, ReadError>>),
    /// Reads decided entries from an index on, about this number of them.
    Decided {
        from: u64,
        limit: u64,
        reply: Reply<Result<Batch<T>, DecidedError>>,
    },
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
            Self::Append(entry, reply) => {
                let ended = AppendError::Ended { cause: cause.clone(), entry: Some(entry) };
                answer(reply, Err(ended));
            }
            Self::ReadIndex(_)
            | Self::Decided { .. }
            | Self::Status(_)
            | Self::TransferLeadership(..)
            | Self::Reconfigure(..)
            | Self::ChangeMembers(..)
            | Self::Compact(..)
            | Self::End(_) => {}
        }
    }
}
