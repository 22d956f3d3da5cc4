use omnipaxos::macros::UniCacheEntry;

#[derive(Clone, Debug, UniCacheEntry)]
struct Nothing {
    #[unicache(size(0))]
    name: String,
}

#[derive(Clone, Debug, UniCacheEntry)]
struct TooMany {
    #[unicache(size(256))]
    name: String,
}

#[derive(Clone, Debug, UniCacheEntry)]
struct TooManyForTwoBytes {
    #[unicache(size(65536), encoding(u16))]
    name: String,
}

#[derive(Clone, Debug, UniCacheEntry)]
struct NotASize {
    #[unicache(size(-3))]
    name: String,
}

fn main() {}
