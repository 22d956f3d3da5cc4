use omnipaxos::macros::UniCacheEntry;

#[derive(Clone, Debug, UniCacheEntry)]
enum Either {
    One(#[unicache] String),
    Other,
}

#[derive(Clone, Debug, UniCacheEntry)]
struct Generic<T> {
    #[unicache]
    value: T,
}

#[derive(Clone, Debug, UniCacheEntry)]
#[unicache(size(3))]
struct Misplaced {
    name: String,
}

#[derive(Clone, Debug, UniCacheEntry)]
struct Many(u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8);

#[derive(Clone, Debug, UniCacheEntry)]
struct SnapshotOnAField {
    #[snapshot(String)]
    name: String,
}

fn main() {}
