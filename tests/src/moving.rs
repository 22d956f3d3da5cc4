//! A cluster whose links carry a given number of bytes a tick, for measuring how much is moved, by
//! whom, and for how long. Nothing is random here.

use crate::value::encoded_len;
use omnipaxos::{
    messages::{sequence_paxos::PaxosMsg, Message},
    storage::{Entry, Snapshot},
    util::NodeId,
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// An entry: a key and some bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Put {
    /// Where the bytes are put.
    pub key: u64,
    /// The bytes.
    pub value: String,
}

impl Entry for Put {
    type Snapshot = Values;
    omnipaxos::without_unicache!();

    fn size_hint(&self) -> usize {
        size_of::<Self>() + self.value.len()
    }
}

/// What was put last at each key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Values(pub BTreeMap<u64, String>);

impl Snapshot<Put> for Values {
    fn create(entries: &[Put]) -> Self {
        Values(entries.iter().map(|put| (put.key, put.value.clone())).collect())
    }

    fn merge(&mut self, delta: Self) {
        self.0.extend(delta.0);
    }

    fn use_snapshots() -> bool {
        true
    }
}

/// A replica in memory.
pub type Replica<T> = OmniPaxos<T, MemoryStorage<T>>;

/// One direction of a link.
#[derive(Debug)]
struct Link<T: Entry> {
    /// The messages to be sent, and the bytes of each that are not sent yet.
    queue: VecDeque<(u64, Message<T>)>,
    /// The messages on their way, and the tick in which each arrives.
    on_their_way: VecDeque<(u64, Message<T>)>,
}

impl<T: Entry> Default for Link<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), on_their_way: VecDeque::new() }
    }
}

/// The cluster.
#[derive(Debug)]
pub struct Moving<T: Entry> {
    /// The replicas by id.
    pub servers: BTreeMap<NodeId, Replica<T>>,
    /// Servers that nothing reaches and that send nothing.
    pub isolated: BTreeSet<NodeId>,
    /// Pairs of servers that do not reach each other, the lower id first.
    pub cuts: BTreeSet<(NodeId, NodeId)>,
    /// Bytes a tick in each direction of each link.
    pub bytes_per_tick: u64,
    /// Ticks that a message takes after its last byte was sent.
    pub delay: u64,
    /// Larger messages are lost.
    pub frame_limit: u64,
    /// Bytes that left each server in chunks of the decided log, since the last count.
    pub chunk_bytes: BTreeMap<NodeId, u64>,
    /// The largest message since then, in bytes.
    pub largest: u64,
    /// The longest call of each server since then.
    pub longest_call: BTreeMap<NodeId, Duration>,
    links: BTreeMap<(NodeId, NodeId), Link<T>>,
    now: u64,
}

