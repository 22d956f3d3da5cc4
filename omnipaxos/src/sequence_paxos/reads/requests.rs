//! The reads requested at this server, as numbers.

use crate::reads::{ReadId, ReadRefused, ReadState};
use std::collections::VecDeque;

/// The requests of this server, whichever server leads. It takes constant memory, however many
/// reads wait.
///
/// All reads requested between two outputs have one number. A confirmation of a number includes all
/// lower ones: entries decided before those requests were decided before this one.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    /// The number of the latest request; 0 if there was none.
    latest: u64,
    /// The number up to which the leader was asked. Later requests get a higher number.
    asked: u64,
    /// The number that is repeated until it is answered, although later ones are asked for meanwhile.
    repeated: u64,
    is_ask_due: bool,
    /// Whether the repeated number was to be repeated a second time, since it had no answer.
    is_overdue: bool,
    /// Confirmed requests whose read index is not decided here. Numbers and indices both grow.
    confirmed: VecDeque<Confirmed>,
    /// The requests that are ready.
    ready: Confirmed,
    refused: Option<Refused>,
}

/// The requests up to this number have this read index.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Confirmed {
    up_to: u64,
    read_idx: u64,
}

/// The requests up to this number are refused, except confirmed ones.
#[derive(Clone, Debug)]
struct Refused {
    up_to: u64,
    reason: ReadRefused,
}

/// The largest number of read indices kept for a server that lags.
const MOST_CONFIRMED: usize = 64;

impl Requests {
    /// Requests a read.
    pub(super) fn request(&mut self) -> ReadId {
        let closed = self.asked.max(self.refused_up_to());
        if self.latest <= closed {
            self.latest = closed + 1;
        }
        self.is_ask_due = true;
        ReadId::new(self.latest)
    }

    /// Returns whether a request to the leader is due.
    pub(super) fn is_ask_due(&self) -> bool {
        self.is_ask_due
    }

    /// Asks for all requests, and returns their number. Later ones get a higher number.
    pub(super) fn ask(&mut self) -> u64 {
        self.is_ask_due = false;
        self.asked = self.latest;
        self.latest
    }

    /// Returns an earlier number to repeat beside the latest, each time until it is answered.
    pub(super) fn repetition(&self) -> Option<u64> {
        let is_due = self.answered_up_to() < self.repeated && self.repeated < self.latest;
        (self.is_overdue && is_due).then_some(self.repeated)
    }

    /// Asks again for the requests that are neither ready nor refused, if there are any.
    ///
    /// - The number of the last repetition, if it has no answer, is repeated beside the latest, here and with
    ///   each later request. The leader or a relay may have an answer to it, and none to the latest. A server
    ///   that reads all the time has another latest number each time.
    /// - A confirmed request that waits for entries is repeated. They may never be decided, if the answer of an
    ///   earlier leader named them and came after the log was synced with the present one.
    pub(super) fn ask_again(&mut self) {
        self.is_ask_due = self.is_waiting();
        self.is_overdue = self.answered_up_to() < self.repeated;
        if !self.is_overdue {
            self.repeated = self.latest;
        }
    }

    /// Returns whether some request is neither confirmed nor refused.
    pub(super) fn is_unanswered(&self) -> bool {
        self.latest > self.answered_up_to()
    }

    /// Returns whether some request is neither ready nor refused.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_unanswered() || !self.confirmed.is_empty()
    }

    /// Returns the number up to which requests were ready, if others wait; with the decided index, if those wait
    /// for entries only.
    pub(super) fn ready_if_waiting(&self, decided_idx: u64) -> Option<(u64, Option<u64>)> {
        let idx = (!self.is_unanswered()).then_some(decided_idx);
        self.is_waiting().then_some((self.ready.up_to, idx))
    }

    /// Refuses the requests that are not confirmed.
    pub(super) fn refuse(&mut self, reason: ReadRefused) {
        self.is_ask_due = false;
        self.refused = Some(Refused { up_to: self.latest, reason });
    }

    /// Records that a leader has confirmed the requests up to `up_to`: all entries decided before
    /// them are before `read_idx`. A confirmation of a number that was not asked for is ignored. So is one that
    /// says nothing new: a lower number than the last, or the same number with a higher index.
    pub(super) fn confirm(&mut self, up_to: u64, read_idx: u64) {
        if up_to > self.asked {
            return;
        }
        // A later leader may have a lower read index than an earlier one that adopted more, also for the same
        // number.
        let is_superseded = |last: &Confirmed| last.up_to <= up_to && last.read_idx >= read_idx;
        while self.confirmed.back().is_some_and(is_superseded) {
            self.confirmed.pop_back();
        }
        if up_to <= self.confirmed_up_to() {
            return;
        }
        if self.confirmed.len() >= MOST_CONFIRMED {
            // The first ones stay, so there is room again when they are ready.
            self.confirmed.pop_back();
        }
        self.confirmed.push_back(Confirmed { up_to, read_idx });
    }

    /// Drops confirmations beyond `len`, the length of a log synced with another leader: entries
    /// there may never be decided. These requests are repeated.
    pub(super) fn doubt_beyond(&mut self, len: u64) {
        while self.confirmed.back().is_some_and(|last| last.read_idx > len) {
            self.confirmed.pop_back();
        }
    }

    /// Marks requests as ready whose read index `decided_idx` has reached.
    pub(super) fn settle(&mut self, decided_idx: u64) {
        while let Some(first) = self.confirmed.front().filter(|c| c.read_idx <= decided_idx) {
            self.ready = *first;
            self.confirmed.pop_front();
        }
    }

    /// Returns the state of a read at this decided index, without the stop sign.
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

    /// Returns the latest read that is ready at this decided index.
    pub(super) fn ready_up_to(&self, decided_idx: u64) -> Option<ReadId> {
        let served = self.confirmed.iter().take_while(|c| c.read_idx <= decided_idx).last();
        let up_to = served.unwrap_or(&self.ready).up_to;
        (up_to > 0).then(|| ReadId::new(up_to))
    }

    /// Returns the number up to which each request is confirmed or refused.
    fn answered_up_to(&self) -> u64 {
        self.confirmed_up_to().max(self.refused_up_to())
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
