//! The follower: promises, accepts, decides (paper §4.1).

use super::{
    state::{Ack, State},
    SequencePaxos,
};
use crate::{
    ballot::Ballot,
    codec::Decoded,
    errors::Halted,
    ids::NodeId,
    messages::sequence_paxos::{
        AcceptDecide, AcceptStopSign, AcceptSync, CatchUpRedirect, Decide, LogSync, Prepare,
    },
    observe::trace::LogEvent,
    replica_log::{Extended, Records, Synced},
    storage::{Entry, Storage},
};

/// The relation of this server to the sender of a message of the accept phase.
enum Standing {
    /// It follows the sender's ballot, and may change its log for it.
    Replicating,
    /// It has promised the sender's ballot, and is not synced yet.
    Promised,
    /// It does not take part in that ballot.
    BallotMismatch,
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Handles the Prepare of a leader (paper §4.1.1, step 2).
    pub(crate) fn handle_prepare(&mut self, prepare: Prepare, from: NodeId) -> Result<(), Halted> {
        if prepare.n < self.log.promise() {
            self.outbox.refuse(from);
            return Ok(());
        }
        if self.has_left_epoch() {
            return Ok(());
        }
        if prepare.n == self.log.promise() && self.log.accepted_round() == prepare.n {
            match &mut self.state {
                State::Following(ack) => ack.schedule(),
                State::Recovering => self.outbox.ask_for_leader(from),
                State::Promised { .. } | State::Preparing(_) | State::Leading(_) => {}
            }
            return Ok(());
        }
        if prepare.n > self.log.promise() {
            self.trace.emit(|| LogEvent::info("promises").in_ballot(prepare.n).with_peer(from));
            self.keep_what_it_led(prepare.n.pid)?;
            self.drop_what_it_led(prepare.n.pid);
            self.log.promise_to(prepare.n);
            self.end_pauses();
        }
        self.leadership_change = None;
        self.state = State::Promised { prepare, is_promise_due: true };
        Ok(())
    }

    /// Handles an AcceptSync of the leader (paper §4.1.2). It is one unit: the log is replaced from
    /// the decided index on, and only then counts as accepted in the leader's ballot.
    pub(super) fn handle_accept_sync(&mut self, sync: AcceptSync<T>, from: NodeId) {
        let AcceptSync { n, decided_idx, sync, .. } = sync;
        match self.standing(n, from) {
            Standing::BallotMismatch => {}
            Standing::Replicating => {
                let extended = self.log.extend_by(*sync);
                self.finish_accept(extended, decided_idx);
            }
            Standing::Promised => self.get_in_step(n, decided_idx, *sync),
        }
    }

    /// Replaces the log by that of the leader of ballot `n`, which is promised.
    fn get_in_step(&mut self, n: Ballot, decided_idx: u64, sync: LogSync<T>) {
        // If the leader's log is shorter than a promise to it, the AcceptSync contains nothing
        // beyond its base.
        let was_newer = sync.len().is_some_and(|len| len > sync.suffix_idx);
        match self.apply_sync(sync, n, decided_idx) {
            Synced::Applied => {
                self.log.accept_in(n);
                self.end_pauses();
                self.codec.invalidate();
                let len = self.log.len();
                self.trace.emit(|| LogEvent::info("follows").in_ballot(n).at(len));
                self.state = State::Following(Ack::No);
                self.finish_accept(Extended::Appended, decided_idx);
                self.announce_trim();
                self.forward_lost();
            }
            // The leader was overtaken, or does not know how much was fetched here: the promise
            // with that index may be lost.
            outcome @ (Synced::Overtaken | Synced::Gap) => {
                if let State::Promised { is_promise_due, .. } = &mut self.state {
                    *is_promise_due = true;
                }
                if outcome == Synced::Overtaken && was_newer {
                    self.pause_catch_up();
                }
            }
        }
    }

    /// Replaces the log by that of the leader of ballot `n`, which has decided `decided_idx`
    /// entries, if that is allowed.
    fn apply_sync(&mut self, sync: LogSync<T>, n: Ballot, decided_idx: u64) -> Synced {
        let len = sync.len();
        let applied = self.log.apply(sync);
        if let (Synced::Overtaken, Some(len)) = (applied, len) {
            self.suspect_loss(n, len, decided_idx);
        } else if applied == Synced::Applied {
            self.loss = None;
        }
        applied
    }

