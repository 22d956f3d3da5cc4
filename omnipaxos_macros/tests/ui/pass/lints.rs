//! Generated code gives no warning where every lint is an error.
#![forbid(warnings)]
#![forbid(deprecated, unused, unused_qualifications, single_use_lifetimes, unused_lifetimes)]
#![forbid(unsafe_code, missing_docs, elided_lifetimes_in_paths, unreachable_pub)]
#![forbid(non_snake_case, unreachable_code, unreachable_patterns, trivial_casts)]

use omnipaxos::{macros::Entry, storage};
use std::convert::Infallible;

/// Some fields own something, some do not.
#[derive(Clone, Debug, Entry)]
pub struct Named<'a, T> {
    /// Owns nothing.
    pub number: u64,
    /// Owns its text.
    pub text: String,
    /// May or may not.
    pub value: T,
    /// Borrows.
    pub borrowed: &'a str,
    /// Read by nobody, but for generated code.
    #[deprecated]
    pub old: String,
}

/// All fields own something.
#[derive(Clone, Debug, Entry)]
pub struct Tuple(#[deprecated] pub String, pub Vec<u8>);

/// Some variants can not be.
#[derive(Clone, Debug, Entry)]
pub enum Command {
    /// Has no value.
    Impossible(Infallible),
    /// Has one.
    Put(String),
    /// Is not made any more.
    #[deprecated]
    Old {
        /// The text.
        text: String,
    },
    /// Has no fields.
    Nothing,
}

/// Has no value.
#[derive(Clone, Debug, Entry)]
pub enum Impossible {
    /// Has none, either.
    This(Infallible),
}

/// Is not used any more.
#[derive(Clone, Debug, Entry)]
#[deprecated]
pub struct Old(pub String);

fn is_entry<T: storage::Entry>() {}

fn main() {
    is_entry::<Named<'static, u8>>();
    is_entry::<Tuple>();
    is_entry::<Command>();
    is_entry::<Impossible>();
}
