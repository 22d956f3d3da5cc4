//! User code that panics, at any place where a replica calls it, and a caller that catches
//! the panic: the replica has halted, shows only what it had decided and stored, and the cluster
//! continues with it or without it.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    ballot_leader_election::Ballot,
    errors::TryProposeErr,
    identity::Identity,
    messages::Message,
    storage::{Entry, Snapshot, StopSign, Storage, StorageOp, StorageResult},
    util::LogEntry,
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    panic::{catch_unwind, resume_unwind, AssertUnwindSafe},
    rc::Rc,
    thread,
};

thread_local! {
    /// Calls of user code within inputs.
    static CALLS: Cell<u64> = const { Cell::new(0) };
    /// The call that panics.
    static PANICS_AT: Cell<Option<u64>> = const { Cell::new(None) };
    /// Whether an input, and not the test, calls user code.
    static IS_INPUT: Cell<bool> = const { Cell::new(false) };
}

/// Counts a call of user code, which may panic.
fn called() {
    if !IS_INPUT.get() || thread::panicking() {
        return;
    }
    CALLS.set(CALLS.get() + 1);
    if PANICS_AT.get() == Some(CALLS.get()) {
        PANICS_AT.set(None);
        resume_unwind(Box::new("user code"));
    }
}

/// An entry of which each method may panic.
#[derive(PartialEq)]
struct Item(u64);

impl Clone for Item {
    fn clone(&self) -> Self {
        called();
        Self(self.0)
    }
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        called();
        write!(f, "Item({})", self.0)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        called();
    }
}

impl Entry for Item {
    type Snapshot = Items;
    omnipaxos::without_unicache!();

    fn size_hint(&self) -> usize {
        called();
        8
    }
}

/// All items, in order.
#[derive(PartialEq, Debug, serde::Serialize, serde::Deserialize)]
struct Items(Vec<u64>);

impl Clone for Items {
    fn clone(&self) -> Self {
        called();
        Self(self.0.clone())
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        called();
    }
}

impl Snapshot<Item> for Items {
    fn create(entries: &[Item]) -> Self {
        called();
        Self(entries.iter().map(|item| item.0).collect())
    }

    fn merge(&mut self, delta: Self) {
        called();
        self.0.extend(&delta.0);
        called();
    }

    fn use_snapshots() -> bool {
        true
    }
}

/// A storage in memory that outlives its replica. A write that panics leaves all of it or nothing.
#[derive(Clone, Debug, Default)]
struct Disk(Rc<RefCell<MemoryStorage<Item>>>);

impl Disk {
    fn write<R>(
        &self,
        write: impl FnOnce(&mut MemoryStorage<Item>) -> StorageResult<R>,
    ) -> StorageResult<R> {
        let mut changed = by_test(|| self.0.borrow().clone());
        called();
        let written = write(&mut changed)?;
        by_test(|| *self.0.borrow_mut() = changed);
        called();
        Ok(written)
    }
}

/// Runs user code for the test: it does not panic.
fn by_test<R>(run: impl FnOnce() -> R) -> R {
    let before = IS_INPUT.replace(false);
    let result = run();
    IS_INPUT.set(before);
    result
}

