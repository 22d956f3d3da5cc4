//! Errors: what failed, and whether a proposal may be decided.

use omnipaxos::{
    errors::{BuildErr, ConfigError, Halted, StorageFailed, TryCompactionErr},
    leader_transfer::TransferErr,
    reads::ReadRefused,
    util::NodeId,
};
use std::{error::Error as StdError, fmt, io};
use thiserror::Error;

/// Why a node has ended. Every call that waits, and every later call, returns it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The node was shut down, or its last handle was dropped.
    #[error("the node was shut down")]
    ShutDown,
    /// The storage failed, or user code panicked in the replica.
    #[error(transparent)]
    Halted(#[from] Halted),
    /// The state machine could not read the decided log.
    #[error(transparent)]
    Storage(#[from] StorageFailed),
    /// User code panicked. Contains where it panicked, and the message of the panic.
    #[error("user code panicked in {0}")]
    Panicked(String),
    /// The entries before this index were trimmed without a snapshot, and the state machine has not
    /// applied them.
    #[error("the entries before index {0} were trimmed, and the state machine lacks them")]
    Trimmed(u64),
}

/// Why a node did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The replica could not be built from its configuration and its storage.
    #[error("the replica could not be built")]
    Build(#[from] BuildErr),
    /// The transport could not start: for example, its address is in use.
    #[error("the transport could not start")]
    Transport(#[source] io::Error),
    /// The storage panicked while the replica was built.
    #[error("user code panicked while the replica was built")]
    Panicked,
    /// The operating system refused a thread.
    #[error("the thread of the replica could not start")]
    Thread(#[source] io::Error),
}

/// Whether a failed proposal is decided, as far as the node knows.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Known {
    /// The proposal is not decided and never will be: it is safe to propose it again.
    NotDecided,
    /// The proposal is decided, once.
    Decided,
    /// The proposal may be decided, or may be decided later, once at most.
    Unknown,
}

/// Why [`append`](crate::OmniPaxosHandle::append) returns no index.
///
/// [`known`](Self::known) returns whether the entry may be decided.
#[derive(Debug)]
#[non_exhaustive]
pub enum AppendError<T> {
    /// A queue is full. Contains the entry, which was not proposed: append it again later.
    Busy(T),
    /// The entry cannot be stored, no receiver could decode it, or its
    /// [`size_hint`](omnipaxos::storage::Entry::size_hint) is far too low. Contains the entry, which was not
    /// proposed, and the reason.
    TooLarge(T, String),
    /// A reconfiguration is pending. Contains the entry, which was not proposed: append it in the
    /// next configuration.
    Reconfiguring(T),
    /// This server was restarted, and its storage does not count incarnations. Contains the entry,
    /// which was not proposed. See
    /// [`ServerConfig::incarnation`](omnipaxos::ServerConfig::incarnation).
    NoIncarnation(T),
    /// The configuration ended without the entry: it is safe to append it in the next one.
    NotDecided,
    /// The leader refused the entry, for the reason in the text: it cannot be stored there.
    Refused(String),
    /// The entry is decided, once, among the entries before this index. Its own index is forgotten.
    DecidedBefore(u64),
    /// No server can find out whether the entry is decided. It is decided once at most.
    Unknown,
    /// The node has ended.
    Ended {
        /// Why the node has ended.
        cause: NodeError,
        /// The entry, if it was not proposed. Without it, the entry may be decided.
        entry: Option<T>,
    },
}

impl<T> AppendError<T> {
    /// Returns whether the entry is decided, as far as the node knows.
    ///
    /// [`Refused`](Self::Refused) counts as not decided. If servers have different limits, a copy
    /// delayed by the network may still reach a later leader that accepts it, once at most.
    pub fn known(&self) -> Known {
        match self {
            Self::Busy(_)
            | Self::TooLarge(..)
            | Self::Reconfiguring(_)
            | Self::NoIncarnation(_)
            | Self::NotDecided
            | Self::Refused(_)
            | Self::Ended { entry: Some(_), .. } => Known::NotDecided,
            Self::DecidedBefore(_) => Known::Decided,
            Self::Unknown | Self::Ended { entry: None, .. } => Known::Unknown,
        }
    }

    /// The error of a call that has proposed the entry before, which may be decided.
    pub(crate) fn after_another_proposal(self) -> Self {
        match (self.known(), self) {
            (_known, Self::Ended { cause, entry: _ }) => Self::Ended { cause, entry: None },
            (Known::NotDecided, _refused) => Self::Unknown,
            (Known::Decided | Known::Unknown, error) => error,
        }
    }

    /// Replaces the entry in the error.
    pub(crate) fn map<U>(self, to: impl FnOnce(T) -> U) -> AppendError<U> {
        match self {
            Self::Busy(entry) => AppendError::Busy(to(entry)),
            Self::TooLarge(entry, reason) => AppendError::TooLarge(to(entry), reason),
            Self::Reconfiguring(entry) => AppendError::Reconfiguring(to(entry)),
            Self::NoIncarnation(entry) => AppendError::NoIncarnation(to(entry)),
            Self::NotDecided => AppendError::NotDecided,
            Self::Refused(reason) => AppendError::Refused(reason),
            Self::DecidedBefore(idx) => AppendError::DecidedBefore(idx),
            Self::Unknown => AppendError::Unknown,
            Self::Ended { cause, entry } => AppendError::Ended { cause, entry: entry.map(to) },
        }
    }
}

impl<T> fmt::Display for AppendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(_) => f.write_str("busy: a queue is full; append this entry again later"),
            Self::TooLarge(_, reason) => write!(f, "this entry cannot be stored or sent: {reason}"),
            Self::Reconfiguring(_) => f.write_str(
                "a reconfiguration is pending: append this entry in the next configuration",
            ),
            Self::NoIncarnation(_) => f.write_str(
                "this incarnation of the server has no number that earlier ones did not have",
            ),
            Self::NotDecided => f.write_str("the configuration ended without the entry"),
            Self::Refused(reason) => write!(f, "the leader refused the entry: {reason}"),
            Self::DecidedBefore(idx) => {
                write!(f, "the entry is decided before index {idx}, and its own index is forgotten")
            }
            Self::Unknown => f.write_str("it is unknown whether the entry is decided"),
            Self::Ended { entry: Some(_), .. } => {
                f.write_str("the node ended before it proposed the entry")
            }
            Self::Ended { entry: None, .. } => {
                f.write_str("the node ended before it knew whether the entry is decided")
            }
        }
    }
}

