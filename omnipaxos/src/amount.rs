//! Amounts: a number of entries and their bytes.

/// The number of parts in which the entries of a full message are read: see [`Amount::read_at_once`].
pub(crate) const PARTS_OF_MESSAGE: u64 = 4;

/// A number of entries and of bytes: the size of some entries, or a limit.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) entries: u64,
    /// As [`Entry::size_hint`](crate::storage::Entry::size_hint) estimates them.
    pub(crate) bytes: u64,
}

impl Amount {
    /// A limit above any amount.
    pub(crate) const UNLIMITED: Self = Self { entries: u64::MAX, bytes: u64::MAX };

    /// Returns the amount of one entry with `bytes` bytes.
    pub(crate) fn one(bytes: usize) -> Self {
        Self { entries: 1, bytes: bytes as u64 }
    }

    pub(crate) fn add(&mut self, more: Amount) {
        self.entries = self.entries.saturating_add(more.entries);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    pub(crate) fn subtract(&mut self, less: Amount) {
        *self = self.without(less);
    }

    /// Returns the difference, at least 0.
    pub(crate) fn without(self, less: Amount) -> Self {
        Self {
            entries: self.entries.saturating_sub(less.entries),
            bytes: self.bytes.saturating_sub(less.bytes),
        }
    }

    /// Returns whether there is room for another entry under `limit`. The last entry may exceed the
    /// bytes; otherwise an entry that is larger than the limit would never find room.
    pub(crate) fn is_below(self, limit: Amount) -> bool {
        self.entries < limit.entries && self.bytes < limit.bytes
    }

    /// Returns whether the amount does not exceed `limit`.
    #[inline]
    pub(crate) fn fits(self, limit: Amount) -> bool {
        self.entries <= limit.entries && self.bytes <= limit.bytes
    }

    /// Returns the amount of stored entries after which an output reads no more of them for a server. `self` is the
    /// limit of a message. The server answers nobody while it reads, so this is a part of a message. If that is
    /// less than 256 KiB or 4,096 entries, these count, since they are read quickly.
    pub(crate) fn read_at_once(self) -> Self {
        let part = |of: u64, quickly: u64| quickly.max(of / PARTS_OF_MESSAGE);
        Self { entries: part(self.entries, 1 << 12), bytes: part(self.bytes, 1 << 18) }
    }

    /// Returns the smaller of two limits.
    #[inline]
    pub(crate) fn min(self, other: Amount) -> Self {
        Self { entries: self.entries.min(other.entries), bytes: self.bytes.min(other.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::Amount;

    fn amount(entries: u64, bytes: u64) -> Amount {
        Amount { entries, bytes }
    }

    #[test]
    fn room_under_a_limit() {
        let limit = amount(3, 10);
        for (there, has_room) in [
            (amount(0, 0), true),
            (amount(2, 9), true),
            (amount(3, 0), false),
            (amount(1, 10), false),
            (amount(1, 99), false),
        ] {
            assert_eq!(there.is_below(limit), has_room, "{there:?}");
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let mut there = amount(2, u64::MAX);
        there.add(Amount::one(5));
        assert_eq!(there, amount(3, u64::MAX));
        there.subtract(amount(4, 5));
        assert_eq!(there, amount(0, u64::MAX - 5));
        assert_eq!(amount(3, 5).min(amount(4, 2)), amount(3, 2));
    }
}
