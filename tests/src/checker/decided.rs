//! The one decided log, and what replicas show of theirs.

use super::{ensure, violated, Check, Checker, Indices, Violation};
use crate::{
    describe,
    disk::Image,
    value::{register_of, stop_sign_id, Chain, SimEntry, STOP_SIGN},
};
use omnipaxos::{ballot_leader_election::Ballot, util::LogEntry};
use std::{collections::BTreeMap, ops::Range};

/// The one decided log.
#[derive(Debug, Default)]
pub(super) struct DecidedLog {
    ids: Vec<u64>,
    /// Sums up the entries before each index but the first.
    sums: Vec<Chain>,
    /// Where each id was decided first.
    first_idx: BTreeMap<u64, u64>,
}

impl DecidedLog {
    pub(super) fn len(&self) -> u64 {
        self.ids.len() as u64
    }

    pub(super) fn id_at(&self, idx: u64) -> Option<u64> {
        self.ids.get(usize::try_from(idx).ok()?).copied()
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        self.first_idx.contains_key(&id)
    }

    /// Where an id was decided first.
    pub(super) fn first_idx(&self, id: u64) -> Option<u64> {
        self.first_idx.get(&id).copied()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.ids.last().is_some_and(|id| id & STOP_SIGN != 0)
    }

    pub(super) fn repeated(&self) -> u64 {
        self.len() - self.first_idx.len() as u64
    }

    /// The sum of the first `count` entries, if these are decided.
    pub(super) fn sum(&self, count: u64) -> Option<Chain> {
        match usize::try_from(count).ok()?.checked_sub(1) {
            None => Some(Chain::default()),
            Some(last) => self.sums.get(last).copied(),
        }
    }

    fn push(&mut self, id: u64, register: Option<usize>) {
        let sum = self.sums.last().copied().unwrap_or_default().and(id);
        self.sums.push(sum.writing(id, register));
        self.first_idx.entry(id).or_insert(self.ids.len() as u64);
        self.ids.push(id);
    }
}

impl Checker {
    /// A server shows that `id` is decided at `idx`.
    pub(super) fn decide(&mut self, who: &str, idx: u64, id: u64) -> Result<(), Violation> {
        if let Some(known) = self.log.id_at(idx) {
            let (id, known) = (describe::id(id), describe::id(known));
            ensure!(id == known, Check::Agreement, "{who} decided {id} at {idx}, others {known}");
            return Ok(());
        }
        let (words, len) = (describe::id(id), self.log.len());
        ensure!(idx == len, Check::Agreement, "{who} decided {words} at {idx} after {len}");
        ensure!(
            !self.log.is_stopped(),
            Check::StopSignLast,
            "{who} decided {words} at {idx}, after a stop sign"
        );
        let number = id & !STOP_SIGN;
        ensure!(
            self.was_proposed(number) && !self.refused.contains(&number),
            Check::Validity,
            "{who} decided {words} at {idx}, which was not proposed or was given back"
        );
        self.check_quorum(who, idx)?;
        self.check_once(who, idx, id)?;
        ensure!(
            !self.followed.is_ruled_out(id),
            Check::Outcome,
            "{who} decided {id} at {idx}, which was told never to be"
        );
        let register = self.followed.contains(id).then(|| register_of(id));
        self.log.push(id, register);
        Ok(())
    }

    /// Invariant I7: a write quorum holds the entry in one ballot.
    fn check_quorum(&self, who: &str, idx: u64) -> Result<(), Violation> {
        let holders = |accepted: &[u64]| accepted.iter().filter(|len| **len > idx).count();
        let most = self.rounds.values().rev().map(|round| holders(&round.accepted));
        let mut most_seen = 0;
        for count in most {
            if count >= self.write_quorum {
                return Ok(());
            }
            most_seen = most_seen.max(count);
        }
        violated(
            Check::QuorumDecides,
            format!("{who} decided {idx}, which at most {most_seen} disks hold in one ballot"),
        )
    }

