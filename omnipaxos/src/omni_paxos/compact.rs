//! Compaction of the log: trims and snapshots.

use super::{expect_storage, OmniPaxos};
use crate::{
    errors::{CompactionErr, TryCompactionErr},
    observe::trace::LogEvent,
    storage::{Entry, Snapshot, Storage},
};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Trims the log: removes the entries before `trim_idx` at all servers.
    ///
    /// With `None` it removes all entries that every server has accepted. Only the leader can trim;
    /// the other servers follow later. Entries that some server has not accepted cannot be trimmed,
    /// since no server could send them any more.
    ///
    /// A trim does not ask the applications. An application that has not applied the entries reads
    /// [`LogEntry::Trimmed`](crate::util::LogEntry::Trimmed) in their place.
    /// [`compact`](Self::compact) waits for all applications.
    ///
    /// If a snapshot stands for earlier entries, a trim adds the trimmed entries to it.
    ///
    /// # Errors
    /// [`CompactionErr`] contains the reason, and the index or leader that matters.
    ///
    /// # Panics
    /// If the storage has failed; see [`try_trim`](Self::try_trim).
    pub fn trim(&mut self, trim_idx: Option<u64>) -> Result<(), CompactionErr> {
        let done = self.try_trim(trim_idx);
        self.compacted(done)
    }

    /// Does the same as [`trim`](Self::trim), without a panic.
    ///
    /// # Errors
    /// - [`TryCompactionErr::Unstorable`] if the storage cannot hold the snapshot.
    /// - [`TryCompactionErr::Halted`] if the storage has failed.
    /// - Otherwise the errors of `trim`.
    pub fn try_trim(&mut self, trim_idx: Option<u64>) -> Result<(), TryCompactionErr> {
        self.wake("trim")?;
        let trimmed = self.paxos.trim(trim_idx);
        self.finish_compaction(trimmed)
    }

    /// Replaces the entries before `compact_idx` by a snapshot.
    ///
    /// With `None` it replaces all decided entries. Unless `local_only` is set, this server asks
    /// the other servers to do the same, until each has answered or this server stops.
    ///
    /// # Errors
    /// [`CompactionErr`] contains the reason, and the index that matters. After a trim without a
    /// snapshot, no snapshot is possible: [`CompactionErr::TrimmedIndex`].
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

    /// Does the same as [`snapshot`](Self::snapshot), without a panic when the storage has failed.
    ///
    /// # Errors
    /// - [`TryCompactionErr::Unstorable`] if the storage cannot hold the snapshot.
    /// - [`TryCompactionErr::Halted`] if the storage has failed.
    /// - Otherwise the errors of `snapshot`.
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

    /// Removes the entries before `applied_idx`, which the application at this server has applied.
    ///
    /// The application does not need these entries any more, also after a restart. Every server
    /// calls this for itself.
    ///
    /// **With snapshots** this server replaces the entries by a snapshot. The state of the other
    /// servers does not matter: a server that returns and lacks the entries receives the snapshot.
    ///
    /// **Without snapshots** an application can only continue from the entries. So `Ok` means that
    /// the index is recorded: this server reports it to the others until they have confirmed it.
    /// Each server removes the entries that the applications of *all* servers have applied. An
    /// observer asks no other server; if the log continues, it waits until its sources have removed
    /// them. The program need not repeat a call. If a server is down, or its application does not call
    /// `compact`, all servers keep the entries;
    /// [`Status::holds_back`](crate::status::Status::holds_back) names that server. The index is
    /// kept in memory: after a restart of its server, an application calls `compact` again as it
    /// continues.
    ///
    /// Compacting entries that are compacted already is no error. After a [trim](Self::trim)
    /// without a snapshot, no snapshot is possible: [`CompactionErr::TrimmedIndex`].
    ///
    /// # Errors
    /// - [`CompactionErr::UndecidedIndex`] if `applied_idx` is above the decided index of this
    ///   server, which may be lower shortly after a restart.
    /// - [`CompactionErr::TrimmedIndex`] after a trim without a snapshot.
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
    /// // After entries were decided (`None` if this server received a snapshot: then
    /// // `read_decided_suffix` returns it, and the state begins with it):
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

    /// Does the same as [`compact`](Self::compact), without a panic.
    ///
    /// # Errors
    /// - [`TryCompactionErr::Unstorable`] if the storage cannot hold the snapshot.
    /// - [`TryCompactionErr::Halted`] if the storage has failed.
    /// - Otherwise the errors of `compact`.
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

    /// Replaces the entries before `applied_idx` by `snapshot`, made by the application.
    ///
    /// `snapshot` is the state of the application after exactly these entries. Every server calls
    /// this for itself, at an index of its own.
    ///
    /// The library does not make this snapshot, so it need not be one that
    /// [`create`](Snapshot::create) and [`merge`](Snapshot::merge) could make. If they cannot, return
    /// false from [`Snapshot::can_create`].
    ///
    /// Afterwards [`read`](Self::read) returns
    /// [`LogEntry::Snapshotted`](crate::util::LogEntry::Snapshotted) for the entries before
    /// `applied_idx`. A server that lacks such entries gets the snapshot in their place. So does
    /// the application at this server after a restart. The next output writes the snapshot. If the
    /// entries before `applied_idx` are stored, the storage may make the snapshot durable later:
    /// see [`get_stored_compacted_idx`](Self::get_stored_compacted_idx). Otherwise the output waits
    /// for it. So call this after an output, not between an input and the output.
    ///
    /// A snapshot may also take the place of entries that were [trimmed](Self::trim). If the log holds
    /// a snapshot of the same index, that one stays.
    ///
    /// # Errors
    /// In all cases nothing was changed.
    ///
    /// - [`CompactionErr::UndecidedIndex`] if `applied_idx` is above the decided index of this
    ///   server. A restarted server may know of fewer entries than its application has applied:
    ///   repeat the call later. The last of these entries may be a stop sign after which the log
    ///   [continues](crate::ServerConfig::continues). Then the call also fails until the next
    ///   output begins that configuration.
    /// - [`CompactionErr::TrimmedIndex`] if more entries are compacted here already: this server
    ///   received the snapshot of another one, so this state is outdated. The application must read
    ///   that snapshot.
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

    /// Converts to the result of the methods of 0.2.2 that compact.
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
