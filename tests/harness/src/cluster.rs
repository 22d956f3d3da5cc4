//! The servers, the messages between them, and the loop.

use crate::{Delay, Fate, Network, Pick};
use omnipaxos::{
    errors::Halted,
    messages::Message,
    storage::{Entry, Storage},
    util::NodeId,
    ClusterConfig, OmniPaxos, ServerConfig,
};
use std::collections::{BTreeMap, BTreeSet};

/// The number of hops in one tick after which the messages count as endless.
const MOST_HOPS: usize = 10_000;

/// Builds a server with what its storage holds, and with default settings changed by `change`.
///
/// # Panics
/// If the configuration or the storage is refused.
pub fn build<T: Entry, B: Storage<T>>(
    config: &ClusterConfig,
    pid: NodeId,
    change: impl FnOnce(&mut ServerConfig),
    storage: B,
) -> OmniPaxos<T, B> {
    let mut server_config = ServerConfig { pid, ..Default::default() };
    change(&mut server_config);
    match config.clone().build_for_server(server_config, storage) {
        Ok(server) => server,
        Err(error) => panic!("server {pid}: {error}"),
    }
}

/// What happens when a server halts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OnHalt {
    /// The cluster panics.
    Panic,
    /// The server is silent from then on.
    StaySilent,
}

/// Servers, and the messages between them. Each server has a place, named as its id is, unless two servers with
/// one id run: what is sent to that id goes to both, or to the place that the network chooses.
#[derive(Debug)]
pub struct Cluster<T: Entry, B: Storage<T>, N = Delay> {
    places: BTreeMap<NodeId, Place<T, B>>,
    /// Decides what happens to messages.
    pub network: N,
    /// What happens when a server halts. At first the cluster panics.
    pub on_halt: OnHalt,
    /// Links on which nothing arrives: sender and receiver.
    cuts: BTreeSet<(NodeId, NodeId)>,
    now: u64,
    /// In the order in which they were sent, each with the tick in which it arrives.
    in_flight: Vec<(u64, Message<T>)>,
    held: Vec<Message<T>>,
    /// Empty between two calls, and kept to be filled again.
    arriving: Vec<(u64, Message<T>)>,
    /// Likewise.
    outgoing: Vec<Message<T>>,
}

/// A place for a server.
#[derive(Debug)]
struct Place<T: Entry, B: Storage<T>> {
    server: Option<OmniPaxos<T, B>>,
    is_ticked: bool,
    is_drained: bool,
}

impl<T: Entry, B: Storage<T>, N> Cluster<T, B, N> {
    /// A cluster of these servers.
    pub fn of(servers: impl IntoIterator<Item = OmniPaxos<T, B>>, network: N) -> Self {
        let mut cluster = Self {
            places: BTreeMap::new(),
            network,
            on_halt: OnHalt::Panic,
            cuts: BTreeSet::new(),
            now: 0,
            in_flight: Vec::new(),
            held: Vec::new(),
            arriving: Vec::new(),
            outgoing: Vec::new(),
        };
        servers.into_iter().for_each(|server| cluster.start(server));
        cluster
    }

    /// Starts a server at the place of its id.
    pub fn start(&mut self, server: OmniPaxos<T, B>) {
        self.start_at(server.get_pid(), server);
    }

    /// Starts a server at a place. The server that ran there crashes.
    pub fn start_at(&mut self, place: NodeId, server: OmniPaxos<T, B>) {
        self.place(place).server = Some(server);
    }

    /// Lets the server at a place crash: it loses all that it has not stored.
    pub fn crash(&mut self, place: NodeId) -> Option<OmniPaxos<T, B>> {
        self.place(place).server.take()
    }

    /// From now on the server at a place ticks, or its clock stands still.
    pub fn set_ticked(&mut self, place: NodeId, is_ticked: bool) {
        self.place(place).is_ticked = is_ticked;
    }

    /// From now on the messages of the server at a place are taken, or left there.
    pub fn set_drained(&mut self, place: NodeId, is_drained: bool) {
        self.place(place).is_drained = is_drained;
    }

    fn place(&mut self, place: NodeId) -> &mut Place<T, B> {
        let empty = Place { server: None, is_ticked: true, is_drained: true };
        self.places.entry(place).or_insert(empty)
    }

