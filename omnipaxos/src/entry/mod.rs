//! Entries of the log, their snapshots, and how entries are shared and encoded.

pub(crate) mod bounds;
#[doc(hidden)]
pub mod derive_support;
pub(crate) mod encoding;
mod owned;
mod shared_entries;
mod snapshot;
#[cfg(feature = "unicache")]
pub mod unicache;

pub use self::{
    encoding::SnapshotDigest,
    owned::Owned,
    shared_entries::{LockedEntries, SharedEntries},
    snapshot::{NoSnapshot, Snapshot, SnapshotType},
};

use self::bounds::Wire;
#[cfg(feature = "unicache")]
use self::unicache::UniCache;
use std::fmt::Debug;

/// An entry of the replicated log.
///
/// Derive it, or implement it to name a [`Snapshot`]. Two copies of an entry must have the same
/// `Debug` text: if the network delivers a forwarded proposal twice, the leader recognises the copy
/// by that text.
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
    /// The snapshot of many entries; [`NoSnapshot`] if there is none. With the feature `serde` it
    /// must be serialisable.
    type Snapshot: Snapshot<Self> + Wire;

    /// The codes of fields. The library does not use this type and the next two.
    #[cfg(feature = "unicache")]
    type Encoded: unicache::Encoded;

    /// The fields that may travel as codes.
    #[cfg(feature = "unicache")]
    type Encodable: unicache::Encodable;

    /// The fields that always travel in full.
    #[cfg(feature = "unicache")]
    type NotEncodable: unicache::NotEncodable;

    /// The entry in a message.
    #[cfg(feature = "unicache")]
    type EncodeResult: Clone + Debug + Wire;

    /// The cache that encodes the entry. An entry without a cache uses
    /// [`without_unicache!`](crate::without_unicache) in place of these types.
    #[cfg(feature = "unicache")]
    type UniCache: UniCache<T = Self> + Wire;

    /// Returns about how many bytes this entry takes in memory or in a message.
    ///
    /// The limits of [`ServerConfig`](crate::ServerConfig) count these bytes. The default is the
    /// size of the type, without the memory that it points to. `derive(Entry)` adds the memory that
    /// fields of standard types own, according to [`Owned`]. An estimate is enough, but it should
    /// be fast, and the same each time.
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
