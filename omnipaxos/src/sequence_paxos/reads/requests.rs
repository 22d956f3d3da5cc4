//! The reads that were requested here, as numbers.

use crate::reads::{ReadId, ReadRefused, ReadState};
use std::collections::VecDeque;

/// What was requested here, whoever leads. Takes the same room however many reads wait.
///
/// All that is requested between two outputs has one number. What is told of a number holds for all
/// that are lower, too: whatever was decided before those were requested was decided before this.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    /// The number of the latest request; 0 if there was none.
    latest: u64,
    /// The leader was asked for numbers up to this. What is requested now gets a higher one.
    asked: u64,
    is_ask_due: bool,
    /// Confirmed, but not decided so far here. Numbers and indices both grow.
    confirmed: VecDeque<Confirmed>,
    /// Can be served.
    ready: Confirmed,
    refused: Option<Refused>,
}

/// All numbers up to this one can be served from an index.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Confirmed {
    up_to: u64,
    read_idx: u64,
}

/// All numbers up to this one that were not confirmed are refused.
#[derive(Clone, Debug)]
struct Refused {
    up_to: u64,
    reason: ReadRefused,
}

/// So many indices at most are kept for a server that is behind.
const MOST_CONFIRMED: usize = 64;

impl Requests {
    /// A read is requested.
    pub(super) fn request(&mut self) -> ReadId {
        let closed = self.asked.max(self.refused_up_to());
        if self.latest <= closed {
            self.latest = closed + 1;
        }
        self.is_ask_due = true;
        ReadId::new(self.latest)
    }

    /// Whether the leader must be asked for something.
    pub(super) fn is_ask_due(&self) -> bool {
        self.is_ask_due
    }

    /// Asks for all: what is requested from now on gets a higher number. Returns the number.
    pub(super) fn ask(&mut self) -> u64 {
        self.is_ask_due = false;
        self.asked = self.latest;
        self.latest
    }

    /// Asks again for what was neither confirmed nor refused, if there is something.
    pub(super) fn ask_again(&mut self) {
        self.is_ask_due = self.is_unanswered();
    }

    /// Whether something was neither confirmed nor refused.
    pub(super) fn is_unanswered(&self) -> bool {
        self.latest > self.confirmed_up_to().max(self.refused_up_to())
    }

    /// Refuses what was not confirmed.
    pub(super) fn refuse(&mut self, reason: ReadRefused) {
        self.is_ask_due = false;
        self.refused = Some(Refused { up_to: self.latest, reason });
    }

    /// A leader has confirmed that all that was decided before number `up_to` was requested is
    /// before `read_idx`. One that tells of a number that was not asked for is no such leader.
    pub(super) fn confirm(&mut self, up_to: u64, read_idx: u64) {
        if up_to > self.asked || up_to <= self.confirmed_up_to() {
            return;
        }
        // A later leader may know better than an earlier one that adopted more.
        while self.confirmed.back().is_some_and(|last| last.read_idx >= read_idx) {
            self.confirmed.pop_back();
        }
        if self.confirmed.len() >= MOST_CONFIRMED {
            // Those in front stay as they are, so there is room again when they can be served.
            self.confirmed.pop_back();
        }
        self.confirmed.push_back(Confirmed { up_to, read_idx });
    }

    /// The log, of length `len`, is that of another leader: an index beyond it may never be decided,
    /// and what was confirmed there is asked again.
    pub(super) fn doubt_beyond(&mut self, len: u64) {
        while self.confirmed.back().is_some_and(|last| last.read_idx > len) {
            self.confirmed.pop_back();
        }
    }

    /// Forgets the indices that `decided_idx` has passed.
    pub(super) fn settle(&mut self, decided_idx: u64) {
        while let Some(first) = self.confirmed.front().filter(|c| c.read_idx <= decided_idx) {
            self.ready = *first;
            self.confirmed.pop_front();
        }
    }

    /// How far a read is where so many entries are decided, the stop sign not counted.
    pub(super) fn state(&self, id: ReadId, decided_idx: u64) -> ReadState {
        let number = id.number();
        if number == 0 || number > self.latest {
            return ReadState::Refused(ReadRefused::Unknown);
        }
        if number <= self.ready.up_to {
            return ReadState::Ready(self.ready.read_idx);
        }
        if let Some(confirmed) = self.confirmed.iter().find(|c| number <= c.up_to) {
            return match confirmed.read_idx <= decided_idx {
                true => ReadState::Ready(confirmed.read_idx),
                false => ReadState::Waiting,
            };
        }
        match &self.refused {
            Some(Refused { up_to, reason }) if number <= *up_to => {
                ReadState::Refused(reason.clone())
            }
            Some(_) | None => ReadState::Waiting,
        }
    }

