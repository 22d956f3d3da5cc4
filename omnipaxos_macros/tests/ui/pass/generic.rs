//! Lifetimes, constants, bounds, defaults and where clauses are kept.

use omnipaxos::{macros::Entry, storage};
use std::{fmt::Debug, marker::PhantomData, rc::Rc};

#[derive(Clone, Debug, Entry)]
struct Wrap<T>(#[allow(dead_code)] T);

#[derive(Clone, Debug, Entry)]
struct Bounded<T: Clone + Debug + Ord = u8>(#[allow(dead_code)] T);

#[derive(Clone, Debug, Entry)]
struct Where<K, V>
where
    K: Into<u64>,
    V: AsRef<[u8]>,
{
    _key: K,
    _value: V,
}

#[derive(Clone, Debug, Entry)]
struct Bytes<'a, const N: usize>(#[allow(dead_code)] &'a [u8; N]);

#[derive(Clone, Debug, Entry)]
#[allow(dead_code)]
enum Either<'a, A, B: 'a, const N: usize> {
    Left([A; N]),
    Right(&'a B),
}

/// Clone and Debug for each `T`, also for those that are neither.
#[derive(Entry)]
struct Handle<T>(Rc<str>, PhantomData<T>);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Handle(self.0.clone(), PhantomData)
    }
}

impl<T> Debug for Handle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[derive(Clone, Debug, Entry)]
#[snapshot(Last<T>)]
struct Register<T: Clone + Debug>(T);

#[derive(Clone, Debug)]
struct Last<T>(Option<T>);

impl<T: Clone + Debug> storage::Snapshot<Register<T>> for Last<T> {
    fn create(entries: &[Register<T>]) -> Self {
        Last(entries.last().map(|register| register.0.clone()))
    }
    fn merge(&mut self, delta: Self) {
        if delta.0.is_some() {
            *self = delta;
        }
    }
    fn use_snapshots() -> bool {
        true
    }
}

fn is_entry<T: storage::Entry>() {}

/// A generic user of a generic entry needs no other bounds than `Clone + Debug`.
fn wraps<T: Clone + Debug>() {
    is_entry::<Wrap<T>>();
    is_entry::<Register<T>>();
}

struct Neither;

fn main() {
    is_entry::<Wrap<Vec<u64>>>();
    is_entry::<Bounded>();
    is_entry::<Where<u32, String>>();
    is_entry::<Bytes<'static, 4>>();
    is_entry::<Either<'static, u8, String, 3>>();
    is_entry::<Handle<Neither>>();
    wraps::<u64>();
}
