//! Macros for entries without a cache, and for the code that `derive(UniCacheEntry)` generates.

/// Defines the types of a handwritten [`Entry`](crate::storage::Entry) without a cache. It is for
/// programs built with the feature `unicache`; without the feature it expands to nothing.
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

/// Defines the types of a handwritten [`Entry`](crate::storage::Entry) without a cache. It is for
/// programs built with the feature `unicache`; without the feature it expands to nothing.
#[cfg(not(feature = "unicache"))]
#[macro_export]
macro_rules! without_unicache {
    () => {};
}

/// Defines the struct of the caches of an entry. It is serialisable if messages are.
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

/// Defines the struct of the caches of an entry.
#[cfg(all(not(feature = "serde"), feature = "unicache"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __omnipaxos_cache {
    ($alias:ident $name:literal $($item:tt)*) => { $($item)* };
}