    fn was_proposed(&self, number: u64) -> bool {
        self.ids_after < number && number <= self.last_id()
    }

    /// Whether some server was restarted since `number` was proposed, with a log that has index `idx`.
    fn is_forgotten(&self, number: u64, idx: u64) -> bool {
        let at = number.checked_sub(self.ids_after + 1).and_then(|at| usize::try_from(at).ok());
        let restarts = at.and_then(|at| self.proposed.get(at)).copied().unwrap_or_default();
        let since = usize::try_from(restarts).ok().and_then(|n| self.restarted_with.get(n..));
        since.unwrap_or_default().iter().any(|len| *len > idx)
    }

    /// Invariant I10: no ballot places a proposal twice. Copies that the network makes of a forward
    /// are known in memory only, so this holds as long as no server restarts that has stored the first. That
    /// some ids lose their index meanwhile makes no difference.
    fn check_once(&self, who: &str, idx: u64, id: u64) -> Result<(), Violation> {
        let Some(earlier) = self.log.first_idx.get(&id).copied() else {
            return Ok(());
        };
        ensure!(
            !self.followed.contains(id),
            Check::Outcome,
            "{who} decided {id} at {earlier} and {idx}, which has one proposal id"
        );
        let (first, again) = (self.placed(earlier, id), self.placed(idx, id));
        let words = describe::id(id);
        let is_excused = self.is_forgotten(id & !STOP_SIGN, earlier);
        ensure!(
            first != again || first.is_none() || is_excused,
            Check::DecidedOnce,
            "{who} decided {words} at {earlier} and {idx}, both placed in {first:?}"
        );
        Ok(())
    }

    /// The first ballot in which a disk held `id` at `idx`.
    fn placed(&self, idx: u64, id: u64) -> Option<Ballot> {
        let mut rounds = self.rounds.iter();
        rounds.find(|(_, round)| round.id_at(idx) == Some(id)).map(|(n, _)| *n)
    }

    /// A replica shows its indices after an input; `read` gives what it has in a range.
    ///
    /// # Errors
    /// What does not hold.
    pub fn observe<T: SimEntry>(
        &mut self,
        server: usize,
        now: Indices,
        read: impl Fn(Range<u64>) -> Option<Vec<LogEntry<T>>>,
    ) -> Result<(), Violation> {
        let before = self.shown[server];
        if now == before {
            return Ok(());
        }
        let pid = self.pids[server];
        check_order(pid, &now)?;
        ensure!(
            now.promise >= before.promise
                && now.decided >= before.decided
                && now.compacted >= before.compacted,
            Check::NeverBack,
            "server {pid} showed {before:?} and then {now:?}"
        );
        self.shown[server] = now;
        if now.compacted > before.compacted {
            self.check_given_up(server, now.compacted)?;
        }
        let from = if now.compacted > before.compacted { 0 } else { before.decided };
        if from < now.decided {
            let entries = read(from..now.decided);
            self.check_read(server, from..now.decided, entries.as_deref())?;
        }
        Ok(())
    }

    /// A replica has halted, and shows what it had decided before.
    ///
    /// # Errors
    /// What does not hold.
    pub fn halted<T: SimEntry>(
        &mut self,
        server: usize,
        decided: u64,
        image: &Image<T>,
    ) -> Result<(), Violation> {
        let who = format!("server {}, now halted,", self.pids[server]);
        for idx in self.shown[server].decided..decided {
            let Some(id) = image.id_at(idx) else { break };
            self.decide(&who, idx, id)?;
        }
        Ok(())
    }

