//! `derive(Entry)`.

use crate::{crate_path, names::generated, size_hint};
use proc_macro2::TokenStream;
use quote::{quote, ToTokens};
use syn::{
    parse_quote, punctuated::Punctuated, Attribute, Data, DeriveInput, Error, Fields, Generics,
    Meta, Path, Result, Token, Type,
};

/// The legal form, for the error of a wrong attribute.
const LEGAL: &str = "write `#[snapshot(Type)]` with the one type that implements \
                     `omnipaxos::storage::Snapshot` for this entry, or leave the attribute out";

/// Generates the implementation.
pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    refuse_misplaced(&input.data)?;
    let krate = crate_path::of(&input.attrs)?;
    let snapshot = snapshot_type(&input.attrs, &krate)?;
    let size_hint = size_hint::method(input, &krate);
    let name = generated(&input.ident);
    let generics = with_supertraits(&input.generics);
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics #krate::storage::Entry for #name #type_generics #where_clause {
            type Snapshot = #snapshot;

            #krate::without_unicache!();

            #size_hint
        }
    })
}

/// Adds `Self: Clone + Debug` if that depends on a type parameter. Otherwise it either holds or
/// does not, and the compiler's error for the supertraits is better than that for a bound.
fn with_supertraits(generics: &Generics) -> Generics {
    let mut generics = generics.clone();
    if generics.type_params().next().is_some() {
        generics
            .make_where_clause()
            .predicates
            .push(parse_quote!(Self: ::core::clone::Clone + ::core::fmt::Debug));
    }
    generics
}

/// Returns the type in `#[snapshot(Type)]`, or `NoSnapshot`.
pub(crate) fn snapshot_type(attrs: &[Attribute], krate: &Path) -> Result<TokenStream> {
    let mut all = attrs.iter().filter(|attr| is_snapshot(attr));
    let Some(first) = all.next() else {
        return Ok(quote!(#krate::storage::NoSnapshot));
    };
    let named = named_type(first);
    match all.next() {
        None => named.map(ToTokens::into_token_stream),
        Some(second) => {
            let twice = Error::new_spanned(second, format!("a second `#[snapshot]`; {LEGAL}"));
            Err(match named {
                Ok(_) => twice,
                Err(mut wrong) => {
                    wrong.combine(twice);
                    wrong
                }
            })
        }
    }
}

fn named_type(attr: &Attribute) -> Result<Type> {
    let list = match &attr.meta {
        Meta::List(list) => list,
        Meta::Path(_) => {
            return Err(Error::new_spanned(attr, format!("no type is named; {LEGAL}")));
        }
        Meta::NameValue(_) => {
            return Err(Error::new_spanned(attr, format!("the type goes in brackets; {LEGAL}")));
        }
    };
    let types = list
        .parse_args_with(Punctuated::<Type, Token![,]>::parse_terminated)
        .map_err(|cause| Error::new(cause.span(), format!("not a type ({cause}); {LEGAL}")))?;
    let number = types.len();
    let mut types = types.into_iter();
    match (types.next(), types.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Error::new_spanned(attr, format!("no type is named; {LEGAL}"))),
        (Some(_), Some(_)) => {
            Err(Error::new_spanned(&list.tokens, format!("{number} types are named; {LEGAL}")))
        }
    }
}

/// Refuses a misplaced attribute: a helper attribute on a field would be ignored, and the entry
/// would have no snapshot without any error.
pub(crate) fn refuse_misplaced(data: &Data) -> Result<()> {
    match data {
        Data::Struct(data) => refuse_on_fields(&data.fields),
        Data::Enum(data) => data.variants.iter().try_for_each(|variant| {
            refuse_on(&variant.attrs)?;
            refuse_on_fields(&variant.fields)
        }),
        Data::Union(data) => Err(Error::new(
            data.union_token.span,
            "`Entry` can be derived for structs and enums; a union can not be `Debug`",
        )),
    }
}

fn refuse_on_fields(fields: &Fields) -> Result<()> {
    fields.iter().try_for_each(|field| refuse_on(&field.attrs))
}

fn refuse_on(attrs: &[Attribute]) -> Result<()> {
    match attrs.iter().find(|attr| is_snapshot(attr) || attr.path().is_ident("entry")) {
        None => Ok(()),
        Some(misplaced) if misplaced.path().is_ident("entry") => Err(Error::new_spanned(
            misplaced,
            "`#[entry(crate = path)]` belongs on the struct or enum, next to the derive",
        )),
        Some(misplaced) => Err(Error::new_spanned(
            misplaced,
            "`#[snapshot(Type)]` belongs on the struct or enum, next to `derive(Entry)`",
        )),
    }
}

fn is_snapshot(attr: &Attribute) -> bool {
    attr.path().is_ident("snapshot")
}
