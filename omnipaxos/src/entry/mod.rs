//! What the log holds: entries, their snapshots, and how entries are shared and encoded.

pub(crate) mod bounds;
#[doc(hidden)]
pub mod derive_support;
mod owned;
mod shared_entries;
mod snapshot;
#[cfg(feature = "unicache")]
pub mod unicache;

pub use self::{
    owned::Owned,
    shared_entries::{LockedEntries, SharedEntries},
    snapshot::{NoSnapshot, Snapshot, SnapshotType},
};

use self::bounds::Wire;
#[cfg(feature = "unicache")]
use self::unicache::UniCache;
use std::fmt::Debug;

/// What the replicated log holds.
///
/// Derive it, or implement it to name a [`Snapshot`]. Two copies of an entry must have the same
/// `Debug` text: a proposal that a follower forwards is known again, when the network delivers it
/// twice, by that.
///
/// ```
/// use omnipaxos::macros::Entry;
///
/// #[derive(Clone, Debug, Entry)]
/// struct KeyValue {
///     key: String,
///     value: u64,
/// }
/// ```
pub trait Entry: Clone + Debug {
    /// The type that sums up many entries; [`NoSnapshot`] where there is none. With the feature
    /// `serde` it must be serialisable.
    type Snapshot: Snapshot<Self> + Wire;

    /// The codes that fields travel as: the library does not look at this one and the next two.
    #[cfg(feature = "unicache")]
    type Encoded: unicache::Encoded;

    /// The fields that may travel as codes.
    #[cfg(feature = "unicache")]
    type Encodable: unicache::Encodable;

    /// The fields that always travel as they are.
    #[cfg(feature = "unicache")]
    type NotEncodable: unicache::NotEncodable;

    /// The entry as it travels.
    #[cfg(feature = "unicache")]
    type EncodeResult: Clone + Debug + Wire;

    /// The cache that encodes it. An entry without one writes
    /// [`without_unicache!`](crate::without_unicache) in place of these types.
    #[cfg(feature = "unicache")]
    type UniCache: UniCache<T = Self> + Wire;

    /// About how many bytes this entry takes in memory or in a message: what the limits of
    /// [`ServerConfig`](crate::ServerConfig) count.
    ///
    /// The default is the size of the type without what it points to. `derive(Entry)` adds what
    /// fields of the standard types own, as [`Owned`] tells. An estimate will do, but it should be
    /// quick, and the same each time.
    ///
    /// ```
    /// use omnipaxos::{macros::Entry, storage::Entry};
    ///
    /// #[derive(Clone, Debug, Entry)]
    /// struct KeyValue {
    ///     key: String,
    ///     value: Vec<u8>,
    /// }
    ///
    /// let entry = KeyValue { key: "abc".into(), value: vec![0; 100] };
    /// assert_eq!(entry.size_hint(), size_of::<KeyValue>() + 3 + 100);
    /// ```
    fn size_hint(&self) -> usize {
        size_of_val(self)
    }
}
