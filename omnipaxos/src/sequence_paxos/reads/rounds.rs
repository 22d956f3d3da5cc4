//! The rounds of leadership checks of a leader.

use crate::{ids::NodeId, membership::Quorum};
use std::collections::BTreeMap;

/// The servers that wait for a leadership check, and the round in flight.
///
/// At most one round is in flight. It serves all requests from before it began. Bounded: for each
/// server, only its last request is kept.
#[derive(Clone, Debug, Default)]
pub(in crate::sequence_paxos) struct Rounds {
    /// The number of the round in this ballot.
    number: u64,
    phase: Phase,
    askers: BTreeMap<NodeId, Asker>,
}

#[derive(Clone, Debug, Default)]
enum Phase {
    #[default]
    Idle,
    /// A round is in flight.
    InFlight {
        /// The servers that have confirmed. Invariant I6: each other server at most once.
        confirmed: Vec<NodeId>,
        /// Whether checks are due, to all servers that have not confirmed.
        is_due: bool,
    },
}

/// A server that reads.
#[derive(Copy, Clone, Debug)]
struct Asker {
    incarnation: u64,
    /// The server that sent its last request, and gets the answer.
    via: NodeId,
    /// Waits for the next round.
    next: Option<Asked>,
    /// Waits for the round in flight.
    in_flight: Option<Asked>,
    /// The last confirmed request, to be repeated if the server asks again.
    answered: Option<Asked>,
    is_answer_due: bool,
}

/// The requests up to this number, and the read index when the last of them arrived.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) number: u64,
    pub(super) read_idx: u64,
}

/// An answer to a server.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) origin: NodeId,
    pub(super) incarnation: u64,
    pub(super) via: NodeId,
    pub(super) asked: Asked,
}

/// The origin of a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct From {
    pub(super) origin: NodeId,
    pub(super) incarnation: u64,
    pub(super) via: NodeId,
}

impl Rounds {
    /// Records the request of a server, which waits for a round. Requests of another incarnation are dropped.
    pub(super) fn ask(&mut self, from: From, asked: Asked) {
        let asker = self.asker(from);
        if asked.is_in(asker.answered) {
            asker.is_answer_due = true;
        } else if !asked.is_in(asker.in_flight) && !asked.is_in(asker.next) {
            asker.next = Some(asked);
        }
    }

    /// Records the request of a server that is a write quorum together with this one, and has confirmed the
    /// ballot with this request. So it waits for no round. Requests of another incarnation are dropped.
    pub(super) fn answer(&mut self, from: From, asked: Asked) {
        let asker = self.asker(from);
        asker.is_answer_due = true;
        if !asked.is_in(asker.answered) {
            asker.answered = Some(asked);
            for waiting in [&mut asker.next, &mut asker.in_flight] {
                *waiting = waiting.filter(|later| asked.number < later.number);
            }
        }
    }

    fn asker(&mut self, from: From) -> &mut Asker {
        let From { origin, incarnation, via } = from;
        let asker = self.askers.entry(origin).or_insert(Asker::new(incarnation, via));
        if asker.incarnation != incarnation {
            *asker = Asker::new(incarnation, via);
        }
        asker.via = via;
        asker
    }

    /// Drops the requests of other servers.
    pub(super) fn retain(&mut self, is_kept: impl Fn(NodeId) -> bool) {
        self.askers.retain(|origin, _| is_kept(*origin));
    }

    /// Records that a server has confirmed this round.
    pub(super) fn confirm(&mut self, from: NodeId, round: u64) {
        if let Phase::InFlight { confirmed, .. } = &mut self.phase {
            if round == self.number && !confirmed.contains(&from) {
                confirmed.push(from);
            }
        }
    }

    /// Ends the round in flight if it is confirmed, and begins the next if a server waits for it.
    pub(super) fn go_on(&mut self, quorum: &Quorum) {
        self.end(quorum);
        self.begin();
        // If this server is a write quorum alone.
        self.end(quorum);
    }

    /// Ends a round that a write quorum has confirmed, including this server. It meets every read
    /// quorum. So no read quorum had promised a higher ballot when the round began.
    fn end(&mut self, quorum: &Quorum) {
        let Phase::InFlight { confirmed, .. } = &self.phase else {
            return;
        };
        if quorum.can_accept(confirmed.len() + 1) {
            self.phase = Phase::Idle;
            for asker in self.askers.values_mut().filter(|asker| asker.in_flight.is_some()) {
                asker.answered = asker.in_flight.take();
                asker.is_answer_due = true;
            }
        }
    }

    fn begin(&mut self) {
        let waits = |asker: &Asker| asker.next.is_some();
        if matches!(self.phase, Phase::Idle) && self.askers.values().any(waits) {
            self.number += 1;
            self.phase = Phase::InFlight { confirmed: Vec::new(), is_due: true };
            for asker in self.askers.values_mut() {
                asker.in_flight = asker.next.take();
            }
        }
    }

