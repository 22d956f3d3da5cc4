//! What a replica tells of itself, at a glance.
//!
//! [`OmniPaxos::status`](crate::OmniPaxos::status) makes a [`Status`]: plain values, for logs,
//! metrics and people. Every `*_idx` is a number of entries: those before that index.

pub use crate::{
    identity::{Conflict, PeerConflict},
    messages::validate::{Dropped, HigherConfiguration},
    observe::events::LostEntries,
};

use crate::{
    ballot::Ballot,
    ids::{ConfigurationId, NodeId},
    messages::ballot_leader_election::HeartbeatReply,
};
use std::fmt;

/// The state of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Status {
    /// This server.
    pub pid: NodeId,
    /// The configuration that it takes part in.
    pub configuration_id: ConfigurationId,
    /// The part that it plays.
    pub role: Role,
    /// The ballot that it gossips as its own.
    pub ballot: Ballot,
    /// The highest ballot that it has promised.
    pub promise: Ballot,
    /// The leader as known here, which may be out of date.
    pub leader: Option<NodeId>,
    /// Number of entries decided here, a stop sign included.
    pub decided_idx: u64,
    /// Length of the log here, decided or not, a stop sign included.
    pub accepted_idx: u64,
    /// Length of the log as the storage holds it: what a restart cannot lose.
    pub stored_idx: u64,
    /// Number of entries trimmed or replaced by a snapshot here.
    pub compacted_idx: u64,
    /// Number of entries that the application here has applied, as it told
    /// [`compact`](crate::OmniPaxos::compact) since this server was started; not less than
    /// `compacted_idx`.
    pub applied_idx: u64,
    /// The configuration that follows, if a stop sign is decided: nothing more is decided in this
    /// one.
    pub next_configuration_id: Option<ConfigurationId>,
    /// A higher configuration that a member has told of, if any: a hint that this server has missed
    /// a reconfiguration.
    pub higher_configuration: Option<HigherConfiguration>,
    /// The conflicts with other servers that messages of the last heartbeat rounds showed: who runs
    /// with other nodes under the same configuration id, or lost its disk, or has a twin. A server
    /// that is named here may be in no quorum.
    pub conflicts: Vec<PeerConflict>,
    /// Entries that are decided here, and that the leader lacks: the proof that a quorum has lost what
    /// was decided.
    pub lost: Option<LostEntries>,
    /// The other servers of the configuration, by pid; at an observer the servers that it observes.
    pub peers: Vec<PeerStatus>,
    /// The observers that this server serves, by pid.
    pub observers: Vec<ObserverStatus>,
    /// At an observer: the number of entries that a source has trimmed, if this server lacks some of
    /// them. See [`Event::TrimmedAtSource`](crate::events::Event::TrimmedAtSource).
    pub trimmed_at_source: Option<u64>,
    /// Proposals that wait here: for a leader, for a batch to fill, or for room in the log. They
    /// are not part of the log yet. Those that are `kept` are not counted.
    pub waiting: Load,
    /// Proposals of this server that are kept until they are decided: those that it forwarded, and
    /// those of [`propose`](crate::OmniPaxos::propose).
    pub pending: Load,
    /// The limits that this server keeps.
    pub limits: Limits,
    /// What was dropped in this incarnation of the server, and why.
    pub dropped: Dropped,
}

/// The part that a server plays, in the words of the paper.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Role {
    /// Knows no leader: new, restarted, or overtaken as a leader.
    Recovering,
    /// A follower that has promised, and waits for the log of its leader.
    Promised,
    /// A follower in the accept phase: its log is a prefix of its leader's.
    Following,
    /// A leader in the prepare phase: it waits for a quorum of promises.
    Preparing,
    /// A leader in the accept phase. It may have been overtaken and not know yet.
    Leading,
    /// An observer: it has no vote, and learns what the members decide.
    Observing,
    /// Its storage has failed, and it says nothing more:
    /// [`OmniPaxos::halted`](crate::OmniPaxos::halted) tells why.
    Halted,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Recovering => "recovering",
            Self::Promised => "promised",
            Self::Following => "following",
            Self::Preparing => "preparing",
            Self::Leading => "leading",
            Self::Observing => "observing",
            Self::Halted => "halted",
        })
    }
}

