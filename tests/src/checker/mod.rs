//! Watches a cluster from outside: every reading, flush and message is held against what was seen
//! before. Knows nothing of the code that it checks.

mod bounded;
mod decided;
mod given_up;
mod history;
mod observers;
mod outcomes;
mod outgoing;
mod stored;
#[cfg(test)]
mod tests;

use self::{
    bounded::Window, decided::DecidedLog, given_up::GivenUp, history::History, outcomes::Followed,
    stored::Stored,
};
pub use self::{
    bounded::{Limits, Size},
    outgoing::Leaves,
};
use omnipaxos::ballot_leader_election::Ballot;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What must hold. The numbers are those of `ARCHITECTURE.md`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// SC1: only proposed values are decided.
    Validity,
    /// SC2 and SC3: there is one decided log, and it only grows.
    Agreement,
    /// I1: compacted <= decided <= accepted.
    IndexOrder,
    /// I2: no round is accepted above the promise.
    RoundPromised,
    /// I3: promise and indices never go back.
    NeverBack,
    /// I4: a ballot has one owner and one incarnation.
    OneOwner,
    /// I5: what a message claims is stored.
    StoredFirst,
    /// I7: what is decided was accepted by a write quorum in one ballot.
    QuorumDecides,
    /// I8: in a round, logs are prefixes of one log, and only grow.
    OneLogARound,
    /// I9: nothing follows a stop sign.
    StopSignLast,
    /// I10: no proposal is decided twice in one ballot.
    DecidedOnce,
    /// I14: a proposal ends once, as reported; no proposal with an id is decided twice.
    Outcome,
    /// I11: a linearizable read sees all that was decided before it began.
    Linearizable,
    /// The answers to clients, to proposals and reads, are as if each had been served at once, one
    /// after the other.
    History,
    /// A read ends once there is a leader.
    ReadEnds,
    /// A tick does something only when it was announced.
    Clock,
    /// Nobody takes over with perfect links unless it is asked to.
    Stability,
    /// Leadership is transferred or not, by the contract.
    Transfer,
    /// A trim takes nothing that some server lacks.
    TrimSafe,
    /// I16: nothing is given up that nobody asked to give up.
    GivenUp,
    /// `compact_with` takes the state of an application where the log can use it, and only there.
    HandedOver,
    /// I17: entries without snapshots stay until all applications have applied them.
    AppliedFirst,
    /// Messages, what is on its way, and what is undecided obey the limits of the configuration.
    Bounded,
    /// A drain writes at most once, and only through `write_atomically`.
    OneWrite,
    /// If nobody waits for a write, the drain sends nothing but what is decided meanwhile.
    Urgency,
    /// The storage is asked only for what it can do.
    StorageUse,
    /// A storage error halts the replica, and a halted replica is silent.
    Halting,
    /// A forged message changes nothing.
    ForgedIgnored,
    /// An observer stores only what is decided, and sends only questions, proposals, and what it has
    /// decided.
    ObserversOnlyAsk,
    /// A server serves at most as many observers as its setting allows.
    FewObservers,
    /// An observer with a way to servers that know what is decided learns it.
    ObserversLearn,
    /// I18: what comes from a disk that is not known changes nothing.
    KnownDisks,
    /// A read returns what its contract promises.
    Reading,
    /// What a server reports of itself is as it answers, and reported once.
    Events,
    /// A proposal is taken or refused by its contract.
    Proposing,
    /// A server can be built from what its disk holds.
    Restart,
    /// Messages survive encoding.
    Encoding,
    /// The cluster is live again once the faults are over.
    Progress,
    /// Something is decided again and again while faults last, if one server keeps a quorum.
    LiveWhileFaultsLast,
    /// Servers use few ballots while faults last.
    FewBallots,
    /// What one server has decided, all that have a way to it learn, also without a quorum.
    LearnsAll,
    /// A cluster in step is silent but for heartbeats.
    Silence,
    /// Messages do not breed.
    Flood,
    /// A trim reaches all servers.
    TrimSpreads,
    /// Nothing panics.
    NoPanic,
}

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The check that failed.
    pub check: Check,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.check, self.what)
    }
}

/// A check that failed.
///
/// # Errors
/// Always: for use in tail position and with `?`.
pub fn violated<R>(check: Check, what: impl Into<String>) -> Result<R, Violation> {
    Err(Violation { check, what: what.into() })
}

/// Fails with a text unless a condition holds.
macro_rules! ensure {
    ($holds:expr, $check:expr, $($what:tt)+) => {
        if !$holds {
            return $crate::checker::violated($check, format!($($what)+));
        }
    };
}
pub(crate) use ensure;

/// The indices that a replica shows.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Indices {
    /// The promise.
    pub promise: Ballot,
    /// Number of entries compacted.
    pub compacted: u64,
    /// Number of entries decided.
    pub decided: u64,
    /// Length of the log.
    pub accepted: u64,
}

