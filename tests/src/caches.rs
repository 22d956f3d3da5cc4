//! The caches of simulated entries, with the feature `unicache`.
//!
//! An id travels in digits, two of which have a cache that is much too small for them: a cache that
//! is not in step makes another id of it, which was not proposed there or is not what others hold.

#[cfg(feature = "unicache")]
pub use self::on::IdCache;

/// The types of an entry that has such a cache; nothing without the feature.
#[cfg(feature = "unicache")]
#[macro_export]
macro_rules! with_caches {
    () => {
        type Encoded = u8;
        type Encodable = u8;
        type NotEncodable = u64;
        type EncodeResult = $crate::caches::Digits;
        type UniCache = $crate::caches::IdCache<Self>;
    };
}

/// The types of an entry that has such a cache; nothing without the feature.
#[cfg(not(feature = "unicache"))]
#[macro_export]
macro_rules! with_caches {
    () => {};
}

/// An id as it travels.
#[cfg(feature = "unicache")]
pub type Digits = (
    omnipaxos::unicache::MaybeEncoded<u8, u8>,
    omnipaxos::unicache::MaybeEncoded<u8, u8>,
    u64,
    bool,
);

#[cfg(feature = "unicache")]
mod on {
    use super::Digits;
    use crate::value::SimEntry;
    use omnipaxos::unicache::{FieldCache, LFUniCache, LRUniCache, UniCache};
    use serde::{Deserialize, Serialize};
    use std::marker::PhantomData;

    /// As many digits of each kind there are.
    const FIRST: u64 = 7;
    const SECOND: u64 = 5;

    /// The caches of the two last digits of an id.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[serde(bound = "")]
    pub struct IdCache<T> {
        first: LRUniCache<u8, u8>,
        second: LFUniCache<u8, u8>,
        of: PhantomData<T>,
    }

    impl<T> UniCache for IdCache<T>
    where
        T: SimEntry<EncodeResult = Digits>,
    {
        type T = T;

        fn new() -> Self {
            Self { first: LRUniCache::new(3), second: LFUniCache::new(2), of: PhantomData }
        }

        fn try_encode(&mut self, entry: &T) -> Digits {
            let id = entry.id();
            let first = self.first.try_encode(&((id % FIRST) as u8));
            let second = self.second.try_encode(&((id / FIRST % SECOND) as u8));
            (first, second, id / FIRST / SECOND, entry.register().is_some())
        }

        fn decode(&mut self, processed: Digits) -> T {
            self.try_decode(processed).expect("another cache in this state made it")
        }

        fn try_decode(&mut self, (first, second, rest, writes): Digits) -> Option<T> {
            let first = u64::from(self.first.try_decode(first)?);
            let second = u64::from(self.second.try_decode(second)?);
            let id = rest.wrapping_mul(SECOND).wrapping_add(second);
            let id = id.wrapping_mul(FIRST).wrapping_add(first);
            Some(if writes { T::writing(id) } else { T::with_id(id) })
        }
    }
}
