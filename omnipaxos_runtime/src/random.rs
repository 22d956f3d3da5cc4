//! Random numbers for ids of clients and for the jitter of reconnects.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Returns a random number.
pub(crate) fn random() -> u64 {
    // Each `RandomState` has its own keys, from the random numbers of the operating system.
    RandomState::new().build_hasher().finish()
}
