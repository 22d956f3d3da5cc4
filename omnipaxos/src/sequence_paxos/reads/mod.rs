//! Linearizable reads without an entry in the log. Invariant I11.
//!
//! A server sends its leader a number that stands for all reads requested there so far. The leader
//! notes the read index, and then has a write quorum confirm its ballot. All entries decided before
//! the request are before the read index:
//! - In its own ballot the leader is the first to decide.
//! - An entry that was chosen in a lower ballot is in the log that the leader adopted.
//! - In a higher ballot nothing was decided, since a read quorum would have promised it.
//!
//! A request also confirms the ballot that the server has promised: it promised no higher one before its
//! reads. So the leader asks no other server if it is a write quorum together with the one that reads.
//!
//! The answer stays true, whichever server leads later. So it needs no ballot, only the incarnation
//! of the server that asked. Code marked as cold stays out of the code that every entry passes.

mod passing;
mod requests;
pub(super) mod rounds;

use self::{
    passing::Passing,
    requests::Requests,
    rounds::{Answer, Asked, From},
};
use super::{routing::Route, state::State, SequencePaxos};
use crate::{
    identity::Stamp,
    ids::NodeId,
    messages::sequence_paxos::{
        LeadershipCheck, LeadershipCheckAck, PaxosMsg, ReadIndexRequest, ReadIndexResponse,
    },
    reads::{ReadId, ReadRefused, ReadState},
    storage::{Entry, Storage},
};

/// The number of heartbeat rounds in a row without a route to the leader after which reads are refused. A
/// change of the leader takes about as long. In the rounds before, the leader is asked directly. It may be
/// there: its answer may take longer than a round, or its link may be open only for a heartbeat. If a leader
/// sends heartbeat requests and does not answer, the read request may reach it with the reply to them. So the
/// count begins anew after a refusal.
const ROUNDS_WITHOUT_ROUTE: u32 = 4;

/// The state of reads at a server in any role. A leader has [`Rounds`](rounds::Rounds) in addition.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    requests: Requests,
    /// The leadership check to answer.
    confirm: Option<LeadershipCheck>,
    /// Requests to relay to the leader, and answers to relay back.
    passing: Passing,
    /// The number of heartbeat rounds since there was a route to the leader.
    rounds_without_route: u32,
    /// Whether messages are due in the next output.
    is_due: bool,
}

/// The route of a request to the leader.
struct Way {
    to: NodeId,
    /// The incarnation of this server.
    incarnation: u64,
}

impl Reads {
    pub(super) fn is_silent(&self) -> bool {
        !self.is_due
    }

    /// Returns whether reads of this server wait for an answer, or for entries.
    pub(super) fn are_waiting(&self) -> bool {
        self.requests.is_waiting()
    }

    /// Returns the number up to which reads of this server are ready, if others wait; with the decided index, if
    /// those wait for entries only.
    pub(super) fn ready_if_waiting(&self, decided_idx: u64) -> Option<(u64, Option<u64>)> {
        self.requests.ready_if_waiting(decided_idx)
    }

    /// Records that this log, of length `len`, is synced with another leader.
    pub(super) fn begin_ballot(&mut self, len: u64) {
        self.requests.doubt_beyond(len);
    }

    /// Begins the epoch after the stop sign at `stopsign_idx`, if that is known. A leader of the epoch before
    /// did not know what is decided in this one. So only reads of entries before the stop sign are
    /// answered, and the others are asked for again.
    pub(super) fn begin_epoch(&mut self, stopsign_idx: Option<u64>) {
        self.requests.doubt_beyond(stopsign_idx.unwrap_or_default());
        self.confirm = None;
        self.passing.clear();
        self.ask_again();
    }

