//! The loop around the replica: inputs, one output, then answers.

mod patience;
mod reads;
mod transfers;

use self::{patience::Patience, reads::Reads, transfers::Transfers};
use crate::{
    batch::Batch,
    clock::{Alarm, Clock},
    errors::{panic_message, AppendError, CompactError, NodeError, ReconfigureError},
    events::NodeEvent,
    inbox::Incoming,
    membership::Membership,
    reply::{Reply, ReplyTo},
    request::{Appended, Pull, Request},
    room::Room,
    transport::Transport,
    weak::Ending,
};
use omnipaxos::{
    errors::{Halted, ProposeErr, ReconfigurationErr, TryCompactionErr, TryProposeErr},
    events::Event,
    messages::Message,
    proposals::{Outcome, ProposalId},
    status::Status,
    storage::{Entry, Storage},
    ClusterConfig, OmniPaxos,
};
use std::{
    collections::BTreeMap,
    future::ready,
    ops::ControlFlow,
    panic::{catch_unwind, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{broadcast, mpsc, watch, Notify},
    time::Instant,
};

/// Number of inputs of each kind that are handled before one output.
const MAX_BATCH: usize = 1024;

/// Bytes of entries after which the rest of the requests waits for the next output. Each entry is encoded and
/// decoded once to check it: meanwhile no heartbeat leaves.
const BATCH_BYTES: usize = 1024 * 1024;

/// Number of waiting reads of the decided log from which closed ones are searched.
const MANY_PULLS: usize = 64;

/// Whether something left before the write of an output.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Early {
    Nothing,
    Something,
}

/// What waits for a proposal.
enum Proposed<T> {
    Entry(ReplyTo<Appended<T>>),
    Reconfiguration(Reply<Result<u64, ReconfigureError>>),
}

/// The channels of a node, seen from its replica.
pub(crate) struct Channels<T: Entry> {
    pub(crate) requests: mpsc::Receiver<Request<T>>,
    /// For the entries among the requests.
    pub(crate) room: Room,
    /// Of each [`DecidedLog`](crate::DecidedLog) at most one. Its senders do not keep the node alive.
    pub(crate) pulls: mpsc::Receiver<Pull<T>>,
    /// Notified when the node is to end after the requests that wait.
    pub(crate) no_more: Arc<Notify>,
    /// Set before the queue of requests is closed.
    pub(crate) ending: Ending,
    pub(crate) incoming: mpsc::Receiver<Incoming<T>>,
    pub(crate) events: broadcast::Sender<NodeEvent>,
    pub(crate) membership: watch::Sender<Membership>,
}

/// The replica, and what waits for it.
pub(crate) struct Driver<T: Entry, B: Storage<T>, X> {
    replica: OmniPaxos<T, B>,
    transport: X,
    channels: Channels<T>,
    clock: Clock,
    /// When the write may wait no longer.
    write_alarm: Alarm,
    /// The replica limits them: it accepts no further proposals while many wait.
    proposed: BTreeMap<ProposalId, Proposed<T>>,
    reads: Reads,
    transfers: Transfers,
    /// One for each [`DecidedLog`](crate::DecidedLog) that waits.
    pulls: Vec<Pull<T>>,
    /// Whether one of them could be answered now.
    has_due_pulls: bool,
    /// Reused by each output.
    outgoing: Vec<Message<T>>,
    /// What waits for entries before this index was answered.
    answered_idx: u64,
    /// Whether the next output writes.
    writes: bool,
    patience: Patience,
}

/// A replica that has ended.
pub(crate) struct EndedDriver<B, X> {
    pub(crate) cause: NodeError,
    /// `None` if code of the storage panicked when the storage was flushed.
    pub(crate) storage: Option<B>,
    pub(crate) transport: X,
    /// Their receivers learn the end of the node when these are dropped.
    pub(crate) events: broadcast::Sender<NodeEvent>,
    pub(crate) membership: watch::Sender<Membership>,
}

