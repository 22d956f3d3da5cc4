//! The leader: the prepare phase and the accept phase (paper §4.1).

use super::{
    in_flight::InFlight,
    progress::{Followers, Promised},
    reads::rounds::Rounds,
    state::{Best, Leading, Preparing, State},
    Contact, LeadershipChange, SequencePaxos,
};
use crate::{
    ballot::Ballot,
    errors::Halted,
    ids::NodeId,
    messages::sequence_paxos::{Accepted, Promise},
    observe::trace::LogEvent,
    replica_log::Synced,
    storage::{Entry, Storage},
};

/// The smallest number of heartbeat rounds that a leader waits for promises. If no quorum promises,
/// it waits twice as long the next time, since a promise with a large log may be on its way.
pub(super) const LEAST_PREPARE_ROUNDS: u32 = 4;

/// The largest number of heartbeat rounds that a leader waits for promises.
const MOST_PREPARE_ROUNDS: u32 = 64;

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Handles a leader named by the election (paper §4.1.1, step 1).
    ///
    /// Invariant I4: this server leads only in a ballot above its promise. The new promise is
    /// flushed before the Prepare leaves. So the server leads in each ballot at most once, also
    /// over restarts.
    pub(crate) fn handle_elected(&mut self, ballot: Ballot) -> Result<(), Halted> {
        self.elected = self.elected.max(ballot);
        if ballot <= self.log.promise() || self.has_left_epoch() {
            return Ok(());
        }
        self.keep_what_it_led(ballot.pid)?;
        if ballot.pid != self.pid {
            self.step_down(ballot.pid);
            return Ok(());
        }
        if let (State::Leading(_), false) = (&self.state, self.keeps_what_it_led(self.pid)) {
            self.proposals.note_led();
        }
        self.trace.emit(|| LogEvent::info("prepares").in_ballot(ballot));
        self.log.promise_to(ballot);
        self.leadership_change = None;
        self.state = State::Preparing(Preparing::new(self.members.peers(), self.log.decided_idx()));
        self.lead_if_promised()
    }

    /// Stops leading, since another server was elected in a higher ballot.
    fn step_down(&mut self, next: NodeId) {
        if let State::Preparing(_) | State::Leading(_) = self.state {
            self.drop_what_it_led(next);
            let n = self.log.promise();
            self.trace.emit(|| LogEvent::info("stops leading").in_ballot(n));
            self.state = State::Recovering;
            self.ask_all_for_leader();
        }
    }

    /// Handles a promise (paper §4.1.1, step 3).
    pub(super) fn handle_promise(
        &mut self,
        promise: Promise<T>,
        from: NodeId,
    ) -> Result<(), Halted> {
        if promise.n != self.log.promise() {
            return Ok(());
        }
        let own = (self.log.accepted_round(), self.log.len());
        let promised =
            Promised { decided_idx: promise.decided_idx, takes_delta: promise.takes_delta };
        match &mut self.state {
            State::Recovering | State::Promised { .. } | State::Following(_) => {}
            State::Leading(leading) => {
                if let Some(progress) = leading.followers.get_mut(from) {
                    progress.promise(promised);
                }
            }
            State::Preparing(preparing) => {
                if let Some(progress) = preparing.followers.get_mut(from) {
                    progress.promise(promised);
                }
                match preparing.consider(promise, own, from) {
                    Considered::Counts => return self.lead_if_promised(),
                    Considered::IsPutOff => self.catch_up_with(promised.decided_idx, from),
                }
            }
        }
        Ok(())
    }

    /// Fetches the entries that the sender of a promise has decided, and then asks it again.
    fn catch_up_with(&mut self, decided_idx: u64, promiser: NodeId) {
        if decided_idx > self.log.decided_idx() {
            self.catch_up_to(decided_idx, promiser, promiser);
        } else if let Some(progress) = self.followers_mut().and_then(|f| f.get_mut(promiser)) {
            progress.ask_again();
        }
    }

    /// With a quorum of promises: adopts the most recent log and enters the accept phase (paper
    /// §4.1.1, step 4).
    fn lead_if_promised(&mut self) -> Result<(), Halted> {
        let State::Preparing(preparing) = &mut self.state else {
            return Ok(());
        };
        if !self.members.quorum().can_prepare(preparing.followers.promised() + 1) {
            return Ok(());
        }
        if let Some(Best { sync, decided_idx, .. }) = preparing.best.take() {
            match self.log.apply(*sync) {
                // R3: what the other promises say is decided may differ from what this log holds there.
                Synced::Applied => self.log.decide(decided_idx),
                Synced::Overtaken | Synced::Gap => {
                    // The log was compacted since the Prepare. The second best promise was not
                    // kept.
                    *preparing = Preparing::new(self.members.peers(), self.log.decided_idx());
                    return Ok(());
                }
            }
        }
        let followers = std::mem::replace(&mut preparing.followers, Followers::unpromised(&[]));
        self.log.accept_in(self.log.promise());
        self.loss = None;
        let mut undecided = InFlight::default();
        let (end, stored) = self.log.count_undecided()?;
        undecided.add(end, stored);
        let adopted_len = self.log.len();
        self.codec.reset(adopted_len);
        self.state = State::Leading(Leading {
            followers,
            adopted_len,
            decided_before: self.log.decided_idx(),
            undecided,
            reads: Rounds::default(),
            transfer: None,
            asked_to_take_over: None,
        });
        self.prepare_rounds = LEAST_PREPARE_ROUNDS;
        self.reads.ask_again();
        let n = self.log.promise();
        self.trace.emit(|| LogEvent::info("leads").in_ballot(n).at(adopted_len));
        self.stop_catch_up();
        self.announce_trim();
        self.forward_lost();
        self.propose_if_leading();
        Ok(())
    }

    /// Ends a heartbeat round in the prepare phase. A leader resigns if it reaches a quorum but
    /// makes no progress: it gets no promise, and learns no entries that it needs for one. A
    /// promise may be more than the network carries, and another server may need a smaller one.
    pub(super) fn resign_if_not_promised(&mut self, contact: Contact) {
        let decided_idx = self.log.decided_idx();
        let State::Preparing(preparing) = &mut self.state else {
            return;
        };
        let reached = (preparing.followers.promised(), decided_idx);
        if reached != preparing.reached {
            (preparing.waited, preparing.reached) = (0, reached);
        } else if contact == Contact::Kept {
            preparing.waited += 1;
        }
        if preparing.waited < self.prepare_rounds {
            return;
        }
        self.drop_what_it_led(self.pid);
        let n = self.log.promise();
        self.trace.emit(|| LogEvent::warn("resigns, since no quorum promises").in_ballot(n));
        self.state = State::Recovering;
        self.leadership_change = Some(LeadershipChange::NotPromised(2 * self.prepare_rounds));
        self.prepare_rounds = (2 * self.prepare_rounds).min(MOST_PREPARE_ROUNDS);
        self.ask_all_for_leader();
    }

    /// Handles an acknowledgement (paper §4.1.3).
    pub(super) fn handle_accepted(&mut self, accepted: &Accepted, from: NodeId) {
        if accepted.n != self.log.promise() {
            return;
        }
        if accepted.accepted_idx > self.log.sendable_len() {
            return self.suspect_overtaken(accepted.decided_idx);
        }
        if let State::Leading(leading) = &mut self.state {
            if let Some(progress) = leading.followers.get_mut(from) {
                progress.accept(accepted);
                let is_transferring = leading.transfer.is_some();
                self.decide_chosen();
                if is_transferring {
                    self.request_takeover_if_caught_up();
                }
                self.propose_if_leading();
            }
        }
    }

    /// Handles the decided index of another server. If it is beyond the log of this leader, a later
    /// leader has decided it: all that was decided in earlier ballots is in the adopted log.
    pub(super) fn suspect_overtaken(&mut self, decided_idx: u64) {
        if decided_idx > self.log.len() && self.leadership_change.is_none() {
            if let State::Leading(_) = self.state {
                self.leadership_change = Some(LeadershipChange::Preempted(self.log.promise()));
            }
        }
    }

    /// Decides what a write quorum has accepted in this ballot (I7). The leader counts with its
    /// stored log. The others cannot have accepted more than it may send.
    pub(super) fn decide_chosen(&mut self) {
        if let State::Leading(leading) = &mut self.state {
            let (own, sendable) = (self.log.stored_len(), self.log.sendable_len());
            if sendable <= self.log.decided_idx() {
                return;
            }
            self.accepted.clear();
            self.accepted.push(own);
            self.accepted.extend(leading.followers.accepted().map(|(_, idx)| idx));
            debug_assert!(
                self.accepted.iter().all(|idx| *idx <= sendable),
                "I23: accepted {:?}, of which the leader may send {sendable}",
                self.accepted
            );
            let chosen = self.members.quorum().chosen_idx(&mut self.accepted);
            self.log.decide_in_round(chosen.min(sendable));
            leading.undecided.pass(self.log.decided_idx());
        }
    }

    /// Handles a refusal: a server has promised a ballot above this leader's (paper §4.1.2).
    ///
    /// The election decides what follows from that: see
    /// [`take_leadership_change`](Self::take_leadership_change).
    pub(super) fn handle_not_accepted(&mut self, n: Ballot) {
        let leads = matches!(self.state, State::Preparing(_) | State::Leading(_));
        if leads && n > self.log.promise() {
            self.trace.emit(|| LogEvent::info("is refused as the leader").in_ballot(n));
            self.leadership_change =
                self.leadership_change.max(Some(LeadershipChange::Preempted(n)));
        }
    }

    /// Returns what prevents this server from leading, if anything does.
    pub(crate) fn take_leadership_change(&mut self) -> Option<LeadershipChange> {
        self.leadership_change.take()
    }

    /// Returns whether this server leads, and has decided something in its ballot.
    pub(crate) fn has_decided_as_leader(&self) -> bool {
        match &self.state {
            State::Leading(leading) => self.log.decided_idx() > leading.decided_before,
            State::Recovering
            | State::Promised { .. }
            | State::Following(_)
            | State::Preparing(_) => false,
        }
    }

    /// Returns the index that every server has accepted in this ballot, if this one leads.
    pub(super) fn accepted_by_all(&self) -> Option<u64> {
        self.accepted_by_node().into_iter().map(|(_, idx)| idx).min()
    }

    pub(super) fn followers_mut(&mut self) -> Option<&mut Followers> {
        match &mut self.state {
            State::Preparing(preparing) => Some(&mut preparing.followers),
            State::Leading(leading) => Some(&mut leading.followers),
            State::Recovering | State::Promised { .. } | State::Following(_) => None,
        }
    }

    /// Returns whether this server leads, in the prepare phase or the accept phase.
    pub(super) fn has_followers(&self) -> bool {
        match &self.state {
            State::Preparing(_) | State::Leading(_) => true,
            State::Recovering | State::Promised { .. } | State::Following(_) => false,
        }
    }

    /// Sends unacknowledged entries again, to the peers that `answered` the last round.
    pub(super) fn resend_to_all(&mut self, answered: impl Fn(NodeId) -> bool) {
        let (len, decided_idx) = (self.log.len(), self.log.decided_idx());
        if let Some(followers) = self.followers_mut() {
            for (_, progress) in followers.iter_mut().filter(|(pid, _)| answered(*pid)) {
                progress.resend(len, decided_idx);
            }
        }
    }
}

