//! A cache that evicts the least frequently used value.

use super::{
    codes::Codes, lookup::Lookup, DefaultEncodable, DefaultEncoded, FieldCache, MaybeEncoded,
};
use std::{collections::BTreeMap, fmt};

/// A cache of the values of one field. It evicts the least frequently used value.
///
/// Of several such values, it evicts the one whose last use is the oldest. A value that was once
/// used often stays for a long time: if the set of values changes,
/// [`LRUniCache`](super::LRUniCache) is better. Codes are assigned as there.
#[derive(Clone)]
pub struct LFUniCache<Encodable: DefaultEncodable, Encoded: DefaultEncoded> {
    codes: Codes<Encoded>,
    by_value: Lookup<Encodable, Encoded>,
    by_code: Lookup<Encoded, Ranked<Encodable>>,
    /// In the order of eviction.
    by_rank: BTreeMap<Rank, Encoded>,
    /// The number of uses of all values.
    clock: u64,
}

#[derive(Clone)]
struct Ranked<Encodable> {
    value: Encodable,
    rank: Rank,
}

/// The number of uses of a value, and its last use.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Rank {
    uses: u64,
    last: u64,
}

impl<Encodable: DefaultEncodable, Encoded: DefaultEncoded> LFUniCache<Encodable, Encoded> {
    /// Uses the value of a code; `None` if that code is not assigned.
    fn touch(&mut self, code: &Encoded) -> Option<&Encodable> {
        let ranked = self.by_code.get_mut(code)?;
        let code = self.by_rank.remove(&ranked.rank)?;
        self.clock += 1;
        ranked.rank = Rank { uses: ranked.rank.uses + 1, last: self.clock };
        self.by_rank.insert(ranked.rank, code);
        Some(&ranked.value)
    }

    fn take_in(&mut self, value: Encodable) {
        let handed_on = || {
            let (_, code) = self.by_rank.pop_first()?;
            let left = self.by_code.remove(&code)?;
            self.by_value.remove(&left.value);
            Some(code)
        };
        if let Some(code) = self.codes.give().or_else(handed_on) {
            self.clock += 1;
            self.place(value, code, Rank { uses: 1, last: self.clock });
        }
    }

    fn place(&mut self, value: Encodable, code: Encoded, rank: Rank) {
        self.by_value.insert(value.clone(), code.clone());
        self.by_rank.insert(rank, code.clone());
        self.by_code.insert(code, Ranked { value, rank });
    }
}

impl<Encodable: DefaultEncodable, Encoded: DefaultEncoded> FieldCache<Encodable, Encoded>
    for LFUniCache<Encodable, Encoded>
{
    fn new(size: usize) -> Self {
        Self {
            codes: Codes::at_most(size),
            by_value: Lookup::new(),
            by_code: Lookup::new(),
            by_rank: BTreeMap::new(),
            clock: 0,
        }
    }

    fn try_encode(&mut self, field: &Encodable) -> MaybeEncoded<Encodable, Encoded> {
        if let Some(code) = self.by_value.get(field).cloned() {
            self.touch(&code);
            return MaybeEncoded::Encoded(code);
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
            MaybeEncoded::Encoded(code) => self.touch(&code).cloned(),
            MaybeEncoded::NotEncoded(value) => {
                self.try_encode(&value);
                Some(value)
            }
        }
    }
}

impl<Encodable: DefaultEncodable, Encoded: DefaultEncoded> fmt::Debug
    for LFUniCache<Encodable, Encoded>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("LFUniCache");
        debug.field("len", &self.by_rank.len()).field("size", &self.codes.most()).finish()
    }
}

/// Serialises the values with their codes, in the order of eviction.
#[cfg(feature = "serde")]
mod as_serde {
    use super::{DefaultEncodable, DefaultEncoded, FieldCache, LFUniCache, Rank};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    impl<Encodable: DefaultEncodable, Encoded: DefaultEncoded> Serialize
        for LFUniCache<Encodable, Encoded>
    {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let held = self
                .by_rank
                .iter()
                .filter_map(|(rank, code)| Some((&self.by_code.get(code)?.value, code, rank)));
            (self.codes.most(), self.clock, held.collect::<Vec<_>>()).serialize(serializer)
        }
    }

    impl<'de, Encodable: DefaultEncodable, Encoded: DefaultEncoded> Deserialize<'de>
        for LFUniCache<Encodable, Encoded>
    {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let (size, clock, held) =
                <(usize, u64, Vec<(Encodable, Encoded, Rank)>)>::deserialize(deserializer)?;
            let mut cache = Self { clock, ..Self::new(size) };
            for (value, code, rank) in held {
                cache.codes.give();
                cache.place(value, code, rank);
            }
            Ok(cache)
        }
    }
}
