//! Following a leader: promising, accepting, deciding (paper §4.1).

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
    replica_log::{Extended, Synced},
    storage::{Entry, Storage},
};

/// How this server stands to the sender of a message of the accept phase.
enum Standing {
    /// It follows the sender's ballot and may change its log for it.
    Replicating,
    /// It has promised the sender's ballot and was not synced yet.
    Promised,
    /// It has nothing to do with that ballot.
    BallotMismatch,
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// A leader asks to be followed (paper §4.1.1, step 2).
    pub(super) fn handle_prepare(&mut self, prepare: Prepare, from: NodeId) -> Result<(), Halted> {
        if prepare.n < self.log.promise() {
            self.outbox.refuse(from);
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

    /// The leader brings this log in step (paper §4.1.2). One unit: the log is replaced from the
    /// decided index on, and only then counts as accepted in the leader's ballot.
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

    /// Makes the log that of the leader of ballot `n`, which is promised.
    fn get_in_step(&mut self, n: Ballot, decided_idx: u64, sync: LogSync<T>) {
        // A leader with a shorter log than was promised to it sends nothing beyond its base.
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
                self.forward_anew();
            }
            // The leader was overtaken, or it does not know how much was learned here: the promise
            // that told it may be lost.
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

    /// Makes the log that of the leader of ballot `n`, which has decided `decided_idx` entries, if it
    /// may be.
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

    /// The leader tells where to learn what this server lacks.
    pub(super) fn handle_catch_up_redirect(&mut self, told: &CatchUpRedirect, from: NodeId) {
        match self.standing(told.n, from) {
            Standing::BallotMismatch => return,
            Standing::Replicating => self.log.decide_in_round(told.decided_idx),
            Standing::Promised => {}
        }
        self.trace.emit(|| {
            let event = LogEvent::debug("is told where to learn").with_peer(told.source);
            event.at(told.decided_idx)
        });
        self.catch_up_to(told.decided_idx, told.source, from);
    }

    /// The leader sends entries (paper §4.1.3). If they cannot be read, since this server does not
    /// know what was encoded before them, it asks for them as a restarted one does.
    pub(super) fn handle_accept_decide(&mut self, accept: AcceptDecide<T>, from: NodeId) {
        let AcceptDecide { n, from_idx, entries, decided_idx, ids, .. } = accept;
        if let Standing::Replicating = self.standing(n, from) {
            match self.codec.decode(from_idx, entries, self.log.end()) {
                Decoded::Entries { from_idx, entries } => {
                    let extended = self.log.extend(from_idx, entries, ids);
                    self.finish_accept(extended, decided_idx);
                }
                Decoded::Unreadable => {
                    self.log.decide_in_round(decided_idx);
                    self.outbox.ask_for_leader(from);
                }
            }
        }
    }

    /// The leader sends the stop sign (paper §6).
    pub(super) fn handle_accept_stopsign(&mut self, accept: AcceptStopSign, from: NodeId) {
        if let Standing::Replicating = self.standing(accept.n, from) {
            let extended = self.log.extend_stopsign(accept.idx, *accept.stopsign);
            self.finish_accept(extended, accept.decided_idx);
        }
    }

    /// The leader has decided (paper §4.1.3, step 3). No answer, unless entries are missing.
    pub(super) fn handle_decide(&mut self, decide: &Decide, from: NodeId) {
        if let Standing::Replicating = self.standing(decide.n, from) {
            if decide.decided_idx > self.log.len() {
                self.schedule_ack(Ack::DueWithGap);
            }
            self.log.decide_in_round(decide.decided_idx);
        }
    }

    /// Learns what is decided and schedules an acknowledgement.
    fn finish_accept(&mut self, extended: Extended, decided_idx: u64) {
        self.log.decide_in_round(decided_idx);
        self.schedule_ack(match extended {
            Extended::Appended => Ack::Due,
            Extended::Gap => Ack::DueWithGap,
        });
    }

    /// A leader that did not answer the last heartbeat round asks: what was acknowledged to it may be
    /// lost. An acknowledgement that leaves with the heartbeat reply comes through if that does. Where
    /// links are never open for longer than that, no other would.
    pub(crate) fn acknowledge_again(&mut self, leader: NodeId) {
        if let State::Following(ack) = &mut self.state {
            if self.log.promise().pid == leader {
                ack.schedule();
            }
        }
    }

    fn schedule_ack(&mut self, due: Ack) {
        if let State::Following(ack) = &mut self.state {
            *ack = due;
        }
    }

    /// Only the ballot that is promised may change the log. A lower one is refused; of a higher
    /// one the Prepare was lost, so it is asked for.
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
