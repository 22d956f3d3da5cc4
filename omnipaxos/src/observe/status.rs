//! The status of a replica.
//!
//! [`OmniPaxos::status`](crate::OmniPaxos::status) returns a [`Status`]: plain values, for logs,
//! metrics and people. Every `*_idx` is a number of entries: the entries before that index.

pub use crate::{
    identity::{Conflict, PeerConflict},
    messages::validate::{Dropped, HigherConfiguration},
    observe::events::LostEntries,
};

use crate::{
    ballot::Ballot,
    ids::{ConfigurationId, NodeId},
    membership::FlexibleQuorum,
    messages::ballot_leader_election::HeartbeatReply,
};
use std::fmt;

/// The state of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Status {
    /// The id of this server.
    pub pid: NodeId,
    /// The configuration of this replica.
    pub configuration_id: ConfigurationId,
    /// The role of the server in the protocol.
    pub role: Role,
    /// The ballot that this server sends as its own.
    pub ballot: Ballot,
    /// The highest ballot that this server has promised.
    pub promise: Ballot,
    /// The leader that this server knows, which may be out of date.
    pub leader: Option<NodeId>,
    /// Number of entries decided here, including a stop sign.
    pub decided_idx: u64,
    /// Length of the log here, decided or not, including a stop sign.
    pub accepted_idx: u64,
    /// Length of the stored log, which survives a restart.
    pub stored_idx: u64,
    /// Number of entries trimmed or replaced by a snapshot here.
    pub compacted_idx: u64,
    /// Number of entries that the application here has reported as applied to
    /// [`compact`](crate::OmniPaxos::compact) since the start of this server; not less than
    /// `compacted_idx`.
    pub applied_idx: u64,
    /// The next configuration, if a stop sign is decided. Then nothing more is decided in this one.
    pub next_configuration_id: Option<ConfigurationId>,
    /// A higher configuration that a member has reported, if any: a hint that this server missed a
    /// reconfiguration.
    pub higher_configuration: Option<HigherConfiguration>,
    /// The members of the configuration; empty at a server that has not learned them yet.
    pub nodes: Vec<NodeId>,
    /// The quorum sizes of the configuration; `None` if they are majorities.
    pub flexible_quorum: Option<FlexibleQuorum>,
    /// Where the log [continues](crate::ServerConfig::continues): the index at which the present
    /// configuration begins.
    pub epoch_idx: Option<u64>,
    /// Where the log [continues](crate::ServerConfig::continues): the number of epochs that this server
    /// keeps, from the one on in which its compacted index lies. It is 0 at a server that has not
    /// learned the first one yet. `None` where a stop sign ends the log.
    pub kept_epochs: Option<u64>,
    /// Where the log continues: whether this server was removed, and if so, whether it may stop. See
    /// [`Event::Retired`](crate::events::Event::Retired).
    pub may_stop: Option<bool>,
    /// The servers for which a change of members that was proposed here waits, by pid.
    pub joiners: Vec<JoinerStatus>,
    /// The conflicts with other servers found in the last heartbeat rounds. A server in conflict
    /// has other nodes under the same configuration id, has lost its disk, or shares its id with
    /// another server. Such a server may count in no quorum.
    pub conflicts: Vec<PeerConflict>,
    /// The proof that a quorum has lost decided entries: this server has them, and the leader lacks
    /// them.
    pub lost: Option<LostEntries>,
    /// The other servers of the configuration, by pid; at an observer the servers that it observes.
    pub peers: Vec<PeerStatus>,
    /// The observers that this server serves, by pid.
    pub observers: Vec<ObserverStatus>,
    /// The number of entries that a source has trimmed, if this server lacks some of them. Only at an
    /// observer, or where the log [continues](crate::ServerConfig::continues) at a server that was
    /// removed, even if it does not know that yet. See
    /// [`Event::TrimmedAtSource`](crate::events::Event::TrimmedAtSource).
    pub trimmed_at_source: Option<u64>,
    /// Proposals that wait here: for a leader, for a full batch, or for room in the log. They are
    /// not part of the log yet. Proposals in `pending` are not counted.
    pub waiting: Load,
    /// Proposals of this server that it keeps until they are decided: forwarded ones, and those of
    /// [`propose`](crate::OmniPaxos::propose).
    pub pending: Load,
    /// The parts of the decided log that this server holds in memory, to catch up or to serve
    /// servers that catch up.
    pub catch_up: CatchUpStatus,
    /// The limits of this server.
    pub limits: Limits,
    /// The number of dropped messages and proposals in this incarnation of the server, by reason.
    pub dropped: Dropped,
}

/// A server that is to join, while a [change of members](crate::OmniPaxos::change_members) that was
/// proposed here waits for it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct JoinerStatus {
    /// The id of the server.
    pub pid: NodeId,
    /// The number of entries that it has decided, as it last reported; `None` if it never did.
    pub decided_idx: Option<u64>,
    /// The number of decided entries that it lacks.
    pub lag: u64,
    /// Whether it lacks so few that the change need not wait for it.
    pub has_caught_up: bool,
}