/// What is known here of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PeerStatus {
    /// The server.
    pub pid: NodeId,
    /// What it answered in the last complete heartbeat round; `None` if it did not.
    pub heartbeat: Option<HeartbeatReply>,
    /// How far it is as a follower of this server. `None` where this server does not lead.
    pub follower: Option<FollowerStatus>,
    /// Number of entries that the application there has applied, as it told
    /// [`compact`](crate::OmniPaxos::compact). `None` if this server has not heard of it, and where
    /// the entry type has snapshots: then each server compacts for itself.
    pub applied_idx: Option<u64>,
}

impl Status {
    /// The servers for which applied entries wait to be given up, where the entry type has no
    /// snapshots: their applications have not told [`compact`](crate::OmniPaxos::compact) that they
    /// have applied as much as another has. They may be down.
    pub fn holds_back(&self) -> Vec<NodeId> {
        let peers = self.peers.iter().map(|peer| (peer.pid, peer.applied_idx.unwrap_or(0)));
        let applied: Vec<_> = peers.chain([(self.pid, self.applied_idx)]).collect();
        let most = applied.iter().map(|(_, idx)| *idx).max().unwrap_or(0);
        let is_behind = |idx: u64| idx < most && most > self.compacted_idx;
        let mut behind: Vec<_> =
            applied.into_iter().filter(|(_, idx)| is_behind(*idx)).map(|(pid, _)| pid).collect();
        behind.sort_unstable();
        behind
    }
}

impl PeerStatus {
    /// Whether it answered the last complete heartbeat round.
    pub fn answered(&self) -> bool {
        self.heartbeat.is_some()
    }
}

/// An observer, as a server knows it that serves it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ObserverStatus {
    /// The observer.
    pub pid: NodeId,
    /// The server that its last message came through: itself, unless it observes another observer.
    pub via: NodeId,
    /// Number of entries decided there, as it reported; 0 if it asked another server for them.
    pub decided_idx: u64,
    /// Number of entries decided here and not there, as far as this server knows.
    pub lag: u64,
}

/// How far a follower is, as its leader knows it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct FollowerStatus {
    /// What has passed between leader and follower.
    pub stage: Stage,
    /// The largest index that it has acknowledged in the leader's ballot; 0 before the first.
    pub accepted_idx: u64,
    /// The largest decided index that it has acknowledged in the leader's ballot.
    pub decided_idx: u64,
    /// Number of entries of the leader's log that it has not acknowledged.
    pub lag: u64,
    /// What was sent to it and is neither acknowledged nor taken for lost.
    pub in_flight: Load,
}

/// What has passed between a leader and a follower in a ballot, in the words of the paper.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Stage {
    /// It has not promised.
    Unpromised,
    /// It has promised; what its log lacks is sent with the next output.
    Promised,
    /// It lacks too much for a message, and was told from which server to learn it.
    CatchingUp,
    /// It was sent what its log lacked, and has not acknowledged that.
    Syncing,
    /// It has accepted the ballot: its log is a prefix of the leader's.
    Replicating,
}

/// An amount of entries.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Load {
    /// Number of entries.
    pub entries: u64,
    /// Bytes, as [`Entry::size_hint`](crate::storage::Entry::size_hint) estimates them.
    pub bytes: u64,
}

/// The limits that a server keeps: those of its [`ServerConfig`](crate::ServerConfig) that begin
/// with `max_`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Limits {
    /// The most entries in one message, and undecided in the log of a leader.
    pub message: Load,
    /// The most that a leader sends to a follower ahead of its acknowledgements.
    pub in_flight: Load,
    /// The most proposals that wait or are kept.
    pub waiting: Load,
}
