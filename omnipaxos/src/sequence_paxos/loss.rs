//! Notices that a quorum has lost decided entries.
//!
//! A leader has the promises of a quorum, and so the whole log that was chosen in earlier ballots.
//! If it lacks entries that were chosen before its ballot, servers have lost accepted entries:
//! storages were lost or replaced, and no server of the quorum detected that. The server that still
//! has the entries reports that, and keeps them.
//!
//! A leader that was overtaken lacks entries, too: those of ballots above its own. If such ballots
//! are possible, this server waits for some rounds of the leader: an overtaken leader would have learned
//! of the other one by then. Rounds of this server prove nothing, since the clock of the leader may be slow
//! or stand still.
//!
//! An AcceptSync may also end before the decided index here without a loss. Then the entries beyond
//! it were decided in the same ballot, and this server has fetched them from other servers. An
//! AcceptSync answers a promise. So either it reaches the decided index at the time of the promise,
//! or it reports that its leader has decided that much. If neither holds, the leader lacks entries.

use super::{state::State, Contact, SequencePaxos};
use crate::{
    ballot::Ballot,
    observe::{events::LostEntries, trace::LogEvent},
    storage::{Entry, Storage},
};

/// Heartbeat rounds of a leader after which it was not overtaken, if it continues.
const ROUNDS_TO_BE_SURE: u32 = 5;

/// A leader that lacks decided entries.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    lost: LostEntries,
    /// Number of its rounds that the leader has begun since, and reported here.
    rounds: u32,
    /// The last one of these, or the first one that it reported.
    last_round: Option<u32>,
}

/// A heartbeat round in which a leader reported to this server that it leads.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaderRound {
    /// The ballot in which it leads.
    pub(crate) leader: Ballot,
    /// The number that it gives to the round.
    pub(crate) round: u32,
}

impl Loss {
    /// Counts a round of the leader, once.
    fn note(&mut self, reported: Option<LeaderRound>) {
        let of_leader = reported.filter(|reported| reported.leader == self.lost.leader);
        let Some(LeaderRound { round, .. }) = of_leader else {
            return;
        };
        let last_round = *self.last_round.get_or_insert(round);
        if round > last_round {
            self.last_round = Some(round);
            self.rounds += 1;
        }
    }
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Suspects a loss: the leader of ballot `n`, which is promised here, has decided `decided_idx`
    /// entries. Its AcceptSync ends at `len`, before the decided index here.
    #[cold]
    pub(super) fn suspect_loss(&mut self, n: Ballot, len: u64, decided_idx: u64) {
        // This server has not accepted ballot `n` (I8), so these were chosen in lower ones.
        let is_proven = len < self.log.chosen_idx();
        if !is_proven && len.max(decided_idx) >= self.log.decided_at_promise() {
            return;
        }
        let known = self.loss.filter(|loss| loss.lost.leader == n);
        let was_reported = known.is_some_and(|loss| loss.rounds >= ROUNDS_TO_BE_SURE);
        let lost = LostEntries { leader: n, leader_idx: len, decided_idx: self.log.decided_idx() };
        let rounds = match is_proven {
            true => ROUNDS_TO_BE_SURE,
            false => known.map_or(0, |loss| loss.rounds),
        };
        let loss = known.unwrap_or(Loss { lost, rounds, last_round: None });
        self.loss = Some(Loss { rounds, ..loss });
        if !was_reported {
            self.log_loss();
        }
    }

    /// Ends a heartbeat round. `reported` is the last round of the leader that this server has heard of.
    pub(super) fn end_round_of_loss(&mut self, contact: Contact, reported: Option<LeaderRound>) {
        let promise = self.log.promise();
        let is_waiting = matches!(self.state, State::Promised { .. }) && contact != Contact::Lost;
        match &mut self.loss {
            Some(loss) if loss.rounds >= ROUNDS_TO_BE_SURE => {}
            Some(loss) if is_waiting && loss.lost.leader == promise => {
                loss.note(reported);
                self.log_loss();
            }
            Some(_) => self.loss = None,
            None => {}
        }
    }

    /// Returns the loss, if this server is sure of it.
    pub(crate) fn loss(&self) -> Option<LostEntries> {
        self.loss.filter(|loss| loss.rounds >= ROUNDS_TO_BE_SURE).map(|loss| loss.lost)
    }

    fn log_loss(&self) {
        if let Some(lost) = self.loss() {
            self.trace.emit(|| {
                let event = LogEvent::error("the leader lacks entries that are decided here");
                event.in_ballot(lost.leader).at(lost.decided_idx).because(lost)
            });
        }
    }
}

#[cfg(test)]
mod tests;
