//! Storage implementations for `omnipaxos`.
#![forbid(unsafe_code)]

pub mod memory_storage;