impl<T: Entry, B: Storage<T>, X: Transport<T>> Driver<T, B, X> {
    pub(crate) fn new(
        replica: OmniPaxos<T, B>,
        transport: X,
        channels: Channels<T>,
        tick: Duration,
    ) -> Self {
        Self {
            replica,
            transport,
            channels,
            clock: Clock::start(tick),
            write_alarm: Alarm::new(),
            proposed: BTreeMap::new(),
            reads: Reads::default(),
            transfers: Transfers::default(),
            pulls: Vec::new(),
            has_due_pulls: false,
            outgoing: Vec::new(),
            answered_idx: 0,
            writes: false,
            patience: Patience::new(tick),
        }
    }

    /// Shows the members that the storage knows: they may differ from those of the configuration file.
    pub(crate) fn note_present_members(&self) {
        let status = self.replica.status();
        if status.epoch_idx.is_none() || status.nodes.is_empty() {
            return;
        }
        let Status { configuration_id, nodes, flexible_quorum, may_stop, .. } = status;
        let configuration = ClusterConfig { configuration_id, nodes, flexible_quorum };
        self.channels.membership.send_replace(Membership { configuration, may_stop });
    }

    /// Runs until the node is ended, or all handles are dropped, or the replica halts.
    pub(crate) async fn run(mut self) -> EndedDriver<B, X> {
        let mut requests = Vec::new();
        let mut incoming = Vec::new();
        let mut ends = false;
        let cause = loop {
            match caught(|| self.handle_inputs(&mut requests, &mut incoming)) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(cause)) | Err(cause) => break cause,
            }
            // A call that has room in the closed queue, and is not polled, may keep it open for ever.
            if ends && requests.is_empty() && self.channels.requests.is_empty() {
                break NodeError::ShutDown;
            }
            match caught(|| self.output_early()) {
                Ok(Early::Nothing) => {}
                // Before the write, the messages leave, and what is decided is applied and answered: the
                // transport and the state machine may be on this thread.
                Ok(Early::Something) => tokio::task::yield_now().await,
                Err(cause) => break cause,
            }
            let deadline = self.write_deadline();
            let done = match deadline {
                Some(_later) => caught(|| self.answer_waiting()),
                None => caught(|| self.output()),
            };
            if let Err(cause) = done {
                break cause;
            }
            // So it is before the next write.
            tokio::task::yield_now().await;
            let ticks = self.next_timeout();
            let has_requests = !requests.is_empty();
            let Channels {
                requests: from_handles,
                room,
                pulls,
                no_more,
                incoming: from_transport,
                ..
            } = &mut self.channels;
            tokio::select! {
                () = ready(()), if has_requests || self.has_due_pulls => {}
                received = from_handles.recv_many(&mut requests, MAX_BATCH), if !has_requests => {
                    if received == 0 {
                        break NodeError::ShutDown;
                    }
                }
                Some(pull) = pulls.recv() => add(pull, &mut self.pulls),
                () = no_more.notified() => {
                    from_handles.close();
                    ends = true;
                }
                1.. = from_transport.recv_many(&mut incoming, MAX_BATCH) => {}
                () = self.clock.sleep(ticks) => {}
                () = self.write_alarm.until(deadline) => {}
            }
            // What else is there shares this output.
            take_waiting(from_handles, &mut requests);
            room.queue_is_shorter();
            take_waiting(from_transport, &mut incoming);
        };
        self.end(cause, requests)
    }

    /// Handles inputs. Requests with too much for one output stay.
    fn handle_inputs(
        &mut self,
        requests: &mut Vec<Request<T>>,
        incoming: &mut Vec<Incoming<T>>,
    ) -> Result<ControlFlow<NodeError>, NodeError> {
        // `try_tick_by` stops at the first tick that does something, and the rest is dropped: several heartbeat rounds
        // at once would end without answers of the others.
        let passed = self.replica.try_tick_by(self.clock.count())?;
        if passed > 0 {
            self.reads.retry(&mut self.replica);
            self.transfers.pass(passed);
        }
        for input in incoming.drain(..) {
            match input {
                Incoming::Message(message, _room) => self.replica.try_handle_incoming(message)?,
                Incoming::Connected(peer) => {
                    self.replica.reconnected(peer);
                    self.publish(NodeEvent::Connected(peer));
                }
                Incoming::Lost(peer) => self.publish(NodeEvent::Disconnected(peer)),
            }
        }
        while let Ok(pull) = self.channels.pulls.try_recv() {
            add(pull, &mut self.pulls);
        }
        // What is left after the end, or after a panic, is refused.
        requests.reverse();
        let mut bytes = 0;
        while bytes < BATCH_BYTES {
            let Some(request) = requests.pop() else {
                break;
            };
            if let Request::Append(entry, ..) = &request {
                bytes = entry.size_hint().saturating_add(bytes);
            }
            if let ControlFlow::Break(cause) = self.handle(request)? {
                return Ok(ControlFlow::Break(cause));
            }
        }
        requests.reverse();
        Ok(ControlFlow::Continue(()))
    }

    /// Sends and answers what need not wait for the disk.
    fn output_early(&mut self) -> Result<Early, NodeError> {
        self.replica.try_take_early_messages(&mut self.outgoing)?;
        let is_sent = !self.outgoing.is_empty();
        self.writes = is_sent;
        self.send_outgoing();
        let is_answered = self.answered_idx < self.replica.get_decided_idx()
            || self.reads.has_ready(&self.replica);
        if is_answered {
            self.answer_waiting()?;
        }
        Ok(if is_sent || is_answered { Early::Something } else { Early::Nothing })
    }

    /// Writes, sends one output, and answers what can be answered now.
    fn output(&mut self) -> Result<(), NodeError> {
        let began = Instant::now();
        self.replica.try_take_outgoing_messages(&mut self.outgoing)?;
        if self.writes {
            self.patience.wrote(began.elapsed());
        }
        self.send_outgoing();
        self.answer_waiting()
    }

    /// Answers what can be answered now.
    fn answer_waiting(&mut self) -> Result<(), NodeError> {
        self.answered_idx = self.replica.get_decided_idx();
        self.handle_events()?;
        self.reads.answer(&mut self.replica);
        self.answer_pulls();
        Ok(())
    }

    /// Returns until when the next output may wait, if it need not be now.
    fn write_deadline(&mut self) -> Option<Instant> {
        let decided_idx = self.replica.get_decided_idx();
        self.patience.deadline(self.replica.write_urgency(), decided_idx)
    }

    /// Returns the number of ticks until the replica or a waiting read needs one.
    fn next_timeout(&self) -> u64 {
        match self.reads.needs_ticks() {
            true => 1,
            false => self.replica.next_timeout().unwrap_or(1),
        }
    }

    fn handle(&mut self, request: Request<T>) -> Result<ControlFlow<NodeError>, NodeError> {
        match request {
            Request::Append(entry, reply, _room) => self.append(entry, reply)?,
            Request::ReadIndex(deadline, reply) => {
                self.reads.request(&mut self.replica, deadline, reply);
            }
            Request::Status(reply) => answer(reply, self.replica.status()),
            Request::TransferLeadership(to, reply) => {
                self.transfers.begin(&mut self.replica, to, reply);
            }
            Request::Reconfigure(next_config, metadata, reply) => {
                let proposed = self.replica.propose_reconfiguration(next_config, metadata);
                self.reconfigure(proposed, reply)?;
            }
            Request::ChangeMembers(next_config, change, reply) => {
                let proposed = self.replica.change_members(next_config, change);
                self.reconfigure(proposed, reply)?;
            }
            Request::Compact(idx, snapshot, reply) => {
                // A leader may have decided entries that it has not stored. Their snapshot would have to be
                // durable when the next write returns. That of stored ones may be written meanwhile.
                self.replica.flush()?;
                let compacted = match snapshot {
                    Some(snapshot) => self.replica.compact_with(idx, snapshot),
                    None => self.replica.try_compact(idx),
                };
                match compacted {
                    Err(TryCompactionErr::Halted(halted)) => return Err(halted.into()),
                    compacted => answer(reply, compacted.map_err(CompactError::from)),
                }
            }
            Request::End(cause) => return Ok(ControlFlow::Break(cause)),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn append(&mut self, entry: T, reply: ReplyTo<Appended<T>>) -> Result<(), Halted> {
        if reply.is_closed() {
            // Its caller has dropped the future before the entry was proposed.
            return Ok(());
        }
        if let Err(reason) = self.transport.check_entry(&entry) {
            reply.send(Err(AppendError::TooLarge(entry, reason)));
            return Ok(());
        }
        let refused = match self.replica.propose(entry) {
            Ok(id) => {
                self.proposed.insert(id, Proposed::Entry(reply));
                return Ok(());
            }
            Err(refused) => refused,
        };
        let error = match refused {
            TryProposeErr::Halted(halted) => return Err(halted),
            TryProposeErr::Busy(entry) => AppendError::Busy(entry),
            TryProposeErr::Unstorable(entry, reason) => AppendError::TooLarge(entry, reason),
            TryProposeErr::NoIncarnation(entry) => AppendError::NoIncarnation(entry),
            TryProposeErr::Refused(ProposeErr::PendingReconfigEntry(entry)) => {
                AppendError::Reconfiguring(entry)
            }
            other => AppendError::Refused(other.to_string()),
        };
        reply.send(Err(error));
        Ok(())
    }

    fn reconfigure(
        &mut self,
        proposed: Result<ProposalId, ReconfigurationErr>,
        reply: Reply<Result<u64, ReconfigureError>>,
    ) -> Result<(), Halted> {
        let error = match proposed {
            Ok(id) => {
                self.proposed.insert(id, Proposed::Reconfiguration(reply));
                return Ok(());
            }
            Err(ReconfigurationErr::Halted(halted)) => return Err(halted),
            Err(ReconfigurationErr::Config(cause, ..)) => ReconfigureError::Config(cause),
            Err(ReconfigurationErr::Pending(..)) => ReconfigureError::Pending,
            Err(ReconfigurationErr::NoIncarnation(..)) => ReconfigureError::NoIncarnation,
            Err(ReconfigurationErr::EndsHere(..)) => ReconfigureError::EndsHere,
            Err(other) => ReconfigureError::Refused(other.to_string()),
        };
        answer(reply, Err(error));
        Ok(())
    }

    fn send_outgoing(&mut self) {
        // One batch for each peer, in the order of its messages.
        self.outgoing.sort_by_key(Message::get_receiver);
        let mut batch = Vec::new();
        let mut messages = self.outgoing.drain(..).peekable();
        while let Some(message) = messages.next() {
            let to = message.get_receiver();
            batch.push(message);
            if messages.peek().is_none_or(|next| next.get_receiver() != to) {
                self.transport.send(to, &mut batch);
                batch.clear();
            }
        }
    }

    fn handle_events(&mut self) -> Result<(), Halted> {
        for event in self.replica.take_events() {
            match event {
                Event::ProposalEnded { id, outcome } => self.end_proposal(id, outcome),
                // The reads ask the replica.
                Event::ReadReady { .. } => {}
                Event::Halted(halted) => return Err(halted),
                event => {
                    self.transfers.note(&event);
                    self.note_membership(&event);
                    self.publish(NodeEvent::Replica(event));
                }
            }
        }
        self.transfers.answer();
        Ok(())
    }

    fn note_membership(&self, event: &Event) {
        match event {
            Event::ConfigurationBegan { configuration, .. } => {
                let configuration = configuration.clone();
                self.channels.membership.send_replace(Membership { configuration, may_stop: None });
            }
            Event::Retired { may_stop } => {
                let set = |membership: &mut Membership| membership.may_stop = Some(*may_stop);
                self.channels.membership.send_modify(set);
            }
            _of_no_concern => {}
        }
    }

    fn publish(&self, event: NodeEvent) {
        tracing::debug!(server = self.replica.get_pid(), ?event);
        if self.channels.events.receiver_count() > 0 {
            // The last receiver may have gone meanwhile.
            let _ = self.channels.events.send(event);
        }
    }

    fn end_proposal(&mut self, id: ProposalId, outcome: Outcome) {
        match self.proposed.remove(&id) {
            Some(Proposed::Entry(reply)) => reply.send(appended(outcome)),
            Some(Proposed::Reconfiguration(reply)) => answer(reply, reconfigured(outcome)),
            None => {}
        }
    }

    /// Answers the reads of the decided log for which there are entries. Of those that need the snapshot it
    /// answers one: a large one takes long to read, and heartbeats must leave meanwhile.
    fn answer_pulls(&mut self) {
        let decided_idx = self.replica.get_decided_idx();
        let compacted_idx = self.replica.get_compacted_idx();
        let (mut reads_snapshot, mut leaves_some) = (false, false);
        let is_due = |pull: &mut Pull<T>| {
            let needs_snapshot = pull.from < compacted_idx && !pull.reply.is_closed();
            let is_left = needs_snapshot && reads_snapshot;
            reads_snapshot |= needs_snapshot;
            leaves_some |= is_left;
            pull.from < decided_idx && !is_left
        };
        for pull in self.pulls.extract_if(.., is_due) {
            let Pull { from, reply } = pull;
            if reply.is_closed() {
                continue;
            }
            let read = |range| self.replica.try_read_entries(range);
            answer(reply, Batch::read(from, decided_idx, read));
        }
        self.has_due_pulls = leaves_some;
    }

    /// Ends the replica. What waits learns it from the closed replies.
    fn end(mut self, cause: NodeError, left: Vec<Request<T>>) -> EndedDriver<B, X> {
        let cause = match cause {
            // Nothing may be lost in silence.
            NodeError::ShutDown => caught(|| Ok(self.replica.flush()?)).err().unwrap_or(cause),
            cause => cause,
        };
        if let NodeError::Halted(halted) = &cause {
            self.publish(NodeEvent::Replica(Event::Halted(halted.clone())));
        }
        // Nobody else sets it.
        let _ = self.channels.ending.set(cause.clone());
        self.channels.requests.close();
        self.channels.room.close();
        for request in left {
            request.refuse(&cause);
        }
        while let Ok(request) = self.channels.requests.try_recv() {
            request.refuse(&cause);
        }
        let Self { replica, transport, channels, .. } = self;
        let Channels { events, membership, .. } = channels;
        let storage = catch_unwind(AssertUnwindSafe(|| replica.into_storage())).ok();
        EndedDriver { cause, storage, transport, events, membership }
    }
}

/// Adds a read that waits.
fn add<T: Entry>(pull: Pull<T>, waiting: &mut Vec<Pull<T>>) {
    // Seldom, so that each is looked at a few times only.
    if waiting.len() >= MANY_PULLS && waiting.len().is_power_of_two() {
        waiting.retain(|pull| !pull.reply.is_closed());
    }
    waiting.push(pull);
}

/// Runs user code: entries, storage, transport.
fn caught<R>(run: impl FnOnce() -> Result<R, NodeError>) -> Result<R, NodeError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let message = panic_message(&*payload);
        Err(NodeError::Panicked(format!("the replica: {message}")))
    })
}

