//! Linearizable reads, and what they must see.

use super::{server::Server, Cluster};
use crate::{
    checker::{ensure, violated, Check, Violation},
    coverage::Kind,
    value::SimEntry,
};
use omnipaxos::reads::{ReadId, ReadRefused, ReadState};

/// The reads that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads(Vec<Read>);

/// A read that waits.
#[derive(Copy, Clone, Debug)]
struct Read {
    at: usize,
    /// The incarnation of the server in which it was requested.
    incarnation: u64,
    id: ReadId,
    /// The number of entries that some server had decided by then.
    least_idx: u64,
    /// When that was, for the history.
    invoked: u64,
}

/// What became of a request to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requested {
    /// It waits, or could be served at once.
    Taken(ReadId),
    /// It was refused.
    Refused(ReadRefused),
    /// The server does not run.
    Nowhere,
}

impl<T: SimEntry> Cluster<T> {
    /// Requests a linearizable read at a server, and watches it from then on.
    ///
    /// # Errors
    /// What does not hold.
    pub fn request_read(&mut self, at: usize) -> Result<Requested, Violation> {
        if self.servers[at].replica().is_none() {
            return Ok(Requested::Nowhere);
        }
        let least_idx = self.checker.decided_len();
        let incarnation = self.servers[at].incarnation;
        let invoked = self.checker.begin_read();
        self.counts.add(Kind::ReadIndexRequest);
        let mut requested = None;
        // Watched before the drain that may follow.
        self.input(at, |replica| requested = Some(replica.request_read()))?;
        match requested {
            Some(Ok(id)) => {
                self.trace.note(|| format!("{} read {id:?} from {least_idx} on", self.now));
                self.reads.0.push(Read { at, incarnation, id, least_idx, invoked });
                self.watch_reads(at)?;
                Ok(Requested::Taken(id))
            }
            Some(Err(ReadRefused::Halted(_))) | None => Ok(Requested::Nowhere),
            Some(Err(refused)) => {
                self.counts.add(Kind::ReadRefused);
                Ok(Requested::Refused(refused))
            }
        }
    }

    /// How far a read is, if its server runs.
    pub fn read_state(&self, at: usize, id: ReadId) -> Option<ReadState> {
        self.servers[at].replica().map(|replica| replica.read_state(id))
    }

    /// Invariant I11: looks at the reads that were requested at a server.
    pub(super) fn watch_reads(&mut self, at: usize) -> Result<(), Violation> {
        let mut open = std::mem::take(&mut self.reads.0);
        let mut broken = Ok(());
        open.retain(|read| {
            if read.at != at {
                return true;
            }
            match self.watch_read(read) {
                Ok(Watched::Waits) => true,
                Ok(Watched::Over) => false,
                Err(violation) => {
                    broken = Err(violation);
                    false
                }
            }
        });
        self.reads.0 = open;
        broken
    }

    fn watch_read(&mut self, read: &Read) -> Result<Watched, Violation> {
        let Server { incarnation, .. } = &self.servers[read.at];
        if *incarnation != read.incarnation {
            return Ok(Watched::Over);
        }
        let Some(replica) = self.servers[read.at].replica() else {
            return Ok(Watched::Over);
        };
        let (pid, decided_idx) = (replica.get_pid(), replica.get_decided_idx());
        let ends_before = decided_idx - u64::from(replica.is_reconfigured().is_some());
        match replica.read_state(read.id) {
            ReadState::Waiting => Ok(Watched::Waits),
            ReadState::Ready(idx) => {
                let least_idx = read.least_idx;
                ensure!(
                    idx >= least_idx,
                    Check::Linearizable,
                    "server {pid} reads at {idx} what was requested when {least_idx} were decided"
                );
                ensure!(
                    idx <= ends_before,
                    Check::Linearizable,
                    "server {pid} reads at {idx}, and has decided {ends_before} before a stop sign"
                );
                self.counts.add(Kind::ReadReady);
                self.serve(read.at, read.invoked, idx)?;
                Ok(Watched::Over)
            }
            ReadState::Refused(ReadRefused::Unknown | ReadRefused::NoIncarnation) => violated(
                Check::ReadEnds,
                format!("server {pid} refuses {:?} for no good reason", read.id),
            ),
            ReadState::Refused(_) => {
                self.counts.add(Kind::ReadRefused);
                Ok(Watched::Over)
            }
            other => violated(Check::ReadEnds, format!("server {pid} returns {other:?}")),
        }
    }

    /// The number of reads of observers that wait.
    pub fn observer_reads_waiting(&self) -> usize {
        self.reads.0.iter().filter(|read| self.is_observer(read.at)).count()
    }

    /// Whether some read that was requested waits still.
    pub fn is_read_waiting(&self) -> bool {
        let all: Vec<usize> = (0..self.size()).collect();
        let leader = self.leader_of(&all);
        let ends = |read: &&Read| {
            !self.is_observer(read.at) || leader.is_some_and(|to| self.is_in_step(read.at, to))
        };
        self.reads.0.iter().any(|read| ends(&read))
    }
}

enum Watched {
    Waits,
    Over,
}
