//! `#[unicache(encoding(u8), size(255), cache(lru))]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, ToTokens};
use syn::{meta::ParseNestedMeta, Error, Field, Ident, LitInt, Meta, Path, Result};

/// The legal form, for the error of a wrong attribute.
const LEGAL: &str =
    "write `#[unicache(encoding(u8|u16|u32|u64), size(N), cache(lru|lfu))]`; each part \
                     may be left out";

/// The types of codes, with their sizes in bits.
const CODES: [(&str, u32); 4] = [("u8", 8), ("u16", 16), ("u32", 32), ("u64", 64)];

/// The types of caches.
const CACHES: [(&str, &str); 2] = [("lru", "LRUniCache"), ("lfu", "LFUniCache")];

const DEFAULT_SIZE: usize = 255;

/// The cache of a field.
pub(super) struct Cached {
    code: &'static str,
    size: usize,
    cache: &'static str,
}

impl Cached {
    /// Returns the settings in the attribute of the field; `None` if it has none.
    pub(super) fn of(field: &Field) -> Result<Option<Self>> {
        let mut attrs = field.attrs.iter().filter(|attr| attr.path().is_ident("unicache"));
        let Some(attr) = attrs.next() else {
            return Ok(None);
        };
        if let Some(second) = attrs.next() {
            return Err(Error::new_spanned(second, format!("a second `#[unicache]`; {LEGAL}")));
        }
        let mut parts = Parts::default();
        match &attr.meta {
            Meta::Path(_) => {}
            Meta::List(_) => attr.parse_nested_meta(|part| parts.take(&part))?,
            Meta::NameValue(_) => {
                return Err(Error::new_spanned(attr, format!("the parts go in brackets; {LEGAL}")));
            }
        }
        parts.finish().map(Some)
    }

    /// Returns the type of the codes.
    pub(super) fn code(&self) -> TokenStream {
        let code = format_ident!("{}", self.code);
        quote!(::core::primitive::#code)
    }

    /// Returns the type of the cache, without its parameters.
    pub(super) fn cache(&self, krate: &Path) -> TokenStream {
        let cache = format_ident!("{}", self.cache);
        quote!(#krate::unicache::#cache)
    }

    /// Returns the largest number of values in the cache.
    pub(super) fn size(&self) -> TokenStream {
        self.size.to_token_stream()
    }
}

/// The parts of the attribute that are present.
#[derive(Default)]
struct Parts {
    encoding: Option<(&'static str, u32)>,
    size: Option<(LitInt, usize)>,
    cache: Option<&'static str>,
}

impl Parts {
    fn take(&mut self, part: &ParseNestedMeta<'_>) -> Result<()> {
        let is_repeated = if part.path.is_ident("encoding") {
            let encoding = one_of(part, &CODES.map(|(name, _)| name))?;
            self.encoding.replace(CODES[encoding]).is_some()
        } else if part.path.is_ident("cache") {
            let cache = one_of(part, &CACHES.map(|(name, _)| name))?;
            self.cache.replace(CACHES[cache].1).is_some()
        } else if part.path.is_ident("size") {
            let literal: LitInt = in_brackets(part)?;
            let size = literal.base10_parse().map_err(|cause| {
                Error::new_spanned(&literal, format!("not a size ({cause}); {LEGAL}"))
            })?;
            self.size.replace((literal, size)).is_some()
        } else {
            return Err(part.error(format!("there is no such part; {LEGAL}")));
        };
        if is_repeated {
            return Err(part.error(format!("the part is there twice; {LEGAL}")));
        }
        Ok(())
    }

    fn finish(self) -> Result<Cached> {
        let (code, bits) = self.encoding.unwrap_or(CODES[0]);
        let most = 1_usize.checked_shl(bits).map_or(usize::MAX, |codes| codes - 1);
        let size = match self.size {
            Some((literal, 0)) => {
                return Err(Error::new_spanned(
                    literal,
                    format!("a cache holds something; {LEGAL}"),
                ));
            }
            Some((literal, size)) if size > most => {
                return Err(Error::new_spanned(
                    literal,
                    format!(
                        "codes of type `{code}` are enough for {most} values; choose a larger \
                             `encoding` or a smaller `size`"
                    ),
                ));
            }
            Some((_, size)) => size,
            None => DEFAULT_SIZE,
        };
        Ok(Cached { code, size, cache: self.cache.unwrap_or(CACHES[0].1) })
    }
}

/// Returns the position of the name in the brackets among the legal names.
fn one_of(part: &ParseNestedMeta<'_>, legal: &[&str]) -> Result<usize> {
    let name: Ident = in_brackets(part)?;
    legal.iter().position(|known| name == known).ok_or_else(|| {
        Error::new_spanned(&name, format!("not one of {}; {LEGAL}", legal.join(", ")))
    })
}

/// Parses the content of the brackets of a part.
fn in_brackets<P: syn::parse::Parse>(part: &ParseNestedMeta<'_>) -> Result<P> {
    let inside;
    if !part.input.peek(syn::token::Paren) {
        return Err(part.error(format!("its value goes in brackets; {LEGAL}")));
    }
    syn::parenthesized!(inside in part.input);
    let value =
        inside.parse().map_err(|cause| Error::new(cause.span(), format!("{cause}; {LEGAL}")))?;
    if inside.is_empty() {
        Ok(value)
    } else {
        Err(inside.error(format!("one value is too many here; {LEGAL}")))
    }
}
