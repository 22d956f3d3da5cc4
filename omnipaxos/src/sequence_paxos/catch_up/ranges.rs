//! Decided entries from several servers at once.
//!
//! This server divides the missing entries into disjoint ranges, and requests the lowest first.
//! When a source has sent one range, this server asks it for the next. So a quick source sends
//! more. A chunk that comes before the entries below it waits, within the limits of what may be in
//! flight. A source that is silent loses its ranges to the others.

use crate::{
    amount::{Amount, PARTS_OF_MESSAGE},
    config::Limits,
    ids::NodeId,
    messages::sequence_paxos::CatchUpChunk,
    proposals::IdRun,
    storage::Entry,
};
use std::collections::BTreeMap;

/// The number of shares that one source is asked for at a time: one is on its way while the other is sent.
const WINDOW: usize = 2;

/// The number of ranges of each other source after which the leader is asked for one. The leader has other
/// work.
const RANGES_TO_SPARE_LEADER: usize = 2;

/// Heartbeat rounds after which a source that sends nothing loses its ranges.
const LOST_AFTER: u32 = 2;

/// Heartbeat rounds for which a source that lost its ranges is not asked again.
const SILENT_ROUNDS: u32 = 6;

/// The ranges of the decided log that other servers were asked for.
#[derive(Clone, Debug)]
pub(in crate::sequence_paxos) struct Ranges<T: Entry> {
    /// By the index of the first entry. They do not overlap.
    requested: BTreeMap<u64, Requested>,
    /// Chunks that wait for the entries below them, by the index of the first entry.
    early: BTreeMap<u64, Early<T>>,
    sources: BTreeMap<NodeId, Source>,
    /// Number of entries decided at the source that has decided the most.
    goal: u64,
    /// Average number of bytes of the entries that came; 0 if none came.
    entry_bytes: u64,
    /// Bytes of the ids in the last chunk beyond those of its entries.
    ids_bytes: u64,
    /// Ranges that others were asked for since the leader was.
    since_leader: usize,
    /// Whether some request was not sent yet.
    is_any_due: bool,
}

/// A range that a source was asked for.
#[derive(Clone, Debug)]
struct Requested {
    source: NodeId,
    until_idx: u64,
    /// Heartbeat rounds since then.
    waited: u32,
    /// Whether the request was not sent yet.
    is_due: bool,
}

/// A chunk that waits for the entries below it.
#[derive(Clone, Debug)]
struct Early<T: Entry> {
    source: NodeId,
    chunk: CatchUpChunk<T>,
    end_idx: u64,
    amount: Amount,
}

/// What is known of a source.
#[derive(Copy, Clone, Debug, Default)]
struct Source {
    decided_idx: u64,
    compacted_idx: u64,
    /// Heartbeat rounds for which it is not asked.
    silent_rounds: u32,
}

/// The servers that can be asked, and the limits.
#[derive(Copy, Clone, Debug)]
pub(super) struct Sources<'a> {
    /// The servers that can be reached, in order.
    pub(super) reachable: &'a [NodeId],
    /// Asked less than the others.
    pub(super) leader: Option<NodeId>,
    pub(super) limits: &'a Limits,
}

impl<T: Entry> Default for Ranges<T> {
    fn default() -> Self {
        Self {
            requested: BTreeMap::new(),
            early: BTreeMap::new(),
            sources: BTreeMap::new(),
            goal: 0,
            entry_bytes: 0,
            ids_bytes: 0,
            since_leader: 0,
            is_any_due: false,
        }
    }
}

impl<T: Entry> Ranges<T> {
    /// Forgets all that was asked for, and all that waits.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Number of entries decided at the source that has decided the most.
    pub(super) fn goal(&self) -> u64 {
        self.goal
    }

    /// Returns whether `source` has reported that it has decided more than `decided_idx` entries.
    pub(super) fn has_beyond(&self, source: NodeId, decided_idx: u64) -> bool {
        self.sources.get(&source).is_some_and(|source| source.decided_idx > decided_idx)
    }

