//! What a client and a server send each other.

use crate::members::{self, Members};
use example_common::frame::{self, FrameError};
use omnipaxos::{
    status::{JoinerStatus, ObserverStatus, PeerStatus, Status as ReplicaStatus},
    util::NodeId,
};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};
use thiserror::Error;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Names the client: a random number.
    pub(crate) client: u64,
    /// Names the request among those of the client. It stays the same when the client asks again,
    /// so that nothing is done twice.
    pub(crate) number: u64,
    /// The smallest number that the client still waits for: it never asks again for one below.
    pub(crate) oldest: u64,
    /// What is asked.
    pub(crate) ask: Ask,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Answered with `Done` when it is decided, and applied at the server asked; or with `AskAgain`.
    Put { key: String, value: String },
    /// Answered as `Put`, also when there is no such key.
    Delete { key: String },
    /// Answered with `Value`, which holds all that was done before it was asked, at whichever
    /// server; or with `AskAgain`.
    Get { key: String },
    /// Answered with `Value` at once, from what is applied at the server asked, which may be behind.
    GetStale { key: String },
    /// Asks the leader to let this server lead. Answered with `Leads` when that is over; or with
    /// `AskAgain`.
    TransferLeadership { to: NodeId },
    /// Answered with a `Changed` for each change of a key with this prefix, from now on. A connection has at
    /// most [`MOST_WATCHES`] of these.
    Watch { prefix: String },
    /// Answered with `Status`.
    Status,
    /// Answered with `Members`: now, and whenever they change. The next such request on a connection takes
    /// the place of this one.
    Members,
    /// Changes the members of this configuration. Answered with `MembersChanged`, with `Members` if they are so
    /// already, or with `NotJoined`. Refused if they are others meanwhile: the change may have been one of those
    /// since, so to ask again does nothing twice.
    ChangeMembers { change: members::Change, configuration_id: u32 },
    /// Answered with `Members` once, which holds all changes before it was asked; or with `AskAgain`.
    PresentMembers,
}

/// The most bytes of a key and its value together. What servers send each other about a change must
/// fit into a frame, which is four times as long.
pub(crate) const LONGEST_CHANGE: usize = frame::LONGEST_BODY / 4;

/// The most bytes of a prefix that is watched. The server keeps it.
pub(crate) const LONGEST_PREFIX: usize = 64 * 1024;

/// The most requests to watch on one connection.
pub(crate) const MOST_WATCHES: usize = 64;

impl Ask {
    /// Returns the bytes of its keys and values, which its server has until it is answered.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Ask::Put { key, value } => key.len() + value.len(),
            Ask::Delete { key } | Ask::Get { key } | Ask::GetStale { key } => key.len(),
            Ask::Watch { .. }
            | Ask::TransferLeadership { .. }
            | Ask::Status
            | Ask::Members
            | Ask::ChangeMembers { .. }
            | Ask::PresentMembers => 0,
        }
    }

    /// Checks that keys and values are not too long, before anything is sent or done.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (what, bytes, limit) = match self {
            Ask::Put { .. } => ("a key and its value", self.bytes(), LONGEST_CHANGE),
            Ask::Delete { .. } | Ask::Get { .. } | Ask::GetStale { .. } => {
                ("a key", self.bytes(), LONGEST_CHANGE)
            }
            Ask::Watch { prefix } => ("a prefix", prefix.len(), LONGEST_PREFIX),
            Ask::TransferLeadership { .. } | Ask::Status | Ask::Members | Ask::PresentMembers => {
                return Ok(())
            }
            Ask::ChangeMembers { change, .. } => return change.check(),
        };
        if bytes <= limit {
            return Ok(());
        }
        Err(format!("{what} of {bytes} bytes: the limit is {limit} bytes"))
    }
}

/// The answer to the request of the same number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Response {
    pub(crate) number: u64,
    pub(crate) answer: Answer,
}

impl Response {
    /// Returns about how many bytes of memory a value takes while it waits, as if it shared none. Other answers are
    /// small: their number bounds them.
    pub(crate) fn bytes(&self) -> usize {
        let length = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        match &self.answer {
            Answer::Value(value) => size_of::<Self>() + length(value),
            Answer::Changed { key, value } => size_of::<Self>() + key.len() + length(value),
            Answer::Status(_)
            | Answer::Members(_)
            | Answer::MembersChanged { .. }
            | Answer::Refused(_)
            | Answer::Done { .. }
            | Answer::Leads { .. }
            | Answer::NotJoined(_)
            | Answer::AskAgain(_) => 0,
        }
    }

