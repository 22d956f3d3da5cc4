//! Forwarding proposals to the leader, and offering them again until they are in its log.

use super::{
    forward::{number_of, Predecessor, BY_TEXT},
    proposals::{Goes, OwnBatch},
    state::State,
    tracked::{Claim, Interest},
    SequencePaxos,
};
use crate::{
    amount::Amount,
    ballot::Ballot,
    errors::Halted,
    identity::Stamp,
    ids::NodeId,
    messages::sequence_paxos::{Offer, PaxosMsg, Verdict, VerdictReason},
    proposals::ProposalId,
    storage::{Entry, Storage},
    trace::Moment,
};

/// Offers whose ids follow on each other, on their way into one message.
struct Collected<T> {
    offer: Offer<T>,
    amount: Amount,
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Plain proposals of a server that takes this one for the leader.
    pub(super) fn handle_plain_forward(&mut self, entries: Vec<T>, from: NodeId) {
        let number = number_of(&entries);
        let first = ProposalId { origin: from, incarnation: BY_TEXT, number };
        // Its origin names neither. It was not decided when it was sent, and is taken to be no older
        // than what is decided here now. It may wait long, while its origin offers it again.
        let (since, not_before) = (Ballot::default(), self.log.decided_idx());
        let stamp = Stamp::default();
        self.handle_offer(Offer { first, since, not_before, entries, stamp }, from);
    }

    /// A server that takes this one for the leader, or for one that reaches it, offers proposals.
    ///
    /// Entries that come after a stop sign are dropped: they cannot be decided in this
    /// configuration, and their origin learns of the sign with the log. What was passed on once is
    /// not passed on again, or it could go round in circles; its origin offers it again.
    pub(super) fn handle_offer(&mut self, offer: Offer<T>, from: NodeId) {
        let is_kept_here = offer.first.origin == self.pid && self.incarnation.is_some();
        if self.takes_no_more() || is_kept_here || offer.entries.is_empty() {
            return;
        }
        let goes = match self.state {
            State::Preparing(_) | State::Leading(_) => Goes::IntoTheLog,
            State::Recovering | State::Promised { .. } | State::Following(_) => {
                if offer.first.origin != from {
                    return;
                }
                Goes::On
            }
        };
        self.proposals.take_forwarded(offer, from, goes, self.tracked.amount());
        self.propose_if_leading();
    }

    /// Why proposals are not taken. Whoever passed them on passes the answer back.
    pub(super) fn handle_verdict(&mut self, verdict: Verdict) {
        let origin = verdict.first.origin;
        if origin == self.pid {
            if let VerdictReason::Refused(refusal) = &verdict.reason {
                self.handle_refusal(&verdict, refusal);
            }
            let decided_idx = self.log.decided_idx();
            self.tracked.handle_verdict(&verdict, decided_idx, &mut self.outcomes);
        } else {
            self.verdicts.push(origin, verdict);
        }
    }

    /// A heartbeat round has ended: what is not in the log is offered again.
    pub(super) fn repeat_offers(&mut self) {
        let due = self.tracked.end_round(|id| self.log.has(id));
        due.into_iter().for_each(|id| self.proposals.push_tracked(id));
    }

    /// The leader is back: what was lost on the way is offered and asked for again.
    pub(super) fn ask_leader_again(&mut self) {
        self.reads.ask_again();
        let due = self.tracked.offer_all(|id| self.log.has(id));
        due.into_iter().for_each(|id| self.proposals.push_tracked(id));
    }

    /// Another leader has taken over, and this log is in step with it: what was lost on the way is
    /// offered anew.
    pub(super) fn offer_anew(&mut self) {
        let len = self.log.len();
        if self.forwards.predecessor() == Predecessor::NotKnown {
            self.forwards.get_in_step(len);
            self.next_number = self.next_number.max(len);
        }
        self.reads.begin_anew(self.log.len());
        if !self.tracked.is_empty() {
            let due = self.tracked.begin_anew(self.log.promise(), |id| self.log.has(id));
            due.into_iter().for_each(|id| self.proposals.push_tracked(id));
        }
        self.offer_stopsign();
    }

    /// Passes over the ids in the log that a predecessor of this server gave.
    pub(super) fn mind_predecessor(&mut self) {
        if self.forwards.predecessor() == Predecessor::None {
            return;
        }
        let incarnation = self.incarnation.unwrap_or_default();
        if let Some(highest) = self.log.ids().highest_number(self.pid, incarnation) {
            self.next_number = self.next_number.max(highest.saturating_add(1));
        }
    }