/// Takes what waits in a queue, as far as one output handles it.
fn take_waiting<R>(queue: &mut mpsc::Receiver<R>, into: &mut Vec<R>) {
    while into.len() < MAX_BATCH {
        match queue.try_recv() {
            Ok(input) => into.push(input),
            Err(_empty_or_closed) => return,
        }
    }
}

/// Sends an answer, if its caller still waits.
fn answer<R>(reply: Reply<R>, with: R) {
    let _ = reply.send(with);
}

fn appended<T>(outcome: Outcome) -> Appended<T> {
    match outcome {
        Outcome::Decided(idx) => Ok(idx),
        Outcome::DecidedBefore(idx) => Err(AppendError::DecidedBefore(idx)),
        Outcome::NotDecided => Err(AppendError::NotDecided),
        Outcome::Refused(reason) => Err(AppendError::Refused(reason)),
        // Also an outcome of a later version of the core.
        _unknown => Err(AppendError::Unknown),
    }
}

fn reconfigured(outcome: Outcome) -> Result<u64, ReconfigureError> {
    match outcome {
        Outcome::Decided(idx) => Ok(idx),
        Outcome::NotDecided => Err(ReconfigureError::NotDecided),
        Outcome::NotJoined(servers) => Err(ReconfigureError::NotJoined(servers)),
        Outcome::Refused(reason) => Err(ReconfigureError::Refused(reason)),
        _unknown => Err(ReconfigureError::Unknown),
    }
}
