//! What must hold while members change.
//!
//! - The decided logs are prefixes of one log (M1: so are the epochs). What was proposed with an outcome is in
//!   it once; so are plain entries, where no server was restarted.
//! - A server is in the epoch that its decided log names.
//! - M2: who claims to have promised or accepted in an epoch is a member there, and its disk holds
//!   everything before it.
//! - M3: what ended `NotDecided` is not in the log, nor later.
//! - A read shows all that was decided when it was requested.
//! - M4: a server that may stop is needed no more.
//! - M6: a server without snapshots keeps what its application has not reported as applied, unless a leader trims.

use crate::value::{Chain, SimEntry};
use omnipaxos::{
    proposals::Outcome,
    util::{LogEntry, NodeId},
    ClusterConfig,
};
use std::collections::{BTreeMap, BTreeSet};

/// A record of the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    Entry(u64),
    StopSign(ClusterConfig),
}

/// The log that was decided.
#[derive(Clone, Debug)]
pub(super) struct Truth {
    log: Vec<Record>,
    /// What the first records sum up to: one more than there are records.
    sums: Vec<Chain>,
    index_of: BTreeMap<u64, u64>,
    /// What was proposed with an outcome. A plain entry may be decided again where a leader was restarted
    /// and a copy of its forward came late: `docs/divergence.md`.
    once: BTreeSet<u64>,
    /// Whether some server was restarted.
    has_restarted: bool,
    /// The configurations, each with the index of its first record.
    epochs: Vec<(u64, ClusterConfig)>,
}

impl Truth {
    pub(super) fn new(founding: ClusterConfig) -> Self {
        Self {
            log: Vec::new(),
            sums: vec![Chain::default()],
            index_of: BTreeMap::new(),
            once: BTreeSet::new(),
            has_restarted: false,
            epochs: vec![(0, founding)],
        }
    }

    /// Records that an entry was proposed with an outcome: it may be decided once.
    pub(super) fn note_proposed(&mut self, id: u64) {
        self.once.insert(id);
    }

    /// Records that a server was restarted. From now on a plain entry may be decided twice, or given up.
    pub(super) fn note_restart(&mut self) {
        self.has_restarted = true;
    }

    /// Whether no server was restarted.
    pub(super) fn is_strict(&self) -> bool {
        !self.has_restarted
    }

    /// What the first records sum up to.
    pub(super) fn sum(&self, idx: u64) -> Option<Chain> {
        self.sums.get(usize::try_from(idx).ok()?).copied()
    }

    pub(super) fn len(&self) -> u64 {
        self.log.len() as u64
    }

    pub(super) fn entries(&self) -> u64 {
        self.index_of.len() as u64
    }

    pub(super) fn epochs(&self) -> &[(u64, ClusterConfig)] {
        &self.epochs
    }

    /// Number of changes after which no member stayed.
    pub(super) fn disjoint(&self) -> u64 {
        let stays = |(before, after): (&(u64, ClusterConfig), &(u64, ClusterConfig))| {
            before.1.nodes.iter().any(|pid| after.1.nodes.contains(pid))
        };
        self.epochs.iter().zip(self.epochs.iter().skip(1)).filter(|pair| !stays(*pair)).count()
            as u64
    }

    /// The present configuration.
    pub(super) fn present(&self) -> &ClusterConfig {
        self.epochs
            .last()
            .map_or_else(|| unreachable!("there is a first one"), |(_, config)| config)
    }

    /// The index at which the present configuration begins.
    pub(super) fn present_idx(&self) -> u64 {
        self.epochs.last().map_or(0, |(first_idx, _)| *first_idx)
    }

    /// The configuration in which the record `idx` is, or would be.
    pub(super) fn configuration_at(&self, idx: u64) -> &ClusterConfig {
        let begun = self.epochs.iter().rev().find(|(first, _)| *first <= idx);
        begun.map_or_else(|| self.present(), |(_, config)| config)
    }

    /// The epoch of a configuration.
    pub(super) fn epoch(&self, config_id: u32) -> Option<(u64, &ClusterConfig)> {
        let found = self.epochs.iter().find(|(_, config)| config.configuration_id == config_id);
        found.map(|(first, config)| (*first, config))
    }

    /// Number of entries before the record `idx`.
    pub(super) fn entries_before(&self, idx: u64) -> u64 {
        idx - self.epochs.iter().filter(|(first, _)| (1..=idx).contains(first)).count() as u64
    }

    pub(super) fn index_of(&self, id: u64) -> Option<u64> {
        self.index_of.get(&id).copied()
    }