    /// Whether what was appended here as the leader is proposed again when `next` leads: if a setting
    /// asks for it, or if this server hands over, which loses nothing.
    pub(super) fn keeps_what_it_led(&self, next: NodeId) -> bool {
        let is_handed_over = match &self.state {
            State::Leading(leading) => {
                leading.handover.is_some() || leading.asked_to_take_over == Some(next)
            }
            State::Recovering
            | State::Promised { .. }
            | State::Following(_)
            | State::Preparing(_) => false,
        };
        self.keeps_undecided_appends || is_handed_over
    }

    /// This server loses leadership to `next`. What it appended and has not decided may not be in the
    /// next log, and is kept if that is asked for.
    pub(super) fn keep_what_it_led(&mut self, next: NodeId) -> Result<(), Halted> {
        let State::Leading(_) = self.state else {
            return Ok(());
        };
        if !self.keeps_what_it_led(next) {
            return Ok(());
        }
        let (decided_idx, n) = (self.log.decided_idx(), self.log.promise());
        let mut led = Vec::new();
        for run in self.log.ids().led_in(decided_idx, self.log.end()) {
            let mut id = run.first;
            let keep = &mut |entry: &T| {
                led.push((id, entry.clone()));
                id = id.later(1);
            };
            self.log.visit(run.idx, run.end(), keep)?;
        }
        for (id, entry) in led {
            let bytes = entry.size_hint() as u64;
            self.tracked.keep(id, entry, bytes, Interest::None, decided_idx);
            self.tracked.was_offered(id, n, n);
        }
        Ok(())
    }

    /// This server loses leadership to `next`. What was appended here without an id, while it led,
    /// and waits for its batch or for room in the log, is dropped as the end of its log will be. What
    /// was appended while this server was not promised goes to the next leader.
    pub(super) fn drop_what_it_led(&mut self, next: NodeId) {
        if self.keeps_what_it_led(next) {
            return;
        }
        match &self.state {
            State::Leading(_) => self.proposals.note_led(),
            State::Preparing(_) => {}
            State::Recovering | State::Promised { .. } | State::Following(_) => return,
        }
        let dropped = self.proposals.drop_led();
        if dropped > 0 {
            self.trace.tell(|| {
                let moment = Moment::info("drops what was appended here and waits");
                moment.with_peer(next).because(format!("{dropped} entries"))
            });
        }
    }

    /// Tells how proposals ended that are decided now.
    pub(crate) fn settle_proposals(&mut self) {
        self.tracked.settle(&self.log, &mut self.outcomes);
        self.settle_reconfiguration();
        if self.log.decided_stopsign().is_some() && !self.proposals.is_empty() {
            self.proposals.clear();
        }
    }

    /// Forwards what was proposed here, or was forwarded here, if this server knows who leads and
    /// how to reach it.
    pub(super) fn draw_forwards(&mut self, mut send: impl FnMut(NodeId, PaxosMsg<T>)) {
        for (to, verdict) in self.verdicts.take() {
            send(to, PaxosMsg::Verdict(verdict));
        }
        if self.proposals.is_empty() {
            return;
        }
        let Some(to) = self.next_hop() else {
            return;
        };
        while let Some(offer) = self.proposals.pop_relayed() {
            send(to, PaxosMsg::Offer(Box::new(offer)));
        }
        if !self.is_about_to_know(to) {
            // A server that has promised nothing knows its leader by hearsay.
            let heard_of = self.leader_ballot().filter(|_| self.log.promise().is_nobodys());
            self.draw_own(heard_of.unwrap_or(self.log.promise()), |msg| send(to, msg));
        }
        if self.may_forward_stopsign() {
            if let Some(sign) = self.proposals.stopsign.take() {
                send(to, PaxosMsg::ForwardStopSign(Box::new(sign)));
            }
        }
    }

    /// Whether this server does not know of a predecessor, and will when `leader` has brought it in step.
    fn is_about_to_know(&self, leader: NodeId) -> bool {
        let has_promised =
            matches!(&self.state, State::Promised { prepare, .. } if prepare.n.pid == leader);
        has_promised && self.forwards.predecessor() == Predecessor::NotKnown
    }

