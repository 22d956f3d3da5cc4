//! The interface between the library and the user's entries, snapshots and storage.

mod encoded;

pub use self::encoded::{ReadSnapshot, Reception, SnapshotBytes, SnapshotSource};
pub use crate::entry::{
    Entry, LockedEntries, NoSnapshot, Owned, SharedEntries, Snapshot, SnapshotDigest, SnapshotType,
};

use crate::{ballot::Ballot, config::ClusterConfig, identity::Identity};
use std::error::Error;

/// The result of a storage call, with any error of the storage.
pub type StorageResult<T> = Result<T, Box<dyn Error>>;

/// Why a storage refuses parts of a snapshot.
const NOT_RECEIVING: &str = "the storage receives no snapshot";

/// The last entry of a configuration (paper §6). It names the next configuration.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StopSign {
    /// The next configuration.
    pub next_config: ClusterConfig,
    /// Information for the servers of the next configuration.
    pub metadata: Option<Vec<u8>>,
}

impl StopSign {
    /// Creates a stop sign for the given configuration.
    pub fn with(next_config: ClusterConfig, metadata: Option<Vec<u8>>) -> Self {
        Self { next_config, metadata }
    }
}

/// The part of a log that one configuration decided, in a log that
/// [continues](crate::ServerConfig::continues) through reconfigurations.
///
/// An epoch begins after the stop sign that named its configuration. The first one begins with the
/// log.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Epoch {
    /// The index of its first record. The stop sign before it has the index before.
    pub first_idx: u64,
    /// The configuration that decides the epoch.
    pub configuration: ClusterConfig,
    /// The metadata of the stop sign that began the epoch.
    pub metadata: Option<Vec<u8>>,
}

impl Epoch {
    /// Creates an epoch that begins at `first_idx`.
    pub fn new(first_idx: u64, configuration: ClusterConfig, metadata: Option<Vec<u8>>) -> Self {
        Self { first_idx, configuration, metadata }
    }
}

/// One change to a [`Storage`]. [`Storage::write_atomically`] takes a list of them.
///
/// Indices are positions among the entries held, as everywhere in [`Storage`].
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
    /// [`Storage::set_epochs`].
    SetEpochs(Vec<Epoch>),
}

/// The store of a server: its log, its promises and its indices.
///
/// The library writes at one place, once per output of messages, before any message leaves. After
/// [`write_atomically`](Storage::write_atomically) has returned `Ok`, the changes must survive all
/// faults that the storage claims to survive.
///
/// # Indices
/// The indices of `append_on_prefix`, `get_entries`, `get_suffix`, `get_log_len` and `trim` count
/// the entries that the storage *holds*: after `trim(k)`, the entry at `k` has index 0. The library
/// subtracts the compacted index. To the storage, `decided_idx` and `compacted_idx` are plain
/// numbers. They count from the beginning of the log.
///
/// # Atomicity
/// Each method must be atomic by itself: after a crash, all of its change is stored, or none.
/// `write_atomically` should make the whole list atomic.
///
/// The provided body of `write_atomically` applies one operation after another. With it, the
/// following holds for a crash between two operations of a list, also on a log that was compacted
/// before:
/// - The library is safe if the list contains no `trim`, `set_compacted_idx` or `set_snapshot`.
/// - A list with one of these compacts the log or installs a snapshot, and must be atomic.
///   Otherwise a crash between `trim` and `set_compacted_idx` shifts the meaning of all indices.
pub trait Storage<T: Entry> {
    /// Appends an entry and returns the new length of the log.
    ///
    /// # Errors
    /// Returns any error of the storage, as every method does. After an error of a write the
    /// replica halts.
    fn append_entry(&mut self, entry: T) -> StorageResult<u64>;

    /// Appends entries and returns the new length of the log.
    fn append_entries(&mut self, entries: Vec<T>) -> StorageResult<u64>;