    /// The server that runs at a place.
    ///
    /// # Panics
    /// If none does.
    #[track_caller]
    pub fn server(&mut self, place: NodeId) -> &mut OmniPaxos<T, B> {
        self.running_at(place).unwrap_or_else(|| panic!("server {place} does not run"))
    }

    /// The server that runs at a place, if one does.
    pub fn running_at(&mut self, place: NodeId) -> Option<&mut OmniPaxos<T, B>> {
        self.places.get_mut(&place).and_then(|place| place.server.as_mut())
    }

    /// The servers that run, by place.
    pub fn servers(&self) -> impl Iterator<Item = &OmniPaxos<T, B>> {
        self.places.values().filter_map(|place| place.server.as_ref())
    }

    /// The servers that run, by place.
    pub fn servers_mut(&mut self) -> impl Iterator<Item = &mut OmniPaxos<T, B>> {
        self.places.values_mut().filter_map(|place| place.server.as_mut())
    }

    /// The ids of the servers that run.
    pub fn running(&self) -> Vec<NodeId> {
        self.servers().map(OmniPaxos::get_pid).collect()
    }

    /// Number of ticks so far.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Cuts the link from one server to another, in this direction only. Messages on it are lost.
    pub fn cut_one_way(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    /// Cuts the link between two servers.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Cuts all links of a server.
    pub fn isolate(&mut self, pid: NodeId) {
        for other in self.places.keys().filter(|other| **other != pid) {
            self.cuts.extend([(pid, *other), (*other, pid)]);
        }
    }

    /// Cuts every link but those given, which are mended.
    pub fn cut_all_but(&mut self, links: &[(NodeId, NodeId)]) {
        let all: Vec<NodeId> = self.places.keys().copied().collect();
        all.into_iter().for_each(|pid| self.isolate(pid));
        links.iter().for_each(|(a, b)| self.heal(*a, *b));
    }

    /// Mends the link between two servers.
    pub fn heal(&mut self, a: NodeId, b: NodeId) {
        self.cuts.remove(&(a, b));
        self.cuts.remove(&(b, a));
    }

    /// Mends all links.
    pub fn heal_all(&mut self) {
        self.cuts.clear();
    }

    /// The messages in flight, in the order in which they were sent.
    pub fn in_flight(&self) -> impl Iterator<Item = &Message<T>> {
        self.in_flight.iter().map(|(_, message)| message)
    }

    /// Puts a message in flight, as if some server had sent it. It arrives in the next tick.
    pub fn inject(&mut self, message: Message<T>) {
        self.in_flight.push((self.now, message));
    }

    /// Takes the messages that are held back.
    pub fn take_held(&mut self) -> Vec<Message<T>> {
        std::mem::take(&mut self.held)
    }

    /// Puts the messages in flight that are held back.
    pub fn release(&mut self) {
        self.release_picked(&Pick::default());
    }

    /// Puts those messages in flight that are held back and that `pick` picks. Returns their number.
    pub fn release_picked(&mut self, pick: &Pick) -> usize {
        let before = self.in_flight.len();
        let released = self.held.extract_if(.., |message| pick.matches(message));
        self.in_flight.extend(released.map(|message| (self.now, message)));
        self.in_flight.len() - before
    }
}

impl<T: Entry, B: Storage<T>, N: Network<T>> Cluster<T, B, N> {
    /// Lets one tick pass: messages arrive, clocks tick, servers send. So does what arrives in the same tick
    /// after that, until nothing does.
    pub fn tick(&mut self) {
        self.begin_tick();
        self.drain();
        self.end_tick();
    }

    /// Lets `ticks` pass.
    pub fn run(&mut self, ticks: u64) {
        (0..ticks).for_each(|_| self.tick());
    }

    /// The first half of a tick: messages arrive, and clocks tick. [`drain`](Self::drain) is the other.
    pub fn begin_tick(&mut self) {
        self.now += 1;
        self.arrive(self.now);
        let on_halt = self.on_halt;
        for place in self.places.values_mut().filter(|place| place.is_ticked) {
            if let Some(server) = &mut place.server {
                on_halt.check(server.try_tick());
            }
        }
    }

