//! What leaves a node before its storage has written, and what a crash in between loses.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{config, entries, within, Word};
use omnipaxos::{
    ballot_leader_election::Ballot,
    macros::Entry,
    messages::{sequence_paxos::PaxosMsg, Message},
    storage::{Entry, Snapshot, StopSign, Storage, StorageOp, StorageResult},
};
use omnipaxos_runtime::{errors::NodeError, Decided, Inbox, Node, OmniPaxosHandle, Transport};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex,
    },
    time::Duration,
};
use tokio::{
    task::{yield_now, JoinSet},
    time::{sleep, timeout},
};

/// What a node does that others can see.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Step {
    /// It stores entries.
    Writes,
    /// It compacts, and the snapshot may be durable later.
    Compacts,
    Sends(&'static str, u64),
    /// It is asked whether a message can have an entry.
    Checks,
    /// It answers a read.
    Reads,
    /// It reads its snapshot.
    ReadsSnapshot,
}

type Steps = Arc<Mutex<Vec<Step>>>;

/// A disk. After a power failure it refuses all writes, and a new handle finds what was written.
#[derive(Clone)]
struct Disk<T: Entry> {
    content: Arc<Mutex<MemoryStorage<T>>>,
    has_power: Arc<AtomicBool>,
    steps: Steps,
}

impl<T: Entry> Disk<T> {
    fn new(steps: Steps) -> Self {
        Self { content: Arc::default(), has_power: Arc::new(true.into()), steps }
    }

    fn lose_power(&self) {
        self.has_power.store(false, Ordering::Relaxed);
    }

    /// The same disk, in a server that starts again.
    fn with_power(&self) -> Self {
        Self { has_power: Arc::new(true.into()), ..self.clone() }
    }

    fn write<R>(
        &self,
        write: impl FnOnce(&mut MemoryStorage<T>) -> StorageResult<R>,
    ) -> StorageResult<R> {
        match self.has_power.load(Ordering::Relaxed) {
            true => write(&mut self.content.lock().unwrap()),
            false => Err("no power".into()),
        }
    }

    fn read<R>(&self, read: impl FnOnce(&MemoryStorage<T>) -> R) -> R {
        read(&self.content.lock().unwrap())
    }
}

impl<T: Entry> Storage<T> for Disk<T> {
    fn append_entry(&mut self, entry: T) -> StorageResult<u64> {
        self.write(|disk| disk.append_entry(entry))
    }
    fn append_entries(&mut self, entries: Vec<T>) -> StorageResult<u64> {
        self.write(|disk| disk.append_entries(entries))
    }
    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<T>) -> StorageResult<u64> {
        self.write(|disk| disk.append_on_prefix(from_idx, entries))
    }
    fn set_promise(&mut self, promise: Ballot) -> StorageResult<()> {
        self.write(|disk| disk.set_promise(promise))
    }
    fn set_decided_idx(&mut self, decided_idx: u64) -> StorageResult<()> {
        self.write(|disk| disk.set_decided_idx(decided_idx))
    }
    fn get_decided_idx(&self) -> StorageResult<u64> {
        self.read(MemoryStorage::get_decided_idx)
    }
    fn set_accepted_round(&mut self, round: Ballot) -> StorageResult<()> {
        self.write(|disk| disk.set_accepted_round(round))
    }
    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        self.read(MemoryStorage::get_accepted_round)
    }
    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<T>> {
        self.read(|disk| disk.get_entries(from, to))
    }
    fn get_log_len(&self) -> StorageResult<u64> {
        self.read(MemoryStorage::get_log_len)
    }
    fn get_suffix(&self, from: u64) -> StorageResult<Vec<T>> {
        self.read(|disk| disk.get_suffix(from))
    }
    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        self.read(MemoryStorage::get_promise)
    }
    fn set_stopsign(&mut self, stopsign: Option<StopSign>) -> StorageResult<()> {
        self.write(|disk| disk.set_stopsign(stopsign))
    }
    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        self.read(MemoryStorage::get_stopsign)
    }
    fn trim(&mut self, idx: u64) -> StorageResult<()> {
        self.write(|disk| disk.trim(idx))
    }
    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()> {
        self.write(|disk| disk.set_compacted_idx(idx))
    }
    fn get_compacted_idx(&self) -> StorageResult<u64> {
        self.read(MemoryStorage::get_compacted_idx)
    }
    fn set_snapshot(&mut self, snapshot: Option<T::Snapshot>) -> StorageResult<()> {
        self.write(|disk| disk.set_snapshot(snapshot))
    }
    fn get_snapshot(&self) -> StorageResult<Option<T::Snapshot>> {
        self.steps.lock().unwrap().push(Step::ReadsSnapshot);
        self.read(MemoryStorage::get_snapshot)
    }
    fn next_incarnation(&mut self) -> StorageResult<Option<u64>> {
        self.write(MemoryStorage::next_incarnation)
    }
    fn write_atomically(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        let stores = |op: &StorageOp<T>| {
            matches!(
                op,
                StorageOp::AppendEntry(_)
                    | StorageOp::AppendEntries(_)
                    | StorageOp::AppendOnPrefix(..)
                    | StorageOp::AppendShared(_)
                    | StorageOp::AppendSharedOnPrefix(..)
            )
        };
        if ops.iter().any(stores) {
            self.steps.lock().unwrap().push(Step::Writes);
        }
        self.write(|disk| disk.write_atomically(ops))
    }
    fn write_compaction(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        self.steps.lock().unwrap().push(Step::Compacts);
        self.write_atomically(ops)
    }
}

