//! A number of requests on the way to their answers.

use crate::protocol::{Answer, Ask, Request, Response};
use std::collections::BTreeMap;

/// Requests under way at the same time.
const WINDOW: usize = 256;

/// From the first request under way to the last one. Servers keep the outputs of 1,024 numbers of a client: a
/// request that comes late must not find its number given up.
const SPAN: usize = 1000;

/// Requests, and the answers that have come.
pub(crate) struct Round {
    asks: Vec<Ask>,
    answers: Vec<Option<Answer>>,
    first_number: u64,
    /// Positions of requests under way, and whether they were sent on this connection.
    under_way: BTreeMap<usize, Sent>,
    /// Position of the first request that was never under way.
    next: usize,
    answered: usize,
}

#[derive(Copy, Clone, PartialEq)]
enum Sent {
    Here,
    NotHere,
}

impl Round {
    pub(crate) fn new(asks: Vec<Ask>, first_number: u64) -> Self {
        let answers = asks.iter().map(|_| None).collect();
        Self { asks, answers, first_number, under_way: BTreeMap::new(), next: 0, answered: 0 }
    }

    pub(crate) fn len(&self) -> u64 {
        self.asks.len() as u64
    }

    /// Number of answers so far.
    pub(crate) fn answered(&self) -> usize {
        self.answered
    }

    pub(crate) fn is_done(&self) -> bool {
        self.answered == self.asks.len()
    }

    /// Whether a transfer is asked for, which takes longer than all else.
    pub(crate) fn transfers_leadership(&self) -> bool {
        self.asks.iter().any(|ask| matches!(ask, Ask::TransferLeadership { .. }))
    }

    /// Whether a change of the members is asked for, which waits for servers that catch up.
    pub(crate) fn changes_members(&self) -> bool {
        self.asks.iter().any(|ask| matches!(ask, Ask::ChangeMembers { .. }))
    }

    /// There is a new connection: what is under way was not sent on it.
    pub(crate) fn ask_again(&mut self) {
        self.under_way.values_mut().for_each(|sent| *sent = Sent::NotHere);
    }

    /// The requests to send now, on the connection of this time.
    pub(crate) fn due(&mut self, client: u64) -> Vec<Request> {
        while self.under_way.len() < WINDOW && self.next < self.asks.len() {
            let first = self.under_way.keys().next().copied().unwrap_or(self.next);
            if self.next - first >= SPAN {
                break;
            }
            self.under_way.insert(self.next, Sent::NotHere);
            self.next += 1;
        }
        let oldest = self.under_way.keys().next().copied().unwrap_or(self.next);
        let oldest = self.first_number + oldest as u64;
        let mut due = Vec::new();
        for (position, sent) in &mut self.under_way {
            if *sent == Sent::NotHere {
                *sent = Sent::Here;
                if let Some(ask) = self.asks.get(*position).cloned() {
                    let number = self.first_number + *position as u64;
                    due.push(Request { client, number, oldest, ask });
                }
            }
        }
        due
    }

    /// Whether this request is under way. An answer to another is a copy.
    pub(crate) fn awaits(&self, number: u64) -> bool {
        self.position(number).is_some_and(|position| self.under_way.contains_key(&position))
    }

    fn position(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first_number)?).ok()
    }

    /// Takes an answer. An answer for which nothing waits is a copy.
    pub(crate) fn take(&mut self, response: Response) {
        let Some(position) = self.position(response.number) else {
            return;
        };
        if self.under_way.remove(&position).is_some() {
            if let Some(place) = self.answers.get_mut(position) {
                *place = Some(response.answer);
                self.answered += 1;
            }
        }
    }

    /// The answer if no more answers come.
    pub(crate) fn unanswered(&self, client: u64) -> String {
        let first = self.under_way.keys().next().copied().unwrap_or(self.next);
        let number = self.first_number + first as u64;
        match self.asks.get(first) {
            Some(Ask::Put { .. } | Ask::Delete { .. }) => format!(
                "no answer in time: it may be done or not, and is done once at most if it is asked \
                 again with `--client {client} --number {number}`"
            ),
            Some(Ask::ChangeMembers { .. }) => "no answer in time: the members may be changed or \
                 not, now or later; `members` lists them"
                .to_owned(),
            Some(
                Ask::Get { .. }
                | Ask::GetStale { .. }
                | Ask::TransferLeadership { .. }
                | Ask::Watch { .. }
                | Ask::Status
                | Ask::Members
                | Ask::PresentMembers,
            )
            | None => "no answer in time".to_owned(),
        }
    }

    pub(crate) fn into_answers(self) -> Vec<Answer> {
        self.answers.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Round, SPAN, WINDOW};
    use crate::protocol::{Answer, Ask, Response};

    fn gets(number: usize) -> Vec<Ask> {
        (0..number).map(|key| Ask::Get { key: key.to_string() }).collect()
    }

    #[test]
    fn the_window_moves_with_the_answers() {
        let mut round = Round::new(gets(WINDOW + 2), 100);
        let due = round.due(7);
        assert_eq!(due.len(), WINDOW);
        assert!(due.iter().all(|request| request.oldest == 100 && request.client == 7));
        assert_eq!(due[1].number, 101);
        assert!(round.due(7).is_empty());
        round.take(Response { number: 101, answer: Answer::Done { idx: 0 } });
        round.take(Response { number: 101, answer: Answer::Done { idx: 0 } });
        round.take(Response { number: 3, answer: Answer::Done { idx: 0 } });
        assert_eq!(round.answered, 1);
        let due = round.due(7);
        assert_eq!((due.len(), due[0].number, due[0].oldest), (1, 100 + WINDOW as u64, 100));
        round.take(Response { number: 100, answer: Answer::Done { idx: 0 } });
        let due = round.due(7);
        assert_eq!((due.len(), due[0].oldest), (1, 102));
    }

    #[test]
    fn the_window_waits_for_a_request_that_all_others_pass() {
        let mut round = Round::new(gets(3 * SPAN), 0);
        loop {
            let due = round.due(7);
            if due.is_empty() {
                break;
            }
            for request in due.iter().filter(|request| request.number > 0) {
                round.take(Response { number: request.number, answer: Answer::Done { idx: 0 } });
            }
        }
        assert_eq!((round.answered, round.next), (SPAN - 1, SPAN));
        round.take(Response { number: 0, answer: Answer::Done { idx: 0 } });
        assert_eq!(round.due(7).len(), WINDOW);
    }

    #[test]
    fn what_is_not_answered_is_asked_again_under_the_same_number() {
        let mut round = Round::new(gets(3), 0);
        assert_eq!(round.due(1).len(), 3);
        round.take(Response { number: 1, answer: Answer::Done { idx: 0 } });
        round.ask_again();
        let numbers: Vec<u64> = round.due(1).iter().map(|request| request.number).collect();
        assert_eq!(numbers, [0, 2]);
    }
}
