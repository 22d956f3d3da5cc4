//! Entries are sent plain.

use super::Decoded;
use crate::{amount::Amount, entry::SharedEntries, storage::Entry};
use std::marker::PhantomData;

/// The entries of an [`AcceptDecide`](crate::messages::sequence_paxos::AcceptDecide).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub struct CodedEntries<T: Entry>(SharedEntries<T>);

impl<T: Entry> CodedEntries<T> {
    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the entries, if they are plain. Without the feature `unicache` they are.
    pub fn plain(&self) -> Option<&SharedEntries<T>> {
        Some(&self.0)
    }
}

impl<T: Entry> From<SharedEntries<T>> for CodedEntries<T> {
    fn from(entries: SharedEntries<T>) -> Self {
        Self(entries)
    }
}

impl<T: Entry> From<Vec<T>> for CodedEntries<T> {
    fn from(entries: Vec<T>) -> Self {
        SharedEntries::from(entries).into()
    }
}

/// A codec without state, which does nothing.
#[derive(Clone, Debug)]
pub(crate) struct Codec<T>(PhantomData<T>);

impl<T: Entry> Codec<T> {
    pub(crate) fn new(_most: Amount) -> Self {
        Self(PhantomData)
    }

    #[inline]
    pub(crate) fn reset(&mut self, _idx: u64) {}

    #[inline]
    pub(crate) fn encode(&mut self, _from_idx: u64, _entries: &SharedEntries<T>, _bytes: u64) {}

    #[inline]
    pub(crate) fn forget_before(&mut self, _accepted_by_all: impl FnOnce() -> Option<u64>) {}

    #[inline]
    pub(crate) fn end_of_run(&self, _from_idx: u64, end: u64) -> u64 {
        end
    }

    #[inline]
    pub(crate) fn coded(&self, _from_idx: u64, entries: SharedEntries<T>) -> CodedEntries<T> {
        CodedEntries(entries)
    }

    #[inline]
    pub(crate) fn invalidate(&mut self) {}

    #[inline]
    pub(crate) fn decode(
        &mut self,
        from_idx: u64,
        coded: CodedEntries<T>,
        _end: u64,
    ) -> Decoded<T> {
        Decoded::Entries { from_idx, entries: coded.0 }
    }
}