/// The handles of the servers that run.
type Handles<T> = Arc<Mutex<BTreeMap<u64, OmniPaxosHandle<T>>>>;

/// Carries messages in no time, and notes them: so a decision may come before a leader writes.
struct Noting<T: Entry> {
    handles: Handles<T>,
    steps: Steps,
    /// Whether an answer to a read arrives at its server together with the next entries.
    holds_answers: Arc<AtomicBool>,
    /// By receiver.
    held: BTreeMap<u64, Message<T>>,
}

impl<T: Entry + Send + Sync + 'static> Transport<T> for Noting<T>
where
    T::Snapshot: Send + Sync,
{
    async fn start(&mut self, _own: u64, _inbox: Inbox<T>) -> io::Result<()> {
        Ok(())
    }

    fn check_entry(&self, _entry: &T) -> Result<(), String> {
        self.steps.lock().unwrap().push(Step::Checks);
        Ok(())
    }

    fn send(&mut self, to: u64, messages: &mut Vec<Message<T>>) {
        for message in messages.drain(..) {
            let kind = match &message {
                Message::SequencePaxos(paxos) => match paxos.msg {
                    PaxosMsg::AcceptDecide(_) => "AcceptDecide",
                    PaxosMsg::Accepted(_) => "Accepted",
                    PaxosMsg::ReadIndexResponse(_) => "ReadIndexResponse",
                    _ => "another message",
                },
                _ => "a heartbeat",
            };
            self.steps.lock().unwrap().push(Step::Sends(kind, to));
            if kind == "ReadIndexResponse" && self.holds_answers.load(Ordering::Relaxed) {
                self.held.insert(to, message);
                continue;
            }
            let held = if kind == "AcceptDecide" { self.held.remove(&to) } else { None };
            let handles = self.handles.clone();
            tokio::spawn(async move {
                let handle = handles.lock().unwrap().get(&to).cloned();
                for message in held.into_iter().chain([message]) {
                    // A server that is down, or busy, loses it.
                    let _ = handle.as_ref().map(|handle| handle.handle_incoming(message));
                }
            });
        }
    }
}

struct Cluster<T: Entry> {
    handles: Handles<T>,
    holds_answers: Arc<AtomicBool>,
    disks: BTreeMap<u64, Disk<T>>,
    nodes: BTreeMap<u64, Node<T, Disk<T>>>,
}

