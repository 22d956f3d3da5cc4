//! Derive macros for `omnipaxos`, re-exported there as `omnipaxos::macros`.
//!
//! Generated code uses absolute paths. So it compiles whatever names the module that uses it has
//! imported, renamed or shadowed.
#![forbid(unsafe_code)]

mod crate_path;
mod entry;
mod names;
mod size_hint;
mod unicache;

use proc_macro::TokenStream;
use syn::{parse_macro_input, DeriveInput};

/// Implements `omnipaxos::storage::Entry`: the type of snapshots, and `size_hint`.
///
/// The type must be `Clone` and `Debug`. It may be a struct or an enum, also a generic one. The
/// macro refuses a union, which has no useful `Debug`.
///
/// ```
/// use omnipaxos::macros::Entry;
///
/// #[derive(Clone, Debug, Entry)]
/// struct KeyValue {
///     key: String,
///     value: u64,
/// }
/// ```
///
/// # Size
/// `size_hint` is generated. It is the size of the value, plus the bytes that its fields own, if
/// their types implement `omnipaxos::storage::Owned`, as `String` and `Vec<u8>` do. A field of
/// another type counts with its own size only. The same holds if its type depends on a parameter
/// without the bound `Owned`. For packed types `size_hint` adds nothing.
///
/// ```
/// use omnipaxos::{macros::Entry, storage::Entry};
/// use std::path::PathBuf;
///
/// #[derive(Clone, Debug, Entry)]
/// enum Command {
///     Put { key: String, value: Vec<u8> },
///     Import(PathBuf),
///     Clear,
/// }
///
/// let size = size_of::<Command>();
/// assert_eq!(Command::Put { key: "abc".into(), value: vec![0; 100] }.size_hint(), size + 103);
/// assert_eq!(Command::Import("/var/lib".into()).size_hint(), size); // a path is not `Owned`
/// assert_eq!(Command::Clear.size_hint(), size);
/// ```
///
/// To count in another way, implement `Owned` for the type of the field, or `Entry` by hand.
///
/// # Snapshots
/// Entries have no snapshot unless `#[snapshot(Type)]` names one:
///
/// ```
/// use omnipaxos::{macros::Entry, storage::Snapshot};
/// use std::collections::BTreeMap;
///
/// #[derive(Clone, Debug, Entry)]
/// #[snapshot(State)]
/// struct KeyValue {
///     key: String,
///     value: u64,
/// }
///
/// #[derive(Clone, Debug)]
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// struct State(BTreeMap<String, u64>);
///
/// impl Snapshot<KeyValue> for State {
///     fn create(entries: &[KeyValue]) -> Self {
///         State(entries.iter().map(|e| (e.key.clone(), e.value)).collect())
///     }
///
///     fn merge(&mut self, delta: Self) {
///         self.0.extend(delta.0);
///     }
///
///     fn use_snapshots() -> bool {
///         true
///     }
/// }
/// ```
///
/// # A crate of another name
/// If `omnipaxos` has another name, or another crate re-exports it, name its path with
/// `#[entry(crate = path)]`:
///
/// ```
/// mod framework {
///     pub use omnipaxos;
/// }
///
/// #[derive(Clone, Debug, framework::omnipaxos::macros::Entry)]
/// #[entry(crate = framework::omnipaxos)]
/// struct Number(u64);
/// ```
///
/// # Generic types
/// Bounds and `where` clauses of the type are kept. `Wrap<T>` is an entry for each `T` for which it
/// is `Clone` and `Debug`; `T` itself needs no bound. If the snapshot type depends on a parameter,
/// write the bounds that its `Snapshot` implementation needs on the type.
///
/// ```
/// use omnipaxos::{macros::Entry, storage};
/// use std::sync::Arc;
///
/// #[derive(Clone, Debug, Entry)]
/// struct Wrap<T>(Arc<T>);
///
/// fn is_entry<T: storage::Entry>(_: &T) {}
/// is_entry(&Wrap(Arc::new(1_u64)));
/// ```
#[proc_macro_derive(Entry, attributes(entry, snapshot))]
pub fn derive_entry(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    entry::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Implements `omnipaxos::storage::Entry` with a UniCache: annotated fields may travel as short
/// codes.
///
/// It needs the feature `unicache`, and replaces `derive(Entry)`. The attributes
/// `#[snapshot(Type)]` and `#[entry(crate = path)]` have the same meaning.
///
/// Annotate fields whose values repeat with `#[unicache(encoding(u8), size(255), cache(lru))]`.
/// Each part may be omitted; the values shown are the defaults.
///
/// - `encoding(u8|u16|u32|u64)`: the type of the codes.
/// - `size(N)`: the largest number of values in the cache, from 1 to the number of codes less one.
/// - `cache(lru|lfu)`: the value that a full cache evicts: the least recently used, or the least
///   frequently used.
///
/// The type of an annotated field must be `Clone`, `Debug`, `Hash` and `Eq`, and serialisable with
/// the feature `serde` of `omnipaxos`. All other fields must be `Clone` and `Debug`, and with that
/// feature serialisable.
///
/// For a struct `Name`, a struct `NameCache` is generated. It contains one cache per annotated
/// field, and is the `omnipaxos::unicache::UniCache` of the entry.
///
/// ```ignore
/// use omnipaxos::macros::UniCacheEntry;
///
/// #[derive(Clone, Debug, UniCacheEntry)]
/// struct Visit {
///     at: u64,
///     #[unicache(encoding(u16), size(10000), cache(lfu))]
///     page: String,
///     #[unicache]
///     browser: String,
/// }
/// ```
#[proc_macro_derive(UniCacheEntry, attributes(entry, unicache, snapshot))]
pub fn derive_unicache_entry(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    unicache::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