impl<T: Entry> Preparing<T> {
    /// Creates the prepare phase: no server has promised, and a Prepare is due to all.
    /// `decided_here` entries are decided at this server.
    fn new(peers: &[NodeId], decided_here: u64) -> Self {
        let (followers, reached) = (Followers::unpromised(peers), (0, decided_here));
        Self { followers, best: None, waited: 0, reached }
    }

    /// Keeps the promise if its log is the most recent so far, including the log of this server. A
    /// promise without its entries does not count yet: they are too much for a message, or its
    /// sender considered this log the more recent.
    fn consider(&mut self, promise: Promise<T>, own: (Ballot, u64), from: NodeId) -> Considered {
        // Entries fetched since then may make the log of this server the most recent.
        self.best.take_if(|best| (best.n_accepted, best.accepted_idx) <= own);
        let known = self.best.as_ref().map_or(own, |best| (best.n_accepted, best.accepted_idx));
        if (promise.n_accepted, promise.accepted_idx) <= known {
            return Considered::Counts;
        }
        match promise.sync {
            Some(sync) => {
                self.best = Some(Best {
                    n_accepted: promise.n_accepted,
                    accepted_idx: promise.accepted_idx,
                    decided_idx: promise.decided_idx,
                    sync,
                });
                Considered::Counts
            }
            None => {
                if let Some(progress) = self.followers.get_mut(from) {
                    progress.put_off();
                }
                Considered::IsPutOff
            }
        }
    }
}

/// The result of a promise.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Considered {
    Counts,
    /// Its sender has the most recent log and does not send its entries.
    IsPutOff,
}

#[cfg(test)]
mod tests;
