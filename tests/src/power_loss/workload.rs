//! What the process writes, so that a verifier knows what must be there.

use crate::value::encoded;
use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Identity,
    storage::{Epoch, Reception, StopSign, Storage, StorageOp},
    ClusterConfig,
};
use omnipaxos_storage::{
    commitlog::LogOptions,
    conformance::{Item, Items},
    persistent_storage::{PersistentStorage, PersistentStorageConfig, StorageError},
};
use std::{
    path::{Path, PathBuf},
    thread,
};

/// Small segments, so that many are begun and removed.
const SEGMENT_BYTES: usize = 24 << 10;

/// So small that most snapshots are written from a thread.
const LARGEST_INLINE: u64 = 2 << 10;

/// The number of batches after which the process counts an incarnation.
const BATCHES_PER_INCARNATION: u64 = 20;

/// Under these ids of servers, the identity notes the number of incarnations and the id of the
/// storage.
const INCARNATIONS: u64 = 2;
const STORAGE: u64 = 3;

/// The batches of a seed, and what a storage holds after each.
#[derive(Clone, Debug)]
pub struct Plan {
    seed: u64,
    batches: u64,
    held: Held,
    /// The compactions that a loss of power may undo, in order. It undoes the last ones first.
    compactions: Vec<Compaction>,
}

/// What the last compactions have replaced.
#[derive(Clone, Debug)]
struct Compaction {
    removed: Vec<Item>,
    idx_before: u64,
    snapshot_before: Option<Items>,
}

/// How a batch is written.
#[derive(Clone, Debug)]
pub enum Batch {
    /// With [`Storage::write_atomically`].
    Atomic(Vec<StorageOp<Item>>),
    /// With [`Storage::write_compaction`].
    Compaction(Vec<StorageOp<Item>>),
    /// With [`Storage::write_received`], after this snapshot has arrived in parts.
    Received(Items, Vec<StorageOp<Item>>),
}

/// What a process has printed as stored.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Number of batches.
    pub batches: u64,
    /// The compacted index that survives, as far as a compaction of these batches counts.
    pub stored_idx: u64,
}

impl Acknowledged {
    /// The content of a line of the process.
    pub fn read(line: &str) -> Option<Self> {
        let (batches, stored_idx) = line.strip_prefix("ACK ")?.split_once(' ')?;
        Some(Self { batches: batches.parse().ok()?, stored_idx: stored_idx.parse().ok()? })
    }
}

/// What a storage holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    /// Number of entries removed from the beginning so far; no storage reports it.
    removed: u64,
    log: Vec<Item>,
    promise: Option<Ballot>,
    accepted_round: Option<Ballot>,
    decided_idx: u64,
    compacted_idx: u64,
    stopsign: Option<StopSign>,
    snapshot: Option<Items>,
    epochs: Vec<Epoch>,
}

/// What a verifier found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that was acknowledged is there: this number of batches.
    Holds(u64),
    /// Something else.
    Bad(String),
}

