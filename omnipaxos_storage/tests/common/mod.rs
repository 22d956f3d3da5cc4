//! Entries with a snapshot of any size, which the tests make.

use omnipaxos::{macros::Entry, storage::Snapshot};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
#[snapshot(State)]
pub(crate) struct Number(pub(crate) u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State(pub(crate) Vec<u64>);

impl Snapshot<Number> for State {
    fn create(_: &[Number]) -> Self {
        unreachable!("the tests make them")
    }

    fn merge(&mut self, _: Self) {
        unreachable!("the tests make them")
    }

    fn use_snapshots() -> bool {
        true
    }
}
