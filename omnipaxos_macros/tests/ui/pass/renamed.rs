//! `omnipaxos` under another name, behind another crate, and in entries that a macro makes.

pub extern crate omnipaxos as op;

/// There is no `::omnipaxos` here.
mod omnipaxos {}

mod my_framework {
    pub mod prelude {
        pub use op as consensus;
    }

    /// A library's macro, which cannot know what is in scope at its user.
    macro_rules! entry {
        ($name:ident) => {
            #[derive(Clone, Debug, $crate::my_framework::prelude::consensus::macros::Entry)]
            #[entry(crate = $crate::my_framework::prelude::consensus)]
            pub struct $name(pub String);
        };
    }
    pub(crate) use entry;
}

#[derive(Clone, Debug, op::macros::Entry)]
#[entry(crate = op)]
struct Plain {
    name: String,
}

#[derive(Clone, Debug, op::macros::Entry)]
#[entry(crate = my_framework::prelude::consensus)]
#[snapshot(op::storage::NoSnapshot)]
enum Generic<T> {
    One(T),
    #[allow(dead_code)]
    None,
}

my_framework::entry!(Made);

fn size<T: op::storage::Entry>(entry: T) -> usize {
    entry.size_hint() - size_of::<T>()
}

fn main() {
    assert_eq!(size(Plain { name: "abc".into() }), 3);
    assert_eq!(size(Generic::One(1_u64)), 0);
    assert_eq!(size(Made("abcd".into())), 4);
}
