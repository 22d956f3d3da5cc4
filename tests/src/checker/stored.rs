//! What disks hold.

use super::{ensure, Check, Checker, Round, Violation};
use crate::{
    describe,
    disk::{Change, Image},
    value::{Chain, SimEntry},
};
use omnipaxos::ballot_leader_election::Ballot;
use std::collections::VecDeque;

/// What a disk held when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Stored {
    promise: Ballot,
    round: Ballot,
    decided_idx: u64,
    compacted_idx: u64,
    /// The ids from `compacted_idx` on.
    ids: VecDeque<u64>,
    /// Whether the log was written in part in this round, so that it does not show the round's.
    is_torn: bool,
    /// Entries before this index may have been learned in this round, though they do not count as
    /// decided: they were decided elsewhere when a write was done in part.
    doubtful: u64,
}

impl Stored {
    pub(super) fn promise(&self) -> Ballot {
        self.promise
    }

    pub(super) fn decided_idx(&self) -> u64 {
        self.decided_idx
    }

    pub(super) fn compacted_idx(&self) -> u64 {
        self.compacted_idx
    }

    /// Length of the log.
    pub(super) fn len(&self) -> u64 {
        self.compacted_idx + self.ids.len() as u64
    }

    fn id_at(&self, idx: u64) -> Option<u64> {
        let at = usize::try_from(idx.checked_sub(self.compacted_idx)?).ok()?;
        self.ids.get(at).copied()
    }

    /// Takes over the log of `image`, of which the entries before `from` are known.
    fn renew<T: SimEntry>(&mut self, image: &Image<T>, from: u64) {
        let gone = image.compacted_idx.saturating_sub(self.compacted_idx) as usize;
        self.ids.drain(..gone.min(self.ids.len()));
        self.compacted_idx = image.compacted_idx;
        let kept = from.saturating_sub(self.compacted_idx) as usize;
        self.ids.truncate(kept);
        let mut idx = self.len();
        while let Some(id) = image.id_at(idx) {
            self.ids.push_back(id);
            idx += 1;
        }
    }
}

impl Checker {
    /// A disk was written, or may have been.
    ///
    /// # Errors
    /// What does not hold.
    pub fn flushed<T: SimEntry>(
        &mut self,
        server: usize,
        image: &Image<T>,
        change: Change,
    ) -> Result<(), Violation> {
        let n = image.accepted_round.unwrap_or_default();
        let before = &self.stored[server];
        let is_same_round = n == before.round;
        let from = match change {
            Change::From(idx) => idx.max(image.compacted_idx).min(before.len()),
            Change::Everything | Change::Torn => image.compacted_idx,
        };
        if change == Change::NOTHING
            && is_same_round
            && image.decided_idx == before.decided_idx
            && image.promise.unwrap_or_default() == before.promise
        {
            return Ok(());
        }
        self.check_image(server, image)?;
        self.check_observer_stores(server, image)?;
        // A torn write of a sync leaves entries of the round promised under the round before. One
        // of entries that follow is a prefix of what was to be written.
        let is_torn_sync = change == Change::Torn && image.promise != image.accepted_round;
        let is_torn = is_torn_sync || (before.is_torn && is_same_round);
        if is_same_round && !is_torn_sync {
            self.check_growth(server, image, from, change)?;
            if n.pid == self.pids[server] && change != Change::Torn {
                self.check_undecided(server, image, self.stored[server].len())?;
            }
        }
        let doubtful = match change {
            Change::Torn => self.log.len(),
            Change::From(_) | Change::Everything if is_same_round => self.stored[server].doubtful,
            Change::From(_) | Change::Everything => 0,
        };
        if !is_torn && !self.is_observer(server) {
            let from = if is_same_round { from } else { image.compacted_idx };
            self.record_round(server, image, n, from, doubtful)?;
        }
        let decided_before = self.stored[server].decided_idx.min(from);
        let who = format!("the disk of server {}", self.pids[server]);
        for idx in decided_before.max(image.compacted_idx)..image.decided_idx {
            let Some(id) = image.id_at(idx) else { break };
            self.decide(&who, idx, id)?;
        }
        let stored = &mut self.stored[server];
        stored.renew(image, from);
        stored.promise = image.promise.unwrap_or_default();
        stored.round = n;
        stored.decided_idx = image.decided_idx;
        stored.is_torn = is_torn;
        stored.doubtful = doubtful;
        Ok(())
    }

