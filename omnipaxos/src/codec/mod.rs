//! How the entries of an AcceptDecide travel: as they are, or encoded with the caches of the feature
//! `unicache`.
//!
//! With the feature off there is nothing but a name around the entries, and a [`Codec`] is empty and
//! does nothing.

mod macros;
#[cfg(not(feature = "unicache"))]
mod off;
#[cfg(feature = "unicache")]
mod on;

#[cfg(not(feature = "unicache"))]
pub use self::off::CodedEntries;
#[cfg(feature = "unicache")]
pub use self::on::CodedEntries;

#[cfg(not(feature = "unicache"))]
pub(crate) use self::off::Codec;
#[cfg(feature = "unicache")]
pub(crate) use self::on::Codec;

use crate::entry::SharedEntries;

/// Entries that a leader sent, as far as a log lacks them.
#[derive(Debug)]
pub(crate) enum Decoded<T> {
    /// Entries as they were proposed.
    Entries {
        /// Index of the first.
        from_idx: u64,
        entries: SharedEntries<T>,
    },
    /// Nobody can tell what they are who has not seen all that was encoded before them.
    #[cfg_attr(not(feature = "unicache"), expect(dead_code, reason = "all can be read then"))]
    Unreadable,
}

#[cfg(all(test, feature = "unicache"))]
mod tests;