    /// Repeats the open requests: this server leads now.
    pub(super) fn ask_again(&mut self) {
        self.requests.ask_again();
        self.is_due |= self.requests.is_ask_due();
    }
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Requests a read at this server.
    pub(crate) fn request_read(&mut self) -> Result<ReadId, ReadRefused> {
        if self.is_ended() {
            return Err(ReadRefused::Reconfigured);
        }
        match self.state {
            State::Leading(_) => {}
            State::Preparing(_) => return Err(ReadRefused::Preparing),
            State::Recovering | State::Promised { .. } | State::Following(_) => {
                if self.incarnation.is_none() {
                    return Err(ReadRefused::NoIncarnation);
                }
                if self.leader().is_none() {
                    return Err(ReadRefused::NoLeader);
                }
            }
        }
        self.reads.is_due = true;
        Ok(self.reads.requests.request())
    }

    /// Returns the state of a read.
    pub(crate) fn read_state(&self, id: ReadId) -> ReadState {
        match self.reads.requests.state(id, self.decided_for_reads()) {
            ReadState::Waiting if self.is_ended() => ReadState::Refused(ReadRefused::Reconfigured),
            state @ (ReadState::Waiting | ReadState::Ready(_) | ReadState::Refused(_)) => state,
        }
    }

    /// Returns the latest read that is ready here.
    pub(crate) fn ready_read(&self) -> Option<ReadId> {
        self.reads.requests.ready_up_to(self.decided_for_reads())
    }

    /// Returns the decided index without the stop sign: later entries are read in the next
    /// configuration.
    ///
    /// If a snapshot of a later epoch stands for the stop sign, it is not known how many entries are before
    /// that, and none is counted.
    fn decided_for_reads(&self) -> u64 {
        match self.has_reached_later_epoch() {
            true => 0,
            false => self.log.decided_before_stopsign(),
        }
    }

    /// Drops the read requests of servers that are not to be kept.
    pub(super) fn forget_reads_of(&mut self, is_kept: impl Fn(NodeId) -> bool) {
        if let State::Leading(leading) = &mut self.state {
            leading.reads.retain(&is_kept);
        }
        self.reads.passing.retain(is_kept);
    }

    fn is_ended(&self) -> bool {
        self.log.has_ended()
    }

    /// Handles a read request. A leader in the prepare phase does not know what is decided, and
    /// drops it; the request is repeated. Another server relays it, if it came from its origin.
    ///
    /// A request that came from its origin, and names the ballot of the leader as promised, confirms that ballot.
    /// It does not count in a round of checks.
    #[cold]
    pub(super) fn handle_read_index_request(&mut self, request: ReadIndexRequest, from: NodeId) {
        let ReadIndexRequest { config_id: _, origin, incarnation, number, n, hops, .. } = request;
        if origin == self.pid || self.is_ended() {
            return;
        }
        self.note_origin(origin, from);
        let decided_idx = self.log.decided_idx();
        match &mut self.state {
            State::Leading(leading) => {
                let read_idx = decided_idx.max(leading.adopted_len);
                let asked = Asked { number, read_idx };
                let is_confirmed = from == origin
                    && n == self.log.promise()
                    && self.members.contains(origin)
                    && self.members.quorum().can_accept(2);
                let from = From { origin, incarnation, via: from };
                match is_confirmed {
                    true => leading.reads.answer(from, asked),
                    false => leading.reads.ask(from, asked),
                }
            }
            State::Preparing(_) => return,
            State::Recovering | State::Promised { .. } | State::Following(_) => {
                if !self.may_relay(origin, from, hops) {
                    return;
                }
                let hops = hops.saturating_add(1);
                self.reads.passing.record(ReadIndexRequest { hops, ..request }, decided_idx);
            }
        }
        self.reads.is_due = true;
    }

