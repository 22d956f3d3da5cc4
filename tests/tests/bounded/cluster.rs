//! Servers in one thread, a network that counts, and what they take of memory.

use allocation_counter::{measure, opt_out};
use omnipaxos::{
    macros::Entry,
    messages::Message,
    storage::{Entry, Snapshot, Storage},
    util::{LogEntry, NodeId},
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use omnipaxos_tests::lab::kind;
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

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

/// The cluster. Servers that are named in none of its sets do what the README says.
pub(crate) struct Cluster<T: Entry, B: Storage<T>> {
    pub(crate) servers: BTreeMap<NodeId, OmniPaxos<T, B>>,
    /// Their users never tick.
    pub(crate) never_ticked: BTreeSet<NodeId>,
    /// Their users never take messages.
    pub(crate) never_drained: BTreeSet<NodeId>,
    /// Nothing is sent this way.
    pub(crate) cuts: BTreeSet<(NodeId, NodeId)>,
    in_flight: Vec<Message<T>>,
    /// Kept to be filled again and again.
    outgoing: Vec<Message<T>>,
    /// What was sent from one server to another, delivered or not.
    pub(crate) sent: BTreeMap<(NodeId, NodeId), Traffic>,
    /// Messages by kind.
    pub(crate) kinds: BTreeMap<&'static str, Traffic>,
}

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

impl<T: Entry + Serialize + PartialEq, B: Storage<T>> Cluster<T, B>
where
    T::Snapshot: Serialize + DeserializeOwned,
{
    /// Three servers, led by 1.
    pub(crate) fn led_by_1(
        storage: impl FnMut(NodeId) -> B,
        change: impl Fn(&mut ServerConfig),
    ) -> Self {
        let mut cluster = Self::of_three(storage, change);
        cluster.run(30);
        cluster.server(1).try_become_leader();
        cluster.run(30);
        for server in cluster.servers.values() {
            assert_eq!(server.get_current_leader(), Some(1));
        }
        cluster
    }

    /// Three servers that do not know each other yet.
    pub(crate) fn of_three(
        mut storage: impl FnMut(NodeId) -> B,
        change: impl Fn(&mut ServerConfig),
    ) -> Self {
        let mut build = |pid| {
            let mut config = ServerConfig { pid, ..Default::default() };
            change(&mut config);
            (pid, three().build_for_server(config, storage(pid)).unwrap())
        };
        Self {
            servers: (1..=3).map(&mut build).collect(),
            never_ticked: BTreeSet::new(),
            never_drained: BTreeSet::new(),
            cuts: BTreeSet::new(),
            in_flight: Vec::new(),
            outgoing: Vec::new(),
            sent: BTreeMap::new(),
            kinds: BTreeMap::new(),
        }
    }

    pub(crate) fn server(&mut self, pid: NodeId) -> &mut OmniPaxos<T, B> {
        self.servers.get_mut(&pid).unwrap()
    }

    /// Nothing is sent between `pid` and the others.
    pub(crate) fn isolate(&mut self, pid: NodeId) {
        for other in 1..=3 {
            self.cuts.extend([(pid, other), (other, pid)]);
        }
    }

    /// Lets one tick pass, and delivers what was sent until nobody has anything to say.
    pub(crate) fn tick(&mut self) {
        for (pid, server) in &mut self.servers {
            if !self.never_ticked.contains(pid) {
                server.tick();
            }
        }
        self.settle();
    }

    pub(crate) fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick();
        }
    }

    fn settle(&mut self) {
        loop {
            for (pid, server) in &mut self.servers {
                if !self.never_drained.contains(pid) {
                    server.take_outgoing_messages(&mut self.outgoing);
                }
            }
            if self.outgoing.is_empty() {
                return;
            }
            std::mem::swap(&mut self.in_flight, &mut self.outgoing);
            for message in self.in_flight.drain(..) {
                let (from, to) = (message.get_sender(), message.get_receiver());
                opt_out(|| {
                    let bytes = serialised(&message);
                    self.sent.entry((from, to)).or_default().add(bytes);
                    self.kinds.entry(kind(&message)).or_default().add(bytes);
                });
                if !self.cuts.contains(&(from, to)) {
                    if let Some(server) = self.servers.get_mut(&to) {
                        server.handle_incoming(message);
                    }
                }
            }
        }
    }

    /// Lets ticks pass until all servers have decided `decided_idx`; tells how many.
    pub(crate) fn until_decided_everywhere(&mut self, decided_idx: u64) -> u64 {
        for ticks in 0..20_000 {
            if self.servers.values().all(|server| server.get_decided_idx() >= decided_idx) {
                return ticks;
            }
            self.tick();
        }
        panic!("not decided everywhere: {decided_idx}");
    }

    /// Forgets what was counted.
    pub(crate) fn count_anew(&mut self) {
        self.sent.clear();
        self.kinds.clear();
    }

    /// The largest message that was sent.
    pub(crate) fn largest(&self) -> u64 {
        self.kinds.values().map(|traffic| traffic.largest).max().unwrap_or(0)
    }
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
