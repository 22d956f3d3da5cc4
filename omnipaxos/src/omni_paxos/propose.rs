//! Proposals of entries and of the next configuration.

use super::{expect_storage, OmniPaxos};
use crate::{
    config::ClusterConfig,
    errors::{ProposeErr, ReconfigurationErr, TryProposeErr},
    members::MemberChange,
    proposals::ProposalId,
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Proposes an entry, at any server of the cluster.
    ///
    /// `Ok` means accepted for retry, not decided: compare
    /// [`get_decided_idx`](Self::get_decided_idx), or use [`propose`](Self::propose). A server that
    /// does not lead forwards the entry until the entry is in its log. So the entry survives lost
    /// messages and changes of leader, and is decided once. `docs/divergence.md` in the repository
    /// lists the exceptions, which do not apply to [`propose`](Self::propose).
    ///
    /// The entry is lost in these cases:
    /// - This server stops before the entry is in the log.
    /// - A stop sign is decided before it.
    /// - In rare cases no server can find out whether the entry is in the log: see
    ///   [`Outcome::Unknown`](crate::proposals::Outcome::Unknown).
    /// - It was appended at a leader that loses leadership before another server has it in its log,
    ///   as in 0.2.2. If
    ///   [`ServerConfig::keeps_undecided_appends`](crate::ServerConfig::keeps_undecided_appends) is
    ///   set, the entry is proposed again instead.
    ///
    /// The server keeps the entry in memory until it is decided, or in its log if this server
    /// leads. [`ServerConfig::max_pending_bytes`](crate::ServerConfig::max_pending_bytes) and
    /// `max_pending_entries` limit these entries. Above the limit an entry is dropped and
    /// [counted](Self::dropped), and so is an entry that [cannot be
    /// stored](TryProposeErr::Unstorable). [`try_append`](Self::try_append) returns it instead.
    ///
    /// # Errors
    /// [`ProposeErr::PendingReconfigEntry`] once a reconfiguration is pending.
    ///
    /// # Panics
    /// If the storage has failed; see [`try_append`](Self::try_append).
    pub fn append(&mut self, entry: T) -> Result<(), ProposeErr<T>> {
        match self.try_append(entry) {
            Ok(()) => Ok(()),
            Err(TryProposeErr::Refused(refused)) => Err(refused),
            Err(TryProposeErr::Busy(_)) => {
                expect_storage(self.begin("append"));
                self.paxos.drop_proposal();
                self.end();
                Ok(())
            }
            Err(TryProposeErr::Unstorable(_, cause)) => {
                expect_storage(self.begin("append"));
                self.paxos.drop_unstorable(1, &cause);
                self.end();
                Ok(())
            }
            Err(TryProposeErr::NoIncarnation(_)) => unreachable!("plain entries need no id"),
            Err(TryProposeErr::Halted(halted)) => expect_storage(Err(halted)),
        }
    }

    /// Proposes an entry as [`append`](Self::append) does, without a panic or a silent drop.
    ///
    /// # Errors
    /// - [`TryProposeErr::Busy`] if the limit of waiting proposals is reached. Contains the entry.
    /// - [`TryProposeErr::Unstorable`] if the entry cannot be stored, as far as this server knows.
    ///   If only the leader knows, this server later drops the entry and [counts](Self::dropped)
    ///   it.
    /// - [`TryProposeErr::Halted`] if the storage has failed.
    /// - Otherwise the errors of `append`.
    ///
    /// # Example
    /// ```
    /// # use omnipaxos::{macros::Entry, ClusterConfig, OmniPaxos, ServerConfig};
    /// # use omnipaxos_storage::memory_storage::MemoryStorage;
    /// use omnipaxos::errors::TryProposeErr;
    ///
    /// # #[derive(Clone, Debug, PartialEq, Entry)]
    /// # struct Word(&'static str);
    /// # let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1, 2], ..Default::default() };
    /// let config = ServerConfig { pid: 1, max_pending_entries: 1, ..Default::default() };
    /// # let mut replica: OmniPaxos<Word, MemoryStorage<Word>> =
    /// #     cluster.build_for_server(config, MemoryStorage::default())?;
    /// // There is no leader yet: the first entry waits, and the limit is reached.
    /// replica.try_append(Word("first"))?;
    /// match replica.try_append(Word("second")) {
    ///     Ok(()) => {}
    ///     Err(TryProposeErr::Busy(word)) => {
    ///         // Keep it and try again after a few ticks, or let the client do so.
    /// #       assert_eq!(word, Word("second"));
    ///     }
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_append(&mut self, entry: T) -> Result<(), TryProposeErr<T>> {
        self.wake("append")?;
        let proposed = self.paxos.append(entry);
        self.end();
        proposed
    }

    /// Proposes an entry, at any server of the cluster, and reports its outcome as an event.
    ///
    /// One call of [`take_events`](Self::take_events) will return
    /// [`ProposalEnded`](crate::events::Event::ProposalEnded), once, with this id.
    ///
    /// The server forwards the entry to the present leader until the entry is decided here.
    /// Messages may be lost, duplicated or delayed, and servers may restart: the entry is decided
    /// once at most. `Decided` is reported after this server has decided the entry, so that it can
    /// be read here. In the same call, [`Decided`](crate::events::Event::Decided) comes before it.
    /// If this server is restarted first, no outcome is reported, since the id is only in memory.
    ///
    /// It costs more than [`append`](Self::append): a clone of the entry, kept until the entry is
    /// decided, and an id that travels with it.
    ///
    /// # Errors
    /// - [`TryProposeErr::Busy`] if the limit of waiting proposals is reached. Contains the entry.
    /// - [`TryProposeErr::Unstorable`] if the entry cannot be stored, as far as this server knows.
    ///   If only the leader knows, the outcome is [`Refused`](crate::proposals::Outcome::Refused).
    /// - [`TryProposeErr::NoIncarnation`] if this server was restarted, and its storage does not
    ///   count incarnations.
    /// - [`TryProposeErr::Refused`] with [`ProposeErr::PendingReconfigEntry`] once a
    ///   reconfiguration is pending.
    /// - [`TryProposeErr::Halted`] if the storage has failed.
    ///
    /// # Example
    /// ```
    /// # use omnipaxos::{macros::Entry, ClusterConfig, OmniPaxos, ServerConfig};
    /// # use omnipaxos_storage::memory_storage::MemoryStorage;
    /// use omnipaxos::{events::Event, proposals::Outcome};
    /// use std::collections::BTreeMap;
    ///
    /// # #[derive(Clone, Debug, PartialEq, Entry)]
    /// # struct Word(&'static str);
    /// # let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    /// # let config = ServerConfig { pid: 1, ..Default::default() };
    /// # let mut replica: OmniPaxos<Word, MemoryStorage<Word>> =
    /// #     cluster.build_for_server(config, MemoryStorage::default())?;
    /// # (0..30).for_each(|_| replica.tick());
    /// let mut clients = BTreeMap::new();
    /// let id = replica.propose(Word("hello"))?;
    /// clients.insert(id, "the client that said hello");
    ///
    /// // Send the messages of `take_outgoing_messages`, handle incoming ones, and then, repeatedly:
    /// # replica.outgoing_messages();
    /// # let mut answered = 0;
    /// for event in replica.take_events() {
    ///     if let Event::ProposalEnded { id, outcome } = event {
    ///         let Some(client) = clients.remove(&id) else { continue };
    ///         match &outcome {
    ///             Outcome::Decided(idx) => println!("{client}: done, at index {idx}"),
    ///             Outcome::DecidedBefore(idx) => println!("{client}: done, before index {idx}"),
    ///             Outcome::NotDecided => println!("{client}: not done; ask the next configuration"),
    ///             Outcome::Refused(why) => println!("{client}: not done, and never will be: {why}"),
    ///             _ => println!("{client}: perhaps done"),
    ///         }
    /// #       assert_eq!(outcome, Outcome::Decided(0));
    /// #       answered += 1;
    ///     }
    /// }
    /// # assert_eq!(answered, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn propose(&mut self, entry: T) -> Result<ProposalId, TryProposeErr<T>> {
        self.wake("propose")?;
        let proposed = self.paxos.propose(entry);
        self.end();
        proposed
    }

    /// Proposes to end this configuration with a stop sign (paper §6), at any server.
    ///
    /// Once [`is_reconfigured`](Self::is_reconfigured) returns a stop sign, nothing more can be
    /// decided here. Then start the servers of `next_config`, each with an empty storage, and give
    /// them what they need of this log. `metadata` travels with the stop sign.
    ///
    /// `Ok` means accepted for retry, not decided: this server forwards the stop sign to the
    /// present leader until a stop sign is decided. It survives lost messages and changes of
    /// leader, also if this server is the leader that is replaced. It does not survive a restart of
    /// this server. [`propose_reconfiguration`](Self::propose_reconfiguration) also reports the
    /// outcome.
    ///
    /// In a log that [continues](crate::ServerConfig::continues) this changes the members, as
    /// [`change_members`](Self::change_members) does with its defaults. Then `append` is not refused.
    ///
    /// Until a stop sign is decided, this server refuses `append`. Entries proposed here before are
    /// appended first, unless that fails for eight heartbeat rounds. Entries that wait at the
    /// leader are appended first, too.
    ///
    /// # Errors
    /// - [`ProposeErr::ConfigError`] if `next_config` is not legal, if its id is not above the
    ///   present one, or if `metadata` is too large to be stored.
    /// - [`ProposeErr::PendingReconfigConfig`] once a reconfiguration is pending.
    ///
    /// # Panics
    /// If the storage has failed; see [`try_reconfigure`](Self::try_reconfigure).
    pub fn reconfigure(
        &mut self,
        next_config: ClusterConfig,
        metadata: Option<Vec<u8>>,
    ) -> Result<(), ProposeErr<T>> {
        match self.try_reconfigure(next_config, metadata) {
            Ok(()) => Ok(()),
            Err(TryProposeErr::Refused(refused)) => Err(refused),
            Err(
                TryProposeErr::Busy(_)
                | TryProposeErr::NoIncarnation(_)
                | TryProposeErr::Unstorable(..),
            ) => {
                unreachable!("only an entry needs room and an id, or is given back as unstorable")
            }
            Err(TryProposeErr::Halted(halted)) => expect_storage(Err(halted)),
        }
    }

    /// Does the same as [`reconfigure`](Self::reconfigure), without a panic.
    ///
    /// # Errors
    /// [`TryProposeErr::Halted`] if the storage has failed, otherwise the errors of `reconfigure`.
    pub fn try_reconfigure(
        &mut self,
        next_config: ClusterConfig,
        metadata: Option<Vec<u8>>,
    ) -> Result<(), TryProposeErr<T>> {
        self.wake("reconfigure")?;
        let proposed =
            self.paxos.reconfigure(next_config, metadata).map_err(TryProposeErr::Refused);
        self.end();
        proposed
    }

    /// Proposes the next configuration, and reports the outcome as an event.
    ///
    /// It does the same as [`reconfigure`](Self::reconfigure). One call of
    /// [`take_events`](Self::take_events) will return
    /// [`ProposalEnded`](crate::events::Event::ProposalEnded), once, with this id. The outcome is
    /// one of these:
    /// - `Decided`, with the index of the stop sign, if this reconfiguration is decided.
    /// - `NotDecided` if another reconfiguration is decided.
    /// - `Refused` if the leader cannot store the metadata. This server can propose again.
    ///
    /// If two servers propose equal stop signs, both report `Decided`. If this server is restarted
    /// first, no outcome is reported.
    ///
    /// # Errors
    /// [`ReconfigurationErr`] contains the reason and the proposed configuration.
    ///
    /// # Example
    /// ```
    /// # use omnipaxos::{macros::Entry, ClusterConfig, OmniPaxos, ServerConfig};
    /// # use omnipaxos_storage::memory_storage::MemoryStorage;
    /// use omnipaxos::{events::Event, proposals::Outcome};
    ///
    /// # #[derive(Clone, Debug, PartialEq, Entry)]
    /// # struct Word(&'static str);
    /// # let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    /// # let config = ServerConfig { pid: 1, ..Default::default() };
    /// # let mut replica: OmniPaxos<Word, MemoryStorage<Word>> =
    /// #     cluster.build_for_server(config, MemoryStorage::default())?;
    /// # (0..30).for_each(|_| replica.tick());
    /// let next = ClusterConfig { configuration_id: 2, nodes: vec![1, 2, 3], ..Default::default() };
    /// let id = replica.propose_reconfiguration(next, None)?;
    ///
    /// // Send the messages of `take_outgoing_messages`, handle incoming ones, and then, repeatedly:
    /// # replica.outgoing_messages();
    /// let events = replica.take_events();
    /// assert!(events.contains(&Event::ProposalEnded { id, outcome: Outcome::Decided(0) }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn propose_reconfiguration(
        &mut self,
        next_config: ClusterConfig,
        metadata: Option<Vec<u8>>,
    ) -> Result<ProposalId, ReconfigurationErr> {
        self.wake("propose_reconfiguration")?;
        let change = MemberChange { metadata, ..MemberChange::default() };
        let proposed = self.paxos.propose_reconfiguration(next_config, change);
        self.end();
        proposed
    }

    /// Changes the members of a log that [continues](crate::ServerConfig::continues), at any server.
    ///
    /// First the servers that join catch up, as observers. Start them with
    /// [`OmniPaxosConfig::observe`](crate::OmniPaxosConfig::observe), before or after this call. Then the
    /// stop sign is decided, and the next configuration continues the log. Proposals and reads continue
    /// meanwhile. [`status`](Self::status) has the progress of the servers that join.
    ///
    /// One call of [`take_events`](Self::take_events) will return
    /// [`ProposalEnded`](crate::events::Event::ProposalEnded), once, with this id. The outcome is one of
    /// these:
    /// - `Decided`, with the index of the stop sign.
    /// - `NotDecided` if another change was decided first. Nothing of this one happened.
    /// - `NotJoined` if servers did not catch up. Nothing has changed.
    /// - `Refused` if the leader cannot store the metadata. Nothing has changed.
    /// - `Unknown` if this server learned a snapshot in place of a stop sign. Read
    ///   [`Status::nodes`](crate::status::Status::nodes).
    ///
    /// If this server restarts, no outcome is reported. A change that still waits has ended then.
    ///
    /// # Errors
    /// [`ReconfigurationErr`] contains the reason. `EndsHere` if the log does not continue.
    ///
    /// # Example
    /// Server 1 is alone, and server 2 joins it:
    ///
    /// ```
    /// use omnipaxos::{
    ///     events::Event, macros::Entry, members::MemberChange, proposals::Outcome, ClusterConfig,
    ///     OmniPaxos, OmniPaxosConfig, ServerConfig,
    /// };
    /// use omnipaxos_storage::memory_storage::MemoryStorage;
    ///
    /// # #[derive(Clone, Debug, Entry)]
    /// # struct Number(u64);
    /// #
    /// let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    /// let server = ServerConfig { pid: 1, continues: true, ..Default::default() };
    /// let mut one: OmniPaxos<Number, MemoryStorage<Number>> =
    ///     cluster.build_for_server(server, MemoryStorage::default())?;
    /// let server = ServerConfig { pid: 2, ..Default::default() };
    /// let mut two = OmniPaxosConfig::observe(server, &[1]).build(MemoryStorage::default())?;
    ///
    /// let next = ClusterConfig { configuration_id: 2, nodes: vec![1, 2], ..Default::default() };
    /// let change = one.change_members(next, MemberChange::default())?;
    /// for _ in 0..100 {
    ///     one.tick();
    ///     two.tick();
    ///     one.outgoing_messages().into_iter().for_each(|message| two.handle_incoming(message));
    ///     two.outgoing_messages().into_iter().for_each(|message| one.handle_incoming(message));
    /// }
    /// let ended = Event::ProposalEnded { id: change, outcome: Outcome::Decided(0) };
    /// assert!(one.take_events().contains(&ended));
    /// assert_eq!(two.status().nodes, [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn change_members(
        &mut self,
        next_config: ClusterConfig,
        change: MemberChange,
    ) -> Result<ProposalId, ReconfigurationErr> {
        if !self.config.server_config.continues {
            return Err(ReconfigurationErr::EndsHere(next_config, change.metadata));
        }
        self.wake("change_members")?;
        let proposed = self.paxos.propose_reconfiguration(next_config, change);
        self.end();
        proposed
    }
}