    /// Handles a leadership check. It concerns not only replicating followers: the server must only
    /// have promised no higher ballot.
    #[cold]
    pub(super) fn handle_leadership_check(&mut self, confirm: LeadershipCheck, from: NodeId) {
        let promise = self.log.promise();
        if confirm.n < promise {
            self.outbox.refuse(from);
        } else if confirm.n > promise {
            self.outbox.ask_for_leader(from);
        } else {
            let known = self.reads.confirm.filter(|known| known.n == promise);
            let round = known.map_or(0, |known| known.round).max(confirm.round);
            self.reads.confirm = Some(LeadershipCheck { n: promise, round });
            self.reads.is_due = true;
        }
    }

    /// Handles the confirmation of a leadership check.
    #[cold]
    pub(super) fn handle_leadership_check_ack(
        &mut self,
        confirmed: LeadershipCheckAck,
        from: NodeId,
    ) {
        if confirmed.n != self.log.promise() {
            return;
        }
        if let State::Leading(leading) = &mut self.state {
            leading.reads.confirm(from, confirmed.round);
            self.reads.is_due = true;
        }
    }

    /// Handles a read index from a leader, for this server or for a server whose request it relayed.
    #[cold]
    pub(super) fn handle_read_index_response(&mut self, answer: ReadIndexResponse, from: NodeId) {
        if answer.origin != self.pid {
            self.reads.passing.drop_answered(&answer);
            let ReadIndexResponse { origin, hops, .. } = answer;
            if self.is_known(origin) && self.way_back(origin, from, hops).is_some() {
                let answer = ReadIndexResponse { hops: hops.saturating_add(1), ..answer };
                self.reads.passing.record_answer(answer, self.log.decided_idx());
                self.reads.is_due = true;
            }
        } else if self.incarnation == Some(answer.incarnation) {
            self.reads.requests.confirm(answer.number, answer.read_idx);
            self.reads.requests.settle(self.decided_for_reads());
        }
    }

    /// Ends a heartbeat round: repeats open requests to the present leader, also those of others, and those
    /// of this server that wait for entries.
    ///
    /// Refuses the requests of this server if no leader is known, or if there was no route to it for
    /// [some rounds](ROUNDS_WITHOUT_ROUTE).
    pub(super) fn end_round_of_reads(&mut self) {
        self.reads.requests.settle(self.decided_for_reads());
        self.repeat_checks();
        self.reads.is_due |= self.reads.passing.repeat();
        let leads = matches!(self.state, State::Preparing(_) | State::Leading(_));
        let has_route = |leader| self.routing.to(leader).is_some();
        self.reads.rounds_without_route = match leads || self.leader().is_none_or(has_route) {
            true => 0,
            false => self.reads.rounds_without_route.saturating_add(1),
        };
        if !self.reads.requests.is_waiting() || self.is_ended() {
            return;
        }
        if !leads && self.reads.requests.is_unanswered() {
            if let Err(refused) = self.way_to_read() {
                if self.leader().is_some_and(|leader| self.routing.was_asked_by(leader)) {
                    self.reads.rounds_without_route = 0;
                }
                return self.reads.requests.refuse(refused);
            }
        }
        self.reads.ask_again();
    }

    /// Repeats the checks of the leadership with a heartbeat request.
    pub(super) fn repeat_checks(&mut self) {
        if let State::Leading(leading) = &mut self.state {
            leading.reads.repeat();
            self.reads.is_due |= leading.reads.is_in_flight();
        }
    }

    /// Returns the server to ask, and the incarnation that asks.
    fn way_to_read(&self) -> Result<Way, ReadRefused> {
        let incarnation = self.incarnation.ok_or(ReadRefused::NoIncarnation)?;
        let leader = self.leader().filter(|_| self.has_lasting_ids());
        let leader = leader.ok_or(ReadRefused::NoLeader)?;
        let to = match self.routing.to(leader) {
            Some(route) => route.next_hop(),
            None if self.reads.rounds_without_route < ROUNDS_WITHOUT_ROUTE => leader,
            None => return Err(ReadRefused::Unreachable(leader)),
        };
        Ok(Way { to, incarnation })
    }