    /// A replica was built from its disk.
    ///
    /// # Errors
    /// What does not hold.
    pub fn restarted<T: SimEntry>(
        &mut self,
        server: usize,
        now: Indices,
        read: impl Fn(Range<u64>) -> Option<Vec<LogEntry<T>>>,
    ) -> Result<(), Violation> {
        let stored = &self.stored[server];
        let pid = self.pids[server];
        ensure!(
            now.promise >= stored.promise()
                && now.decided >= stored.decided_idx()
                && now.compacted >= stored.compacted_idx(),
            Check::NeverBack,
            "server {pid} restarted with {now:?} from {stored:?}"
        );
        check_order(pid, &now)?;
        if std::mem::replace(&mut self.started[server], true) {
            self.restarts += 1;
            self.restarted_with.push(now.accepted);
        }
        self.shown[server] = now;
        if now.decided > 0 {
            let entries = read(0..now.decided);
            self.check_read(server, 0..now.decided, entries.as_deref())?;
        }
        Ok(())
    }

    /// A replica was asked for a range.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check_read<T: SimEntry>(
        &mut self,
        server: usize,
        range: Range<u64>,
        entries: Option<&[LogEntry<T>]>,
    ) -> Result<(), Violation> {
        let pid = self.pids[server];
        let shown = self.shown[server];
        let is_legal = range.start < range.end && range.end <= shown.accepted;
        let Some(entries) = entries else {
            ensure!(
                !is_legal,
                Check::Reading,
                "server {pid} reads nothing in {range:?}, and shows {shown:?}"
            );
            return Ok(());
        };
        ensure!(
            is_legal,
            Check::Reading,
            "server {pid} reads {} items in {range:?}, and shows {shown:?}",
            entries.len()
        );
        let who = format!("server {pid}");
        let mut idx = range.start;
        for entry in entries {
            idx = self.check_entry(&who, &shown, idx, entry)?;
        }
        let end = range.end.max(shown.compacted);
        ensure!(
            idx == end,
            Check::Reading,
            "{who} reads up to {idx} in {range:?}, and shows {shown:?}"
        );
        Ok(())
    }

    /// Checks one item that was read at `idx`, and returns the index after it.
    fn check_entry<T: SimEntry>(
        &mut self,
        who: &str,
        shown: &Indices,
        idx: u64,
        entry: &LogEntry<T>,
    ) -> Result<u64, Violation> {
        let is_decided = idx < shown.decided;
        match entry {
            LogEntry::Trimmed(until) => {
                ensure!(
                    *until == shown.compacted && idx < *until,
                    Check::Reading,
                    "{who} reads Trimmed({until}) at {idx}, and shows {shown:?}"
                );
                Ok(*until)
            }
            LogEntry::Snapshotted(s) => {
                let (until, sum) = (s.trimmed_idx, T::covered(&s.snapshot));
                ensure!(
                    until == shown.compacted && idx < until,
                    Check::Reading,
                    "{who} reads a snapshot up to {until} at {idx}, and shows {shown:?}"
                );
                let known = self.log.sum(until);
                ensure!(
                    sum == known,
                    Check::Agreement,
                    "{who} has a snapshot of {until} entries, {sum:?}, others decided {known:?}"
                );
                Ok(until)
            }
            LogEntry::Decided(value) if is_decided => {
                self.decide(who, idx, value.id())?;
                Ok(idx + 1)
            }
            LogEntry::StopSign(stopsign, true) if is_decided => {
                self.decide(who, idx, stop_sign_id(stopsign))?;
                Ok(idx + 1)
            }
            LogEntry::Undecided(_) | LogEntry::StopSign(_, false) if !is_decided => Ok(idx + 1),
            LogEntry::Decided(_) | LogEntry::Undecided(_) | LogEntry::StopSign(..) => violated(
                Check::Reading,
                format!("{who} reads {entry:?} at {idx}, and shows {shown:?}"),
            ),
        }
    }
}

/// Invariant I1.
fn check_order(pid: u64, now: &Indices) -> Result<(), Violation> {
    ensure!(
        now.compacted <= now.decided && now.decided <= now.accepted,
        Check::IndexOrder,
        "server {pid} shows {now:?}"
    );
    Ok(())
}
