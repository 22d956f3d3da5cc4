//! Maps positions in the log to offsets in the commit log.

use std::{collections::VecDeque, ops::Range};

/// Consecutive entries in the commit log, up to the beginning of the next run.
#[derive(Copy, Clone, Debug, PartialEq)]
struct Run {
    /// Position of the first entry.
    position: u64,
    /// Its offset in the commit log.
    offset: u64,
}

/// All runs, in order: 16 bytes a batch.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    runs: VecDeque<Run>,
    first: u64,
    end: u64,
}

impl Runs {
    /// Replaces the entries from `position` on by `count` entries, the first at `offset`.
    pub(super) fn put(&mut self, position: u64, offset: u64, count: u64) {
        while self.runs.back().is_some_and(|run| run.position >= position) {
            self.runs.pop_back();
        }
        if count > 0 {
            self.runs.push_back(Run { position, offset });
        }
        self.end = position + count;
        self.first = self.first.min(position);
    }

    /// Removes the entries before `position`.
    pub(super) fn trim(&mut self, position: u64) {
        while self.runs.get(1).is_some_and(|next| next.position <= position) {
            self.runs.pop_front();
        }
        if position >= self.end {
            self.runs.clear();
            self.end = position;
        }
        self.first = position;
    }

    /// Returns the offsets of the entries from position `from` up to `to`, in runs, as far as they are held.
    pub(super) fn between(&self, from: u64, to: u64) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.runs.partition_point(|run| run.position <= from).saturating_sub(1);
        let ends = self.runs.range(first..).skip(1).map(|next| next.position).chain([self.end]);
        let held = from.max(self.first)..to.min(self.end);
        self.runs.range(first..).zip(ends).map_while(move |(run, run_end)| {
            let (start, end) = (held.start.max(run.position), held.end.min(run_end));
            let offset = |position| run.offset + (position - run.position);
            (start < end).then(|| offset(start)..offset(end))
        })
    }

    /// Returns the offset of the first entry held.
    pub(super) fn first_offset(&self) -> Option<u64> {
        self.between(self.first, self.end).next().map(|run| run.start)
    }
}

#[cfg(test)]
mod tests {
    use super::Runs;

    #[test]
    fn finds_what_was_put_cut_and_trimmed() {
        let mut runs = Runs::default();
        let between = |runs: &Runs, from, to| -> Vec<(u64, u64)> {
            runs.between(from, to).map(|run| (run.start, run.end)).collect()
        };
        runs.put(0, 1, 3);
        runs.put(3, 5, 2);
        assert_eq!(between(&runs, 0, 5), [(1, 4), (5, 7)]);
        assert_eq!(between(&runs, 0, 3), [(1, 4)]);
        assert_eq!(between(&runs, 2, 4), [(3, 4), (5, 6)]);
        assert_eq!(between(&runs, 4, 9), [(6, 7)]);
        assert_eq!(between(&runs, 2, 2), []);
        assert_eq!(between(&runs, 5, 6), []);
        runs.put(2, 9, 4);
        assert_eq!(between(&runs, 1, 6), [(2, 3), (9, 13)]);
        runs.trim(3);
        assert_eq!(between(&runs, 3, 5), [(10, 12)]);
        assert_eq!(runs.first_offset(), Some(10));
        runs.trim(6);
        assert_eq!(between(&runs, 6, 7), []);
        assert_eq!(runs.first_offset(), None);
        runs.put(6, 20, 1);
        assert_eq!(between(&runs, 6, 7), [(20, 21)]);
        runs.put(6, 0, 0);
        assert_eq!(between(&runs, 6, 7), []);
    }
}
