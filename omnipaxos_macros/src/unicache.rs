//! `derive(UniCacheEntry)`.

mod attribute;

use self::attribute::Cached;
use crate::{crate_path, entry, names::generated, size_hint};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Data, DataStruct, DeriveInput, Error, Field, LitStr, Member, Path, Result, Type};

/// The largest number of fields: larger tuples are not `Debug`.
const MOST_FIELDS: usize = 12;

/// Generates the implementation, and the struct of the caches.
pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    if cfg!(not(feature = "unicache")) {
        return Err(Error::new_spanned(
            &input.ident,
            "`UniCacheEntry` needs the feature `unicache` of `omnipaxos`: turn it on in Cargo.toml, \
             or derive `Entry`",
        ));
    }
    let data = the_struct(input)?;
    entry::refuse_misplaced(&input.data)?;
    let krate = &crate_path::of(&input.attrs)?;
    let snapshot = entry::snapshot_type(&input.attrs, krate)?;
    let size_hint = size_hint::method(input, krate);
    let fields: Vec<EntryField<'_>> = data
        .fields
        .iter()
        .enumerate()
        .map(|field| EntryField::of(field, krate))
        .collect::<Result<_>>()?;
    let name = generated(&input.ident);
    let cache = format_ident!("{}Cache", input.ident);
    let codes = fields.iter().filter_map(|field| field.cached.as_ref().map(Cached::code));
    let encodable = fields.iter().filter(|field| field.cached.is_some()).map(|field| field.ty);
    let not_encodable = fields.iter().filter(|field| field.cached.is_none()).map(|field| field.ty);
    let travels = fields.iter().map(EntryField::travels);
    let definition = cache_struct(input, &cache, &fields, krate);
    let implementation = cache_impl(&name, &cache, &fields, krate);
    Ok(quote! {
        #[automatically_derived]
        impl #krate::storage::Entry for #name {
            type Snapshot = #snapshot;
            type Encoded = (#(#codes,)*);
            type Encodable = (#(#encodable,)*);
            type NotEncodable = (#(#not_encodable,)*);
            type EncodeResult = (#(#travels,)*);
            type UniCache = #cache;

            #size_hint
        }

        #definition

        #implementation
    })
}

/// Returns the struct in the input, if the derive supports it.
fn the_struct(input: &DeriveInput) -> Result<&DataStruct> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "`UniCacheEntry` can be derived for structs; for an enum derive `Entry`, or implement \
             `omnipaxos::storage::Entry` and `omnipaxos::unicache::UniCache`",
        ));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "`UniCacheEntry` cannot be derived for generic types; implement \
             `omnipaxos::storage::Entry` and `omnipaxos::unicache::UniCache`",
        ));
    }
    if let Some(misplaced) = input.attrs.iter().find(|attr| attr.path().is_ident("unicache")) {
        return Err(Error::new_spanned(misplaced, "`#[unicache]` belongs on a field"));
    }
    if data.fields.len() > MOST_FIELDS {
        return Err(Error::new_spanned(
            &input.ident,
            format!(
                "`UniCacheEntry` can be derived for at most {MOST_FIELDS} fields, these are {}; put \
                 those without a cache into a struct of their own",
                data.fields.len()
            ),
        ));
    }
    Ok(data)
}

/// A field of the entry.
struct EntryField<'a> {
    /// Its name in the struct of the entry.
    member: Member,
    /// The name of the variable to which it is bound.
    binding: Ident,
    ty: &'a Type,
    /// The path of `omnipaxos`.
    krate: &'a Path,
    cached: Option<Cached>,
}

