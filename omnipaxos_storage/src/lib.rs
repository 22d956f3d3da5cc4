//! Storage implementations for `omnipaxos`.
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod memory_storage;
pub mod persistent_storage;

pub use commitlog;
pub use sled;
