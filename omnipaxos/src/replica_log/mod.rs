//! The log of one server: the only user of its storage.
//!
//! Changes are made in memory, and [`ReplicaLog::flush`] writes them all at once. Indices are
//! absolute here: they count records from the beginning of the log. Each record is an entry or a stop
//! sign. Storages and messages keep the stop sign apart from the entries, so only a flush, a read and
//! a message separate the two.

mod catch_up;
mod check;
mod compaction;
mod epochs;
mod flush;
mod forgotten;
mod id_ranges;
mod identity;
mod ids;
mod message;
mod read;
mod records;
mod summary;
mod sync;
mod tail;

pub(crate) use catch_up::{Answer, ChunkOutcome, SnapshotIn};
pub(crate) use flush::Readers;
pub(crate) use id_ranges::IdRanges;
pub(crate) use ids::Ids;
pub(crate) use message::Part;
pub(crate) use records::Records;
pub(crate) use sync::{Extended, Synced};

use self::{
    epochs::{stop_signs_between, Continuity},
    records::StopSigns,
    tail::Tail,
};
use crate::{
    amount::Amount,
    ballot::Ballot,
    entry::SharedEntries,
    errors::Halted,
    identity::incarnation_of,
    proposals::ProposalId,
    storage::{Entry, Snapshot, StopSign, Storage, StorageOp, StorageResult},
};

/// The log, the promises and the indices of one server.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaLog<T: Entry, B: Storage<T>> {
    storage: B,
    /// Invariant I3: never decreases.
    promise: Ballot,
    /// The decided index when `promise` was given; 0 if that was before a restart.
    decided_at_promise: u64,
    /// The ballot in which the log was accepted. Invariant I2: `accepted_round <= promise`.
    accepted_round: Ballot,
    /// Entries known to be chosen. Invariant I1: `compacted_idx <= decided_idx <= len`.
    decided_idx: u64,
    /// Entries known to be chosen in `accepted_round` or before: a leader in a later ballot has them.
    chosen_idx: u64,
    /// The lowest decided index that the leader of `accepted_round` reported here; `u64::MAX` before that.
    lowest_reported: u64,
    /// Entries that were trimmed or replaced by a snapshot. Invariant I3: never decreases.
    compacted_idx: u64,
    compacted: Compacted<T::Snapshot>,
    tail: Tail<T>,
    ids: Ids,
    continuity: Continuity,
    /// Whether this server requests a delta snapshot instead of missing entries.
    wants_deltas: bool,
    stored: Stored,
    /// Length of the log that a leader may send. It counts itself only for the stored log. Invariant
    /// I23: after each output `stored.len <= sendable_len <= len`.
    sendable_len: u64,
    unstored: Unstored,
    recent: Recent<T>,
    /// Reused by each flush.
    ops: Vec<StorageOp<T>>,
    /// Whether the storage refused a snapshot merged with a delta: then no more deltas are
    /// requested.
    has_refused_delta: bool,
}

/// What stands for the entries before the compacted index.
#[derive(Clone, Debug)]
enum Compacted<S> {
    /// Nothing: the entries were trimmed, or there are none.
    Trimmed,
    /// A snapshot in the storage.
    Snapshot,
    /// A snapshot that is not flushed yet.
    UnstoredSnapshot(S),
    /// The snapshot that the storage has received in parts. The next flush, in the same output, makes it
    /// that of the storage. Until then it cannot be read.
    Received,
}

/// The entries of the last flush, or of an early release, kept for the messages of the same output.
#[derive(Clone, Debug)]
struct Recent<T> {
    from_idx: u64,
    entries: SharedEntries<T>,
    amount: Amount,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { from_idx: 0, entries: SharedEntries::default(), amount: Amount::default() }
    }
}

/// The state of the storage after the last flush.
#[derive(Clone, Debug)]
struct Stored {
    compacted_idx: u64,
    /// Number of the entries that it holds, from the compacted index on.
    entries: u64,
    /// Length of the log.
    len: u64,
    /// The index of the stop sign.
    stopsign: Option<u64>,
}

/// What is known about the number of this incarnation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incarnation {
    /// No other incarnation has or gets this number.
    Counted(u64),
    /// No number is counted, and this is the first incarnation. A later one recognises that only
    /// from data stored by then.
    First,
    /// No number is counted, and there were earlier incarnations.
    Unknown,
}

