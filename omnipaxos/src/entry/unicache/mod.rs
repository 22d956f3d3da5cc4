//! UniCache: fields that repeat travel as short codes (feature `unicache`).
//!
//! In many logs the same names, addresses or commands repeat. With UniCache the leader and its
//! followers each keep a cache of the values of such fields. A value in the cache travels as a code
//! of one or a few bytes. Another value travels in full, and enters the cache on both sides. The
//! idea is that of the paper "UniCache: Efficient Log Replication through Learning Workload
//! Patterns" (EDBT 2023).
//!
//! Derive it, with [`UniCacheEntry`](crate::macros::UniCacheEntry) in place of `Entry`:
//!
//! ```
//! use omnipaxos::macros::UniCacheEntry;
//!
//! #[derive(Clone, Debug, UniCacheEntry)]
//! struct Person {
//!     id: u64,
//!     #[unicache(encoding(u8), size(200), cache(lru))]
//!     first_name: String,
//!     #[unicache(encoding(u16), size(5000), cache(lfu))]
//!     job: String,
//! }
//! ```
//!
//! or implement [`UniCache`] and the types of [`Entry`] by hand. Nothing else changes: the log, the
//! storage and all reads contain plain entries.
//!
//! Caches are kept in memory. They are a function of the log since an index that the leader sends,
//! so they are neither stored nor agreed on. All servers must have the same caches: the same
//! feature and the same attributes.

mod codes;
pub mod lfu_cache;
mod lookup;
pub mod lru_cache;

pub use self::{lfu_cache::LFUniCache, lru_cache::LRUniCache};

use super::{bounds::Wire, Entry};
use std::{fmt::Debug, hash::Hash, marker::PhantomData, ops::Add};

/// The code of a field in a message. It is never implemented by hand.
pub trait Encoded: Clone + Debug + Wire {}
impl<T: Clone + Debug + Wire> Encoded for T {}

/// A field that may travel as a code. It is never implemented by hand.
pub trait Encodable: Clone + Debug + Wire {}
impl<T: Clone + Debug + Wire> Encodable for T {}

/// A field that always travels in full. It is never implemented by hand.
pub trait NotEncodable: Clone + Debug + Wire {}
impl<T: Clone + Debug + Wire> NotEncodable for T {}

/// A value that the caches of this module can hold. It is never implemented by hand.
pub trait DefaultEncodable: Clone + Hash + Eq + Wire {}
impl<T: Clone + Hash + Eq + Wire> DefaultEncodable for T {}

/// A code with a successor. It is never implemented by hand.
pub trait IncrementByOne: Default + Clone + num_traits::One + Add<Output = Self> {}
impl<T: Default + Clone + num_traits::One + Add<Output = T>> IncrementByOne for T {}

/// A code of the caches of this module: `u8`, `u16`, `u32`, `u64`. It is never implemented by hand.
pub trait DefaultEncoded: IncrementByOne + DefaultEncodable {}
impl<T: IncrementByOne + DefaultEncodable> DefaultEncoded for T {}

/// A field in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum MaybeEncoded<Encodable, Encoded> {
    /// The code of the field in the cache.
    Encoded(Encoded),
    /// The field in full.
    NotEncoded(Encodable),
}

