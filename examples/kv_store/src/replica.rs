//! The task that owns the replica. All others talk to it through channels.

use crate::{
    config::Config,
    members::{self, Addresses, Changes, Found, Members},
    proposals::Proposals,
    protocol::{Answer, Ask, Request, Response, Status, Why},
    reads::Reads,
    state::{Applied, Change, Command, Known, State},
    transfers::Transfers,
    waiter::{Waiter, Watchers},
};
use anyhow::{anyhow, bail, Result};
use example_net::{Clock, Peers};
use omnipaxos::{
    errors::{Halted, ReconfigurationErr, TryCompactionErr, TryProposeErr},
    events::Event,
    members::MemberChange,
    messages::Message,
    storage::Storage,
    util::{LogEntry, NodeId},
    ClusterConfig, OmniPaxos,
};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

/// The time of a tick.
const TICK: Duration = Duration::from_millis(10);

/// Inputs that are handled before messages are built and the disk is written.
const BATCH: usize = 1024;

/// Ticks after which watchers that went away are forgotten.
const CLEAN_EVERY: u64 = 500;

/// A change of the members is given up when a server that is to join makes no progress for so many
/// heartbeat rounds.
const MOST_SILENT_ROUNDS: u32 = 25;

/// Ticks for which a removed server that is not needed goes on, so that its clients learn where the
/// members are.
const FAREWELL: u64 = 200;

/// The same where this server does not know yet where clients find the members.
const LONGEST_FAREWELL: u64 = 1000;

/// What the other tasks have to say.
pub(crate) type Input = example_net::Input<Command, Request, Response>;

/// The replica and the state that its log makes.
///
/// Everything that can meet a failure of the storage is asked through the `try_*` methods: a
/// replica that has halted ends the server, and panics nowhere.
pub(crate) struct Replica<B: Storage<Command>> {
    omni_paxos: OmniPaxos<Command, B>,
    peers: Peers<Command>,
    /// For the connections that are made when the members change.
    inputs: mpsc::Sender<Input>,
    /// Where the configuration file says that servers are.
    configured: Addresses,
    /// The servers that the configuration file says to observe.
    observes: Vec<NodeId>,
    /// The present configuration; without nodes until it is known.
    configuration: ClusterConfig,
    /// Whether there may be something new about the members, or where they are.
    members_changed: bool,
    changes: Changes,
    /// Whether this server goes on as an observer once it was removed.
    stays: bool,
    /// The tick in which it was known that this server was removed, and is not needed any more.
    may_stop_since: Option<u64>,
    state: State,
    /// Number of log entries that `state` sums up.
    applied_idx: u64,
    snapshot_every: u64,
    /// No snapshot is made before so many entries are applied.
    compacts_from: u64,
    proposals: Proposals,
    reads: Reads,
    transfers: Transfers,
    watchers: Watchers,
    /// Kept to be filled again and again.
    outgoing: Vec<Message<Command>>,
    ticks: u64,
    /// The tick at which watchers that went away are forgotten.
    cleans_at: u64,
    /// The leader, while this server is in step with it, or is it and can decide.
    leader: Option<NodeId>,
}

impl<B: Storage<Command>> Replica<B> {
    /// A replica that goes on from what its storage holds.
    pub(crate) fn new(
        config: &Config,
        storage: B,
        peers: Peers<Command>,
        inputs: mpsc::Sender<Input>,
    ) -> Result<Self> {
        let mut replica = Self {
            omni_paxos: config.omnipaxos.clone().build(storage)?,
            peers,
            inputs,
            configured: config.peers.clone(),
            observes: config.omnipaxos.server_config.observes.clone(),
            configuration: config.omnipaxos.cluster_config.clone(),
            members_changed: true,
            changes: Changes::default(),
            stays: config.stays,
            may_stop_since: None,
            state: State::default(),
            applied_idx: 0,
            snapshot_every: config.snapshot_every,
            compacts_from: 0,
            proposals: Proposals::default(),
            reads: Reads::default(),
            transfers: Transfers::default(),
            watchers: Watchers::default(),
            outgoing: Vec::new(),
            ticks: 0,
            cleans_at: CLEAN_EVERY,
            leader: None,
        };
        // The storage holds the log, and not the state that it makes.
        replica.apply_decided()?;
        info!("goes on after {} entries, which the storage holds", replica.applied_idx);
        Ok(replica)
    }