impl Storage<Item> for Disk {
    fn append_entry(&mut self, entry: Item) -> StorageResult<u64> {
        self.write(|storage| storage.append_entry(entry))
    }
    fn append_entries(&mut self, entries: Vec<Item>) -> StorageResult<u64> {
        self.write(|storage| storage.append_entries(entries))
    }
    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<Item>) -> StorageResult<u64> {
        self.write(|storage| storage.append_on_prefix(from_idx, entries))
    }
    fn set_promise(&mut self, n_prom: Ballot) -> StorageResult<()> {
        self.write(|storage| storage.set_promise(n_prom))
    }
    fn set_decided_idx(&mut self, ld: u64) -> StorageResult<()> {
        self.write(|storage| storage.set_decided_idx(ld))
    }
    fn get_decided_idx(&self) -> StorageResult<u64> {
        self.0.borrow().get_decided_idx()
    }
    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()> {
        self.write(|storage| storage.set_accepted_round(na))
    }
    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        self.0.borrow().get_accepted_round()
    }
    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<Item>> {
        called();
        self.0.borrow().get_entries(from, to)
    }
    fn get_log_len(&self) -> StorageResult<u64> {
        self.0.borrow().get_log_len()
    }
    fn get_suffix(&self, from: u64) -> StorageResult<Vec<Item>> {
        self.0.borrow().get_suffix(from)
    }
    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        self.0.borrow().get_promise()
    }
    fn set_stopsign(&mut self, s: Option<StopSign>) -> StorageResult<()> {
        self.write(|storage| storage.set_stopsign(s))
    }
    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        self.0.borrow().get_stopsign()
    }
    fn trim(&mut self, idx: u64) -> StorageResult<()> {
        self.write(|storage| storage.trim(idx))
    }
    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()> {
        self.write(|storage| storage.set_compacted_idx(idx))
    }
    fn get_compacted_idx(&self) -> StorageResult<u64> {
        self.0.borrow().get_compacted_idx()
    }
    fn set_snapshot(&mut self, snapshot: Option<Items>) -> StorageResult<()> {
        self.write(|storage| storage.set_snapshot(snapshot))
    }
    fn get_snapshot(&self) -> StorageResult<Option<Items>> {
        self.0.borrow().get_snapshot()
    }
    fn max_entry_bytes(&self) -> Option<u64> {
        called();
        Some(1000)
    }
    fn check_entry(&self, _: &Item, _: u64) -> StorageResult<()> {
        called();
        Ok(())
    }
    fn check_stopsign(&self, _: &StopSign, _: u64) -> StorageResult<()> {
        called();
        Ok(())
    }
    fn check_snapshot(&self, _: &Items) -> StorageResult<()> {
        called();
        Ok(())
    }
    fn next_incarnation(&mut self) -> StorageResult<Option<u64>> {
        self.0.borrow_mut().next_incarnation()
    }
    fn get_identity(&self) -> StorageResult<Option<Identity>> {
        self.0.borrow().get_identity()
    }
    fn set_identity(&mut self, identity: Identity) -> StorageResult<()> {
        self.write(|storage| storage.set_identity(identity))
    }
    fn get_storage_id(&self) -> StorageResult<Option<u64>> {
        Ok(Some(7))
    }
    fn write_atomically(&mut self, ops: &mut Vec<StorageOp<Item>>) -> StorageResult<()> {
        self.write(|storage| storage.write_atomically(ops))
    }
}

type Replica = OmniPaxos<Item, Disk>;

const PIDS: [u64; 3] = [1, 2, 3];

fn build(pid: u64, disk: Disk) -> Replica {
    let cluster =
        ClusterConfig { configuration_id: 1, nodes: PIDS.to_vec(), flexible_quorum: None };
    let server = ServerConfig {
        pid,
        election_tick_timeout: 5,
        max_in_flight_entries: 4,
        max_message_entries: 6,
        ..Default::default()
    };
    cluster.build_for_server(server, disk).unwrap()
}

/// Three servers of which one may panic.
struct Cluster {
    disks: BTreeMap<u64, Disk>,
    replicas: BTreeMap<u64, Replica>,
    messages: Vec<Message<Item>>,
    cut_off: Option<u64>,
    /// The server that has panicked, and the input.
    panicked: Option<(u64, &'static str)>,
}

impl Cluster {
    fn new() -> Self {
        let disks: BTreeMap<u64, Disk> = PIDS.map(|pid| (pid, Disk::default())).into();
        let replicas = PIDS.map(|pid| (pid, build(pid, disks[&pid].clone()))).into();
        Self { disks, replicas, messages: Vec::new(), cut_off: None, panicked: None }
    }