    /// The latest read that can be served where so many entries are decided.
    pub(super) fn ready_up_to(&self, decided_idx: u64) -> Option<ReadId> {
        let served = self.confirmed.iter().take_while(|c| c.read_idx <= decided_idx).last();
        let up_to = served.unwrap_or(&self.ready).up_to;
        (up_to > 0).then(|| ReadId::new(up_to))
    }

    fn confirmed_up_to(&self) -> u64 {
        self.confirmed.back().unwrap_or(&self.ready).up_to
    }

    fn refused_up_to(&self) -> u64 {
        self.refused.as_ref().map_or(0, |refused| refused.up_to)
    }

    pub(super) fn check_invariants(&self, decided_idx: u64) {
        debug_assert!(
            self.ready.read_idx <= decided_idx,
            "I11: ready at {}, decided {decided_idx}",
            self.ready.read_idx
        );
        debug_assert!(
            self.confirmed_up_to() <= self.asked,
            "I11: confirmed up to {}, asked up to {}",
            self.confirmed_up_to(),
            self.asked
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{ReadId, ReadRefused, ReadState, Requests, MOST_CONFIRMED};

    #[test]
    fn requests_between_two_outputs_share_a_number() {
        let mut requests = Requests::default();
        let first = requests.request();
        assert_eq!(requests.request(), first);
        assert_eq!(requests.ask(), 1);
        assert!(requests.request() > first, "it was requested after the leader was asked");
    }

    #[test]
    fn each_is_served_from_the_index_of_its_own_time() {
        let mut requests = Requests::default();
        let ids: Vec<ReadId> = (1..=3)
            .map(|number| {
                let id = requests.request();
                requests.ask();
                requests.confirm(number, 10 * number);
                id
            })
            .collect();
        let states = |requests: &Requests, decided_idx: u64| -> Vec<ReadState> {
            ids.iter().map(|id| requests.state(*id, decided_idx)).collect()
        };
        use ReadState::{Ready, Waiting};
        assert_eq!(states(&requests, 9), [Waiting, Waiting, Waiting]);
        assert_eq!(states(&requests, 20), [Ready(10), Ready(20), Waiting]);
        requests.settle(20);
        assert_eq!(states(&requests, 20), [Ready(20), Ready(20), Waiting]);
        requests.settle(30);
        assert_eq!(states(&requests, 30), [Ready(30), Ready(30), Ready(30)]);
    }

    #[test]
    fn a_server_that_stays_behind_is_served_and_memory_is_bounded() {
        let mut requests = Requests::default();
        let first = requests.request();
        for number in 1..1000 {
            requests.request();
            requests.ask();
            requests.confirm(number, 10 + number);
            assert!(requests.confirmed.len() <= MOST_CONFIRMED);
        }
        assert_eq!(requests.state(first, 11), ReadState::Ready(11));
        requests.settle(11 + MOST_CONFIRMED as u64);
        assert_eq!(requests.confirmed.len(), 1, "the last stands for all after the first");
    }

    #[test]
    fn what_is_refused_is_not_asked_for_again() {
        let mut requests = Requests::default();
        let first = requests.request();
        requests.refuse(ReadRefused::NoLeader);
        requests.ask_again();
        assert!(!requests.is_ask_due());
        assert_eq!(requests.state(first, 0), ReadState::Refused(ReadRefused::NoLeader));
        let second = requests.request();
        assert!(second > first);
        assert_eq!(requests.state(second, 0), ReadState::Waiting);
        let other = ReadId::new(9);
        assert_eq!(requests.state(other, 0), ReadState::Refused(ReadRefused::Unknown));
    }

    #[test]
    fn old_answers_and_those_to_what_was_not_asked_change_nothing() {
        let mut requests = Requests::default();
        let id = requests.request();
        requests.confirm(1, 0);
        assert_eq!(requests.state(id, 9), ReadState::Waiting, "it was not asked for yet");
        requests.ask();
        requests.confirm(2, 0);
        assert_eq!(requests.state(id, 9), ReadState::Waiting, "of another number");
        requests.confirm(1, 5);
        requests.settle(5);
        requests.confirm(1, 7);
        assert_eq!(requests.state(id, 5), ReadState::Ready(5));
    }
}