    /// Returns whether `source` has reported its decided index.
    pub(super) fn knows(&self, source: NodeId) -> bool {
        self.sources.contains_key(&source)
    }

    /// Whether no request is due.
    #[inline]
    pub(in crate::sequence_paxos) fn is_silent(&self) -> bool {
        !self.is_any_due
    }

    /// The ranges that are to be asked for now: the source, the first index and the index after the
    /// last.
    pub(in crate::sequence_paxos) fn take_due(
        &mut self,
    ) -> impl Iterator<Item = (NodeId, u64, u64)> + '_ {
        self.is_any_due = false;
        let due = self.requested.iter_mut().filter(|(_, requested)| requested.is_due);
        due.map(|(from_idx, requested)| {
            requested.is_due = false;
            (requested.source, *from_idx, requested.until_idx)
        })
    }

    /// Records the indices that a chunk reports of its source. Returns whether the chunk answers a request
    /// for a range.
    pub(super) fn note(&mut self, chunk: &CatchUpChunk<T>, from: NodeId) -> bool {
        let CatchUpChunk { decided_idx, compacted_idx, .. } = *chunk;
        let source = Source { decided_idx, compacted_idx, silent_rounds: 0 };
        self.sources.insert(from, source);
        self.goal = self.goal.max(source.decided_idx);
        let is_of_source = |requested: &Requested| requested.source == from;
        let is_answer = self.requested.get(&chunk.base).is_some_and(is_of_source);
        if is_answer {
            self.requested.remove(&chunk.base);
            // The source answers one request after the other, so these had to wait.
            let later = self.requested.range_mut(chunk.base..).map(|(_, requested)| requested);
            later
                .filter(|requested| is_of_source(requested))
                .for_each(|requested| requested.waited = 0);
        }
        let before = self.requested.len();
        self.requested.retain(|from_idx, requested| {
            !is_of_source(requested)
                || (source.compacted_idx..source.decided_idx).contains(from_idx)
        });
        let is_empty = chunk.len() == Some(chunk.base);
        if is_answer && is_empty && (source.compacted_idx..source.decided_idx).contains(&chunk.base)
        {
            self.sources.insert(from, Source { silent_rounds: SILENT_ROUNDS, ..source });
        }
        if chunk.len() > Some(chunk.from_idx) && chunk.snapshot.is_none() {
            let bytes = chunk.amount().bytes;
            self.entry_bytes = bytes / (chunk.entries.len() as u64).max(1);
            self.ids_bytes = surplus_of_ids(chunk);
        }
        is_answer || self.requested.len() < before
    }

    /// Keeps a chunk until the entries before it have arrived. Returns whether there is room for it. It
    /// needs no check of its sender: decided entries are the same at every server. A snapshot, or a chunk
    /// whose first entries were trimmed, answers no request for a range, and does not wait: when it comes to
    /// its place, nobody would ask whether this server has those entries.
    pub(super) fn keep(&mut self, chunk: CatchUpChunk<T>, from: NodeId, limits: &Limits) -> bool {
        if chunk.snapshot.is_some() || chunk.from_idx > chunk.base {
            return false;
        }
        let mut amount = chunk.amount();
        if let Some(stopsign) = &chunk.stopsign {
            amount.add(Amount::one(stopsign.metadata.as_ref().map_or(0, Vec::len)));
        }
        amount.add(Amount { entries: 0, bytes: surplus_of_ids(&chunk) });
        let mut sum = self.kept();
        sum.add(amount);
        match chunk.len().filter(|end| *end > chunk.base && sum.fits(limits.in_flight)) {
            Some(end_idx) => {
                self.early.insert(chunk.base, Early { source: from, chunk, end_idx, amount });
                true
            }
            None => false,
        }
    }

    /// How much waits.
    pub(in crate::sequence_paxos) fn kept(&self) -> Amount {
        let mut sum = Amount::default();
        self.early.values().for_each(|early| sum.add(early.amount));
        sum
    }

    /// The next chunk that begins at `decided_idx` or before, and its source.
    pub(super) fn pop_ready(&mut self, decided_idx: u64) -> Option<(NodeId, CatchUpChunk<T>)> {
        self.requested.retain(|_, requested| requested.until_idx > decided_idx);
        loop {
            let first = self.early.first_entry().filter(|first| *first.key() <= decided_idx)?;
            let Early { source, chunk, end_idx, .. } = first.remove();
            if end_idx > decided_idx {
                return Some((source, chunk));
            }
        }
    }

    /// A heartbeat round has ended. Returns whether a source has lost its ranges.
    pub(super) fn end_round(&mut self) -> bool {
        for source in self.sources.values_mut() {
            source.silent_rounds = source.silent_rounds.saturating_sub(1);
        }
        let mut lost = Vec::new();
        for requested in self.requested.values_mut() {
            requested.waited += 1;
            if requested.waited >= LOST_AFTER {
                lost.push(requested.source);
            }
        }
        for source in &lost {
            self.sources.entry(*source).or_default().silent_rounds = SILENT_ROUNDS;
        }
        self.requested.retain(|_, requested| !lost.contains(&requested.source));
        !lost.is_empty()
    }

    /// Asks the sources for as many ranges after `decided_idx` as may be on their way. Returns
    /// whether one is asked for the entry at `decided_idx`.
    pub(super) fn assign(&mut self, decided_idx: u64, sources: Sources<'_>) -> bool {
        while let Some((from_idx, to_idx)) = self.lowest_free(decided_idx) {
            let (mut part, window) = self.part(from_idx, sources);
            if !self.has_room(decided_idx, part, sources.limits) {
                if from_idx > decided_idx {
                    break;
                }
                // No other range can be on its way meanwhile.
                part = self.within(part_of(sources.limits.message));
            }
            let Some(source) = self.pick(from_idx, window, sources) else {
                break;
            };
            let until_idx = to_idx.min(from_idx.saturating_add(part.entries));
            self.is_any_due = true;
            let requested = Requested { source, until_idx, waited: 0, is_due: true };
            self.requested.insert(from_idx, requested);
        }
        self.lowest_free(decided_idx).is_none_or(|(from_idx, _)| from_idx > decided_idx)
    }

    /// The first range that is neither here nor asked for.
    fn lowest_free(&self, decided_idx: u64) -> Option<(u64, u64)> {
        let requested = self.requested.iter().map(|(from, requested)| (*from, requested.until_idx));
        let early = self.early.iter().map(|(from, early)| (*from, early.end_idx));
        let mut taken: Vec<(u64, u64)> = requested.chain(early).collect();
        taken.sort_unstable();
        let mut from_idx = decided_idx;
        for (from, until) in taken {
            if from > from_idx {
                return (from_idx < self.goal).then_some((from_idx, from.min(self.goal)));
            }
            from_idx = from_idx.max(until);
        }
        (from_idx < self.goal).then_some((from_idx, self.goal))
    }

    /// Returns the amount of a range for one source, and the number of ranges at a time. The shares of all
    /// sources that have the range at `from_idx` fit into what may be in flight. A source sends a [part of a
    /// message](part_of) for a range, so a larger share is divided.
    fn part(&self, from_idx: u64, sources: Sources<'_>) -> (Amount, usize) {
        let Limits { message, in_flight, .. } = *sources.limits;
        let holders = self.holders(from_idx, sources).count();
        let shares = (WINDOW * holders).max(1) as u64;
        let share = Amount {
            entries: message.entries.min(in_flight.entries / shares),
            bytes: message.bytes.min(in_flight.bytes / shares),
        };
        let (share, part) = (self.within(share), self.within(part_of(message)));
        let ranges = share.entries.div_ceil(part.entries).min(PARTS_OF_MESSAGE);
        let part = Amount { entries: share.entries / ranges, bytes: share.bytes / ranges };
        (self.within(part), WINDOW * ranges as usize)
    }

    /// Returns this amount with the number of entries that it has for: one at least.
    fn within(&self, most: Amount) -> Amount {
        let (bytes, most) = (most.bytes.max(1), most.entries.max(1));
        let entries = bytes.checked_div(self.entry_bytes).unwrap_or(most).clamp(1, most);
        Amount { entries, bytes }
    }

    /// Whether another range may be on its way. The lowest waits for nothing, and counts for nothing.
    fn has_room(&self, decided_idx: u64, part: Amount, limits: &Limits) -> bool {
        let amount = |entries: u64| {
            let bytes = part.bytes.max(entries.saturating_mul(self.entry_bytes));
            Amount { entries, bytes: bytes.saturating_add(self.ids_bytes) }
        };
        let mut sum = self.kept();
        sum.add(amount(part.entries));
        for (from_idx, requested) in self.requested.range(decided_idx.saturating_add(1)..) {
            sum.add(amount(requested.until_idx.saturating_sub(*from_idx)));
        }
        sum.fits(limits.in_flight)
    }

    /// The servers that may have the entry at `from_idx`, and answer.
    fn holders<'a>(
        &'a self,
        from_idx: u64,
        sources: Sources<'a>,
    ) -> impl Iterator<Item = NodeId> + 'a {
        sources.reachable.iter().copied().filter(move |pid| {
            self.sources.get(pid).is_none_or(|source| {
                let Source { decided_idx, compacted_idx, silent_rounds } = *source;
                silent_rounds == 0 && (compacted_idx..decided_idx).contains(&from_idx)
            })
        })
    }

    /// The source to ask for a range: of the sources that have it, the one with the fewest requests, if
    /// these are less than `window`; the leader only now and then, or if no other has it.
    fn pick(&mut self, from_idx: u64, window: usize, sources: Sources<'_>) -> Option<NodeId> {
        let load = |pid: NodeId| self.requested.values().filter(|r| r.source == pid).count();
        let holders = || self.holders(from_idx, sources);
        let others = || holders().filter(|pid| Some(*pid) != sources.leader);
        let number_of_others = others().count();
        let idle = others().map(|pid| (load(pid), pid)).filter(|(load, _)| *load < window).min();
        let leader = sources.leader.filter(|leader| holders().any(|pid| pid == *leader));
        let leader = leader.filter(|leader| match number_of_others {
            0 => load(*leader) < window,
            others => load(*leader) == 0 && self.since_leader >= RANGES_TO_SPARE_LEADER * others,
        });
        match (leader, idle) {
            (Some(leader), _) => {
                self.since_leader = 0;
                Some(leader)
            }
            (None, Some((_, source))) => {
                self.since_leader = self.since_leader.saturating_add(1);
                Some(source)
            }
            (None, None) => None,
        }
    }
}