    /// The number of what answers no request, since the server did not read it.
    pub(crate) const OF_NONE: u64 = u64::MAX;

    /// The number of the members, for which a client asks besides.
    pub(crate) const OF_MEMBERS: u64 = u64::MAX - 1;

    /// Refuses a request that was not read.
    pub(crate) fn to_too_long(why: &FrameError) -> Self {
        let answer =
            Answer::Refused(format!("{why}; a key and its value may have {LONGEST_CHANGE}"));
        Self { number: Self::OF_NONE, answer }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Decided, at this index of the log, and applied here. A repeated request gets the same answer.
    Done { idx: u64 },
    /// The value of the key, if there is one.
    Value(Option<Arc<str>>),
    /// A key has a new value, or none any more.
    Changed { key: Arc<str>, value: Option<Arc<str>> },
    /// How the server is.
    Status(Box<Status>),
    /// The transfer is over, and this server leads: the other one, if it was given up.
    Leads { pid: NodeId },
    /// The members, and where they are.
    Members(Members),
    /// The change of the members is decided at this index, after these servers had caught up.
    MembersChanged { idx: u64, waited_for: Vec<NodeId>, members: Members },
    /// This server has given up the change, and has changed nothing: these servers did not catch up. A server that
    /// was asked before may still change the members.
    NotJoined(Vec<NodeId>),
    /// Not answered yet. Ask again, later or another server, with the same number.
    AskAgain(Why),
    /// The server cannot do this, for this reason. Asking again is no use.
    Refused(String),
}

impl Answer {
    /// To a client that asks for something whose answer it has confirmed.
    pub(crate) fn answered_before() -> Self {
        Self::Refused(
            "the client has told that it has the answer to this number, or has 1,024 later ones: \
             use a higher number"
                .to_owned(),
        )
    }

    /// To a client that many others have followed since its command was done.
    pub(crate) fn index_forgotten() -> Self {
        Self::Refused(
            "it is done, and its index is not kept any more: do not ask again with another number"
                .to_owned(),
        )
    }
}

/// Why a server has no answer yet. To ask again with the same number does nothing twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
pub(crate) enum Why {
    /// As many commands wait for a leader here as may wait. The command was not proposed here now. A server that
    /// was asked before may have proposed it.
    #[error(
        "it is busy: as many commands wait there as may wait; it has not proposed this one now"
    )]
    Busy,
    /// The last proposal of the command here did not get into the log, and never will. That of a server that was
    /// asked before may be in the log.
    #[error("its proposal was not decided: the configuration has ended without that")]
    NotDecided,
    /// The server was brought up to date by a snapshot, which may hold the command. Or an earlier proposal of it
    /// may be in the log, and it could not be proposed again.
    #[error("it may be done or not, which is not known there any more")]
    Unknown,
    /// Nobody confirmed in time how far the state must be.
    #[error("it cannot be read there now: {0}")]
    NotRead(String),
    /// Only the leader can transfer leadership.
    #[error("that server does not lead: {}", led_by(*leader))]
    NotLeader { leader: Option<NodeId> },
    /// The server learns the members, or where they are, with the log: it has just been started, or the
    /// members have just changed.
    #[error("it does not know the members yet")]
    NoMembers,
    /// A change of the members is under way.
    #[error("it is changing the members already")]
    ChangingMembers,
    /// Another change of the members was decided first.
    #[error("another change of the members came first")]
    OtherMembers,
    /// Leadership is on its way to another server.
    #[error("leadership is being transferred to server {to}")]
    HandingOver { to: NodeId },
}

fn led_by(leader: Option<NodeId>) -> String {
    match leader {
        Some(pid) => format!("server {pid} does, as far as it knows"),
        None => "it knows no leader".to_owned(),
    }
}

/// How a server is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The status that the library returns.
    pub(crate) replica: ReplicaStatus,
    /// Commands that were proposed here and not answered yet.
    pub(crate) unanswered: u64,
    /// Number of keys.
    pub(crate) keys: u64,
    /// Digest of all keys and values.
    pub(crate) digest: u64,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReplicaStatus { pid, leader, decided_idx, accepted_idx, compacted_idx, .. } =
            &self.replica;
        let leader = leader.map_or("none".to_owned(), |pid| pid.to_string());
        write!(
            f,
            "server {pid}: leader {leader}, decided {decided_idx}, log length {accepted_idx} \
             ({compacted_idx} of it in a snapshot), {} keys, digest {:016x}",
            self.keys, self.digest
        )
    }
}

