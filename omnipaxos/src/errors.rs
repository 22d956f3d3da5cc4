//! What can go wrong, and what it means.

use crate::{config::ClusterConfig, ids::NodeId, storage::Entry};
use std::{error::Error as StdError, fmt, sync::Arc};
use thiserror::Error;

pub use crate::config::ConfigError;

/// Why a proposal was not taken. Gives the proposal back.
#[derive(Debug, Error)]
pub enum ProposeErr<T: Entry> {
    /// The configuration has ended or is about to: a stop sign is in the log, or waits to get
    /// there. Propose the entry in the next configuration.
    #[error("a reconfiguration is pending: propose this entry in the next configuration")]
    PendingReconfigEntry(T),
    /// A stop sign is in the log already, or waits to get there.
    #[error("a reconfiguration is pending: only one can follow a configuration")]
    PendingReconfigConfig(ClusterConfig, Option<Vec<u8>>),
    /// The proposed configuration cannot follow this one.
    #[error("the proposed configuration is not legal")]
    ConfigError(#[source] ConfigError, ClusterConfig, Option<Vec<u8>>),
}

/// Why the log was not compacted.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum CompactionErr {
    /// The index is beyond what is decided here; holds the decided index.
    #[error("cannot compact beyond the decided index {0}")]
    UndecidedIndex(u64),
    /// The log is compacted beyond the index already, or was trimmed without a snapshot so that
    /// none can be made any more, or the storage cannot hold the snapshot
    /// ([`TryCompactionErr::Unstorable`] says why); holds the compacted index.
    #[error("the log is compacted up to index {0} already")]
    TrimmedIndex(u64),
    /// Some server has not accepted so much yet; holds the index that all have accepted.
    #[error("cannot trim beyond index {0}, the largest that every server has accepted")]
    NotAllDecided(u64),
    /// Only the leader can trim; holds the leader known here, 0 if none is.
    #[error("only the leader can trim, and the leader known here is server {0} (0: none)")]
    NotCurrentLeader(NodeId),
}

/// The replica has stopped for good: a storage call failed, or code of the user panicked in an input.
///
/// It sends nothing more, so that it cannot claim what its disk does not hold. Open the storage
/// anew and build a replica from it.
///
/// [`source`](StdError::source) is the error of the storage, as text, with its own causes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halted(Arc<Why>);

/// Why a replica has halted.
#[derive(Debug, PartialEq, Eq)]
enum Why {
    Failed(Failure),
    /// An input, named here, did not end.
    Panicked(&'static str),
}

/// What failed, and why.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    operation: String,
    /// The causes in one text.
    text: String,
    cause: Cause,
}

/// An error of a storage as text. A `Box<dyn Error>` can neither be cloned nor sent.
#[derive(Debug, PartialEq, Eq)]
struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

/// The most causes that are kept: an error may name itself as its cause.
const MOST_CAUSES: usize = 16;

/// The causes of an error, the nearest first.
fn causes(error: &dyn StdError) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source()).take(MOST_CAUSES)
}

impl Cause {
    fn of(error: &dyn StdError) -> Self {
        let texts: Vec<String> = causes(error).map(ToString::to_string).collect();
        let source = texts
            .into_iter()
            .rev()
            .fold(None, |source, text| Some(Box::new(Self { text, source })));
        Self { text: error.to_string(), source }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl Halted {
    /// The storage failed to do `operation`.
    pub(crate) fn new(operation: impl Into<String>, cause: impl Into<Box<dyn StdError>>) -> Self {
        let cause = cause.into();
        let text = with_causes(&*cause);
        let cause = Cause::of(&*cause);
        Self(Arc::new(Why::Failed(Failure { operation: operation.into(), text, cause })))
    }

    /// Code of the user panicked in this input.
    pub(crate) fn in_input(input: &'static str) -> Self {
        Self(Arc::new(Why::Panicked(input)))
    }

    /// What the storage was asked to do, or the input in which code of the user panicked.
    pub fn operation(&self) -> &str {
        match &*self.0 {
            Why::Failed(failure) => &failure.operation,
            Why::Panicked(input) => input,
        }
    }

    /// What the storage said, with all causes in one line.
    pub fn cause(&self) -> &str {
        match &*self.0 {
            Why::Failed(failure) => &failure.text,
            Why::Panicked(_) => "a panic",
        }
    }

    /// Whether code of the user panicked. Otherwise the storage failed.
    pub fn is_panic(&self) -> bool {
        matches!(*self.0, Why::Panicked(_))
    }
}

impl fmt::Display for Halted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Why::Failed(failure) => {
                write!(f, "the replica has halted: the storage failed to {}", failure.operation)
            }
            Why::Panicked(input) => {
                write!(f, "the replica has halted: code of the user panicked in `{input}`")
            }
        }
    }
}