    /// Makes checks due again, together with the heartbeats. They go also to servers that did not answer
    /// lately: a link may be open only for the heartbeats.
    pub(super) fn repeat(&mut self) {
        if let Phase::InFlight { is_due, .. } = &mut self.phase {
            *is_due = true;
        }
    }

    pub(super) fn is_in_flight(&self) -> bool {
        matches!(self.phase, Phase::InFlight { .. })
    }

    /// Returns the number of the round in flight, or of the last one.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Takes whether checks are due, to the servers that have not confirmed.
    pub(super) fn take_due(&mut self) -> bool {
        match &mut self.phase {
            Phase::Idle => false,
            Phase::InFlight { is_due, .. } => std::mem::take(is_due),
        }
    }

    pub(super) fn has_confirmed(&self, pid: NodeId) -> bool {
        match &self.phase {
            Phase::Idle => false,
            Phase::InFlight { confirmed, .. } => confirmed.contains(&pid),
        }
    }

    /// Returns the next answer that is due.
    pub(super) fn take_answer(&mut self) -> Option<Answer> {
        self.askers.iter_mut().find_map(|(origin, asker)| {
            let is_due = std::mem::take(&mut asker.is_answer_due);
            let Asker { incarnation, via, .. } = *asker;
            let asked = asker.answered.filter(|_| is_due)?;
            Some(Answer { origin: *origin, incarnation, via, asked })
        })
    }
}

impl Asked {
    /// Returns whether an answer to `other` answers this, too.
    fn is_in(self, other: Option<Self>) -> bool {
        other.is_some_and(|other| self.number <= other.number)
    }
}

impl Asker {
    fn new(incarnation: u64, via: NodeId) -> Self {
        Self { incarnation, via, next: None, in_flight: None, answered: None, is_answer_due: false }
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, From, Rounds};
    use crate::membership::Quorum;

    fn from(origin: u64, incarnation: u64) -> From {
        From { origin, incarnation, via: origin }
    }

    fn asked(number: u64, read_idx: u64) -> Asked {
        Asked { number, read_idx }
    }

    fn answers(rounds: &mut Rounds) -> Vec<(u64, Asked)> {
        std::iter::from_fn(|| rounds.take_answer()).map(|a| (a.origin, a.asked)).collect()
    }

    #[test]
    fn a_round_serves_what_was_asked_before_it_began() {
        let quorum = Quorum::of(3, None);
        let mut rounds = Rounds::default();
        rounds.ask(from(1, 0), asked(1, 5));
        rounds.go_on(&quorum);
        assert_eq!((rounds.take_due(), rounds.number()), (true, 1));
        rounds.ask(from(1, 0), asked(2, 6));
        rounds.ask(from(2, 0), asked(7, 6));
        rounds.ask(from(2, 0), asked(8, 7));
        rounds.go_on(&quorum);
        assert_eq!((rounds.take_due(), rounds.number()), (false, 1), "one at a time");
        rounds.confirm(2, 1);
        rounds.go_on(&quorum);
        assert_eq!(answers(&mut rounds), [(1, asked(1, 5))]);
        assert_eq!((rounds.take_due(), rounds.number()), (true, 2));
        rounds.confirm(3, 1);
        rounds.go_on(&quorum);
        assert_eq!(answers(&mut rounds), [], "an answer to the round before does not count");
        rounds.confirm(3, 2);
        rounds.go_on(&quorum);
        assert_eq!(answers(&mut rounds), [(1, asked(2, 6)), (2, asked(8, 7))]);
    }

    #[test]
    fn nobody_counts_twice() {
        let quorum = Quorum::of(5, None);
        let mut rounds = Rounds::default();
        rounds.ask(from(1, 0), asked(1, 5));
        rounds.go_on(&quorum);
        for _ in 0..3 {
            rounds.confirm(2, 1);
            rounds.go_on(&quorum);
        }
        assert_eq!(answers(&mut rounds), []);
        rounds.repeat();
        assert!(rounds.take_due());
        assert!(rounds.has_confirmed(2) && !rounds.has_confirmed(3));
    }

    #[test]
    fn who_asks_again_is_told_again() {
        let mut rounds = Rounds::default();
        let alone = Quorum::of(1, None);
        rounds.ask(from(2, 0), asked(1, 5));
        rounds.go_on(&alone);
        assert_eq!(answers(&mut rounds), [(2, asked(1, 5))]);
        rounds.ask(from(2, 0), asked(1, 9));
        rounds.go_on(&alone);
        assert_eq!(answers(&mut rounds), [(2, asked(1, 5))]);
        rounds.ask(from(2, 1), asked(1, 9));
        rounds.go_on(&alone);
        assert_eq!(answers(&mut rounds), [(2, asked(1, 9))], "in another incarnation");
    }
}
