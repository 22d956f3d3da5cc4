//! What the library asks of an entry, of a snapshot and of a disk.

pub use crate::entry::{
    Entry, LockedEntries, NoSnapshot, Owned, SharedEntries, Snapshot, SnapshotType,
};

use crate::{ballot::Ballot, config::ClusterConfig, identity::Identity};
use std::error::Error;

/// What a storage call gives: any error of the storage's own.
pub type StorageResult<T> = Result<T, Box<dyn Error>>;

/// The last entry of a configuration (paper §6): names the configuration that follows.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StopSign {
    /// The configuration that takes over.
    pub next_config: ClusterConfig,
    /// Whatever the servers of the next configuration should be told.
    pub metadata: Option<Vec<u8>>,
}

impl StopSign {
    /// A stop sign for the given configuration.
    pub fn with(next_config: ClusterConfig, metadata: Option<Vec<u8>>) -> Self {
        Self { next_config, metadata }
    }
}

/// One change to a [`Storage`]; several of them make one [`Storage::write_atomically`].
///
/// Indices are positions in what the storage holds, as everywhere in [`Storage`].
#[derive(Clone, Debug)]
pub enum StorageOp<T: Entry> {
    /// [`Storage::append_entry`].
    AppendEntry(T),
    /// [`Storage::append_entries`].
    AppendEntries(Vec<T>),
    /// [`Storage::append_on_prefix`].
    AppendOnPrefix(u64, Vec<T>),
    /// [`Storage::append_shared`].
    AppendShared(SharedEntries<T>),
    /// [`Storage::append_shared_on_prefix`].
    AppendSharedOnPrefix(u64, SharedEntries<T>),
    /// [`Storage::set_promise`].
    SetPromise(Ballot),
    /// [`Storage::set_decided_idx`].
    SetDecidedIndex(u64),
    /// [`Storage::set_accepted_round`].
    SetAcceptedRound(Ballot),
    /// [`Storage::set_compacted_idx`].
    SetCompactedIdx(u64),
    /// [`Storage::trim`].
    Trim(u64),
    /// [`Storage::set_stopsign`].
    SetStopsign(Option<StopSign>),
    /// [`Storage::set_snapshot`].
    SetSnapshot(Option<T::Snapshot>),
}

/// Where a server keeps its log and its promises.
///
/// The library calls it from one place, once per output of messages, before any message
/// leaves. What [`write_atomically`](Storage::write_atomically) has returned `Ok` for must survive
/// whatever faults the storage claims to survive.
///
/// # Indices
/// The indices of `append_on_prefix`, `get_entries`, `get_suffix`, `get_log_len` and `trim` count
/// the entries that the storage *holds*: after `trim(k)`, what was entry `k` is entry 0. The
/// library subtracts the compacted index. `decided_idx` and `compacted_idx` are plain numbers to
/// the storage and count from the beginning of the log.
///
/// # Atomicity
/// Each method must be atomic by itself: done or not done after a crash. `write_atomically` should
/// make the whole list atomic. With the provided body, which applies one operation after another,
/// the library is safe under a crash between any two operations of a list without `trim`,
/// `set_compacted_idx` and `set_snapshot`, also on a log that was compacted before. A list with one of
/// these compacts the log or installs a snapshot, and must be whole: indices are relative, and a crash
/// between `trim` and `set_compacted_idx` leaves them meaning something else.
pub trait Storage<T: Entry> {
    /// Appends an entry and returns the new length of the log.
    ///
    /// # Errors
    /// Whatever the storage cannot do. This holds for every method; after an error of a write the
    /// replica halts.
    fn append_entry(&mut self, entry: T) -> StorageResult<u64>;

    /// Appends entries and returns the new length of the log.
    fn append_entries(&mut self, entries: Vec<T>) -> StorageResult<u64>;

