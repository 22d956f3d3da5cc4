//! Flushes, then builds messages. No other place writes the log or builds messages.

mod early;

use super::{
    outbox::Due,
    progress::{Progress, Promised, Sent, Stage},
    state::{Ack, Leading, State},
    SequencePaxos,
};
use crate::{
    amount::Amount,
    ballot::Ballot,
    codec::Codec,
    config::Limits,
    entry::SharedEntries,
    errors::Halted,
    identity::Stamp,
    ids::NodeId,
    messages::{
        sequence_paxos::{
            AcceptDecide, AcceptStopSign, AcceptSync, Accepted, CatchUpRedirect, Compaction,
            CompactionAction, Decide, Joining, NotAccepted, PaxosMessage, PaxosMsg, Prepare,
            PrepareReq, Promise,
        },
        Message,
    },
    observe::trace::LogEvent,
    replica_log::{Part, Readers, ReplicaLog},
    storage::{Entry, StopSign, Storage},
};

/// The most requests of one peer for decided entries that an output answers. The last output of an epoch answers all.
const MOST_CHUNKS: usize = 4;

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Returns whether there is nothing to write and nothing to send, as at a follower that knows
    /// the decided index.
    #[inline]
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.state, State::Following(Ack::No))
            && !self.leaves_rest
            && self.log.is_flushed()
            && self.has_nothing_due()
            && self.proposals.is_settled(&self.log)
            && self.is_reconfiguration_settled()
            && (self.observers.is_empty() || !self.observers.is_any_due(self.log.decided_idx()))
    }

    /// Returns whether nothing is due that the state does not show.
    fn has_nothing_due(&self) -> bool {
        self.outbox.is_empty()
            && self.compaction.is_silent()
            && self.proposals.has_nothing_due()
            && self.reads.is_silent()
            && self.ranges.is_silent()
    }

    /// Writes the changes, then appends all due messages to `messages`.
    ///
    /// # Errors
    /// The storage failed. Then no message claims what is not stored.
    pub(crate) fn output(&mut self, messages: &mut Vec<Message<T>>) -> Result<(), Halted> {
        self.flush_and_decide()?;
        if self.proposals.has_pending() || self.log.decided_stopsign().is_some() {
            self.settle_proposals();
            self.trace_end();
        }
        if !self.observers.is_empty() {
            self.answer_waiting();
        }
        self.log.bound_ids(self.most_id_runs);
        let built = self.build_messages(messages);
        self.log.forget_recent();
        self.advance_transfer();
        self.leaves_rest |= !self.log.is_flushed();
        built
    }

    /// Logs once that the configuration has ended.
    fn trace_end(&mut self) {
        if let Some(stopsign) = self.log.decided_stopsign().filter(|_| !self.is_end_reported) {
            let next = stopsign.next_config.configuration_id;
            self.is_end_reported = true;
            self.trace.emit(|| {
                let event = LogEvent::info("the configuration has ended").at(self.log.len());
                event.because(format!("configuration {next} follows"))
            });
        }
    }

    /// Makes the next flush write all changes, also if only the decided index changed.
    pub(crate) fn schedule_decided_idx(&mut self) {
        self.log.schedule_decided_idx();
    }

    /// Writes the changes, and decides the entries that lacked only the acceptance of this server.
    #[inline]
    pub(crate) fn flush_and_decide(&mut self) -> Result<(), Halted> {
        let is_accepted_early = self.log.is_released_early();
        self.flush()?;
        if is_accepted_early || self.members.quorum().can_accept(1) {
            self.decide_chosen();
        }
        Ok(())
    }

    /// Writes the changes.
    #[inline]
    pub(crate) fn flush(&mut self) -> Result<(), Halted> {
        let readers = match &self.state {
            State::Leading(_) if !self.members.peers().is_empty() => Readers::StorageAndMessages,
            State::Recovering
            | State::Promised { .. }
            | State::Following(_)
            | State::Preparing(_)
            | State::Leading(_) => Readers::Storage,
        };
        self.log.flush(readers)?;
        self.count_released();
        Ok(())
    }

    /// Leader: counts and encodes the entries that it may send since the last flush.
    fn count_released(&mut self) {
        if let State::Leading(leading) = &mut self.state {
            let (end, amount) = self.log.recent();
            leading.undecided.add(end, amount);
            let accepted = leading.followers.accepted().map(|(_, idx)| idx);
            self.codec.forget_before(|| accepted.min());
            let (from_idx, entries) = self.log.recent_entries();
            self.codec.encode(from_idx, entries, amount.bytes);
            leading.undecided.pass(self.log.decided_idx());
        }
    }

    fn build_messages(&mut self, messages: &mut Vec<Message<T>>) -> Result<(), Halted> {
        let from = self.pid;
        let mut send = |to: NodeId, msg: PaxosMsg<T>| {
            messages.push(Message::SequencePaxos(PaxosMessage { from, to, msg }));
        };
        let mut is_transfer_due = false;
        self.leaves_rest = false;
        match &mut self.state {
            State::Recovering => {}
            State::Promised { prepare, is_promise_due } => {
                if std::mem::take(is_promise_due) {
                    send(prepare.n.pid, build_promise(&self.log, prepare, self.limits.message)?);
                }
            }
            State::Following(ack) => match ack.take() {
                Ack::No => {}
                due @ (Ack::Due | Ack::DueWithGap) => {
                    send(self.log.promise().pid, build_accepted(&self.log, due));
                }
            },
            State::Preparing(preparing) => {
                for (to, progress) in preparing.followers.iter_mut() {
                    build_prepare(&self.log, progress, |msg| send(to, msg));
                }
            }
            State::Leading(Leading { followers, adopted_len, transfer, .. }) => {
                is_transfer_due = transfer.as_ref().is_some_and(|transfer| transfer.is_due());
                let mut builder = MessageBuilder {
                    log: &self.log,
                    limits: &self.limits,
                    codec: &mut self.codec,
                    adopted_len: *adopted_len,
                    read_at_once: self.limits.message.read_at_once(),
                    leaves_rest: false,
                };
                let mut lagging = Vec::new();
                for (to, progress) in followers.iter_mut() {
                    match builder.for_follower(progress, |msg| send(to, msg))? {
                        Built::All => {}
                        Built::TooMuch => lagging.push(to),
                    }
                }
                self.leaves_rest = builder.leaves_rest;
                for to in lagging {
                    let source = followers.source_for(to, from);
                    let (n, decided_idx) = (self.log.promise(), self.log.decided_idx());
                    send(to, PaxosMsg::CatchUpRedirect(CatchUpRedirect { n, source, decided_idx }));
                }
            }
        }
        if is_transfer_due {
            self.build_transfer(&mut send);
        }
        if self.has_nothing_due() {
            return Ok(());
        }
        while let Some((to, due)) = self.outbox.pop() {
            self.build_due(to, due, |msg| send(to, msg))?;
        }
        self.leaves_rest |= self.outbox.take_later();
        if !self.ranges.is_silent() {
            self.build_range_requests(&mut send);
        }
        let (config_id, stamp) = (self.config_id, Stamp::default());
        self.compaction.build_messages(|to, action| {
            send(to, PaxosMsg::Compaction(Compaction { config_id, action, stamp }));
        });
        if !self.reads.is_silent() {
            self.build_reads(&mut send);
        }
        self.build_forwards(send);
        Ok(())
    }

    #[inline(never)]
    fn build_due(
        &mut self,
        to: NodeId,
        due: Due,
        mut send: impl FnMut(PaxosMsg<T>),
    ) -> Result<(), Halted> {
        let (config_id, stamp) = (self.config_id, Stamp::default());
        if due.prepare_req {
            send(PaxosMsg::PrepareReq(PrepareReq {
                config_id,
                n: self.log.promise(),
                n_accepted: self.log.accepted_round(),
                accepted_idx: self.log.stored_len(),
                decided_idx: self.log.decided_idx(),
                stamp,
            }));
        }
        if due.not_accepted {
            send(PaxosMsg::NotAccepted(NotAccepted { n: self.log.promise() }));
        }
        if let Some(idx) = due.compacted {
            let action = CompactionAction::Compacted(idx);
            send(PaxosMsg::Compaction(Compaction { config_id, action, stamp }));
        }
        if due.asks_to_join {
            send(PaxosMsg::Joining(Joining { config_id, decided_idx: None, cluster_name: 0 }));
        }
        if let Some(config_id) = due.reports_progress {
            let decided_idx = Some(self.log.stored_decided_idx());
            send(PaxosMsg::Joining(Joining { config_id, decided_idx, cluster_name: 0 }));
        }
        if due.chunk_request {
            let asks = self.build_catch_up_request(self.waits_for_news_of(to));
            send(PaxosMsg::CatchUpRequest(Box::new(asks)));
        }
        let (mut read, is_last) = (Amount::default(), self.is_epoch_due());
        for (answered, asks) in due.chunks.into_iter().enumerate() {
            let is_enough =
                answered >= MOST_CHUNKS || !read.is_below(self.limits.message.read_at_once());
            if is_enough && !is_last {
                self.outbox.send_chunk_later(to, asks);
                continue;
            }
            self.build_chunks(&asks, |msg| {
                if let PaxosMsg::CatchUpChunk(chunk) = &msg {
                    read.add(chunk.amount());
                }
                send(msg);
            })?;
        }
        Ok(())
    }
}

