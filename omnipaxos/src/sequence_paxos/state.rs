//! What a server is in Sequence Paxos.

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

/// The part that a server plays in the round of its promise.
#[derive(Clone, Debug)]
pub(super) enum State<T: Entry> {
    /// Knows no leader: new, restarted, or overtaken as a leader.
    Recovering,
    /// Has promised; waits for the AcceptSync of that round.
    Promised {
        /// What the leader told of its log.
        prepare: Prepare,
        is_promise_due: bool,
    },
    /// In step: the log is a prefix of the leader's of this round.
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
    /// Length of the log when it was adopted. What was chosen in an earlier ballot is before this
    /// index, so a follower may accept this ballot only with all of that.
    pub(super) adopted_len: u64,
    /// What is stored and not decided.
    pub(super) undecided: InFlight,
    /// Reads that wait until this server is known to lead still.
    pub(super) reads: Rounds,
    /// Leadership goes to another server, if it can.
    pub(super) transfer: Option<Box<Transfer>>,
    /// The server that was asked last to take over, which may do so though the transfer was given
    /// up.
    pub(super) asked_to_take_over: Option<NodeId>,
}

/// Whether an acknowledgement is due.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    No,
    Due,
    /// Due, with word that entries are missing.
    DueWithGap,
}

impl Ack {
    /// Makes an acknowledgement due.
    pub(super) fn schedule(&mut self) {
        if *self == Ack::No {
            *self = Ack::Due;
        }
    }

    /// Returns what is due.
    pub(super) fn take(&mut self) -> Ack {
        std::mem::replace(self, Ack::No)
    }
}

/// The prepare phase (paper §4.1.1).
#[derive(Clone, Debug)]
pub(super) struct Preparing<T: Entry> {
    pub(super) followers: Followers,
    /// The log to adopt, if one is more recent than the own.
    pub(super) best: Option<Best<T>>,
    /// The highest decided index promised.
    pub(super) decided_idx: u64,
    /// Heartbeat rounds in which a quorum was there, and there was no progress.
    pub(super) waited: u32,
    /// How many had promised, and how much was decided here, when there was progress last.
    pub(super) reached: (usize, u64),
}

/// The most recent log among those promised.
#[derive(Clone, Debug)]
pub(super) struct Best<T: Entry> {
    pub(super) n_accepted: Ballot,
    pub(super) accepted_idx: u64,
    /// What the own log lacks of it.
    pub(super) sync: Box<LogSync<T>>,
}
