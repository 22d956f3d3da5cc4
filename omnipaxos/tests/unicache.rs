//! `derive(UniCacheEntry)`: what it makes and takes, and its errors.

#![cfg(feature = "unicache")]

use omnipaxos::{
    macros::UniCacheEntry,
    storage::Entry,
    unicache::{MaybeEncoded, UniCache},
};
use std::fs::File;

#[derive(Clone, Debug, PartialEq, UniCacheEntry)]
struct Person {
    id: u64,
    #[unicache(encoding(u8), size(2), cache(lru))]
    name: String,
    #[unicache(encoding(u16), cache(lfu))]
    job: String,
    tags: Vec<u8>,
}

fn person(id: u64, name: &str, job: &str) -> Person {
    Person { id, name: name.into(), job: job.into(), tags: vec![7] }
}

#[test]
fn what_repeats_is_encoded_in_the_order_of_the_fields() {
    let (mut sender, mut receiver) = (PersonCache::new(), PersonCache::new());
    let mut pass = |entry: &Person| {
        let travels = sender.try_encode(entry);
        assert_eq!(receiver.try_decode(travels.clone()).as_ref(), Some(entry));
        travels
    };
    pass(&person(1, "Ada", "smith"));
    let (id, name, job, tags) = pass(&person(2, "Ada", "baker"));
    assert_eq!((id, name, tags), (2, MaybeEncoded::Encoded(0_u8), vec![7]));
    assert_eq!(job, MaybeEncoded::NotEncoded("baker".to_string()));
    let (_, name, job, _) = pass(&person(3, "Eve", "smith"));
    assert_eq!(name, MaybeEncoded::NotEncoded("Eve".to_string()));
    assert_eq!(job, MaybeEncoded::Encoded(0_u16));
}

#[test]
fn a_code_that_is_not_given_out_is_no_entry() {
    let mut cache = PersonCache::new();
    let forged = (1, MaybeEncoded::Encoded(3), MaybeEncoded::Encoded(4), Vec::new());
    assert_eq!(cache.try_decode(forged), None);
}

#[test]
fn sizes_are_those_of_derive_entry() {
    let entry = person(1, "Ada", "smith");
    assert_eq!(entry.size_hint(), size_of::<Person>() + 3 + 5 + 1);
}

/// Waits until no other test of the workspace runs trybuild: see `omnipaxos_macros/tests/derive.rs`.
fn lock() -> File {
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/trybuild.lock");
    let file = File::create(path).expect("cargo makes the folder");
    file.lock().expect("the file system has locks");
    file
}

#[test]
fn ui() {
    let _lock = lock();
    // Cargo.toml names them: each is a test.
    let pass = std::fs::read_dir("tests/unicache/pass").expect("cargo runs tests in the package");
    assert_eq!(pass.count(), 2);
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/unicache/fail/*.rs");
}
