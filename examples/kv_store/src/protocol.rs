//! What a client and a server say to each other.

use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// Answered with `Done` when it is decided, and applied at the server asked.
    Put { key: String, value: String },
    /// Answered as `Put`, also when there is no such key.
    Delete { key: String },
    /// Answered with `Value`, from what is applied at the server asked. A server that is behind
    /// answers with an old value: this is not a linearizable read.
    Get { key: String },
    /// Answered with a `Changed` for each change of a key with this prefix, from now on.
    Watch { prefix: String },
    /// Answered with `Status`.
    Status,
}

/// The answer to the request of the same number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Response {
    pub(crate) number: u64,
    pub(crate) answer: Answer,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Decided and applied here.
    Done,
    /// The value of the key, if there is one.
    Value(Option<String>),
    /// A key has a new value, or none any more.
    Changed { key: String, value: Option<String> },
    /// How the server is.
    Status(Status),
    /// As many commands wait for a leader here as may wait. Ask again later, or another server.
    Busy,
    /// The server cannot do this, and says why. Asking again is no use.
    Refused(String),
}

/// How a server is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) pid: u64,
    pub(crate) leader: Option<u64>,
    /// Number of entries decided.
    pub(crate) decided_idx: u64,
    /// Number of entries in the log, compacted ones included.
    pub(crate) log_len: u64,
    /// Number of entries that a snapshot has replaced.
    pub(crate) compacted_idx: u64,
    /// Number of keys.
    pub(crate) keys: u64,
    /// Digest of all keys and values.
    pub(crate) digest: u64,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leader = self.leader.map_or("none".to_owned(), |pid| pid.to_string());
        write!(
            f,
            "server {}: leader {leader}, decided {}, log length {} ({} of it in a snapshot), \
             {} keys, digest {:016x}",
            self.pid, self.decided_idx, self.log_len, self.compacted_idx, self.keys, self.digest
        )
    }
}
