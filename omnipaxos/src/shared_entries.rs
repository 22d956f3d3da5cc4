//! Entries that several hold at once.

use std::{fmt::Debug, ops::Deref, ops::Range, sync::Arc};

/// A run of entries, shared and immutable: one allocation for the leader's storage and for the
/// messages to all followers.
///
/// Behaves as a slice. Equality and serialisation are those of the entries, in order.
#[derive(Clone)]
pub struct SharedEntries<T> {
    /// `None` where there are none: that costs no allocation.
    all: Option<Arc<Vec<T>>>,
    range: Range<usize>,
}

impl<T> SharedEntries<T> {
    /// The entries `range` of these, sharing the same memory; `None` if they are not all there.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.range.len() {
            return None;
        }
        let start = self.range.start + range.start;
        let end = self.range.start + range.end;
        Some(Self { all: self.all.clone(), range: start..end })
    }
}

impl<T> SharedEntries<T> {
    /// Whether somebody else holds them, too.
    pub fn is_shared(&self) -> bool {
        self.all.as_ref().is_some_and(|all| Arc::strong_count(all) > 1)
    }

    /// The entries as a vector, moved there.
    ///
    /// # Errors
    /// Somebody else holds them, too: they are given back.
    pub fn try_into_vec(self) -> Result<Vec<T>, Self> {
        let range = self.range;
        let Some(all) = self.all else {
            return Ok(Vec::new());
        };
        match Arc::try_unwrap(all) {
            Ok(mut all) => {
                all.truncate(range.end);
                if range.start > 0 {
                    all.drain(..range.start);
                }
                Ok(all)
            }
            Err(shared) => Err(Self { all: Some(shared), range }),
        }
    }
}

impl<T: Clone> SharedEntries<T> {
    /// The entries as a vector: moved if nobody else holds them, else cloned.
    pub fn into_vec(self) -> Vec<T> {
        self.try_into_vec().unwrap_or_else(|shared| shared.to_vec())
    }
}

impl<T> From<Vec<T>> for SharedEntries<T> {
    fn from(entries: Vec<T>) -> Self {
        let range = 0..entries.len();
        let all = if entries.is_empty() { None } else { Some(Arc::new(entries)) };
        Self { all, range }
    }
}

impl<T> Default for SharedEntries<T> {
    fn default() -> Self {
        Self { all: None, range: 0..0 }
    }
}

impl<T> Deref for SharedEntries<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.all.as_ref().and_then(|all| all.get(self.range.clone())).unwrap_or_default()
    }
}

impl<T: Debug> Debug for SharedEntries<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: PartialEq> PartialEq for SharedEntries<T> {
    fn eq(&self, other: &Self) -> bool {
        self.deref() == other.deref()
    }
}

#[cfg(feature = "serde")]
impl<T: serde::Serialize> serde::Serialize for SharedEntries<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(feature = "serde")]
impl<'de, T: serde::Deserialize<'de>> serde::Deserialize<'de> for SharedEntries<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::SharedEntries;

    #[test]
    fn slices_are_ranges_of_ranges() {
        let all = SharedEntries::from(vec![0, 1, 2, 3, 4]);
        let tail = all.slice(1..5).unwrap();
        assert_eq!(&*tail, [1, 2, 3, 4]);
        assert_eq!(&*tail.slice(1..3).unwrap(), [2, 3]);
        assert_eq!(tail.slice(2..5), None);
        assert_eq!(tail.slice(1..1).unwrap().len(), 0);
    }

    #[test]
    fn into_vec_moves_what_nobody_else_holds() {
        let all = SharedEntries::from(vec![0, 1, 2, 3]);
        let part = all.slice(1..3).unwrap();
        assert_eq!(part.clone().into_vec(), [1, 2]);
        let part = part.try_into_vec().expect_err("it is held");
        drop(all);
        assert_eq!(part.try_into_vec().unwrap(), [1, 2]);
    }
}