/// Builds a promise, with what the leader's log lacks if this one is more recent (paper §4.1.1,
/// step 2), and if that fits into a message.
fn build_promise<T: Entry, B: Storage<T>>(
    log: &ReplicaLog<T, B>,
    prepare: &Prepare,
    limit: Amount,
) -> Result<PaxosMsg<T>, Halted> {
    let own = (log.accepted_round(), log.stored_len());
    let sync = if own > (prepare.n_accepted, prepare.accepted_idx) {
        log.build_sync(prepare.decided_idx, prepare.takes_delta, log.len(), limit)?.map(Box::new)
    } else {
        None
    };
    Ok(PaxosMsg::Promise(Promise {
        n: prepare.n,
        n_accepted: log.accepted_round(),
        accepted_idx: log.stored_len(),
        decided_idx: log.decided_idx(),
        takes_delta: log.learns_delta_first(),
        sync,
        stamp: Stamp::default(),
    }))
}

fn build_accepted<T: Entry, B: Storage<T>>(log: &ReplicaLog<T, B>, due: Ack) -> PaxosMsg<T> {
    PaxosMsg::Accepted(Accepted {
        n: log.promise(),
        accepted_idx: log.stored_len(),
        decided_idx: log.decided_idx(),
        gap: due == Ack::DueWithGap,
        stamp: Stamp::default(),
    })
}

