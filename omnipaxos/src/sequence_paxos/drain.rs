//! Flush, then draw: the only place where the log is written and where messages are made.

use super::{
    progress::{Progress, Promised, Sent, Stage},
    state::{Ack, State},
    SequencePaxos,
};
use crate::{
    ballot::Ballot,
    errors::Halted,
    ids::NodeId,
    messages::{
        sequence_paxos::{
            AcceptDecide, AcceptStopSign, AcceptSync, Accepted, Compaction, CompactionAction,
            Decide, NotAccepted, PaxosMessage, PaxosMsg, Prepare, PrepareReq, Promise,
        },
        Message,
    },
    outbox::Due,
    replica_log::{Readers, ReplicaLog},
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Whether there is nothing to write and nothing to say, as at a follower that has learnt what
    /// is decided.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.state, State::Following(Ack::No))
            && self.log.is_flushed()
            && self.is_all_said()
    }

    /// Whether nothing is due besides what the state tells.
    fn is_all_said(&self) -> bool {
        self.outbox.is_empty() && self.compactions.is_silent() && self.proposals.is_empty()
    }

    /// Writes what changed, then appends to `messages` all that is due.
    ///
    /// # Errors
    /// The storage failed; then nothing was said that is not stored.
    pub(crate) fn drain(&mut self, messages: &mut Vec<Message<T>>) -> Result<(), Halted> {
        self.flush()?;
        self.decide_chosen();
        let drawn = self.draw(messages);
        self.log.forget_recent();
        drawn
    }

    /// The next flush writes all that changed, also if that is the decided index alone.
    pub(crate) fn owe_decided_idx(&mut self) {
        self.log.owe_decided_idx();
    }

    /// Writes what changed.
    pub(crate) fn flush(&mut self) -> Result<(), Halted> {
        let readers = match &self.state {
            State::Leading(_) if !self.peers.is_empty() => Readers::StorageAndMessages,
            State::Recovering
            | State::Promised { .. }
            | State::Following(_)
            | State::Preparing(_)
            | State::Leading(_) => Readers::Storage,
        };
        self.log.flush(readers)
    }

    fn draw(&mut self, messages: &mut Vec<Message<T>>) -> Result<(), Halted> {
        let from = self.pid;
        let mut send = |to: NodeId, msg: PaxosMsg<T>| {
            messages.push(Message::SequencePaxos(PaxosMessage { from, to, msg }));
        };
        match &mut self.state {
            State::Recovering => {}
            State::Promised { prepare, is_promise_due } => {
                if std::mem::take(is_promise_due) {
                    send(prepare.n.pid, draw_promise(&self.log, prepare)?);
                }
            }
            State::Following(ack) => match ack.take() {
                Ack::No => {}
                due @ (Ack::Due | Ack::DueWithGap) => {
                    send(self.log.promise().pid, draw_accepted(&self.log, due));
                }
            },
            State::Preparing(preparing) => {
                for (to, progress) in preparing.followers.iter_mut() {
                    draw_prepare(&self.log, progress, |msg| send(to, msg));
                }
            }
            State::Leading(followers) => {
                for (to, progress) in followers.iter_mut() {
                    draw_for_follower(&self.log, progress, |msg| send(to, msg))?;
                }
            }
        }
        if self.is_all_said() {
            return Ok(());
        }
        while let Some((to, due)) = self.outbox.pop() {
            self.draw_due(&due, |msg| send(to, msg));
        }
        let config_id = self.config_id;
        self.compactions.draw(|to, action| {
            send(to, PaxosMsg::Compaction(Compaction { config_id, action }));
        });
        self.draw_forwards(send);
        Ok(())
    }

    fn draw_due(&self, due: &Due, mut send: impl FnMut(PaxosMsg<T>)) {
        if due.prepare_req {
            send(PaxosMsg::PrepareReq(PrepareReq {
                config_id: self.config_id,
                n: self.log.promise(),
                n_accepted: self.log.accepted_round(),
                accepted_idx: self.log.stored_len(),
                decided_idx: self.log.decided_idx(),
            }));
        }
        if due.not_accepted {
            send(PaxosMsg::NotAccepted(NotAccepted { n: self.log.promise() }));
        }
        if let Some(idx) = due.compacted {
            let action = CompactionAction::Compacted(idx);
            send(PaxosMsg::Compaction(Compaction { config_id: self.config_id, action }));
        }
    }
}