/// The cache of an entry type: a deterministic state machine that processes entries in log order.
///
/// An implementation must keep invariant I15: two caches that processed the same entries in the
/// same order are equal. It does not matter whether an entry passed through
/// [`try_encode`](UniCache::try_encode) or, encoded, through [`decode`](UniCache::decode).
///
/// ```
/// # #[cfg(not(feature = "serde"))] fn main() {}
/// # #[cfg(feature = "serde")]
/// # fn main() {
/// use omnipaxos::{
///     storage::{Entry, NoSnapshot},
///     unicache::{FieldCache, LRUniCache, MaybeEncoded, UniCache},
/// };
///
/// #[derive(Clone, Debug, PartialEq)]
/// struct Line(String);
///
/// impl Entry for Line {
///     type Snapshot = NoSnapshot;
///     type Encoded = u8;
///     type Encodable = String;
///     type NotEncodable = ();
///     type EncodeResult = MaybeEncoded<String, u8>;
///     type UniCache = LineCache;
/// }
///
/// #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
/// struct LineCache(LRUniCache<String, u8>);
///
/// impl UniCache for LineCache {
///     type T = Line;
///
///     fn new() -> Self {
///         LineCache(LRUniCache::new(100))
///     }
///
///     fn try_encode(&mut self, entry: &Line) -> MaybeEncoded<String, u8> {
///         self.0.try_encode(&entry.0)
///     }
///
///     fn decode(&mut self, processed: MaybeEncoded<String, u8>) -> Line {
///         Line(self.0.decode(processed))
///     }
/// }
///
/// let (mut leader, mut follower) = (LineCache::new(), LineCache::new());
/// for _ in 0..2 {
///     let travels = leader.try_encode(&Line("GET /".into()));
///     assert_eq!(follower.decode(travels), Line("GET /".into()));
/// }
/// assert!(matches!(leader.try_encode(&Line("GET /".into())), MaybeEncoded::Encoded(_)));
/// # }
/// ```
pub trait UniCache: Clone + Debug {
    /// The entry type of the cache.
    type T: Entry;

    /// Creates an empty cache.
    fn new() -> Self;

    /// Encodes fields that are in the cache, and adds those that are not.
    fn try_encode(&mut self, entry: &Self::T) -> <Self::T as Entry>::EncodeResult;

    /// Decodes an entry that [`try_encode`](UniCache::try_encode) has encoded.
    ///
    /// # Panics
    /// May panic if no cache in this state can have encoded it. Messages of other servers are
    /// decoded with [`try_decode`](UniCache::try_decode).
    fn decode(&mut self, processed: <Self::T as Entry>::EncodeResult) -> Self::T;

    /// Decodes an entry; `None` if no cache in this state can have encoded it.
    ///
    /// After `None` the cache may be in any state. The provided body calls
    /// [`decode`](UniCache::decode), without a check.
    fn try_decode(&mut self, processed: <Self::T as Entry>::EncodeResult) -> Option<Self::T> {
        Some(self.decode(processed))
    }

    /// Returns whether entries pass through the cache at all.
    fn is_used() -> bool {
        true
    }
}

/// A cache of the values of one field, with the same contract as [`UniCache`].
pub trait FieldCache<Encodable, Encoded> {
    /// Creates an empty cache of at most `size` values.
    fn new(size: usize) -> Self;

    /// Returns the code of the field if it is in the cache; otherwise adds the field.
    fn try_encode(&mut self, field: &Encodable) -> MaybeEncoded<Encodable, Encoded>;

    /// Returns the field that [`try_encode`](FieldCache::try_encode) has encoded.
    ///
    /// # Panics
    /// May panic on a code that is not assigned.
    fn decode(&mut self, result: MaybeEncoded<Encodable, Encoded>) -> Encodable;

    /// Returns the field; `None` for a code that is not assigned.
    ///
    /// The provided body calls [`decode`](FieldCache::decode), without a check.
    fn try_decode(&mut self, result: MaybeEncoded<Encodable, Encoded>) -> Option<Encodable> {
        Some(self.decode(result))
    }
}

/// The encoding of an entry without a cache: a type without values.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum NeverEncoded {}

/// The cache of entries without a cache: those of `derive(Entry)`, and of
/// [`without_unicache!`](crate::without_unicache).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound(serialize = "", deserialize = "")))]
pub struct NoCache<T>(PhantomData<T>);

impl<T: Entry<EncodeResult = NeverEncoded>> UniCache for NoCache<T> {
    type T = T;

    fn new() -> Self {
        NoCache(PhantomData)
    }

    /// # Panics
    /// Always, since there is no value to return.
    fn try_encode(&mut self, _entry: &T) -> NeverEncoded {
        panic!("an entry without a cache was to be encoded")
    }

    fn decode(&mut self, processed: NeverEncoded) -> T {
        match processed {}
    }

    fn is_used() -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
