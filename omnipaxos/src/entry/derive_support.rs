//! Functions for the code that the derive macros generate. Not for use by hand.

use super::Owned;
use std::ops::Deref;

// If the user has shadowed these names, or uses edition 2015, no other path reaches them.
pub use std::{mem::size_of_val, primitive::usize};

/// A field whose owned bytes are counted, whether or not its type is [`Owned`].
///
/// Method lookup decides. If `T` is known to be `Owned`, it finds the method of `Probe`. Otherwise
/// it finds, through `Deref`, the method of [`NotOwned`]. That needs neither a bound on `T` nor an
/// import where the code is generated.
pub struct Probe<'a, T: ?Sized>(pub &'a T);

impl<T: Owned + ?Sized> Probe<'_, T> {
    /// Returns the bytes that the field owns. The name avoids the methods of traits in scope.
    #[inline]
    pub fn __omnipaxos_owned_bytes(&self) -> usize {
        self.0.owned_bytes()
    }
}

impl<T: ?Sized> Deref for Probe<'_, T> {
    type Target = NotOwned;

    #[inline]
    fn deref(&self) -> &NotOwned {
        &NotOwned
    }
}

/// A field that is not known to own anything.
pub struct NotOwned;

impl NotOwned {
    /// Returns 0.
    #[inline]
    pub fn __omnipaxos_owned_bytes(&self) -> usize {
        0
    }
}

#[cfg(all(feature = "serde", feature = "unicache"))]
pub use serde;
