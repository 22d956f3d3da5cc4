//! What the code that the derive macros generate calls. Not for use by hand.

use super::Owned;
use std::ops::Deref;

// Where the user has shadowed them, or is of edition 2015, there is no other way to name them.
pub use std::{mem::size_of_val, primitive::usize};

/// A field, asked what it owns without knowing whether its type is [`Owned`].
///
/// Method lookup answers: it takes the method of `Probe` where `T` is known to be `Owned`, and
/// elsewhere, through `Deref`, that of [`NotOwned`]. That needs neither a bound on `T` nor an
/// import where the code is generated.
pub struct Probe<'a, T: ?Sized>(pub &'a T);

impl<T: Owned + ?Sized> Probe<'_, T> {
    /// What the field owns. Named so that no method of a trait in scope is taken for it.
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
    /// Nothing.
    #[inline]
    pub fn __omnipaxos_owned_bytes(&self) -> usize {
        0
    }
}

#[cfg(all(feature = "serde", feature = "unicache"))]
pub use serde;