/// Promises, with what the leader's log lacks if this one is more recent (paper §4.1.1, step 2).
fn draw_promise<T: Entry, B: Storage<T>>(
    log: &ReplicaLog<T, B>,
    prepare: &Prepare,
) -> Result<PaxosMsg<T>, Halted> {
    let own = (log.accepted_round(), log.stored_len());
    let sync = if own > (prepare.n_accepted, prepare.accepted_idx) {
        Some(Box::new(log.lacking(prepare.decided_idx, prepare.takes_delta)?))
    } else {
        None
    };
    Ok(PaxosMsg::Promise(Promise {
        n: prepare.n,
        n_accepted: log.accepted_round(),
        accepted_idx: log.stored_len(),
        decided_idx: log.decided_idx(),
        takes_delta: log.takes_delta(),
        sync,
    }))
}

fn draw_accepted<T: Entry, B: Storage<T>>(log: &ReplicaLog<T, B>, due: Ack) -> PaxosMsg<T> {
    PaxosMsg::Accepted(Accepted {
        n: log.promise(),
        accepted_idx: log.stored_len(),
        decided_idx: log.decided_idx(),
        gap: due == Ack::DueWithGap,
    })
}

/// Asks for a promise (paper §4.1.1, step 1), if that is due.
fn draw_prepare<T: Entry, B: Storage<T>>(
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
                takes_delta: log.takes_delta(),
            }));
        }
    }
}

/// Brings one follower forward: whatever it lacks and was not sent.
fn draw_for_follower<T: Entry, B: Storage<T>>(
    log: &ReplicaLog<T, B>,
    progress: &mut Progress,
    send: impl FnMut(PaxosMsg<T>),
) -> Result<(), Halted> {
    match &mut progress.stage {
        Stage::Unpromised { .. } => draw_prepare(log, progress, send),
        Stage::Promised(promised) => {
            let promised = *promised;
            draw_sync(log, promised, send)?;
            progress.stage = Stage::Syncing(promised, all_sent(log));
        }
        Stage::Syncing(_, sent) | Stage::InStep(sent) => draw_accepts(log, sent, send)?,
    }
    Ok(())
}

/// The whole log was sent.
fn all_sent<T: Entry, B: Storage<T>>(log: &ReplicaLog<T, B>) -> Sent {
    Sent::up_to(log.stored_len(), log.decided_idx())
}

/// Sends what a log lacks (paper §4.1.2).
fn draw_sync<T: Entry, B: Storage<T>>(
    log: &ReplicaLog<T, B>,
    promised: Promised,
    mut send: impl FnMut(PaxosMsg<T>),
) -> Result<(), Halted> {
    let sync = log.lacking(promised.decided_idx, promised.takes_delta)?;
    send(PaxosMsg::AcceptSync(AcceptSync {
        n: log.promise(),
        decided_idx: log.decided_idx(),
        sync: Box::new(sync),
    }));
    Ok(())
}

/// Sends the entries, the stop sign and the decided index that were not sent (paper §4.1.3).
fn draw_accepts<T: Entry, B: Storage<T>>(
    log: &ReplicaLog<T, B>,
    sent: &mut Sent,
    mut send: impl FnMut(PaxosMsg<T>),
) -> Result<(), Halted> {
    let (n, decided_idx): (Ballot, u64) = (log.promise(), log.decided_idx());
    if sent.next_idx < log.compacted_idx() {
        let lacks = Promised { decided_idx: sent.next_idx, takes_delta: false };
        draw_sync(log, lacks, send)?;
        *sent = all_sent(log);
        return Ok(());
    }
    let end = log.end();
    let is_probe_due = std::mem::take(&mut sent.is_probe_due);
    let probes_at_end = is_probe_due && sent.next_idx == end && log.stopsign().is_none();
    if sent.next_idx < end || probes_at_end {
        let from_idx = sent.next_idx;
        let entries = log.sendable(from_idx, end)?;
        send(PaxosMsg::AcceptDecide(AcceptDecide { n, from_idx, entries, decided_idx }));
        sent.next_idx = end;
        sent.decided_idx = decided_idx;
    }
    if let Some(stopsign) = log.stopsign().filter(|_| sent.next_idx == end || is_probe_due) {
        let stopsign = Box::new(stopsign.clone());
        send(PaxosMsg::AcceptStopSign(AcceptStopSign { n, idx: end, stopsign, decided_idx }));
        sent.next_idx = end + 1;
        sent.decided_idx = decided_idx;
    }
    if sent.decided_idx < decided_idx {
        send(PaxosMsg::Decide(Decide { n, decided_idx }));
        sent.decided_idx = decided_idx;
    }
    Ok(())
}
