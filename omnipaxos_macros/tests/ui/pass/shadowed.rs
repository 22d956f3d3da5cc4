//! Names that shadow those of the generated code do no harm.
#![allow(dead_code, non_camel_case_types)]

mod omnipaxos {}
mod core {}
mod std {}
struct Clone;
struct Debug;
struct Entry;
struct Snapshot;
struct NoSnapshot;
struct Owned;
struct Probe;
struct usize;
type Option = ();

fn size_of_val() {}

/// Methods for every type, with the names of those that the generated code is about.
trait Methods {
    fn owned_bytes(&self) {}
    fn size_hint(self)
    where
        Self: Sized,
    {
    }
    fn saturating_add(self)
    where
        Self: Sized,
    {
    }
}

impl<T> Methods for T {}

#[derive(::core::clone::Clone, ::core::fmt::Debug, ::omnipaxos::macros::Entry)]
struct Wrap<T>(T);

#[derive(::core::clone::Clone, ::core::fmt::Debug, ::omnipaxos::macros::Entry)]
struct Named {
    text: String,
    usize: Unknown,
}

#[derive(::core::clone::Clone, ::core::fmt::Debug)]
struct Unknown;

#[derive(::core::clone::Clone, ::core::fmt::Debug, ::omnipaxos::macros::Entry)]
enum Command {
    Snapshot(String),
    NoSnapshot { value: Wrap<u8> },
    Self_,
}

fn owned<T: ::omnipaxos::storage::Entry>(entry: &T) -> ::core::primitive::usize {
    ::omnipaxos::storage::Entry::size_hint(entry) - ::core::mem::size_of::<T>()
}

fn main() {
    assert_eq!(owned(&Wrap(1)), 0);
    assert_eq!(owned(&Named { text: "abc".into(), usize: Unknown }), 3);
    assert_eq!(owned(&Command::Snapshot("abc".into())), 3);
    assert_eq!(owned(&Command::NoSnapshot { value: Wrap(1) }), 0);
}