    /// Takes the outgoing messages of all servers into flight.
    pub fn drain(&mut self) {
        let mut outgoing = std::mem::take(&mut self.outgoing);
        let on_halt = self.on_halt;
        for place in self.places.values_mut().filter(|place| place.is_drained) {
            if let Some(server) = &mut place.server {
                on_halt.check(server.try_take_outgoing_messages(&mut outgoing));
            }
        }
        for mut message in outgoing.drain(..) {
            match self.network.fate(self.now, &mut message) {
                Fate::Arrives(ticks) => self.in_flight.push((self.now + ticks, message)),
                Fate::ArrivesTwice(first, second) => {
                    self.in_flight.push((self.now + first, message.clone()));
                    self.in_flight.push((self.now + second, message));
                }
                Fate::Lost => {}
                Fate::Held => self.held.push(message),
            }
        }
        self.outgoing = outgoing;
    }

    /// Delivers all that is in flight, and takes what that brings about into flight. Time stands still.
    pub fn deliver(&mut self) {
        self.arrive(u64::MAX);
        self.drain();
    }

    /// Delivers until nothing is in flight. Time stands still.
    ///
    /// # Panics
    /// If it does not end.
    pub fn settle(&mut self) {
        self.drain();
        for _ in 0..MOST_HOPS {
            if self.in_flight.is_empty() {
                return;
            }
            self.deliver();
        }
        panic!("messages without end: {:?}", self.in_flight);
    }

    /// Makes `pid` the leader of all that run.
    #[track_caller]
    pub fn elect(&mut self, pid: NodeId) {
        let running = self.running();
        self.elect_among(pid, &running);
    }

    /// Makes `pid` the leader of `servers`.
    ///
    /// # Panics
    /// If they do not follow it in the end.
    #[track_caller]
    pub fn elect_among(&mut self, pid: NodeId, servers: &[NodeId]) {
        self.run(25);
        self.server(pid).try_become_leader();
        self.run(25);
        for server in servers {
            assert_eq!(self.server(*server).get_current_leader(), Some(pid), "at {server}");
        }
    }

    /// Lets ticks pass until all servers have decided `decided_idx`. Returns their number.
    ///
    /// # Panics
    /// If that takes too long.
    #[track_caller]
    pub fn until_decided_everywhere(&mut self, decided_idx: u64) -> u64 {
        for ticks in 0..20_000 {
            if self.servers().all(|server| server.get_decided_idx() >= decided_idx) {
                return ticks;
            }
            self.tick();
        }
        panic!("not decided everywhere: {decided_idx}");
    }

    /// Delivers what arrives in this tick, until nothing does.
    fn end_tick(&mut self) {
        for _ in 0..MOST_HOPS {
            if self.in_flight.iter().all(|(at, _)| *at > self.now) {
                return;
            }
            self.arrive(self.now);
            self.drain();
        }
        panic!("messages without end: {:?}", self.in_flight);
    }

    /// Delivers the messages that arrive by a tick, in the order of their ticks.
    fn arrive(&mut self, by: u64) {
        let mut arriving = std::mem::take(&mut self.arriving);
        arriving.extend(self.in_flight.extract_if(.., |(at, _)| *at <= by));
        arriving.sort_by_key(|(at, _)| *at);
        arriving.drain(..).for_each(|(_, message)| self.hand_over(message));
        self.arriving = arriving;
    }

    fn hand_over(&mut self, message: Message<T>) {
        let (from, to) = (message.get_sender(), message.get_receiver());
        if self.cuts.contains(&(from, to)) {
            return;
        }
        let is_receiver = |server: &&mut OmniPaxos<T, B>| server.get_pid() == to;
        let count = self.servers_mut().filter(is_receiver).count();
        let (first, last) = match self.network.choose(count) {
            Some(chosen) => (chosen, chosen),
            None => (0, count.saturating_sub(1)),
        };
        let on_halt = self.on_halt;
        let mut receivers = self.servers_mut().filter(is_receiver).skip(first);
        for server in receivers.by_ref().take(last - first) {
            on_halt.check(server.try_handle_incoming(message.clone()));
        }
        if let Some(server) = receivers.next() {
            on_halt.check(server.try_handle_incoming(message));
        }
    }
}

impl OnHalt {
    fn check(self, result: Result<(), Halted>) {
        match (self, result) {
            (OnHalt::Panic, Err(halted)) => panic!("{halted}"),
            (OnHalt::Panic | OnHalt::StaySilent, _) => {}
        }
    }
}
