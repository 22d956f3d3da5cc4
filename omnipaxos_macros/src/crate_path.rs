//! `#[entry(crate = path)]`.

use syn::{parse_quote, Attribute, Error, Meta, Path, Result};

/// The legal form, for the error of a wrong attribute.
const LEGAL: &str =
    "write `#[entry(crate = path)]` with the path of `omnipaxos` here, or leave the \
                     attribute out where it is `::omnipaxos`";

/// Returns the path of `omnipaxos` in the attribute, or `::omnipaxos`.
pub(crate) fn of(attrs: &[Attribute]) -> Result<Path> {
    let mut path = None;
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("entry")) {
        if path.is_some() {
            return Err(Error::new_spanned(attr, format!("a second `#[entry]`; {LEGAL}")));
        }
        let Meta::List(list) = &attr.meta else {
            return Err(Error::new_spanned(attr, format!("no path is named; {LEGAL}")));
        };
        if list.tokens.is_empty() {
            return Err(Error::new_spanned(attr, format!("no path is named; {LEGAL}")));
        }
        attr.parse_nested_meta(|part| {
            if !part.path.is_ident("crate") || path.is_some() {
                return Err(part.error(format!("not what belongs here; {LEGAL}")));
            }
            let named = part.value()?.call(Path::parse_mod_style);
            let wrong = |cause: Error| Error::new(cause.span(), format!("not a path; {LEGAL}"));
            path = Some(named.map_err(wrong)?);
            Ok(())
        })?;
    }
    Ok(path.unwrap_or_else(|| parse_quote!(::omnipaxos)))
}
