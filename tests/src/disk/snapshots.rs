//! Snapshots as bytes: those that other servers are sent, and those that arrive in parts.

use super::{Accident, Disk, Done, SimDisk, Verdict};
use crate::value::{decoded, encoded, SimEntry, LARGEST_SNAPSHOT};
use omnipaxos::storage::{
    ReadSnapshot, Reception, SnapshotBytes, SnapshotDigest, SnapshotSource, StorageOp,
    StorageResult,
};
use std::sync::Arc;

/// A snapshot that a disk receives. A crash loses it.
#[derive(Clone, Debug)]
pub(super) struct Received {
    len: u64,
    bytes: Vec<u8>,
    /// Number of bytes that count as written.
    written: u64,
    /// Outputs until a slow disk has written what has come.
    left: u64,
    is_ready: bool,
    /// Whether the storage below receives it, too.
    is_below: bool,
}

impl Received {
    pub(super) fn forget_below(&mut self) {
        self.is_below = false;
    }
}

/// The bytes of a snapshot in memory.
#[derive(Debug)]
struct InMemory(Vec<u8>);

impl ReadSnapshot for InMemory {
    fn read(&self, offset: u64, len: usize) -> StorageResult<Vec<u8>> {
        let from = usize::try_from(offset)?;
        Ok(self.0.get(from..from + len).ok_or("bytes that are not there were asked for")?.to_vec())
    }
}

fn bytes_of(idx: u64, bytes: Vec<u8>) -> SnapshotBytes {
    let mut digest = SnapshotDigest::default();
    digest.update(&bytes);
    SnapshotBytes::new(idx, bytes.len() as u64, digest.finish(), Arc::new(InMemory(bytes)))
}

impl<T: SimEntry> SimDisk<T> {
    pub(super) fn source(&self) -> StorageResult<SnapshotSource> {
        self.read(|_| ())?;
        Ok(self.0.borrow_mut().source())
    }

    pub(super) fn begin(&self, len: u64) -> StorageResult<bool> {
        self.read(|_| ())?;
        let mut disk = self.0.borrow_mut();
        disk.end_reception();
        if !disk.has_bytes {
            return Ok(false);
        }
        // Each server is set to take no larger one, whatever a lie claims.
        if len > LARGEST_SNAPSHOT {
            disk.misuse.get_or_insert_with(|| format!("a snapshot of {len} bytes is received"));
        }
        let is_below = disk.below(|below| below.begin_receiving(len)).unwrap_or(false);
        let bytes = Vec::new();
        let left = disk.slowness;
        disk.received = Some(Received { len, bytes, written: 0, left, is_ready: false, is_below });
        Ok(true)
    }

    pub(super) fn add(&self, part: Vec<u8>) -> StorageResult<()> {
        let mut disk = self.0.borrow_mut();
        disk.check_running()?;
        match disk.verdict() {
            Verdict::Do => {}
            Verdict::Fail(fault) => return disk.fail(fault, Done::Nothing),
        }
        let received = disk.received.as_mut().ok_or("no snapshot is received")?;
        received.bytes.extend_from_slice(&part);
        let (is_too_much, is_below) =
            (received.bytes.len() as u64 > received.len, received.is_below);
        if is_too_much || part.is_empty() {
            disk.misuse.get_or_insert_with(|| "a part beyond the snapshot".to_string());
        } else if is_below {
            disk.below(|below| below.receive(part));
        }
        Ok(())
    }