    /// Invariants I1 to I3, on a disk.
    fn check_image<T: SimEntry>(&self, server: usize, image: &Image<T>) -> Result<(), Violation> {
        let (pid, before) = (self.pids[server], &self.stored[server]);
        let promise = image.promise.unwrap_or_default();
        let round = image.accepted_round.unwrap_or_default();
        ensure!(
            round <= promise,
            Check::RoundPromised,
            "the disk of server {pid} has round {} and promise {}",
            describe::ballot(round),
            describe::ballot(promise)
        );
        let (compacted, decided) = (image.compacted_idx, image.decided_idx);
        let accepted = image.accepted_idx();
        ensure!(
            compacted <= decided && decided <= accepted,
            Check::IndexOrder,
            "the disk of server {pid} has {compacted} compacted, {decided} decided, {accepted}"
        );
        ensure!(
            promise >= before.promise
                && decided >= before.decided_idx
                && compacted >= before.compacted_idx,
            Check::NeverBack,
            "the disk of server {pid} has promise {}, {decided} decided, {compacted} compacted, \
             and had promise {}, {} and {}",
            describe::ballot(promise),
            describe::ballot(before.promise),
            before.decided_idx,
            before.compacted_idx
        );
        let sum: Option<Chain> = image.snapshot.as_ref().and_then(T::covered);
        ensure!(
            sum.is_none() || sum == self.log.sum(compacted),
            Check::Agreement,
            "the disk of server {pid} has {compacted} compacted into {sum:?}, others decided {:?}",
            self.log.sum(compacted)
        );
        Ok(())
    }

    /// Invariant I8: within a round a log only grows.
    ///
    /// A server whose leader was overtaken may learn what was decided in a later round. It takes
    /// the place of undecided entries, and is decided in the same write; what is beyond it stays.
    /// Nothing is beyond a stop sign. Where operations are written one by one, the stop sign and
    /// the decided index may be missing, but what changed is decided all the same.
    fn check_growth<T: SimEntry>(
        &self,
        server: usize,
        image: &Image<T>,
        from: u64,
        change: Change,
    ) -> Result<(), Violation> {
        let (pid, before) = (self.pids[server], &self.stored[server]);
        let n = describe::ballot(before.round);
        let (len, had) = (image.accepted_idx(), before.len());
        let is_torn = change == Change::Torn;
        let ends_where_all_ends =
            self.log.is_stopped() && image.entries_end() + 1 == self.log.len();
        ensure!(
            len >= had || (ends_where_all_ends && (is_torn || image.decided_idx == len)),
            Check::OneLogARound,
            "the log of server {pid} shrank from {had} to {len} in round {n}"
        );
        for idx in from.max(image.decided_idx)..had.min(len) {
            let (is, was) = (image.id_at(idx), before.id_at(idx));
            let is_learned = is_torn && is.is_some() && is == self.log.id_at(idx);
            ensure!(
                is == was || was.is_none() || is_learned,
                Check::OneLogARound,
                "server {pid} changed {idx} from {was:?} to {is:?} in round {n}"
            );
        }
        Ok(())
    }

    /// Invariant I8: in a round all logs are prefixes of one.
    ///
    /// That holds for what was accepted in the round. What was learned was not: it is decided, and
    /// `decide` holds it against what others decided. Of entries that are written as decided only
    /// a leader may have accepted some in this very write, so there, and before `doubtful`, what
    /// is known to be decided is passed over.
    ///
    /// Learned entries count for the length of the log. That does not weaken I7: they were decided
    /// by others before, and what is beyond them in the log was accepted in the round.
    fn record_round<T: SimEntry>(
        &mut self,
        server: usize,
        image: &Image<T>,
        n: Ballot,
        from: u64,
        doubtful: u64,
    ) -> Result<(), Violation> {
        let (pid, size) = (self.pids[server], self.members);
        let accepted_from = match n.pid == pid {
            true => self.stored[server].decided_idx,
            false => image.decided_idx,
        };
        let may_be_learned_before = image.decided_idx.max(doubtful);
        let len = image.accepted_idx();
        let round = self.rounds.entry(n).or_insert_with(|| Round::among(size));
        round.accepted[server] = round.accepted[server].max(len);
        for idx in from.max(accepted_from)..len {
            let Some(id) = image.id_at(idx) else { continue };
            if idx < may_be_learned_before && self.log.id_at(idx) == Some(id) {
                continue;
            }
            if let Some(other) = round.record(idx, id) {
                let (id, other, n) = (describe::id(id), describe::id(other), describe::ballot(n));
                return super::violated(
                    Check::OneLogARound,
                    format!("server {pid} has {id} at {idx} in round {n}, another has {other}"),
                );
            }
        }
        Ok(())
    }
}
