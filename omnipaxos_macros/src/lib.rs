//! Derive macros for `omnipaxos`, re-exported there as `omnipaxos::macros`.
//!
//! Generated code names everything by its absolute path, so it compiles whatever the module that
//! uses it has imported, renamed or shadowed.
#![forbid(unsafe_code)]

mod entry;

use proc_macro::TokenStream;
use syn::{parse_macro_input, DeriveInput};

/// Implements `omnipaxos::storage::Entry`.
///
/// The type must be `Clone` and `Debug`. Structs and enums may be derived for, generic ones too;
/// for unions there is no sensible `Debug`, so they are refused.
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
/// # Generic types
/// Bounds and `where` clauses of the type are kept. `Wrap<T>` is an entry for each `T` for which
/// it is `Clone` and `Debug`; nothing is asked of `T` itself. If the named snapshot type depends on
/// a parameter, write the bounds that its `Snapshot` implementation needs on the type.
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
#[proc_macro_derive(Entry, attributes(snapshot))]
pub fn derive_entry(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    entry::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
