//! What entries without a cache write, and what the code that `derive(UniCacheEntry)` generates calls.

/// The types of an [`Entry`](crate::storage::Entry) that is written by hand and has no cache, for
/// programs that are built with the feature `unicache`; nothing without it.
///
/// ```
/// use omnipaxos::storage::{Entry, NoSnapshot};
///
/// #[derive(Clone, Debug)]
/// struct Line(String);
///
/// impl Entry for Line {
///     type Snapshot = NoSnapshot;
///     omnipaxos::without_unicache!();
/// }
/// ```
#[cfg(feature = "unicache")]
#[macro_export]
macro_rules! without_unicache {
    () => {
        type Encoded = ();
        type Encodable = ();
        type NotEncodable = ();
        type EncodeResult = $crate::unicache::NeverEncoded;
        type UniCache = $crate::unicache::NoCache<Self>;
    };
}

/// The types of an [`Entry`](crate::storage::Entry) that is written by hand and has no cache, for
/// programs that are built with the feature `unicache`; nothing without it.
#[cfg(not(feature = "unicache"))]
#[macro_export]
macro_rules! without_unicache {
    () => {};
}

/// The struct of the caches of an entry: serialisable if messages are.
#[cfg(all(feature = "serde", feature = "unicache"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __omnipaxos_cache {
    ($alias:ident $name:literal $($item:tt)*) => {
        #[doc(hidden)]
        use $crate::derive_support::serde as $alias;

        #[derive($crate::derive_support::serde::Serialize, $crate::derive_support::serde::Deserialize)]
        #[serde(crate = $name)]
        $($item)*
    };
}

/// The struct of the caches of an entry.
#[cfg(all(not(feature = "serde"), feature = "unicache"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __omnipaxos_cache {
    ($alias:ident $name:literal $($item:tt)*) => { $($item)* };
}
