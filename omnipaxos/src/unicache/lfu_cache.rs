//! A cache that gives up what was used least often.

use super::{
    codes::Codes, lookup::Lookup, DefaultEncodable, DefaultEncoded, FieldCache, MaybeEncoded,
};
use std::{collections::BTreeMap, fmt};

/// A cache of values of one field, which gives up the one that was used least often; of several, the
/// one whose last use is the oldest. What was used often once stays for long: for values that come
/// and go, [`LRUniCache`](super::LRUniCache) is better.
///
/// For the codes see there.
#[derive(Clone)]
pub struct LFUniCache<Encodable: DefaultEncodable, Encoded: DefaultEncoded> {
    codes: Codes<Encodable, Encoded>,
    by_value: Lookup<Encodable, Place<Encoded>>,
    /// The codes in the order in which their values leave.
    by_rank: BTreeMap<Rank, Encoded>,
    /// Counts the uses of all values.
    clock: u64,
}

/// How often a value was used, and when last.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Rank {
    uses: u64,
    last: u64,
}

#[derive(Clone)]
struct Place<Encoded> {
    code: Encoded,
    rank: Rank,
}

impl<Encodable: DefaultEncodable, Encoded: DefaultEncoded> LFUniCache<Encodable, Encoded> {
    /// Uses a value; `None` if it is not here.
    fn touch(&mut self, value: &Encodable) -> Option<Encoded> {
        let place = self.by_value.get_mut(value)?;
        let code = self.by_rank.remove(&place.rank)?;
        self.clock += 1;
        place.rank = Rank { uses: place.rank.uses + 1, last: self.clock };
        self.by_rank.insert(place.rank, code);
        Some(place.code.clone())
    }

    fn take_in(&mut self, value: Encodable) {
        let code = if !self.codes.is_full() {
            self.codes.give(value.clone())
        } else if let Some((_, code)) = self.by_rank.pop_first() {
            if let Some(left) = self.codes.hand_on(&code, value.clone()) {
                self.by_value.remove(&left);
            }
            code
        } else {
            return;
        };
        self.clock += 1;
        self.place(value, code, Rank { uses: 1, last: self.clock });
    }

    fn place(&mut self, value: Encodable, code: Encoded, rank: Rank) {
        self.by_rank.insert(rank, code.clone());
        self.by_value.insert(value, Place { code, rank });
    }
}

impl<Encodable: DefaultEncodable, Encoded: DefaultEncoded> FieldCache<Encodable, Encoded>
    for LFUniCache<Encodable, Encoded>
{
    fn new(size: usize) -> Self {
        Self {
            codes: Codes::at_most(size),
            by_value: Lookup::new(),
            by_rank: BTreeMap::new(),
            clock: 0,
        }
    }

    fn try_encode(&mut self, field: &Encodable) -> MaybeEncoded<Encodable, Encoded> {
        if let Some(code) = self.touch(field) {
            return MaybeEncoded::Encoded(code);
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
                let value = self.codes.value(&code)?.clone();
                self.touch(&value)?;
                Some(value)
            }
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
        debug.field("len", &self.codes.len()).field("size", &self.codes.most()).finish()
    }
}

/// The values with their codes, in the order in which they leave.
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
                .filter_map(|(rank, code)| self.codes.value(code).map(|value| (value, code, rank)));
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
                cache.codes.restore(value.clone(), code.clone());
                cache.place(value, code, rank);
            }
            Ok(cache)
        }
    }
}
