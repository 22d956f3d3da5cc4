//! Names that shadow those of the generated code do no harm.
#![allow(dead_code, non_camel_case_types)]

mod omnipaxos {}
mod core {}
struct Clone;
struct Debug;
struct Snapshot;
struct NoSnapshot;
type Option = ();

#[derive(::core::clone::Clone, ::core::fmt::Debug, ::omnipaxos::macros::Entry)]
struct Wrap<T>(T);

fn is_entry<T: ::omnipaxos::storage::Entry>() {}

fn main() {
    is_entry::<Wrap<u64>>();
}
