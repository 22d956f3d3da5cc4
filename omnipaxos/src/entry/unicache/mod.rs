//! UniCache: fields that repeat travel as short codes (feature `unicache`).
//!
//! In many logs the same names, addresses or commands come again and again. With UniCache the leader
//! and its followers each keep a cache of the values of such fields. A value that is in the cache
//! travels as a code of one or a few bytes; one that is not travels as it is, and enters the cache on
//! both sides. The idea is that of the paper "UniCache: Efficient Log Replication through Learning
//! Workload Patterns" (EDBT 2023).
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
//! or implement [`UniCache`] and the types of [`Entry`] by hand. Nothing else changes: the
//! log, the storage and what is read hold plain entries.
//!
//! Caches live in memory and are a function of the log since an index that the leader tells, so that
//! they need not be stored or agreed. All servers must be built with the same ones: with the same
//! feature and the same attributes.

mod codes;
pub mod lfu_cache;
mod lookup;
pub mod lru_cache;

pub use self::{lfu_cache::LFUniCache, lru_cache::LRUniCache};

use super::{bounds::Wire, Entry};
use std::{fmt::Debug, hash::Hash, marker::PhantomData, ops::Add};

/// What stands for a field in a message. Never implemented by hand.
pub trait Encoded: Clone + Debug + Wire {}
impl<T: Clone + Debug + Wire> Encoded for T {}

/// A field that may travel as a code. Never implemented by hand.
pub trait Encodable: Clone + Debug + Wire {}
impl<T: Clone + Debug + Wire> Encodable for T {}

/// A field that always travels as it is. Never implemented by hand.
pub trait NotEncodable: Clone + Debug + Wire {}
impl<T: Clone + Debug + Wire> NotEncodable for T {}

/// What the caches of this module can hold. Never implemented by hand.
pub trait DefaultEncodable: Clone + Hash + Eq + Wire {}
impl<T: Clone + Hash + Eq + Wire> DefaultEncodable for T {}

/// Codes that can be given out one after another. Never implemented by hand.
pub trait IncrementByOne: Default + Clone + num_traits::One + Add<Output = Self> {}
impl<T: Default + Clone + num_traits::One + Add<Output = T>> IncrementByOne for T {}

/// The codes of the caches of this module, as `u8`, `u16`, `u32` and `u64` are. Never implemented by
/// hand.
pub trait DefaultEncoded: IncrementByOne + DefaultEncodable {}
impl<T: IncrementByOne + DefaultEncodable> DefaultEncoded for T {}

/// A field as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum MaybeEncoded<Encodable, Encoded> {
    /// As its code in the cache.
    Encoded(Encoded),
    /// As it is.
    NotEncoded(Encodable),
}

/// The cache of an entry: a deterministic machine that entries go through in log order.
///
/// Invariant I15, which an implementation must keep: two caches through which the same entries went
/// in the same order are alike, whether an entry went through
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
    /// The entry that it is for.
    type T: Entry;

    /// An empty cache.
    fn new() -> Self;

    /// Encodes what is in the cache, and takes in what is not.
    fn try_encode(&mut self, entry: &Self::T) -> <Self::T as Entry>::EncodeResult;

    /// Decodes what [`try_encode`](UniCache::try_encode) made of an entry.
    ///
    /// # Panics
    /// May panic if no cache in this state can have made it. [`try_decode`](UniCache::try_decode) is
    /// what messages of others go through.
    fn decode(&mut self, processed: <Self::T as Entry>::EncodeResult) -> Self::T;

    /// As [`decode`](UniCache::decode); `None` if no cache in this state can have made it, which
    /// leaves the cache in any state. The provided body cannot tell, and decodes.
    fn try_decode(&mut self, processed: <Self::T as Entry>::EncodeResult) -> Option<Self::T> {
        Some(self.decode(processed))
    }

    /// Whether entries are to go through the cache at all.
    fn is_used() -> bool {
        true
    }
}

/// A cache of the values of one field, with the same contract as [`UniCache`].
pub trait FieldCache<Encodable, Encoded> {
    /// An empty cache of at most so many values.
    fn new(size: usize) -> Self;

    /// The code of the field if it is in the cache; else takes it in.
    fn try_encode(&mut self, field: &Encodable) -> MaybeEncoded<Encodable, Encoded>;

    /// The field that [`try_encode`](FieldCache::try_encode) made this of.
    ///
    /// # Panics
    /// May panic on a code that is not given out.
    fn decode(&mut self, result: MaybeEncoded<Encodable, Encoded>) -> Encodable;

    /// As [`decode`](FieldCache::decode); `None` for a code that is not given out. The provided body
    /// cannot tell, and decodes.
    fn try_decode(&mut self, result: MaybeEncoded<Encodable, Encoded>) -> Option<Encodable> {
        Some(self.decode(result))
    }
}

/// What an entry without a cache is never encoded as: there is no such value.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum NeverEncoded {}

/// The cache of entries that have none: those of `derive(Entry)`, and of
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
    /// Always: there is nothing that it could give back.
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
