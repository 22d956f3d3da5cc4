//! The work: a cluster in one process and one thread, whose messages the driver moves by hand.

use crate::cpu_time_of;
use omnipaxos::macros::Entry;
use serde::{Deserialize, Serialize};
use std::{cell::Cell, time::Duration};

thread_local! {
    static CLONES: Cell<u64> = const { Cell::new(0) };
}

/// An entry of the log. Counts its clones.
#[derive(Debug, PartialEq, Serialize, Deserialize, Entry)]
pub struct KeyValue {
    /// Number of the entry.
    pub key: u64,
    /// As many bytes as are to be measured.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

impl Clone for KeyValue {
    fn clone(&self) -> Self {
        CLONES.set(CLONES.get() + 1);
        Self { key: self.key, value: self.value.clone() }
    }
}

impl KeyValue {
    /// Entries with values, their number and the bytes of a value.
    pub fn many(entries: u64, bytes: usize) -> Vec<Self> {
        (0..entries).map(|key| Self { key, value: vec![key as u8; bytes] }).collect()
    }
}

/// How messages travel.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Moved in memory.
    Moved,
    /// Serialised by the sender and deserialised by the receiver, as over a network.
    Serialised,
}

/// A cluster that can be measured.
pub trait Cluster: Sized {
    /// `n` servers with a leader.
    fn elected(n: u64, wire: Wire) -> Self;

    /// Appends an entry at the leader.
    fn append(&mut self, entry: KeyValue);

    /// One hop: takes the messages of each server, and then delivers them. Returns the number of
    /// messages.
    fn hop(&mut self) -> usize;

    /// The number of entries that every server knows to be decided.
    fn decided(&self) -> u64;
}

/// When messages move.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Pump {
    /// After each group of appends, until there are none left.
    UntilSilent,
    /// One hop after each group.
    OneHop,
}

/// Appends `log` in groups of `group` and moves messages until all servers have decided all.
/// Returns the number of messages.
///
/// # Panics
/// If an entry is not decided.
pub fn replicate<C: Cluster>(
    cluster: &mut C,
    log: Vec<KeyValue>,
    group: usize,
    pump: Pump,
) -> usize {
    let goal = cluster.decided() + log.len() as u64;
    let (mut log, mut messages) = (log.into_iter(), 0);
    while log.len() > 0 {
        for entry in log.by_ref().take(group) {
            cluster.append(entry);
        }
        match pump {
            Pump::UntilSilent => messages += deliver(cluster),
            Pump::OneHop => messages += cluster.hop(),
        }
    }
    messages += deliver(cluster);
    assert_eq!(cluster.decided(), goal, "an entry is not decided at every server");
    messages
}

/// Moves messages until there are none. Returns their number.
pub fn deliver<C: Cluster>(cluster: &mut C) -> usize {
    let mut messages = 0;
    loop {
        match cluster.hop() {
            0 => return messages,
            moved => messages += moved,
        }
    }
}

/// What is measured.
#[derive(Copy, Clone, Debug)]
pub struct Work {
    /// Servers.
    pub n: u64,
    /// Bytes of a value.
    pub bytes: usize,
    /// Entries to decide.
    pub entries: u64,
    /// Entries appended between two deliveries.
    pub group: usize,
    /// When messages move.
    pub pump: Pump,
    /// How they move.
    pub wire: Wire,
}

impl Work {
    /// The CPU time from the first append until the last entry is decided at every server. A tenth
    /// of the entries goes before, to warm up; making entries and the election do not count.
    pub fn run<C: Cluster>(&self) -> Duration {
        let mut cluster = C::elected(self.n, self.wire);
        let warm_up = KeyValue::many(self.entries / 10, self.bytes);
        replicate(&mut cluster, warm_up, self.group, self.pump);
        let log = KeyValue::many(self.entries, self.bytes);
        cpu_time_of(|| {
            replicate(&mut cluster, log, self.group, self.pump);
        })
    }

    /// Per entry, once warm: allocations, bytes requested, clones, messages. `allocated` tells the
    /// first two of what it is given to run.
    pub fn count<C: Cluster>(
        &self,
        allocated: impl FnOnce(&mut dyn FnMut()) -> [u64; 2],
    ) -> [f64; 4] {
        let mut cluster = C::elected(self.n, self.wire);
        let warm_up = KeyValue::many(self.entries, self.bytes);
        replicate(&mut cluster, warm_up, self.group, self.pump);
        let mut log = KeyValue::many(self.entries, self.bytes);
        let (clones_before, mut messages) = (CLONES.get(), 0);
        let [allocations, bytes] = allocated(&mut || {
            messages = replicate(&mut cluster, std::mem::take(&mut log), self.group, self.pump);
        });
        let cloned = CLONES.get() - clones_before;
        [allocations, bytes, cloned, messages as u64]
            .map(|count| count as f64 / self.entries as f64)
    }
}