/// Builds the message with the stop sign, whose index is `idx`.
#[cold]
fn accept_stopsign<T: Entry, B: Storage<T>>(
    log: &ReplicaLog<T, B>,
    idx: u64,
    stopsign: &StopSign,
) -> PaxosMsg<T> {
    let (n, decided_idx, stamp) = (log.promise(), log.decided_idx(), Stamp::default());
    let stopsign = Box::new(stopsign.clone());
    PaxosMsg::AcceptStopSign(AcceptStopSign { n, idx, stopsign, decided_idx, stamp })
}

/// Asks for a promise (paper §4.1.1, step 1), if that is due.
fn build_prepare<T: Entry, B: Storage<T>>(
    log: &ReplicaLog<T, B>,
    progress: &mut Progress,
    send: impl FnOnce(PaxosMsg<T>),
) {
    if let Stage::Unpromised { is_prepare_due } = &mut progress.stage {
        if std::mem::take(is_prepare_due) {
            send(PaxosMsg::Prepare(Prepare {
                n: log.promise(),
                n_accepted: log.accepted_round(),
                accepted_idx: log.stored_len(),
                decided_idx: log.decided_idx(),
                takes_delta: log.learns_delta_first(),
                stamp: Stamp::default(),
            }));
        }
    }
}

/// Whether a follower got all that may be sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Built {
    All,
    /// It lacks too many decided entries: it must fetch them from a server that has them.
    TooMuch,
}