impl<T: Entry> CatchUpChunk<T> {
    /// Returns the amount of its entries, and of a piece of a snapshot.
    pub(in crate::sequence_paxos) fn amount(&self) -> Amount {
        let bytes = self.piece.as_ref().map_or(0, |piece| piece.bytes.len() as u64);
        let mut amount = Amount { entries: 0, bytes };
        self.entries.lock().iter().for_each(|entry| amount.add(Amount::one(entry.size_hint())));
        amount
    }
}

/// Returns what a source sends at once of a range, if its messages have this limit.
fn part_of(message: Amount) -> Amount {
    message.min(message.read_at_once())
}

/// The bytes of the ids in a chunk, if there are more runs than entries or forgotten ones. The ids of
/// a chunk of entries count as part of these.
fn surplus_of_ids<T: Entry>(chunk: &CatchUpChunk<T>) -> u64 {
    let Some(ids) = &chunk.ids else {
        return 0;
    };
    let surplus = ids.runs.len().saturating_sub(chunk.entries.len());
    let forgotten = ids.forgotten.as_ref().map_or(0, |f| f.ids.len() + f.in_doubt.len());
    ((surplus + forgotten) * size_of::<IdRun>()) as u64
}

#[cfg(test)]
mod tests {
    use super::{Amount, CatchUpChunk, Limits, NodeId, Ranges, Sources, LOST_AFTER};
    use crate::{
        entry::SharedEntries,
        identity::Stamp,
        messages::sequence_paxos::{EntryIds, ForgottenIds, IdRange, IdsInDoubt},
        proposals::{IdRun, ProposalId},
        storage::{Entry, NoSnapshot, SnapshotType, StopSign},
        ClusterConfig,
    };

