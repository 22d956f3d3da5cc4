//! The read requests that a relay passes on to the leader, and the answers that it passes back.

use crate::{
    ballot::Ballot,
    ids::NodeId,
    messages::sequence_paxos::{ReadIndexRequest, ReadIndexResponse},
};
use std::collections::BTreeMap;

/// The last read request of each other server, and the last answer to each.
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
    /// Each until a later one comes, or there is another leader.
    answers: BTreeMap<NodeId, PassedBack>,
}

#[derive(Clone, Debug)]
struct Passed {
    request: ReadIndexRequest,
    is_due: bool,
    is_repeated: bool,
}

#[derive(Clone, Debug)]
struct PassedBack {
    answer: ReadIndexResponse,
    /// The leader that this server knew when the answer came. An answer of an earlier leader may name an
    /// index that the present one never decides.
    leader: Option<Ballot>,
    is_due: bool,
}

impl Passing {
    /// Records the request of a server, which replaces an earlier one. If there is an answer of this
    /// `leader`, it is due again, and the request goes no further.
    pub(super) fn record(&mut self, request: ReadIndexRequest, leader: Option<Ballot>) {
        if let Some(known) = self.answers.get_mut(&request.origin) {
            if known.leader == leader && is_answer(&known.answer, &request) {
                known.is_due = true;
                return;
            }
        }
        let passed = Passed { request, is_due: true, is_repeated: request.hops > 1 };
        self.requests.insert(request.origin, passed);
    }

    /// Drops the request that this answers.
    pub(super) fn drop_answered(&mut self, answer: &ReadIndexResponse) {
        let passed = self.requests.get(&answer.origin);
        if passed.is_some_and(|passed| is_answer(answer, &passed.request)) {
            self.requests.remove(&answer.origin);
        }
    }

    /// Records an answer to pass back.
    pub(super) fn record_answer(&mut self, answer: ReadIndexResponse, leader: Option<Ballot>) {
        self.answers.insert(answer.origin, PassedBack { answer, leader, is_due: true });
    }

    /// Makes each request due once more, with the heartbeats. Returns whether any is due.
    pub(super) fn repeat(&mut self) -> bool {
        self.requests.retain(|_, passed| passed.is_due || !passed.is_repeated);
        for passed in self.requests.values_mut().filter(|passed| !passed.is_due) {
            passed.is_due = true;
            passed.is_repeated = true;
        }
        !self.requests.is_empty()
    }

    /// Takes the requests that are due.
    pub(super) fn take_due(&mut self) -> impl Iterator<Item = ReadIndexRequest> + '_ {
        let due = self.requests.values_mut().filter(|passed| passed.is_due);
        due.map(|passed| {
            passed.is_due = false;
            passed.request
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