    /// Handles a redirect: the leader names a server that has the missing entries.
    pub(super) fn handle_catch_up_redirect(&mut self, redirect: &CatchUpRedirect, from: NodeId) {
        match self.standing(redirect.n, from) {
            Standing::BallotMismatch => return,
            Standing::Replicating => self.log.decide_as_reported(redirect.decided_idx),
            Standing::Promised => {}
        }
        self.trace.emit(|| {
            let event = LogEvent::debug("is redirected to catch up").with_peer(redirect.source);
            event.at(redirect.decided_idx)
        });
        self.catch_up_to(redirect.decided_idx, redirect.source, from);
    }

    /// Handles entries from the leader (paper §4.1.3). If this server cannot decode them, since it
    /// does not know all entries encoded before them, it asks for them as a restarted server does.
    pub(super) fn handle_accept_decide(&mut self, accept: AcceptDecide<T>, from: NodeId) {
        let AcceptDecide { n, from_idx, entries, decided_idx, ids, .. } = accept;
        if let Standing::Replicating = self.standing(n, from) {
            match self.codec.decode(from_idx, entries, self.log.len()) {
                Decoded::Entries { from_idx, entries } => {
                    let extended = self.log.extend(from_idx, entries.into(), ids);
                    self.finish_accept(extended, decided_idx);
                }
                Decoded::Unreadable => {
                    self.log.decide_as_reported(decided_idx);
                    self.outbox.ask_for_leader(from);
                }
            }
        }
    }

    /// Handles the stop sign from the leader (paper §6).
    pub(super) fn handle_accept_stopsign(&mut self, accept: AcceptStopSign, from: NodeId) {
        if let Standing::Replicating = self.standing(accept.n, from) {
            let stopsign = Records::from(accept.stopsign);
            let extended = self.log.extend(accept.idx, stopsign, None);
            self.finish_accept(extended, accept.decided_idx);
        }
    }

    /// Handles a decided index from the leader (paper §4.1.3, step 3). There is no answer, unless
    /// entries are missing.
    pub(super) fn handle_decide(&mut self, decide: &Decide, from: NodeId) {
        if let Standing::Replicating = self.standing(decide.n, from) {
            if decide.decided_idx > self.log.len() {
                self.schedule_ack(Ack::DueWithGap);
            }
            self.log.decide_as_reported(decide.decided_idx);
        }
    }

    /// Records the decided index and schedules an acknowledgement.
    fn finish_accept(&mut self, extended: Extended, decided_idx: u64) {
        self.log.decide_as_reported(decided_idx);
        self.schedule_ack(match extended {
            Extended::Appended => Ack::Due,
            Extended::Gap => Ack::DueWithGap,
        });
    }

    /// Handles a heartbeat request of a leader that did not answer the last round: what was sent to it may
    /// be lost. If the heartbeat reply arrives, what leaves with it arrives, too. If links are never open for
    /// longer, nothing else would. So this server repeats its acknowledgement, a few of its proposals, and
    /// its request for reads.
    pub(crate) fn asked_by_silent(&mut self, leader: NodeId) {
        if let State::Following(ack) = &mut self.state {
            if self.log.promise().pid == leader {
                ack.schedule();
            }
        }
        if self.leader() == Some(leader) && self.routing.note_asked_by(leader) {
            self.reads.ask_again();
            self.repeat_few_forwards();
        }
    }

    fn schedule_ack(&mut self, due: Ack) {
        if let State::Following(ack) = &mut self.state {
            *ack = due;
        }
    }

    /// Returns the relation to the sender. Only the promised ballot may change the log. A lower
    /// ballot is refused. For a higher one, the Prepare was lost, so this server asks for it.
    fn standing(&mut self, n: Ballot, from: NodeId) -> Standing {
        let promise = self.log.promise();
        if n != promise {
            if n < promise {
                self.outbox.refuse(from);
            } else {
                self.outbox.ask_for_leader(from);
            }
            return Standing::BallotMismatch;
        }
        let has_accepted = self.log.accepted_round() == n;
        match &self.state {
            State::Following(_) => Standing::Replicating,
            State::Promised { .. } => Standing::Promised,
            State::Recovering if has_accepted => {
                self.state = State::Following(Ack::No);
                Standing::Replicating
            }
            State::Recovering => {
                self.outbox.ask_for_leader(from);
                Standing::BallotMismatch
            }
            State::Preparing(_) | State::Leading(_) => Standing::BallotMismatch,
        }
    }
}

#[cfg(test)]
mod tests;
