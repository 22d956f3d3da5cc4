//! What `docs/limits.md` promises: whatever a user and the peers do, what a server holds and sends
//! is bounded. Memory is that of the thread, counted, so that nothing depends on time.
//!
//! `cargo test -p omnipaxos_tests --test bounded -- --nocapture` prints what was counted.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod applied;
mod catching_up;
mod cluster;
mod holding;
mod small_limits;
mod waiting;
