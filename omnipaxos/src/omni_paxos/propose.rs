//! Proposing: entries, and the configuration that follows.

use super::{expect_storage, OmniPaxos};
use crate::{
    config::ClusterConfig,
    errors::{ProposeErr, ReconfigurationErr, TryProposeErr},
    proposals::ProposalId,
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Proposes an entry, at any server of the cluster.
    ///
    /// `Ok` means that it was taken, not that it is decided: watch
    /// [`get_decided_idx`](Self::get_decided_idx), or [propose](Self::propose) it. A server that
    /// does not lead forwards it, and forwards it again until it is in the log; so it outlives lost
    /// messages and leaders, and is decided once (`docs/divergence.md` in the repository has the
    /// exceptions, which [`propose`](Self::propose) does not have). It is lost if this server stops
    /// first, if a stop sign gets into the log before it, or, rarely, if nobody can tell any more
    /// whether it is in the log: see [`Outcome::Unknown`](crate::proposals::Outcome::Unknown). A
    /// leader drops what was appended there if it loses leadership before another server has that
    /// in its log, as in 0.2.2;
    /// [`ServerConfig::keeps_undecided_appends`](crate::ServerConfig::keeps_undecided_appends) has
    /// it proposed again.
    ///
    /// Until it is decided, or in the log of this server as the leader, it is kept in memory. As many
    /// are as [`ServerConfig::max_pending_bytes`](crate::ServerConfig::max_pending_bytes) and
    /// `max_pending_entries` allow. Beyond that an entry is dropped and [counted](Self::dropped), and
    /// so is one that [cannot be stored](TryProposeErr::Unstorable);
    /// [`try_append`](Self::try_append) gives it back instead.
    ///
    /// # Errors
    /// [`ProposeErr::PendingReconfigEntry`] once a reconfiguration is on its way.
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

    /// As [`append`](Self::append), without a panic, and without dropping what finds no room here.
    ///
    /// # Errors
    /// [`TryProposeErr::Busy`] gives the entry back if as many wait as may wait,
    /// [`TryProposeErr::Unstorable`] if it cannot be stored, as far as this server can tell: a leader
    /// that knows better drops and [counts](Self::dropped) it here later.
    /// [`TryProposeErr::Halted`] says that the storage has failed; else as `append`.
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
    /// // There is no leader yet: as many entries wait as may wait.
    /// replica.try_append(Word("first"))?;
    /// match replica.try_append(Word("second")) {
    ///     Ok(()) => {}
    ///     Err(TryProposeErr::Busy(word)) => {
    ///         // Keep it and try again after a few ticks, or tell the client to.
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

    /// Proposes an entry, at any server of the cluster, and follows it to its end: one of
    /// [`take_events`](Self::take_events) will be
    /// [`ProposalEnded`](crate::events::Event::ProposalEnded), once, with this id.
    ///
    /// The entry is forwarded to whoever leads until it is seen in the log, decided. However often
    /// that takes, and whatever is lost, doubled, delayed or restarted meanwhile, it is decided
    /// once at most. `Decided` is told once this server has decided the entry, so that it can be
    /// read here; in the same call [`Decided`](crate::events::Event::Decided) comes first. An
    /// outcome is not told if this server is restarted first: then nobody remembers the id.
    ///
    /// It costs more than [`append`](Self::append): a clone of the entry, which is kept until it is
    /// decided, and an id that travels with it.
    ///
    /// # Errors
    /// [`TryProposeErr::Busy`] gives the entry back if as many wait as may wait,
    /// [`TryProposeErr::Unstorable`] if it cannot be stored, as far as this server can tell: a leader
    /// that knows better ends it as [`Refused`](crate::proposals::Outcome::Refused).
    /// [`TryProposeErr::NoIncarnation`] if this server was restarted over a storage that does not count
    /// its incarnations; [`TryProposeErr::Refused`] holds
    /// [`ProposeErr::PendingReconfigEntry`] once a reconfiguration is on its way;
    /// [`TryProposeErr::Halted`] says that the storage has failed.
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
    /// // Send what `take_outgoing_messages` gives, and handle what comes; then, now and again:
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
    /// Once [`is_reconfigured`](Self::is_reconfigured) tells that it is decided, nothing can be
    /// decided here any more: start the servers of `next_config`, each with an empty storage, and
    /// hand them whatever they need of this log. `metadata` travels with the stop sign.
    ///
    /// `Ok` means accepted for retry, not decided: the stop sign is forwarded to whoever leads
    /// until it is decided, or another is. It outlives lost messages and leaders, also this server
    /// as a leader that is replaced, but not a restart of this server.
    /// [`propose_reconfiguration`](Self::propose_reconfiguration) also reports how it ended. Until
    /// then `append` is refused here. What was proposed here before gets into the log first, unless
    /// it finds no way there for eight heartbeat rounds; so does what waits at the leader.
    ///
    /// # Errors
    /// [`ProposeErr::ConfigError`] if `next_config` is not legal or its id not above this one's, or if
    /// the stop sign cannot be stored, since `metadata` is too large;
    /// [`ProposeErr::PendingReconfigConfig`] once a reconfiguration is on its way.
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

    /// As [`reconfigure`](Self::reconfigure), without a panic.
    ///
    /// # Errors
    /// [`TryProposeErr::Halted`] if the storage has failed, else as `reconfigure`.
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

    /// As [`reconfigure`](Self::reconfigure), and follows the reconfiguration to its end: one of
    /// [`take_events`](Self::take_events) will be
    /// [`ProposalEnded`](crate::events::Event::ProposalEnded), once, with this id. The outcome is
    /// `Decided` with the index of the stop sign if this reconfiguration is decided, and `NotDecided` if
    /// another is; it is known in either case. Two servers that propose equal stop signs are both told
    /// `Decided`. An outcome is not told if this server is restarted first.
    ///
    /// # Errors
    /// [`ReconfigurationErr`] names the reason and returns what was proposed.
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
    /// // Send what `take_outgoing_messages` gives, and handle what comes; then, now and again:
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
        let proposed = self.paxos.propose_reconfiguration(next_config, metadata);
        self.end();
        proposed
    }
}