impl Incarnation {
    /// Returns the incarnation of an observer with this storage.
    pub(crate) fn of_storage(self, storage_id: Option<u64>) -> Self {
        match (self, storage_id) {
            (Incarnation::Counted(number), Some(id)) => {
                Incarnation::Counted(incarnation_of(id, number))
            }
            (Incarnation::Counted(_) | Incarnation::First | Incarnation::Unknown, _) => self,
        }
    }

    /// Returns the number, if no earlier incarnation had it.
    pub(crate) fn number(self) -> Option<u64> {
        match self {
            Incarnation::Counted(number) => Some(number),
            Incarnation::First => Some(0),
            Incarnation::Unknown => None,
        }
    }
}

/// The changes since the last flush, except the tail.
#[derive(Copy, Clone, Debug, Default)]
struct Unstored {
    promise: bool,
    accepted_round: bool,
    decided_idx: bool,
    /// Whether the decided index is to be written even if nothing else is.
    is_decided_idx_due: bool,
    compaction: bool,
    /// Whether the compaction does more than to replace stored, decided entries by a snapshot.
    /// Then it must be durable when the flush ends (I24).
    needs_durable_snapshot: bool,
    stopsign: bool,
    epochs: bool,
}

/// Returns whether entries may travel as a delta snapshot.
fn has_deltas<T: Entry>() -> bool {
    T::Snapshot::use_snapshots() && T::Snapshot::can_create()
}

/// Adds the name of the failed operation to an error.
fn named<V>(result: StorageResult<V>, operation: &str) -> Result<V, Halted> {
    result.map_err(|cause| Halted::new(operation, cause))
}

impl<T: Entry, B: Storage<T>> ReplicaLog<T, B> {
    /// Loads the content of `storage`.
    ///
    /// # Errors
    /// The storage fails, or its indices contradict each other.
    pub(crate) fn load(storage: B) -> Result<Self, Halted> {
        let promise = named(storage.get_promise(), "read the promise")?;
        let accepted_round = named(storage.get_accepted_round(), "read the accepted round")?;
        let epochs = named(storage.get_epochs(), "read the epochs")?.unwrap_or_default();
        // A ballot of an earlier epoch no longer binds this server.
        let present = epochs.last();
        let binds = |ballot: &Ballot| {
            present.is_none_or(|epoch| ballot.config_id >= epoch.configuration.configuration_id)
        };
        let promise = promise.filter(binds).unwrap_or_default();
        let accepted_round = accepted_round.filter(binds).unwrap_or_default();
        let decided_idx = named(storage.get_decided_idx(), "read the decided index")?;
        let compacted_idx = named(storage.get_compacted_idx(), "read the compacted index")?;
        // A crash may have left the stop sign that began the present epoch.
        let begins_present = |stopsign: &StopSign| {
            let id = stopsign.next_config.configuration_id;
            present.is_some_and(|epoch| id <= epoch.configuration.configuration_id)
        };
        let stopsign = named(storage.get_stopsign(), "read the stop sign")?;
        let stopsign = stopsign.filter(|stopsign| !begins_present(stopsign));
        let held = named(storage.get_log_len(), "read the length of the log")?;
        let has_snapshot = named(storage.get_snapshot(), "read the snapshot")?.is_some();
        let contradiction = |what: String| Err(Halted::new("hold a consistent state", what));
        let earlier = stop_signs_between(&epochs).filter(|(idx, _)| *idx >= compacted_idx);
        let mut stop_signs = StopSigns::of_epochs(earlier.collect());
        let Some(end) = compacted_idx.checked_add(held).filter(|end| *end < u64::MAX >> 1) else {
            return contradiction(format!("{held} entries after index {compacted_idx}"));
        };
        let end = stop_signs.end(compacted_idx, end - compacted_idx);
        let first_idx = present.map_or(0, |epoch| epoch.first_idx);
        if end < first_idx {
            return contradiction(format!(
                "the log ends at {end}, before the present epoch, which begins at {first_idx}"
            ));
        }
        let decided_idx = decided_idx.max(first_idx);
        let len = end + u64::from(stopsign.is_some());
        if decided_idx > len || compacted_idx > decided_idx {
            return contradiction(format!(
                "compacted index {compacted_idx}, decided index {decided_idx}, log length {len}"
            ));
        }
        if accepted_round > promise {
            return contradiction(format!("accepted {accepted_round:?}, promised {promise:?}"));
        }
        let mut ids = Ids::unknown_before(end);
        ids.accept_in(accepted_round, len);
        if let Some(stopsign) = stopsign {
            stop_signs.push(end, stopsign);
        }
        let stopsign_idx = (len > end).then_some(end);
        let compacted = if has_snapshot { Compacted::Snapshot } else { Compacted::Trimmed };
        Ok(Self {
            storage,
            promise,
            accepted_round,
            decided_idx,
            chosen_idx: 0,
            lowest_reported: u64::MAX,
            decided_at_promise: 0,
            compacted_idx,
            compacted,
            tail: Tail::empty(len, stop_signs),
            ids,
            continuity: Continuity::Ends,
            wants_deltas: false,
            stored: Stored { compacted_idx, entries: held, len, stopsign: stopsign_idx },
            sendable_len: len,
            unstored: Unstored::default(),
            recent: Recent::default(),
            ops: Vec::new(),
            has_refused_delta: false,
        })
    }

