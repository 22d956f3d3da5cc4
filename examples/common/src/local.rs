//! Ports, folders and disks of this machine.

use anyhow::{bail, Context, Result};
use omnipaxos::storage::Entry;
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use serde::{de::DeserializeOwned, Serialize};
use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::TcpListener,
    path::{Path, PathBuf},
};

/// Listens at an address.
///
/// # Errors
/// It cannot.
pub async fn bind(address: &str) -> Result<tokio::net::TcpListener> {
    let bound = tokio::net::TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot listen at {address}"))
}

/// Ports that nobody listens at, below those that the system gives to outgoing connections: while a
/// server is killed, its ports stay free.
///
/// # Errors
/// There are not so many.
pub fn free_ports(number: usize) -> Result<Vec<u16>> {
    let from = 10_000 + (random() % 20_000) as u16;
    // All are held until all are known, lest one be given out twice.
    let listeners: Vec<TcpListener> = (from..32_000)
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .take(number)
        .collect();
    if listeners.len() < number {
        bail!("no free ports");
    }
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// A random number.
pub fn random() -> u64 {
    // Each `RandomState` has keys of its own from the operating system's random numbers.
    RandomState::new().build_hasher().finish()
}

/// A temporary directory that is removed when this is dropped.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes one whose name begins with `name`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("{name}-{:016x}", random()));
        std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(cause) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!("left {} behind: {cause}", self.0.display());
        }
    }
}

/// Whether a server may start where its storage is not there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The storage is made: it is the first start.
    IsMade,
    /// It must be there: a server that starts without it has forgotten what it promised.
    IsRefused,
}

/// Opens the storage in a folder.
///
/// # Errors
/// It cannot be opened, or is not there and must be; [`PersistentStorage::try_open_existing`] says
/// why.
pub fn open_storage<T>(folder: &Path, missing: Missing) -> Result<PersistentStorage<T>>
where
    T: Entry<Snapshot: Serialize + DeserializeOwned> + Serialize + DeserializeOwned,
{
    let name = folder.to_str();
    let name = name.with_context(|| format!("{} is not UTF-8", folder.display()))?;
    let config = PersistentStorageConfig::with_path(name);
    let opened = match missing {
        Missing::IsMade => PersistentStorage::try_open(config),
        Missing::IsRefused => PersistentStorage::try_open_existing(config),
    };
    opened.with_context(|| format!("cannot open the storage in {name}"))
}