impl<T: fmt::Debug> StdError for AppendError<T> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Ended { cause, .. } => Some(cause),
            Self::Busy(_)
            | Self::TooLarge(..)
            | Self::Reconfiguring(_)
            | Self::NoIncarnation(_)
            | Self::NotDecided
            | Self::Refused(_)
            | Self::DecidedBefore(_)
            | Self::Unknown => None,
        }
    }
}

/// Why a linearizable read cannot be served. It is safe to request it again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Too many reads wait at this node.
    #[error("busy: too many reads wait; request this one again later")]
    Busy,
    /// The replica refuses the read, and would refuse it again.
    #[error("the read is refused")]
    Refused(#[source] ReadRefused),
    /// The time limit of the call has passed. Contains the reason of the last refusal by the
    /// replica, such as no leader; `None` if the leader, or a quorum of servers, did not answer.
    #[error("the read was not confirmed in time")]
    TimedOut(#[source] Option<ReadRefused>),
    /// The node has ended.
    #[error("the node has ended")]
    Ended(#[from] NodeError),
}

/// Why leadership was not transferred.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The transfer did not begin.
    #[error(transparent)]
    Refused(#[from] TransferErr),
    /// The transfer was cancelled: it took too long, or another server leads. Contains the server
    /// that leads now.
    #[error("the transfer was cancelled, and server {0} leads")]
    Cancelled(NodeId),
    /// The transfer has ended, and for 500 ticks this server did not learn which server leads.
    #[error("the transfer has ended, and it is unknown which server leads")]
    Unknown,
    /// The node has ended.
    #[error("the node has ended")]
    Ended(#[from] NodeError),
}

/// Why a reconfiguration was not decided.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReconfigureError {
    /// The proposed configuration cannot follow this one.
    #[error("the proposed configuration is not legal")]
    Config(#[source] ConfigError),
    /// Another reconfiguration is in the log already, or waits to be appended.
    #[error("a reconfiguration is pending: only one can follow a configuration")]
    Pending,
    /// Another reconfiguration was decided.
    #[error("another reconfiguration was decided")]
    NotDecided,
    /// These servers were to join, and did not catch up. Nothing has changed. They may not run, or the
    /// members may not know their addresses: see [`AddressBook::invite`](crate::tcp::AddressBook::invite).
    #[error("servers {0:?} did not catch up")]
    NotJoined(Vec<NodeId>),
    /// The log of this server does not continue through reconfigurations.
    #[error("the log ends with this configuration: set ServerConfig::continues at all servers")]
    EndsHere,
    /// This server was restarted, and its storage does not count incarnations.
    #[error("this incarnation of the server has no number that earlier ones did not have")]
    NoIncarnation,
    /// The leader refused the reconfiguration, for the reason in the text.
    #[error("the leader refused the reconfiguration: {0}")]
    Refused(String),
    /// It is unknown whether the reconfiguration is decided.
    #[error("it is unknown whether the reconfiguration is decided")]
    Unknown,
    /// The node has ended. The reconfiguration may be decided.
    #[error("the node has ended")]
    Ended(#[from] NodeError),
}

/// Why the log was not compacted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CompactError {
    /// The replica refuses the compaction.
    #[error(transparent)]
    Refused(#[from] TryCompactionErr),
    /// The node has ended.
    #[error("the node has ended")]
    Ended(#[from] NodeError),
}

/// Why the [decided log](crate::DecidedLog) has no next item.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecidedError {
    /// The entries before this index were trimmed without a snapshot. The stream ends; a new one
    /// from this index continues.
    #[error("the entries before index {0} were trimmed without a snapshot")]
    Trimmed(u64),
    /// The storage failed to read. The stream has skipped nothing: the next call reads again.
    #[error(transparent)]
    Storage(#[from] StorageFailed),
    /// The node has ended, and not by a shutdown. The stream ends.
    #[error("the node has ended")]
    Ended(#[from] NodeError),
}

/// Events that a slow receiver has missed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("{0} events were missed")]
pub struct MissedEvents(
    /// The number of missed events.
    pub u64,
);

/// Why a message of another server was not delivered to the replica.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeliverError {
    /// The queue of incoming messages is full. The message was dropped.
    #[error("the queue of incoming messages is full")]
    Full,
    /// The node has ended.
    #[error("the node has ended")]
    Ended,
}

/// Why [`execute`](crate::Replicated::execute) returns no output.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecuteError<C> {
    /// The log returned no index for the command. [`Known`] reports whether it may be decided.
    Append(AppendError<C>),
    /// The command was applied once, and the servers no longer keep its output.
    OutputForgotten,
    /// The number of the command is below those whose outputs the servers keep for its client, so it was
    /// not applied now. It was applied before if the client keeps the rule of
    /// [`CommandId::number`](crate::CommandId::number).
    NumberTooOld,
}

impl<C> ExecuteError<C> {
    /// Returns whether the command is decided, as far as the node knows.
    pub fn known(&self) -> Known {
        match self {
            Self::Append(error) => error.known(),
            Self::OutputForgotten => Known::Decided,
            Self::NumberTooOld => Known::Unknown,
        }
    }
}

impl<C> fmt::Display for ExecuteError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append(error) => error.fmt(f),
            Self::OutputForgotten => {
                f.write_str("the command was applied, and its output is not kept any more")
            }
            Self::NumberTooOld => f.write_str(
                "the number of the command is below those whose outputs are kept: it was applied \
                 before, or its client left too many numbers unfinished",
            ),
        }
    }
}

impl<C: fmt::Debug> StdError for ExecuteError<C> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Append(error) => error.source(),
            Self::OutputForgotten | Self::NumberTooOld => None,
        }
    }
}

/// Why a query of the state machine has no result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QueryError {
    /// There is no read index.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The function of the query panicked. Contains the message of the panic. The state machine
    /// continues.
    #[error("the query panicked: {0}")]
    Panicked(String),
}

/// Returns the message of a panic.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