    #[derive(Clone, Debug, PartialEq)]
    struct Ten;

    impl Entry for Ten {
        type Snapshot = NoSnapshot;
        crate::without_unicache!();

        fn size_hint(&self) -> usize {
            10
        }
    }

    /// Four entries in a message, and sixteen in flight.
    const LIMITS: Limits = Limits {
        message: Amount { entries: 100, bytes: 40 },
        in_flight: Amount { entries: 1000, bytes: 160 },
        pending: Amount { entries: 1, bytes: 1 },
        snapshot_bytes: 1,
    };

    fn chunk(base: u64, entries: usize, decided_idx: u64, compacted_idx: u64) -> CatchUpChunk<Ten> {
        CatchUpChunk {
            config_id: 1,
            base,
            snapshot: None,
            from_idx: base,
            entries: SharedEntries::from(vec![Ten; entries]),
            ids: None,
            stopsign: None,
            piece: None,
            epoch: None,
            decided_idx,
            compacted_idx,
            stamp: Stamp::default(),
        }
    }

    /// Asks for what follows on `decided_idx`: the sources, and the ranges.
    fn ask(
        ranges: &mut Ranges<Ten>,
        decided_idx: u64,
        reachable: &[NodeId],
        leader: Option<NodeId>,
    ) -> Vec<(NodeId, u64, u64)> {
        ranges.assign(decided_idx, Sources { reachable, leader, limits: &LIMITS });
        ranges.take_due().collect()
    }