    /// Begins a new incarnation of the server. Its number is configured, or otherwise counted by
    /// the storage.
    ///
    /// # Errors
    /// The storage failed.
    pub(crate) fn begin_incarnation(
        &mut self,
        configured: Option<u64>,
    ) -> Result<Incarnation, Halted> {
        let counted = match configured {
            Some(number) => Some(number),
            None => named(self.storage.next_incarnation(), "count the incarnations")?,
        };
        Ok(match counted {
            Some(number) => Incarnation::Counted(number),
            None if self.has_history() => Incarnation::Unknown,
            None => Incarnation::First,
        })
    }

    /// Returns the storage, as the last flush left it.
    pub(crate) fn into_storage(self) -> B {
        self.storage
    }

    /// Returns whether an earlier incarnation of the server may have sent claims.
    pub(crate) fn has_history(&self) -> bool {
        !self.promise.is_nobodys() || self.len() > 0
    }

    pub(crate) fn promise_to(&mut self, n: Ballot) {
        debug_assert!(n > self.promise, "I3: promise {n:?} after {:?}", self.promise);
        self.ids.materialize_ids(self.len());
        self.promise = n;
        self.decided_at_promise = self.decided_idx;
        self.unstored.promise = true;
    }

    /// Begins to accept in ballot `n`, which must be promised.
    pub(crate) fn accept_in(&mut self, n: Ballot) {
        self.ids.accept_in(n, self.len());
        self.accepted_round = n;
        self.lowest_reported = u64::MAX;
        self.unstored.accepted_round = true;
    }

    /// Records that the entries before `idx` are chosen, as far as they are in this log.
    pub(crate) fn decide(&mut self, idx: u64) {
        let idx = idx.min(self.len());
        if idx > self.decided_idx {
            self.decided_idx = idx;
            self.unstored.decided_idx = true;
        }
    }

    /// Records that a write quorum has accepted the entries before `idx` in the accepted round.
    pub(crate) fn decide_in_round(&mut self, idx: u64) {
        self.decide(idx);
        self.chosen_idx = self.chosen_idx.max(idx.min(self.len()));
    }

    /// Records a decided index that the leader of the accepted round reported. When it began to lead, its
    /// decided index may have come from a later ballot. If it has grown since, a write quorum has accepted
    /// everything before it in the accepted round.
    pub(crate) fn decide_as_reported(&mut self, idx: u64) {
        if idx > self.lowest_reported {
            self.decide_in_round(idx);
        } else {
            self.lowest_reported = idx;
            self.decide(idx);
        }
    }

    /// Returns how many entries were certainly chosen in the accepted round or before. No leader of
    /// a later ballot that prepared with a quorum has fewer.
    pub(crate) fn chosen_idx(&self) -> u64 {
        self.chosen_idx
    }

    /// Appends one entry with its size in bytes; not after a stop sign.
    pub(crate) fn append(&mut self, entry: T, bytes: u64) {
        debug_assert!(self.stopsign().is_none(), "I9: an entry after the stop sign");
        self.tail.push(entry, bytes);
    }

    /// Appends one entry that was proposed with this id.
    pub(crate) fn append_proposal(&mut self, entry: T, bytes: u64, id: ProposalId) {
        self.ids.append(self.len(), id);
        self.append(entry, bytes);
    }

