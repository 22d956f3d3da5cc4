//! Checks that the storage can hold and return a value, without writing it.

use super::{
    batch::{SnapshotRef, State},
    codec,
    error::StorageError,
    parts::largest_payload,
    PersistentStorage,
};
use omnipaxos::{
    ballot_leader_election::Ballot,
    storage::{Entry, StopSign},
};
use serde::{de::DeserializeOwned, Serialize};

/// The largest number of bytes reserved before an entry is encoded.
const MOST_EXPECTED: usize = 4096;

impl<T> PersistentStorage<T>
where
    T: Entry + Serialize + DeserializeOwned,
    T::Snapshot: Serialize + DeserializeOwned,
{
    /// Returns the largest number of bytes of an encoded entry.
    pub(super) fn largest_entry(&self) -> u64 {
        largest_payload(self.log.target().part_bytes) as u64
    }

    /// Checks that an entry has at most `limit` bytes, and can be read back.
    pub(super) fn check(&self, entry: &T, limit: u64) -> Result<(), StorageError> {
        let what = "an entry";
        let limit = limit.min(self.largest_entry());
        if !self.reads_back {
            return check_len(what, codec::encoded_len(what, entry)?, limit);
        }
        let mut bytes = Vec::with_capacity(entry.size_hint().min(MOST_EXPECTED));
        codec::encode_into(what, entry, &mut bytes)?;
        check_len(what, bytes.len() as u64, limit)?;
        codec::check_round_trip::<T>(what, &bytes)
    }

    /// Checks that a stop sign leaves room for the rest of the state in a batch. Numbers grow, and
    /// then take more bytes.
    pub(super) fn check_end(&self, stopsign: &StopSign, limit: u64) -> Result<(), StorageError> {
        let ballot = Some(Ballot::with(u32::MAX, u32::MAX, u32::MAX, u64::MAX).into());
        let state = State {
            promise: ballot,
            accepted_round: ballot,
            decided_idx: u64::MAX,
            compacted_idx: u64::MAX,
            stopsign: Some(stopsign.clone().into()),
            snapshot: Some(SnapshotRef { id: u64::MAX, bytes: u64::MAX, crc: u32::MAX }),
            first: u64::MAX,
            end: u64::MAX,
            epochs: self.state.epochs.clone(),
        };
        let what = "a stop sign with its metadata";
        check_len(what, state.encoded_len()?, limit.min(self.largest_entry()))
    }

    /// Checks that a snapshot can be encoded, and read back.
    pub(super) fn check_sum(&self, snapshot: &T::Snapshot) -> Result<(), StorageError> {
        let what = "a snapshot";
        if !self.reads_back {
            return codec::encoded_len(what, snapshot).map(drop);
        }
        codec::check_round_trip::<T::Snapshot>(what, &codec::encode(what, snapshot)?)
    }
}

fn check_len(what: &'static str, bytes: u64, limit: u64) -> Result<(), StorageError> {
    match bytes <= limit {
        true => Ok(()),
        false => Err(StorageError::TooLarge { what, bytes, limit }),
    }
}
