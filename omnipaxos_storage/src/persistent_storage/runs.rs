//! Maps positions in the log to offsets in the commit log.

use std::collections::VecDeque;

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

    /// Returns the offset of the entry at `position`, and the number of entries from there on with
    /// consecutive offsets.
    pub(super) fn find(&self, position: u64) -> Option<(u64, u64)> {
        if position < self.first || position >= self.end {
            return None;
        }
        let after = self.runs.partition_point(|run| run.position <= position);
        let run = self.runs.get(after.checked_sub(1)?)?;
        let run_end = self.runs.get(after).map_or(self.end, |next| next.position);
        Some((run.offset + (position - run.position), run_end - position))
    }

    /// Returns the offset of the first entry held.
    pub(super) fn first_offset(&self) -> Option<u64> {
        self.find(self.first).map(|(offset, _)| offset)
    }
}

#[cfg(test)]
mod tests {
    use super::Runs;

    #[test]
    fn finds_what_was_put_cut_and_trimmed() {
        let mut runs = Runs::default();
        runs.put(0, 1, 3);
        runs.put(3, 5, 2);
        assert_eq!(runs.find(0), Some((1, 3)));
        assert_eq!(runs.find(2), Some((3, 1)));
        assert_eq!(runs.find(4), Some((6, 1)));
        assert_eq!(runs.find(5), None);
        runs.put(2, 9, 4);
        assert_eq!(runs.find(1), Some((2, 1)));
        assert_eq!(runs.find(2), Some((9, 4)));
        runs.trim(3);
        assert_eq!(runs.find(2), None);
        assert_eq!(runs.first_offset(), Some(10));
        runs.trim(6);
        assert_eq!(runs.first_offset(), None);
        runs.put(6, 20, 1);
        assert_eq!(runs.find(6), Some((20, 1)));
        runs.put(6, 0, 0);
        assert_eq!(runs.find(6), None);
    }
}
