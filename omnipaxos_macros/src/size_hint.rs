//! `Entry::size_hint`.

use crate::names::generated;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    punctuated::Punctuated, Attribute, Data, DeriveInput, Fields, Member, Meta, Path, Token,
};

/// Generates the method: the size of the value, plus the bytes that its fields own.
///
/// It returns `None` if the provided method is right: for types without fields, and for packed
/// types, whose fields cannot be referenced.
pub(crate) fn method(input: &DeriveInput, krate: &Path) -> Option<TokenStream> {
    let shapes: Vec<(TokenStream, &Fields)> = match &input.data {
        Data::Struct(data) => vec![(quote!(Self), &data.fields)],
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|variant| {
                let name = generated(&variant.ident);
                (quote!(Self::#name), &variant.fields)
            })
            .collect(),
        Data::Union(_) => Vec::new(),
    };
    if is_packed(&input.attrs) || shapes.iter().all(|(_, fields)| fields.is_empty()) {
        return None;
    }
    let arms = shapes.iter().map(|(path, fields)| arm(path, fields, krate));
    Some(quote! {
        #[inline]
        fn size_hint(&self) -> #krate::derive_support::usize {
            #krate::derive_support::size_of_val(self)
                .saturating_add(match self { #(#arms)* })
        }
    })
}

/// Generates the arm that adds up the bytes owned by the fields of a struct or variant.
fn arm(path: &TokenStream, fields: &Fields, krate: &Path) -> TokenStream {
    let members = fields.iter().enumerate().map(|(position, field)| match &field.ident {
        Some(name) => Member::Named(generated(name)),
        None => Member::from(position),
    });
    // A user's constant in scope would be matched instead of bound. These names prevent that.
    let bindings: Vec<Ident> = (0..fields.len())
        .map(|n| format_ident!("__omnipaxos_field_{n}", span = Span::mixed_site()))
        .collect();
    let owned = bindings
        .iter()
        .map(|field| quote!(#krate::derive_support::Probe(#field).__omnipaxos_owned_bytes()))
        .reduce(|sum, owned| quote!(#sum.saturating_add(#owned)))
        .unwrap_or_else(|| quote!(0));
    quote!(#path { #(#members: #bindings),* } => #owned,)
}

fn is_packed(attrs: &[Attribute]) -> bool {
    attrs.iter().filter(|attr| attr.path().is_ident("repr")).any(|attr| {
        attr.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|reprs| reprs.iter().any(|repr| repr.path().is_ident("packed")))
    })
}
