//! A program written for the feature `unicache` of 0.2.2, which compiled and ran against it: derived and
//! hand-written caches, its paths and its bounds. Never edited to compile.

#![cfg(all(feature = "unicache", feature = "serde"))]

use omnipaxos::{
    macros::UniCacheEntry,
    storage::{Entry, NoSnapshot},
    unicache::{
        lfu_cache::LFUniCache, lru_cache::LRUniCache, DefaultEncodable, DefaultEncoded, Encodable,
        Encoded, FieldCache, IncrementByOne, MaybeEncoded, NotEncodable, UniCache,
    },
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, UniCacheEntry)]
struct Person {
    id: u64,
    #[unicache(encoding(u8), size(10), cache(lru))]
    name: String,
    #[unicache(size(100))]
    job: String,
    #[unicache(encoding(u16))]
    town: String,
    #[unicache(cache(lfu))]
    age: u32,
}

#[derive(Clone, Debug)]
struct Line(String, u64);

impl Entry for Line {
    type Snapshot = NoSnapshot;
    type Encoded = u8;
    type Encodable = String;
    type NotEncodable = u64;
    type EncodeResult = (MaybeEncoded<String, u8>, u64);
    type UniCache = ByHand;
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ByHand {
    lru: LRUniCache<String, u8>,
    own: BTreeMap<u8, u8>,
}

impl UniCache for ByHand {
    type T = Line;

    fn new() -> Self {
        ByHand { lru: LRUniCache::new(10), own: BTreeMap::new() }
    }

    fn try_encode(&mut self, entry: &Line) -> <Self::T as Entry>::EncodeResult {
        (self.lru.try_encode(&entry.0), entry.1)
    }

    fn decode(&mut self, processed: <Self::T as Entry>::EncodeResult) -> Line {
        Line(self.lru.decode(processed.0), processed.1)
    }
}

fn through_a_field<A: DefaultEncodable, B: DefaultEncoded, C: FieldCache<A, B>>(
    mut lru: C,
    mut lfu: LFUniCache<A, B>,
    field: &A,
) -> A {
    let once = lru.try_encode(field);
    lfu.decode(once)
}

fn through<T: Entry>(entry: &T) -> T {
    let mut sender = <T as Entry>::UniCache::new();
    let mut receiver = <T as Entry>::UniCache::new();
    receiver.decode(sender.try_encode(entry))
}

fn is_encoded<T: Encoded>() {}
fn is_encodable<T: Encodable>() {}
fn is_not_encodable<T: NotEncodable>() {}
fn is_incremented<T: IncrementByOne>() {}

#[test]
fn it_does_what_it_did() {
    is_encoded::<u8>();
    is_encodable::<String>();
    is_not_encodable::<u64>();
    is_incremented::<u16>();
    let mut cache: PersonCache = <<Person as Entry>::UniCache as UniCache>::new();
    let person = Person { id: 1, name: "a".into(), job: "b".into(), town: "c".into(), age: 4 };
    let (id, name, ..) = cache.try_encode(&person);
    assert_eq!(id, 1);
    assert!(matches!(name, MaybeEncoded::NotEncoded(name) if name == "a"));
    let (_, name, _, town, age) = cache.try_encode(&person);
    let (MaybeEncoded::Encoded(name), MaybeEncoded::Encoded(town)) = (name, town) else {
        panic!("they are in the cache");
    };
    let (_, _): (u8, u16) = (name, town);
    assert!(matches!(age, MaybeEncoded::Encoded(_)));
    assert_eq!(through(&person).town, "c");
    let line = through(&Line("x".into(), 7));
    assert_eq!((line.0.as_str(), line.1), ("x", 7));
    let (lru, lfu) = (LRUniCache::<u64, u8>::new(3), LFUniCache::new(3));
    assert_eq!(through_a_field(lru, lfu, &5), 5);
}
