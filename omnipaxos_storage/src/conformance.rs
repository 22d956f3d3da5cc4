//! A conformance suite for any implementation of [`Storage`], including yours (feature
//! `conformance`).
//!
//! The suite applies random operations to the storage and to a plain model. After each operation it
//! compares all their answers. If the storage outlives its handle, the suite closes it in between and
//! opens it again. A failure prints the shortest sequence of operations that shows it.
//!
//! **It does not show what a crash leaves.** It lets no process and no power fail, and no write. So
//! it checks neither that what a call has written survives a crash, nor that a list of
//! [`write_atomically`](Storage::write_atomically) is written as a whole or not at all.
//!
//! ```
//! use omnipaxos_storage::{
//!     conformance::{check, Subject},
//!     memory_storage::MemoryStorage,
//! };
//!
//! check(50, || Subject::in_memory(MemoryStorage::default()));
//! ```

mod compaction;
mod snapshot_bytes;

use self::{
    compaction::{compact, compactions, reopened, settle, Compaction},
    snapshot_bytes::{compare_source, parts, receive, Parts},
};
use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Identity,
    storage::{Entry, Epoch, Snapshot, StopSign, Storage, StorageOp},
    util::FlexibleQuorum,
    ClusterConfig,
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use serde::{Deserialize, Serialize};
use std::{cell::RefCell, collections::BTreeSet, fmt::Debug};

/// The entry that the suite stores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Distinguishes items.
    pub id: u32,
    /// Bytes of any length.
    // As a sequence of numbers they would take most of the time of the suite.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
}

impl Entry for Item {
    type Snapshot = Items;
    omnipaxos::without_unicache!();
}

/// The snapshot that the suite stores: a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Items(pub Vec<Item>);

impl Snapshot<Item> for Items {
    fn create(entries: &[Item]) -> Self {
        Items(entries.to_vec())
    }

    fn merge(&mut self, delta: Self) {
        self.0.extend(delta.0);
    }

    fn use_snapshots() -> bool {
        true
    }
}

/// A new, empty storage to check.
pub struct Subject<S> {
    storage: S,
    reopen: Option<Reopen<S>>,
}

/// Opens a storage again, given the old handle.
type Reopen<S> = Box<dyn FnMut(S) -> S>;

impl<S> Debug for Subject<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("reopens", &self.reopen.is_some()).finish_non_exhaustive()
    }
}

impl<S> Subject<S> {
    /// Creates a subject whose content is lost with its handle.
    pub fn in_memory(storage: S) -> Self {
        Self { storage, reopen: None }
    }

    /// Creates a subject that `reopen` opens again, given the old handle.
    pub fn on_disk(storage: S, reopen: impl FnMut(S) -> S + 'static) -> Self {
        Self { storage, reopen: Some(Box::new(reopen)) }
    }
}

/// One step of a sequence.
#[derive(Clone, Debug)]
enum Step {
    /// One method call.
    Call(Op),
    /// One `write_atomically`.
    Batch(Vec<Op>),
    Reopen,
    /// Counts an incarnation.
    Live,
    /// Stores an identity.
    Identify(u8),
    /// Receives a snapshot in parts.
    Receive(Parts),
    /// One `write_compaction`.
    Compact(Compaction),
}

impl Step {
    /// Whether it changes what a compaction changes. A replica lets a compaction become durable
    /// before the next one.
    fn compacts(&self) -> bool {
        let compacts = |op: &Op| {
            matches!(
                op,
                Op::Trim(_) | Op::Compacted(_) | Op::Snapshot(_) | Op::Cut(..) | Op::CutShared(..)
            )
        };
        match self {
            Self::Call(op) => compacts(op),
            Self::Batch(ops) => ops.iter().any(compacts),
            Self::Receive(_) | Self::Compact(_) => true,
            Self::Reopen | Self::Live | Self::Identify(_) => false,
        }
    }
}

/// A change. Its indices are in per mille of the present length of the log.
#[derive(Clone, Debug)]
enum Op {
    Append(u8),
    AppendShared(u8),
    Cut(u16, u8),
    CutShared(u16, u8),
    Trim(u16),
    Promise(u8),
    AcceptedRound(u8),
    Decided(u64),
    Compacted(u64),
    StopSign(Option<u8>),
    Snapshot(Option<u8>),
    Epochs(u8),
}

/// The expected content of a storage.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    log: Vec<Item>,
    promise: Option<Ballot>,
    accepted_round: Option<Ballot>,
    decided_idx: u64,
    compacted_idx: u64,
    stopsign: Option<StopSign>,
    snapshot: Option<Items>,
    epochs: Vec<Epoch>,
}

