//! Errors: what failed, and what the caller can do.

use crate::{config::ClusterConfig, ids::NodeId, storage::Entry};
use std::{error::Error as StdError, fmt, io, sync::Arc};
use thiserror::Error;

pub use crate::config::ConfigError;

/// Why a proposal was refused. Contains the proposal.
#[derive(Debug, Error)]
pub enum ProposeErr<T: Entry> {
    /// The configuration has ended, or a stop sign waits to be appended. Propose the entry in the
    /// next configuration.
    #[error("a reconfiguration is pending: propose this entry in the next configuration")]
    PendingReconfigEntry(T),
    /// A stop sign is in the log already, or waits to be appended.
    #[error("a reconfiguration is pending: only one can follow a configuration")]
    PendingReconfigConfig(ClusterConfig, Option<Vec<u8>>),
    /// The proposed configuration cannot follow this one.
    #[error("the proposed configuration is not legal")]
    ConfigError(#[source] ConfigError, ClusterConfig, Option<Vec<u8>>),
}

/// Why the log was not compacted.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum CompactionErr {
    /// The index is above the decided index, which this contains.
    #[error("cannot compact beyond the decided index {0}")]
    UndecidedIndex(u64),
    /// The log cannot be compacted at the index; contains the compacted index. The reason is one of
    /// these:
    /// - The log is compacted beyond the index already.
    /// - The log was trimmed without a snapshot, so no snapshot can be made any more.
    /// - The storage cannot hold the snapshot. [`TryCompactionErr::Unstorable`] contains its
    ///   reason.
    #[error("the log is compacted up to index {0} already")]
    TrimmedIndex(u64),
    /// Some server has not accepted the entries before the index yet. Contains the largest index
    /// that all servers have accepted.
    #[error("cannot trim beyond index {0}, the largest that every server has accepted")]
    NotAllDecided(u64),
    /// Only the leader can trim. Contains the leader that this server knows, or 0 if it knows none.
    #[error("only the leader can trim, and the leader known here is server {0} (0: none)")]
    NotCurrentLeader(NodeId),
}

/// The replica has stopped for good: a storage call failed, or user code panicked.
///
/// It sends no further message, so that it cannot claim entries that its disk does not hold. Open
/// the storage again and build a replica from it.
///
/// [`source`](StdError::source) returns the error of the storage, with its causes: the error itself
/// if the storage returned a [`SharedError`] or an [`io::Error`], otherwise a copy of its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halted(Arc<Why>);

/// Why a replica has halted.
#[derive(Debug, PartialEq, Eq)]
enum Why {
    Failed(Failure),
    /// This input did not return.
    Panicked(&'static str),
}

/// The operation that failed, and the cause. Two are equal if their texts are equal.
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

/// An error of a storage that the replica keeps as it is.
///
/// The replica keeps the error that halts it, and returns copies of it on any thread. The `Box<dyn
/// Error>` of a [`StorageResult`](crate::storage::StorageResult) can be neither cloned nor sent to
/// another thread. So the replica keeps only the texts of such an error. If a storage returns its
/// errors in a `SharedError`, users can downcast the [`source`](StdError::source) of [`Halted`] to
/// the type of that storage.
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

/// The texts of an error that can be neither cloned nor sent.
#[derive(Debug)]
struct Texts {
    text: String,
    source: Option<Box<Texts>>,
}

/// The largest number of causes kept: an error may name itself as its cause.
const MOST_CAUSES: usize = 16;

/// Returns the causes of an error, the nearest first.
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

/// Keeps an error of a storage: the error itself if its type can be sent, otherwise its texts. A
/// `Box<dyn Error>` does not show whether it can be sent.
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
    /// Reports that the storage failed to do `operation`.
    pub(crate) fn new(operation: impl Into<String>, cause: impl Into<Box<dyn StdError>>) -> Self {
        let cause = cause.into();
        let (operation, text) = (operation.into(), with_causes(&*cause));
        Self(Arc::new(Why::Failed(Failure { operation, text, cause: keep(cause) })))
    }

    /// Reports that user code panicked in this input.
    pub(crate) fn in_input(input: &'static str) -> Self {
        Self(Arc::new(Why::Panicked(input)))
    }

    /// Returns the storage operation that failed, or the input in which user code panicked.
    pub fn operation(&self) -> &str {
        match &*self.0 {
            Why::Failed(failure) => &failure.operation,
            Why::Panicked(input) => input,
        }
    }

    /// Returns the error text of the storage, with all causes in one line.
    pub fn cause(&self) -> &str {
        match &*self.0 {
            Why::Failed(failure) => &failure.text,
            Why::Panicked(_) => "a panic",
        }
    }