    pub(super) fn reception(&self) -> StorageResult<Reception> {
        let mut disk = self.0.borrow_mut();
        disk.check_running()?;
        let disk = &mut *disk;
        let received = disk.received.as_mut().ok_or("no snapshot is received")?;
        if received.is_ready {
            return Ok(Reception::Ready);
        }
        if received.left > 0 {
            received.left -= 1;
            return Ok(Reception::Pending { written: received.written });
        }
        received.left = disk.slowness;
        let (is_slow, is_slower) = (disk.bytes_rng.chance(1, 2), disk.bytes_rng.chance(1, 2));
        let is_slow = is_slow && disk.slowness == 0;
        let arrived = received.bytes.len() as u64;
        received.written = match (is_slow, is_slower) {
            (false, _) => arrived,
            (true, false) => received.written.midpoint(arrived),
            (true, true) => received.written,
        };
        let (written, is_below) = (received.written, received.is_below);
        if written < received.len || is_slow {
            return Ok(Reception::Pending { written });
        }
        let is_snapshot = decoded::<T::Snapshot>(&received.bytes).is_some();
        received.is_ready = is_snapshot;
        if is_below {
            let expected = if is_snapshot { Reception::Ready } else { Reception::Undecodable };
            if disk.below(|below| below.reception()).is_some_and(|found| found != expected) {
                disk.misuse.get_or_insert_with(|| format!("the storage is not {expected:?}"));
            }
        }
        if !is_snapshot {
            disk.received = None;
            return Ok(Reception::Undecodable);
        }
        Ok(Reception::Ready)
    }

    pub(super) fn end(&self) -> StorageResult<()> {
        let mut disk = self.0.borrow_mut();
        disk.check_running()?;
        disk.end_reception();
        Ok(())
    }

    pub(super) fn write_received(&self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        let mut disk = self.0.borrow_mut();
        disk.usage.writes += 1;
        disk.usage.received += 1;
        let received = disk.received.take().filter(|received| received.is_ready);
        let received = received.ok_or("no snapshot is ready")?;
        let snapshot = decoded(&received.bytes).ok_or("it is no snapshot")?;
        ops.insert(0, StorageOp::SetSnapshot(Some(snapshot)));
        disk.installs_below = received.is_below;
        let written = disk.write(ops);
        disk.installs_below = false;
        written
    }
}

impl<T: SimEntry> Disk<T> {
    fn check_running(&self) -> StorageResult<()> {
        match self.accident {
            Some(Accident::Crashed(_)) => Err("the server has crashed".into()),
            Some(Accident::WriteFailed | Accident::ReadFailed) | None => Ok(()),
        }
    }

    /// Calls the storage below, if there is one. What it refuses is noted.
    fn below<R>(
        &mut self,
        call: impl FnOnce(&mut super::BackingStorage<T>) -> Result<R, String>,
    ) -> Option<R> {
        match self.backing.as_mut().map(call)? {
            Ok(result) => Some(result),
            Err(problem) => {
                self.misuse.get_or_insert(problem);
                None
            }
        }
    }

    fn end_reception(&mut self) {
        if self.received.take().is_some_and(|received| received.is_below) {
            self.below(|below| below.end_receiving());
        }
    }

    /// While the snapshot of a compaction is not durable, its bytes are not ready. Those of the snapshot
    /// before may be.
    fn source(&mut self) -> SnapshotSource {
        let snapshot = match (self.has_bytes, &self.image.snapshot) {
            (true, Some(snapshot)) => encoded(snapshot),
            (true, None) | (false, _) => return SnapshotSource::Value,
        };
        let idx = self.image.compacted_idx;
        if self.durable.is_some() {
            return match self.earlier.clone().filter(|_| self.bytes_rng.chance(1, 2)) {
                Some(earlier) => SnapshotSource::Bytes(earlier),
                None if self.bytes_rng.chance(1, 4) => SnapshotSource::Value,
                None => SnapshotSource::Later,
            };
        }
        if self.bytes_rng.chance(1, 8) {
            return SnapshotSource::Later;
        }
        let below = self.below(|below| below.source()).flatten();
        if below.as_ref().is_some_and(|below| !is_same(below, idx, &snapshot)) {
            self.misuse.get_or_insert_with(|| "the storage sends another snapshot".to_string());
        }
        let bytes = below.unwrap_or_else(|| bytes_of(idx, snapshot));
        self.earlier = Some(bytes.clone());
        SnapshotSource::Bytes(bytes)
    }
}

/// Whether the bytes that a storage sends are those of this snapshot.
fn is_same(found: &SnapshotBytes, idx: u64, snapshot: &[u8]) -> bool {
    let expected = bytes_of(idx, snapshot.to_vec());
    let read = found.read(0, snapshot.len()).is_ok_and(|read| read == snapshot);
    read && (found.idx(), found.len(), found.digest())
        == (expected.idx(), expected.len(), expected.digest())
}
