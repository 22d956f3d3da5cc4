//! Names in generated code.

use proc_macro2::{Ident, Span};

/// The same name, as one of generated code: there no lint asks whether it is deprecated.
pub(crate) fn generated(name: &Ident) -> Ident {
    let mut name = name.clone();
    name.set_span(name.span().resolved_at(Span::mixed_site()));
    name
}