    /// Gives a server an input. One in which user code panics must leave it halted.
    fn input<R>(
        &mut self,
        pid: u64,
        name: &'static str,
        input: impl FnOnce(&mut Replica) -> R,
    ) -> Option<R> {
        let replica = self.replicas.get_mut(&pid).filter(|replica| replica.halted().is_none())?;
        IS_INPUT.set(true);
        let ended = catch_unwind(AssertUnwindSafe(|| input(replica)));
        IS_INPUT.set(false);
        match ended {
            Ok(result) => Some(result),
            Err(_panic) => {
                self.panicked = Some((pid, name));
                self.check_halted(pid, name);
                None
            }
        }
    }

    /// What a halted server may show, and that it does nothing more.
    fn check_halted(&mut self, pid: u64, name: &str) {
        let who = format!("server {pid}, {name}");
        let disk = self.disks[&pid].clone();
        let replica = self.replicas.get_mut(&pid).unwrap();
        let halted = replica.halted().cloned().unwrap_or_else(|| panic!("{who}: goes on"));
        assert!(halted.is_panic(), "{who}: {halted}");
        let text = format!("the replica has halted: user code panicked in `{name}`");
        assert_eq!(halted.to_string(), text);
        let decided_idx = replica.get_decided_idx();
        let held = disk.get_compacted_idx().unwrap()
            + disk.get_log_len().unwrap()
            + u64::from(disk.get_stopsign().unwrap().is_some());
        assert!(decided_idx <= held, "{who}: {decided_idx} decided, {held} on the disk");
        let status = replica.status();
        assert_eq!(status.decided_idx, decided_idx, "{who}");
        assert_eq!(status.compacted_idx, replica.get_compacted_idx(), "{who}");
        assert!(status.compacted_idx <= decided_idx, "{who}: {status:?}");
        if let Some(entries) = replica.try_read_decided_suffix(0).unwrap() {
            assert_prefix(&entries, &who);
        }
        assert_eq!(replica.read_entries(..=decided_idx), None, "{who}");
        assert_eq!(replica.try_tick(), Err(halted.clone()), "{who}");
        assert_eq!(replica.flush(), Err(halted.clone()), "{who}");
        let mut messages = Vec::new();
        assert_eq!(replica.try_take_outgoing_messages(&mut messages), Err(halted), "{who}");
        assert!(messages.is_empty(), "{who}");
        assert!(matches!(replica.try_append(Item(99)), Err(TryProposeErr::Halted(_))), "{who}");
    }

    /// Lets time pass and delivers what is sent.
    fn run(&mut self, ticks: u32) {
        for _ in 0..ticks {
            for pid in PIDS {
                self.input(pid, "tick", Replica::tick);
            }
            for _ in 0..6 {
                self.deliver();
            }
        }
    }

    fn deliver(&mut self) {
        for pid in PIDS {
            let mut sent = Vec::new();
            self.input(pid, "take_outgoing_messages", |replica| {
                replica.take_outgoing_messages(&mut sent);
            });
            self.messages.append(&mut sent);
        }
        for message in std::mem::take(&mut self.messages) {
            let (from, to) = (message.get_sender(), message.get_receiver());
            if self.cut_off != Some(from) && self.cut_off != Some(to) {
                self.input(to, "handle_incoming", |replica| replica.handle_incoming(message));
            }
        }
    }

    fn append(&mut self, pid: u64, numbers: std::ops::Range<u64>) {
        for number in numbers {
            self.input(pid, "append", |replica| drop(replica.append(Item(number))));
        }
    }