    #[test]
    fn ranges_are_disjoint_and_the_leader_gets_the_fewest() {
        let mut ranges = Ranges::default();
        ranges.note(&chunk(0, 4, 100, 0), 2);
        let mut asked = ask(&mut ranges, 4, &[1, 2, 3, 4], Some(1));
        // The windows of four sources fit into what may be in flight, with two entries each.
        let first = [(2, 4, 6), (3, 6, 8), (4, 8, 10), (2, 10, 12), (3, 12, 14), (4, 14, 16)];
        assert_eq!(asked[..6], first);
        assert_eq!(asked[6..], [(1, 16, 18)]);
        let (mut decided_idx, mut of_leader) = (4, 0);
        while decided_idx < 100 {
            asked.sort_unstable_by_key(|(_, from, _)| *from);
            let (source, from, until) = asked.remove(0);
            assert_eq!(from, decided_idx, "no gap, and nothing twice");
            assert!(ranges.note(&chunk(from, (until - from) as usize, 100, 0), source));
            decided_idx = until;
            of_leader += u64::from(source == 1);
            asked.extend(ask(&mut ranges, decided_idx, &[1, 2, 3, 4], Some(1)));
        }
        assert!(asked.is_empty() && (4..=8).contains(&of_leader), "{of_leader} of 48");
    }

    #[test]
    fn what_comes_early_waits_within_the_limits() {
        let mut ranges = Ranges::default();
        ranges.note(&chunk(0, 4, 100, 0), 2);
        ask(&mut ranges, 4, &[2, 3], None);
        assert!(ranges.keep(chunk(8, 4, 100, 0), 3, &LIMITS));
        assert!(ranges.keep(chunk(12, 12, 100, 0), 3, &LIMITS));
        assert!(!ranges.keep(chunk(24, 1, 100, 0), 3, &LIMITS), "no room");
        assert!(!ranges.keep(chunk(30, 0, 100, 0), 3, &LIMITS), "empty");
        assert_eq!(ranges.kept(), Amount { entries: 16, bytes: 160 });
        assert!(ranges.pop_ready(7).is_none(), "a gap");
        assert_eq!(ranges.pop_ready(8).map(|(_, chunk)| chunk.base), Some(8));
        assert_eq!(ranges.pop_ready(15).map(|(_, chunk)| chunk.base), Some(12));
        assert_eq!(ranges.kept(), Amount::default());
        ranges.keep(chunk(30, 4, 100, 0), 3, &LIMITS);
        assert!(ranges.pop_ready(34).is_none(), "all of it is decided");
    }

