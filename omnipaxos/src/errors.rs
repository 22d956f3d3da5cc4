//! What can go wrong, and what it means.

use crate::{config::ClusterConfig, ids::NodeId, storage::Entry};
use std::{error::Error as StdError, fmt, io, sync::Arc};
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
/// [`source`](StdError::source) is the error of the storage, with its own causes after it: the error
/// itself if the storage returned a [`SharedError`] or an [`io::Error`], else a copy of its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halted(Arc<Why>);

/// Why a replica has halted.
#[derive(Debug, PartialEq, Eq)]
enum Why {
    Failed(Failure),
    /// An input, named here, did not end.
    Panicked(&'static str),
}

/// What failed, and why. Equal to another if both have the same texts.
#[derive(Debug)]
struct Failure {
    operation: String,
    /// The causes in one text.
    text: String,
    cause: Arc<dyn StdError + Send + Sync>,
}

impl PartialEq for Failure {
    fn eq(&self, other: &Self) -> bool {
        (&self.operation, &self.text) == (&other.operation, &other.text)
    }
}

impl Eq for Failure {}

/// An error that a storage returns and that the replica keeps as it is.
///
/// The replica keeps the error that halts it, and copies of that leave it on any thread. A
/// `Box<dyn Error>` of [`StorageResult`](crate::storage::StorageResult) can neither be cloned nor sent,
/// so of such an error only the texts are kept. A storage that returns its errors in a `SharedError`
/// lets users downcast the [`source`](StdError::source) of [`Halted`] to its own type.
///
/// ```
/// use omnipaxos::errors::SharedError;
/// use std::error::Error;
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("the disk is full")]
/// struct DiskFull;
///
/// let error: Box<dyn Error> = Box::new(SharedError::new(DiskFull));
/// assert_eq!(error.to_string(), "the disk is full");
/// ```
#[derive(Clone)]
pub struct SharedError(Arc<dyn StdError + Send + Sync>);

impl SharedError {
    /// Shares an error.
    pub fn new(error: impl StdError + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// Returns the error.
    pub fn get(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0
    }
}

impl fmt::Debug for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for SharedError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// The texts of an error that cannot be kept.
#[derive(Debug)]
struct Texts {
    text: String,
    source: Option<Box<Texts>>,
}

/// The most causes that are kept: an error may name itself as its cause.
const MOST_CAUSES: usize = 16;

/// The causes of an error, the nearest first.
fn causes(error: &dyn StdError) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source()).take(MOST_CAUSES)
}

impl Texts {
    fn of(error: &dyn StdError) -> Self {
        let texts: Vec<String> = causes(error).map(ToString::to_string).collect();
        let source = texts
            .into_iter()
            .rev()
            .fold(None, |source, text| Some(Box::new(Self { text, source })));
        Self { text: error.to_string(), source }
    }
}

impl fmt::Display for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Texts {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Keeps an error of a storage: itself if it can be sent, which a `Box<dyn Error>` does not show.
fn keep(error: Box<dyn StdError>) -> Arc<dyn StdError + Send + Sync> {
    let error = match error.downcast::<SharedError>() {
        Ok(shared) => return shared.0,
        Err(error) => error,
    };
    match error.downcast::<io::Error>() {
        Ok(error) => Arc::new(*error),
        Err(error) => Arc::new(Texts::of(&*error)),
    }
}

impl Halted {
    /// The storage failed to do `operation`.
    pub(crate) fn new(operation: impl Into<String>, cause: impl Into<Box<dyn StdError>>) -> Self {
        let cause = cause.into();
        let (operation, text) = (operation.into(), with_causes(&*cause));
        Self(Arc::new(Why::Failed(Failure { operation, text, cause: keep(cause) })))
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
            Why::Failed(failure) => Some(&*failure.cause),
            Why::Panicked(_) => None,
        }
    }
}

/// The storage failed in a read, or while a replica was built.
///
/// A replica goes on after a read that failed: [`halted`](crate::OmniPaxos::halted) returns whether it
/// has stopped. [`source`](StdError::source) is the error of the storage, as that of [`Halted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageFailed(Halted);

impl StorageFailed {
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

impl fmt::Display for StorageFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the storage failed to {}", self.operation())
    }
}

impl StdError for StorageFailed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// Finds an error of type `E`: the error itself or the nearest of its causes, also in a
/// [`SharedError`].
///
/// ```
/// use omnipaxos::errors::{find_cause, BuildErr};
/// use std::io;
///
/// /// Whether a disk is full.
/// fn is_full(error: &BuildErr) -> bool {
///     find_cause(error).is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::StorageFull)
/// }
/// ```
pub fn find_cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    std::iter::once(error).chain(causes(error)).find_map(|error| {
        let shared = || error.downcast_ref().and_then(|error: &SharedError| error.0.downcast_ref());
        error.downcast_ref().or_else(shared)
    })
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

/// The log file of [`ServerConfig::logger_file_path`] cannot be opened.
///
/// [`ServerConfig::logger_file_path`]: crate::ServerConfig
#[derive(Debug, Error)]
#[error("logger_file_path: could not open {path}")]
pub struct LogFileErr {
    pub(crate) path: String,
    pub(crate) source: io::Error,
}

/// Why [`OmniPaxosConfig::try_build`](crate::OmniPaxosConfig::try_build) did not build a replica.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildErr {
    /// The configuration is not legal.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The storage failed, or holds what cannot be.
    #[error(transparent)]
    Storage(#[from] StorageFailed),
    /// The storage belongs to another server, configuration or cluster; the text says to which.
    #[error("{0}")]
    StorageMismatch(String),
    /// The log file that the configuration names cannot be opened.
    #[error(transparent)]
    LogFile(#[from] LogFileErr),
}

impl From<BuildErr> for ConfigError {
    /// What the methods of 0.2.2 that build return: their error has no place for a cause.
    fn from(error: BuildErr) -> Self {
        match error {
            BuildErr::Config(error) => error,
            other
            @ (BuildErr::Storage(_) | BuildErr::StorageMismatch(_) | BuildErr::LogFile(_)) => {
                Self::InvalidConfig(with_causes(&other))
            }
        }
    }
}

/// Why a `try_*` method that proposes did not.
#[derive(Debug, Error)]
#[non_exhaustive]
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

/// Why [`compact_with`](crate::OmniPaxos::compact_with), or a `try_*` method that compacts, did not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TryCompactionErr {
    /// As the method without `try_` says.
    #[error(transparent)]
    Refused(#[from] CompactionErr),
    /// The storage cannot hold the snapshot, or could not read it back; the text says why. Nothing
    /// was changed.
    #[error("the snapshot cannot be stored: {0}")]
    Unstorable(String),
    /// The entry type has no snapshots: [`Snapshot::use_snapshots`] returns false. Nothing was
    /// changed.
    ///
    /// [`Snapshot::use_snapshots`]: crate::storage::Snapshot::use_snapshots
    #[error("the entry type has no snapshots: name one with #[snapshot(..)]")]
    NoSnapshots,
    /// A snapshot cannot be made of entries: [`Snapshot::can_create`] returns false. Pass the state of
    /// the application to [`compact_with`](crate::OmniPaxos::compact_with). Nothing was changed.
    ///
    /// [`Snapshot::can_create`]: crate::storage::Snapshot::can_create
    #[error("a snapshot cannot be made of entries: only `compact_with` compacts this log")]
    NotFromEntries,
    /// The replica has halted.
    #[error(transparent)]
    Halted(#[from] Halted),
}