impl<'a> EntryField<'a> {
    fn of((position, field): (usize, &'a Field), krate: &'a Path) -> Result<Self> {
        Ok(Self {
            member: match &field.ident {
                Some(name) => Member::Named(generated(name)),
                None => Member::from(position),
            },
            binding: format_ident!("__omnipaxos_field_{position}", span = Span::mixed_site()),
            ty: &field.ty,
            krate,
            cached: Cached::of(field)?,
        })
    }

    /// Returns the type of the field in a message.
    fn travels(&self) -> TokenStream {
        let (ty, krate) = (self.ty, self.krate);
        match &self.cached {
            Some(cached) => {
                let code = cached.code();
                quote!(#krate::unicache::MaybeEncoded<#ty, #code>)
            }
            None => quote!(#ty),
        }
    }

    /// Returns the name of its cache in the struct of the caches.
    fn cache_name(&self) -> Ident {
        match &self.member {
            Member::Named(name) => name.clone(),
            Member::Unnamed(index) => format_ident!("field_{}", index.index),
        }
    }

    /// Returns the path of its cache as a `FieldCache`.
    fn as_field_cache(&self, cached: &Cached) -> TokenStream {
        let (ty, code, krate) = (self.ty, cached.code(), self.krate);
        let cache = cached.cache(krate);
        quote!(<#cache<#ty, #code> as #krate::unicache::FieldCache<#ty, #code>>)
    }
}

/// Generates the struct of the caches: one for each annotated field.
fn cache_struct(
    input: &DeriveInput,
    cache: &Ident,
    fields: &[EntryField<'_>],
    krate: &Path,
) -> TokenStream {
    let visibility = &input.vis;
    let doc = format!("The caches of the fields of a `{}`.", input.ident);
    let caches = fields.iter().filter_map(|field| {
        let cached = field.cached.as_ref()?;
        let (name, ty, code, of) =
            (field.cache_name(), field.ty, cached.code(), cached.cache(krate));
        Some(quote!(#name: #of<#ty, #code>))
    });
    // Serde takes a path as text, which cannot contain `$crate`.
    let serde = format_ident!("__omnipaxos_serde_of_{cache}", span = cache.span());
    let serde_name = LitStr::new(&serde.to_string(), serde.span());
    quote! {
        #krate::__omnipaxos_cache! {
            #serde #serde_name
            #[doc = #doc]
            #[derive(::core::clone::Clone, ::core::fmt::Debug)]
            #visibility struct #cache {
                #(#caches,)*
            }
        }
    }
}

fn cache_impl(name: &Ident, cache: &Ident, fields: &[EntryField<'_>], krate: &Path) -> TokenStream {
    let new = fields.iter().filter_map(|field| {
        let cached = field.cached.as_ref()?;
        let (name, of, size) = (field.cache_name(), field.as_field_cache(cached), cached.size());
        Some(quote!(#name: #of::new(#size)))
    });
    let encoded = fields.iter().map(|field| {
        let member = &field.member;
        match &field.cached {
            Some(cached) => {
                let (name, of) = (field.cache_name(), field.as_field_cache(cached));
                quote!(#of::try_encode(&mut self.#name, &__omnipaxos_entry.#member))
            }
            None => quote!(::core::clone::Clone::clone(&__omnipaxos_entry.#member)),
        }
    });
    // Clippy takes `()` at the end of a function for an accident.
    let encoded = (!fields.is_empty()).then(|| quote!((#(#encoded,)*)));
    let bindings: Vec<_> = fields.iter().map(|field| &field.binding).collect();
    let decoded = fields.iter().map(|field| field.decoded(&quote!(decode), &quote!()));
    let tried = fields.iter().map(|field| field.decoded(&quote!(try_decode), &quote!(?)));
    let travels = quote!(<#name as #krate::storage::Entry>::EncodeResult);
    // A user's constant in scope would be matched instead of bound. These names prevent that.
    quote! {
        #[automatically_derived]
        impl #krate::unicache::UniCache for #cache {
            type T = #name;

            fn new() -> Self {
                Self { #(#new,)* }
            }

            fn try_encode(&mut self, __omnipaxos_entry: &#name) -> #travels {
                #encoded
            }

            fn decode(&mut self, __omnipaxos_processed: #travels) -> #name {
                let (#(#bindings,)*) = __omnipaxos_processed;
                #name { #(#decoded,)* }
            }

            fn try_decode(
                &mut self,
                __omnipaxos_processed: #travels,
            ) -> ::core::option::Option<#name> {
                let (#(#bindings,)*) = __omnipaxos_processed;
                ::core::option::Option::Some(#name { #(#tried,)* })
            }
        }
    }
}

impl EntryField<'_> {
    /// Generates the field with its decoded value.
    fn decoded(&self, method: &TokenStream, after: &TokenStream) -> TokenStream {
        let (member, binding) = (&self.member, &self.binding);
        match &self.cached {
            Some(cached) => {
                let (name, of) = (self.cache_name(), self.as_field_cache(cached));
                quote!(#member: #of::#method(&mut self.#name, #binding)#after)
            }
            None => quote!(#member: #binding),
        }
    }
}
