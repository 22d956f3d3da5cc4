//! Named and unnamed fields, none cached, all cached, a snapshot, and nothing imported.
#![allow(missing_docs, unreachable_pub, reason = "as in a program of a user")]

mod std {}
mod core {}

// As a pattern, the name of a constant matches and does not bind.
#[allow(dead_code, non_upper_case_globals)]
mod constants {
    const entry: i32 = 1;
    const processed: i32 = 2;

    #[derive(Clone, Debug, omnipaxos::macros::UniCacheEntry)]
    pub(crate) struct AmongConstants(#[unicache] pub(crate) u8);
}

#[derive(Clone, Debug, omnipaxos::macros::UniCacheEntry)]
pub struct Named {
    #[unicache]
    pub name: String,
    #[unicache()]
    pub town: String,
    #[unicache(cache(lfu))]
    pub code: u32,
    #[unicache(size(4_000_000_000), encoding(u32))]
    pub street: String,
    #[unicache(encoding(u64), size(300))]
    pub r#type: char,
}

#[derive(Clone, Debug, omnipaxos::macros::UniCacheEntry)]
struct Unnamed(u64, #[unicache(encoding(u16), size(65535))] String);

#[derive(Clone, Debug, omnipaxos::macros::UniCacheEntry)]
#[snapshot(Count)]
struct NoneCached {
    value: u64,
}

#[derive(Clone, Debug, omnipaxos::macros::UniCacheEntry)]
struct Empty;

#[derive(Clone, Debug)]
#[cfg_attr(all(), derive(serde::Serialize, serde::Deserialize))]
struct Count(usize);

impl omnipaxos::storage::Snapshot<NoneCached> for Count {
    fn create(entries: &[NoneCached]) -> Self {
        Count(entries.len())
    }

    fn merge(&mut self, delta: Self) {
        self.0 += delta.0;
    }

    fn use_snapshots() -> bool {
        true
    }
}

fn passes<T: omnipaxos::storage::Entry>(entry: &T) -> T {
    use omnipaxos::unicache::UniCache;
    let (mut sender, mut receiver) = (T::UniCache::new(), T::UniCache::new());
    receiver.decode(sender.try_encode(entry))
}

fn main() {
    let named =
        Named { name: "a".into(), town: "b".into(), code: 3, street: "c".into(), r#type: 'd' };
    assert_eq!(passes(&named).street, "c");
    let _: NamedCache = omnipaxos::unicache::UniCache::new();
    assert_eq!(passes(&Unnamed(1, "x".into())).1, "x");
    assert_eq!(passes(&NoneCached { value: 4 }).value, 4);
    passes(&Empty);
    assert_eq!(passes(&constants::AmongConstants(5)).0, 5);
}
