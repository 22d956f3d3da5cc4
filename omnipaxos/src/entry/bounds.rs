//! What travels in messages must be serialisable, where the feature `serde` is on.

/// Serialisable when the feature `serde` is on, anything otherwise. Never implemented by hand.
#[cfg(feature = "serde")]
pub trait Wire: serde::Serialize + serde::de::DeserializeOwned {}
#[cfg(feature = "serde")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Wire for T {}

/// Serialisable when the feature `serde` is on, anything otherwise. Never implemented by hand.
#[cfg(not(feature = "serde"))]
pub trait Wire {}
#[cfg(not(feature = "serde"))]
impl<T> Wire for T {}