    /// Cuts the log to its first `from_idx` entries, appends, and returns the new length.
    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<T>) -> StorageResult<u64>;

    /// Sets the highest ballot promised.
    fn set_promise(&mut self, n_prom: Ballot) -> StorageResult<()>;

    /// Sets the number of entries decided, counted from the beginning of the log.
    fn set_decided_idx(&mut self, ld: u64) -> StorageResult<()>;

    /// The number last set with [`set_decided_idx`](Storage::set_decided_idx), or 0.
    fn get_decided_idx(&self) -> StorageResult<u64>;

    /// Sets the ballot in which the log was last accepted.
    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()>;

    /// The ballot last set with [`set_accepted_round`](Storage::set_accepted_round).
    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>>;

    /// The entries from `from` up to, not including, `to`. Empty if the storage does not hold all.
    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<T>>;

    /// The number of entries held.
    fn get_log_len(&self) -> StorageResult<u64>;

    /// The entries from `from` to the end; empty if `from` is beyond it.
    fn get_suffix(&self, from: u64) -> StorageResult<Vec<T>>;

    /// The ballot last set with [`set_promise`](Storage::set_promise).
    fn get_promise(&self) -> StorageResult<Option<Ballot>>;

    /// Sets or clears the stop sign.
    fn set_stopsign(&mut self, s: Option<StopSign>) -> StorageResult<()>;

    /// The stop sign last set.
    fn get_stopsign(&self) -> StorageResult<Option<StopSign>>;

    /// Removes the first `idx` of the entries held.
    fn trim(&mut self, idx: u64) -> StorageResult<()>;

    /// Sets the number of entries compacted, counted from the beginning of the log.
    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()>;

    /// The number last set with [`set_compacted_idx`](Storage::set_compacted_idx), or 0.
    fn get_compacted_idx(&self) -> StorageResult<u64>;

    /// Sets or clears the snapshot, which sums up the entries compacted.
    fn set_snapshot(&mut self, snapshot: Option<T::Snapshot>) -> StorageResult<()>;

    /// The snapshot last set.
    fn get_snapshot(&self) -> StorageResult<Option<T::Snapshot>>;

    /// Appends entries that others read too. A storage that can keep them shared need not clone.
    fn append_shared(&mut self, entries: SharedEntries<T>) -> StorageResult<u64> {
        self.append_entries(entries.into_vec())
    }

    /// As [`append_on_prefix`](Storage::append_on_prefix), with entries that others read too.
    fn append_shared_on_prefix(
        &mut self,
        from_idx: u64,
        entries: SharedEntries<T>,
    ) -> StorageResult<u64> {
        self.append_on_prefix(from_idx, entries.into_vec())
    }

    /// The entries from `from` up to `to`, as [`get_entries`](Storage::get_entries), possibly
    /// shared with the storage.
    fn get_shared(&self, from: u64, to: u64) -> StorageResult<SharedEntries<T>> {
        self.get_entries(from, to).map(SharedEntries::from)
    }

    /// Calls `visit` with each entry from `from` up to `to`, in order; with none if the storage does
    /// not hold all. A storage that has them in memory need not clone.
    fn for_each(&self, from: u64, to: u64, visit: &mut dyn FnMut(&T)) -> StorageResult<()> {
        self.get_entries(from, to).map(|entries| entries.iter().for_each(visit))
    }

    /// Begins another incarnation of the server: raises a counter, stores it durably and returns
    /// it; the first incarnation is 1. Called once when a replica is built.
    ///
    /// The number is part of every [`ProposalId`](crate::proposals::ProposalId), so that what a
    /// server proposed before a restart is never taken for what it proposes after. `None`, as
    /// provided, from a storage that does not count; one that wraps another must pass this on. See
    /// [`ServerConfig::incarnation`](crate::ServerConfig::incarnation).
    fn next_incarnation(&mut self) -> StorageResult<Option<u64>> {
        Ok(None)
    }

    /// The most bytes that an entry may take here, as this storage counts them; `None`, as provided,
    /// if there is no limit.
    ///
    /// Servers tell each other in heartbeats. The smallest of these limits is what a proposal is
    /// [checked](Storage::check_entry) against, so that no server is sent what it cannot hold. A
    /// storage that wraps another must pass this method and the three that follow on.
    fn max_entry_bytes(&self) -> Option<u64> {
        None
    }

    /// Checks that the storage can hold an entry in at most `limit` bytes, and give it back as it
    /// is. Writes nothing.
    ///
    /// A server calls it for each entry that is proposed there, and a leader for each entry that
    /// another server forwards. `limit` is the smallest [`max_entry_bytes`](Storage::max_entry_bytes)
    /// of the servers that this one has heard of, `u64::MAX` where there is none. An entry that was
    /// accepted by the leader is not checked again at a follower.
    ///
    /// The same entry and limit must get the same answer. The provided body accepts all.
    ///
    /// # Errors
    /// Why not. The proposer gets this text, its first 256 bytes; the replica does not halt.
    fn check_entry(&self, entry: &T, limit: u64) -> StorageResult<()> {
        let _ = (entry, limit);
        Ok(())
    }

    /// Checks a stop sign with its metadata as [`check_entry`](Storage::check_entry) checks an entry.
    ///
    /// # Errors
    /// As `check_entry`.
    fn check_stopsign(&self, stopsign: &StopSign, limit: u64) -> StorageResult<()> {
        let _ = (stopsign, limit);
        Ok(())
    }

    /// Checks that the storage can hold a snapshot and give it back, before it replaces entries.
    ///
    /// # Errors
    /// Why not. A compaction is refused then, with this text.
    fn check_snapshot(&self, snapshot: &T::Snapshot) -> StorageResult<()> {
        let _ = snapshot;
        Ok(())
    }

    /// The identity last set with [`set_identity`](Storage::set_identity). `None`, as provided, from
    /// a storage that keeps none; one that wraps another must pass this and the next two on.
    fn get_identity(&self) -> StorageResult<Option<Identity>> {
        Ok(None)
    }

    /// Keeps, durably and as one, to which server of which configuration the storage belongs, and
    /// which storages the other servers have. Called when a replica is built, and when it first
    /// hears of the storage of another server: not in each output.
    fn set_identity(&mut self, identity: Identity) -> StorageResult<()> {
        let _not_kept = identity;
        Ok(())
    }

    /// The id of this storage: a random number other than 0, made once with the storage, durable
    /// before this returns it, and never changed. The other servers ignore a server whose storage has
    /// another id than before, since it may have forgotten what it promised and accepted.
    ///
    /// `None`, as provided, from a storage that does not outlive its process: its server is not
    /// checked.
    fn get_storage_id(&self) -> StorageResult<Option<u64>> {
        Ok(None)
    }

    /// Applies all operations, in order, and empties the list. See "Atomicity" above.
    fn write_atomically(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        for op in ops.drain(..) {
            apply(self, op)?;
        }
        Ok(())
    }
}