impl<T: Entry + Send + Sync + 'static> Cluster<T>
where
    T::Snapshot: Send + Sync,
{
    async fn start() -> Self {
        let disks = (1..=3).map(|pid| (pid, Disk::new(Steps::default()))).collect();
        let (handles, holds_answers) = (Handles::default(), Arc::default());
        let mut cluster = Self { handles, holds_answers, disks, nodes: BTreeMap::new() };
        for pid in 1..=3 {
            cluster.start_server(pid).await;
        }
        cluster
    }

    async fn start_server(&mut self, pid: u64) {
        let disk = self.disks[&pid].with_power();
        let transport = Noting {
            handles: self.handles.clone(),
            steps: disk.steps.clone(),
            holds_answers: self.holds_answers.clone(),
            held: BTreeMap::new(),
        };
        let node = Node::builder(config(pid, 3), disk.clone()).transport(transport);
        let node = node.on_runtime().start().await.unwrap();
        self.handles.lock().unwrap().insert(pid, node.handle());
        self.nodes.insert(pid, node);
        self.disks.insert(pid, disk);
    }

    /// Takes a server down. What it has not written is lost.
    async fn crash(&mut self, pid: u64) {
        self.disks[&pid].lose_power();
        self.handles.lock().unwrap().remove(&pid);
        let node = self.nodes.remove(&pid).unwrap();
        // It ends with a failed write, or had nothing to write.
        let _ = node.shutdown().await;
    }

    async fn leader(&self) -> u64 {
        loop {
            for node in self.nodes.values() {
                let leader = node.status().await.unwrap().leader;
                if let Some(leader) = leader.filter(|leader| self.nodes.contains_key(leader)) {
                    return leader;
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A cluster at rest with one entry, and its leader.
async fn at_rest() -> (Cluster<Word>, u64) {
    let cluster = Cluster::start().await;
    cluster.nodes[&1].append(Word::new("first")).await.unwrap();
    let leader = cluster.leader().await;
    sleep(Duration::from_secs(1)).await;
    for disk in cluster.disks.values() {
        disk.steps.lock().unwrap().clear();
    }
    (cluster, leader)
}

#[tokio::test(start_paused = true)]
async fn a_leader_sends_entries_before_it_writes_and_a_follower_accepts_them_after() {
    let (cluster, leader) = at_rest().await;
    cluster.nodes[&leader].append(Word::new("second")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    for (pid, disk) in &cluster.disks {
        let steps = disk.steps.lock().unwrap().clone();
        let first = |step: Step| steps.iter().position(|other| *other == step);
        let writes = first(Step::Writes).expect("everybody stores the entry");
        if *pid == leader {
            for follower in (1..=3).filter(|follower| *follower != leader) {
                let sends = first(Step::Sends("AcceptDecide", follower)).unwrap();
                assert!(sends < writes, "{steps:?}");
            }
        } else {
            assert!(writes < first(Step::Sends("Accepted", leader)).unwrap(), "{steps:?}");
        }
    }
}

/// Between them, ticks and messages of others are handled.
#[tokio::test(start_paused = true)]
async fn many_large_entries_take_several_outputs() {
    let (cluster, leader) = at_rest().await;
    let append = |n: u64| {
        let word = Word::new(n.to_string() + &"x".repeat(300_000));
        cluster.nodes[&leader].append_notify(word).unwrap()
    };
    let appending: Vec<_> = (0..40).map(append).collect();
    for (idx, append) in (1..).zip(appending) {
        assert_eq!(append.await.unwrap(), idx);
    }
    let steps = cluster.disks[&leader].steps.lock().unwrap().clone();
    let of_checks = steps.chunk_by(|a, b| *a == Step::Checks && a == b);
    let longest = of_checks.filter(|steps| steps[0] == Step::Checks).map(<[Step]>::len).max();
    // Each time four are taken. Nothing may be due between two times.
    assert!(longest < Some(20), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_read_does_not_wait_for_the_write_of_entries_that_came_with_its_answer() {
    let (cluster, leader) = at_rest().await;
    let follower = leader % 3 + 1;
    let (node, steps) = (cluster.nodes[&follower].handle(), &cluster.disks[&follower].steps);
    cluster.holds_answers.store(true, Ordering::Relaxed);
    let reading = tokio::spawn({
        let steps = steps.clone();
        async move {
            assert_eq!(node.read_index().await.unwrap(), 1);
            steps.lock().unwrap().push(Step::Reads);
        }
    });
    sleep(Duration::from_millis(1)).await;
    cluster.nodes[&leader].append(Word::new("second")).await.unwrap();
    within("the read", reading).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let mut steps = steps.lock().unwrap().clone();
    steps.retain(|step| matches!(step, Step::Reads | Step::Writes));
    assert_eq!(steps, [Step::Reads, Step::Writes]);
}

/// A number. Its snapshot is a sum.
#[derive(Clone, Debug, Entry, Serialize, Deserialize)]
#[snapshot(Total)]
struct Number(u64);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Total(u64);

impl Snapshot<Number> for Total {
    fn create(numbers: &[Number]) -> Self {
        Self(numbers.iter().map(|number| number.0).sum())
    }

    fn merge(&mut self, later: Self) {
        self.0 += later.0;
    }

    fn use_snapshots() -> bool {
        true
    }
}

/// A leader decides before it has written. Nevertheless the snapshot of what it decided may be durable later.
#[tokio::test(start_paused = true)]
async fn no_server_waits_for_the_snapshot_of_a_compaction() {
    let cluster = Cluster::<Number>::start().await;
    cluster.nodes[&1].append(Number(1)).await.unwrap();
    let leader = cluster.leader().await;
    let (disk, node) = (&cluster.disks[&leader], &cluster.nodes[&leader]);
    // Whether the leader had decided an entry that it had not written.
    let mut was_early = false;
    for number in 2..50 {
        let idx = node.append(Number(number)).await.unwrap();
        was_early |= disk.get_log_len().unwrap() + disk.get_compacted_idx().unwrap() <= idx;
        disk.steps.lock().unwrap().clear();
        node.compact(idx + 1).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let steps = disk.steps.lock().unwrap();
        assert!(steps.contains(&Step::Compacts), "{number}: {steps:?}");
    }
    assert!(was_early);
}

#[tokio::test(start_paused = true)]
async fn no_acknowledged_entry_is_lost_in_crashes_between_messages_and_writes() {
    let mut cluster = Cluster::start().await;
    let (mut acknowledged, mut appending) = (Vec::new(), JoinSet::new());
    // Acknowledged by a server that crashed before it had written the entry.
    let mut unwritten = 0;
    for round in 0..200_usize {
        // Once a leader serves. Each second time it crashes.
        within("a read", cluster.nodes[&1].read_index()).await.unwrap();
        let leader = cluster.leader().await;
        let pid = if round % 2 == 0 { leader } else { round as u64 / 2 % 3 + 1 };
        for (server, handle) in cluster.handles.lock().unwrap().clone() {
            for number in 0..3 {
                let (handle, text) = (handle.clone(), format!("{round}.{server}.{number}"));
                appending.spawn(async move {
                    let appended = handle.append(Word::new(text.clone())).await;
                    appended.ok().map(|idx| (server, idx, text))
                });
            }
        }
        // In the middle of the exchange of messages, which takes no time.
        for _ in 0..round % 60 {
            yield_now().await;
        }
        cluster.crash(pid).await;
        let written = cluster.disks[&pid].get_log_len().unwrap();
        while let Some(appended) = appending.try_join_next() {
            if let Some((server, idx, text)) = appended.unwrap() {
                unwritten += u64::from(server == pid && idx >= written);
                acknowledged.push((idx, text));
            }
        }
        cluster.start_server(pid).await;
    }
    while let Some(appended) = within("the appends", appending.join_next()).await {
        acknowledged.extend(appended.unwrap().map(|(_server, idx, text)| (idx, text)));
    }
    assert!(acknowledged.len() > 500, "{} of 1,800", acknowledged.len());
    assert!(unwritten > 0, "no crash came between an answer and the write of its entry");
    for node in cluster.nodes.values() {
        let length = node.read_index().await.unwrap();
        let log = entries(&mut node.decided(0), 0, length).await;
        for (idx, text) in &acknowledged {
            assert_eq!(log[usize::try_from(*idx).unwrap()], *text);
        }
    }
    println!("{} acknowledged, {unwritten} of them before their write", acknowledged.len());
}

#[tokio::test]
async fn a_shutdown_that_is_dropped_ends_the_node_whose_queue_was_full() {
    let disk = Disk::new(Steps::default());
    let node = Node::builder(config(1, 1), disk.clone()).start().await.unwrap();
    let handle = node.handle();
    node.append(Word::new("decided")).await.unwrap();
    let (stall, is_stalled) = std::sync::mpsc::channel::<()>();
    let stalling = std::thread::spawn(move || {
        let _writes_nothing = disk.content.lock().unwrap();
        // Until the sender is dropped.
        let _ = is_stalled.recv();
    });
    // The replica takes some more before it stalls in a write.
    for _attempt in 0..20 {
        while handle.append_notify(Word::new("waits")).is_ok() {}
        sleep(Duration::from_millis(10)).await;
    }
    let shut_down = timeout(Duration::from_millis(10), node.shutdown()).await;
    assert!(shut_down.is_err(), "it must wait for the disk");
    drop(stall);
    stalling.join().unwrap();
    let ended = within("the end", handle.ended_with()).await;
    assert_eq!(ended, NodeError::ShutDown);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_whose_last_write_fails_returns_an_error() {
    let disk = Disk::new(Steps::default());
    let node = Node::builder(config(1, 1), disk.clone()).on_runtime().start().await.unwrap();
    node.append(Word::new("decided")).await.unwrap();
    // The decided index waits for the next write.
    disk.lose_power();
    let ended = node.shutdown().await.map(|_disk| ()).unwrap_err();
    assert!(matches!(ended, NodeError::Halted(_)), "{ended}");
    let node = Node::builder(config(1, 1), disk.with_power()).on_runtime().start().await.unwrap();
    assert_eq!(entries(&mut node.decided(0), 0, 1).await, ["decided"]);
}

/// Fills the queue of requests.
fn fill(handle: &OmniPaxosHandle<Word>) {
    while handle.append_notify(Word::new("waits")).is_ok() {}
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_room_and_is_not_polled_stops_no_shutdown() {
    let disk = Disk::new(Steps::default());
    let node = Node::builder(config(1, 1), disk).on_runtime().start().await.unwrap();
    let handle = node.handle();
    fill(&handle);
    let mut status = Box::pin(handle.status());
    assert!(timeout(Duration::ZERO, &mut status).await.is_err(), "there is no room");
    // It has room now, and does not use it.
    sleep(Duration::from_millis(1)).await;
    fill(&handle);
    let ended = timeout(Duration::from_secs(100), node.shutdown()).await;
    ended.expect("the shutdown hangs").unwrap();
}

/// A snapshot may be large, and then its reading takes long. Between two of them the node does all else.
#[tokio::test(start_paused = true)]
async fn streams_that_need_the_snapshot_get_it_one_after_the_other() {
    let steps = Steps::default();
    let node = Node::builder(config(1, 1), Disk::new(steps.clone()));
    let node = node.on_runtime().start().await.unwrap();
    for number in 1..5 {
        node.append(Number(number)).await.unwrap();
    }
    node.compact(3).await.unwrap();
    steps.lock().unwrap().clear();
    let mut streams = JoinSet::new();
    for _ in 0..3 {
        let (mut log, node) = (node.decided(0), node.handle());
        streams.spawn(async move {
            let first = log.next().await.unwrap().unwrap();
            assert!(matches!(first, Decided::Snapshot { idx: 3, snapshot: Total(6) }));
            let second = log.next().await.unwrap().unwrap();
            assert!(matches!(second, Decided::Entry { idx: 3, entry: Number(4) }));
            node.append(Number(7)).await.unwrap();
        });
    }
    while let Some(stream) = within("the snapshot", streams.join_next()).await {
        stream.unwrap();
    }
    let mut steps = steps.lock().unwrap().clone();
    steps.retain(|step| matches!(step, Step::ReadsSnapshot | Step::Writes));
    assert_eq!(steps[..4], [Step::ReadsSnapshot, Step::Writes].repeat(2), "{steps:?}");
    assert_eq!(steps.iter().filter(|step| **step == Step::ReadsSnapshot).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_stream_does_not_keep_the_node_alive() {
    let disk = Disk::new(Steps::default());
    let node = Node::builder(config(1, 1), disk).on_runtime().start().await.unwrap();
    let (mut events, mut log) = (node.events(), node.decided(0));
    fill(&node);
    assert!(timeout(Duration::ZERO, log.next()).await.is_err(), "nothing is decided");
    drop(node);
    let ends = async { while events.next().await.is_some() {} };
    timeout(Duration::from_secs(100), ends).await.expect("the node does not end");
}
