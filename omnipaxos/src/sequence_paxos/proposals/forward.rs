//! Forwards proposals to the leader, repeatedly, until they are in its log.

use super::{
    content_ids::{number_of, Predecessor, CONTENT_HASH},
    pending::{IdentifiedProposal, Interest},
    queue::{OwnBatch, Route},
};
use crate::{
    amount::Amount,
    ballot::Ballot,
    errors::Halted,
    identity::Stamp,
    ids::NodeId,
    messages::sequence_paxos::{ForwardedProposals, PaxosMsg, ProposalRejection, RejectionReason},
    observe::trace::LogEvent,
    proposals::ProposalId,
    replica_log::ReplicaLog,
    sequence_paxos::{progress::LITTLE, routing, state::State, SequencePaxos},
    storage::{Entry, Storage},
};

/// Forwarded proposals with consecutive ids, collected for one message.
struct Collected<T> {
    forwarded: ForwardedProposals<T>,
    amount: Amount,
}

/// What the undecided end of the log of this server is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Tail {
    /// The leader has it, or sends its own log soon.
    OfTheLeader,
    /// The leader may lack it, and cannot send its own.
    Apart,
}

impl Tail {
    /// Whether a proposal is in the log, and need not be forwarded.
    fn counts_in<T: Entry, B: Storage<T>>(self, log: &ReplicaLog<T, B>, id: ProposalId) -> bool {
        match self {
            Tail::OfTheLeader => log.has(id),
            Tail::Apart => log.has(id) && log.find(id).is_none_or(|idx| idx < log.decided_idx()),
        }
    }
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Handles plain proposals of a server that considers this one the leader.
    pub(in crate::sequence_paxos) fn handle_plain_forward(
        &mut self,
        entries: Vec<T>,
        from: NodeId,
    ) {
        let number = number_of(&entries);
        let first = ProposalId { origin: from, incarnation: CONTENT_HASH, number };
        // The message contains neither. The entries were not decided when they were sent, and count
        // as no older than the entries decided here now. The message may have been delayed for
        // long, while its origin repeats it.
        let (first_ballot, min_idx) = (Ballot::default(), self.log.decided_idx());
        let stamp = Stamp::default();
        self.handle_forwarded_proposals(
            ForwardedProposals { first, first_ballot, min_idx, entries, hops: 0, stamp },
            from,
        );
    }

    /// Handles forwarded proposals of a server that considers this one the leader, or a relay.
    ///
    /// Entries after a stop sign are dropped: they cannot be decided in this configuration, and
    /// their origin learns of the stop sign with the log. A relayed forward is not relayed again,
    /// since it could go in circles. Its origin repeats it.
    pub(in crate::sequence_paxos) fn handle_forwarded_proposals(
        &mut self,
        forwarded: ForwardedProposals<T>,
        from: NodeId,
    ) {
        let is_pending_here = forwarded.first.origin == self.pid && self.incarnation.is_some();
        if self.takes_no_more() || is_pending_here || forwarded.entries.is_empty() {
            return;
        }
        let route = match self.state {
            State::Preparing(_) | State::Leading(_) => Route::IntoTheLog,
            State::Recovering | State::Promised { .. } | State::Following(_) => {
                if !self.may_relay(forwarded.first.origin, from, forwarded.hops) {
                    return;
                }
                match self.members.contains(forwarded.first.origin) {
                    true => Route::RelayLater,
                    false => Route::Relay,
                }
            }
        };
        self.note_origin(forwarded.first.origin, from);
        self.proposals.queue.take_forwarded(
            forwarded,
            from,
            route,
            self.proposals.pending.amount(),
        );
        self.propose_if_leading();
    }

    /// Handles a rejection of proposals. A relay passes it back to their origin.
    pub(in crate::sequence_paxos) fn handle_rejection(
        &mut self,
        rejection: ProposalRejection,
        from: NodeId,
    ) {
        let origin = rejection.first.origin;
        if origin == self.pid {
            if let RejectionReason::Refused(refusal) = &rejection.reason {
                self.handle_refusal(&rejection, refusal);
            }
            let decided_idx = self.log.decided_idx();
            self.proposals.pending.handle_rejection(
                &rejection,
                decided_idx,
                &mut self.proposals.outcomes,
            );
        } else if let Some(way) = self.way_back(origin, from, rejection.hops) {
            let hops = rejection.hops.saturating_add(1);
            self.proposals.rejections.push(way, ProposalRejection { hops, ..rejection });
        }
    }

