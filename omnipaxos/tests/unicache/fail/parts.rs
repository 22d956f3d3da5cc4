use omnipaxos::macros::UniCacheEntry;

#[derive(Clone, Debug, UniCacheEntry)]
struct NoSuchPart {
    #[unicache(codes(u8))]
    name: String,
}

#[derive(Clone, Debug, UniCacheEntry)]
struct NoSuchCode {
    #[unicache(encoding(u128))]
    name: String,
}

#[derive(Clone, Debug, UniCacheEntry)]
struct NoSuchCache {
    #[unicache(cache(fifo))]
    name: String,
}

#[derive(Clone, Debug, UniCacheEntry)]
struct Twice {
    #[unicache(size(1), size(2))]
    name: String,
}

#[derive(Clone, Debug, UniCacheEntry)]
struct TwoAttributes {
    #[unicache(size(1))]
    #[unicache(cache(lru))]
    name: String,
}

#[derive(Clone, Debug, UniCacheEntry)]
struct NotInBrackets {
    #[unicache = "u8"]
    name: String,
}

#[derive(Clone, Debug, UniCacheEntry)]
struct NoValue {
    #[unicache(size)]
    name: String,
}

#[derive(Clone, Debug, UniCacheEntry)]
struct TwoValues {
    #[unicache(cache(lru, lfu))]
    name: String,
}

fn main() {}
