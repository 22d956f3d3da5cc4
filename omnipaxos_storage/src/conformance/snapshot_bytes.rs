//! Snapshots as bytes: what a storage sends to other servers, and what it receives in parts.

use super::{concrete, Item, Items, Model, Op};
use omnipaxos::storage::{Reception, SnapshotDigest, SnapshotSource, Storage, StorageOp};
use proptest::{collection::vec, prelude::*};
use std::{error::Error, thread};

/// A snapshot that arrives in parts.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    items: u8,
    /// Number of bytes of a part.
    step: usize,
    then: Then,
}

/// What follows on the parts.
#[derive(Clone, Debug)]
enum Then {
    /// It is written with these changes.
    Written(Vec<Op>),
    /// It is dropped.
    Dropped,
    /// Some of the parts never come.
    Forgotten,
    /// The bytes are no snapshot.
    Undecodable,
}

pub(super) fn parts() -> impl Strategy<Value = Parts> {
    let change = prop_oneof![
        1 => (0u8..20).prop_map(Op::Append),
        1 => (0u16..1001).prop_map(Op::Trim),
        1 => any::<u64>().prop_map(Op::Decided),
        1 => any::<u64>().prop_map(Op::Compacted),
    ];
    let then = prop_oneof![
        4 => vec(change, 0..5).prop_map(Then::Written),
        1 => Just(Then::Dropped),
        1 => Just(Then::Forgotten),
        1 => Just(Then::Undecodable),
    ];
    (0u8..40, 1usize..5000, then).prop_map(|(items, step, then)| Parts { items, step, then })
}

/// Lets the storage receive a snapshot, if it does that in parts.
pub(super) fn receive<S: Storage<Item>>(
    storage: &mut S,
    parts: &Parts,
    model: &mut Model,
    next_id: &mut u32,
) -> Result<(), String> {
    let failed = |error: Box<dyn Error>| format!("an error: {error}");
    let Parts { items, step, then } = parts;
    let items = (0..u32::from(*items)).map(|id| Item { id, payload: vec![id as u8; 99] }).collect();
    let snapshot = Items(items);
    let mut bytes = bincode::serde::encode_to_vec(&snapshot, bincode::config::standard())
        .map_err(|error| error.to_string())?;
    if let Then::Undecodable = then {
        bytes.push(0);
    }
    if !storage.begin_receiving(bytes.len() as u64).map_err(failed)? {
        return Ok(());
    }
    let sent = match then {
        Then::Forgotten => bytes.len() / 2,
        Then::Written(_) | Then::Dropped | Then::Undecodable => bytes.len(),
    };
    for part in bytes.get(..sent).unwrap_or_default().chunks(*step) {
        storage.receive(part.to_vec()).map_err(failed)?;
    }
    let mut end = || loop {
        match storage.reception().map_err(failed)? {
            Reception::Pending { written } if written <= sent as u64 => thread::yield_now(),
            reception => return Ok::<_, String>(reception),
        }
    };
    match then {
        Then::Forgotten => Ok(()),
        Then::Dropped => storage.end_receiving().map_err(failed),
        Then::Undecodable => expect(end()?, Reception::Undecodable),
        Then::Written(ops) => {
            expect(end()?, Reception::Ready)?;
            model.snapshot = Some(snapshot);
            let mut ops: Vec<StorageOp<Item>> =
                ops.iter().map(|op| concrete(op, model, next_id)).collect();
            storage.write_received(&mut ops).map_err(failed)?;
            match ops.is_empty() {
                true => Ok(()),
                false => Err("write_received did not empty the list".to_string()),
            }
        }
    }
}

fn expect(found: Reception, expected: Reception) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("reception returned {found:?}, not {expected:?}")),
    }
}

/// Checks that the bytes that other servers are sent are those of the snapshot, if there are any.
pub(super) fn compare_source<S: Storage<Item>>(
    storage: &mut S,
    model: &Model,
) -> Result<(), String> {
    let failed = |error: Box<dyn Error>| format!("an error: {error}");
    let SnapshotSource::Bytes(source) = storage.snapshot_source().map_err(failed)? else {
        return Ok(());
    };
    let (mut bytes, mut digest) = (Vec::new(), SnapshotDigest::default());
    while (bytes.len() as u64) < source.len() {
        let part = source.read(bytes.len() as u64, 1000).map_err(failed)?;
        digest.update(&part);
        bytes.extend(part);
    }
    let decoded = bincode::serde::decode_from_slice(&bytes, bincode::config::standard());
    let (snapshot, used): (Items, usize) = decoded.map_err(|error| error.to_string())?;
    if digest.finish() != source.digest() || used != bytes.len() {
        return Err("the digest of snapshot_source is wrong".to_string());
    }
    match (source.idx(), Some(snapshot)) == (model.compacted_idx, model.snapshot.clone()) {
        true => Ok(()),
        false => Err(format!("snapshot_source has another snapshot, of {}", source.idx())),
    }
}