    /// Ends a heartbeat round: forwards proposals that are not in the log again.
    pub(in crate::sequence_paxos) fn repeat_forwards(&mut self) {
        let tail = self.tail();
        let due = self.proposals.pending.end_round(|id| tail.counts_in(&self.log, id));
        due.into_iter().for_each(|id| self.proposals.queue.push_pending(id));
    }

    /// Forwards a few proposals that are not in the log again, without their backoff.
    pub(in crate::sequence_paxos) fn repeat_few_forwards(&mut self) {
        let tail = self.tail();
        let due = self.proposals.pending.forward_few(LITTLE, |id| tail.counts_in(&self.log, id));
        due.into_iter().for_each(|id| self.proposals.queue.push_pending(id));
    }

    /// Whether what is undecided in the log counts as being with the leader. A leader that answers this
    /// server sends its log soon. A leader behind a relay may never do so. Its log may lack entries of
    /// this log, for instance if this server led before. So this server forwards these; the leader
    /// takes no id twice.
    fn tail(&self) -> Tail {
        let leader = self.leader_ballot().filter(|n| *n != self.log.accepted_round());
        match leader.and_then(|n| self.routing.to(n.pid)) {
            Some(routing::Route::Through(_)) => Tail::Apart,
            Some(routing::Route::Direct(_)) | None => Tail::OfTheLeader,
        }
    }

    /// The leader is back: what was lost on the way is forwarded and asked for again.
    pub(in crate::sequence_paxos) fn ask_leader_again(&mut self) {
        self.reads.ask_again();
        let due = self.proposals.pending.forward_all(|id| self.log.has(id));
        due.into_iter().for_each(|id| self.proposals.queue.push_pending(id));
    }

    /// Forwards lost proposals to a new leader, after this log is synced with it.
    pub(in crate::sequence_paxos) fn forward_lost(&mut self) {
        let len = self.log.len();
        if self.proposals.content_ids.predecessor() == Predecessor::NotKnown {
            self.proposals.content_ids.get_in_step(len);
            self.proposals.next_number = self.proposals.next_number.max(len);
        }
        self.reads.begin_ballot(len);
        if !self.proposals.pending.is_empty() {
            let due =
                self.proposals.pending.begin_ballot(self.log.promise(), |id| self.log.has(id));
            due.into_iter().for_each(|id| self.proposals.queue.push_pending(id));
        }
        self.submit_stopsign();
    }

    /// Skips the ids in the log that a predecessor of this server used.
    pub(super) fn mind_predecessor(&mut self) {
        if self.proposals.content_ids.predecessor() == Predecessor::None {
            return;
        }
        let incarnation = self.incarnation.unwrap_or_default();
        if let Some(highest) = self.log.ids().highest_number(self.pid, incarnation) {
            let next = highest.saturating_add(1);
            self.proposals.next_number = self.proposals.next_number.max(next);
        }
    }

    /// Returns whether entries appended here as the leader are proposed again when `next` leads.
    /// They are with `keeps_undecided_appends`, and if this server transfers leadership, which must lose
    /// nothing.
    pub(in crate::sequence_paxos) fn keeps_what_it_led(&self, next: NodeId) -> bool {
        let is_transferred = match &self.state {
            State::Leading(leading) => {
                leading.transfer.is_some() || leading.asked_to_take_over == Some(next)
            }
            State::Recovering
            | State::Promised { .. }
            | State::Following(_)
            | State::Preparing(_) => false,
        };
        self.keeps_undecided_appends || is_transferred
    }

    /// Keeps undecided entries that this leader appended, before it loses leadership to `next`, if
    /// [`keeps_what_it_led`](Self::keeps_what_it_led). They may not be in the next log.
    pub(in crate::sequence_paxos) fn keep_what_it_led(
        &mut self,
        next: NodeId,
    ) -> Result<(), Halted> {
        let State::Leading(_) = self.state else {
            return Ok(());
        };
        if !self.keeps_what_it_led(next) {
            return Ok(());
        }
        let (decided_idx, n) = (self.log.decided_idx(), self.log.promise());
        let mut led = Vec::new();
        for run in self.log.ids().led_in(decided_idx, self.log.len()) {
            let mut id = run.first;
            let keep = &mut |entry: &T| {
                led.push((id, entry.clone()));
                id = id.later(1);
            };
            self.log.visit(run.idx, run.end(), keep)?;
        }
        for (id, entry) in led {
            let bytes = entry.size_hint() as u64;
            self.proposals.pending.keep(id, entry, bytes, Interest::None, decided_idx);
            self.proposals.pending.was_forwarded(id, n, n);
        }
        Ok(())
    }

