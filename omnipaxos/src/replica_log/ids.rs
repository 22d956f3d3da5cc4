//! The ids of the entries in the log.
//!
//! They are kept in memory beside the log and travel with the entries, so that storages need not
//! know them. After a restart, the ids of stored entries are not known.
//!
//! An entry appended at the leader without an id is named by the ballot and its index. While the
//! ballot lasts, this id is implied, at the leader and at its followers.

use super::{forgotten::Forgotten, summary::Summary};
use crate::{
    ballot::Ballot,
    ids::NodeId,
    messages::sequence_paxos::EntryIds,
    proposals::{IdRun, ProposalId},
};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

/// The ids of the log and their indices. Invariant I13: each id is in the log at most once, except
/// content ids.
#[derive(Clone)]
pub(crate) struct Ids {
    /// From this index on, an entry in no run has no id, or its id is forgotten. The ids in runs
    /// are always known.
    known_from: u64,
    /// The runs, in the order of the log.
    runs: VecDeque<IdRun>,
    /// The runs by their first id.
    by_id: BTreeMap<ProposalId, IdRun>,
    /// The ids of decided entries that were in runs before.
    forgotten: Forgotten,
    led: Led,
}

impl fmt::Debug for Ids {
    /// There may be thousands of runs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ids")
            .field("known_from", &self.known_from)
            .field("runs", &Summary(self.runs.iter()))
            .field("by_id", &Summary(self.by_id.iter()))
            .field("forgotten", &self.forgotten)
            .field("led", &self.led)
            .finish()
    }
}

/// The entries whose ids are implied.
#[derive(Copy, Clone, Debug)]
struct Led {
    /// The ballot in which the log is accepted.
    n: Ballot,
    /// From this index on, an entry in no run was appended at the leader of this ballot.
    from: u64,
    /// The index of the stop sign from there on, if there is one: it has no id.
    stopsign: Option<u64>,
}

impl Led {
    fn new(n: Ballot, from: u64) -> Self {
        Self { n, from, stopsign: None }
    }

    /// Returns the index after the last such entry, in a log of length `len`.
    fn end(&self, len: u64) -> u64 {
        self.stopsign.map_or(len, |idx| len.min(idx))
    }
}

/// How an id is known.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Known {
    /// It is in a run.
    Explicit,
    /// By ballot and index.
    Implied,
}

/// The bit that is set in the incarnation of an id by ballot.
const BY_BALLOT: u64 = 1 << 63;

/// Returns the id of an entry that the leader of ballot `n` appended at `idx`. Ballots of different
/// configurations may have the same number.
fn led_id(n: Ballot, idx: u64) -> ProposalId {
    let ballot = u64::from(n.config_id) << 32 | u64::from(n.n);
    ProposalId { origin: n.pid, incarnation: BY_BALLOT | ballot, number: idx }
}

impl Ids {
    /// Creates the ids of a log of length `known_from`, none of which is known.
    pub(super) fn unknown_before(known_from: u64) -> Self {
        let led = Led::new(Ballot::default(), known_from);
        let (runs, by_id) = (VecDeque::new(), BTreeMap::new());
        Self { known_from, runs, by_id, forgotten: Forgotten::default(), led }
    }

    /// Records that the log, of length `len`, is accepted in ballot `n`.
    pub(super) fn accept_in(&mut self, n: Ballot, len: u64) {
        self.led = Led::new(n, len);
    }

    /// Records that the last record, at `idx`, is a stop sign.
    pub(super) fn end_led(&mut self, idx: u64) {
        self.led.stopsign = Some(idx);
    }

    /// Turns implied ids into runs, up to the end of the log.
    pub(super) fn materialize_ids(&mut self, end: u64) {
        let led_from = self.led.from;
        if self.led_in(led_from, end).next().is_some() {
            let first = self.runs.partition_point(|run| run.end() <= led_from);
            let from = self.runs.get(first).map_or(led_from, |run| run.idx.min(led_from));
            let spelt_out: Vec<(IdRun, Known)> = self.all_as_known(from, end).collect();
            self.runs.truncate(first);
            for (run, known) in spelt_out {
                match known {
                    Known::Explicit => self.push(run),
                    Known::Implied => self.push_new(run),
                }
            }
        }
        self.led = Led::new(self.led.n, end);
    }