    /// Runs until the other end of `stop` is dropped, this server was removed, or the storage fails. Drops the storage, and
    /// so closes it, in either case.
    ///
    /// A batch of inputs, then one drain: however many requests came in together, they are made
    /// durable with one sync and leave in one message to each server.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut stop: oneshot::Receiver<()>,
    ) -> Result<()> {
        let mut clock = Clock::every(TICK);
        let mut batch = Vec::with_capacity(BATCH);
        self.send_outgoing()?;
        self.heed_events()?;
        loop {
            // An idle server sleeps: it wakes when a request or a message comes, and when a tick of
            // the replica does something.
            let timeout = self.next_timeout();
            tokio::select! {
                received = inputs.recv_many(&mut batch, BATCH) => if received == 0 {
                    return Ok(());
                },
                () = clock.sleep(timeout) => {}
                _ = &mut stop => return Ok(()),
            }
            self.tick(&mut clock)?;
            for input in batch.drain(..) {
                self.handle(input)?;
            }
            // First what is decided is made durable, then it is applied and answered.
            self.send_outgoing()?;
            self.heed_events()?;
            self.answer_clients();
            self.compact_if_due()?;
            if self.is_done() {
                warn!("this server was removed from the members, and is not needed: it ends");
                return Ok(());
            }
        }
    }

    /// Returns whether this server was removed, is not needed, and its clients had the time to learn where
    /// the members are.
    fn is_done(&self) -> bool {
        let Some(since) = self.may_stop_since.filter(|_| !self.stays) else {
            return false;
        };
        let passed = self.ticks.saturating_sub(since);
        let knows_members = self.members().members.values().any(|found| found.by_clients.is_some());
        passed >= if knows_members { FAREWELL } else { LONGEST_FAREWELL }
    }

    /// Ticks until the replica or a read that waits needs one.
    fn next_timeout(&self) -> u64 {
        let replica = self.omni_paxos.next_timeout().unwrap_or(1);
        if self.reads.needs_ticks() || (self.may_stop_since.is_some() && !self.stays) {
            1
        } else {
            replica
        }
    }

    /// Lets the ticks pass that the clock has counted.
    fn tick(&mut self, clock: &mut Clock) -> Result<(), Halted> {
        // After a pause of this process, others are heard before more than a heartbeat round is over.
        let passed = self.omni_paxos.try_tick_by(clock.count())?;
        if passed == 0 {
            return Ok(());
        }
        self.ticks = self.ticks.wrapping_add(passed);
        self.reads.tick(&mut self.omni_paxos, self.ticks);
        if self.ticks >= self.cleans_at {
            self.cleans_at = self.ticks + CLEAN_EVERY;
            self.watchers.forget_those_gone();
            self.changes.forget_those_gone();
        }
        Ok(())
    }

    fn handle(&mut self, input: Input) -> Result<(), Halted> {
        match input {
            Input::Peer(message) => self.omni_paxos.try_handle_incoming(message),
            Input::Connected(peer) => {
                self.omni_paxos.reconnected(peer);
                self.members_changed = true;
                Ok(())
            }
            Input::Client(request, to) => self.handle_request(request, to),
        }
    }

    fn handle_request(
        &mut self,
        request: Request,
        to: mpsc::Sender<Response>,
    ) -> Result<(), Halted> {
        let Request { client, number, oldest, ask } = request;
        let waiter = Waiter::new(number, to);
        if let Err(why) = ask.check() {
            waiter.answer(Answer::Refused(why));
            return Ok(());
        }
        let change = match ask {
            Ask::Put { key, value } => Change { key, value: Some(value) },
            Ask::Delete { key } => Change { key, value: None },
            Ask::Get { key } => {
                self.reads.begin(&mut self.omni_paxos, key, waiter, self.ticks);
                return Ok(());
            }
            Ask::GetStale { key } => {
                waiter.answer(Answer::Value(self.state.get(&key).map(str::to_owned)));
                return Ok(());
            }
            Ask::TransferLeadership { to } => {
                return self.transfers.begin(&mut self.omni_paxos, to, waiter);
            }
            Ask::Watch { prefix } => {
                self.watchers.add(prefix, waiter);
                return Ok(());
            }
            Ask::Status => {
                waiter.answer(Answer::Status(Box::new(self.status())));
                return Ok(());
            }
            Ask::Members => {
                self.changes.subscribe(waiter, self.members());
                return Ok(());
            }
            Ask::ChangeMembers(change) => return self.change_members(&change, waiter),
        };
        self.propose(Command { client, number, oldest, change }, waiter)
    }

    /// Proposes a command, unless it is known already: its client may have asked before.
    fn propose(&mut self, command: Command, waiter: Waiter) -> Result<(), Halted> {
        let name = (command.client, command.number);
        match self.state.known(command.client, command.number) {
            Known::No => {}
            Known::Decided { idx } => {
                waiter.answer(Answer::Done { idx });
                return Ok(());
            }
            Known::Answered => {
                waiter.answer(Answer::answered_before());
                return Ok(());
            }
        }
        let Err(waiter) = self.proposals.ask_again(name, waiter) else {
            return Ok(());
        };
        match self.omni_paxos.propose(command) {
            Ok(id) => self.proposals.add(id, name, waiter),
            Err(TryProposeErr::Busy(_)) => waiter.answer(Answer::AskAgain(Why::Busy)),
            Err(TryProposeErr::Halted(halted)) => return Err(halted),
            Err(refused) => waiter.answer(Answer::Refused(refused.to_string())),
        }
        Ok(())
    }

    /// Begins to change the members. Those that join need not run yet.
    fn change_members(&mut self, change: &members::Change, waiter: Waiter) -> Result<(), Halted> {
        if self.configuration.nodes.is_empty() {
            waiter.answer(Answer::AskAgain(Why::NoMembers));
            return Ok(());
        }
        let next = match change.after(&self.configuration, &self.addresses()) {
            Ok(Some(next)) => next,
            Ok(None) => {
                waiter.answer(Answer::Members(self.members()));
                return Ok(());
            }
            Err(why) => {
                waiter.answer(Answer::Refused(why));
                return Ok(());
            }
        };
        for (pid, address) in &next.addresses {
            self.peers.invite(*pid, address, &self.inputs);
        }
        let how = MemberChange {
            metadata: Some(members::to_metadata(&next.addresses)),
            most_silent_rounds: MOST_SILENT_ROUNDS,
            ..MemberChange::default()
        };
        match self.omni_paxos.change_members(next.configuration.clone(), how) {
            Ok(id) => self.changes.add(id, &next, waiter),
            Err(ReconfigurationErr::Pending(..)) => {
                waiter.answer(Answer::AskAgain(Why::ChangingMembers));
            }
            Err(ReconfigurationErr::Halted(halted)) => return Err(halted),
            Err(why) => waiter.answer(Answer::Refused(format!("{:#}", anyhow!(why)))),
        }
        Ok(())
    }

    /// Where servers find each other: what the log says, or else the configuration file.
    fn addresses(&self) -> Addresses {
        let members = self.state.members();
        let is_used = |pid: &NodeId| members.is_empty() || self.observes.contains(pid);
        let configured = self.configured.iter().filter(|(pid, _)| is_used(pid));
        let configured = configured.map(|(pid, address)| (*pid, address.clone()));
        configured.chain(members.clone()).collect()
    }

    /// The members, and where they are.
    fn members(&self) -> Members {
        let (by_servers, by_clients) = (self.addresses(), self.peers.for_clients());
        let found = |pid: &NodeId| Found {
            by_servers: by_servers.get(pid).cloned(),
            by_clients: by_clients.get(pid).cloned(),
        };
        let members = self.configuration.nodes.iter().map(|pid| (*pid, found(pid))).collect();
        Members { configuration_id: self.configuration.configuration_id, members }
    }

    fn send_outgoing(&mut self) -> Result<(), Halted> {
        self.omni_paxos.try_take_outgoing_messages(&mut self.outgoing)?;
        for message in self.outgoing.drain(..) {
            self.peers.send(message);
        }
        Ok(())
    }

    /// Takes note of what has happened.
    fn heed_events(&mut self) -> Result<()> {
        for event in self.omni_paxos.take_events() {
            match event {
                Event::Decided { .. } => self.apply_decided()?,
                Event::ProposalEnded { id, outcome } => {
                    if !self.changes.end(id, &outcome) {
                        self.proposals.end(id, outcome);
                    }
                }
                Event::ConfigurationBegan { configuration, first_idx } => {
                    let (id, nodes) = (configuration.configuration_id, &configuration.nodes);
                    info!("configuration {id} of servers {nodes:?} began at index {first_idx}");
                    self.configuration = configuration;
                    self.members_changed = true;
                }
                Event::Retired { may_stop } => {
                    info!("this server was removed from the members; it may stop: {may_stop}");
                    self.may_stop_since = may_stop.then_some(self.ticks);
                }
                Event::LeadershipTransferEnded { .. } => self.transfers.end(),
                Event::LeaderChanged { leader, is_ready } => {
                    let leader = leader.map(|ballot| ballot.pid);
                    info!("the leader is now {leader:?}, ready: {is_ready}");
                    self.leader = leader.filter(|_| is_ready);
                }
                other => debug!("{other:?}"),
            }
        }
        Ok(())
    }

    /// Answers what can be answered now.
    fn answer_clients(&mut self) {
        self.proposals.answer(&self.state, self.applied_idx);
        self.reads.answer(&self.omni_paxos, &self.state, self.applied_idx);
        self.transfers.answer(self.leader);
        if self.changes.have_ended() {
            let members = self.members();
            self.changes.answer(&members);
        }
        if std::mem::take(&mut self.members_changed) {
            self.changes.publish(&self.members());
        }
    }

    fn apply_decided(&mut self) -> Result<()> {
        if self.applied_idx >= self.omni_paxos.get_decided_idx() {
            return Ok(());
        }
        let decided = self.omni_paxos.try_read_decided_suffix(self.applied_idx)?;
        for entry in decided.unwrap_or_default() {
            match entry {
                LogEntry::Decided(command) => {
                    self.applied_idx += 1;
                    self.apply(&command);
                }
                LogEntry::Snapshotted(snapshotted) => {
                    self.applied_idx = snapshotted.trimmed_idx;
                    self.install(snapshotted.snapshot);
                }
                LogEntry::StopSign(stop_sign, _) => {
                    self.applied_idx += 1;
                    self.state.apply_stop_sign(&stop_sign);
                    self.follow_members();
                }
                LogEntry::Trimmed(idx) => bail!(
                    "the log is trimmed up to {idx} without a snapshot, and only {} entries are \
                     applied here",
                    self.applied_idx
                ),
                LogEntry::Undecided(command) => {
                    bail!("entry {} is read as decided and is not: {command:?}", self.applied_idx)
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, command: &Command) {
        match self.state.apply(command) {
            Applied::Now => self.watchers.tell(&command.change),
            Applied::Before => {}
        }
    }

    /// Takes over a state that another server has made of the same log, or this one before it was
    /// restarted.
    fn install(&mut self, state: State) {
        info!("took over a snapshot of {} entries", self.applied_idx);
        for change in self.state.changes_to(&state) {
            self.watchers.tell(&change);
        }
        self.state = state;
        self.follow_members();
    }

    /// The log has said where the members are.
    fn follow_members(&mut self) {
        self.peers.follow(&self.addresses(), &self.inputs);
        self.members_changed = true;
    }

    /// Replaces the applied entries by the state, each server for itself. One that is down is sent the
    /// state when it is back.
    fn compact_if_due(&mut self) -> Result<(), Halted> {
        let applied_idx = self.applied_idx;
        let held = applied_idx.saturating_sub(self.omni_paxos.get_compacted_idx());
        if held < self.snapshot_every || applied_idx < self.compacts_from {
            return Ok(());
        }
        match self.omni_paxos.compact_with(applied_idx, self.state.clone()) {
            Ok(()) => debug!("made a snapshot of {applied_idx} entries"),
            Err(TryCompactionErr::Refused(cause)) => debug!("no snapshot: {cause}"),
            Err(TryCompactionErr::Halted(halted)) => return Err(halted),
            Err(unstorable) => {
                // Made of more entries, it may be another matter.
                self.compacts_from = applied_idx + self.snapshot_every;
                warn!("no snapshot: {unstorable}");
            }
        }
        Ok(())
    }

    fn status(&self) -> Status {
        Status {
            replica: self.omni_paxos.status(),
            unanswered: self.proposals.len(),
            keys: self.state.number_of_keys(),
            digest: self.state.digest(),
        }
    }
}
