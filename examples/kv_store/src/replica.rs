//! The task that owns the replica. All others talk to it through channels.

use crate::{
    config::Config,
    peers::Peers,
    protocol::{Answer, Ask, Request, Response, Status},
    state::{Applied, Change, Command, Known, State},
};
use anyhow::{bail, Result};
use omnipaxos::{
    errors::{Halted, TryCompactionErr, TryProposeErr},
    messages::Message,
    storage::Storage,
    util::{LogEntry, NodeId},
    OmniPaxos,
};
use std::{collections::HashMap, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{interval, MissedTickBehavior},
};
use tracing::{debug, info};

/// How often the replica is told that time passes.
const TICK: Duration = Duration::from_millis(10);

/// Inputs that are handled before messages are drawn and the disk is written.
const BATCH: usize = 1024;

/// Ticks after which requests of clients that went away are forgotten.
const CLEAN_EVERY: u64 = 500;

/// What the other tasks have to say.
#[derive(Debug)]
pub(crate) enum Input {
    /// A message of another server.
    Peer(Message<Command>),
    /// There is a new connection with another server.
    Connected(NodeId),
    /// A request, and where the answer goes.
    Client(Request, mpsc::Sender<Response>),
}

/// The replica and the state that its log makes.
///
/// Everything that can meet a failure of the storage is asked through the `try_*` methods: a
/// replica that has halted ends the server, and panics nowhere.
pub(crate) struct Replica<B: Storage<Command>> {
    omni_paxos: OmniPaxos<Command, B>,
    peers: Peers,
    state: State,
    /// Number of log entries that `state` sums up.
    applied_idx: u64,
    snapshot_every: u64,
    /// Who waits for which command, by client and number.
    waiting: HashMap<(u64, u64), mpsc::Sender<Response>>,
    watchers: Vec<Watcher>,
    /// Kept to be filled again and again.
    outgoing: Vec<Message<Command>>,
    ticks: u64,
    leader: Option<NodeId>,
}

struct Watcher {
    number: u64,
    prefix: String,
    to: mpsc::Sender<Response>,
}

impl<B: Storage<Command>> Replica<B> {
    /// A replica that goes on from what its storage holds.
    pub(crate) fn new(config: &Config, storage: B, peers: Peers) -> Result<Self> {
        let mut replica = Self {
            omni_paxos: config.omnipaxos.clone().build(storage)?,
            peers,
            state: State::default(),
            applied_idx: 0,
            snapshot_every: config.snapshot_every,
            waiting: HashMap::new(),
            watchers: Vec::new(),
            outgoing: Vec::new(),
            ticks: 0,
            leader: None,
        };
        // The storage holds the log, and not the state that it makes.
        replica.apply_decided()?;
        info!("goes on after {} entries, which the storage holds", replica.applied_idx);
        Ok(replica)
    }