    /// Offers what was proposed here in ballot `n`, which no leader of a lower one may take.
    fn draw_own(&mut self, n: Ballot, mut send: impl FnMut(PaxosMsg<T>)) {
        let mut collected: Option<Collected<T>> = None;
        while let Some(batch) = self.proposals.pop_own_batch(self.limits.message) {
            match batch {
                OwnBatch::Plain(entries) => send(self.name(entries, n)),
                OwnBatch::Tracked(id) => {
                    let Some(claim) = self.tracked.claim(id, self.log.has(id), n) else {
                        continue;
                    };
                    match collected.take() {
                        None => collected = Some(Collected::of(claim)),
                        Some(mut before) => {
                            if before.is_followed_by(&claim, self.limits.message) {
                                before.push(claim);
                                collected = Some(before);
                            } else {
                                send(PaxosMsg::Offer(Box::new(before.offer)));
                                collected = Some(Collected::of(claim));
                            }
                        }
                    }
                }
            }
        }
        if let Some(last) = collected {
            send(PaxosMsg::Offer(Box::new(last.offer)));
        }
    }

    /// Gives ids to entries that were appended here, and keeps them. The first time that a text is
    /// forwarded it travels without: whoever gets it makes the same ids of it. A server that knows
    /// no ids to give forwards entries once and forgets them.
    fn name(&mut self, entries: Vec<T>, n: Ballot) -> PaxosMsg<T> {
        self.mind_predecessor();
        let Some(counted) = self.peek_id() else {
            let number = self.forwards.repeated_number(&entries);
            let first = ProposalId { origin: self.pid, incarnation: BY_TEXT, number };
            let (since, not_before) = (Ballot::default(), u64::MAX);
            let stamp = Stamp::default();
            return PaxosMsg::Offer(Box::new(Offer { first, since, not_before, entries, stamp }));
        };
        // A restarted server that has promised nothing does not know that it used a text before.
        let is_known_later = !self.log.promise().is_nobodys();
        let plain = match is_known_later {
            true => self.forwards.plain_number(&entries),
            false => None,
        };
        let first = match plain {
            Some(number) => ProposalId { incarnation: BY_TEXT, number, ..counted },
            None => {
                self.next_number += entries.len() as u64;
                counted
            }
        };
        let (decided_idx, since) =
            (self.log.decided_idx(), if plain.is_some() { Ballot::default() } else { n });
        for (entry, position) in entries.iter().zip(0..) {
            let (id, bytes) = (first.later(position), entry.size_hint() as u64);
            self.tracked.keep(id, entry.clone(), bytes, Interest::None, decided_idx);
            self.tracked.was_offered(id, since, n);
        }
        match plain {
            Some(_) => PaxosMsg::ProposalForward(entries),
            None => {
                let (not_before, stamp) = (self.tracked.not_before(), Stamp::default());
                PaxosMsg::Offer(Box::new(Offer { first, since, not_before, entries, stamp }))
            }
        }
    }

    /// Where proposals go: to the leader if it answers here, else to a peer that it answers.
    ///
    /// To neither if a later incarnation might use the same ids again.
    pub(super) fn next_hop(&self) -> Option<NodeId> {
        if !self.has_lasting_ids() {
            return None;
        }
        let leader = self.leader().filter(|leader| *leader != self.pid)?;
        if self.present.contains(&leader) {
            return self.followed_ballot().map(|_| leader);
        }
        self.relay.filter(|relay| relay.leader.pid == leader).map(|relay| relay.peer)
    }

    /// Whether no later incarnation uses the ids of this one. Either incarnations are counted, or
    /// this server has made a promise: that is stored before a message leaves, so that it knows
    /// after a restart that it may have sent something.
    pub(super) fn has_lasting_ids(&self) -> bool {
        self.is_counted || !self.log.promise().is_nobodys()
    }
}

impl<T> Collected<T> {
    fn of(claim: Claim<T>) -> Self {
        let Claim { id: first, since, not_before, entry, bytes } = claim;
        let (entries, stamp) = (vec![entry], Stamp::default());
        let offer = Offer { first, since, not_before, entries, stamp };
        Self { offer, amount: Amount { entries: 1, bytes } }
    }

    /// Whether a proposal fits into the message.
    fn is_followed_by(&self, claim: &Claim<T>, limit: Amount) -> bool {
        let Offer { first, since, not_before, entries, .. } = &self.offer;
        let mut amount = self.amount;
        amount.add(Amount { entries: 1, bytes: claim.bytes });
        first.later(entries.len() as u64) == claim.id
            && (*since, *not_before) == (claim.since, claim.not_before)
            && amount.fits(limit)
    }

    fn push(&mut self, claim: Claim<T>) {
        self.amount.add(Amount { entries: 1, bytes: claim.bytes });
        self.offer.entries.push(claim.entry);
    }
}