    /// Forgets the indices of decided entries with ids, if they are too many.
    #[inline]
    pub(crate) fn bound_ids(&mut self, most: usize) {
        self.ids.bound(self.decided_idx, most);
    }

    /// Returns the ids of the log and their indices.
    pub(crate) fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Returns the index of the proposal in the log: see [`Ids::find`].
    pub(crate) fn find(&self, id: ProposalId) -> Option<u64> {
        self.ids.find(id, self.len())
    }

    /// Returns whether the proposal is in the log, or decided at a forgotten index.
    pub(crate) fn has(&self, id: ProposalId) -> bool {
        self.find(id).is_some() || self.ids.is_forgotten(id)
    }

    /// Appends a stop sign.
    pub(crate) fn append_stopsign(&mut self, stopsign: StopSign) {
        self.append_records(Records::from(Box::new(stopsign)));
    }

    /// Appends records; not after a stop sign.
    #[inline]
    fn append_records(&mut self, records: Records<T>) {
        debug_assert!(self.stopsign().is_none(), "I9: a record after the stop sign");
        let ends = records.stopsign.is_some();
        self.tail.extend(records);
        if ends {
            self.unstored.stopsign = true;
            self.ids.end_led(self.entries_end());
        }
    }

    /// Truncates the log to its first `idx` records. The caller truncates the ids.
    fn cut(&mut self, idx: u64) {
        self.unstored.stopsign |= self.tail.stop_signs().next(idx).is_some();
        self.tail.cut(idx);
    }

    pub(crate) fn promise(&self) -> Ballot {
        self.promise
    }

    pub(crate) fn accepted_round(&self) -> Ballot {
        self.accepted_round
    }

    /// Returns whether the accepted round is stored.
    pub(crate) fn is_accepted_round_stored(&self) -> bool {
        !self.unstored.accepted_round
    }

    pub(crate) fn decided_idx(&self) -> u64 {
        self.decided_idx
    }

    pub(crate) fn compacted_idx(&self) -> u64 {
        self.compacted_idx
    }

    /// Returns the number of entries whose compaction survives a crash.
    pub(crate) fn stored_compacted_idx(&self) -> Result<u64, Halted> {
        named(self.storage.get_stored_compacted_idx(), "read the stored compacted index")
    }