    /// The story: every input, with catching up by entries and by snapshots.
    fn story(&mut self) {
        self.input(1, "try_become_leader", Replica::try_become_leader);
        self.run(12);
        self.append(1, 0..3);
        self.append(2, 3..6);
        self.run(6);
        self.input(1, "propose", |replica| drop(replica.propose(Item(6))));
        self.input(3, "propose", |replica| drop(replica.propose(Item(7))));
        self.run(6);
        self.cut_off = Some(3);
        self.append(3, 50..52);
        self.append(1, 8..25);
        self.run(12);
        self.input(1, "snapshot", |replica| replica.snapshot(Some(10), true).ok());
        self.input(2, "snapshot", |replica| replica.compact(12).ok());
        self.append(1, 25..27);
        self.run(6);
        self.cut_off = None;
        self.input(3, "reconnected", |replica| replica.reconnected(1));
        self.run(20);
        self.input(1, "snapshot", |replica| replica.snapshot(None, false).ok());
        self.input(1, "trim", |replica| replica.trim(None).ok());
        self.run(10);
        self.append(1, 27..29);
        self.input(2, "request_read", |replica| drop(replica.request_read()));
        self.input(1, "transfer_leadership", |replica| drop(replica.transfer_leadership(2, 20)));
        self.append(3, 29..31);
        self.run(12);
        self.input(1, "flush", |replica| drop(replica.flush()));
        self.append(1, 31..33);
        self.append(2, 33..35);
        self.run(10);
        self.reconfigure(2);
        self.run(10);
    }

    /// Restarts the server that has panicked, and lets all catch up.
    fn restart(&mut self) {
        if let Some((pid, _)) = self.panicked {
            let halted = self.replicas.remove(&pid).unwrap();
            drop(halted.into_storage());
            self.replicas.insert(pid, build(pid, self.disks[&pid].clone()));
        }
        self.run(60);
        self.reconfigure(self.replicas[&1].get_current_leader().expect("there is a leader"));
        self.run(30);
    }

    fn reconfigure(&mut self, pid: u64) {
        let next =
            ClusterConfig { configuration_id: 2, nodes: PIDS.to_vec(), ..Default::default() };
        self.input(pid, "reconfigure", |replica| drop(replica.reconfigure(next, None)));
    }