    /// Drops entries that wait for a batch or for room, before this server loses leadership to
    /// `next`. They were appended here without an id while it led, and are dropped like the
    /// undecided tail of its log. Entries appended before this server was promised are forwarded to
    /// the next leader.
    pub(in crate::sequence_paxos) fn drop_what_it_led(&mut self, next: NodeId) {
        if self.keeps_what_it_led(next) {
            return;
        }
        match &self.state {
            State::Leading(_) => self.proposals.queue.note_led(),
            State::Preparing(_) => {}
            State::Recovering | State::Promised { .. } | State::Following(_) => return,
        }
        let dropped = self.proposals.queue.drop_led();
        if dropped > 0 {
            self.trace.emit(|| {
                let event = LogEvent::info("drops waiting entries that were appended here");
                event.with_peer(next).because(format!("{dropped} entries"))
            });
        }
    }

    /// Reports the outcomes of proposals that are decided now.
    pub(crate) fn settle_proposals(&mut self) {
        self.proposals.pending.settle(&self.log, &mut self.proposals.outcomes);
        self.settle_reconfiguration();
        if self.log.has_ended() && !self.proposals.queue.is_empty() {
            self.proposals.queue.clear();
        }
    }

    /// Forwards proposals of this server and relayed ones, if this server knows the leader and a
    /// route to it.
    pub(in crate::sequence_paxos) fn build_forwards(
        &mut self,
        mut send: impl FnMut(NodeId, PaxosMsg<T>),
    ) {
        for (to, rejection) in self.proposals.rejections.take() {
            send(to, PaxosMsg::ProposalRejection(rejection));
        }
        self.build_queued_forwards(send);
    }

    /// Builds the forwards of queued proposals. They claim nothing that is stored here.
    pub(in crate::sequence_paxos) fn build_queued_forwards(
        &mut self,
        mut send: impl FnMut(NodeId, PaxosMsg<T>),
    ) {
        if self.proposals.queue.is_empty() {
            return;
        }
        let (Some(to), Some(relayed_to)) = (self.way_for_proposals(), self.way_for_relayed())
        else {
            return;
        };
        while let Some(forwarded) = self.proposals.queue.pop_relayed() {
            send(relayed_to, PaxosMsg::ForwardedProposals(Box::new(forwarded)));
        }
        if !self.is_about_to_know(to) {
            // A server that has promised nothing knows its leader only from heartbeats.
            let heard_of = self.leader_ballot().filter(|_| self.log.promise().is_nobodys());
            self.build_own(heard_of.unwrap_or(self.log.promise()), |msg| send(to, msg));
        }
        if self.may_forward_stopsign() {
            if let Some(sign) = self.proposals.queue.stopsign.take() {
                let to = if sign.id.origin == self.pid { to } else { relayed_to };
                send(to, PaxosMsg::ForwardStopSign(Box::new(sign)));
            }
        }
    }

    /// Whether this server does not know of a predecessor, and will when the leader has brought it in step.
    /// That is `next_hop`, or the server that this one promised leads no longer and does not do it.
    fn is_about_to_know(&self, next_hop: NodeId) -> bool {
        let has_promised = match &self.state {
            State::Promised { prepare, .. } => self.leader_ballot() == Some(prepare.n),
            State::Recovering | State::Following(_) | State::Preparing(_) | State::Leading(_) => {
                false
            }
        };
        has_promised
            && self.leader() == Some(next_hop)
            && self.proposals.content_ids.predecessor() == Predecessor::NotKnown
    }

