//! Writes the batches of a plan to a persistent storage and prints `ACK n m` before the first and after each,
//! with the compacted index that survives: to be killed, or recorded.
//!
//! `storage_workload FOLDER SEED FROM COUNT`

use omnipaxos::storage::Storage;
use omnipaxos_storage::{conformance::Item, persistent_storage::PersistentStorage};
use omnipaxos_tests::power_loss::{open, Plan};
use std::{
    io::{self, Write},
    path::PathBuf,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: storage_workload FOLDER SEED FROM COUNT");
    let folder = PathBuf::from(next()?);
    let (seed, from, count): (u64, u64, u64) =
        (next()?.parse()?, next()?.parse()?, next()?.parse()?);
    let mut storage = open(&folder)?;
    if seed.is_multiple_of(2) {
        storage = storage.with_background_encoding();
    }
    let mut plan = Plan::after(seed, from);
    // A server may tell others what it has found. The process before may have been killed before it noted the
    // incarnation that an acknowledgement of this batch promises.
    let notes = plan.notes_incarnation();
    if !notes {
        acknowledge(&plan, &storage)?;
    }
    plan.resume(&mut storage)?;
    plan.note_incarnation(&mut storage)?;
    if notes {
        acknowledge(&plan, &storage)?;
    }
    for _ in 0..count {
        plan.write_next(&mut storage)?;
        acknowledge(&plan, &storage)?;
    }
    Ok(())
}

fn acknowledge(
    plan: &Plan,
    storage: &PersistentStorage<Item>,
) -> Result<(), Box<dyn std::error::Error>> {
    // One write a line, which the recorder sees.
    let stored_idx = storage.get_stored_compacted_idx()?;
    io::stdout().write_all(format!("ACK {} {stored_idx}\n", plan.batches()).as_bytes())?;
    Ok(io::stdout().flush()?)
}