    /// An entry is larger than the part of a source.
    #[test]
    fn no_more_is_asked_for_than_may_wait() {
        let tiny = Limits { in_flight: Amount { entries: 1000, bytes: 9 }, ..LIMITS };
        let mut ranges = Ranges::default();
        ranges.note(&chunk(0, 4, 100, 0), 2);
        ranges.assign(4, Sources { reachable: &[2, 3], leader: None, limits: &tiny });
        assert_eq!(ranges.take_due().collect::<Vec<_>>(), [(2, 4, 8)], "a whole message");
        let limits = Limits { in_flight: Amount { entries: 1000, bytes: 25 }, ..LIMITS };
        let mut ranges = Ranges::default();
        ranges.note(&chunk(0, 4, 100, 0), 2);
        ranges.assign(4, Sources { reachable: &[2, 3], leader: None, limits: &limits });
        let asked: Vec<_> = ranges.take_due().collect();
        assert_eq!(asked, [(2, 4, 5), (3, 5, 6), (2, 6, 7)]);
        assert!(ranges.keep(chunk(6, 1, 100, 0), 2, &limits));
        assert!(ranges.keep(chunk(5, 1, 100, 0), 3, &limits));
    }

    #[test]
    fn what_waits_is_counted_with_all_that_is_in_it() {
        let limits = Limits { in_flight: Amount { entries: 4, bytes: 1000 }, ..LIMITS };
        let mut ranges = Ranges::default();
        let metadata = Some(vec![7; 400]);
        let next_config =
            ClusterConfig { configuration_id: 2, nodes: vec![1], flexible_quorum: None };
        for base in 1..10 {
            let stopsign =
                StopSign { next_config: next_config.clone(), metadata: metadata.clone() };
            let sign = CatchUpChunk { stopsign: Some(stopsign), ..chunk(10 * base, 0, 200, 0) };
            assert_eq!(ranges.keep(sign, 2, &limits), base <= 2, "stop sign {base}");
        }
        let run = |idx| IdRun {
            idx,
            count: 1,
            first: ProposalId { origin: 1, incarnation: 1, number: idx },
        };
        let ids = EntryIds { known_from: 0, runs: (0..100).map(run).collect(), forgotten: None };
        let many_ids = CatchUpChunk { ids: Some(Box::new(ids)), ..chunk(100, 1, 200, 0) };
        assert!(!ranges.keep(many_ids, 2, &limits), "more ids than entries");
        let range = IdRange { first: run(0).first, count: 1 };
        for (ids, in_doubt, bytes) in [(0, 0, 2), (3, 0, 5), (0, 3, 5), (2, 2, 6)] {
            let doubted = IdsInDoubt { last: range.first, before: 0 };
            let (ids, in_doubt) = (vec![range; ids], vec![doubted; in_doubt]);
            let forgotten = Some(Box::new(ForgottenIds { before: 0, ids, in_doubt }));
            let ids = EntryIds { known_from: 0, runs: (0..3).map(run).collect(), forgotten };
            let chunk = CatchUpChunk { ids: Some(Box::new(ids)), ..chunk(100, 1, 200, 0) };
            assert_eq!(super::surplus_of_ids(&chunk), bytes * size_of::<IdRun>() as u64);
        }
        let snapshot = Some(SnapshotType::Delta(NoSnapshot));
        let summed = CatchUpChunk { snapshot, from_idx: 120, ..chunk(110, 0, 200, 0) };
        assert!(!ranges.keep(summed, 2, &limits), "a snapshot");
    }

    #[test]
    fn a_silent_source_loses_its_ranges() {
        let mut ranges = Ranges::default();
        ranges.note(&chunk(0, 4, 12, 0), 2);
        let asked = ask(&mut ranges, 4, &[2, 3], None);
        assert_eq!(asked, [(2, 4, 8), (3, 8, 12)]);
        for _ in 1..LOST_AFTER {
            assert!(!ranges.end_round());
        }
        ranges.note(&chunk(4, 4, 12, 0), 2);
        assert!(ranges.end_round());
        assert_eq!(ask(&mut ranges, 8, &[2, 3], None), [(2, 8, 12)]);
        ranges.note(&chunk(8, 2, 12, 0), 3);
        assert!(ask(&mut ranges, 8, &[2, 3], None).is_empty(), "it came late, 2 is asked");
    }