impl<T: Entry + Serialize> Moving<T>
where
    T::Snapshot: Serialize + DeserializeOwned,
{
    /// Servers with ids from 1 on, of which 1 leads.
    ///
    /// # Panics
    /// The configuration is not valid, or 1 does not lead soon.
    pub fn new(count: u64, change: impl Fn(&mut ServerConfig)) -> Self {
        let nodes: Vec<NodeId> = (1..=count).collect();
        let mut servers = BTreeMap::new();
        for pid in &nodes {
            let nodes = nodes.clone();
            let cluster = ClusterConfig { configuration_id: 1, nodes, flexible_quorum: None };
            let mut config =
                ServerConfig { pid: *pid, election_tick_timeout: 20, ..Default::default() };
            change(&mut config);
            let replica = cluster.build_for_server(config, MemoryStorage::default());
            servers.insert(*pid, replica.expect("the configuration is valid"));
        }
        let mut cluster = Self {
            servers,
            isolated: BTreeSet::new(),
            cuts: BTreeSet::new(),
            bytes_per_tick: u64::MAX,
            delay: 1,
            frame_limit: u64::MAX,
            chunk_bytes: BTreeMap::new(),
            largest: 0,
            longest_call: BTreeMap::new(),
            links: BTreeMap::new(),
            now: 0,
        };
        cluster.run(100);
        cluster.server(1).try_become_leader();
        cluster.run(100);
        assert_eq!(cluster.server(1).get_current_leader(), Some(1));
        cluster
    }

    /// A replica.
    ///
    /// # Panics
    /// There is none with this id.
    pub fn server(&mut self, pid: NodeId) -> &mut Replica<T> {
        self.servers.get_mut(&pid).expect("there is such a server")
    }

    /// Decides an entry for each number in `numbers` at those that are reached, as fast as may be.
    ///
    /// # Panics
    /// They are not decided soon.
    pub fn decide(&mut self, numbers: std::ops::Range<u64>, entry: impl Fn(u64) -> T) {
        let end = self.server(1).get_decided_idx() + (numbers.end - numbers.start);
        for number in numbers {
            while self.server(1).try_append(entry(number)).is_err() {
                self.tick();
            }
            if number % 1000 == 0 {
                self.tick();
            }
        }
        for _ in 0..100_000 {
            if self.server(1).get_decided_idx() >= end {
                break;
            }
            self.tick();
        }
        assert_eq!(self.server(1).get_decided_idx(), end);
        self.run(50);
    }

    /// Forgets what was counted.
    pub fn count_anew(&mut self) {
        self.chunk_bytes.clear();
        self.largest = 0;
        self.longest_call.clear();
    }

    /// Lets ticks pass until `pid` has decided what server 1 has. `None` if it has not in `most` ticks.
    pub fn ticks_until_decided(&mut self, pid: NodeId, most: u64) -> Option<u64> {
        let end = self.server(1).get_decided_idx();
        (0..most).find(|_| {
            self.tick();
            self.server(pid).get_decided_idx() >= end
        })
    }

    /// Lets ticks pass.
    pub fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick();
        }
    }

    /// Lets one tick pass at the servers and the links.
    pub fn tick(&mut self) {
        self.now += 1;
        let mut messages = Vec::new();
        for (pid, server) in &mut self.servers {
            server.tick();
            let begun = Instant::now();
            server.take_outgoing_messages(&mut messages);
            note_call(&mut self.longest_call, *pid, begun);
        }
        messages.drain(..).for_each(|message| self.send(message));
        let (now, delay) = (self.now, self.delay);
        let mut arrived = Vec::new();
        for link in self.links.values_mut() {
            let mut budget = self.bytes_per_tick;
            while let Some((left, message)) = link.queue.pop_front() {
                if left > budget {
                    link.queue.push_front((left - budget, message));
                    break;
                }
                budget -= left;
                link.on_their_way.push_back((now + delay, message));
            }
            while link.on_their_way.front().is_some_and(|(at, _)| *at <= now) {
                arrived.extend(link.on_their_way.pop_front());
            }
        }
        for (_, message) in arrived {
            let (from, to) = (message.get_sender(), message.get_receiver());
            if !self.isolated.contains(&from) && !self.isolated.contains(&to) {
                let begun = Instant::now();
                self.server(to).handle_incoming(message);
                note_call(&mut self.longest_call, to, begun);
            }
        }
    }

    fn send(&mut self, message: Message<T>) {
        let (from, to) = (message.get_sender(), message.get_receiver());
        let is_cut = self.cuts.contains(&(from.min(to), from.max(to)));
        if is_cut || self.isolated.contains(&from) || self.isolated.contains(&to) {
            return;
        }
        let bytes = encoded_len(&message);
        self.largest = self.largest.max(bytes);
        let is_chunk = matches!(&message,
            Message::SequencePaxos(paxos) if matches!(paxos.msg, PaxosMsg::CatchUpChunk(_)));
        if is_chunk {
            *self.chunk_bytes.entry(from).or_default() += bytes;
        }
        if bytes <= self.frame_limit {
            self.links.entry((from, to)).or_default().queue.push_back((bytes, message));
        }
    }
}

fn note_call(longest: &mut BTreeMap<NodeId, Duration>, pid: NodeId, begun: Instant) {
    let longest = longest.entry(pid).or_default();
    *longest = begun.elapsed().max(*longest);
}
