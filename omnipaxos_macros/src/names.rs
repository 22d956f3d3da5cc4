//! Names in generated code.

use proc_macro2::{Ident, Span};

/// Returns the same name with the span of generated code, so that lints such as `deprecated` ignore
/// it.
pub(crate) fn generated(name: &Ident) -> Ident {
    let mut name = name.clone();
    name.set_span(name.span().resolved_at(Span::mixed_site()));
    name
}