/// Applies one operation by the method of its name.
///
/// # Errors
/// That of the method.
pub fn apply<T: Entry, S: Storage<T> + ?Sized>(
    storage: &mut S,
    op: StorageOp<T>,
) -> StorageResult<()> {
    match op {
        StorageOp::AppendEntry(entry) => storage.append_entry(entry).map(drop),
        StorageOp::AppendEntries(entries) => storage.append_entries(entries).map(drop),
        StorageOp::AppendOnPrefix(idx, entries) => storage.append_on_prefix(idx, entries).map(drop),
        StorageOp::AppendShared(entries) => storage.append_shared(entries).map(drop),
        StorageOp::AppendSharedOnPrefix(idx, entries) => {
            storage.append_shared_on_prefix(idx, entries).map(drop)
        }
        StorageOp::SetPromise(ballot) => storage.set_promise(ballot),
        StorageOp::SetDecidedIndex(idx) => storage.set_decided_idx(idx),
        StorageOp::SetAcceptedRound(ballot) => storage.set_accepted_round(ballot),
        StorageOp::SetCompactedIdx(idx) => storage.set_compacted_idx(idx),
        StorageOp::Trim(idx) => storage.trim(idx),
        StorageOp::SetStopsign(stopsign) => storage.set_stopsign(stopsign),
        StorageOp::SetSnapshot(snapshot) => storage.set_snapshot(snapshot),
    }
}