    /// Returns the implied ids of the entries `from..to`.
    pub(crate) fn led_in(&self, from: u64, to: u64) -> impl Iterator<Item = IdRun> + '_ {
        let (n, to) = (self.led.n, self.led.end(to));
        let ends = self.runs_in(from, to).map(|run| (run.idx, run.end())).chain([(to, to)]);
        let mut next = from.max(self.led.from);
        ends.filter_map(move |(start, end)| {
            let idx = next;
            next = next.max(end);
            (idx < start).then(|| IdRun { idx, count: start - idx, first: led_id(n, idx) })
        })
    }

    /// Returns all known ids of the entries `from..to`, in order.
    pub(crate) fn all_in(&self, from: u64, to: u64) -> impl Iterator<Item = IdRun> + '_ {
        self.all_as_known(from, to).map(|(run, _)| run)
    }

    /// The same, each with how it is known.
    fn all_as_known(&self, from: u64, to: u64) -> impl Iterator<Item = (IdRun, Known)> + '_ {
        let mut explicit = self.runs_in(from, to).map(|run| (run, Known::Explicit)).peekable();
        let mut implied = self.led_in(from, to).map(|run| (run, Known::Implied)).peekable();
        std::iter::from_fn(move || match (explicit.peek(), implied.peek()) {
            (Some((a, _)), Some((b, _))) if b.idx < a.idx => implied.next(),
            (Some(_), _) => explicit.next(),
            (None, _) => implied.next(),
        })
    }

    /// Records the id of the entry that is appended at `idx`.
    pub(super) fn append(&mut self, idx: u64, id: ProposalId) {
        self.push(IdRun { idx, count: 1, first: id });
    }

    /// Adds a run at the end. It extends the last run if it directly continues it.
    fn push(&mut self, run: IdRun) {
        if let Some(last) = self.runs.back_mut() {
            if last.end() == run.idx && last.first.later(last.count) == run.first {
                last.count += run.count;
                self.by_id.insert(last.first, *last);
                return;
            }
        }
        self.runs.push_back(run);
        self.by_id.insert(run.first, run);
    }

    /// Records the ids from a message for the appended entries `from..to`.
    #[inline]
    pub(super) fn extend(&mut self, received: Option<Box<EntryIds>>, from: u64, to: u64) {
        if let Some(received) = received {
            self.extend_by(*received, from, to);
        }
    }

    #[cold]
    fn extend_by(&mut self, received: EntryIds, from: u64, to: u64) {
        let EntryIds { known_from, runs, forgotten } = received;
        if let Some(forgotten) = forgotten {
            self.forgotten.join(&forgotten);
        }
        self.add(known_from, &runs, from, to);
    }

    /// Records the ids of the log beyond a chunk.
    pub(super) fn extend_beyond(&mut self, received: Option<Box<EntryIds>>, from: u64, to: u64) {
        if let Some(received) = received {
            self.add(received.known_from, &received.runs, from, to);
        }
    }

    /// Adds the ids of the entries `from..to`, at the end.
    fn add(&mut self, known_from: u64, runs: &[IdRun], from: u64, to: u64) {
        if known_from > from {
            self.known_from = self.known_from.max(known_from.min(to));
        }
        runs.iter().filter_map(|run| run.within(from, to)).for_each(|run| self.push_new(run));
    }

    /// Adds those ids of a run that name no entry yet.
    ///
    /// A proposal may be decided at an earlier index, in a chunk of a later ballot, and have a copy here, of a
    /// leader that was overtaken. The copy will be replaced. So the id goes on to name the decided entry.
    fn push_new(&mut self, run: IdRun) {
        let mut rest = run;
        while let Some(named) = self.first_named(&rest) {
            let before = named - rest.first.number;
            let until = self.named_until(rest.first.later(before)) - rest.first.number;
            rest.within(rest.idx, rest.idx + before).into_iter().for_each(|run| self.push(run));
            match rest.within(rest.idx.saturating_add(until), rest.end()) {
                Some(after) => rest = after,
                None => return,
            }
        }
        self.push(rest);
    }

    /// Returns the first number of a run that is in the log already.
    fn first_named(&self, run: &IdRun) -> Option<u64> {
        if self.run_with(run.first).is_some() {
            return Some(run.first.number);
        }
        let last = run.first.later(run.count - 1);
        self.by_id.range(run.first..=last).next().map(|(id, _)| id.number)
    }

    /// Returns the number after the last one of the run in the log that has this id.
    fn named_until(&self, id: ProposalId) -> u64 {
        self.run_with(id).map_or(id.number, |run| run.first.number + run.count)
    }

    /// Records that the log was truncated to its first `idx` entries.
    pub(super) fn cut(&mut self, idx: u64) {
        self.known_from = self.known_from.min(idx);
        self.led.from = self.led.from.min(idx);
        self.led.stopsign.take_if(|of| *of >= idx);
        while let Some(last) = self.runs.back().copied().filter(|last| last.end() > idx) {
            self.runs.pop_back();
            self.forget(&last);
            if let Some(rest) = last.within(last.idx, idx) {
                self.push(rest);
            }
        }
    }

    /// Returns the ids of the entries `from..to` for a message of the present ballot; `None` if all
    /// are implied.
    #[inline]
    pub(crate) fn of_accepts(&self, from: u64, to: u64) -> Option<Box<EntryIds>> {
        let is_implicit = self.runs.back().is_none_or(|last| last.end() <= from);
        if is_implicit && self.known_from.max(self.forgotten.before()) <= from {
            return None;
        }
        self.to_travel(from, to, self.runs_in(from, to).collect())
    }

    /// Returns the ids of the entries `from..to` for a message in which none is implied; `None` if
    /// it is known that they have none.
    pub(super) fn of(&self, from: u64, to: u64) -> Option<Box<EntryIds>> {
        self.to_travel(from, to, self.all_in(from, to).collect())
    }

    fn to_travel(&self, from: u64, to: u64, runs: Vec<IdRun>) -> Option<Box<EntryIds>> {
        let forgets_some = from < self.forgotten.before();
        if from >= to || (runs.is_empty() && self.known_from <= from && !forgets_some) {
            return None;
        }
        let forgotten = forgets_some.then(|| self.forgotten.to_send());
        Some(Box::new(EntryIds { known_from: self.known_from.clamp(from, to), runs, forgotten }))
    }

    /// Returns the runs of the entries `from..to`, in order, without implied ids.
    pub(crate) fn runs_in(&self, from: u64, to: u64) -> impl Iterator<Item = IdRun> + '_ {
        let first = self.runs.partition_point(|run| run.end() <= from);
        self.runs.range(first..).map_while(move |run| run.within(from, to))
    }

    /// Returns the index of the proposal in the log. `None` proves that the proposal is absent only
    /// under two conditions: it is not [forgotten](Self::is_forgotten), and it cannot be before
    /// [`known_from`](Self::known_from).
    pub(crate) fn find(&self, id: ProposalId, len: u64) -> Option<u64> {
        let Led { n, from, .. } = self.led;
        if id == led_id(n, id.number) && (from..self.led.end(len)).contains(&id.number) {
            let is_implicit = self.runs_in(id.number, id.number + 1).next().is_none();
            return is_implicit.then_some(id.number);
        }
        self.run_with(id).map(|run| run.idx + (id.number - run.first.number))
    }

    /// Returns the run that contains an id.
    fn run_with(&self, id: ProposalId) -> Option<IdRun> {
        let (first, run) = self.by_id.range(..=id).next_back()?;
        let is_in_run = (first.origin, first.incarnation) == (id.origin, id.incarnation);
        let position = id.number.checked_sub(first.number)?;
        (is_in_run && position < run.count).then_some(*run)
    }

    /// Returns the index from which on it is known whether the log contains the proposal.
    pub(crate) fn known_from(&self, id: ProposalId) -> u64 {
        self.known_from.max(self.forgotten.in_doubt_before(id))
    }

    /// Returns the index from which on it is known which proposals of a server the log contains.
    pub(crate) fn all_known_from(&self, origin: NodeId) -> u64 {
        self.known_from.max(self.forgotten.any_in_doubt_before(origin))
    }

    /// Returns whether the proposal is decided before [`forgotten_before`](Self::forgotten_before),
    /// at a forgotten index.
    pub(crate) fn is_forgotten(&self, id: ProposalId) -> bool {
        self.forgotten.contains(id)
    }

    /// Returns the index before which forgotten ids are decided: see
    /// [`is_forgotten`](Self::is_forgotten).
    pub(crate) fn forgotten_before(&self) -> u64 {
        self.forgotten.before()
    }

    /// Returns the highest known number among the proposals of an incarnation that counts them.
    pub(crate) fn highest_number(&self, origin: NodeId, incarnation: u64) -> Option<u64> {
        let number = match incarnation {
            0 => u64::MAX >> 1,
            1.. => u64::MAX,
        };
        let last = self.by_id.range(..=ProposalId { origin, incarnation, number }).next_back();
        let of_incarnation =
            last.filter(|(first, _)| (first.origin, first.incarnation) == (origin, incarnation));
        let in_run = of_incarnation.map(|(first, run)| first.number + (run.count - 1));
        in_run.max(self.forgotten.highest_number(origin, incarnation))
    }

    /// Returns the number of reports of forgotten ids from other servers.
    pub(crate) fn told_forgotten(&self) -> u64 {
        self.forgotten.received()
    }

    /// Forgets the indices of the oldest runs that end before `idx`, while there are more than
    /// `most`.
    #[inline]
    pub(super) fn bound(&mut self, idx: u64, most: usize) {
        while self.runs.len() > most {
            let Some(oldest) = self.runs.front().copied().filter(|run| run.end() <= idx) else {
                return;
            };
            self.runs.pop_front();
            self.forget(&oldest);
            self.forgotten.add(oldest.first, oldest.count, oldest.end());
        }
    }

    /// Removes a run. If its id is in the log again, that stays known.
    fn forget(&mut self, run: &IdRun) {
        if self.by_id.get(&run.first).is_some_and(|known| known.idx == run.idx) {
            self.by_id.remove(&run.first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{led_id, Ballot, EntryIds, IdRun, Ids, ProposalId};
    use crate::messages::sequence_paxos::{ForgottenIds, IdRange, IdsInDoubt};

    const MOST_RUNS: usize = 100;

    const N: Ballot = Ballot { config_id: 1, n: 3, priority: 0, pid: 1 };

    fn id(origin: u64, number: u64) -> ProposalId {
        ProposalId { origin, incarnation: 1, number }
    }

    fn run(idx: u64, count: u64, first: ProposalId) -> IdRun {
        IdRun { idx, count, first }
    }

    /// In each epoch the numbers of ballots begin anew, and a server may lead in the same number again.
    #[test]
    fn a_ballot_of_another_epoch_names_its_entries_otherwise() {
        assert_ne!(led_id(N, 7), led_id(Ballot { config_id: 2, ..N }, 7));
    }

    /// Entries 2 to 4 and 6 to 7 have ids; 5 has none.
    fn ids() -> Ids {
        let mut ids = Ids::unknown_before(2);
        for (idx, id) in
            [(2, id(1, 7)), (3, id(1, 8)), (4, id(2, 9)), (6, id(1, 9)), (7, id(1, 10))]
        {
            ids.append(idx, id);
        }
        ids.accept_in(N, 8);
        ids
    }

    #[test]
    fn finds_what_is_in_the_log() {
        let ids = ids();
        for (id, idx) in [
            (id(1, 7), Some(2)),
            (id(1, 8), Some(3)),
            (id(1, 9), Some(6)),
            (id(1, 10), Some(7)),
            (id(1, 11), None),
            (id(1, 6), None),
            (id(2, 9), Some(4)),
            (id(2, 8), None),
            (id(3, 9), None),
            (ProposalId { incarnation: 2, ..id(1, 7) }, None),
        ] {
            assert_eq!(ids.find(id, 99), idx, "{id:?}");
        }
    }

    #[test]
    fn a_cut_forgets_what_is_gone() {
        for (cut, left) in [(9, 5), (8, 5), (7, 4), (6, 3), (4, 2), (3, 1), (2, 0), (0, 0)] {
            let mut ids = ids();
            ids.cut(cut);
            let all = [id(1, 7), id(1, 8), id(2, 9), id(1, 9), id(1, 10)];
            let found = all.iter().filter(|id| ids.find(**id, 99).is_some()).count();
            assert_eq!(found, left, "cut to {cut}");
            assert_eq!(ids.known_from, cut.min(2));
        }
    }

    /// A leader that was overtaken sends copies of entries that are decided here. Then they are replaced.
    #[test]
    fn an_id_names_the_decided_entry_and_not_a_copy() {
        let mut ids = ids();
        let copies = vec![run(8, 1, id(2, 9)), run(9, 4, id(1, 8))];
        let received = EntryIds { known_from: 8, runs: copies, forgotten: None };
        ids.extend(Some(Box::new(received)), 8, 13);
        assert_eq!((ids.find(id(2, 9), 99), ids.find(id(1, 8), 99)), (Some(4), Some(3)));
        assert_eq!((ids.find(id(1, 10), 99), ids.find(id(1, 11), 99)), (Some(7), Some(12)));
        ids.cut(8);
        assert_eq!((ids.find(id(2, 9), 99), ids.find(id(1, 8), 99)), (Some(4), Some(3)));
        assert_eq!((ids.find(id(1, 10), 99), ids.find(id(1, 11), 99)), (Some(7), None));
    }

    /// The copy comes without ids: its id is implied.
    #[test]
    fn an_implied_id_names_the_decided_entry_and_not_a_copy() {
        let mut ids = Ids::unknown_before(0);
        ids.accept_in(N, 1);
        ids.append(0, led_id(N, 1));
        ids.materialize_ids(3);
        assert_eq!((ids.find(led_id(N, 1), 3), ids.find(led_id(N, 2), 3)), (Some(0), Some(2)));
        ids.cut(1);
        assert_eq!((ids.find(led_id(N, 1), 1), ids.find(led_id(N, 2), 1)), (Some(0), None));
    }

    #[test]
    fn what_travels_arrives() {
        let ids = ids();
        assert_eq!(ids.of_accepts(8, 9), None);
        assert_eq!(ids.of(5, 6), None);
        let received = ids.of(3, 7).unwrap();
        assert_eq!(received.forgotten, None);
        assert_eq!(received.runs, [run(3, 1, id(1, 8)), run(4, 1, id(2, 9)), run(6, 1, id(1, 9))]);
        assert_eq!(received.known_from, 3);
        assert_eq!(ids.of(0, 3).unwrap().known_from, 2);
        let mut other = Ids::unknown_before(0);
        other.extend(Some(received), 4, 7);
        assert_eq!((other.find(id(1, 8), 99), other.find(id(1, 9), 99)), (None, Some(6)));
        assert_eq!(other.known_from, 0, "all that was appended is known");
        other.extend(ids.of(7, 8), 7, 8);
        assert_eq!(other.of(6, 8).unwrap().runs, [run(6, 2, id(1, 9))], "joined");
        other.extend(
            Some(Box::new(EntryIds { known_from: 12, runs: Vec::new(), forgotten: None })),
            8,
            12,
        );
        assert_eq!(other.known_from, 12);
        assert_eq!(other.find(id(1, 9), 99), Some(6));
    }

    #[test]
    fn what_is_decided_earlier_has_no_id_beyond() {
        let mut ids = Ids::unknown_before(0);
        ids.append(0, id(1, 5));
        ids.append(1, id(1, 8));
        ids.append(2, id(2, 1));
        let runs = vec![run(3, 6, id(1, 4)), run(9, 1, id(2, 1)), run(10, 1, id(2, 2))];
        ids.extend_beyond(Some(Box::new(EntryIds { known_from: 3, runs, forgotten: None })), 3, 11);
        let left =
            [run(3, 1, id(1, 4)), run(5, 2, id(1, 6)), run(8, 1, id(1, 9)), run(10, 1, id(2, 2))];
        assert_eq!(ids.runs_in(3, 11).collect::<Vec<_>>(), left);
        for cut in [11, 3] {
            ids.cut(cut);
            let found = [id(1, 5), id(1, 8), id(2, 1)].map(|id| ids.find(id, 99));
            assert_eq!(found, [Some(0), Some(1), Some(2)], "cut to {cut}");
        }
    }

    #[test]
    fn ids_in_doubt_beyond_a_chunk() {
        for (known_from, expected) in [(2, 0), (3, 0), (4, 4), (5, 5), (9, 5)] {
            let mut ids = Ids::unknown_before(0);
            let received = EntryIds { known_from, runs: Vec::new(), forgotten: None };
            ids.extend_beyond(Some(Box::new(received)), 3, 5);
            assert_eq!(ids.known_from, expected, "known from {known_from}");
        }
        assert!(Ids::unknown_before(5).of_accepts(3, 4).is_some(), "no server may know it");
        assert_eq!(Ids::unknown_before(5).of_accepts(5, 6), None);
    }

    #[test]
    fn low_numbers_beyond_a_chunk() {
        for first in [0, 1] {
            let mut ids = Ids::unknown_before(0);
            ids.append(0, id(1, first + 1));
            let received =
                EntryIds { known_from: 1, runs: vec![run(1, 4, id(1, first))], forgotten: None };
            ids.extend_beyond(Some(Box::new(received)), 1, 5);
            let left = [run(1, 1, id(1, first)), run(3, 2, id(1, first + 2))];
            assert_eq!(ids.runs_in(1, 5).collect::<Vec<_>>(), left, "from {first} on");
        }
    }

    #[test]
    fn numbers_that_an_incarnation_counted() {
        let of = |incarnation, number| ProposalId { origin: 1, incarnation, number };
        let mut ids = Ids::unknown_before(0);
        for (idx, id) in (0..).zip([of(0, 4), of(0, 1 << 63 | 9), of(1, 2), of(1, 3), of(2, 1)]) {
            ids.append(idx, id);
        }
        let highest = [0, 1, 2, 3].map(|incarnation| ids.highest_number(1, incarnation));
        assert_eq!(highest, [Some(4), Some(3), Some(1), None], "a content id is not counted");
        ids.bound(5, 0);
        let highest = [0, 1, 2, 3].map(|incarnation| ids.highest_number(1, incarnation));
        assert_eq!(highest, [Some(4), Some(3), Some(1), None], "nor is a forgotten one");
    }

    #[test]
    fn what_goes_without_saying_is_spelt_out() {
        let mut ids = ids();
        ids.accept_in(N, 8);
        ids.append(8, id(1, 11));
        ids.append(10, id(2, 1));
        let led = |idx| led_id(N, idx);
        for spelt_out in [false, true] {
            assert_eq!([9, 11, 12].map(|idx| ids.find(led(idx), 12)), [Some(9), Some(11), None]);
            assert_eq!([5, 8, 10].map(|idx| ids.find(led(idx), 12)), [None; 3], "{spelt_out}");
            assert_eq!(ids.find(id(1, 11), 12), Some(8));
            let all = ids.of(7, 12).unwrap();
            let runs = [
                run(7, 2, id(1, 10)),
                run(9, 1, led(9)),
                run(10, 1, id(2, 1)),
                run(11, 1, led(11)),
            ];
            assert_eq!(all.runs, runs);
            ids.materialize_ids(12);
        }
        assert_eq!(ids.led_in(0, 12).count(), 0);
        assert_eq!(ids.led_in(10, 15).collect::<Vec<_>>(), [run(12, 3, led(12))]);
        assert_eq!(ids.find(id(1, 9), 12), Some(6), "what was there before");
        ids.accept_in(Ballot { n: 4, ..N }, 12);
        assert_eq!(ids.find(led(12), 13), None);
        assert_eq!(ids.find(led_id(Ballot { n: 4, ..N }, 12), 13), Some(12));
    }

    #[test]
    fn a_stop_sign_has_no_id() {
        let mut ids = ids();
        ids.end_led(10);
        assert_eq!([9, 10].map(|idx| ids.find(led_id(N, idx), 11)), [Some(9), None]);
        assert_eq!(ids.led_in(0, 11).collect::<Vec<_>>(), [run(8, 2, led_id(N, 8))]);
        let mut spelt_out = ids.clone();
        spelt_out.materialize_ids(11);
        assert_eq!(spelt_out.of(8, 11).unwrap().runs, [run(8, 2, led_id(N, 8))]);
        ids.cut(10);
        assert_eq!(ids.find(led_id(N, 10), 11), Some(10), "another record took its place");
    }

    #[test]
    fn runs_that_cannot_be_are_not_sound() {
        let max = ProposalId { number: u64::MAX, ..id(1, 0) };
        for (known_from, runs, is_sound) in [
            (3, vec![run(3, 2, id(1, 1)), run(5, 1, id(1, 9))], true),
            (10, vec![], true),
            (11, vec![], false),
            (0, vec![run(3, 0, id(1, 1))], false),
            (0, vec![run(3, 8, id(1, 1))], false),
            (0, vec![run(3, u64::MAX, id(1, 1))], false),
            (0, vec![run(u64::MAX, 1, id(1, 1))], false),
            (0, vec![run(5, 2, id(1, 1)), run(6, 1, id(1, 9))], false),
            (0, vec![run(5, 1, max)], false),
            (0, vec![run(5, 1, id(0, 1))], false),
        ] {
            let ids = EntryIds { known_from, runs, forgotten: None };
            assert_eq!(ids.is_sound(10), is_sound, "{ids:?}");
        }
        for (first, count, last, is_sound) in [
            (id(1, 1), 1, id(2, 1), true),
            (id(1, 1), 0, id(2, 1), false),
            (id(1, 1), u64::MAX, id(2, 1), false),
            (id(0, 1), 1, id(2, 1), false),
            (id(1, 1), 1, id(0, 1), false),
        ] {
            let (ids, in_doubt) =
                (vec![IdRange { first, count }], vec![IdsInDoubt { last, before: 3 }]);
            let forgotten = Some(Box::new(ForgottenIds { before: 5, ids, in_doubt }));
            let ids = EntryIds { known_from: 0, runs: Vec::new(), forgotten };
            assert_eq!(ids.is_sound(10), is_sound, "{ids:?}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut ids = Ids::unknown_before(0);
        for idx in 0..2 * MOST_RUNS as u64 {
            ids.append(idx, id(1, idx * 2));
        }
        ids.bound(100, MOST_RUNS);
        let left = (ids.runs.len(), ids.forgotten_before());
        assert_eq!(left, (2 * MOST_RUNS - 100, 100), "not decided");
        ids.bound(u64::MAX, MOST_RUNS);
        assert_eq!((ids.runs.len(), ids.by_id.len()), (MOST_RUNS, MOST_RUNS));
        for (number, is_forgotten) in [(0, true), (1, false), (198, true), (200, false)] {
            assert_eq!(ids.is_forgotten(id(1, number)), is_forgotten, "{number}");
            assert_eq!(ids.known_from(id(1, number)), 0);
        }
        assert_eq!(ids.find(id(1, 0), 99), None);
    }

    #[test]
    fn what_is_forgotten_travels_with_entries_that_may_be_among_it() {
        let mut ids = Ids::unknown_before(0);
        for idx in 0..10 {
            ids.append(idx, id(idx % 2, idx));
        }
        ids.accept_in(N, 10);
        ids.bound(7, 4);
        assert_eq!(ids.forgotten_before(), 6);
        assert_eq!((ids.of(6, 10).unwrap().forgotten, ids.of_accepts(10, 11)), (None, None));
        for received in [ids.of(5, 8), ids.of_accepts(5, 8)] {
            assert_eq!(received.as_ref().unwrap().runs.len(), 2);
            let mut other = Ids::unknown_before(2);
            other.extend(received, 5, 8);
            let known = [5, 6, 7].map(|idx| other.find(id(idx % 2, idx), 99));
            assert_eq!(known, [None, Some(6), Some(7)]);
            assert!((0..6).all(|idx| other.is_forgotten(id(idx % 2, idx))));
            assert!((6..10).all(|idx| !other.is_forgotten(id(idx % 2, idx))));
            assert_eq!(
                (other.forgotten_before(), other.told_forgotten(), other.known_from),
                (6, 1, 2)
            );
        }
        assert!(ids.of_accepts(5, 6).is_some(), "though there are no runs");
        assert_eq!(ids.told_forgotten(), 0, "no other server reported any");
    }
}