/// Applies `cases` random sequences of operations to storages from `fresh`.
///
/// # Panics
/// If an answer of a storage is wrong. The message contains the shortest sequence found.
pub fn check<S: Storage<Item>>(cases: u32, fresh: impl Fn() -> Subject<S>) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let ids = RefCell::new(BTreeSet::new());
    let outcome = TestRunner::new(config).run(&vec(step(), 1..40), |steps| {
        let subject = fresh();
        let is_known = match subject.storage.get_storage_id() {
            Ok(Some(id)) => !ids.borrow_mut().insert(id),
            Ok(None) | Err(_) => false,
        };
        prop_assert!(!is_known, "two new storages have the same id");
        let problem = play(subject, &steps).err();
        prop_assert!(problem.is_none(), "{}", problem.unwrap_or_default());
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => op().prop_map(Step::Call),
        6 => vec(op(), 0..8).prop_map(Step::Batch),
        1 => Just(Step::Reopen),
        1 => Just(Step::Live),
        1 => (0u8..9).prop_map(Step::Identify),
        1 => parts().prop_map(Step::Receive),
        2 => compactions().prop_map(Step::Compact),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0u8..20).prop_map(Op::Append),
        3 => (0u8..20).prop_map(Op::AppendShared),
        2 => (0u16..1100, 0u8..6).prop_map(|(at, count)| Op::Cut(at, count)),
        1 => (0u16..1100, 0u8..6).prop_map(|(at, count)| Op::CutShared(at, count)),
        2 => (0u16..1001).prop_map(Op::Trim),
        1 => any::<u8>().prop_map(Op::Promise),
        1 => any::<u8>().prop_map(Op::AcceptedRound),
        1 => any::<u64>().prop_map(Op::Decided),
        1 => any::<u64>().prop_map(Op::Compacted),
        1 => any::<Option<u8>>().prop_map(Op::StopSign),
        1 => proptest::option::of(0u8..40).prop_map(Op::Snapshot),
        1 => (0u8..5).prop_map(Op::Epochs),
    ]
}

/// Runs a sequence. The error is the first difference.
fn play<S: Storage<Item>>(subject: Subject<S>, steps: &[Step]) -> Result<(), String> {
    let Subject { mut storage, mut reopen } = subject;
    let mut model = Model::default();
    let mut next_id = 0;
    let mut incarnations = None;
    let id = storage.get_storage_id().map_err(|error| format!("an error: {error}"))?;
    let keeps_epochs =
        storage.get_epochs().map_err(|error| format!("an error: {error}"))?.is_some();
    let mut kept = None;
    let mut earlier = None;
    for (number, step) in steps.iter().enumerate() {
        let at = |problem: String| format!("after step {number}, {step:?}: {problem}");
        if step.compacts() {
            settle(&mut storage, &model).map_err(at)?;
            earlier = None;
        }
        match step {
            Step::Call(op) => {
                let op = concrete(op, &mut model, &mut next_id);
                let is_append = is_append(&op);
                let len = call(&mut storage, op).map_err(|e| at(format!("an error: {e}")))?;
                if is_append && len != Some(model.log.len() as u64) {
                    return Err(at(format!("returned {len:?}, not {}", model.log.len())));
                }
            }
            Step::Batch(batch) => {
                let mut ops: Vec<_> =
                    batch.iter().map(|op| concrete(op, &mut model, &mut next_id)).collect();
                storage.write_atomically(&mut ops).map_err(|e| at(format!("an error: {e}")))?;
                if !ops.is_empty() {
                    return Err(at("write_atomically did not empty the list".to_string()));
                }
            }
            Step::Reopen => {
                if let Some(reopen) = &mut reopen {
                    storage = reopen(storage);
                    reopened(&storage, earlier.take(), &mut model).map_err(at)?;
                }
            }
            Step::Compact(compaction) => {
                earlier =
                    compact(&mut storage, compaction, &mut model, &mut next_id).map_err(at)?;
            }
            Step::Live => incarnations = live(&mut storage, incarnations).map_err(at)?,
            Step::Identify(number) => kept = identify(&mut storage, *number).map_err(at)?,
            Step::Receive(parts) => {
                receive(&mut storage, parts, &mut model, &mut next_id).map_err(at)?;
            }
        }
        compare(&storage, &model).map_err(at)?;
        compare_source(&mut storage, &model).map_err(at)?;
        compare_identity(&storage, (id, &kept)).map_err(at)?;
        if storage.get_epochs().is_ok_and(|epochs| epochs.is_some() != keeps_epochs) {
            return Err(at("it keeps epochs at some times and not at others".to_owned()));
        }
    }
    let settled = settle(&mut storage, &model);
    settled
        .and_then(|()| check_limits(storage, reopen, &mut model))
        .map_err(|problem| format!("at the end: {problem}"))
}

