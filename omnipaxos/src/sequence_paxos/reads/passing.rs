//! The read requests that a relay passes on to the leader.

use crate::{
    ids::NodeId,
    messages::sequence_paxos::{ReadIndexRequest, ReadIndexResponse},
};
use std::collections::BTreeMap;

/// The last read request of each other server, until it is answered or the second heartbeat round ends.
///
/// A request is passed on at once, and once more with the heartbeats of this server. Its origin repeats it
/// in step with its own heartbeats: the link from here to the leader may be closed each time, and open
/// only for the heartbeats of this server. In a chain of relays only the first one repeats: the others get
/// the request again.
#[derive(Clone, Debug, Default)]
pub(super) struct Passing(BTreeMap<NodeId, Passed>);

#[derive(Clone, Debug)]
struct Passed {
    request: ReadIndexRequest,
    is_due: bool,
    is_repeated: bool,
}

impl Passing {
    /// Records the request of a server, which replaces an earlier one.
    pub(super) fn record(&mut self, request: ReadIndexRequest) {
        let passed = Passed { request, is_due: true, is_repeated: request.hops > 1 };
        self.0.insert(request.origin, passed);
    }

    /// Drops the request that this answers.
    pub(super) fn answer(&mut self, answer: &ReadIndexResponse) {
        let is_answered = |request: &ReadIndexRequest| {
            request.incarnation == answer.incarnation && request.number <= answer.number
        };
        if self.0.get(&answer.origin).is_some_and(|passed| is_answered(&passed.request)) {
            self.0.remove(&answer.origin);
        }
    }

    /// Makes each request due once more, with the heartbeats. Returns whether any is due.
    pub(super) fn repeat(&mut self) -> bool {
        self.0.retain(|_, passed| passed.is_due || !passed.is_repeated);
        for passed in self.0.values_mut().filter(|passed| !passed.is_due) {
            passed.is_due = true;
            passed.is_repeated = true;
        }
        !self.0.is_empty()
    }

    /// Takes the requests that are due.
    pub(super) fn take_due(&mut self) -> impl Iterator<Item = ReadIndexRequest> + '_ {
        let due = self.0.values_mut().filter(|passed| passed.is_due);
        due.map(|passed| {
            passed.is_due = false;
            passed.request
        })
    }

    /// Drops the requests of other servers.
    pub(super) fn retain(&mut self, is_kept: impl Fn(NodeId) -> bool) {
        self.0.retain(|origin, _| is_kept(*origin));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
