//! Servers in one thread, a network that counts, and what they take of memory.

use allocation_counter::{measure, opt_out};
use omnipaxos::{
    macros::Entry,
    messages::Message,
    storage::{Entry, Snapshot, Storage},
    util::{LogEntry, NodeId},
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_harness::{build, kind, Fate, Network};
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// An entry without snapshots.
#[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) number: u64,
    pub(crate) value: String,
}

impl Record {
    pub(crate) fn of(number: u64, bytes: usize) -> Self {
        Self { number, value: "7".repeat(bytes) }
    }
}

/// An entry with snapshots.
#[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
#[snapshot(Total)]
pub(crate) struct Summand {
    pub(crate) number: u64,
    pub(crate) value: String,
}

/// How many summands there were, and their sum.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Total {
    pub(crate) count: u64,
    pub(crate) sum: u64,
}

impl Snapshot<Summand> for Total {
    fn create(entries: &[Summand]) -> Self {
        let sum = entries.iter().map(|entry| entry.number).sum();
        Self { count: entries.len() as u64, sum }
    }

    fn merge(&mut self, delta: Self) {
        self.count += delta.count;
        self.sum += delta.sum;
    }

    fn use_snapshots() -> bool {
        true
    }
}

/// How many messages, how many bytes they have together when serialised, and the largest.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) largest: u64,
}

impl Traffic {
    fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
        self.largest = self.largest.max(bytes);
    }
}

/// What was measured of the memory of this thread.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Memory {
    /// More in use at the end than at the beginning.
    pub(crate) more: i64,
    /// The most in use in between beyond what was at the beginning.
    pub(crate) peak: i64,
}

/// Measures the memory of this thread.
pub(crate) fn memory(run: impl FnOnce()) -> Memory {
    let counted = measure(run);
    Memory { more: counted.bytes_current, peak: counted.bytes_max as i64 }
}

/// Delivers each message in the same tick, and counts it.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    /// What was sent from one server to another, delivered or not.
    pub(crate) sent: BTreeMap<(NodeId, NodeId), Traffic>,
    /// Messages by kind.
    pub(crate) kinds: BTreeMap<&'static str, Traffic>,
}

impl<T: Entry + Serialize> Network<T> for Counting
where
    T::Snapshot: Serialize + DeserializeOwned,
{
    fn fate(&mut self, _now: u64, message: &mut Message<T>) -> Fate {
        opt_out(|| {
            let bytes = serialised(message);
            let link = (message.get_sender(), message.get_receiver());
            self.sent.entry(link).or_default().add(bytes);
            self.kinds.entry(kind(message)).or_default().add(bytes);
        });
        Fate::Arrives(0)
    }
}

impl Counting {
    /// The largest message that was sent.
    pub(crate) fn largest(&self) -> u64 {
        self.kinds.values().map(|traffic| traffic.largest).max().unwrap_or(0)
    }
}

/// The cluster.
pub(crate) type Cluster<T, B> = omnipaxos_harness::Cluster<T, B, Counting>;

/// A configuration of three servers.
pub(crate) fn three() -> ClusterConfig {
    ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], flexible_quorum: None }
}

/// Opens the log of a server below `folder`.
pub(crate) fn on_disk<T>(folder: &Path, pid: NodeId) -> PersistentStorage<T> {
    let mut config = PersistentStorageConfig::default();
    config.set_path(folder.join(pid.to_string()).to_str().unwrap().into());
    PersistentStorage::try_open(config).unwrap()
}

/// Three servers, led by 1.
pub(crate) fn led_by_1<T: Entry + Serialize, B: Storage<T>>(
    storage: impl FnMut(NodeId) -> B,
    change: impl Fn(&mut ServerConfig),
) -> Cluster<T, B>
where
    T::Snapshot: Serialize + DeserializeOwned,
{
    let mut cluster = of_three(storage, change);
    cluster.elect(1);
    cluster
}

/// Three servers that do not know each other yet.
pub(crate) fn of_three<T: Entry, B: Storage<T>>(
    mut storage: impl FnMut(NodeId) -> B,
    change: impl Fn(&mut ServerConfig),
) -> Cluster<T, B> {
    let servers = (1..=3).map(|pid| build(&three(), pid, &change, storage(pid)));
    Cluster::of(servers, Counting::default())
}

fn serialised<T: Entry + Serialize>(message: &Message<T>) -> u64
where
    T::Snapshot: Serialize + DeserializeOwned,
{
    bincode::serde::encode_to_vec(message, bincode::config::legacy()).unwrap().len() as u64
}

/// The decided entries of a server that compacted nothing.
pub(crate) fn decided<T: Entry, B: Storage<T>>(server: &OmniPaxos<T, B>) -> Vec<T> {
    let of_entry = |entry| match entry {
        LogEntry::Decided(entry) => Some(entry),
        LogEntry::StopSign(..) => None,
        other => panic!("not decided, or compacted: {other:?}"),
    };
    server.read_decided_suffix(0).unwrap_or_default().into_iter().filter_map(of_entry).collect()
}
