//! The random id of a storage.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    time::{SystemTime, UNIX_EPOCH},
};

/// Returns a number other than 0. Two storages have the same one in one of 2^64 cases.
///
/// The standard library keys its hash maps with random bytes of the operating system, so no crate
/// is needed here. Time, process and folder are hashed with that key. They help if a system returns
/// the same bytes twice, as a copied virtual machine may.
pub(super) fn storage_id(folder: &str) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_nanos());
    let seed = (now.unwrap_or(0), std::process::id(), folder);
    RandomState::new().hash_one(seed).max(1)
}
