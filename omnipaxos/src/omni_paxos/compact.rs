//! Compaction of the log: trims and snapshots.

use super::{expect_storage, OmniPaxos};
use crate::{
    errors::{CompactionErr, TryCompactionErr},
    observe::trace::LogEvent,
    storage::{Entry, Snapshot, Storage},
};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Trims the log: gives up the entries before `trim_idx` at all servers; `None`: all that
    /// every server has accepted. Only the leader can. The others follow sooner or later. What some
    /// server has not accepted cannot be trimmed, since it could not be brought there any more.
    ///
    /// It asks no application: one that has not applied the entries reads
    /// [`LogEntry::Trimmed`](crate::util::LogEntry::Trimmed) in their place.
    /// [`compact`](Self::compact) waits for all.
    ///
    /// Where the log was compacted by a snapshot before, a trim takes the entries into it.
    ///
    /// # Errors
    /// [`CompactionErr`] tells what is in the way, and the index or leader that matters.
    ///
    /// # Panics
    /// If the storage has failed; see [`try_trim`](Self::try_trim).
    pub fn trim(&mut self, trim_idx: Option<u64>) -> Result<(), CompactionErr> {
        let done = self.try_trim(trim_idx);
        self.compacted(done)
    }

    /// As [`trim`](Self::trim), without a panic.
    ///
    /// # Errors
    /// [`TryCompactionErr::Unstorable`] if the storage cannot hold the snapshot,
    /// [`TryCompactionErr::Halted`] if the storage has failed, else as `trim`.
    pub fn try_trim(&mut self, trim_idx: Option<u64>) -> Result<(), TryCompactionErr> {
        self.wake("trim")?;
        let trimmed = self.paxos.trim(trim_idx);
        self.finish_compaction(trimmed)
    }

    /// Replaces the entries before `compact_idx` by a snapshot; `None`: all that are decided. Unless
    /// `local_only`, the other servers are asked to do so too, until each has answered or this
    /// server stops.
    ///
    /// # Errors
    /// [`CompactionErr`] tells what is in the way, and the index that matters. After a trim there
    /// can be no snapshot any more: [`CompactionErr::TrimmedIndex`].
    ///
    /// # Panics
    /// If the entry type has no snapshots ([`Snapshot::use_snapshots`] is false), and if the
    /// storage has failed; see [`try_snapshot`](Self::try_snapshot).
    pub fn snapshot(
        &mut self,
        compact_idx: Option<u64>,
        local_only: bool,
    ) -> Result<(), CompactionErr> {
        let done = self.try_snapshot(compact_idx, local_only);
        self.compacted(done)
    }

    /// As [`snapshot`](Self::snapshot), without a panic when the storage has failed.
    ///
    /// # Errors
    /// [`TryCompactionErr::Unstorable`] if the storage cannot hold the snapshot,
    /// [`TryCompactionErr::Halted`] if the storage has failed, else as `snapshot`.
    ///
    /// # Panics
    /// If the entry type has no snapshots.
    pub fn try_snapshot(
        &mut self,
        compact_idx: Option<u64>,
        local_only: bool,
    ) -> Result<(), TryCompactionErr> {
        assert!(
            T::Snapshot::use_snapshots(),
            "snapshot() needs an entry type with snapshots: name one with #[snapshot(..)]"
        );
        self.wake("snapshot")?;
        let taken = self.paxos.snapshot(compact_idx, local_only);
        self.finish_compaction(taken)
    }

    /// Gives up the entries before `applied_idx`, which the application at this server has applied
    /// and does not need any more, also after a restart. Every server calls it for itself.
    ///
    /// **With snapshots** it does not matter which others are up: the entries are replaced by a
    /// snapshot here, and a server that comes back and lacks them is sent the snapshot.
    ///
    /// **Without snapshots** nothing but the entries can bring an application forward. So `Ok` means
    /// recorded: this server reports it to the others, again and again, and each gives up the entries
    /// that the applications of *all* servers have applied. Nothing has to be called again until
    /// more is applied. A server that is down, or whose application does not call `compact`, holds
    /// the entries back at all; [`Status::holds_back`](crate::status::Status::holds_back) names it.
    /// What was recorded is kept in memory: an application whose server was restarted calls `compact`
    /// again as it goes on.
    ///
    /// What is compacted already is no error. After a [trim](Self::trim) before any snapshot there
    /// can be none: [`CompactionErr::TrimmedIndex`].
    ///
    /// # Errors
    /// [`CompactionErr::UndecidedIndex`] if `applied_idx` is beyond what is decided here, as it may
    /// be shortly after a restart; [`CompactionErr::TrimmedIndex`] as said above.
    ///
    /// # Panics
    /// If the storage has failed; see [`try_compact`](Self::try_compact).
    ///
    /// # Example
    /// ```
    /// # use omnipaxos::{storage::Snapshot, ClusterConfig, OmniPaxos, ServerConfig};
    /// # use omnipaxos_storage::memory_storage::MemoryStorage;
    /// use omnipaxos::macros::Entry;
    ///
    /// #[derive(Clone, Debug, Entry)]
    /// #[snapshot(Sum)] // without this line, entries stay until all servers have applied them
    /// struct Summand(u64);
    ///
    /// #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    /// struct Sum(u64);
    ///
    /// impl Snapshot<Summand> for Sum {
    ///     fn create(entries: &[Summand]) -> Self {
    ///         Sum(entries.iter().map(|summand| summand.0).sum())
    ///     }
    ///     fn merge(&mut self, delta: Self) {
    ///         self.0 += delta.0;
    ///     }
    ///     fn use_snapshots() -> bool {
    ///         true
    ///     }
    /// }
    ///
    /// # let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    /// # let config = ServerConfig { pid: 1, ..Default::default() };
    /// # let mut replica: OmniPaxos<Summand, MemoryStorage<Summand>> =
    /// #     cluster.build_for_server(config, MemoryStorage::default())?;
    /// # (0..30).for_each(|_| replica.tick());
    /// # for summand in 1..=1000 {
    /// #     replica.append(Summand(summand))?;
    /// # }
    /// # replica.outgoing_messages();
    /// let mut applied_idx = 0;
    /// let mut sum = 0;
    /// // Whenever something was decided (`None` where this server was sent a snapshot:
    /// // `read_decided_suffix` has it, and the state begins with that):
    /// if let Some(end) = replica.for_each_decided(applied_idx, |summand| sum += summand.0) {
    ///     applied_idx = end;
    /// }
    /// if applied_idx >= replica.get_compacted_idx() + 1000 {
    ///     replica.compact(applied_idx)?;
    /// }
    /// # assert_eq!((sum, replica.get_compacted_idx()), (500_500, 1000));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compact(&mut self, applied_idx: u64) -> Result<(), CompactionErr> {
        let done = self.try_compact(applied_idx);
        self.compacted(done)
    }

    /// As [`compact`](Self::compact), without a panic.
    ///
    /// # Errors
    /// [`TryCompactionErr::Unstorable`] if the storage cannot hold the snapshot,
    /// [`TryCompactionErr::Halted`] if the storage has failed, else as `compact`.
    pub fn try_compact(&mut self, applied_idx: u64) -> Result<(), TryCompactionErr> {
        self.check_halted()?;
        if applied_idx <= self.get_compacted_idx() {
            return Ok(());
        }
        match T::Snapshot::use_snapshots() {
            true => self.try_snapshot(Some(applied_idx), true),
            false => {
                self.wake("compact")?;
                let recorded = self.paxos.record_applied(applied_idx);
                self.finish_compaction(recorded)
            }
        }
    }

    /// Replaces the entries before `applied_idx` by `snapshot`: the state of the application after
    /// exactly these entries. Every server calls it for itself, at an index of its own.
    ///
    /// The library does not make this snapshot, so it need not be one that
    /// [`create`](Snapshot::create) and [`merge`](Snapshot::merge) could make. If they cannot, return
    /// false from [`Snapshot::can_create`].
    ///
    /// Afterwards [`read`](Self::read) returns
    /// [`LogEntry::Snapshotted`](crate::util::LogEntry::Snapshotted) for the entries before
    /// `applied_idx`. A server that lacks such entries gets the snapshot in their place. So does the
    /// application at this server after a restart. The next output writes the snapshot; see
    /// [`get_stored_compacted_idx`](Self::get_stored_compacted_idx).
    ///
    /// A snapshot may also take the place of entries that were [trimmed](Self::trim). If the log holds
    /// a snapshot of the same index, that one stays.
    ///
    /// # Errors
    /// In all cases nothing was changed.
    ///
    /// - [`CompactionErr::UndecidedIndex`] if `applied_idx` is above the decided index of this server. A
    ///   restarted server may know of less than it had applied: repeat the call later.
    /// - [`CompactionErr::TrimmedIndex`] if more was compacted here already, so that this state is
    ///   outdated: this server got the snapshot of another one. The application must read that.
    /// - [`TryCompactionErr::NoSnapshots`] if [`Snapshot::use_snapshots`] returns false.
    /// - [`TryCompactionErr::Unstorable`] if the storage cannot hold the snapshot.
    /// - [`TryCompactionErr::Halted`] if the replica has halted.
    ///
    /// # Example
    /// ```
    /// # use omnipaxos::{storage::Snapshot, util::LogEntry, ClusterConfig, OmniPaxos, ServerConfig};
    /// # use omnipaxos_storage::memory_storage::MemoryStorage;
    /// use omnipaxos::macros::Entry;
    ///
    /// /// Adds to a balance, unless that would make it negative.
    /// #[derive(Clone, Debug, Entry)]
    /// #[snapshot(Balance)]
    /// struct Booking(i64);
    ///
    /// #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    /// struct Balance(i64);
    ///
    /// impl Balance {
    ///     fn apply(&mut self, booking: &Booking) {
    ///         if self.0 + booking.0 >= 0 {
    ///             self.0 += booking.0;
    ///         }
    ///     }
    /// }
    ///
    /// impl Snapshot<Booking> for Balance {
    ///     fn create(_: &[Booking]) -> Self {
    ///         unreachable!("can_create() is false: a booking counts only with the balance before it")
    ///     }
    ///     fn merge(&mut self, _: Self) {
    ///         unreachable!("can_create() is false")
    ///     }
    ///     fn use_snapshots() -> bool {
    ///         true
    ///     }
    ///     fn can_create() -> bool {
    ///         false
    ///     }
    /// }
    ///
    /// # let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    /// # let config = ServerConfig { pid: 1, ..Default::default() };
    /// # let mut replica: OmniPaxos<Booking, MemoryStorage<Booking>> =
    /// #     cluster.build_for_server(config, MemoryStorage::default())?;
    /// # (0..30).for_each(|_| replica.tick());
    /// # for booking in [5, -7, 3] {
    /// #     replica.append(Booking(booking))?;
    /// # }
    /// # replica.outgoing_messages();
    /// let mut applied_idx = 0;
    /// let mut balance = Balance(0);
    /// if let Some(end) = replica.for_each_decided(applied_idx, |booking| balance.apply(booking)) {
    ///     applied_idx = end;
    /// }
    /// replica.compact_with(applied_idx, balance.clone())?;
    ///
    /// assert_eq!((applied_idx, &balance), (3, &Balance(8)));
    /// match replica.read(0) {
    ///     Some(LogEntry::Snapshotted(compacted)) => {
    ///         assert_eq!((compacted.trimmed_idx, compacted.snapshot), (3, balance));
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compact_with(
        &mut self,
        applied_idx: u64,
        snapshot: T::Snapshot,
    ) -> Result<(), TryCompactionErr> {
        self.wake("compact_with")?;
        let compacted = match T::Snapshot::use_snapshots() {
            true => self.paxos.compact_with(applied_idx, snapshot),
            false => Err(TryCompactionErr::NoSnapshots),
        };
        self.finish_compaction(compacted)
    }

    fn finish_compaction(
        &mut self,
        result: Result<(), TryCompactionErr>,
    ) -> Result<(), TryCompactionErr> {
        match result {
            Err(TryCompactionErr::Halted(halted)) => Ok(self.end_or_halt(Err(halted))?),
            done @ (Ok(())
            | Err(
                TryCompactionErr::Refused(_)
                | TryCompactionErr::Unstorable(_)
                | TryCompactionErr::NoSnapshots
                | TryCompactionErr::NotFromEntries,
            )) => {
                let idx = self.paxos.log().compacted_idx();
                self.trace.emit(|| match &done {
                    Ok(()) => LogEvent::debug("compacts").at(idx),
                    Err(refused @ TryCompactionErr::Unstorable(_)) => {
                        LogEvent::warn("does not compact").at(idx).because(refused)
                    }
                    Err(refused) => LogEvent::debug("does not compact").at(idx).because(refused),
                });
                self.end();
                done
            }
        }
    }

    /// What the methods of 0.2.2 that compact return.
    fn compacted(&self, result: Result<(), TryCompactionErr>) -> Result<(), CompactionErr> {
        match result {
            Ok(()) => Ok(()),
            Err(TryCompactionErr::Refused(refused)) => Err(refused),
            Err(
                TryCompactionErr::Unstorable(_)
                | TryCompactionErr::NoSnapshots
                | TryCompactionErr::NotFromEntries,
            ) => Err(CompactionErr::TrimmedIndex(self.get_compacted_idx())),
            Err(TryCompactionErr::Halted(halted)) => expect_storage(Err(halted)),
        }
    }
}
