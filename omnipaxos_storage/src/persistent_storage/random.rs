//! The one random number that a storage needs.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    time::{SystemTime, UNIX_EPOCH},
};

/// A number other than 0 that no other storage has, but for one in 2^64.
///
/// The standard library keys its hash maps with random bytes of the operating system, which need no
/// crate here. Time, process and folder are hashed with that key, in case a system gives the same
/// bytes twice, such as a copied virtual machine.
pub(super) fn storage_id(folder: &str) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_nanos());
    let seed = (now.unwrap_or(0), std::process::id(), folder);
    RandomState::new().hash_one(seed).max(1)
}