    #[test]
    fn a_source_that_answers_one_request_after_the_other_keeps_its_ranges() {
        let mut ranges = Ranges::default();
        ranges.note(&chunk(0, 4, 100, 0), 2);
        assert_eq!(ask(&mut ranges, 4, &[2], None), [(2, 4, 8), (2, 8, 12)]);
        for _ in 1..LOST_AFTER {
            assert!(!ranges.end_round());
        }
        assert!(ranges.note(&chunk(4, 4, 100, 0), 2));
        assert!(!ranges.end_round(), "the other one comes next");
        assert_eq!(ask(&mut ranges, 8, &[2], None), [(2, 12, 16)]);
        assert!(ranges.note(&chunk(12, 4, 100, 0), 2));
        assert!(ranges.end_round(), "the one before is lost");
    }

    #[test]
    fn a_source_is_asked_only_for_what_it_holds() {
        let mut ranges = Ranges::default();
        ranges.note(&chunk(0, 4, 12, 0), 2);
        ranges.note(&chunk(4, 0, 12, 8), 3);
        ranges.note(&chunk(4, 0, 6, 0), 4);
        assert_eq!(ask(&mut ranges, 4, &[2, 3, 4], None), [(2, 4, 8), (3, 8, 12)]);
    }

    #[test]
    fn where_nobody_holds_the_next_entry_nobody_is_asked_for_it() {
        let mut ranges = Ranges::default();
        ranges.note(&chunk(4, 0, 12, 8), 3);
        let is_asked = ranges.assign(4, Sources { reachable: &[3], leader: None, limits: &LIMITS });
        assert!(!is_asked);
    }

    #[test]
    fn what_is_known_of_the_sources() {
        let mut ranges = Ranges::default();
        ranges.note(&chunk(0, 4, 100, 0), 2);
        ranges.note(&chunk(0, 4, 90, 0), 3);
        assert_eq!((ranges.goal(), ranges.knows(2), ranges.knows(4)), (100, true, false));
        ask(&mut ranges, 4, &[2, 3], None);
        ranges.clear();
        assert_eq!((ranges.goal(), ranges.knows(2), ranges.requested.len()), (0, false, 0));
        assert!(ask(&mut ranges, 4, &[2, 3], None).is_empty());
    }

    #[test]
    fn a_source_that_has_compacted_its_ranges_loses_them() {
        let mut ranges = Ranges::default();
        ranges.note(&chunk(0, 4, 100, 0), 2);
        let asked = ask(&mut ranges, 4, &[2, 3], None);
        let of_3 = asked.iter().filter(|(source, _, _)| *source == 3).count();
        assert!(ranges.note(&chunk(0, 0, 100, 50), 2), "its ranges are free");
        assert!(of_3 > 0 && ranges.requested.len() == of_3);
        assert!(ranges.requested.values().all(|requested| requested.source == 3));
        assert!(!ranges.note(&chunk(0, 0, 100, 50), 2), "nothing more");
    }

    #[test]
    fn the_lowest_range_needs_no_room() {
        let mut ranges = Ranges::default();
        ranges.note(&chunk(0, 4, 100, 0), 2);
        assert!(ranges.keep(chunk(8, 16, 100, 0), 3, &LIMITS), "all that may be in flight");
        let sources = Sources { reachable: &[2, 3], leader: None, limits: &LIMITS };
        assert!(ranges.assign(4, sources), "2 is asked, though more is missing");
        assert_eq!(ranges.take_due().collect::<Vec<_>>(), [(2, 4, 8)]);
        assert!(ranges.pop_ready(7).is_none() && ranges.requested.contains_key(&4));
        assert!(ranges.pop_ready(8).is_some() && ranges.requested.is_empty(), "it has arrived");
    }

