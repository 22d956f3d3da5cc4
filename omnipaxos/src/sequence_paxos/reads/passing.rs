//! The read requests that a relay passes on to the leader, and the answers that it passes back.

use crate::{
    ids::NodeId,
    messages::sequence_paxos::{ReadIndexRequest, ReadIndexResponse},
};
use std::collections::BTreeMap;

/// The open read requests of each other server, and an answer for each.
///
/// Links may be open only for heartbeats and what leaves with them. An origin repeats a request in step
/// with its own heartbeats. The relay joins two such links:
/// - A request is passed on at once, and once more with the heartbeats of this server, if there is no answer
///   by then: the link from here to the leader may be open only for these. In a chain of relays only the
///   first one repeats: the others get the request again.
/// - An answer is passed back at once, and again each time its origin repeats the request: the link from here
///   to the origin may be open only for what leaves with the answer to its heartbeat.
#[derive(Clone, Debug, Default)]
pub(super) struct Passing {
    /// Each until it is answered, or the second heartbeat round ends.
    requests: BTreeMap<NodeId, Passed>,
    /// One for each origin: the last one, unless an earlier one says more.
    answers: BTreeMap<NodeId, PassedBack>,
}

/// The open requests of a server.
#[derive(Clone, Debug)]
struct Passed {
    latest: Request,
    /// An earlier one without an answer, which the server repeats. The leader may have an answer to it, and none
    /// to the latest.
    repeated: Option<Request>,
    is_repeated_here: bool,
}

#[derive(Clone, Debug)]
struct Request {
    request: ReadIndexRequest,
    is_due: bool,
}

impl Passed {
    /// Records another request of the same server.
    fn record(&mut self, request: ReadIndexRequest) {
        let latest = self.latest.request;
        let due = Request { request, is_due: true };
        self.is_repeated_here = request.hops > 1;
        if request.incarnation != latest.incarnation {
            (self.latest, self.repeated) = (due, None);
        } else if request.number < latest.number {
            self.repeated = Some(due);
        } else {
            if request.number > latest.number && self.repeated.is_none() {
                self.repeated = Some(self.latest.clone());
            }
            self.latest = due;
        }
    }

    fn each(&mut self) -> impl Iterator<Item = &mut Request> {
        self.repeated.iter_mut().chain([&mut self.latest])
    }

    fn is_due(&self) -> bool {
        self.latest.is_due || self.repeated.as_ref().is_some_and(|repeated| repeated.is_due)
    }
}

#[derive(Copy, Clone, Debug)]
struct PassedBack {
    answer: ReadIndexResponse,
    is_due: bool,
}

impl Passing {
    /// Records the request of a server. If there is an answer, it is due again. The request goes no further
    /// if this server has decided all entries of the answer. Otherwise the answer may be that of an earlier
    /// leader, and name entries that the present one never decides.
    pub(super) fn record(&mut self, request: ReadIndexRequest, decided_idx: u64) {
        let known = self.answers.get_mut(&request.origin);
        if let Some(known) = known.filter(|known| is_answer(&known.answer, &request)) {
            known.is_due = true;
            if known.answer.read_idx <= decided_idx {
                return;
            }
        }
        let new = Passed {
            latest: Request { request, is_due: true },
            repeated: None,
            is_repeated_here: request.hops > 1,
        };
        let passed = self.requests.entry(request.origin);
        passed.and_modify(|passed| passed.record(request)).or_insert(new);
    }

    /// Drops the requests that this answers.
    pub(super) fn drop_answered(&mut self, answer: &ReadIndexResponse) {
        let Some(passed) = self.requests.get_mut(&answer.origin) else {
            return;
        };
        passed.repeated = passed.repeated.take().filter(|one| !is_answer(answer, &one.request));
        if is_answer(answer, &passed.latest.request) {
            self.requests.remove(&answer.origin);
        }
    }

    /// Records an answer to pass back. A late one does not replace one that says more.
    pub(super) fn record_answer(&mut self, answer: ReadIndexResponse, decided_idx: u64) {
        let new = PassedBack { answer, is_due: true };
        let known = self.answers.entry(answer.origin).or_insert(new);
        let says_more = known.answer.incarnation == answer.incarnation
            && known.answer.number >= answer.number
            && known.answer.read_idx <= answer.read_idx.max(decided_idx);
        match says_more {
            true => {
                known.answer.hops = known.answer.hops.min(answer.hops);
                known.is_due = true;
            }
            false => *known = new,
        }
    }

    /// Makes each request due once more, with the heartbeats. Returns whether any is due.
    pub(super) fn repeat(&mut self) -> bool {
        self.requests.retain(|_, passed| passed.is_due() || !passed.is_repeated_here);
        for passed in self.requests.values_mut().filter(|passed| !passed.is_due()) {
            passed.each().for_each(|one| one.is_due = true);
            passed.is_repeated_here = true;
        }
        !self.requests.is_empty()
    }

    /// Takes the requests that are due, of each server the latest at the end.
    pub(super) fn take_due(&mut self) -> impl Iterator<Item = ReadIndexRequest> + '_ {
        let all = self.requests.values_mut().flat_map(Passed::each);
        all.filter(|one| one.is_due).map(|one| {
            one.is_due = false;
            one.request
        })
    }

    /// Takes the answers that are due.
    pub(super) fn take_due_answers(&mut self) -> impl Iterator<Item = ReadIndexResponse> + '_ {
        let due = self.answers.values_mut().filter(|known| known.is_due);
        due.map(|known| {
            known.is_due = false;
            known.answer
        })
    }

    /// Drops the requests of other servers, and their answers.
    pub(super) fn retain(&mut self, is_kept: impl Fn(NodeId) -> bool) {
        self.requests.retain(|origin, _| is_kept(*origin));
        self.answers.retain(|origin, _| is_kept(*origin));
    }

    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.answers.clear();
    }
}

/// Returns whether this answers a request of the same origin.
fn is_answer(answer: &ReadIndexResponse, request: &ReadIndexRequest) -> bool {
    request.incarnation == answer.incarnation && request.number <= answer.number
}
