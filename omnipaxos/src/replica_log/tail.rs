//! The end of the log that is not flushed yet.

/// The entries from `from_idx` on, which are in memory only. What the storage holds from there on
/// is out of date.
#[derive(Clone, Debug)]
pub(super) struct Tail<T> {
    from_idx: u64,
    entries: Vec<T>,
}

impl<T: Clone> Tail<T> {
    /// No entries after `from_idx`.
    pub(super) fn empty(from_idx: u64) -> Self {
        Self { from_idx, entries: Vec::new() }
    }

    /// Index of the first entry that is in memory only.
    pub(super) fn start(&self) -> u64 {
        self.from_idx
    }

    /// Length of the log without the stop sign.
    pub(super) fn end(&self) -> u64 {
        self.from_idx + self.entries.len() as u64
    }

    pub(super) fn push(&mut self, entry: T) {
        self.entries.push(entry);
    }

    pub(super) fn extend(&mut self, mut entries: Vec<T>) {
        if self.entries.is_empty() {
            self.entries = entries;
        } else {
            self.entries.append(&mut entries);
        }
    }

    /// Cuts the log to its first `idx` entries.
    pub(super) fn cut(&mut self, idx: u64) {
        self.entries.truncate(position(idx.saturating_sub(self.from_idx)));
        self.from_idx = self.from_idx.min(idx);
    }

    /// Forgets the entries before `idx`, which need not be stored any more.
    pub(super) fn compact(&mut self, idx: u64) {
        if idx > self.from_idx {
            let gone = position(idx - self.from_idx).min(self.entries.len());
            self.entries.drain(..gone);
            self.from_idx = idx;
        }
    }

    /// The entries of `from..to` that are in memory.
    pub(super) fn range(&self, from: u64, to: u64) -> &[T] {
        let start = position(from.saturating_sub(self.from_idx));
        let end = position(to.saturating_sub(self.from_idx));
        self.entries.get(start..end).unwrap_or_default()
    }

    /// Hands over the entries, to be flushed.
    pub(super) fn take(&mut self) -> Vec<T> {
        self.from_idx = self.end();
        std::mem::take(&mut self.entries)
    }
}

/// A position in memory; what no memory can hold is beyond its end.
pub(super) fn position(idx: u64) -> usize {
    usize::try_from(idx).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::Tail;

    fn tail(from_idx: u64, len: u64) -> Tail<u64> {
        let mut tail = Tail::empty(from_idx);
        tail.extend((from_idx..from_idx + len).collect());
        tail
    }

    #[test]
    fn cuts() {
        for (cut, from_idx, end) in [(9, 5, 8), (8, 5, 8), (6, 5, 6), (5, 5, 5), (3, 3, 3)] {
            let mut tail = tail(5, 3);
            tail.cut(cut);
            assert_eq!((tail.start(), tail.end()), (from_idx, end), "cut at {cut}");
        }
    }

    #[test]
    fn compacts() {
        for (idx, from_idx, end) in [(3, 5, 8), (5, 5, 8), (7, 7, 8), (8, 8, 8)] {
            let mut tail = tail(5, 3);
            tail.compact(idx);
            assert_eq!((tail.start(), tail.end()), (from_idx, end), "compacted to {idx}");
        }
    }

    #[test]
    fn ranges() {
        let tail = tail(5, 3);
        assert_eq!(tail.range(2, 7), [5, 6]);
        assert_eq!(tail.range(6, 8), [6, 7]);
        assert_eq!(tail.range(2, 4), [0; 0]);
    }
}