    #[test]
    fn a_source_that_does_not_send_what_it_holds_is_not_asked_again() {
        let mut ranges = Ranges::default();
        ranges.note(&chunk(0, 4, 12, 0), 2);
        assert_eq!(ask(&mut ranges, 4, &[2, 3], None), [(2, 4, 8), (3, 8, 12)]);
        assert!(ranges.note(&chunk(4, 0, 12, 0), 2), "an empty answer");
        assert_eq!(ask(&mut ranges, 4, &[2, 3], None), [(3, 4, 8)]);
    }

    #[test]
    fn the_windows_of_all_sources_fit_into_what_may_be_in_flight() {
        let mut ranges = Ranges::default();
        ranges.note(&chunk(0, 4, 100, 0), 2);
        let asked = ask(&mut ranges, 4, &[2, 3, 4], None);
        assert_eq!(asked[0], (2, 4, 6), "160 bytes in six parts");
        let few = Amount { entries: 12, bytes: 1000 };
        let limits = Limits { message: few, in_flight: few, ..LIMITS };
        let mut ranges = Ranges::default();
        ranges.note(&chunk(0, 4, 100, 0), 2);
        ranges.assign(4, Sources { reachable: &[2, 3], leader: None, limits: &limits });
        assert_eq!(ranges.take_due().next(), Some((2, 4, 7)), "twelve entries in four parts");
    }

    #[test]
    fn a_large_share_is_asked_for_in_several_ranges() {
        let amount = |entries, bytes| Amount { entries, bytes };
        let message = amount(1 << 14, 1 << 20);
        let limits = Limits { message, in_flight: amount(1 << 16, 1 << 22), ..LIMITS };
        let asked = |reachable: &[NodeId], limits: Limits| {
            let mut ranges = Ranges::default();
            ranges.note(&chunk(0, 4, 1 << 20, 0), 2);
            ranges.assign(4, Sources { reachable, leader: None, limits: &limits });
            ranges.take_due().map(|(_, from, until)| until - from).collect::<Vec<_>>()
        };
        assert_eq!(asked(&[2], limits), [1 << 12; 8], "two messages");
        assert_eq!(asked(&[2, 3], limits), [1 << 12; 16], "four messages");
        let limits = Limits { in_flight: amount(1 << 14, 1 << 22), ..limits };
        assert_eq!(asked(&[2, 3], limits), [1 << 12; 4], "what may be in flight");
        let limits = Limits { in_flight: amount(18_000, 1 << 22), ..limits };
        assert_eq!(asked(&[2], limits), [3_000; 6], "equal parts of 9,000 entries, twice");
        let limits = Limits { message: amount(1 << 17, 1 << 20), ..LIMITS };
        let limits = Limits { in_flight: amount(1 << 30, 1 << 30), ..limits };
        assert_eq!(asked(&[2], limits), [26_214; 8], "of 10 bytes");
        let limits = Limits { message: amount(1 << 18, 1 << 24), ..LIMITS };
        let limits = Limits { in_flight: amount(1 << 30, 1 << 30), ..limits };
        assert_eq!(asked(&[2], limits), [1 << 16; 8], "messages are larger");
    }

    #[test]
    fn a_leader_that_is_the_only_source_has_a_window_too() {
        let mut ranges = Ranges::default();
        ranges.note(&chunk(0, 4, 100, 0), 1);
        assert_eq!(ask(&mut ranges, 4, &[1], Some(1)), [(1, 4, 8), (1, 8, 12)]);
    }

    #[test]
    fn servers_that_lack_a_range_take_no_share_of_what_may_be_in_flight() {
        let mut ranges = Ranges::default();
        for behind in [2, 3, 4] {
            ranges.note(&chunk(0, 4, 4, 0), behind);
        }
        ranges.note(&chunk(0, 4, 100, 0), 1);
        assert_eq!(ask(&mut ranges, 4, &[1, 2, 3, 4], Some(1)), [(1, 4, 8), (1, 8, 12)]);
    }
}