/// The role of a server, in the terms of the paper.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Role {
    /// Knows no leader: the server is new, was restarted, or was overtaken as a leader. With a log that
    /// continues also for a moment after a change of the members.
    Recovering,
    /// A follower that has promised, and waits for the log of its leader.
    Promised,
    /// A follower in the accept phase: its log is a prefix of its leader's.
    Following,
    /// A leader in the prepare phase: it waits for a quorum of promises.
    Preparing,
    /// A leader in the accept phase. It may have been overtaken and not know it yet.
    Leading,
    /// An observer: it has no vote, and learns the decided entries.
    Observing,
    /// The replica has halted, and sends nothing more.
    /// [`OmniPaxos::halted`](crate::OmniPaxos::halted) returns the reason.
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

/// The state of another server as this one knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PeerStatus {
    /// The server.
    pub pid: NodeId,
    /// Its reply in the last complete heartbeat round; `None` if it did not reply.
    pub heartbeat: Option<HeartbeatReply>,
    /// Its state as a follower of this server. `None` if this server does not lead.
    pub follower: Option<FollowerStatus>,
    /// Number of entries that the application there has reported as applied to
    /// [`compact`](crate::OmniPaxos::compact). `None` if no report has arrived, or if the entry
    /// type has snapshots: then each server compacts for itself.
    pub applied_idx: Option<u64>,
}

impl Status {
    /// Returns the servers that prevent the compaction of applied entries at all servers.
    ///
    /// It concerns entry types without snapshots. The applications of these servers have not
    /// reported to [`compact`](crate::OmniPaxos::compact) that they applied as many entries as
    /// another application. These servers may be down.
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
    /// Returns whether it answered the last complete heartbeat round.
    pub fn answered(&self) -> bool {
        self.heartbeat.is_some()
    }
}

/// An observer, as a serving server knows it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ObserverStatus {
    /// The observer.
    pub pid: NodeId,
    /// The server that relayed its last message: itself, unless it observes another observer.
    pub via: NodeId,
    /// Number of entries decided at the observer, as it reported; 0 if it asks another server for
    /// them.
    pub decided_idx: u64,
    /// Number of entries decided here and not at the observer, as far as this server knows.
    pub lag: u64,
}

/// The progress of a follower, as its leader knows it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct FollowerStatus {
    /// The stage of the follower in the leader's ballot.
    pub stage: Stage,
    /// The largest index that the follower has acknowledged in the leader's ballot; 0 before the
    /// first.
    pub accepted_idx: u64,
    /// The largest decided index that the follower has acknowledged in the leader's ballot.
    pub decided_idx: u64,
    /// Number of entries of the leader's log that the follower has not acknowledged.
    pub lag: u64,
    /// Entries that were sent to the follower, and are neither acknowledged nor considered lost.
    pub in_flight: Load,
}

/// Whether an operation waits for the next write of a server: the result of
/// [`OmniPaxos::write_urgency`](crate::OmniPaxos::write_urgency).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WriteUrgency {
    /// An operation waits for the write, or nothing is to be written.
    Now,
    /// The server leads, and has sent all entries that it is about to write. They are decided when
    /// a write quorum has stored them: followers alone, or this server and fewer followers.
    UnlessDecided,
    /// The server leads, and all entries that it is about to write are decided.
    Later,
}

/// The stage of a follower in a ballot, in the terms of the paper.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Stage {
    /// The follower has not promised.
    Unpromised,
    /// The follower has promised. The leader sends the missing entries with the next output.
    Promised,
    /// The follower lacks more entries than a message may contain. The leader named a server that
    /// has them.
    CatchingUp,
    /// The leader has sent the missing entries, and the follower has not acknowledged them.
    Syncing,
    /// The follower has accepted the ballot: its log is a prefix of the leader's.
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

/// The parts of the decided log that a server holds in memory, to catch up or to serve servers that
/// catch up.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CatchUpStatus {
    /// Entries that arrived before those below them, and wait for these. At most `limits.in_flight`.
    pub early: Load,
    /// Bytes in memory of a snapshot in pieces that have arrived. Those that the storage has received and
    /// written do not count.
    pub partial_snapshot_bytes: u64,
    /// Bytes in memory of the snapshots that this server sends in pieces, two at most: 0 if its storage reads
    /// them.
    pub encoded_snapshot_bytes: u64,
}

/// The limits of a server: the fields of its [`ServerConfig`](crate::ServerConfig) that begin with
/// `max_`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Limits {
    /// The largest amount of entries in one message, and of undecided entries in the log of a
    /// leader.
    pub message: Load,
    /// The largest amount of entries sent to a follower and not acknowledged.
    pub in_flight: Load,
    /// The largest amount of proposals that are waiting or pending.
    pub waiting: Load,
    /// The largest snapshot that the server accepts in pieces, in encoded bytes.
    pub snapshot_bytes: u64,
}