    /// Returns the length of the log.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        self.tail.end()
    }

    /// Returns the length of the stored log. This server may claim to have accepted it, and counts for
    /// it in a quorum.
    pub(crate) fn stored_len(&self) -> u64 {
        self.stored.len
    }

    /// Returns the length of the log that a leader may send. No follower can acknowledge more of it.
    pub(crate) fn sendable_len(&self) -> u64 {
        self.sendable_len
    }

    /// Allows a leader to send the whole log.
    fn release(&mut self) {
        self.sendable_len = self.len();
    }

    /// Returns whether this server may send what it knows before the next flush, except what claims that
    /// the log is stored here: everything that it claims besides is stored.
    pub(crate) fn is_stored_but_records(&self) -> bool {
        let Unstored { promise, accepted_round, compaction, epochs, .. } = self.unstored;
        !(promise || accepted_round || compaction || epochs) && self.tail.start() == self.stored.len
    }

    /// Allows a leader to send the whole log before the next flush. Keeps its unstored entries for the
    /// messages of this output.
    ///
    /// An AcceptDecide claims that this server leads in the round, which is stored, and what is decided.
    /// It does not claim that the leader has stored the entries. The leader counts itself in a quorum
    /// only for the stored log (I7, I23).
    pub(crate) fn release_early(&mut self) {
        let (from_idx, amount) = (self.tail.start(), self.tail.amount());
        self.recent = Recent { from_idx, entries: self.tail.share(), amount };
        self.release();
    }

    /// Returns whether followers may have acknowledged records that are not stored here.
    #[inline]
    pub(crate) fn is_released_early(&self) -> bool {
        self.sendable_len > self.stored.len
    }

    /// Returns the amount of the entries that are only in memory.
    pub(crate) fn unstored_amount(&self) -> Amount {
        self.tail.amount()
    }

    /// Returns the index of the first record that is only in memory.
    pub(crate) fn unstored_from(&self) -> u64 {
        self.tail.start()
    }

    /// Returns the number of decided entries that are stored. A failed write cannot have undone
    /// them, and a panic in an input cannot have changed them.
    pub(crate) fn stored_decided_idx(&self) -> u64 {
        self.decided_idx.min(self.kept_len())
    }

    /// Returns the length of the stored log that the next write leaves unchanged.
    fn kept_len(&self) -> u64 {
        let Stored { len, stopsign, .. } = self.stored;
        let kept = match self.unstored.stopsign {
            true => stopsign.unwrap_or(len),
            false => len,
        };
        kept.min(self.tail.start())
    }

    /// Returns the index of the stop sign, or the length of the log if there is none. No record comes
    /// after a stop sign (I9). A message with a stop sign begins there at the latest.
    #[inline]
    fn entries_end(&self) -> u64 {
        self.stopsign_idx().unwrap_or_else(|| self.len())
    }

    /// Returns the number of entries among the records `from..to`.
    #[inline]
    pub(crate) fn entries_among(&self, from: u64, to: u64) -> u64 {
        self.tail.stop_signs().entries_among(from, to)
    }

    /// Returns the number of decided records before the stop sign. The stop sign is never compacted,
    /// and later entries are read in the next configuration.
    pub(crate) fn decided_before_stopsign(&self) -> u64 {
        self.decided_idx.min(self.entries_end())
    }

    #[inline]
    pub(crate) fn stopsign(&self) -> Option<&StopSign> {
        self.tail.stop_signs().last().map(|(_, stopsign)| stopsign)
    }

    /// Returns the index of the stop sign.
    #[inline]
    pub(crate) fn stopsign_idx(&self) -> Option<u64> {
        self.tail.stop_signs().last().map(|(idx, _)| idx)
    }

    /// Returns the stop sign, if its index is `idx`.
    #[inline]
    pub(crate) fn stopsign_at(&self, idx: u64) -> Option<&StopSign> {
        self.tail.stop_signs().at(idx)
    }

    /// Returns the stop sign, if it is among the first `len` records.
    #[inline]
    pub(crate) fn stopsign_before(&self, len: u64) -> Option<&StopSign> {
        self.tail.stop_signs().last().filter(|(idx, _)| *idx < len).map(|(_, stopsign)| stopsign)
    }

    #[inline]
    pub(crate) fn decided_stopsign(&self) -> Option<&StopSign> {
        self.stopsign_before(self.decided_idx)
    }

    /// Returns whether the entries before the compacted index were trimmed without a snapshot.
    pub(crate) fn is_trimmed(&self) -> bool {
        self.compacted_idx > 0 && matches!(self.compacted, Compacted::Trimmed)
    }

    /// Requests delta snapshots instead of missing entries, if they can be merged.
    pub(crate) fn want_deltas(&mut self) {
        self.wants_deltas = true;
    }

    /// Returns the decided index when the ballot was promised; 0 if that was before a restart.
    pub(crate) fn decided_at_promise(&self) -> u64 {
        self.decided_at_promise
    }

    /// Returns whether this server gets a delta snapshot before its log is synchronised. That
    /// happens once for each promise at most: otherwise it would never replicate while entries are
    /// decided all the time.
    pub(crate) fn learns_delta_first(&self) -> bool {
        self.takes_delta() && self.decided_idx == self.decided_at_promise
    }

    /// Returns whether this server accepts a delta snapshot instead of entries.
    pub(crate) fn takes_delta(&self) -> bool {
        self.wants_deltas && !self.has_refused_delta && self.can_merge_delta()
    }

    /// Returns whether a delta that begins at the decided index can be merged here.
    pub(super) fn can_merge_delta(&self) -> bool {
        has_deltas::<T>() && !self.is_trimmed()
    }

    pub(crate) fn check_invariants(&self) {
        let (compacted, decided, len) = (self.compacted_idx, self.decided_idx, self.len());
        debug_assert!(compacted <= decided, "I1: compacted {compacted} > decided {decided}");
        debug_assert!(decided <= len, "I1: decided {decided} > accepted {len}");
        debug_assert!(
            self.accepted_round <= self.promise,
            "I2: accepted {:?} > promise {:?}",
            self.accepted_round,
            self.promise
        );
        let (stored, sendable) = (self.stored.len, self.sendable_len);
        debug_assert!(
            stored <= sendable,
            "I23: {stored} records are stored, and only {sendable} may be sent"
        );
        debug_assert!(
            self.tail.start() >= compacted,
            "the tail begins at {}, before the compacted index {compacted}",
            self.tail.start()
        );
    }
}
