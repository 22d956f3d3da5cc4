use super::{FieldCache, LFUniCache, LRUniCache, MaybeEncoded};

fn codes<C: FieldCache<char, u8>>(cache: &mut C, fields: &str) -> String {
    let code = |field| match cache.try_encode(&field) {
        MaybeEncoded::Encoded(code) => char::from(b'0' + code),
        MaybeEncoded::NotEncoded(field) => field,
    };
    fields.chars().map(code).collect()
}

#[test]
fn the_value_not_used_for_longest_leaves_an_lru_cache() {
    let cache = &mut LRUniCache::<char, u8>::new(2);
    assert_eq!(codes(cache, "abab"), "ab01");
    assert_eq!(codes(cache, "cb"), "c1", "c takes the code of a");
    assert_eq!(codes(cache, "acb"), "acb");
}

#[test]
fn the_value_used_least_often_leaves_an_lfu_cache() {
    let cache = &mut LFUniCache::<char, u8>::new(2);
    assert_eq!(codes(cache, "aaab"), "a00b");
    assert_eq!(codes(cache, "cbc"), "cbc", "a stays");
    assert_eq!(codes(cache, "ac"), "01");
    assert_eq!(codes(cache, "b"), "b", "c was used twice, a five times");
    assert_eq!(codes(cache, "ab"), "01");
}

/// Passes the fields through two caches, encoded or as they are, and compares what comes out.
fn stay_alike<C: FieldCache<u16, u8> + Clone + std::fmt::Debug>(size: usize) {
    let (mut sender, mut receiver) = (C::new(size), C::new(size));
    let mut state = 1_u64;
    let mut encoded = 0;
    for turn in 0..20_000_u64 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let field = (state >> 33) as u16 % 400 * ((state >> 60) as u16 % 2);
        let travels = sender.try_encode(&field);
        encoded += u64::from(matches!(travels, MaybeEncoded::Encoded(_)));
        if turn % 7 == 0 {
            assert_eq!(receiver.try_encode(&field), travels, "size {size}, turn {turn}");
        } else {
            assert_eq!(receiver.try_decode(travels), Some(field), "size {size}, turn {turn}");
        }
        if turn % 5_000 == 0 {
            std::mem::swap(&mut sender, &mut receiver);
        }
    }
    assert_eq!(encoded > 0, size > 0);
}

#[test]
fn caches_through_which_the_same_went_are_alike() {
    for size in [0, 1, 2, 100, 255, 256, 1000] {
        stay_alike::<LRUniCache<u16, u8>>(size);
        stay_alike::<LFUniCache<u16, u8>>(size);
    }
}

#[test]
fn a_code_that_is_not_given_out_is_nothing() {
    let mut lru = LRUniCache::<String, u8>::new(3);
    assert_eq!(lru.try_decode(MaybeEncoded::Encoded(0)), None);
    lru.try_encode(&"a".to_string());
    assert_eq!(lru.try_decode(MaybeEncoded::Encoded(0)).as_deref(), Some("a"));
    assert_eq!(lru.try_decode(MaybeEncoded::Encoded(1)), None);
    let mut lfu = LFUniCache::<String, u8>::new(3);
    assert_eq!(lfu.try_decode(MaybeEncoded::Encoded(0)), None);
}

#[cfg(all(feature = "serde", feature = "toml_config"))]
#[test]
fn a_serialised_cache_goes_on_where_it_was() {
    fn check<C: FieldCache<char, u8> + serde::Serialize + serde::de::DeserializeOwned>() {
        for fields in ["", "a", "abacab", "abcdefgabceffffa"] {
            let mut cache = C::new(4);
            codes(&mut cache, fields);
            // Whatever serialises will do; this crate has no other format at hand.
            let text =
                toml::to_string(&std::collections::BTreeMap::from([("it", &cache)])).unwrap();
            let mut again: std::collections::BTreeMap<String, C> = toml::from_str(&text).unwrap();
            let again = again.get_mut("it").unwrap();
            let next = "gfedcbagfedcbahhijab";
            assert_eq!(codes(again, next), codes(&mut cache, next), "after {fields:?}");
        }
    }
    check::<LRUniCache<char, u8>>();
    check::<LFUniCache<char, u8>>();
}
