//! What runs with changes of the members are made of.

use crate::coverage::{kinds, Counted};

kinds! {
    /// An operation, a fault, or what came of them; each must occur in any large batch of seeds.
    Kind;
    /// A change of members was proposed.
    Proposed: "changes proposed",
    /// A change was decided.
    Decided: "changes decided",
    /// A change ended otherwise.
    GivenUp: "changes that ended otherwise",
    /// A change that waits for no server.
    Nobody: "changes that wait for nobody",
    /// A change was decided after which no member stayed.
    Disjoint: "changes after which no member stayed",
    /// A configuration with quorum sizes of its own was decided.
    FlexibleQuorum: "configurations with flexible quorums",
    /// A server began as an observer.
    Joined: "servers that began as observers",
    /// A server was restarted.
    Restart: "restarts",
    /// A server was restarted that was no member then.
    ObserverRestart: "restarts of servers that were no members then",
    /// A server crashed between two operations of a write.
    Torn: "crashes between two operations of a write",
    /// A crash undid a compaction whose snapshot was not durable.
    Undone: "compactions undone by a crash",
    /// Such a compaction stood for the end of an epoch.
    UndoneEpoch: "of these, compactions of the end of an epoch",
    /// The disk of an observer was wiped.
    Wiped: "wiped disks of observers",
    /// The disk of an observer was wiped that a change names.
    WipedJoiner: "of these, of servers that a change names",
    /// A server was stopped for good when it might.
    Stopped: "servers stopped for good when they might",
    /// A server came back after it was stopped for good.
    CameBack: "servers that came back after they were stopped for good",
    /// A server made a snapshot.
    Snapshot: "snapshots made",
    /// An application handed over its state.
    HandedOver: "snapshots that the application handed over",
    /// An application without snapshots reported what it had applied.
    Applied: "reports of what an application had applied",
    /// A leader trimmed.
    Trim: "trims by a leader",
    /// A server needed entries that all others had trimmed.
    CutOffByTrim: "servers that lack entries which all others have trimmed",
    /// So did so many members that the log ends.
    QuorumTrimmed: "logs that end there, since no quorum is left",
    /// A leader began to transfer leadership.
    Transfer: "transfers of leadership",
    /// A server was asked to take over.
    Takeover: "takeovers asked for",
    /// An entry was decided.
    Entry: "entries decided",
    /// A linearizable read was answered.
    Read: "reads answered",
    /// A read was in flight when its server began another epoch, and was answered.
    ReadAcross: "of these, in flight while an epoch began",
    /// A read was requested at the leader of an epoch that is over.
    OldLeaderRead: "reads requested at a leader of an epoch that is over",
    /// A server that is no member proposed.
    ObserverProposal: "proposals of servers that are no members",
    /// A server that is no member answered a read.
    ObserverRead: "reads of servers that are no members",
    /// Servers were parted when a change was decided.
    Parted: "changes whose decision reaches some servers only",
    /// The members that were removed were parted from all others then.
    PartedOld: "of these, removed members parted from all others",
    /// The server that proposed the change was parted from all others then.
    PartedProposer: "of these, servers parted from all others that proposed the change",
    /// The others changed the members again meanwhile, and compacted beyond that.
    Overtaken: "of these, overtaken by a snapshot of a later configuration",
    /// Links carried a limited number of bytes a tick.
    LimitedLinks: "runs with a limit of bytes a tick",
    /// Entries travelled encoded.
    Encoded: "messages with encoded entries",
    /// A server of another cluster took part.
    Stranger: "runs with a server of another cluster",
    /// A server reported its conflict with that one.
    Conflict: "conflicts with such a server",
    /// That one reported a conflict.
    StrangerConflict: "such servers that reported a conflict",
    /// No server was restarted.
    NoRestart: "runs without a restart",
    /// A plain entry had to be decided, and once.
    Kept: "plain entries that had to be decided once",
}

impl Counted for Kind {
    const ALL: &'static [Self] = Kind::ALL;

    fn position(self) -> usize {
        self as usize
    }

    fn name(self) -> &'static str {
        self.name()
    }

    fn can_occur(self) -> bool {
        match self {
            Kind::Encoded => cfg!(feature = "unicache"),
            // Rare.
            Kind::QuorumTrimmed => false,
            _ => true,
        }
    }
}