/// Checks that the storage can hold what it accepts: items, stop signs and snapshots of growing
/// size, up to 256 KiB. They are there when it is opened again, too.
fn check_limits<S: Storage<Item>>(
    mut storage: S,
    mut reopen: Option<Reopen<S>>,
    model: &mut Model,
) -> Result<(), String> {
    let limit = storage.max_entry_bytes().unwrap_or(u64::MAX);
    for shift in [0, 6, 12, 18] {
        let item = Item { id: shift, payload: vec![7; 1 << shift] };
        if storage.check_entry(&item, limit).is_ok() {
            let len = storage.append_entry(item.clone());
            model.log.push(item.clone());
            let len = len.map_err(|error| format!("{shift}: check_entry is Ok, but: {error}"))?;
            let held = storage.get_suffix(len.saturating_sub(1)).map_err(|e| e.to_string())?;
            if held != [item.clone()] {
                return Err(format!("an item with {} bytes came back as {held:?}", 1 << shift));
            }
        }
        if storage.max_entry_bytes().is_some() && storage.check_entry(&item, 0).is_ok() {
            return Err("check_entry does not heed its limit".to_string());
        }
        let stopsign = StopSign::with(stopsign(1).next_config, Some(item.payload.clone()));
        if storage.check_stopsign(&stopsign, limit).is_ok() {
            let set = storage.set_stopsign(Some(stopsign.clone()));
            set.map_err(|error| format!("{shift}: check_stopsign is Ok, but: {error}"))?;
            model.stopsign = Some(stopsign);
        }
        let snapshot = Items(vec![item]);
        if storage.check_snapshot(&snapshot).is_ok() {
            let set = storage.set_snapshot(Some(snapshot.clone()));
            set.map_err(|error| format!("{shift}: check_snapshot is Ok, but: {error}"))?;
            model.snapshot = Some(snapshot);
        }
    }
    compare(&storage, model)?;
    match &mut reopen {
        Some(reopen) => {
            compare(&reopen(storage), model).map_err(|problem| format!("opened again, {problem}"))
        }
        None => Ok(()),
    }
}

/// Counts an incarnation after `last`. Its number must be higher, and the first is 1, if the storage
/// counts.
fn live<S: Storage<Item>>(storage: &mut S, last: Option<u64>) -> Result<Option<u64>, String> {
    let counted = storage.next_incarnation().map_err(|error| format!("an error: {error}"))?;
    match (last, counted) {
        (None, None | Some(1)) => Ok(counted),
        (None, Some(first)) => Err(format!("the first incarnation is {first}")),
        (Some(last), Some(next)) if next > last => Ok(counted),
        (Some(last), next) => Err(format!("next_incarnation is {next:?} after {last}")),
    }
}

/// Lets the storage keep an identity. Returns the identity if the storage keeps any.
fn identify<S: Storage<Item>>(storage: &mut S, number: u8) -> Result<Option<Identity>, String> {
    let failed = |error: Box<dyn std::error::Error>| format!("an error: {error}");
    let configuration = stopsign(number).next_config;
    let name = (number.is_multiple_of(2)).then(|| format!("cluster {number}"));
    let mut identity = Identity::new(u64::MAX - u64::from(number), configuration, name);
    identity.peers.extend((1..=u64::from(number)).map(|pid| (pid, pid.wrapping_neg())));
    storage.set_identity(identity.clone()).map_err(failed)?;
    Ok(storage.get_identity().map_err(failed)?.map(|_kept| identity))
}

/// Checks that the storage id is unchanged, and that the identity is the last one stored.
fn compare_identity<S: Storage<Item>>(
    storage: &S,
    expected: (Option<u64>, &Option<Identity>),
) -> Result<(), String> {
    let failed = |error: Box<dyn std::error::Error>| format!("an error: {error}");
    let id = storage.get_storage_id().map_err(failed)?;
    let identity = storage.get_identity().map_err(failed)?;
    match (id, &identity) == expected && id != Some(0) {
        true => Ok(()),
        false => Err(format!("storage {id:?} has {identity:?}, not {expected:?}")),
    }
}

