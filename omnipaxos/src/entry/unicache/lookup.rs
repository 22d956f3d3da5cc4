//! A hash map without iteration, so that its order, which differs between runs, has no effect.
#![expect(clippy::disallowed_types, reason = "the fields of users' entries are Hash and not Ord")]

use std::{collections::HashMap, hash::Hash};

/// Values by key.
#[derive(Clone)]
pub(super) struct Lookup<K, V>(HashMap<K, V>);

impl<K: Hash + Eq, V> Lookup<K, V> {
    /// Creates an empty map.
    pub(super) fn new() -> Self {
        Lookup(HashMap::new())
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.0.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key)
    }
}
