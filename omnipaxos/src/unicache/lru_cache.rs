//! A cache that gives up what was not used for the longest time.

use super::{codes::Codes, DefaultEncodable, DefaultEncoded, FieldCache, MaybeEncoded};
use lru::LruCache;
use std::fmt;

/// A cache of values of one field, which gives up the one that was not used for the longest time.
///
/// Codes are given out from the default value of `Encoded` on, in steps of one. So there are no more
/// of them than the type has, less one, and a larger cache is not used beyond that.
#[derive(Clone)]
pub struct LRUniCache<Encodable: DefaultEncodable, Encoded: DefaultEncoded> {
    codes: Codes<Encodable, Encoded>,
    by_value: LruCache<Encodable, Encoded>,
}

impl<Encodable: DefaultEncodable, Encoded: DefaultEncoded> LRUniCache<Encodable, Encoded> {
    fn take_in(&mut self, value: Encodable) {
        let code = if !self.codes.is_full() {
            self.codes.give(value.clone())
        } else if let Some((_, code)) = self.by_value.pop_lru() {
            self.codes.hand_on(&code, value.clone());
            code
        } else {
            return;
        };
        self.by_value.put(value, code);
    }
}

impl<Encodable: DefaultEncodable, Encoded: DefaultEncoded> FieldCache<Encodable, Encoded>
    for LRUniCache<Encodable, Encoded>
{
    fn new(size: usize) -> Self {
        Self { codes: Codes::at_most(size), by_value: LruCache::unbounded() }
    }

    fn try_encode(&mut self, field: &Encodable) -> MaybeEncoded<Encodable, Encoded> {
        if let Some(code) = self.by_value.get(field) {
            return MaybeEncoded::Encoded(code.clone());
        }
        self.take_in(field.clone());
        MaybeEncoded::NotEncoded(field.clone())
    }

    /// # Panics
    /// If the code is not given out.
    fn decode(&mut self, result: MaybeEncoded<Encodable, Encoded>) -> Encodable {
        self.try_decode(result).expect("the code was given out by a cache in the same state")
    }

    fn try_decode(&mut self, result: MaybeEncoded<Encodable, Encoded>) -> Option<Encodable> {
        match result {
            MaybeEncoded::Encoded(code) => {
                let value = self.codes.value(&code)?;
                self.by_value.promote(value);
                Some(value.clone())
            }
            MaybeEncoded::NotEncoded(value) => {
                self.try_encode(&value);
                Some(value)
            }
        }
    }
}

impl<Encodable: DefaultEncodable, Encoded: DefaultEncoded> fmt::Debug
    for LRUniCache<Encodable, Encoded>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("LRUniCache");
        debug.field("len", &self.codes.len()).field("size", &self.codes.most()).finish()
    }
}

/// The values and their codes, in the order in which they were used last.
#[cfg(feature = "serde")]
mod as_serde {
    use super::{DefaultEncodable, DefaultEncoded, FieldCache, LRUniCache};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    impl<Encodable: DefaultEncodable, Encoded: DefaultEncoded> Serialize
        for LRUniCache<Encodable, Encoded>
    {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let oldest_first: Vec<_> = self.by_value.iter().rev().collect();
            (self.codes.most(), oldest_first).serialize(serializer)
        }
    }

    impl<'de, Encodable: DefaultEncodable, Encoded: DefaultEncoded> Deserialize<'de>
        for LRUniCache<Encodable, Encoded>
    {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let (size, oldest_first) =
                <(usize, Vec<(Encodable, Encoded)>)>::deserialize(deserializer)?;
            let mut cache = Self::new(size);
            for (value, code) in oldest_first {
                cache.codes.restore(value.clone(), code.clone());
                cache.by_value.put(value, code);
            }
            Ok(cache)
        }
    }
}
