//! Derive macros for `omnipaxos`, re-exported there as `omnipaxos::macros`.

use proc_macro::TokenStream;
use quote::quote;
use syn::{parse_macro_input, DeriveInput};

/// Implements `omnipaxos::storage::Entry`.
#[proc_macro_derive(Entry, attributes(snapshot))]
pub fn derive_entry(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let name = &input.ident;
    quote! {
        impl ::omnipaxos::storage::Entry for #name {
            type Snapshot = ::omnipaxos::storage::NoSnapshot;
        }
    }
    .into()
}