/// A number from a seed and a place (splitmix64).
fn mix(seed: u64, place: u64) -> u64 {
    let mut z = seed.wrapping_add(place.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Receives the first bytes of a snapshot, which has `len`.
fn receive(
    storage: &mut PersistentStorage<Item>,
    bytes: &[u8],
    len: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    if !storage.begin_receiving(len as u64)? {
        return Err("the storage takes no parts".into());
    }
    bytes.chunks(4000).try_for_each(|part| storage.receive(part.to_vec()))
}

impl Plan {
    /// The batches of `seed`, none written yet.
    pub fn new(seed: u64) -> Self {
        Self { seed, batches: 0, held: Held::default(), compactions: Vec::new() }
    }

    /// The plan after `batches` batches.
    pub fn after(seed: u64, batches: u64) -> Self {
        let mut plan = Self::new(seed);
        for _ in 0..batches {
            plan.next_batch();
        }
        plan
    }

    /// Number of batches so far.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// What is acknowledged once all these batches are durable, the compactions too.
    pub fn all(&self) -> Acknowledged {
        Acknowledged { batches: self.batches, stored_idx: self.held.compacted_idx }
    }

    /// Writes the next batch, and after some counts an incarnation, and notes it and the id of the
    /// storage in the identity.
    ///
    /// # Errors
    /// The storage failed.
    pub fn write_next(
        &mut self,
        storage: &mut PersistentStorage<Item>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        match self.next_batch() {
            Batch::Atomic(mut ops) => storage.write_atomically(&mut ops)?,
            Batch::Compaction(mut ops) => storage.write_compaction(&mut ops)?,
            Batch::Received(snapshot, mut ops) => {
                let bytes = encoded(&snapshot);
                receive(storage, &bytes, bytes.len())?;
                loop {
                    match storage.reception()? {
                        Reception::Pending { .. } => thread::yield_now(),
                        Reception::Ready => break,
                        other => return Err(format!("the snapshot is {other:?}").into()),
                    }
                }
                storage.write_received(&mut ops)?;
            }
        }
        // Parts of a snapshot that nothing follows change nothing.
        if mix(self.seed, self.batches * 1000 + 700).is_multiple_of(9) {
            receive(storage, &[7; 9000], 12_000)?;
            while storage.reception()? != (Reception::Pending { written: 9000 }) {
                thread::yield_now();
            }
        }
        self.note_incarnation(storage)
    }

    /// Returns whether an incarnation is counted, and an identity stored, after these batches.
    pub fn notes_incarnation(&self) -> bool {
        Self::notes_incarnation_after(self.batches)
    }

    /// Returns whether that happens after this number of batches.
    pub fn notes_incarnation_after(batches: u64) -> bool {
        batches > 0 && batches.is_multiple_of(BATCHES_PER_INCARNATION)
    }

    /// Counts an incarnation after some batches, and notes it. A process that begins there does it again:
    /// the one before may have been killed between the batch and the note.
    ///
    /// # Errors
    /// The storage failed.
    pub fn note_incarnation(
        &self,
        storage: &mut PersistentStorage<Item>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        if self.notes_incarnation() {
            storage.next_incarnation()?;
            let nodes = vec![1, INCARNATIONS, STORAGE];
            let config = ClusterConfig { configuration_id: 1, nodes, flexible_quorum: None };
            let mut identity = Identity::new(1, config, Some("power".into()));
            identity.peers.insert(INCARNATIONS, self.batches / BATCHES_PER_INCARNATION);
            identity.peers.extend(storage.get_storage_id()?.map(|id| (STORAGE, id)));
            storage.set_identity(identity)?;
        }
        Ok(())
    }

    /// The next batch.
    pub fn next_batch(&mut self) -> Batch {
        self.batches += 1;
        let place = self.batches * 1000;
        let count = 1 + mix(self.seed, place) % 4;
        if let Some(mut ops) = self.compact(place) {
            ops.extend((1..count).map(|_| self.op_beside(place)));
            return Batch::Compaction(ops);
        }
        if let Some((snapshot, ops)) = self.install(place) {
            // It must be durable with this batch, so what was before is gone.
            self.compactions.clear();
            return Batch::Received(snapshot, ops);
        }
        let (removed, idx) = (self.held.removed, self.held.compacted_idx);
        let ops: Vec<_> = (1..=count).map(|number| self.op(place + number * 10)).collect();
        let has_snapshot = ops.iter().any(|op| matches!(op, StorageOp::SetSnapshot(_)));
        if has_snapshot || (removed, idx) != (self.held.removed, self.held.compacted_idx) {
            // All of a compaction must be durable with this batch, so the ones before it as well.
            self.compactions.clear();
        }
        Batch::Atomic(ops)
    }

    /// Replaces the first entries by a snapshot, mostly a large one.
    fn compact(&mut self, place: u64) -> Option<Vec<StorageOp<Item>>> {
        let pick = |n: u64| mix(self.seed, place + 500 + n);
        let len = self.held.log.len() as u64;
        let count = 1 + pick(1) % len.max(1);
        let idx = self.held.compacted_idx.checked_add(count)?;
        if len == 0 || pick(0) % 4 > 0 {
            return None;
        }
        // One of several steps is rare, since it takes long.
        let bytes = match pick(2) % 40 {
            0 => 1_100_000,
            n => [100, 3000, 9000, 20_000][n as usize % 4],
        };
        let item = Item { id: place as u32, payload: vec![pick(3) as u8; bytes] };
        let snapshot = Some(Items(vec![item]));
        self.compactions.push(Compaction {
            removed: self.held.log.drain(..count as usize).collect(),
            idx_before: self.held.compacted_idx,
            snapshot_before: std::mem::replace(&mut self.held.snapshot, snapshot.clone()),
        });
        self.held.removed += count;
        self.held.compacted_idx = idx;
        Some(vec![
            StorageOp::SetSnapshot(snapshot),
            StorageOp::Trim(count),
            StorageOp::SetCompactedIdx(idx),
        ])
    }

    /// Replaces all entries by a snapshot from another server.
    fn install(&mut self, place: u64) -> Option<(Items, Vec<StorageOp<Item>>)> {
        let pick = |n: u64| mix(self.seed, place + 800 + n);
        if pick(0) % 10 > 0 {
            return None;
        }
        let bytes = match pick(2) % 20 {
            0 => 1_100_000,
            n => [3000, 9000, 20_000][n as usize % 3],
        };
        let snapshot = Items(vec![Item { id: place as u32, payload: vec![pick(3) as u8; bytes] }]);
        // Sometimes the batch is larger than a new file of the journal, and than a segment.
        let is_large = pick(6).is_multiple_of(6);
        let (more, length) = if is_large { (600, 500) } else { (1, pick(1) as usize % 600) };
        let item = |number| Item { id: number, payload: vec![7; length] };
        let next: Vec<_> = (1..=more).map(|number| item(place as u32 + number)).collect();
        let count = self.held.log.len() as u64;
        self.held.removed += count;
        self.held.log.clone_from(&next);
        (self.held.compacted_idx, self.held.decided_idx) = (pick(4), pick(5));
        self.held.snapshot = Some(snapshot.clone());
        let ops = vec![
            StorageOp::Trim(count),
            StorageOp::SetCompactedIdx(pick(4)),
            StorageOp::AppendEntries(next),
            StorageOp::SetDecidedIndex(pick(5)),
        ];
        Some((snapshot, ops))
    }

    /// What a compaction is written with.
    fn op_beside(&mut self, place: u64) -> StorageOp<Item> {
        let pick = |n: u64| mix(self.seed, place + 600 + n);
        let item = Item { id: place as u32 + 1, payload: vec![7; pick(1) as usize % 600] };
        match pick(0) % 4 {
            3 => self.set_epochs(pick(2)),
            0 => {
                self.held.decided_idx = pick(2);
                StorageOp::SetDecidedIndex(pick(2))
            }
            1 => {
                self.held.log.push(item.clone());
                StorageOp::AppendEntry(item)
            }
            _ => {
                let idx = pick(2) % (self.held.log.len() as u64 + 1);
                self.held.log.truncate(idx as usize);
                self.held.log.push(item.clone());
                StorageOp::AppendOnPrefix(idx, vec![item])
            }
        }
    }

    fn set_epochs(&mut self, seed: u64) -> StorageOp<Item> {
        let epoch = |place: u64| {
            let nodes = (1..=1 + mix(seed, place) % 5).collect();
            let configuration =
                ClusterConfig { configuration_id: place as u32, nodes, flexible_quorum: None };
            let metadata =
                (place.is_multiple_of(2)).then(|| vec![place as u8; seed as usize % 3000]);
            Epoch::new(mix(seed, place + 10), configuration, metadata)
        };
        let epochs: Vec<Epoch> = (0..seed % 4).map(epoch).collect();
        self.held.epochs.clone_from(&epochs);
        StorageOp::SetEpochs(epochs)
    }

    /// Whether a storage holds what the batches make, but for compactions beyond `stored_idx`, of which
    /// it lacks the last ones.
    fn undone(&self, held: &Held, stored_idx: u64) -> Option<usize> {
        let mut expected = self.held.clone();
        let mut undone = 0;
        loop {
            expected.removed = held.removed;
            if expected == *held {
                return Some(undone);
            }
            let last = self.compactions.iter().rev().nth(undone)?;
            if last.idx_before < stored_idx {
                return None;
            }
            undone += 1;
            expected.log.splice(0..0, last.removed.iter().cloned());
            expected.compacted_idx = last.idx_before;
            expected.snapshot.clone_from(&last.snapshot_before);
        }
    }

    /// Continues with a storage that holds these batches: does the compactions again that were undone.
    ///
    /// # Errors
    /// The storage holds something else, or failed.
    pub fn resume(
        &self,
        storage: &mut PersistentStorage<Item>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        match self.undone(&held_by(storage)?, 0) {
            Some(0) => Ok(()),
            Some(undone) => self.redo(storage, undone),
            None => Err(format!("the storage does not hold {} batches", self.batches).into()),
        }
    }

    /// Does the last compactions again, which were undone.
    fn redo(
        &self,
        storage: &mut PersistentStorage<Item>,
        undone: usize,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let last = self.compactions.iter().rev().take(undone);
        let count: usize = last.map(|compaction| compaction.removed.len()).sum();
        let mut ops = vec![
            StorageOp::SetSnapshot(self.held.snapshot.clone()),
            StorageOp::Trim(count as u64),
            StorageOp::SetCompactedIdx(self.held.compacted_idx),
        ];
        storage.write_atomically(&mut ops)?;
        match self.undone(&held_by(storage)?, self.held.compacted_idx) {
            Some(0) => Ok(()),
            other => Err(format!("{other:?} compactions are undone that were done again").into()),
        }
    }

    fn op(&mut self, place: u64) -> StorageOp<Item> {
        let pick = |n: u64| mix(self.seed, place + n);
        let len = self.held.log.len() as u64;
        // With some seeds a file of the journal is full after a few batches, and seldom restarted before.
        let is_large = self.seed.is_multiple_of(3);
        let items = |count: u64| -> Vec<Item> {
            (0..count)
                .map(|n| {
                    let id = (place + n) as u32;
                    let size = match pick(3) % 20 {
                        0 => 9000,
                        _ => pick(4 + n) % if is_large { 15_000 } else { 600 },
                    };
                    let varied = (0..size.min(600)).map(|byte| mix(byte, place + n) as u8);
                    let mut payload: Vec<u8> = varied.collect();
                    payload.resize(size as usize, id as u8);
                    Item { id, payload }
                })
                .collect()
        };
        let ballot = Ballot::with(1, pick(1) as u32, 0, pick(2));
        match pick(0) % 20 {
            // Some batches fill the journal, and some are larger than it.
            0 if pick(5) % 8 == 0 => {
                let items = items(30 * (1 + pick(6) % 3)).into_iter().map(|mut item| {
                    item.payload.resize(15_000, item.id as u8);
                    item
                });
                let items: Vec<Item> = items.collect();
                self.held.log.extend(items.clone());
                StorageOp::AppendEntries(items)
            }
            11..14 if !is_large || pick(5) % 8 == 0 => {
                let idx = pick(1) % (len + 1);
                self.held.log.drain(..idx as usize);
                self.held.removed += idx;
                StorageOp::Trim(idx)
            }
            0..8 | 11..14 => {
                let items = items(1 + pick(1) % if is_large { 16 } else { 4 });
                self.held.log.extend(items.clone());
                StorageOp::AppendEntries(items)
            }
            8..11 => {
                let (idx, items) = (pick(1) % (len + 1), items(pick(2) % 3));
                self.held.log.truncate(idx as usize);
                self.held.log.extend(items.clone());
                StorageOp::AppendOnPrefix(idx, items)
            }
            14 => {
                self.held.promise = Some(ballot);
                StorageOp::SetPromise(ballot)
            }
            15 => {
                self.held.accepted_round = Some(ballot);
                StorageOp::SetAcceptedRound(ballot)
            }
            16 => {
                self.held.decided_idx = pick(1);
                StorageOp::SetDecidedIndex(pick(1))
            }
            17 => {
                self.held.compacted_idx = pick(1);
                StorageOp::SetCompactedIdx(pick(1))
            }
            18 if pick(5) % 2 == 0 => self.set_epochs(pick(1)),
            18 => {
                let next_config = ClusterConfig {
                    configuration_id: 2,
                    nodes: vec![pick(1)],
                    flexible_quorum: None,
                };
                let stopsign = (pick(2) % 2 == 0).then(|| StopSign::with(next_config, None));
                self.held.stopsign.clone_from(&stopsign);
                StorageOp::SetStopsign(stopsign)
            }
            _ => {
                let snapshot = (pick(2) % 4 > 0).then(|| Items(items(1 + pick(1) % 30)));
                self.held.snapshot.clone_from(&snapshot);
                StorageOp::SetSnapshot(snapshot)
            }
        }
    }
}

/// Returns the folder of the storage below the recorded one. The storage makes its folder and the one between.
pub fn storage_below(folder: &Path) -> PathBuf {
    folder.join("made").join("storage")
}

/// The configuration of the storage below `folder`.
pub fn config_for(folder: &Path) -> PersistentStorageConfig {
    let folder = storage_below(folder);
    let mut options = LogOptions::new(folder.join("log"));
    options.segment_max_bytes(SEGMENT_BYTES);
    let mut config = PersistentStorageConfig::default();
    config.set_path(folder.to_string_lossy().into());
    config.set_commitlog_options(options);
    config.set_largest_inline_snapshot(LARGEST_INLINE);
    config
}

/// Opens the storage in `folder`.
///
/// # Errors
/// As [`PersistentStorage::try_open`].
pub fn open(folder: &Path) -> Result<PersistentStorage<Item>, StorageError> {
    PersistentStorage::try_open(config_for(folder))
}

/// Whether the storage in `folder` holds what the plan of `seed` had written when this was
/// `acknowledged`: these batches, and perhaps the next, which was on its way. Of compactions that were
/// not acknowledged as stored, the last ones may be undone, and nothing else. They are done again here.
pub fn verify(folder: &Path, seed: u64, acknowledged: Acknowledged) -> Verdict {
    let Acknowledged { batches: acknowledged, stored_idx } = acknowledged;
    let mut storage = match open(folder) {
        Ok(storage) => storage,
        Err(error) => return Verdict::Bad(error.to_string()),
    };
    let held = match held_by(&storage) {
        Ok(held) => held,
        Err(error) => return Verdict::Bad(error.to_string()),
    };
    let incarnations = acknowledged / BATCHES_PER_INCARNATION;
    match storage.next_incarnation() {
        Ok(Some(incarnation)) if incarnation > incarnations => {}
        other => return Verdict::Bad(format!("{other:?} comes after {incarnations} incarnations")),
    }
    if let Err(problem) = check_identity(&storage, incarnations) {
        return Verdict::Bad(problem);
    }
    let mut plan = Plan::after(seed, acknowledged);
    for batches in [acknowledged, acknowledged + 1] {
        if let Some(undone) = plan.undone(&held, stored_idx) {
            return match if undone > 0 { plan.redo(&mut storage, undone) } else { Ok(()) } {
                Ok(()) => Verdict::Holds(batches),
                Err(error) => Verdict::Bad(error.to_string()),
            };
        }
        plan.next_batch();
    }
    Verdict::Bad(format!("it holds neither {acknowledged} batches nor one more"))
}

/// Whether the identity is at least the one before the last incarnation acknowledged, which a
/// process that was killed between a batch and its identity leaves when it goes on after that
/// batch; and the id of the storage the one that was noted then.
fn check_identity(storage: &PersistentStorage<Item>, incarnations: u64) -> Result<(), String> {
    let failed = |error: Box<dyn std::error::Error>| error.to_string();
    let stored = storage.get_identity().map_err(failed)?;
    let id = storage.get_storage_id().map_err(failed)?;
    let is_right = match &stored {
        None => incarnations <= 1,
        Some(stored) => {
            let noted = stored.peers.get(&INCARNATIONS).copied();
            let is_named = stored.cluster_name.as_deref() == Some("power") && stored.pid == 1;
            is_named
                && noted.map(|noted| noted + 1) >= Some(incarnations)
                && stored.peers.get(&STORAGE).copied() == id
        }
    };
    match is_right {
        true => Ok(()),
        false => Err(format!("storage {id:?} has {stored:?} after {incarnations} incarnations")),
    }
}

fn held_by(storage: &PersistentStorage<Item>) -> Result<Held, Box<dyn std::error::Error>> {
    Ok(Held {
        removed: 0,
        log: storage.get_suffix(0)?,
        promise: storage.get_promise()?,
        accepted_round: storage.get_accepted_round()?,
        decided_idx: storage.get_decided_idx()?,
        compacted_idx: storage.get_compacted_idx()?,
        stopsign: storage.get_stopsign()?,
        snapshot: storage.get_snapshot()?,
        epochs: storage.get_epochs()?.ok_or("the storage keeps no epochs")?,
    })
}
