//! A cache that evicts the least recently used value.

use super::{
    codes::Codes, lookup::Lookup, DefaultEncodable, DefaultEncoded, FieldCache, MaybeEncoded,
};
use lru::LruCache;
use std::fmt;

/// A cache of the values of one field. It evicts the least recently used value.
///
/// Codes are assigned in steps of one from the default value of `Encoded` on. So there is one code
/// less than the type has values. A size above that is reduced to it.
#[derive(Clone)]
pub struct LRUniCache<Encodable: DefaultEncodable, Encoded: DefaultEncoded> {
    codes: Codes<Encoded>,
    by_value: Lookup<Encodable, Encoded>,
    /// In the order of their last use.
    by_code: LruCache<Encoded, Encodable>,
}

impl<Encodable: DefaultEncodable, Encoded: DefaultEncoded> LRUniCache<Encodable, Encoded> {
    fn take_in(&mut self, value: Encodable) {
        let handed_on = || {
            let (code, left) = self.by_code.pop_lru()?;
            self.by_value.remove(&left);
            Some(code)
        };
        if let Some(code) = self.codes.give().or_else(handed_on) {
            self.place(value, code);
        }
    }

    fn place(&mut self, value: Encodable, code: Encoded) {
        self.by_value.insert(value.clone(), code.clone());
        self.by_code.put(code, value);
    }
}

impl<Encodable: DefaultEncodable, Encoded: DefaultEncoded> FieldCache<Encodable, Encoded>
    for LRUniCache<Encodable, Encoded>
{
    fn new(size: usize) -> Self {
        Self {
            codes: Codes::at_most(size),
            by_value: Lookup::new(),
            by_code: LruCache::unbounded(),
        }
    }

    fn try_encode(&mut self, field: &Encodable) -> MaybeEncoded<Encodable, Encoded> {
        if let Some(code) = self.by_value.get(field) {
            self.by_code.promote(code);
            return MaybeEncoded::Encoded(code.clone());
        }
        self.take_in(field.clone());
        MaybeEncoded::NotEncoded(field.clone())
    }

    /// # Panics
    /// If the code is not assigned.
    fn decode(&mut self, result: MaybeEncoded<Encodable, Encoded>) -> Encodable {
        self.try_decode(result).expect("the code was given out by a cache in the same state")
    }

    fn try_decode(&mut self, result: MaybeEncoded<Encodable, Encoded>) -> Option<Encodable> {
        match result {
            MaybeEncoded::Encoded(code) => self.by_code.get(&code).cloned(),
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
        debug.field("len", &self.by_code.len()).field("size", &self.codes.most()).finish()
    }
}

/// Serialises the values and their codes, in the order of their last use.
#[cfg(feature = "serde")]
mod as_serde {
    use super::{DefaultEncodable, DefaultEncoded, FieldCache, LRUniCache};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    impl<Encodable: DefaultEncodable, Encoded: DefaultEncoded> Serialize
        for LRUniCache<Encodable, Encoded>
    {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let oldest_first: Vec<_> = self.by_code.iter().rev().collect();
            (self.codes.most(), oldest_first).serialize(serializer)
        }
    }

    impl<'de, Encodable: DefaultEncodable, Encoded: DefaultEncoded> Deserialize<'de>
        for LRUniCache<Encodable, Encoded>
    {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let (size, oldest_first) =
                <(usize, Vec<(Encoded, Encodable)>)>::deserialize(deserializer)?;
            let mut cache = Self::new(size);
            for (code, value) in oldest_first {
                cache.codes.give();
                cache.place(value, code);
            }
            Ok(cache)
        }
    }
}