impl StdError for Halted {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.0 {
            Why::Failed(failure) => Some(&failure.cause),
            Why::Panicked(_) => None,
        }
    }
}

/// The storage failed to read. The replica goes on: [`halted`](crate::OmniPaxos::halted) tells
/// whether it has stopped.
///
/// [`source`](StdError::source) is the error of the storage, as text, with its own causes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFailed(Halted);

impl ReadFailed {
    pub(crate) fn new(failed: Halted) -> Self {
        Self(failed)
    }

    /// What the storage was asked to do.
    pub fn operation(&self) -> &str {
        self.0.operation()
    }

    /// What the storage said, with all causes in one line.
    pub fn cause(&self) -> &str {
        self.0.cause()
    }
}

impl fmt::Display for ReadFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the storage failed to {}", self.operation())
    }
}

impl StdError for ReadFailed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// Writes an error and all its causes in one line, with a colon before each cause.
///
/// The errors of this library do not repeat their causes: print them with this function, or with a
/// library that prints causes, such as `anyhow`.
///
/// ```
/// use omnipaxos::errors::{with_causes, ConfigError, ProposeErr};
/// # use omnipaxos::{macros::Entry, ClusterConfig};
/// # #[derive(Clone, Debug, Entry)]
/// # struct Word;
///
/// let cause = ConfigError::InvalidConfig("nodes must name at least one server".to_string());
/// let error: ProposeErr<Word> = ProposeErr::ConfigError(cause, ClusterConfig::default(), None);
/// assert_eq!(
///     with_causes(&error),
///     "the proposed configuration is not legal: invalid configuration: nodes must name at least \
///      one server",
/// );
/// ```
pub fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text
}

/// Why a `try_*` method that proposes did not.
#[derive(Debug, Error)]
pub enum TryProposeErr<T: Entry> {
    /// As the method without `try_` says.
    #[error(transparent)]
    Refused(#[from] ProposeErr<T>),
    /// As many proposals wait as may wait: there is no leader, or it does not get on. Propose the
    /// entry, which is given back, again later. See
    /// [`ServerConfig::max_pending_bytes`](crate::ServerConfig::max_pending_bytes).
    #[error("busy: as many proposals wait as may wait; propose this entry again later")]
    Busy(T),
    /// This server was restarted over a storage that does not count its incarnations, so that it
    /// has no id to give. Implement
    /// [`Storage::next_incarnation`](crate::storage::Storage::next_incarnation) or set
    /// [`ServerConfig::incarnation`](crate::ServerConfig::incarnation).
    #[error(
        "this incarnation of the server has no number that earlier ones did not have: implement \
         Storage::next_incarnation or set ServerConfig::incarnation"
    )]
    NoIncarnation(T),
    /// The entry, which is given back, cannot be stored: it exceeds
    /// [`ServerConfig::max_entry_bytes`](crate::ServerConfig::max_entry_bytes) or what the storage of
    /// some server holds, or the storage could not read it back. The text says why. It is of no use
    /// to propose it again.
    #[error("this entry cannot be stored: {1}")]
    Unstorable(T, String),
    /// The replica has halted.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// Why [`propose_reconfiguration`](crate::OmniPaxos::propose_reconfiguration) did not take a
/// reconfiguration. Returns the configuration and the metadata.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReconfigurationErr {
    /// The proposed configuration cannot follow this one.
    #[error("the proposed configuration is not legal")]
    Config(#[source] ConfigError, ClusterConfig, Option<Vec<u8>>),
    /// A stop sign is in the log already, or waits to get there.
    #[error("a reconfiguration is pending: only one can follow a configuration")]
    Pending(ClusterConfig, Option<Vec<u8>>),
    /// This server was restarted over a storage that does not count its incarnations, so that it
    /// has no id to give: see [`TryProposeErr::NoIncarnation`].
    #[error(
        "this incarnation of the server has no number that earlier ones did not have: implement \
         Storage::next_incarnation or set ServerConfig::incarnation"
    )]
    NoIncarnation(ClusterConfig, Option<Vec<u8>>),
    /// The replica has halted.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// Why a `try_*` method that compacts did not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TryCompactionErr {
    /// As the method without `try_` says.
    #[error(transparent)]
    Refused(#[from] CompactionErr),
    /// The storage cannot hold the snapshot, or could not read it back; the text says why. Nothing
    /// was changed.
    #[error("the snapshot cannot be stored: {0}")]
    Unstorable(String),
    /// The replica has halted.
    #[error(transparent)]
    Halted(#[from] Halted),
}
