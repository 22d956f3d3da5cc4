//! The form of entries in an AcceptDecide: plain, or encoded with the caches of the feature
//! `unicache`.
//!
//! With the feature off, there is only a name around the entries, and a [`Codec`] has no size and
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

/// The entries of a message that a log lacks.
#[derive(Debug)]
pub(crate) enum Decoded<T> {
    /// Entries as they were proposed.
    Entries {
        /// Index of the first entry.
        from_idx: u64,
        entries: SharedEntries<T>,
    },
    /// The follower does not know all entries encoded before them, so it cannot decode them.
    #[cfg_attr(not(feature = "unicache"), expect(dead_code, reason = "all can be read then"))]
    Unreadable,
}

#[cfg(all(test, feature = "unicache"))]
mod tests;
