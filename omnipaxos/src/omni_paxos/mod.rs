//! The replica: connects the parts, which do not know each other.

mod build;
mod clock;
mod compact;
mod configurations;
mod epochs;
mod events;
mod identity;
mod leader_transfer;
mod output;
mod propose;
mod read;
mod reads;
mod status;
mod storage;
#[cfg(test)]
mod threads;

use self::epochs::Retirement;
use crate::{
    ballot::Ballot,
    ballot_leader_election::{BallotLeaderElection, Peer, Round},
    config::OmniPaxosConfig,
    errors::{with_causes, Halted, StorageFailed},
    ids::NodeId,
    messages::{
        ballot_leader_election::{BLEMessage, HeartbeatMsg},
        sequence_paxos::PaxosMessage,
        validate::{Dropped, MessageValidator, Validity},
        Message,
    },
    observe::{
        events::LastReported,
        metrics,
        trace::{LogEvent, Trace},
    },
    sequence_paxos::{Contact, LeaderRound, LeadershipChange, Needs, Relay, SequencePaxos},
    storage::{Entry, StopSign, Storage},
};
use std::{collections::BTreeSet, error::Error, sync::OnceLock};

/// One server of a replicated log.
///
/// A deterministic state machine without I/O, threads or clock. The same inputs give the same
/// outputs.
///
/// - **Inputs** change the state in memory: [`append`](Self::append),
///   [`reconfigure`](Self::reconfigure), [`handle_incoming`](Self::handle_incoming),
///   [`tick`](Self::tick), [`trim`](Self::trim), [`snapshot`](Self::snapshot),
///   [`compact`](Self::compact), [`reconnected`](Self::reconnected),
///   [`set_priority`](Self::set_priority), [`try_become_leader`](Self::try_become_leader),
///   [`request_read`](Self::request_read), [`transfer_leadership`](Self::transfer_leadership). They
///   may come in any order, from one thread.
/// - **Outputs**: [`take_outgoing_messages`](Self::take_outgoing_messages) writes all changes to
///   the storage at once, and then returns the messages. Call it after inputs, also in a cluster of
///   one server, where it returns no message: a change survives a restart only after an output. If
///   more inputs come between two outputs, writes and messages are fewer and larger. The network
///   may lose, duplicate, delay and reorder messages. A new replica has messages to send at once.
///   [`take_events`](Self::take_events) returns the events since its last call.
///   [`into_storage`](Self::into_storage) ends the replica.
/// - **Questions** are all methods with `&self`. Their answers may be ahead of the storage.
///
/// # Storage failures
/// When the storage fails, the replica halts: it sends no further message, so that it never claims
/// entries that its disk does not hold. Then methods that have a twin `try_*` panic, at this call
/// and at every later one. The twin returns [`Halted`] instead. [`halted`](Self::halted) returns
/// the reason. Reads still return entries that were decided and stored before. To continue, open
/// the storage again and build a new replica.
///
/// A read that fails does not halt the replica: the `try_*` methods that read return
/// [`StorageFailed`](crate::errors::StorageFailed), and the replica continues.
///
/// # Panics in user code
/// Inputs and outputs call user code: the storage, `Clone`, `Debug`, `Drop` and `size_hint`
/// of entries, snapshots, a logger, a recorder of metrics. If that code panics and the caller
/// catches the panic, the replica has halted, as after a storage failure: the effect of the
/// interrupted input is not known. A panic in a method with `&self` changes nothing.
///
/// # Example
/// Three servers run in one process; a real server sends the messages over its network.
///
/// ```
/// use omnipaxos::{macros::Entry, messages::Message, util::LogEntry};
/// use omnipaxos::{ClusterConfig, OmniPaxos, ServerConfig};
/// use omnipaxos_storage::memory_storage::MemoryStorage;
///
/// #[derive(Clone, Debug, PartialEq, Entry)]
/// struct KeyValue {
///     key: String,
///     value: u64,
/// }
///
/// let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
/// let mut servers: Vec<OmniPaxos<KeyValue, MemoryStorage<KeyValue>>> = (1..=3)
///     .map(|pid| {
///         let server = ServerConfig { pid, ..Default::default() };
///         cluster.clone().build_for_server(server, MemoryStorage::default())
///     })
///     .collect::<Result<_, _>>()?;
///
/// let mut run = |servers: &mut Vec<OmniPaxos<KeyValue, _>>| {
///     for _tick in 0..30 {
///         servers.iter_mut().for_each(OmniPaxos::tick);
///         loop {
///             let mut messages = Vec::new();
///             for server in servers.iter_mut() {
///                 server.take_outgoing_messages(&mut messages);
///             }
///             if messages.is_empty() {
///                 break;
///             }
///             for message in messages {
///                 servers[message.get_receiver() as usize - 1].handle_incoming(message);
///             }
///         }
///     }
/// };
/// run(&mut servers);
///
/// let entry = KeyValue { key: "a".into(), value: 1 };
/// servers[1].append(entry.clone()).expect("no reconfiguration is pending");
/// run(&mut servers);
/// for server in &servers {
///     assert_eq!(server.read_decided_suffix(0), Some(vec![LogEntry::Decided(entry.clone())]));
/// }
/// # Ok::<(), omnipaxos::errors::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct OmniPaxos<T: Entry, B: Storage<T>> {
    pid: NodeId,
    validator: MessageValidator,
    ble: BallotLeaderElection,
    paxos: SequencePaxos<T, B>,
    /// The input that runs. If it has not ended when the next begins, the replica has halted: the
    /// storage failed, or user code panicked.
    input: Option<&'static str>,
    /// Why the replica has halted. For a panic it is made at the first question.
    halted: OnceLock<Halted>,
    last_reported: LastReported,
    trace: Trace,
    /// Whether nothing has happened since the last output, after which no message and no write was
    /// due.
    is_idle: bool,
    /// The configuration of this server; the members are those of the present epoch.
    config: OmniPaxosConfig,
    retirement: Option<Retirement>,
    /// The removed servers that know the present epoch, if the log continues.
    aware: BTreeSet<NodeId>,
    /// The servers that this one knew in earlier epochs.
    earlier_peers: BTreeSet<NodeId>,
    /// A Prepare of the epoch that the next output begins.
    early_prepare: Option<Message<T>>,
}

