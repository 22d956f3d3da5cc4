//! `omnipaxos` under another name, behind another crate, and in entries that a macro makes.
#![allow(missing_docs, unreachable_pub, reason = "as in a program of a user")]

pub extern crate omnipaxos as op;

/// There is no `::omnipaxos` here.
mod omnipaxos {}

mod my_framework {
    pub use op as consensus;

    /// A library's macro, which cannot know what is in scope at its user.
    macro_rules! entry {
        ($name:ident) => {
            #[derive(
                Clone, Debug, PartialEq, $crate::my_framework::consensus::macros::UniCacheEntry,
            )]
            #[entry(crate = $crate::my_framework::consensus)]
            pub struct $name {
                #[unicache]
                pub name: String,
                pub id: u64,
            }
        };
    }
    pub(crate) use entry;
}

#[derive(Clone, Debug, PartialEq, op::macros::UniCacheEntry)]
#[entry(crate = op)]
struct Plain {
    #[unicache(encoding(u16), size(3), cache(lfu))]
    name: String,
}

my_framework::entry!(Made);

fn travels<T: op::storage::Entry + PartialEq>(entry: T) {
    use op::unicache::UniCache;

    let (mut sender, mut receiver) = (T::UniCache::new(), T::UniCache::new());
    for _ in 0..2 {
        let encoded = sender.try_encode(&entry);
        assert_eq!(receiver.decode(encoded), entry);
    }
}

fn main() {
    travels(Plain { name: "Ada".into() });
    travels(Made { name: "Ada".into(), id: 7 });

    // An entry in a function.
    my_framework::entry!(Inner);
    travels(Inner { name: "Ada".into(), id: 7 });
}
