//! What a storage cannot hold, or not give back, stops nobody: it is given back to its proposer, or
//! ends as refused.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod cluster;
mod limits;
mod read_back;
mod snapshots;
mod stopsigns;