/// Panics if the storage has failed. No other place does.
fn expect_storage<R, E: Error + 'static>(result: Result<R, E>) -> R {
    match result {
        Ok(value) => value,
        Err(failed) => panic!("{}", with_causes(&failed)),
    }
}

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Handles a message from another server.
    ///
    /// A message that is not valid at this replica is dropped and counted: see
    /// [`dropped`](Self::dropped).
    ///
    /// # Panics
    /// If the storage has failed; see [`try_handle_incoming`](Self::try_handle_incoming). No
    /// message makes it panic.
    pub fn handle_incoming(&mut self, message: Message<T>) {
        expect_storage(self.try_handle_incoming(message));
    }

    /// Does the same as [`handle_incoming`](Self::handle_incoming), without a panic.
    ///
    /// # Errors
    /// The storage has failed.
    pub fn try_handle_incoming(&mut self, message: Message<T>) -> Result<(), Halted> {
        self.begin("handle_incoming")?;
        if self.validator.check(&message, self.ble.highest_n()) == Validity::Invalid {
            if self.config.server_config.continues {
                self.ask_of_later_epoch();
                self.hold_prepare(&message);
            }
            drop(message);
            let is_identity_told = self.validator.identities().is_unstored();
            self.is_idle &= !is_identity_told && !self.validator.others().is_notice_due();
            self.log_conflicts();
            self.input = None;
            return Ok(());
        }
        self.is_idle = false;
        let handled = match message {
            Message::SequencePaxos(message) => self.handle_paxos(message),
            Message::BLE(BLEMessage { from, msg: HeartbeatMsg::Request(request), .. })
                if request.observes =>
            {
                self.ble.handle_observer(from, request.round);
                Ok(())
            }
            Message::BLE(message) => {
                if let HeartbeatMsg::Request(request) = &message.msg {
                    self.paxos.handle_max_entry_bytes(message.from, request.max_entry_bytes);
                }
                match self.ble.handle(message.from, message.msg) {
                    Peer::OutOfDate => {}
                    Peer::Asks if self.ble.answered_lately(message.from) => {}
                    Peer::Asks => self.paxos.asked_by_silent(message.from),
                    Peer::Answers => self.paxos.note_reachable(message.from),
                    Peer::Back => {
                        self.paxos.note_reachable(message.from);
                        self.paxos.reconnected(message.from);
                    }
                }
                if self.ble.asks_again(message.from) {
                    self.paxos.repeat_with_request_to(message.from);
                }
                self.sync_election()
            }
        };
        self.end_or_halt(handled)
    }

    fn handle_paxos(&mut self, message: PaxosMessage<T>) -> Result<(), Halted> {
        self.paxos.handle(message)?;
        self.sync_election()
    }

    /// Lets one tick pass.
    ///
    /// The timeouts of [`ServerConfig`](crate::ServerConfig) count these calls. An interval of 10
    /// ms suits a LAN.
    ///
    /// # Panics
    /// If the storage has failed; see [`try_tick`](Self::try_tick).
    pub fn tick(&mut self) {
        expect_storage(self.try_tick());
    }

    /// Does the same as [`tick`](Self::tick), without a panic.
    ///
    /// # Errors
    /// The storage has failed.
    pub fn try_tick(&mut self) -> Result<(), Halted> {
        self.wake("tick")?;
        self.paxos.tick(|pid| self.ble.answered(pid));
        let needs = self.paxos.needs();
        let round = self.ble.tick(|quorum, servers| match needs {
            Needs::ToPrepare => quorum.can_prepare(servers),
            Needs::ToAccept => quorum.can_accept(servers),
        });
        if round == Round::Ended {
            if self.paxos.has_decided_as_leader() {
                self.ble.note_success(self.paxos.log().promise());
            }
            self.ble.note_lack_of_entries(self.paxos.trimmed_at_source().is_some());
            self.note_holders();
            if self.config.server_config.continues {
                self.notify_removed_servers();
                self.ask_beyond_members();
            }
            self.validator.end_round();
            let contact = match self.ble.is_happy() && !self.paxos.is_observer() {
                true if self.ble.misses_requests() => Contact::Unheard,
                true => Contact::Kept,
                // An observer gets only answers to its requests.
                false => Contact::Lost,
            };
            let observers = self.validator.observers();
            self.paxos.forget_observers(|pid| observers.contains(pid));
            let leader = self.ble.leader();
            let relay = self.ble.relay().map(|peer| Relay { leader, peer });
            let reported = self.ble.leader_round().map(|round| LeaderRound { leader, round });
            self.paxos.end_round(|pid| self.ble.answered(pid), contact, reported, relay);
            if self.paxos.is_stalled() {
                self.ble.note_stall();
            }
        }
        let carried = self.sync_election();
        if round == Round::Ended && carried.is_ok() {
            metrics::record(|| self.status_as(self.paxos.role(), self.paxos.log().decided_idx()));
        }
        self.end_or_halt(carried)
    }

    /// Reports that the connection to server `pid` was lost and is restored.
    ///
    /// The replica would also notice that from heartbeats, but later.
    pub fn reconnected(&mut self, pid: NodeId) {
        if self.wake("reconnected").is_ok() {
            self.paxos.reconnected(pid);
            self.end();
        }
    }

    /// Sets the priority that this server has when it takes over the next time.
    ///
    /// Of servers that take over at the same time, the one with the highest priority wins.
    pub fn set_priority(&mut self, priority: u32) {
        self.is_idle = false;
        self.ble.set_priority(priority);
    }

    /// Takes over from the present leader, if there is one. This succeeds only with a quorum.
    ///
    /// - A server continues in its ballot if it leads, or asks for promises, in the highest ballot.
    /// - A server that took over through this call, and was overtaken, does so again only after as
    ///   many heartbeat rounds as there are servers.
    ///
    /// So a program may call this as often as it likes.
    ///
    /// # Panics
    /// If the storage has failed.
    pub fn try_become_leader(&mut self) {
        expect_storage(self.wake("try_become_leader"));
        self.ble.be_asked_to_lead();
        let carried = self.sync_election();
        expect_storage(self.end_or_halt(carried));
    }

    /// Returns why the replica has halted: its storage failed, or user code panicked.
    pub fn halted(&self) -> Option<&Halted> {
        self.input.map(|input| self.halted.get_or_init(|| Halted::in_input(input)))
    }

    /// Returns the numbers of dropped messages and proposals, by reason.
    ///
    /// Validation drops messages. Proposals are dropped for lack of room, or since they cannot be
    /// stored.
    pub fn dropped(&self) -> Dropped {
        Dropped {
            proposals: self.paxos.dropped_proposals(),
            unstorable: self.paxos.dropped_unstorable(),
            undecodable_snapshots: self.paxos.undecodable_snapshots(),
            oversized_snapshots: self.paxos.oversized_snapshots(),
            ..self.validator.dropped()
        }
    }

    /// Returns the number of entries decided here. All entries before this index are final.
    ///
    /// A replica that has [halted](Self::halted) counts only decided entries that are stored.
    pub fn get_decided_idx(&self) -> u64 {
        match self.input {
            None => self.paxos.log().decided_idx(),
            Some(_halted_in) => self.paxos.log().stored_decided_idx(),
        }
    }

    /// Returns the number of proposals that wait here for a full batch.
    ///
    /// [`ServerConfig::batch_size`](crate::ServerConfig::batch_size) sets the size of a batch.
    pub fn get_batched_len(&self) -> usize {
        self.paxos.batched_len()
    }

    /// Returns the number of entries trimmed here or replaced by a snapshot.
    pub fn get_compacted_idx(&self) -> u64 {
        self.paxos.log().compacted_idx().min(self.get_decided_idx())
    }

    /// Returns the number of entries whose compaction is durable here. After a crash this server
    /// starts with the snapshot of this index, or of a higher one.
    ///
    /// It may be lower than [`get_compacted_idx`](Self::get_compacted_idx) until the snapshot of the
    /// last compaction is durable. The next output begins to write it; see
    /// [`Storage::write_compaction`]. Keep what an earlier snapshot refers to, such as a file, until
    /// this index has reached that of the later snapshot.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn get_stored_compacted_idx(&self) -> Result<u64, StorageFailed> {
        self.paxos.log().stored_compacted_idx().map_err(StorageFailed::new)
    }

    /// Returns the length of the log here, decided or not.
    pub fn get_accepted_idx(&self) -> u64 {
        self.paxos.log().len()
    }

    /// Returns the id of this server.
    pub fn get_pid(&self) -> NodeId {
        self.pid
    }

    /// Returns the leader that this server knows; `None` if it knows none. It may be out of date.
    pub fn get_current_leader(&self) -> Option<NodeId> {
        self.paxos.leader()
    }

    /// Returns the highest ballot that this server has promised.
    pub fn get_promise(&self) -> Ballot {
        self.paxos.log().promise()
    }

    /// Returns the decided stop sign, if this configuration has ended.
    pub fn is_reconfigured(&self) -> Option<StopSign> {
        let log = self.paxos.log();
        match log.continues() {
            true => None,
            false => log.stopsign_before(self.get_decided_idx()).cloned(),
        }
    }

    /// Passes changes between the election and Sequence Paxos, which do not know each other.
    fn sync_election(&mut self) -> Result<(), Halted> {
        let promise = self.paxos.log().promise();
        if self.ble.is_settled_on(promise) && self.paxos.is_settled_on(promise) {
            return Ok(());
        }
        self.ble.promise(promise);
        if let Some(ballot) = self.paxos.followed_ballot() {
            self.ble.follow(ballot);
        }
        match self.paxos.take_leadership_change() {
            None => {}
            Some(LeadershipChange::Preempted(ballot)) => self.ble.be_preempted(ballot),
            Some(LeadershipChange::Resigned) => self.ble.resign(),
            Some(LeadershipChange::NotPromised(rounds)) => self.ble.rest(rounds),
            Some(LeadershipChange::Transferred) => self.ble.take_over_on_transfer(),
        }
        self.paxos.handle_elected(self.ble.leader())
    }

    /// Begins an input that may cause messages or writes in the next output.
    #[inline]
    fn wake(&mut self, input: &'static str) -> Result<(), Halted> {
        self.is_idle = false;
        self.begin(input)
    }

    /// Begins an input. Until it [ends](Self::end), the replica counts as halted.
    #[inline]
    fn begin(&mut self, input: &'static str) -> Result<(), Halted> {
        self.check_halted()?;
        self.input = Some(input);
        Ok(())
    }

    #[inline]
    fn check_halted(&self) -> Result<(), Halted> {
        match self.input {
            None => Ok(()),
            Some(input) => Err(self.halted_in(input)),
        }
    }

    #[cold]
    fn halted_in(&self, input: &'static str) -> Halted {
        self.halted.get_or_init(|| Halted::in_input(input)).clone()
    }

    /// Ends an input in which the storage did not fail.
    #[inline]
    fn end(&mut self) {
        self.paxos.check_invariants();
        self.input = None;
    }

    /// Ends an input: halts if the storage failed.
    #[inline]
    fn end_or_halt(&mut self, result: Result<(), Halted>) -> Result<(), Halted> {
        match result {
            Ok(()) => {
                self.end();
                Ok(())
            }
            Err(halted) => Err(self.halt(halted)),
        }
    }

    #[cold]
    fn halt(&mut self, halted: Halted) -> Halted {
        let halted = self.halted.get_or_init(|| halted).clone();
        self.trace.emit(|| LogEvent::error("halted").because(with_causes(&halted)));
        metrics::record(|| self.status());
        halted
    }
}