    /// Builds the due messages of reads.
    #[cold]
    pub(super) fn build_reads(&mut self, mut send: impl FnMut(NodeId, PaxosMsg<T>)) {
        self.reads.is_due = false;
        if self.reads.requests.is_ask_due() && !self.is_ended() {
            self.build_request(&mut send);
        }
        self.build_rounds(&mut send);
        if let Some(LeadershipCheck { n, round }) = self.reads.confirm.take() {
            if n == self.log.promise() {
                send(
                    n.pid,
                    PaxosMsg::LeadershipCheckAck(LeadershipCheckAck {
                        n,
                        round,
                        stamp: Stamp::default(),
                    }),
                );
            }
        }
        let route = self.leader().and_then(|leader| self.routing.of_relayed(leader));
        for request in self.reads.passing.take_due() {
            let origin = request.origin;
            let next_hop = match route {
                Some(Route::Direct(leader)) => Some(leader),
                Some(Route::Through(peer)) if !self.members.contains(origin) => Some(peer),
                Some(Route::Through(_)) | None => None,
            };
            if let Some(to) = next_hop.filter(|to| *to != self.observers.way_to(origin)) {
                send(to, PaxosMsg::ReadIndexRequest(request));
            }
        }
        for answer in self.reads.passing.take_due_answers() {
            send(self.observers.way_to(answer.origin), PaxosMsg::ReadIndexResponse(answer));
        }
        self.reads.requests.settle(self.decided_for_reads());
    }

    /// Builds the request for all reads requested here. Without a way it waits for the end of the
    /// heartbeat round.
    fn build_request(&mut self, mut send: impl FnMut(NodeId, PaxosMsg<T>)) {
        if let State::Leading(leading) = &mut self.state {
            let number = self.reads.requests.ask();
            let read_idx = self.log.decided_idx().max(leading.adopted_len);
            let from = From { origin: self.pid, incarnation: 0, via: self.pid };
            return leading.reads.ask(from, Asked { number, read_idx });
        }
        if let State::Preparing(_) = self.state {
            return;
        }
        if let Ok(Way { to, incarnation }) = self.way_to_read() {
            let (config_id, origin, n) = (self.config_id, self.pid, self.log.promise());
            let repeated = self.reads.requests.repetition();
            for number in repeated.into_iter().chain([self.reads.requests.ask()]) {
                let stamp = Stamp::default();
                let request =
                    ReadIndexRequest { config_id, origin, incarnation, number, n, hops: 0, stamp };
                send(to, PaxosMsg::ReadIndexRequest(request));
            }
        }
    }

    /// Builds the leadership checks and answers of a leader.
    fn build_rounds(&mut self, mut send: impl FnMut(NodeId, PaxosMsg<T>)) {
        let State::Leading(leading) = &mut self.state else {
            return;
        };
        let rounds = &mut leading.reads;
        rounds.go_on(self.members.quorum());
        let (n, round) = (self.log.promise(), rounds.number());
        if rounds.take_due() {
            for to in self.members.peers().iter().filter(|pid| !rounds.has_confirmed(**pid)) {
                send(*to, PaxosMsg::LeadershipCheck(LeadershipCheck { n, round }));
            }
        }
        while let Some(Answer { origin, incarnation, via, asked }) = rounds.take_answer() {
            let Asked { number, read_idx } = asked;
            if origin == self.pid {
                self.reads.requests.confirm(number, read_idx);
            } else {
                let answer = ReadIndexResponse {
                    config_id: self.config_id,
                    origin,
                    incarnation,
                    number,
                    read_idx,
                    hops: 0,
                    stamp: Stamp::default(),
                };
                send(via, PaxosMsg::ReadIndexResponse(answer));
            }
        }
    }

    pub(super) fn check_reads(&self) {
        self.reads.requests.check_invariants(self.log.decided_before_stopsign());
    }
}

#[cfg(test)]
mod tests;