    /// The decided items, the same at all servers.
    fn decided(&self) -> Vec<u64> {
        let of = |pid: u64| {
            let replica = &self.replicas[&pid];
            assert!(replica.is_reconfigured().is_some(), "server {pid} has the stop sign");
            items(&replica.read_decided_suffix(0).unwrap())
        };
        let (first, second, third) = (of(1), of(2), of(3));
        assert_eq!(first, second);
        assert_eq!(first, third);
        first
    }
}

fn items(entries: &[LogEntry<Item>]) -> Vec<u64> {
    let mut items = Vec::new();
    for entry in entries {
        match entry {
            LogEntry::Decided(item) => items.push(item.0),
            LogEntry::Snapshotted(snapshot) => items.extend(&snapshot.snapshot.0),
            LogEntry::StopSign(_, true) => {}
            other => panic!("{other:?}"),
        }
    }
    items
}

thread_local! {
    /// What the servers that halted showed, to be a prefix of what is decided in the end.
    static SHOWN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

fn assert_prefix(entries: &[LogEntry<Item>], who: &str) {
    let shown = items(entries);
    assert!(!shown.is_empty(), "{who}");
    SHOWN.with_borrow_mut(|all| *all = shown);
}

/// Runs the story with a panic in this call of user code. Returns what panicked.
fn run_with_panic_at(call: Option<u64>) -> Option<(u64, &'static str)> {
    CALLS.set(0);
    PANICS_AT.set(call);
    SHOWN.take();
    let mut cluster = Cluster::new();
    cluster.story();
    PANICS_AT.set(None);
    cluster.restart();
    let decided = cluster.decided();
    let shown = SHOWN.take();
    assert_eq!(decided.get(..shown.len()), Some(&*shown), "call {call:?}");
    for number in 0..3 {
        let count = decided.iter().filter(|item| **item == number).count();
        assert!(count <= 1, "call {call:?}: {number} is decided {count} times");
    }
    cluster.panicked
}

#[test]
fn a_panic_in_any_call_of_the_users_code_halts_the_replica() {
    assert_eq!(run_with_panic_at(None), None);
    let calls = CALLS.get();
    assert!(calls > 500, "{calls} calls of user code");
    let mut panicked: BTreeMap<&str, u64> = BTreeMap::new();
    for call in 1..=calls {
        if let Some((_, input)) = run_with_panic_at(Some(call)) {
            *panicked.entry(input).or_default() += 1;
        }
    }
    println!("{calls} calls; panics in {panicked:?}");
    for input in [
        "append",
        "propose",
        "handle_incoming",
        "take_outgoing_messages",
        "snapshot",
        "reconfigure",
    ] {
        assert!(panicked.contains_key(input), "{input}: {panicked:?}");
    }
}

/// A server alone that has decided five items, and one whose write panics.
fn alone_with_a_panic() -> (Replica, Disk) {
    PANICS_AT.set(None);
    let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    let disk = Disk::default();
    let server = ServerConfig { pid: 1, ..Default::default() };
    let mut replica: Replica = cluster.build_for_server(server, disk.clone()).unwrap();
    (0..30).for_each(|_| replica.tick());
    (0..5).for_each(|number| replica.append(Item(number)).unwrap());
    replica.outgoing_messages();
    replica.append(Item(5)).unwrap();
    IS_INPUT.set(true);
    // The first call in the write: nothing is written.
    CALLS.set(0);
    PANICS_AT.set(Some(1));
    let caught = catch_unwind(AssertUnwindSafe(|| replica.outgoing_messages()));
    IS_INPUT.set(false);
    assert!(caught.is_err());
    (replica, disk)
}

#[test]
fn what_a_write_that_panicked_did_not_store_is_not_decided() {
    let (mut replica, disk) = alone_with_a_panic();
    let halted = replica.halted().cloned().expect("it has halted");
    assert_eq!(
        halted.to_string(),
        "the replica has halted: user code panicked in `take_outgoing_messages`"
    );
    assert_eq!(replica.try_take_outgoing_messages(&mut Vec::new()), Err(halted));
    assert_eq!(disk.get_log_len().unwrap(), 5);
    assert_eq!((replica.get_decided_idx(), replica.status().decided_idx), (5, 5));
    assert_eq!(replica.read_decided_suffix(0).map(|read| read.len()), Some(5));
    assert_eq!(replica.read(5), None);
    let storage = replica.into_storage();
    assert_eq!(storage.get_log_len().unwrap(), 5);
}

#[test]
fn a_panic_in_a_read_changes_nothing() {
    let (replica, disk) = alone_with_a_panic();
    drop(replica);
    let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    let server = ServerConfig { pid: 1, ..Default::default() };
    let mut replica: Replica = cluster.build_for_server(server, disk).unwrap();
    (0..30).for_each(|_| replica.tick());
    replica.outgoing_messages();
    let reads: [fn(&Replica); 4] = [
        |replica| drop(replica.read(0)),
        |replica| drop(replica.read_entries(0..3)),
        |replica| drop(replica.read_decided_suffix(0)),
        |replica| _ = replica.for_each_decided(0, |_| panic_quietly()),
    ];
    for (number, read) in reads.into_iter().enumerate() {
        IS_INPUT.set(true);
        CALLS.set(0);
        PANICS_AT.set(Some(1));
        let caught = catch_unwind(AssertUnwindSafe(|| read(&replica)));
        IS_INPUT.set(false);
        PANICS_AT.set(None);
        assert!(caught.is_err(), "read {number}");
        assert_eq!(replica.halted(), None, "read {number}");
    }
    replica.append(Item(7)).unwrap();
    replica.outgoing_messages();
    assert_eq!(items(&replica.read_decided_suffix(0).unwrap()), [0, 1, 2, 3, 4, 7]);
}

fn panic_quietly() {
    resume_unwind(Box::new("a visitor"));
}