/// All that was seen of a cluster so far.
#[derive(Debug)]
pub struct Checker {
    /// The members, and then the observers.
    pids: Vec<u64>,
    members: usize,
    write_quorum: usize,
    log: DecidedLog,
    shown: Vec<Indices>,
    stored: Vec<Stored>,
    rounds: BTreeMap<Ballot, Round>,
    /// The server and its incarnation that speaks as the owner of a ballot.
    owners: BTreeMap<Ballot, (usize, u64)>,
    /// The id before the first.
    ids_after: u64,
    /// For each id from there on, how many restarts there were when it was proposed.
    proposed: Vec<u64>,
    restarts: u64,
    /// How long the log was with which each of them began.
    restarted_with: Vec<u64>,
    /// The servers that were started at least once.
    started: Vec<bool>,
    /// Proposals that were given back.
    refused: BTreeSet<u64>,
    followed: Followed,
    given_up: GivenUp,
    history: History,
    /// Those of each server, where they are checked.
    limits: Vec<Limits>,
    /// For each server, what it has sent to each other as a leader.
    windows: Vec<Vec<Window>>,
}

/// What the disks showed of one round.
#[derive(Debug)]
struct Round {
    /// Index of the first of `ids`.
    first: u64,
    /// The log of the round, as far as some disk held it; 0 where none did.
    ids: Vec<u64>,
    /// For each server, how long a log its disk held in this round.
    accepted: Vec<u64>,
}

impl Checker {
    /// Watches servers of the given ids.
    pub fn new(pids: Vec<u64>, write_quorum: usize) -> Self {
        let size = pids.len();
        Self {
            pids,
            members: size,
            write_quorum,
            log: DecidedLog::default(),
            shown: vec![Indices::default(); size],
            stored: (0..size).map(|_| Stored::default()).collect(),
            rounds: BTreeMap::new(),
            owners: BTreeMap::new(),
            ids_after: 0,
            proposed: Vec::new(),
            restarts: 0,
            restarted_with: Vec::new(),
            started: vec![false; size],
            refused: BTreeSet::new(),
            followed: Followed::default(),
            given_up: GivenUp::anything(),
            history: History::default(),
            limits: Vec::new(),
            windows: vec![vec![Window::default(); size]; size],
        }
    }

    /// Watches what logs give up in runs of a setting.
    #[must_use]
    pub fn compacted_by(mut self, setting: &crate::plan::Setting) -> Self {
        self.given_up = GivenUp::of(setting);
        self
    }

    /// Watches this configuration. The ids of another are never proposed here.
    #[must_use]
    pub fn in_configuration(mut self, id: u32) -> Self {
        self.ids_after = u64::from(id - crate::plan::CONFIGURATION) << 32;
        self
    }

    /// Whether another configuration came before, and servers which this one left out may get a notice.
    fn is_next(&self) -> bool {
        self.ids_after > 0
    }

    /// A new id, for a proposal.
    pub fn propose(&mut self) -> u64 {
        self.proposed.push(self.restarts);
        self.last_id()
    }

    /// The id of the next proposal.
    pub fn next_id(&self) -> u64 {
        self.last_id() + 1
    }

    fn last_id(&self) -> u64 {
        self.ids_after + self.proposed.len() as u64
    }

    /// A proposal was given back.
    pub fn refuse(&mut self, id: u64) {
        self.refused.insert(id);
    }

    /// Number of entries that some server has decided.
    pub fn decided_len(&self) -> u64 {
        self.log.len()
    }

    /// Whether the value of this id is decided.
    pub fn is_decided(&self, id: u64) -> bool {
        self.log.contains(id)
    }

    /// Whether a stop sign is decided.
    pub fn is_stopped(&self) -> bool {
        self.log.is_stopped()
    }

    /// How many proposals were decided more than once, in different ballots.
    pub fn decided_again(&self) -> u64 {
        self.log.repeated()
    }
}

impl Round {
    /// A round of which nothing is known, among `size` servers.
    fn among(size: usize) -> Self {
        Self { first: 0, ids: Vec::new(), accepted: vec![0; size] }
    }

    fn id_at(&self, idx: u64) -> Option<u64> {
        let at = usize::try_from(idx.checked_sub(self.first)?).ok()?;
        self.ids.get(at).copied().filter(|id| *id != 0)
    }

    /// Records what a disk holds at `idx`; gives back what another held, if that differs.
    fn record(&mut self, idx: u64, id: u64) -> Option<u64> {
        if self.ids.is_empty() {
            self.first = idx;
        }
        while idx < self.first {
            self.first -= 1;
            self.ids.insert(0, 0);
        }
        let at = (idx - self.first) as usize;
        if at >= self.ids.len() {
            self.ids.resize(at + 1, 0);
        }
        let known = std::mem::replace(&mut self.ids[at], id);
        (known != 0 && known != id).then_some(known)
    }
}
