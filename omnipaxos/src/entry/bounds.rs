//! The bounds on types in messages: serialisable with the feature `serde`.

/// A type that is serialisable if the feature `serde` is on. It is never implemented by hand.
#[cfg(feature = "serde")]
pub trait Wire: serde::Serialize + serde::de::DeserializeOwned {}
#[cfg(feature = "serde")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Wire for T {}

/// A type that is serialisable if the feature `serde` is on. It is never implemented by hand.
#[cfg(not(feature = "serde"))]
pub trait Wire {}
#[cfg(not(feature = "serde"))]
impl<T> Wire for T {}