    /// Truncates the log to its first `from_idx` entries, appends, and returns the new length.
    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<T>) -> StorageResult<u64>;

    /// Sets the highest promised ballot.
    fn set_promise(&mut self, n_prom: Ballot) -> StorageResult<()>;

    /// Sets the number of decided entries, counted from the beginning of the log.
    fn set_decided_idx(&mut self, ld: u64) -> StorageResult<()>;

    /// Returns the number last set with [`set_decided_idx`](Storage::set_decided_idx), or 0.
    fn get_decided_idx(&self) -> StorageResult<u64>;

    /// Sets the ballot in which the log was last accepted.
    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()>;

    /// Returns the ballot last set with [`set_accepted_round`](Storage::set_accepted_round).
    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>>;

    /// Returns the entries from `from` up to, not including, `to`. Empty if it does not hold all.
    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<T>>;

    /// Returns the number of entries held.
    fn get_log_len(&self) -> StorageResult<u64>;

    /// Returns the entries from `from` to the end; empty if `from` is beyond the end.
    fn get_suffix(&self, from: u64) -> StorageResult<Vec<T>>;

    /// Returns the ballot last set with [`set_promise`](Storage::set_promise).
    fn get_promise(&self) -> StorageResult<Option<Ballot>>;

    /// Sets or clears the stop sign.
    fn set_stopsign(&mut self, s: Option<StopSign>) -> StorageResult<()>;

    /// Returns the stop sign last set.
    fn get_stopsign(&self) -> StorageResult<Option<StopSign>>;

    /// Removes the first `idx` entries of those held.
    fn trim(&mut self, idx: u64) -> StorageResult<()>;

    /// Sets the number of compacted entries, counted from the beginning of the log.
    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()>;

    /// Returns the number last set with [`set_compacted_idx`](Storage::set_compacted_idx), or 0.
    fn get_compacted_idx(&self) -> StorageResult<u64>;

    /// Returns the number of entries whose compaction survives the faults that the storage claims to
    /// survive.
    ///
    /// It is lower than [`get_compacted_idx`](Storage::get_compacted_idx) while a storage still
    /// writes the snapshot of a [`write_compaction`](Storage::write_compaction). The provided body
    /// returns `get_compacted_idx`. A storage that wraps another must forward this call.
    fn get_stored_compacted_idx(&self) -> StorageResult<u64> {
        self.get_compacted_idx()
    }

    /// Sets or clears the snapshot, which stands for the compacted entries.
    fn set_snapshot(&mut self, snapshot: Option<T::Snapshot>) -> StorageResult<()>;

    /// Returns the snapshot last set.
    fn get_snapshot(&self) -> StorageResult<Option<T::Snapshot>>;

    /// Returns how the bytes of the snapshot are read, to send them to another server in pieces.
    ///
    /// A storage that holds an encoded snapshot returns its bytes, so that no call encodes the
    /// whole snapshot. They are read a piece at a time. The bytes are what `bincode::serde` of
    /// bincode 2 writes with `bincode::config::standard()`, since other servers decode them with
    /// that configuration. They may stand for fewer entries than the present snapshot, while the
    /// storage still writes that one: [`SnapshotBytes::idx`] is their number. A server that has these
    /// entries waits for later bytes. The snapshot must have been durable at some time,
    /// and the bytes stay readable while a clone of the result exists.
    ///
    /// The provided body returns [`SnapshotSource::Value`]: the library encodes
    /// [`get_snapshot`](Storage::get_snapshot) in one call. A storage that wraps another must forward
    /// this call.
    fn snapshot_source(&mut self) -> StorageResult<SnapshotSource> {
        Ok(SnapshotSource::Value)
    }

    /// Begins to receive a snapshot of `bytes` bytes from another server, in parts. Returns whether the
    /// storage receives it. A reception that has not ended is dropped.
    ///
    /// A storage that receives a snapshot writes and decodes it while calls continue, so that no
    /// call handles the whole. The replica passes each part to [`receive`](Storage::receive), and
    /// calls [`reception`](Storage::reception) to find out how far the storage is. What the storage
    /// holds changes only with [`write_received`](Storage::write_received). Another server claims
    /// the number `bytes`, so do not allocate memory for it.
    ///
    /// The provided body returns false: the library collects the parts in memory, decodes the whole in
    /// one call, and writes it with [`StorageOp::SetSnapshot`]. A storage that wraps another must
    /// forward this call and the next four.
    fn begin_receiving(&mut self, bytes: u64) -> StorageResult<bool> {
        let _ = bytes;
        Ok(false)
    }

    /// Receives the next part of the snapshot. The parts are in order, without a gap.
    ///
    /// It need not be written when the call returns, and is lost in a crash.
    fn receive(&mut self, part: Vec<u8>) -> StorageResult<()> {
        let _not_received = part;
        Err(NOT_RECEIVING.into())
    }

    /// Returns how far the storage is with the snapshot that it receives.
    ///
    /// A replica calls this in each output. It requests at most
    /// [`ServerConfig::max_in_flight_bytes`](crate::ServerConfig::max_in_flight_bytes) beyond the
    /// bytes that the storage has written. So the storage writes all parts that it has, without
    /// waiting for a further one.
    fn reception(&mut self) -> StorageResult<Reception> {
        Err(NOT_RECEIVING.into())
    }

    /// Drops what was received of the snapshot. The storage holds what it held before.
    fn end_receiving(&mut self) -> StorageResult<()> {
        Ok(())
    }

    /// Applies all operations, as [`write_atomically`](Storage::write_atomically) does, with the
    /// received snapshot in place of the present one: as if [`StorageOp::SetSnapshot`] with it were the
    /// first of them.
    ///
    /// It is called only if [`reception`](Storage::reception) has returned [`Reception::Ready`], and
    /// ends the reception. All of it must be durable when the call returns, or nothing.
    fn write_received(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        let _not_written = ops;
        Err(NOT_RECEIVING.into())
    }

    /// Appends entries that messages may share. A storage that keeps them shared need not clone
    /// them.
    fn append_shared(&mut self, entries: SharedEntries<T>) -> StorageResult<u64> {
        self.append_entries(entries.into_vec())
    }

    /// Does the same as [`append_on_prefix`](Storage::append_on_prefix), with shared entries.
    fn append_shared_on_prefix(
        &mut self,
        from_idx: u64,
        entries: SharedEntries<T>,
    ) -> StorageResult<u64> {
        self.append_on_prefix(from_idx, entries.into_vec())
    }

    /// Returns the entries from `from` up to `to`, as [`get_entries`](Storage::get_entries) does,
    /// possibly shared with the storage.
    fn get_shared(&self, from: u64, to: u64) -> StorageResult<SharedEntries<T>> {
        self.get_entries(from, to).map(SharedEntries::from)
    }

    /// Calls `visit` with each entry from `from` up to `to`, in order. If the storage does not hold
    /// all of them, it calls `visit` with none. A storage with its entries in memory need not clone
    /// them.
    fn for_each(&self, from: u64, to: u64, visit: &mut dyn FnMut(&T)) -> StorageResult<()> {
        self.get_entries(from, to).map(|entries| entries.iter().for_each(visit))
    }

    /// Begins a new incarnation of the server: raises a counter, stores it durably and returns it.
    /// The first incarnation is 1. A replica calls this once, when it is built.
    ///
    /// The number is part of every [`ProposalId`](crate::proposals::ProposalId). So proposals from
    /// before a restart are never taken for proposals from after it. See
    /// [`ServerConfig::incarnation`](crate::ServerConfig::incarnation).
    ///
    /// The provided body returns `None`: the storage does not count. A storage that wraps another
    /// must forward this call.
    fn next_incarnation(&mut self) -> StorageResult<Option<u64>> {
        Ok(None)
    }

    /// Returns the size limit of an entry, in bytes as this storage counts them; `None` if there is
    /// no limit. The provided body returns `None`.
    ///
    /// Servers exchange their limits in heartbeats. A proposal is [checked](Storage::check_entry)
    /// against the smallest of these limits, so that no server receives an entry that it cannot
    /// hold. A storage that wraps another must forward this call and the next three.
    fn max_entry_bytes(&self) -> Option<u64> {
        None
    }

    /// Checks that the storage can hold an entry in at most `limit` bytes, and return it unchanged.
    ///
    /// It writes nothing. The origin of a proposal calls it for each entry, and the leader calls it
    /// for each forwarded entry. A follower does not check an entry that the leader has accepted.
    /// `limit` is the smallest [`max_entry_bytes`](Storage::max_entry_bytes) of this storage and of
    /// those that other servers have reported; `u64::MAX` if none has a limit.
    ///
    /// For the same entry and limit the result must be the same. The provided body accepts all
    /// entries.
    ///
    /// # Errors
    /// Returns why the entry is refused. The proposer gets the first 256 bytes of this text. The
    /// replica does not halt.
    fn check_entry(&self, entry: &T, limit: u64) -> StorageResult<()> {
        let _ = (entry, limit);
        Ok(())
    }

    /// Checks a stop sign and its metadata, as [`check_entry`](Storage::check_entry) checks an
    /// entry.
    ///
    /// # Errors
    /// Returns why the stop sign is refused, as `check_entry` does.
    fn check_stopsign(&self, stopsign: &StopSign, limit: u64) -> StorageResult<()> {
        let _ = (stopsign, limit);
        Ok(())
    }

    /// Checks that the storage can hold a snapshot and return it, before the snapshot replaces
    /// entries.
    ///
    /// # Errors
    /// Returns why the snapshot is refused. Then the compaction is refused with this text.
    fn check_snapshot(&self, snapshot: &T::Snapshot) -> StorageResult<()> {
        let _ = snapshot;
        Ok(())
    }

    /// Checks a snapshot that [`write_compaction`](Storage::write_compaction) will write, as
    /// [`check_snapshot`](Storage::check_snapshot) does.
    ///
    /// A storage that encodes the snapshot after `write_compaction` has returned may accept every
    /// snapshot here. If it cannot hold the snapshot, it reports that as the failure of a later call. The
    /// provided body calls `check_snapshot`. A storage that wraps another must forward this call.
    ///
    /// # Errors
    /// Returns why the snapshot is refused, as `check_snapshot` does.
    fn check_compaction(&self, snapshot: &T::Snapshot) -> StorageResult<()> {
        self.check_snapshot(snapshot)
    }

    /// Returns the identity last set with [`set_identity`](Storage::set_identity).
    ///
    /// The provided body returns `None`: the storage keeps no identity. A storage that wraps
    /// another must forward this call and the next two.
    fn get_identity(&self) -> StorageResult<Option<Identity>> {
        Ok(None)
    }

    /// Stores an identity, durably and atomically: the server and configuration to which the
    /// storage belongs, and the storage ids of the other servers.
    ///
    /// A replica calls this when it is built, and when it first receives the storage id of another
    /// server; not at each output.
    fn set_identity(&mut self, identity: Identity) -> StorageResult<()> {
        let _not_kept = identity;
        Ok(())
    }

    /// Returns the id of this storage: a random number other than 0.
    ///
    /// The id is made once with the storage, is durable before this method returns it, and never
    /// changes. If the id of a server's storage changes, the other servers ignore that server,
    /// since it may have lost its promises and accepted entries.
    ///
    /// The provided body returns `None`: the storage does not outlive its process. The other
    /// servers do not check such a server.
    fn get_storage_id(&self) -> StorageResult<Option<u64>> {
        Ok(None)
    }

    /// Returns the epochs last set with [`set_epochs`](Storage::set_epochs); an empty list before
    /// the first call.
    ///
    /// The provided body returns `None`: the storage keeps no epochs. Then it cannot be used with
    /// [`ServerConfig::continues`](crate::ServerConfig::continues). A storage that wraps another
    /// must forward this call and the next one.
    fn get_epochs(&self) -> StorageResult<Option<Vec<Epoch>>> {
        Ok(None)
    }

    /// Stores the epochs of the log, in order: the last one is the present one.
    ///
    /// They replace the epochs that were stored before. The stop signs between them take no
    /// position among the entries that the storage holds.
    fn set_epochs(&mut self, epochs: Vec<Epoch>) -> StorageResult<()> {
        let _not_kept = epochs;
        Ok(())
    }

    /// Applies all operations, in order, and empties the list. See "Atomicity" above.
    fn write_atomically(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        for op in ops.drain(..) {
            apply(self, op)?;
        }
        Ok(())
    }

    /// Applies all operations, as [`write_atomically`](Storage::write_atomically) does. The
    /// compaction among them may become durable later.
    ///
    /// The list contains [`StorageOp::SetSnapshot`], then [`StorageOp::Trim`], then
    /// [`StorageOp::SetCompactedIdx`], and none of them twice. Every entry that `Trim` removes is
    /// decided, and was in the storage before this call. The new snapshot stands for the earlier
    /// snapshot and these entries. So both represent the same state, and a storage may keep the
    /// earlier snapshot and the entries on the disk until the new snapshot is durable.
    ///
    /// All operations take effect at once: the methods that read return the new snapshot and the
    /// remaining entries. All operations except these three must be durable when the call returns.
    /// After a crash the storage holds the new snapshot, or the earlier snapshot and all entries
    /// after it. [`get_stored_compacted_idx`](Storage::get_stored_compacted_idx) returns which of
    /// them a crash leaves. If the storage cannot write the snapshot, the next call that writes
    /// returns the error.
    ///
    /// The provided body calls `write_atomically`. A storage that wraps another must forward this
    /// call, otherwise every compaction waits for its snapshot.
    fn write_compaction(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        self.write_atomically(ops)
    }
}

/// Applies one operation with the method of the same name.
///
/// # Errors
/// Returns the error of that method.
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
        StorageOp::SetEpochs(epochs) => set_epochs(storage, epochs),
    }
}

/// An epoch begins rarely.
#[cold]
fn set_epochs<T: Entry, S: Storage<T> + ?Sized>(
    storage: &mut S,
    epochs: Vec<Epoch>,
) -> StorageResult<()> {
    storage.set_epochs(epochs)
}
