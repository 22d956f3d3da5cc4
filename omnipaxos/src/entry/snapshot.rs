//! Snapshots, which stand for many entries.

use super::Entry;
use std::fmt::Debug;

/// A value that stands for many entries, as their sum.
///
/// ```
/// use omnipaxos::storage::{Entry, Snapshot};
/// use std::collections::BTreeMap;
///
/// #[derive(Clone, Debug)]
/// struct KeyValue {
///     key: String,
///     value: u64,
/// }
///
/// impl Entry for KeyValue {
///     type Snapshot = State;
///     # omnipaxos::without_unicache!();
/// }
///
/// #[derive(Clone, Debug)]
/// # #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
/// struct State(BTreeMap<String, u64>);
///
/// impl Snapshot<KeyValue> for State {
///     fn create(entries: &[KeyValue]) -> Self {
///         State(entries.iter().map(|e| (e.key.clone(), e.value)).collect())
///     }
///
///     fn merge(&mut self, delta: Self) {
///         self.0.extend(delta.0);
///     }
///
///     fn use_snapshots() -> bool {
///         true
///     }
/// }
/// ```
pub trait Snapshot<T: Entry>: Clone + Debug {
    /// Creates a snapshot of `entries`, in log order. They may begin anywhere in the log.
    fn create(entries: &[T]) -> Self;

    /// Adds `delta`, the snapshot of the entries that directly follow those of `self`. The library
    /// merges only into a snapshot that begins where the log begins.
    fn merge(&mut self, delta: Self);

    /// Returns whether snapshots may replace entries. Otherwise a log is only trimmed.
    fn use_snapshots() -> bool;

    /// Returns whether a snapshot can be made of entries. The provided body returns true.
    ///
    /// Return false if only the application can make a snapshot, because the effect of an entry
    /// depends on the state before it. The application passes the snapshot to
    /// [`compact_with`](crate::OmniPaxos::compact_with). Then the library never calls
    /// [`create`](Self::create) and [`merge`](Self::merge). All servers must return the same. As a
    /// consequence:
    ///
    /// - [`snapshot`](crate::OmniPaxos::snapshot) and [`compact`](crate::OmniPaxos::compact) are
    ///   refused, and so is a [`trim`](crate::OmniPaxos::trim) of a log with a snapshot. A request of
    ///   another server to do so changes nothing.
    /// - No server sends or requests delta snapshots, whatever
    ///   [`takes_delta_snapshots`](crate::ServerConfig::takes_delta_snapshots) is set to.
    fn can_create() -> bool {
        true
    }
}

/// The snapshot type of entries without snapshots.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NoSnapshot;

impl<T: Entry> Snapshot<T> for NoSnapshot {
    fn create(_entries: &[T]) -> Self {
        NoSnapshot
    }

    fn merge(&mut self, _delta: Self) {}

    fn use_snapshots() -> bool {
        false
    }
}

/// A snapshot in a message between servers.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound(serialize = "", deserialize = "")))]
pub enum SnapshotType<T: Entry> {
    /// A snapshot of the log from its beginning.
    Complete(T::Snapshot),
    /// A snapshot of the log from an index in the same message.
    Delta(T::Snapshot),
}