    /// Takes what a server reads as decided from index `from` on. Returns the index after it.
    pub(super) fn learn<T: SimEntry>(
        &mut self,
        from: u64,
        read: Vec<LogEntry<T>>,
    ) -> Result<u64, String> {
        let mut idx = from;
        for entry in read {
            match entry {
                LogEntry::Decided(entry) => {
                    self.learn_one(idx, Record::Entry(entry.id()))?;
                    idx += 1;
                }
                LogEntry::StopSign(sign, true) => {
                    self.learn_one(idx, Record::StopSign(sign.next_config))?;
                    idx += 1;
                }
                LogEntry::Snapshotted(covered) => {
                    let until = covered.trimmed_idx;
                    match (self.sum(until), T::covered(&covered.snapshot)) {
                        (Some(sum), Some(found)) if sum == found => idx = until,
                        (sum, found) => {
                            return Err(format!(
                                "the first {until} sum up to {found:?}, not {sum:?}"
                            ));
                        }
                    }
                }
                LogEntry::Trimmed(until) if until <= self.len() => idx = until,
                other => return Err(format!("reads {other:?} as decided at {idx}")),
            }
        }
        Ok(idx)
    }

    fn learn_one(&mut self, idx: u64, record: Record) -> Result<(), String> {
        match self.log.get(usize::try_from(idx).unwrap_or(usize::MAX)) {
            Some(known) if *known == record => return Ok(()),
            Some(known) => {
                return Err(format!("M1: {record:?} is decided at {idx}, where {known:?} was"));
            }
            None if idx == self.len() => {}
            None => return Err(format!("{record:?} is decided at {idx}, after {}", self.len())),
        }
        let sum = self.sums.last().copied().unwrap_or_default();
        self.sums.push(match &record {
            Record::Entry(id) => {
                let earlier = self.index_of.insert(*id, idx);
                if let Some(earlier) =
                    earlier.filter(|_| self.is_strict() || self.once.contains(id))
                {
                    return Err(format!("{id} is decided at {idx} and at {earlier}"));
                }
                sum.and(*id)
            }
            Record::StopSign(next) => {
                if next.configuration_id <= self.present().configuration_id {
                    return Err(format!("{next:?} follows {:?}", self.present()));
                }
                self.epochs.push((idx + 1, next.clone()));
                sum
            }
        });
        self.log.push(record);
        Ok(())
    }

    /// Checks that a server which has decided the first `decided_idx` records is in the epoch of the next
    /// one. It may begin that with its next output.
    pub(super) fn check_epoch(&self, decided_idx: u64, config_id: u32) -> Result<(), String> {
        let is = |idx: u64| self.configuration_at(idx).configuration_id == config_id;
        match is(decided_idx) || (decided_idx > 0 && is(decided_idx - 1)) || config_id == 0 {
            true => Ok(()),
            false => Err(format!("M1: has decided {decided_idx}, and is in {config_id}")),
        }
    }

    /// Checks that a server which votes in an epoch may do so. Its disk holds this number of entries, and what
    /// it has compacted.
    pub(super) fn check_vote(
        &self,
        pid: NodeId,
        config_id: u32,
        (compacted_idx, held): (u64, u64),
    ) -> Result<(), String> {
        let Some((first, config)) = self.epoch(config_id) else {
            return Err(format!("M2: {pid} votes in {config_id}, which never began"));
        };
        if !config.nodes.contains(&pid) {
            return Err(format!("M2: {pid} votes in {config_id}, and is no member"));
        }
        let entries = self.entries_before(compacted_idx.min(self.len())) + held;
        match entries >= self.entries_before(first) {
            true => Ok(()),
            false => Err(format!("M2: {pid} votes in {config_id} with {entries} entries")),
        }
    }

    /// Checks what the proposer of a change was told (M3).
    pub(super) fn check_change(
        &self,
        next: &ClusterConfig,
        outcome: &Outcome,
    ) -> Result<(), String> {
        let begun = self.epochs.iter().any(|(_, config)| config == next);
        match (outcome, begun) {
            (Outcome::Decided(idx), true)
                if self.log.get(*idx as usize) == Some(&Record::StopSign(next.clone())) =>
            {
                Ok(())
            }
            (Outcome::NotDecided | Outcome::NotJoined(_), false) | (Outcome::Unknown, _) => Ok(()),
            (outcome, begun) => {
                Err(format!("M3: the change to {next:?} ended {outcome:?}, and has begun: {begun}"))
            }
        }
    }

    /// Checks what a proposer was told.
    pub(super) fn check_outcome(&self, id: u64, outcome: &Outcome) -> Result<(), String> {
        let is_right = match outcome {
            Outcome::Decided(idx) => self.index_of(id) == Some(*idx),
            Outcome::DecidedBefore(idx) => self.index_of(id).is_some_and(|at| at < *idx),
            Outcome::NotDecided | Outcome::Refused(_) => self.index_of(id).is_none(),
            _ => true,
        };
        match is_right {
            true => Ok(()),
            false => Err(format!("{id} is at {:?}, and ended {outcome:?}", self.index_of(id))),
        }
    }
}