    /// Forwards own proposals in ballot `n`. No leader of a lower ballot may append them.
    fn build_own(&mut self, n: Ballot, mut send: impl FnMut(PaxosMsg<T>)) {
        let tail = self.tail();
        let mut collected: Option<Collected<T>> = None;
        while let Some(batch) = self.proposals.queue.pop_own_batch(self.limits.message) {
            match batch {
                OwnBatch::Plain(entries) => send(self.name(entries, n)),
                OwnBatch::Pending(id) => {
                    let is_found = tail.counts_in(&self.log, id);
                    let Some(proposal) = self.proposals.pending.leave_queue(id, is_found, n) else {
                        continue;
                    };
                    match collected.take() {
                        None => collected = Some(Collected::of(proposal)),
                        Some(mut before) => {
                            if before.is_followed_by(&proposal, self.limits.message) {
                                before.push(proposal);
                                collected = Some(before);
                            } else {
                                send(PaxosMsg::ForwardedProposals(Box::new(before.forwarded)));
                                collected = Some(Collected::of(proposal));
                            }
                        }
                    }
                }
            }
        }
        if let Some(last) = collected {
            send(PaxosMsg::ForwardedProposals(Box::new(last.forwarded)));
        }
    }

    /// Gives ids to entries appended here, and keeps the entries. The first forward of a text
    /// travels without them: the receiver makes the same ids from the text. A server that has no
    /// ids forwards entries once and forgets them.
    fn name(&mut self, entries: Vec<T>, n: Ballot) -> PaxosMsg<T> {
        self.mind_predecessor();
        let Some(counted) = self.peek_id() else {
            let number = self.proposals.content_ids.repeated_number(&entries);
            let first = ProposalId { origin: self.pid, incarnation: CONTENT_HASH, number };
            let (first_ballot, min_idx) = (Ballot::default(), u64::MAX);
            let stamp = Stamp::default();
            return PaxosMsg::ForwardedProposals(Box::new(ForwardedProposals {
                first,
                first_ballot,
                min_idx,
                entries,
                hops: 0,
                stamp,
            }));
        };
        // A restarted server that has promised nothing does not know whether it used a text before.
        let is_known_later = !self.log.promise().is_nobodys();
        let plain = match is_known_later {
            true => self.proposals.content_ids.plain_number(&entries),
            false => None,
        };
        let first = match plain {
            Some(number) => ProposalId { incarnation: CONTENT_HASH, number, ..counted },
            None => {
                self.proposals.next_number += entries.len() as u64;
                counted
            }
        };
        let (decided_idx, first_ballot) =
            (self.log.decided_idx(), if plain.is_some() { Ballot::default() } else { n });
        for (entry, position) in entries.iter().zip(0..) {
            let (id, bytes) = (first.later(position), entry.size_hint() as u64);
            self.proposals.pending.keep(id, entry.clone(), bytes, Interest::None, decided_idx);
            self.proposals.pending.was_forwarded(id, first_ballot, n);
        }
        match plain {
            Some(_) => PaxosMsg::ProposalForward(entries),
            None => {
                let (min_idx, stamp) = (self.proposals.pending.min_idx(), Stamp::default());
                PaxosMsg::ForwardedProposals(Box::new(ForwardedProposals {
                    first,
                    first_ballot,
                    min_idx,
                    entries,
                    hops: 0,
                    stamp,
                }))
            }
        }
    }
}

impl<T> Collected<T> {
    fn of(proposal: IdentifiedProposal<T>) -> Self {
        let IdentifiedProposal { id: first, first_ballot, min_idx, entry, bytes } = proposal;
        let (entries, stamp) = (vec![entry], Stamp::default());
        let forwarded =
            ForwardedProposals { first, first_ballot, min_idx, entries, hops: 0, stamp };
        Self { forwarded, amount: Amount { entries: 1, bytes } }
    }

    /// Returns whether a proposal fits into the message.
    fn is_followed_by(&self, proposal: &IdentifiedProposal<T>, limit: Amount) -> bool {
        let ForwardedProposals { first, first_ballot, min_idx, entries, .. } = &self.forwarded;
        let mut amount = self.amount;
        amount.add(Amount { entries: 1, bytes: proposal.bytes });
        first.later(entries.len() as u64) == proposal.id
            && (*first_ballot, *min_idx) == (proposal.first_ballot, proposal.min_idx)
            && amount.fits(limit)
    }

    fn push(&mut self, proposal: IdentifiedProposal<T>) {
        self.amount.add(Amount { entries: 1, bytes: proposal.bytes });
        self.forwarded.entries.push(proposal.entry);
    }
}