    /// Runs until the other end of `stop` is dropped, or the storage fails. Drops the storage, and
    /// so closes it, in either case.
    ///
    /// A batch of inputs, then one drain: however many requests came in together, they are made
    /// durable with one sync and leave in one message to each server.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut stop: oneshot::Receiver<()>,
    ) -> Result<()> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                received = inputs.recv_many(&mut batch, BATCH) => if received == 0 {
                    return Ok(());
                },
                _ = ticks.tick() => self.tick()?,
                _ = &mut stop => return Ok(()),
            }
            for input in batch.drain(..) {
                self.handle(input)?;
            }
            // First what is decided is made durable, then it is applied and answered.
            self.send_outgoing()?;
            self.apply_decided()?;
            self.compact_if_due()?;
        }
    }

    fn tick(&mut self) -> Result<(), Halted> {
        self.omni_paxos.try_tick()?;
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(CLEAN_EVERY) {
            self.waiting.retain(|_, to| !to.is_closed());
            self.watchers.retain(|watcher| !watcher.to.is_closed());
        }
        let leader = self.omni_paxos.get_current_leader();
        if leader != self.leader {
            info!("the leader is now {leader:?}");
            self.leader = leader;
        }
        Ok(())
    }

    fn handle(&mut self, input: Input) -> Result<(), Halted> {
        match input {
            Input::Peer(message) => self.omni_paxos.try_handle_incoming(message),
            Input::Connected(peer) => {
                self.omni_paxos.reconnected(peer);
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
        let change = match ask {
            Ask::Put { key, value } => Change { key, value: Some(value) },
            Ask::Delete { key } => Change { key, value: None },
            Ask::Get { key } => {
                answer(&to, number, Answer::Value(self.state.get(&key).cloned()));
                return Ok(());
            }
            Ask::Watch { prefix } => {
                self.watchers.push(Watcher { number, prefix, to });
                return Ok(());
            }
            Ask::Status => {
                answer(&to, number, Answer::Status(Box::new(self.status())));
                return Ok(());
            }
        };
        let known = self.state.known(client, number);
        if known != Known::No {
            answer_known(&to, number, known);
            return Ok(());
        }
        match self.omni_paxos.try_append(Command { client, number, oldest, change }) {
            Ok(()) => drop(self.waiting.insert((client, number), to)),
            Err(TryProposeErr::Busy(_)) => answer(&to, number, Answer::Busy),
            Err(refused @ (TryProposeErr::Refused(_) | TryProposeErr::NoIncarnation(_))) => {
                answer(&to, number, Answer::Refused(refused.to_string()));
            }
            Err(TryProposeErr::Halted(halted)) => return Err(halted),
        }
        Ok(())
    }

    fn send_outgoing(&mut self) -> Result<(), Halted> {
        self.omni_paxos.try_take_outgoing_messages(&mut self.outgoing)?;
        for message in self.outgoing.drain(..) {
            self.peers.send(message);
        }
        Ok(())
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
                    self.install(snapshotted.snapshot.into_state());
                }
                LogEntry::StopSign(..) => self.applied_idx += 1,
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
            Applied::Now => tell_watchers(&mut self.watchers, &command.change),
            Applied::Before => {}
        }
        if let Some(to) = self.waiting.remove(&(command.client, command.number)) {
            let known = self.state.known(command.client, command.number);
            answer_known(&to, command.number, known);
        }
    }

    /// Takes over a state that another server has made of the same log, or this one before it was
    /// restarted.
    fn install(&mut self, state: State) {
        info!("took over a snapshot of {} entries", self.applied_idx);
        for change in self.state.changes_to(&state) {
            tell_watchers(&mut self.watchers, &change);
        }
        self.state = state;
        let state = &self.state;
        self.waiting.retain(|(client, number), to| {
            let known = state.known(*client, *number);
            answer_known(to, *number, known);
            known == Known::No
        });
    }

    /// Gives up the entries that are applied, each server for itself: one that is down then is sent
    /// the snapshot when it is back.
    fn compact_if_due(&mut self) -> Result<(), Halted> {
        let applied_idx = self.applied_idx;
        let held = applied_idx.saturating_sub(self.omni_paxos.get_compacted_idx());
        if held < self.snapshot_every {
            return Ok(());
        }
        match self.omni_paxos.try_compact(applied_idx) {
            Ok(()) => debug!("made a snapshot of {applied_idx} entries"),
            Err(TryCompactionErr::Refused(cause)) => debug!("no snapshot: {cause}"),
            Err(TryCompactionErr::Halted(halted)) => return Err(halted),
        }
        Ok(())
    }

    fn status(&self) -> Status {
        Status {
            replica: self.omni_paxos.status(),
            keys: self.state.number_of_keys(),
            digest: self.state.digest(),
        }
    }
}

/// Answers a client. One that does not read its answers loses them and asks again: a client must
/// not hold up the replica.
fn answer(to: &mpsc::Sender<Response>, number: u64, answer: Answer) {
    if to.try_send(Response { number, answer }).is_err() {
        debug!("dropped the answer to request {number}");
    }
}

/// Answers a command that is applied.
fn answer_known(to: &mpsc::Sender<Response>, number: u64, known: Known) {
    match known {
        Known::No => {}
        Known::Decided { idx } => answer(to, number, Answer::Done { idx }),
        Known::Answered => debug!("request {number} came again after its answer"),
    }
}

/// Tells the watchers of a change. One that does not keep up would miss changes without knowing,
/// so it is told, as soon as it has read the changes before, that there will be no more.
fn tell_watchers(watchers: &mut Vec<Watcher>, change: &Change) {
    watchers.retain(|watcher| {
        let Change { key, value } = change;
        if !key.starts_with(&watcher.prefix) {
            return true;
        }
        let answer = Answer::Changed { key: key.clone(), value: value.clone() };
        let told = watcher.to.try_send(Response { number: watcher.number, answer });
        if told.is_err() {
            let (to, number) = (watcher.to.clone(), watcher.number);
            let answer = Answer::Refused("too many changes were not read in time".to_owned());
            tokio::spawn(async move { to.send(Response { number, answer }).await });
        }
        told.is_ok()
    });
}