/// Builds the messages of a leader to its followers.
struct MessageBuilder<'a, T: Entry, B: Storage<T>> {
    log: &'a ReplicaLog<T, B>,
    limits: &'a Limits,
    codec: &'a mut Codec<T>,
    adopted_len: u64,
    read_at_once: Amount,
    /// Whether the next output continues without a further change.
    leaves_rest: bool,
}

impl<T: Entry, B: Storage<T>> MessageBuilder<'_, T, B> {
    /// Builds the messages to one follower: what it lacks and was not sent.
    fn for_follower(
        &mut self,
        progress: &mut Progress,
        send: impl FnMut(PaxosMsg<T>),
    ) -> Result<Built, Halted> {
        let most = progress.most_at_once();
        match &mut progress.stage {
            Stage::Unpromised { .. } => {
                build_prepare(self.log, progress, send);
                Ok(Built::All)
            }
            Stage::Promised(promised) => {
                let promised = *promised;
                match self.sync(promised, most, send)? {
                    Some(sent) => {
                        let has_room = sent.room(self.window(most)).is_some()
                            || self.log.stopsign_at(sent.next_idx).is_some();
                        self.leaves_rest |= sent.next_idx < self.log.sendable_len() && has_room;
                        progress.stage = Stage::Syncing(promised, sent);
                        Ok(Built::All)
                    }
                    None => {
                        progress.stage = Stage::CatchingUp(promised);
                        Ok(Built::TooMuch)
                    }
                }
            }
            Stage::CatchingUp(_) => Ok(Built::All),
            Stage::Syncing(_, sent) | Stage::Replicating(sent) => self.accepts(sent, most, send),
        }
    }

    /// Returns what may be in flight to a follower that is sent no more than `most` at once.
    #[inline]
    fn window(&self, most: Option<Amount>) -> Amount {
        let in_flight = self.limits.in_flight;
        most.map_or(in_flight, |most| in_flight.min(most))
    }

    /// Sends what a log lacks (paper §4.1.2), at least up to the adopted length: so the follower
    /// holds all that was chosen before this ballot. `None` if that is too much for a message, or
    /// more than `most`.
    fn sync(
        &mut self,
        promised: Promised,
        most: Option<Amount>,
        mut send: impl FnMut(PaxosMsg<T>),
    ) -> Result<Option<Sent>, Halted> {
        let (log, message) = (self.log, self.limits.message);
        let limit = most.map_or(message, |most| message.min(most));
        let Promised { decided_idx, takes_delta } = promised;
        let sync = log.build_sync(decided_idx, takes_delta, self.adopted_len, limit)?;
        let Some(sync) = sync.filter(|sync| most.is_none_or(|most| sync.amount().fits(most)))
        else {
            return Ok(None);
        };
        let (n, decided_idx, stamp) = (log.promise(), log.decided_idx(), Stamp::default());
        let mut sent = Sent::up_to(sync.suffix_idx, decided_idx);
        sent.advance(sync.len().unwrap_or(sync.suffix_idx), sync.amount());
        self.codec.reset(log.len());
        let sync = Box::new(sync);
        send(PaxosMsg::AcceptSync(AcceptSync { n, decided_idx, sync, stamp }));
        Ok(Some(sent))
    }

    /// Sends the entries, the stop sign and the decided index that were not sent (paper §4.1.3),
    /// within the window, and no more than `most` at once.
    fn accepts(
        &mut self,
        sent: &mut Sent,
        most: Option<Amount>,
        mut send: impl FnMut(PaxosMsg<T>),
    ) -> Result<Built, Halted> {
        let log = self.log;
        let (n, decided_idx): (Ballot, u64) = (log.promise(), log.decided_idx());
        let stamp = Stamp::default();
        let mut is_probe_due = std::mem::take(&mut sent.is_probe_due);
        if self.is_far_behind(sent) {
            let was_redirected = sent.catching_up_to.is_some() && !is_probe_due;
            sent.catching_up_to.get_or_insert(decided_idx);
            return Ok(if was_redirected { Built::All } else { Built::TooMuch });
        }
        sent.catching_up_to = None;
        let end = log.sendable_len();
        let window = self.window(most);
        let mut read = Amount::default();
        while sent.next_idx < end {
            let from_idx = sent.next_idx;
            if let Some(stopsign) = log.stopsign_at(from_idx) {
                send(accept_stopsign(log, from_idx, stopsign));
                sent.advance(from_idx + 1, Amount::default());
                sent.decided_idx = decided_idx;
                is_probe_due = false;
                continue;
            }
            let Some(room) = sent.room(window) else {
                break;
            };
            let end_of_run = self.codec.end_of_run(from_idx, end);
            let limit = room.min(self.limits.message);
            let Part { entries, amount } =
                log.sendable_within(from_idx, end_of_run, limit, self.read_at_once)?;
            if most.is_some_and(|most| !amount.fits(most)) {
                break;
            }
            let entries = self.codec.coded(from_idx, entries);
            let ids = log.ids().of_accepts(from_idx, from_idx + amount.entries);
            let accept = AcceptDecide { n, from_idx, entries, decided_idx, ids, stamp };
            send(PaxosMsg::AcceptDecide(accept));
            sent.advance(from_idx + amount.entries, amount);
            sent.decided_idx = decided_idx;
            is_probe_due = false;
            if sent.next_idx < end {
                read.add(amount);
                if self.has_read_much(read, sent.next_idx) {
                    self.leaves_rest = true;
                    break;
                }
            }
        }
        if is_probe_due {
            let from_idx = sent.next_idx;
            // A stop sign that was sent is sent again, since followers answer it.
            let sent_stopsign = log.stopsign_idx().zip(log.stopsign_before(from_idx));
            send(match sent_stopsign {
                Some((idx, stopsign)) => accept_stopsign(log, idx, stopsign),
                None => {
                    let (entries, ids) = (SharedEntries::default().into(), None);
                    let accept = AcceptDecide { n, from_idx, entries, decided_idx, ids, stamp };
                    PaxosMsg::AcceptDecide(accept)
                }
            });
            sent.decided_idx = decided_idx;
        }
        if sent.next_idx >= end && sent.decided_idx < decided_idx {
            send(PaxosMsg::Decide(Decide { n, decided_idx, stamp }));
            sent.decided_idx = decided_idx;
        }
        Ok(Built::All)
    }

    /// Returns whether an output that has sent a follower this amount leaves the rest, from `idx` on, to the next
    /// output. Only a rest that must be read from the storage is left. An output sends more than it appended, so
    /// that a follower that lags catches up.
    #[cold]
    fn has_read_much(&self, sent: Amount, idx: u64) -> bool {
        let (_, mut most) = self.log.recent();
        most.add(self.read_at_once);
        !sent.is_below(most)
            && !self.log.is_recent(idx)
            && self.log.stopsign_at(idx).is_none()
            && self.log.decided_stopsign().is_none()
    }

    /// Returns whether a replicating follower should catch up: it lacks compacted entries, or
    /// nothing is in flight to it and it lacks too many decided entries. It continues until it has
    /// all that was decided then, so that other servers send most of it.
    fn is_far_behind(&self, sent: &Sent) -> bool {
        let (has, most) = (sent.next_idx, self.limits.in_flight.entries);
        let lacks = |idx| self.log.entries_among(has, idx);
        let decided_idx = self.log.decided_idx();
        let is_far = || {
            // Some indices are those of stop signs.
            decided_idx.saturating_sub(has) > most
                && lacks(decided_idx) > most
                && sent.is_nothing_in_flight()
        };
        has < self.log.compacted_idx()
            || sent.catching_up_to.is_some_and(|idx| lacks(idx) > 0)
            || is_far()
    }
}

#[cfg(test)]
mod tests;
