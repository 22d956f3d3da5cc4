//! The state of a server in Sequence Paxos.

use super::{
    in_flight::InFlight, leader_transfer::transfer::Transfer, progress::Followers,
    reads::rounds::Rounds,
};
use crate::{
    ballot::Ballot,
    ids::NodeId,
    messages::sequence_paxos::{LogSync, Prepare},
    storage::Entry,
};

/// The role of a server in the round of its promise.
#[derive(Clone, Debug)]
pub(super) enum State<T: Entry> {
    /// Knows no leader: the server is new, was restarted, or was overtaken as a leader.
    Recovering,
    /// Has promised; waits for the AcceptSync of that round.
    Promised {
        /// The state of the leader's log, from its Prepare.
        prepare: Prepare,
        is_promise_due: bool,
    },
    /// Replicates: the log is a prefix of the leader's of this round.
    Following(Ack),
    /// Leads; waits for a quorum of promises.
    Preparing(Preparing<T>),
    /// Leads; a quorum has promised.
    Leading(Leading),
}

/// The accept phase (paper §4.1.3).
#[derive(Clone, Debug)]
pub(super) struct Leading {
    pub(super) followers: Followers,
    /// Length of the log when it was adopted. Entries chosen in earlier ballots are before this
    /// index, so a follower must have all of them to accept this ballot.
    pub(super) adopted_len: u64,
    /// The decided index when it was adopted.
    pub(super) decided_before: u64,
    /// The stored and undecided entries.
    pub(super) undecided: InFlight,
    /// Reads that wait for a leadership check.
    pub(super) reads: Rounds,
    /// The leadership transfer that is under way.
    pub(super) transfer: Option<Box<Transfer>>,
    /// The server that was last asked to take over. It may do so even after the transfer was
    /// cancelled.
    pub(super) asked_to_take_over: Option<NodeId>,
}

/// Whether an acknowledgement is due.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    No,
    Due,
    /// Due, with a report that entries are missing.
    DueWithGap,
}

impl Ack {
    /// Makes an acknowledgement due.
    pub(super) fn schedule(&mut self) {
        if *self == Ack::No {
            *self = Ack::Due;
        }
    }

    /// Returns the due acknowledgement.
    pub(super) fn take(&mut self) -> Ack {
        std::mem::replace(self, Ack::No)
    }
}

/// The prepare phase (paper §4.1.1).
#[derive(Clone, Debug)]
pub(super) struct Preparing<T: Entry> {
    pub(super) followers: Followers,
    /// The log to adopt, if one is more recent than the log of this server.
    pub(super) best: Option<Best<T>>,
    /// Heartbeat rounds with a quorum and without progress.
    pub(super) waited: u32,
    /// The number of promises, and the decided index here, at the last progress.
    pub(super) reached: (usize, u64),
}

/// The most recent log in a promise.
#[derive(Clone, Debug)]
pub(super) struct Best<T: Entry> {
    pub(super) n_accepted: Ballot,
    pub(super) accepted_idx: u64,
    /// Number of entries that the sender has decided, all of them in this log.
    pub(super) decided_idx: u64,
    /// The entries that the log of this server lacks.
    pub(super) sync: Box<LogSync<T>>,
}