/// Turns an operation of a step into one for the storage, and applies it to the model.
fn concrete(op: &Op, model: &mut Model, next_id: &mut u32) -> StorageOp<Item> {
    let len = model.log.len() as u64;
    let index = |per_mille: u16| len * u64::from(per_mille) / 1000;
    let position = |idx: u64| usize::try_from(idx).unwrap_or(usize::MAX);
    let mut items = |count: u8| -> Vec<Item> {
        (0..count)
            .map(|_| {
                *next_id += 1;
                let payload = vec![(*next_id % 251) as u8; (*next_id as usize * 37) % 700];
                Item { id: *next_id, payload }
            })
            .collect()
    };
    match op {
        Op::Append(1) => {
            let item = items(1).remove(0);
            model.log.push(item.clone());
            StorageOp::AppendEntry(item)
        }
        Op::Append(count) => {
            let items = items(*count);
            model.log.extend(items.clone());
            StorageOp::AppendEntries(items)
        }
        Op::AppendShared(count) => {
            let items = items(*count);
            model.log.extend(items.clone());
            StorageOp::AppendShared(items.into())
        }
        Op::Cut(at, count) => {
            let items = items(*count);
            model.log.truncate(position(index(*at)));
            model.log.extend(items.clone());
            StorageOp::AppendOnPrefix(index(*at).min(len), items)
        }
        Op::CutShared(at, count) => {
            let items = items(*count);
            model.log.truncate(position(index(*at)));
            model.log.extend(items.clone());
            StorageOp::AppendSharedOnPrefix(index(*at).min(len), items.into())
        }
        Op::Trim(at) => {
            model.log.drain(..position(index(*at)));
            StorageOp::Trim(index(*at))
        }
        Op::Promise(n) => {
            let ballot = Ballot::with(1, u32::from(*n), 2, u64::MAX - u64::from(*n));
            model.promise = Some(ballot);
            StorageOp::SetPromise(ballot)
        }
        Op::AcceptedRound(n) => {
            let ballot = Ballot::with(3, u32::from(*n), 0, 7);
            model.accepted_round = Some(ballot);
            StorageOp::SetAcceptedRound(ballot)
        }
        Op::Decided(idx) => {
            model.decided_idx = *idx;
            StorageOp::SetDecidedIndex(*idx)
        }
        Op::Compacted(idx) => {
            model.compacted_idx = *idx;
            StorageOp::SetCompactedIdx(*idx)
        }
        Op::StopSign(metadata) => {
            let stopsign = metadata.map(stopsign);
            model.stopsign.clone_from(&stopsign);
            StorageOp::SetStopsign(stopsign)
        }
        Op::Snapshot(count) => {
            let snapshot = count.map(|count| Items(items(count)));
            model.snapshot.clone_from(&snapshot);
            StorageOp::SetSnapshot(snapshot)
        }
        Op::Epochs(count) => {
            let epoch = |number: u8| {
                let StopSign { next_config, metadata } = stopsign(number);
                Epoch::new(u64::from(number) << 40, next_config, metadata)
            };
            let epochs: Vec<Epoch> = (0..*count).map(epoch).collect();
            model.epochs.clone_from(&epochs);
            StorageOp::SetEpochs(epochs)
        }
    }
}

fn stopsign(metadata: u8) -> StopSign {
    let next_config = ClusterConfig {
        configuration_id: u32::from(metadata),
        nodes: vec![1, u64::MAX, u64::from(metadata)],
        flexible_quorum: metadata
            .is_multiple_of(2)
            .then_some(FlexibleQuorum { read_quorum_size: 3, write_quorum_size: 1 }),
    };
    StopSign::with(next_config, (!metadata.is_multiple_of(3)).then(|| vec![metadata; 9]))
}

fn is_append(op: &StorageOp<Item>) -> bool {
    match op {
        StorageOp::AppendEntry(_)
        | StorageOp::AppendEntries(_)
        | StorageOp::AppendOnPrefix(..)
        | StorageOp::AppendShared(_)
        | StorageOp::AppendSharedOnPrefix(..) => true,
        StorageOp::SetPromise(_)
        | StorageOp::SetDecidedIndex(_)
        | StorageOp::SetAcceptedRound(_)
        | StorageOp::SetCompactedIdx(_)
        | StorageOp::Trim(_)
        | StorageOp::SetStopsign(_)
        | StorageOp::SetSnapshot(_)
        | StorageOp::SetEpochs(_) => false,
    }
}