    /// Returns whether user code panicked. Otherwise the storage failed.
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
                write!(f, "the replica has halted: user code panicked in `{input}`")
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

/// The storage failed during a read, or while a replica was built.
///
/// A replica continues after a read that failed: [`halted`](crate::OmniPaxos::halted) returns
/// whether it has halted. [`source`](StdError::source) returns the error of the storage, as it does
/// for [`Halted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageFailed(Halted);

impl StorageFailed {
    pub(crate) fn new(failed: Halted) -> Self {
        Self(failed)
    }

    /// Returns the storage operation that failed.
    pub fn operation(&self) -> &str {
        self.0.operation()
    }

    /// Returns the error text of the storage, with all causes in one line.
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

/// Finds an error of type `E`: the error itself or the nearest of its causes.
///
/// It also searches inside a [`SharedError`].
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

/// Returns an error and all its causes in one line, with a colon before each cause.
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
    /// The storage failed, or its content is inconsistent.
    #[error(transparent)]
    Storage(#[from] StorageFailed),
    /// The storage belongs to another server, configuration or cluster. The text names it.
    #[error("{0}")]
    StorageMismatch(String),
    /// The log file that the configuration names cannot be opened.
    #[error(transparent)]
    LogFile(#[from] LogFileErr),
}

impl From<BuildErr> for ConfigError {
    /// Converts to the error of the build methods of 0.2.2, which has no place for a cause.
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

/// Why a `try_*` method refused a proposal.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TryProposeErr<T: Entry> {
    /// The reason that the method without `try_` returns.
    #[error(transparent)]
    Refused(#[from] ProposeErr<T>),
    /// The queue of waiting proposals is full: there is no leader, or the leader makes no progress.
    /// This contains the entry; propose it again later. See
    /// [`ServerConfig::max_pending_bytes`](crate::ServerConfig::max_pending_bytes).
    #[error("busy: the queue of proposals is full; propose this entry again later")]
    Busy(T),
    /// This server was restarted, and its storage does not count incarnations, so it cannot give
    /// the proposal an id. Implement
    /// [`Storage::next_incarnation`](crate::storage::Storage::next_incarnation) or set
    /// [`ServerConfig::incarnation`](crate::ServerConfig::incarnation).
    #[error(
        "this incarnation of the server has no number that earlier ones did not have: implement \
         Storage::next_incarnation or set ServerConfig::incarnation"
    )]
    NoIncarnation(T),
    /// The entry cannot be stored. Contains the entry, and the reason as text. Proposing the entry
    /// again is useless. The reason is one of these:
    /// - The entry exceeds [`ServerConfig::max_entry_bytes`](crate::ServerConfig::max_entry_bytes).
    /// - It exceeds what the storage of some server can hold.
    /// - The storage could not read it back.
    #[error("this entry cannot be stored: {1}")]
    Unstorable(T, String),
    /// The replica has halted.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// Why [`propose_reconfiguration`](crate::OmniPaxos::propose_reconfiguration) refused a
/// reconfiguration. Contains the configuration and the metadata.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReconfigurationErr {
    /// The proposed configuration cannot follow this one.
    #[error("the proposed configuration is not legal")]
    Config(#[source] ConfigError, ClusterConfig, Option<Vec<u8>>),
    /// A stop sign is in the log already, or waits to be appended.
    #[error("a reconfiguration is pending: only one can follow a configuration")]
    Pending(ClusterConfig, Option<Vec<u8>>),
    /// This server was restarted, and its storage does not count incarnations, so it cannot give
    /// the proposal an id: see [`TryProposeErr::NoIncarnation`].
    #[error(
        "this incarnation of the server has no number that earlier ones did not have: implement \
         Storage::next_incarnation or set ServerConfig::incarnation"
    )]
    NoIncarnation(ClusterConfig, Option<Vec<u8>>),
    /// The log of this server does not continue through reconfigurations.
    #[error(
        "the log ends with this configuration: set ServerConfig::continues at all servers, or call \
         `reconfigure` and start the next configuration with empty storages"
    )]
    EndsHere(ClusterConfig, Option<Vec<u8>>),
    /// The replica has halted.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// Why [`compact_with`](crate::OmniPaxos::compact_with) or a `try_*` method refused a compaction.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TryCompactionErr {
    /// The reason that the method without `try_` returns.
    #[error(transparent)]
    Refused(#[from] CompactionErr),
    /// The storage cannot hold the snapshot, or could not read it back. Contains the reason as
    /// text. Nothing was changed.
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
