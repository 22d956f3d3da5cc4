//! Leading: the prepare phase and the accept phase (paper §4.1).

use super::{
    progress::{Followers, Promised},
    state::{Best, Preparing, State},
    SequencePaxos,
};
use crate::{
    ballot::Ballot,
    errors::Halted,
    ids::NodeId,
    messages::sequence_paxos::{Accepted, Promise},
    replica_log::Synced,
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// The election named a leader (paper §4.1.1, step 1).
    ///
    /// Invariant I4: this server leads only in a ballot above what it has promised, which is
    /// flushed before the Prepare leaves; so it leads in each at most once, also over restarts.
    pub(crate) fn handle_elected(&mut self, ballot: Ballot) -> Result<(), Halted> {
        self.elected = self.elected.max(ballot);
        if ballot <= self.log.promise() {
            return Ok(());
        }
        if ballot.pid != self.pid {
            self.step_down();
            return Ok(());
        }
        self.log.promise_to(ballot);
        self.outbid_by = None;
        self.state = State::Preparing(Preparing::new(&self.peers));
        self.lead_if_promised()
    }

    /// Gives up leading: another was elected above.
    fn step_down(&mut self) {
        if let State::Preparing(_) | State::Leading(_) = self.state {
            self.state = State::Recovering;
            self.ask_all_for_leader();
        }
    }

    /// A follower has promised (paper §4.1.1, step 3).
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
            State::Leading(followers) => {
                if let Some(progress) = followers.get_mut(from) {
                    progress.promise(promised);
                }
            }
            State::Preparing(preparing) => {
                if let Some(progress) = preparing.followers.get_mut(from) {
                    progress.promise(promised);
                }
                preparing.consider(promise, own, from);
                return self.lead_if_promised();
            }
        }
        Ok(())
    }

    /// With a quorum of promises: adopts the most recent log and begins to accept (paper §4.1.1,
    /// step 4).
    fn lead_if_promised(&mut self) -> Result<(), Halted> {
        let State::Preparing(preparing) = &mut self.state else {
            return Ok(());
        };
        if !self.quorum.can_prepare(preparing.followers.promised() + 1) {
            return Ok(());
        }
        if let Some(Best { sync, .. }) = preparing.best.take() {
            match self.log.apply(*sync)? {
                Synced::Applied => {}
                Synced::Overtaken | Synced::Elsewhere => {
                    // The log was compacted since the Prepare. The next best was not kept.
                    *preparing = Preparing::new(&self.peers);
                    return Ok(());
                }
            }
        }
        let decided_idx = preparing.decided_idx;
        let followers = std::mem::replace(&mut preparing.followers, Followers::unpromised(&[]));
        self.log.accept_in(self.log.promise());
        self.log.decide(decided_idx);
        self.state = State::Leading(followers);
        self.announce_trim();
        self.propose_if_leading();
        Ok(())
    }

    /// A follower has accepted (paper §4.1.3).
    pub(super) fn handle_accepted(&mut self, accepted: &Accepted, from: NodeId) {
        let is_possible = accepted.accepted_idx <= self.log.stored_len();
        if accepted.n != self.log.promise() || !is_possible {
            return;
        }
        if let State::Leading(followers) = &mut self.state {
            if let Some(progress) = followers.get_mut(from) {
                progress.accept(accepted);
                self.decide_chosen();
            }
        }
    }

    /// Decides what a write quorum has accepted in this ballot. Invariant I7. The leader counts
    /// for what it has stored.
    pub(super) fn decide_chosen(&mut self) {
        if let State::Leading(followers) = &self.state {
            let own = self.log.stored_len();
            if own <= self.log.decided_idx() {
                return;
            }
            self.accepted.clear();
            self.accepted.push(own);
            self.accepted.extend(followers.accepted().map(|(_, idx)| idx));
            let chosen = self.quorum.chosen_idx(&mut self.accepted);
            self.log.decide(chosen.min(own));
        }
    }

    /// A server has promised a ballot above this leader's (paper §4.1.2).
    ///
    /// The election decides what to make of it: see [`take_outbid`](Self::take_outbid).
    pub(super) fn handle_not_accepted(&mut self, n: Ballot) {
        let leads = matches!(self.state, State::Preparing(_) | State::Leading(_));
        if leads && n > self.log.promise() {
            self.outbid_by = self.outbid_by.max(Some(n));
        }
    }

    /// Hands over the ballot in which this leader was refused, if it was.
    pub(crate) fn take_outbid(&mut self) -> Option<Ballot> {
        self.outbid_by.take()
    }

    /// What every server has accepted in this ballot, if this one leads.
    pub(super) fn accepted_by_all(&self) -> Option<u64> {
        self.accepted_by_node().into_iter().map(|(_, idx)| idx).min()
    }

    pub(super) fn followers_mut(&mut self) -> Option<&mut Followers> {
        match &mut self.state {
            State::Preparing(preparing) => Some(&mut preparing.followers),
            State::Leading(followers) => Some(followers),
            State::Recovering | State::Promised { .. } | State::Following(_) => None,
        }
    }

    /// Sends again whatever was not acknowledged, to the peers that `answered` the last round.
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
    /// Nobody has promised; a Prepare is due to all.
    fn new(peers: &[NodeId]) -> Self {
        Self { followers: Followers::unpromised(peers), best: None, decided_idx: 0 }
    }

    /// Keeps the promise if its log is the most recent so far, the own included.
    fn consider(&mut self, promise: Promise<T>, own: (Ballot, u64), from: NodeId) {
        self.decided_idx = self.decided_idx.max(promise.decided_idx);
        let known = self.best.as_ref().map_or(own, |best| (best.n_accepted, best.accepted_idx));
        if (promise.n_accepted, promise.accepted_idx) <= known {
            return;
        }
        match promise.sync {
            Some(sync) => {
                self.best = Some(Best {
                    n_accepted: promise.n_accepted,
                    accepted_idx: promise.accepted_idx,
                    sync,
                });
            }
            None => {
                if let Some(progress) = self.followers.get_mut(from) {
                    progress.ask_again();
                }
            }
        }
    }
}
