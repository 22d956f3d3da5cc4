//! The persistent storage beneath a simulated disk: it is written what the disk is written, is
//! opened again whenever its server is, and must hold what the disk holds.

use super::image::Image;
use crate::value::SimEntry;
use omnipaxos::{
    identity::Identity,
    storage::{Reception, SnapshotBytes, SnapshotSource, Storage, StorageOp},
};
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use std::{path::Path, thread};
use tempfile::TempDir;

/// A file system in memory, where there is one: what is tested here is not the disk.
const IN_MEMORY: &str = "/dev/shm";

/// A persistent storage and its folder.
#[derive(Debug)]
pub(super) struct BackingStorage<T: SimEntry> {
    storage: Option<PersistentStorage<T>>,
    /// Whether snapshots of all sizes have files of their own.
    has_files: bool,
    folder: TempDir,
}

impl<T: SimEntry> BackingStorage<T> {
    /// A new storage in a temporary folder.
    ///
    /// # Errors
    /// The error of the storage or the system.
    pub(super) fn new(has_files: bool) -> Result<Self, String> {
        let place = Path::new(IN_MEMORY);
        let folder = if place.is_dir() { TempDir::new_in(place) } else { TempDir::new() };
        let mut backing =
            Self { storage: None, has_files, folder: folder.map_err(|error| error.to_string())? };
        backing.open()?;
        Ok(backing)
    }

    fn open(&mut self) -> Result<(), String> {
        let mut config = PersistentStorageConfig::default();
        config.set_path(self.folder.path().to_string_lossy().into());
        if self.has_files {
            config.set_largest_inline_snapshot(0);
        }
        self.storage = None;
        let opened = PersistentStorage::try_open(config).map_err(|error| error.to_string())?;
        self.storage = Some(opened);
        Ok(())
    }

    fn storage(&mut self) -> Result<&mut PersistentStorage<T>, String> {
        self.storage.as_mut().ok_or_else(|| "the storage is closed".to_string())
    }

    /// Writes what the disk is written.
    pub(super) fn write(&mut self, mut ops: Vec<StorageOp<T>>) -> Result<(), String> {
        self.storage()?.write_atomically(&mut ops).map_err(|error| error.to_string())
    }

    /// Writes what the disk is written, with the snapshot that it has received.
    pub(super) fn write_received(&mut self, mut ops: Vec<StorageOp<T>>) -> Result<(), String> {
        self.storage()?.write_received(&mut ops).map_err(|error| error.to_string())
    }

    /// Begins to receive a snapshot, if it does that in parts.
    pub(super) fn begin_receiving(&mut self, len: u64) -> Result<bool, String> {
        self.storage()?.begin_receiving(len).map_err(|error| error.to_string())
    }

    /// Receives a part.
    pub(super) fn receive(&mut self, part: Vec<u8>) -> Result<(), String> {
        self.storage()?.receive(part).map_err(|error| error.to_string())
    }

    /// Drops what was received.
    pub(super) fn end_receiving(&mut self) -> Result<(), String> {
        self.storage()?.end_receiving().map_err(|error| error.to_string())
    }

    /// Waits until all that was received is decoded.
    pub(super) fn reception(&mut self) -> Result<Reception, String> {
        loop {
            match self.storage()?.reception().map_err(|error| error.to_string())? {
                Reception::Pending { .. } => thread::yield_now(),
                ended => return Ok(ended),
            }
        }
    }

    /// The bytes of the snapshot, if it has them.
    pub(super) fn source(&mut self) -> Result<Option<SnapshotBytes>, String> {
        match self.storage()?.snapshot_source().map_err(|error| error.to_string())? {
            SnapshotSource::Bytes(bytes) => Ok(Some(bytes)),
            SnapshotSource::Value if !self.has_files => Ok(None),
            other => Err(format!("the storage has no bytes: {other:?}")),
        }
    }

    /// Keeps the identity that the disk keeps.
    pub(super) fn set_identity(&mut self, identity: Identity) -> Result<(), String> {
        self.storage()?.set_identity(identity).map_err(|error| error.to_string())
    }

    /// Opens the storage again and compares it with the disk.
    pub(super) fn reopen(&mut self, image: &Image<T>) -> Result<(), String> {
        self.open()?;
        let storage = self.storage()?;
        let failed = |error: Box<dyn std::error::Error>| error.to_string();
        let covered = |snapshot: &Option<T::Snapshot>| snapshot.as_ref().map(T::covered);
        let same = image.log == storage.get_suffix(0).map_err(failed)?
            && storage.get_promise().map_err(failed)? == image.promise
            && storage.get_accepted_round().map_err(failed)? == image.accepted_round
            && storage.get_decided_idx().map_err(failed)? == image.decided_idx
            && storage.get_compacted_idx().map_err(failed)? == image.compacted_idx
            && storage.get_stopsign().map_err(failed)? == image.stopsign
            && storage.get_epochs().map_err(failed)? == Some(image.epochs.clone())
            && storage.get_identity().map_err(failed)? == image.identity
            && covered(&storage.get_snapshot().map_err(failed)?) == covered(&image.snapshot);
        if same {
            Ok(())
        } else {
            Err("the persistent storage came back with something else".to_string())
        }
    }
}