impl Status {
    /// What else an operator needs to know, in lines.
    pub(crate) fn details(&self) -> String {
        let ReplicaStatus { configuration_id, role, promise, stored_idx, waiting, dropped, .. } =
            &self.replica;
        let mut lines = vec![
            format!(
                "  {role:?} in configuration {configuration_id}, promise {} of server {}",
                promise.n, promise.pid
            ),
            format!(
                "  {stored_idx} entries on disk; {} commands wait, {} of clients here are unanswered",
                waiting.entries, self.unanswered
            ),
            format!(
                "  dropped: {} messages from strangers, {} of other configurations, {} malformed, \
                 {} misdelivered; {} commands without room, {} that cannot be stored",
                dropped.from_strangers,
                dropped.of_other_configurations,
                dropped.malformed,
                dropped.misdelivered,
                dropped.proposals,
                dropped.unstorable
            ),
        ];
        if let Some(higher) = self.replica.higher_configuration {
            let (id, by) = (higher.configuration_id, higher.reported_by);
            lines.push(format!("  server {by} tells of configuration {id}"));
        }
        lines.extend(self.replica.peers.iter().map(peer));
        lines.extend(self.replica.observers.iter().map(observer));
        lines.extend(self.replica.joiners.iter().map(joiner));
        lines.extend(self.replica.may_stop.map(|may_stop| match may_stop {
            true => "  it was removed, and may be stopped".to_owned(),
            false => "  it was removed, and may not be stopped yet".to_owned(),
        }));
        lines.join("\n")
    }
}

/// What a server knows of its observer, in a line.
fn observer(observer: &ObserverStatus) -> String {
    let ObserverStatus { pid, via, decided_idx, lag, .. } = *observer;
    match pid == via {
        true => format!("  observer {pid} has {decided_idx} entries, lacks {lag}"),
        false => format!("  observer {pid} asks server {via}"),
    }
}

/// What a server knows of one for which a change of the members waits, in a line.
fn joiner(joiner: &JoinerStatus) -> String {
    let JoinerStatus { pid, decided_idx, lag, has_caught_up, .. } = *joiner;
    match (decided_idx, has_caught_up) {
        (None, _) => format!("  a change of the members waits for server {pid}, which is silent"),
        (Some(_), true) => format!("  server {pid} has caught up for a change of the members"),
        (Some(_), false) => {
            format!("  a change of the members waits for server {pid}, which lacks {lag} entries")
        }
    }
}

/// What a server knows of another, in a line.
fn peer(peer: &PeerStatus) -> String {
    let answers = if peer.answered() { "answers" } else { "does not answer" };
    let follower = peer.follower.map(|follower| {
        let (entries, bytes) = (follower.in_flight.entries, follower.in_flight.bytes);
        let (stage, lag) = (follower.stage, follower.lag);
        format!(", {stage:?}, lacks {lag} entries, {entries} ({bytes} bytes) in flight")
    });
    format!("  server {} {answers}{}", peer.pid, follower.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{Answer, Ask, Request, Response};
    use bincode::config::standard;
    use serde::Serialize;

    fn bytes(of: &impl Serialize) -> Vec<u8> {
        bincode::serde::encode_to_vec(of, standard()).unwrap()
    }

    /// Other programs, such as the benchmarks, know the requests and the answers by these bytes.
    #[test]
    fn requests_and_answers_keep_their_bytes() {
        let text = |text: &str| text.to_owned();
        let request = |ask| bytes(&Request { client: 1, number: 7, oldest: 6, ask });
        let put = request(Ask::Put { key: text("k"), value: text("v") });
        assert_eq!(put, [1, 7, 6, 0, 1, b'k', 1, b'v']);
        assert_eq!(request(Ask::Delete { key: text("k") })[3], 1);
        assert_eq!(request(Ask::Get { key: text("k") }), [1, 7, 6, 2, 1, b'k']);
        assert_eq!(request(Ask::Status), [1, 7, 6, 6]);
        let response = |answer| bytes(&Response { number: 7, answer });
        assert_eq!(response(Answer::Done { idx: 9 }), [7, 0, 9]);
        assert_eq!(response(Answer::Value(Some("v".into()))), [7, 1, 1, 1, b'v']);
        assert_eq!(response(Answer::Changed { key: "k".into(), value: None }), [7, 2, 1, b'k', 0]);
        // `Status` is between these.
        assert_eq!(response(Answer::Leads { pid: 5 }), [7, 4, 5]);
    }
}
