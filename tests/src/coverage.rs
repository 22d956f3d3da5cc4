//! What was done to the clusters, counted by kind.

use std::marker::PhantomData;

/// Kinds that are counted.
pub trait Counted: Copy + 'static {
    /// All of them, in the order of declaration.
    const ALL: &'static [Self];

    /// The position among them.
    fn position(self) -> usize;

    /// Its name.
    fn name(self) -> &'static str;

    /// Whether it can occur in this build.
    fn can_occur(self) -> bool {
        true
    }
}

macro_rules! kinds {
    ($(#[$enum_doc:meta])* $enum:ident; $($(#[$doc:meta])* $kind:ident: $name:literal,)*) => {
        $(#[$enum_doc])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $enum {
            $($(#[$doc])* $kind,)*
        }

        impl $enum {
            /// All kinds, in the order of declaration.
            pub const ALL: &'static [$enum] = &[$($enum::$kind,)*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $($enum::$kind => $name,)*
                }
            }
        }
    };
}
pub(crate) use kinds;

kinds! {
    /// A fault or an operation; each must occur in any large batch of seeds.
    Kind;
    /// A message was lost.
    Loss: "messages lost",
    /// A message was delivered twice.
    Duplicate: "messages duplicated",
    /// A message was delivered after one that was sent later on the same link.
    Reorder: "messages reordered",
    /// A message was held for very long.
    Straggle: "messages held for long",
    /// A message found too many bytes waiting on its link, and was lost.
    Overflow: "messages lost at full links",
    /// Links carried a limited number of bytes a tick.
    LimitedLinks: "runs with a limit of bytes a tick",
    /// A message reached a later incarnation of its receiver.
    Stale: "messages delivered to a later incarnation",
    /// A message fell on a cut link.
    Severed: "messages on cut links",
    /// A message went through bytes.
    Codec: "messages encoded and decoded",
    /// A link was cut in one direction.
    OneWayCut: "one-way cuts",
    /// A link was cut in both directions.
    TwoWayCut: "two-way cuts",
    /// A server was cut off.
    Isolation: "isolated servers",
    /// Nothing reached a server.
    Deaf: "servers that hear nothing",
    /// Nothing of a server arrived.
    Mute: "servers that are not heard",
    /// Promises to a server which bear some of the log were lost.
    Unpromised: "servers that no large promise reaches",
    /// Prepares of one server reached only one other. Only in runs with few links.
    Unprepared: "servers whose Prepare one server gets",
    /// The cluster was cut in two.
    Halves: "split clusters",
    /// Only one server had links.
    Star: "quorum-loss stars",
    /// A star, and one of the others cut off too.
    Constrained: "constrained elections",
    /// Each server had links to its neighbours only.
    Chain: "chains",
    /// As a chain, and the ends were neighbours too.
    Ring: "rings",
    /// Few links were open. Only in runs for that.
    FewLinks: "few links",
    /// A link was healed, with a call of `reconnected`.
    HealNotified: "healings with reconnected",
    /// A link was healed, and no server was notified.
    HealUnnotified: "healings without reconnected",
    /// `reconnected` was called out of the blue.
    Reconnected: "needless calls of reconnected",
    /// A server's ticks stood still, while messages reached it.
    TickPause: "pauses of ticks",
    /// A server stood still, and its messages waited.
    Freeze: "frozen servers",
    /// A server that stood still made up for its ticks, all at once.
    TickBurst: "of these, which make up for their ticks at once",
    /// A leader was hit by a fault for being one.
    LeaderStruck: "faults that hit whoever leads",
    /// A server that waited for promises was hit by a fault for that.
    CandidateStruck: "faults that hit whoever is about to lead",
    /// A run had servers with clocks of different speed.
    Skew: "runs with skewed ticks",
    /// A message left before the write that the same drain does.
    Early: "messages that left before a write",
    /// A leader was drained while nobody waited for its write.
    LaterWrites: "drains that might have been later",
    /// A server crashed in the write of a drain that had sent messages before it.
    EarlyCrash: "crashes between early messages and their write",
    /// A quorum of others had stored what the leader had not.
    EarlyDecided: "leaders that decided before they stored",
    /// A run had drains only now and then.
    LateOutput: "runs with rare drains",
    /// A run had a storage that writes operations one by one.
    OneByOne: "runs without atomic writes",
    /// A run had servers of different batch size.
    MixedBatches: "runs with mixed batch sizes",
    /// A run had quorums other than majorities.
    Flexible: "runs with flexible quorums",
    /// A run had limits so small that they matter.
    TinyLimits: "runs with tiny limits",
    /// A run had servers of different limits.
    MixedLimits: "runs with mixed limits",
    /// A server crashed at some instant between inputs.
    Crash: "crashes between inputs",
    /// A server crashed in a flush, of which nothing was written.
    CrashBeforeWrite: "crashes before a write",
    /// A server crashed in a flush, after all was written.
    CrashAfterWrite: "crashes after a write",
    /// A server crashed in a flush, after a part was written, on a log that was never compacted.
    CrashTorn: "crashes between two operations of a write",
    /// As `CrashTorn`, where the log is compacted.
    TornCompacted: "crashes between two operations of a write, on a compacted log",
    /// A write failed, and the replica halted.
    WriteError: "write errors",
    /// A read failed while the replica worked.
    ReadError: "read errors",
    /// A server was started for the first time after the others.
    LateStart: "servers started late",
    /// A server was started from its disk.
    Restart: "restarts",
    /// A message came from no member.
    ForgedStranger: "forged: from a stranger",
    /// A message came from pid 0.
    ForgedZero: "forged: from pid 0",
    /// A message was addressed to another server.
    ForgedAddress: "forged: to another server",
    /// A message was of another configuration.
    ForgedConfiguration: "forged: of another configuration",
    /// A message had an index that cannot be.
    ForgedIndex: "forged: impossible index",
    /// A message had a ballot that the sender does not own, or a jump.
    ForgedBallot: "forged: impossible ballot",
    /// A chunk of the decided log, or a word of where to learn it, was not what such can be.
    ForgedChunk: "forged: impossible chunk or source",
    /// A message came from a disk that the receiver did not know yet.
    UnknownDisk: "messages from a disk that is not known yet",
    /// A value was proposed at the leader.
    Append: "appends at a leader",
    /// A value was proposed elsewhere.
    AppendElsewhere: "appends elsewhere",
    /// A value was proposed with an id.
    Propose: "proposals followed to their end",
    /// Such a proposal was decided.
    EndedDecided: "of these, told to be decided",
    /// Such a proposal was decided, and its index was forgotten.
    EndedDecidedBefore: "of these, told to be decided, the index forgotten",
    /// Such a proposal was not decided when the configuration ended.
    EndedNotDecided: "of these, told to be not decided",
    /// The outcome of the proposal was unknown.
    EndedUnknown: "of these, told to be unknown",
    /// The leader refused such a proposal, as its disk refuses the value.
    EndedRefused: "of these, refused by a leader's disk",
    /// A value was given back, as the disk of its server refuses it.
    Unstorable: "values that the own disk refuses",
    /// A proposal was refused, as a stop sign is in the log.
    Refused: "proposals refused",
    /// A proposal was given back, as too many wait.
    Busy: "proposals given back as busy",
    /// A message with encoded entries was delivered.
    Encoded: "messages with encoded entries delivered",
    /// A chunk of the decided log was delivered.
    Chunk: "chunks of the decided log delivered",
    /// A chunk with a snapshot was delivered.
    SnapshotPiece: "chunks with a snapshot delivered",
    /// A follower was sent to another server for what it lacks.
    Redirect: "redirects to a server to learn from",
    /// A reconfiguration was proposed.
    Reconfigure: "reconfigurations",
    /// A reconfiguration was proposed with an id.
    ProposeReconfiguration: "reconfigurations followed to their end",
    /// A configuration began where another had ended.
    NextConfiguration: "next configurations begun",
    /// A server was started in such a one.
    StartedNext: "servers started in a next configuration",
    /// A server was left out of it.
    Removed: "servers that a next configuration leaves out",
    /// A message of the configuration before reached a server of the next.
    LowerStray: "messages of the configuration before",
    /// A message of the next configuration reached a server of the one before.
    HigherStray: "messages of the next configuration",
    /// The log was trimmed.
    Trim: "trims",
    /// An application that lags reported what it has applied.
    SaidApplied: "compactions up to what an application has applied",
    /// A follower got a delta snapshot, which it takes.
    DeltaChunk: "chunks with a delta snapshot delivered",
    /// A piece of a large snapshot was delivered.
    Piece: "pieces of snapshots delivered",
    /// A disk installed a snapshot that it had received in parts.
    Received: "snapshots received by a disk in parts",
    /// A request for a range was delivered.
    Range: "requests for ranges of the decided log delivered",
    /// A snapshot was made by the cluster.
    Snapshot: "snapshots",
    /// A snapshot was made locally.
    LocalSnapshot: "local snapshots",
    /// An application handed over its state.
    HandedOver: "snapshots handed over by applications",
    /// A state was handed over that is older than the snapshot of the log, or beyond what is decided.
    HandOverRefused: "states of applications refused",
    /// A compaction was refused.
    CompactionRefused: "compactions refused",
    /// A priority was changed.
    SetPriority: "changes of priority",
    /// A server was asked to take over.
    BecomeLeader: "calls of try_become_leader",
    /// A range was read.
    Read: "random reads",
    /// A server reported an event.
    Reported: "events told",
    /// A server reported a higher configuration.
    ReportedHigher: "events told of a higher configuration",
    /// A server reported that it has halted.
    ReportedHalted: "events told of a halt",
    /// A server reported reads that can be served.
    ReportedReads: "events told of ready reads",
    /// A server reported that a transfer has ended.
    ReportedTransfer: "events told of the end of a transfer",
    /// A server was asked for its status.
    Status: "questions for the status",
    /// A linearizable read was requested.
    ReadIndexRequest: "linearizable reads requested",
    /// A linearizable read could be served.
    ReadReady: "linearizable reads ready",
    /// Such a read was served from the state as of the index that it was given.
    ServedEarly: "of these, served from the earliest state",
    /// Such a read was served from all that was applied.
    ServedNow: "of these, served from the state of the moment",
    /// A linearizable read was refused.
    ReadRefused: "linearizable reads refused",
    /// A request to read reached the leader through a peer.
    ReadRelayed: "linearizable reads passed on by a peer",
    /// A leader began to transfer leadership.
    Transfer: "transfers begun",
    /// A leader asked another server to take over.
    TransferLeadership: "requests to take over delivered",
    /// A run in which nobody had a reason to take over.
    CalmRun: "calm runs with as few leaders as can be",
    /// A leader that drops what it appended lost leadership.
    Deposed: "leaders that lost leadership",
    /// A transfer ended with that other server as the leader.
    Transferred: "transfers that ended with the new leader",
    /// A transfer ended otherwise.
    TransferAbandoned: "transfers given up",
    /// A cluster had to be live while some links were cut.
    PartialHeal: "partial healings",
    /// Servers had to learn what was decided, while none of them reached a quorum.
    NoQuorum: "partial healings without a quorum",
    /// A value was proposed where a peer must pass it on to the leader, and had to be decided.
    FarProposal: "appends that a peer must pass on",
    /// An observer proposed, and learned that it is decided.
    ObserverProposed: "proposals of observers at rest",
    /// An observer read.
    ObserverRead: "linearizable reads of observers at rest",
    /// Observers that waited for more learned of an entry without a heartbeat.
    ObserverNews: "entries that observers waited for",
    /// A forged message of an observer arrived at a member.
    ForgedByObserver: "forged: by an observer",
    /// A forged message arrived at an observer.
    ForgedToObserver: "forged: to an observer",
    /// Observers lost all members, and the way to the leader.
    ObserversParted: "observers without members",
    /// A chunk reached an observer.
    ObserverChunk: "chunks of the decided log to observers",
    /// An observer was sent entries or a read index through another.
    ObserverRelay: "requests of observers passed on",
    /// An observer lacks entries that its sources have trimmed.
    ObserverTrimmed: "observers whose sources have trimmed",
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
        self != Kind::Encoded || cfg!(feature = "unicache")
    }
}

/// How often each kind occurred.
#[derive(Clone, Debug)]
pub struct Counts<K: Counted = Kind>(Vec<u64>, PhantomData<K>);

impl<K: Counted> Default for Counts<K> {
    fn default() -> Self {
        Self(vec![0; K::ALL.len()], PhantomData)
    }
}

impl<K: Counted> Counts<K> {
    /// Counts one occurrence.
    pub fn add(&mut self, kind: K) {
        self.add_many(kind, 1);
    }

    /// Counts so many occurrences.
    pub fn add_many(&mut self, kind: K, count: u64) {
        self.0[kind.position()] += count;
    }

    /// How often `kind` occurred.
    pub fn of(&self, kind: K) -> u64 {
        self.0[kind.position()]
    }

    /// Adds those of another run.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, count)| *sum += count);
    }

    /// The kinds that never occurred, though they could.
    pub fn missing(&self) -> Vec<K> {
        let never = |kind: &K| kind.can_occur() && self.of(*kind) == 0;
        K::ALL.iter().copied().filter(never).collect()
    }
}
