//! The entries of a log in memory. They are never cloned, and not moved while they are shared.

use omnipaxos::storage::SharedEntries;
use std::{collections::VecDeque, ops::Range};

/// Entries in order: first those with one owner, then runs that messages may share.
#[derive(Clone, Debug)]
pub(super) struct Entries<T> {
    own: VecDeque<T>,
    runs: VecDeque<Run<T>>,
    /// Number of entries ever removed from the front.
    removed: u64,
    len: usize,
}

/// Entries that were appended together.
#[derive(Clone, Debug)]
struct Run<T> {
    /// Position of the first entry, counted from the first entry ever held.
    position: u64,
    entries: SharedEntries<T>,
}

impl<T> Run<T> {
    fn end(&self) -> u64 {
        self.position + self.entries.len() as u64
    }
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { own: VecDeque::new(), runs: VecDeque::new(), removed: 0, len: 0 }
    }
}

impl<T: Clone> Entries<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a run at the end.
    pub(super) fn extend(&mut self, entries: SharedEntries<T>) {
        self.settle();
        if !entries.is_empty() {
            let position = self.removed + self.len as u64;
            self.len += entries.len();
            self.runs.push_back(Run { position, entries });
        }
    }

    /// Moves the first runs that are no longer shared to the entries with one owner.
    fn settle(&mut self) {
        while self.runs.front().is_some_and(|run| !run.entries.is_shared()) {
            if let Some(Run { entries, .. }) = self.runs.pop_front() {
                // A vector is taken over as a whole. A single entry is not in a vector.
                match entries.len() {
                    1 => self.own.extend(entries),
                    _ => self.own.extend(entries.into_vec()),
                }
            }
        }
    }

    /// Keeps the first `len` entries.
    pub(super) fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self.len = len;
        self.own.truncate(len);
        let end = self.removed + len as u64;
        while self.runs.back().is_some_and(|run| run.end() > end) {
            if let Some(Run { position, entries }) = self.runs.pop_back() {
                let kept = end.saturating_sub(position) as usize;
                if let Some(entries) = entries.slice(0..kept).filter(|kept| !kept.is_empty()) {
                    self.runs.push_back(Run { position, entries });
                }
            }
        }
    }

    /// Removes the first `count` entries.
    pub(super) fn remove_front(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len -= count;
        self.removed += count as u64;
        self.own.drain(..count.min(self.own.len()));
        while self.runs.front().is_some_and(|run| run.position < self.removed) {
            if let Some(Run { position, entries }) = self.runs.pop_front() {
                let gone = ((self.removed - position) as usize).min(entries.len());
                if let Some(entries) =
                    entries.slice(gone..entries.len()).filter(|kept| !kept.is_empty())
                {
                    self.runs.push_front(Run { position: self.removed, entries });
                }
            }
        }
    }

    /// Visits the entries `from..to`, which must exist; shared ones as clones.
    pub(super) fn for_each(&self, from: usize, to: usize, mut visit: impl FnMut(&T)) {
        let own = self.own.len();
        self.own.range(from.min(own)..to.min(own)).for_each(&mut visit);
        for (run, range) in self.runs(from, to) {
            run.for_each(range, &mut visit);
        }
    }

    /// Clones the entries `from..to`, which must exist.
    pub(super) fn to_vec(&self, from: usize, to: usize) -> Vec<T> {
        let mut entries = Vec::with_capacity(to - from);
        let own = self.own.len();
        entries.extend(self.own.range(from.min(own)..to.min(own)).cloned());
        for (run, range) in self.runs(from, to) {
            entries.extend_from_slice(run.lock().get(range).unwrap_or_default());
        }
        entries
    }

    /// Returns the runs that contain entries of `from..to`, and the positions in them.
    fn runs(
        &self,
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = (&SharedEntries<T>, Range<usize>)> {
        let (from, to) = (self.removed + from as u64, self.removed + to as u64);
        let runs = self.runs.range(self.run_of(from)..);
        runs.take_while(move |run| run.position < to).map(move |run| {
            let start = from.saturating_sub(run.position) as usize;
            let end = ((to - run.position) as usize).min(run.entries.len());
            (&run.entries, start..end)
        })
    }

    /// Returns the entries `from..to`, if they were appended together and may be shared.
    pub(super) fn shared(&self, from: usize, to: usize) -> Option<SharedEntries<T>> {
        let (from, to) = (self.removed + from as u64, self.removed + to as u64);
        let run = self.runs.get(self.run_of(from))?;
        let start = from.checked_sub(run.position)? as usize;
        run.entries.slice(start..(to - run.position) as usize)
    }

    /// Returns the number of the run with this position, or of the first run after it.
    fn run_of(&self, position: u64) -> usize {
        self.runs.partition_point(|run| run.end() <= position)
    }
}

#[cfg(test)]
mod tests {
    use super::Entries;
    use omnipaxos::storage::SharedEntries;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Extend(usize, bool),
        Truncate(usize),
        RemoveFront(usize),
        /// No message shares the runs any more.
        Release,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..5usize, any::<bool>()).prop_map(|(count, held)| Op::Extend(count, held)),
            1 => (0..20usize).prop_map(Op::Truncate),
            1 => (0..8usize).prop_map(Op::RemoveFront),
            1 => Just(Op::Release),
        ]
    }

    fn read(entries: &Entries<u64>, from: usize, to: usize) -> Vec<u64> {
        let mut read = Vec::new();
        entries.for_each(from, to, |entry| read.push(*entry));
        read
    }

    proptest! {
        #[test]
        fn are_those_of_a_vector(ops in prop::collection::vec(op(), 0..40)) {
            let (mut entries, mut model) = (Entries::default(), Vec::new());
            let (mut held, mut next) = (Vec::new(), 0);
            for op in ops {
                match op {
                    Op::Extend(count, is_held) => {
                        let run: Vec<u64> = (next..next + count as u64).collect();
                        next += count as u64;
                        model.extend(run.clone());
                        let run = SharedEntries::from(run);
                        if is_held {
                            held.push(run.clone());
                        }
                        entries.extend(run);
                    }
                    Op::Truncate(len) => {
                        entries.truncate(len);
                        model.truncate(len);
                    }
                    Op::RemoveFront(count) => {
                        entries.remove_front(count);
                        model.drain(..count.min(model.len()));
                    }
                    Op::Release => held.clear(),
                }
                prop_assert_eq!(entries.len(), model.len());
                for from in 0..=model.len() {
                    for to in from..=model.len() {
                        prop_assert_eq!(read(&entries, from, to), model[from..to].to_vec());
                        prop_assert_eq!(entries.to_vec(from, to), model[from..to].to_vec());
                        if let Some(shared) = entries.shared(from, to) {
                            prop_assert_eq!(shared.to_vec(), model[from..to].to_vec());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_nobody_else_reads_becomes_own() {
        let mut entries = Entries::default();
        let first = SharedEntries::from(vec![1, 2]);
        entries.extend(first.clone());
        entries.extend(SharedEntries::from(vec![3]));
        assert_eq!((entries.own.len(), entries.runs.len()), (0, 2));
        assert_eq!(
            entries.shared(0, 2).map(|run| run.lock().as_ptr()),
            Some(first.lock().as_ptr())
        );
        drop(first);
        entries.extend(SharedEntries::from(vec![4]));
        assert_eq!((entries.own.len(), entries.runs.len()), (3, 1));
        assert_eq!(read(&entries, 0, 4), [1, 2, 3, 4]);
    }
}