/// Calls the method of an operation. Returns the length after an append.
fn call<S: Storage<Item>>(
    storage: &mut S,
    op: StorageOp<Item>,
) -> Result<Option<u64>, Box<dyn std::error::Error>> {
    match op {
        StorageOp::AppendEntry(item) => storage.append_entry(item).map(Some),
        StorageOp::AppendEntries(items) => storage.append_entries(items).map(Some),
        StorageOp::AppendOnPrefix(idx, items) => storage.append_on_prefix(idx, items).map(Some),
        StorageOp::AppendShared(items) => storage.append_shared(items).map(Some),
        StorageOp::AppendSharedOnPrefix(idx, items) => {
            storage.append_shared_on_prefix(idx, items).map(Some)
        }
        other => omnipaxos::storage::apply(storage, other).map(|()| None),
    }
}

/// Compares all answers of the storage with the model.
fn compare<S: Storage<Item>>(storage: &S, model: &Model) -> Result<(), String> {
    let failed = |error: Box<dyn std::error::Error>| format!("an error: {error}");
    let held = Model {
        log: storage.get_suffix(0).map_err(failed)?,
        promise: storage.get_promise().map_err(failed)?,
        accepted_round: storage.get_accepted_round().map_err(failed)?,
        decided_idx: storage.get_decided_idx().map_err(failed)?,
        compacted_idx: storage.get_compacted_idx().map_err(failed)?,
        stopsign: storage.get_stopsign().map_err(failed)?,
        snapshot: storage.get_snapshot().map_err(failed)?,
        // A storage may keep no epochs.
        epochs: storage.get_epochs().map_err(failed)?.unwrap_or_else(|| model.epochs.clone()),
    };
    if held != *model {
        return Err(format!("it holds\n{held:?}\nand should hold\n{model:?}"));
    }
    let len = model.log.len() as u64;
    if storage.get_log_len().map_err(failed)? != len {
        return Err(format!("get_log_len is not {len}"));
    }
    let ends = [0, 1, len / 3, len / 2, len.saturating_sub(1), len, len + 1, u64::MAX];
    for from in ends {
        for to in ends {
            let is_there = from < to && to <= len;
            let expected = if is_there {
                model.log.get(from as usize..to as usize).unwrap_or_default()
            } else {
                &[]
            };
            if storage.get_entries(from, to).map_err(failed)? != expected
                || *storage.get_shared(from, to).map_err(failed)?.lock() != *expected
            {
                return Err(format!("get_entries({from}, {to}) of {len} is wrong"));
            }
            let mut visited = Vec::new();
            let mut visit = |entry: &Item| visited.push(entry.clone());
            storage.for_each(from, to, &mut visit).map_err(failed)?;
            if visited != expected {
                return Err(format!("for_each({from}, {to}) of {len} is wrong"));
            }
        }
        let expected = model.log.get(usize::try_from(from).unwrap_or(usize::MAX)..);
        if storage.get_suffix(from).map_err(failed)? != expected.unwrap_or_default() {
            return Err(format!("get_suffix({from}) of {len} is wrong"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{check, Item, Subject};
    use crate::{
        memory_storage::MemoryStorage,
        persistent_storage::{PersistentStorage, PersistentStorageConfig},
    };
    use commitlog::LogOptions;

    #[test]
    fn memory_storage_conforms() {
        check(1000, || Subject::in_memory(MemoryStorage::default()));
    }

    fn persistent(segment_bytes: usize, largest_inline: u64) -> Subject<PersistentStorage<Item>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_string();
        let mut options = LogOptions::new(folder.path().join("log"));
        options.segment_max_bytes(segment_bytes);
        let mut config = PersistentStorageConfig::default();
        config.set_path(path);
        config.set_commitlog_options(options);
        config.set_largest_inline_snapshot(largest_inline);
        Subject::on_disk(PersistentStorage::new(config.clone()), move |old| {
            let _kept = &folder;
            drop(old);
            PersistentStorage::open(config.clone())
        })
    }

    #[test]
    fn persistent_storage_conforms() {
        check(40, || persistent(64 << 20, 1 << 20));
    }

    #[test]
    fn persistent_storage_with_snapshots_in_files_conforms() {
        check(40, || persistent(64 << 20, 0));
    }

    #[test]
    fn persistent_storage_with_tiny_segments_conforms() {
        check(40, || persistent(1, 1 << 20));
    }

    #[test]
    fn persistent_storage_that_encodes_on_a_thread_conforms() {
        check(40, || {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().to_str().unwrap().to_owned();
            let open = move |path: String| {
                let config = PersistentStorageConfig::with_path(path);
                PersistentStorage::try_open(config).unwrap().with_background_encoding()
            };
            Subject::on_disk(open(path.clone()), move |old| {
                let _kept = &folder;
                drop(old);
                open(path.clone())
            })
        });
    }
}
