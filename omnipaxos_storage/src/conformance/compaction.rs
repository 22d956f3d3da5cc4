//! Compactions that may become durable later.

use super::{concrete, Item, Items, Model, Op};
use omnipaxos::storage::{Storage, StorageOp};
use proptest::{collection::vec, prelude::*};
use std::{
    error::Error,
    thread,
    time::{Duration, Instant},
};

/// The time in which a compaction becomes durable, with writes that give the storage the occasion.
const PATIENCE: Duration = Duration::from_secs(60);

/// A compaction, and what is written with it.
#[derive(Clone, Debug)]
pub(super) struct Compaction {
    /// Of the log, in per mille.
    at: u16,
    /// Items of the snapshot.
    items: u8,
    others: Vec<Op>,
}

pub(super) fn compactions() -> impl Strategy<Value = Compaction> {
    let other = prop_oneof![
        3 => (0u8..20).prop_map(Op::Append),
        1 => any::<u8>().prop_map(Op::Promise),
        1 => any::<Option<u8>>().prop_map(Op::StopSign),
        1 => (0u8..5).prop_map(Op::Epochs),
    ];
    (0u16..1001, 0u8..40, vec(other, 0..4)).prop_map(|(at, items, others)| Compaction {
        at,
        items,
        others,
    })
}

/// What a storage may hold after it was closed, while its last compaction was not durable.
#[derive(Clone, Debug)]
pub(super) struct Earlier {
    compacted_idx: u64,
    snapshot: Option<Items>,
    /// The entries that the compaction removes.
    removed: Vec<Item>,
}

fn failed(error: Box<dyn Error>) -> String {
    format!("an error: {error}")
}

/// Compacts the log. Returns what the storage may fall back to.
pub(super) fn compact<S: Storage<Item>>(
    storage: &mut S,
    compaction: &Compaction,
    model: &mut Model,
    next_id: &mut u32,
) -> Result<Option<Earlier>, String> {
    let Compaction { at, items, others } = compaction;
    let count = model.log.len() as u64 * u64::from(*at) / 1000;
    let Some(compacted_idx) = model.compacted_idx.checked_add(count).filter(|_| count > 0) else {
        // There is nothing to compact, or the index that a step before has set is too high.
        return Ok(None);
    };
    let snapshot = Items((0..u32::from(*items)).map(item).collect());
    if storage.check_compaction(&snapshot).is_err() {
        return Ok(None);
    }
    // Only decided entries are removed.
    model.decided_idx = model.decided_idx.max(compacted_idx);
    storage.set_decided_idx(model.decided_idx).map_err(failed)?;
    let removed = model.log.drain(..count as usize).collect();
    let earlier = Earlier {
        compacted_idx: model.compacted_idx,
        snapshot: model.snapshot.replace(snapshot.clone()),
        removed,
    };
    model.compacted_idx = compacted_idx;
    let mut ops = vec![
        StorageOp::SetSnapshot(Some(snapshot)),
        StorageOp::Trim(count),
        StorageOp::SetCompactedIdx(compacted_idx),
    ];
    ops.extend(others.iter().map(|op| concrete(op, model, next_id)));
    storage.write_compaction(&mut ops).map_err(failed)?;
    if !ops.is_empty() {
        return Err("write_compaction did not empty the list".to_owned());
    }
    Ok(pending(storage, model)?.then_some(earlier))
}

fn item(id: u32) -> Item {
    Item { id, payload: vec![id as u8; 99] }
}

/// Returns whether the last compaction is not durable yet.
fn pending<S: Storage<Item>>(storage: &S, model: &Model) -> Result<bool, String> {
    let stored = storage.get_stored_compacted_idx().map_err(failed)?;
    match stored <= model.compacted_idx {
        true => Ok(stored < model.compacted_idx),
        false => Err(format!(
            "get_stored_compacted_idx is {stored}, and get_compacted_idx {}",
            model.compacted_idx
        )),
    }
}

/// Writes until the last compaction is durable.
pub(super) fn settle<S: Storage<Item>>(storage: &mut S, model: &Model) -> Result<(), String> {
    let begun = Instant::now();
    while pending(storage, model)? {
        if begun.elapsed() > PATIENCE {
            return Err("the last compaction does not become durable".to_owned());
        }
        thread::sleep(Duration::from_millis(1));
        // A storage may skip a write that changes nothing.
        storage.set_decided_idx(model.decided_idx ^ 1).map_err(failed)?;
        storage.set_decided_idx(model.decided_idx).map_err(failed)?;
    }
    Ok(())
}

/// Takes note of what a storage holds after it was opened again: all, or what was before its last
/// compaction and the other changes.
pub(super) fn reopened<S: Storage<Item>>(
    storage: &S,
    earlier: Option<Earlier>,
    model: &mut Model,
) -> Result<(), String> {
    let compacted_idx = storage.get_compacted_idx().map_err(failed)?;
    if let Some(mut earlier) = earlier.filter(|earlier| earlier.compacted_idx == compacted_idx) {
        model.compacted_idx = compacted_idx;
        model.snapshot = earlier.snapshot;
        earlier.removed.append(&mut model.log);
        model.log = earlier.removed;
    }
    match pending(storage, model)? {
        false => Ok(()),
        true => Err("it was just opened, and its compaction is not durable".to_owned()),
    }
}
