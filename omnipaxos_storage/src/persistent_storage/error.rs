//! Errors of a persistent storage, and what an operator can do.

use std::{error::Error, io, path::PathBuf};
use thiserror::Error;

/// An error without content: an item of 0.2.2, for programs that name it. No method returns it; see
/// [`StorageError`].
#[derive(Copy, Clone, Debug, Error)]
#[error("ErrHelper")]
pub struct ErrHelper {}

/// Why a storage could not be opened, read or written.
///
/// The message contains what happened, in which file and at which byte, and what an operator can
/// do. It does not repeat [`source`](std::error::Error::source), the error of the system or the
/// database: [`with_causes`](omnipaxos::errors::with_causes) prints both.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system reported an error. After a failed write, open the storage again. If the disk reported
    /// the error (`EIO`), restart the machine before: the system may show what it could not write.
    #[error("could not {doing} {}", .path.display())]
    Io {
        /// The operation.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The database failed.
    #[error("could not {doing} the database {}", .path.display())]
    Database {
        /// The operation.
        doing: &'static str,
        /// The folder of the database.
        path: PathBuf,
        /// The error of the database.
        source: Box<sled::Error>,
    },
    /// A folder with this name cannot exist.
    #[error("cannot keep a storage in {path:?}: {what}")]
    NoFolder {
        /// The folder, or the file in its place.
        path: PathBuf,
        /// What is wrong with the name.
        what: &'static str,
    },
    /// A part of the storage is missing. The opening lost no data.
    ///
    /// If the part was moved away since the server last ran, put it back. Otherwise replace the
    /// server by one with a new id and an empty folder. Never use an older copy: it lacks later
    /// promises and accepted entries.
    #[error(
        "{} is missing or empty, and belongs to the storage; the opening lost no data; put it back \
         if it was moved away since this server last ran; otherwise, and never from an older copy, \
         replace this server through a reconfiguration by one with a new id and an empty folder",
        .path.display()
    )]
    Missing {
        /// The file or folder.
        path: PathBuf,
    },
    /// Stored data is damaged. The opening lost no data.
    ///
    /// Keep the folder to find the cause. Replace the server by one with a new id and an empty
    /// folder. Never use an older copy of the folder: it lacks later promises and accepted entries.
    #[error(
        "{} is damaged at byte {byte}: {what}; the opening lost no data; keep the folder to find \
         out why, do not use an older copy of it, and replace this server through a \
         reconfiguration by one with a new id and an empty folder",
        .path.display()
    )]
    Corrupt {
        /// The file or folder.
        path: PathBuf,
        /// Position of the damage.
        byte: u64,
        /// What is wrong there.
        what: String,
    },
    /// The folder contains data that this library did not write. An example is the data of the
    /// published `omnipaxos_storage` 0.2.2, which was not synced and cannot be trusted.
    #[error(
        "{} holds data that this library did not write, such as that of the published \
         omnipaxos_storage 0.2.2, which was never synced and cannot be trusted: name another \
         folder, and let the server catch up under a new id",
        .path.display()
    )]
    Foreign {
        /// The file or folder.
        path: PathBuf,
    },
    /// The data was written in another format.
    #[error(
        "{} has storage format {found}, and this library reads format {ours}: open it with the \
         version of the library that wrote it",
        .path.display()
    )]
    Format {
        /// The file or folder.
        path: PathBuf,
        /// The format found.
        found: u16,
        /// The format of this library.
        ours: u16,
    },
    /// The storage is open already, in this process or in another.
    #[error("{} is open already: one server has one storage", .path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A new storage was requested, and the folder contains one.
    #[error("{} holds a storage already: open it, or name another folder", .path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A storage must exist here, and does not. Nothing was created.
    #[error(
        "{} holds no storage: mount its disk, or name its folder; if the disk is lost, replace this \
         server by one with a new id, and never start it with an empty folder",
        .path.display()
    )]
    NoStorage {
        /// The folder.
        path: PathBuf,
    },
    /// An entry, a stop sign or a snapshot is too large to be stored. Nothing was written.
    #[error("{what} of {bytes} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The largest size.
        limit: u64,
    },
    /// A value could not be encoded, or not be decoded as the requested type.
    #[error("could not {doing} {what}")]
    Code {
        /// The operation: encode or decode.
        doing: &'static str,
        /// The value.
        what: &'static str,
        /// The error of the codec.
        source: Box<dyn Error + Send + Sync>,
    },
    /// An earlier write failed, so the content of the storage is not known. Open the storage again.
    #[error("an earlier write failed ({cause}): open the storage again")]
    Poisoned {
        /// The earlier failure.
        cause: String,
    },
}

impl StorageError {
    pub(super) fn code<E: Into<Box<dyn Error + Send + Sync>>>(
        doing: &'static str,
        what: &'static str,
    ) -> impl Fn(E) -> Self {
        move |source| Self::Code { doing, what, source: source.into() }
    }

    pub(super) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    pub(super) fn database(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(sled::Error) -> Self {
        let path = path.into();
        move |source| Self::Database { doing, path, source: Box::new(source) }
    }
}
