//! Nodes in one task with paused time, over a network of channels.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{config, entries, Word};
use omnipaxos::{
    members::MemberChange,
    messages::Message,
    storage::{Entry, NoSnapshot},
    ClusterConfig, OmniPaxosConfig, ServerConfig,
};
use omnipaxos_runtime::{
    errors::{
        AppendError, DecidedError, Known, NodeError, ReadError, ReconfigureError, StartError,
    },
    spawn_actor, ChannelTransport, Decided, Inbox, Node, OmniPaxosHandle, OutgoingMessages,
    Transport,
};
use omnipaxos_storage::{
    memory_storage::MemoryStorage,
    persistent_storage::{PersistentStorage, PersistentStorageConfig},
};
use std::{
    collections::BTreeSet,
    io,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex,
    },
    time::Duration,
};
use tokio::time::{sleep, timeout};

type Handle = OmniPaxosHandle<Word>;
type MemoryNode = Node<Word, MemoryStorage<Word>>;

/// The servers that are cut off.
#[derive(Clone, Default)]
struct Cuts(Arc<Mutex<BTreeSet<u64>>>);

impl Cuts {
    fn cut(&self, pid: u64) {
        self.0.lock().unwrap().insert(pid);
    }

    fn heal(&self) {
        self.0.lock().unwrap().clear();
    }

    fn separates(&self, a: u64, b: u64) -> bool {
        let cut = self.0.lock().unwrap();
        cut.contains(&a) || cut.contains(&b)
    }
}

/// Carries messages, each for a millisecond.
async fn carry(from: u64, mut messages: OutgoingMessages<Word>, to: Vec<Handle>, cuts: Cuts) {
    while let Some(message) = messages.recv().await {
        let receiver = message.get_receiver();
        if let Some(handle) = to.iter().find(|handle| handle.pid() == receiver).cloned() {
            let cuts = cuts.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(1)).await;
                if !cuts.separates(from, receiver) {
                    // A full queue loses messages as a network does.
                    let _ = handle.handle_incoming(message);
                }
            });
        }
    }
}

async fn cluster() -> (Vec<MemoryNode>, Cuts) {
    cluster_of((1..=3).map(|pid| config(pid, 3)).collect()).await
}

/// Servers 1, 2 and so on, with these configurations.
async fn cluster_of(configs: Vec<OmniPaxosConfig>) -> (Vec<MemoryNode>, Cuts) {
    let cuts = Cuts::default();
    let (mut nodes, mut outgoing) = (Vec::new(), Vec::new());
    for config in configs {
        let (transport, messages) = ChannelTransport::new(1000);
        let node = Node::builder(config, MemoryStorage::default()).transport(transport);
        nodes.push(node.on_runtime().start().await.unwrap());
        outgoing.push(messages);
    }
    let handles: Vec<Handle> = nodes.iter().map(Node::handle).collect();
    for (pid, messages) in (1..).zip(outgoing) {
        tokio::spawn(carry(pid, messages, handles.clone(), cuts.clone()));
    }
    (nodes, cuts)
}

#[tokio::test(start_paused = true)]
async fn a_minority_waits_and_the_rest_goes_on() {
    let (nodes, cuts) = cluster().await;
    nodes[0].append(Word::new("first")).await.unwrap();
    let leader = nodes[0].status().await.unwrap().leader.unwrap();
    let at = usize::try_from(leader).unwrap() - 1;
    cuts.cut(leader);
    // The old leader neither decides nor reads.
    let alone = nodes[at].append_notify(Word::new("alone")).unwrap();
    let long = Duration::from_secs(60);
    assert!(timeout(long, nodes[at].read_index()).await.is_err());
    let other = &nodes[(at + 1) % 3];
    assert_eq!(other.append(Word::new("second")).await.unwrap(), 1);
    assert_eq!(other.read_index().await.unwrap(), 2);
    assert_eq!(nodes[at].status().await.unwrap().decided_idx, 1);
    cuts.heal();
    // The proposal ends: it is decided after the others.
    assert_eq!(alone.await.unwrap(), 2);
    for node in &nodes {
        assert_eq!(entries(&mut node.decided(0), 0, 3).await, ["first", "second", "alone"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_returns_the_entry() {
    let node = Node::builder(config(1, 1), MemoryStorage::<Word>::default());
    let node = node.on_runtime().start().await.unwrap();
    // The replica shares this thread: it takes nothing before the first wait.
    let mut appending = Vec::new();
    let refused = loop {
        match node.append_notify(Word::new(appending.len().to_string())) {
            Ok(append) => appending.push(append),
            Err(refused) => break refused,
        }
    };
    assert_eq!(appending.len(), 4096);
    assert_eq!(refused.known(), Known::NotDecided);
    assert!(matches!(refused, AppendError::Busy(Word(word)) if word == "4096"));
    // A call that waits for room gets it.
    assert_eq!(node.append(Word::new("waits")).await.unwrap(), 4096);
    for (idx, append) in (0..).zip(appending) {
        assert_eq!(append.await.unwrap(), idx);
    }
}

/// The queue counts the bytes of entries, not only their number.
#[tokio::test(start_paused = true)]
async fn large_entries_that_wait_are_bounded() {
    const MIB: usize = 1024 * 1024;
    let node = Node::builder(config(1, 1), MemoryStorage::<Word>::default());
    let node = node.on_runtime().start().await.unwrap();
    let large = || Word::new("x".repeat(MIB));
    // Of more than a MiB each, 31 have room. The replica takes none before the first wait.
    let appending: Vec<_> = (0..31).map(|_| node.append_notify(large()).unwrap()).collect();
    let refused = node.append_notify(large()).unwrap_err();
    assert_eq!(refused.known(), Known::NotDecided);
    assert!(matches!(refused, AppendError::Busy(Word(word)) if word.len() == MIB));
    let small = node.append_notify(Word::new("small")).unwrap();
    // Calls that wait get room, also for an entry that is larger than all of it.
    let (waits, huge) =
        tokio::join!(node.append(large()), node.append(Word::new("x".repeat(40 * MIB))));
    assert_eq!(waits.unwrap() + huge.unwrap(), 32 + 33);
    for (idx, append) in (0..).zip(appending.into_iter().chain([small])) {
        assert_eq!(append.await.unwrap(), idx);
    }
    // A call that waits for room learns that the node has ended.
    let _last: Vec<_> = (0..31).map(|_| node.append_notify(large()).unwrap()).collect();
    let handle = node.handle();
    let (waits, ended) = tokio::join!(handle.append(large()), node.shutdown());
    ended.unwrap();
    let refused = waits.unwrap_err();
    assert_eq!(refused.known(), Known::NotDecided);
    assert!(matches!(refused, AppendError::Ended { entry: Some(_), .. }), "{refused}");
}

/// They take several outputs, between which others are served. A shutdown waits for all before it.
#[tokio::test(start_paused = true)]
async fn large_entries_keep_their_order() {
    let node = Node::builder(config(1, 1), MemoryStorage::<Word>::default());
    let node = node.on_runtime().start().await.unwrap();
    let large = |first: &str| Word::new(first.to_string() + &"x".repeat(300_000));
    let appending: Vec<_> =
        (0..50).map(|n| node.append_notify(large(&n.to_string())).unwrap()).collect();
    let behind = node.append_notify(Word::new("behind")).unwrap();
    for (idx, append) in (0..).zip(appending) {
        assert_eq!(append.await.unwrap(), idx);
    }
    assert_eq!(behind.await.unwrap(), 50);
    let mut log = node.decided(0);
    for n in 0..50_u64 {
        assert!(entries(&mut log, n, 1).await[0].starts_with(&format!("{n}x")));
    }
    let last: Vec<_> = (0..50).map(|_| node.append_notify(large("last")).unwrap()).collect();
    let storage = node.shutdown().await.unwrap();
    for append in last {
        let known = append.await.map_or_else(|error| error.known(), |_| Known::Unknown);
        assert_eq!(known, Known::Unknown, "it was taken");
    }
    drop(storage);
}

#[tokio::test(start_paused = true)]
async fn proposals_without_a_leader_are_bounded() {
    let mut config = config(1, 2);
    config.server_config.max_pending_entries = 2;
    config.server_config.max_entry_bytes = Some(1000);
    let node = Node::builder(config, MemoryStorage::<Word>::default());
    let node = node.on_runtime().start().await.unwrap();
    let waiting: Vec<_> =
        (0..2).map(|number| node.append_notify(Word::new(number.to_string())).unwrap()).collect();
    let busy = node.append(Word::new("third")).await.unwrap_err();
    assert!(matches!(busy, AppendError::Busy(Word(word)) if word == "third"));
    let large = node.append(Word::new("x".repeat(2000))).await.unwrap_err();
    assert!(matches!(large, AppendError::TooLarge(..)), "{large}");
    let storage = node.shutdown().await.unwrap();
    for append in waiting {
        let error = append.await.unwrap_err();
        assert!(matches!(error, AppendError::Ended { entry: None, .. }), "{error}");
        assert_eq!(error.known(), Known::Unknown);
    }
    drop(storage);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_the_log_misses_nothing() {
    let node = Node::builder(config(1, 1), MemoryStorage::<Word>::default());
    let node = node.on_runtime().start().await.unwrap();
    let mut log = node.decided(0);
    for number in 0..5000 {
        node.append(Word::new(number.to_string())).await.unwrap();
    }
    let words = entries(&mut log, 0, 5000).await;
    assert!((0..5000).map(|number| number.to_string()).eq(words));
    // It waits for more, and a dropped wait loses nothing.
    assert!(timeout(Duration::from_secs(1), log.next()).await.is_err());
    node.append(Word::new("more")).await.unwrap();
    assert_eq!(entries(&mut log, 5000, 1).await, ["more"]);
}

#[tokio::test(start_paused = true)]
async fn trimmed_entries_are_an_error_and_no_gap() {
    let node = Node::builder(config(1, 1), MemoryStorage::<Word>::default());
    let node = node.on_runtime().start().await.unwrap();
    let mut early = node.decided(0);
    for number in 0..4 {
        node.append(Word::new(number.to_string())).await.unwrap();
    }
    assert_eq!(entries(&mut early, 0, 1).await, ["0"]);
    let mut late = node.decided(1);
    node.compact(3).await.unwrap();
    assert!(matches!(late.next().await, Some(Err(DecidedError::Trimmed(3)))));
    assert!(late.next().await.is_none());
    assert_eq!(entries(&mut node.decided(3), 3, 1).await, ["3"]);
    // This one had read them already.
    assert_eq!(entries(&mut early, 1, 3).await, ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_reconfiguration_ends_the_log() {
    let (nodes, _cuts) = cluster().await;
    nodes[0].append(Word::new("first")).await.unwrap();
    let illegal = nodes[1].reconfigure(ClusterConfig::default(), None).await.unwrap_err();
    assert!(matches!(illegal, ReconfigureError::Config(_)));
    let next = ClusterConfig { configuration_id: 2, nodes: vec![1, 2, 3, 4], ..Default::default() };
    assert_eq!(nodes[1].reconfigure(next.clone(), Some(vec![7])).await.unwrap(), 1);
    let mut log = nodes[2].decided(1);
    let Some(Ok(Decided::StopSign { idx: 1, stopsign })) = log.next().await else {
        panic!("no stop sign")
    };
    assert_eq!((stopsign.next_config, stopsign.metadata), (next, Some(vec![7])));
    let refused = nodes[2].append(Word::new("late")).await.unwrap_err();
    assert!(matches!(refused, AppendError::Reconfiguring(_)), "{refused}");
    let read = nodes[0].read_index().await.unwrap_err();
    assert!(matches!(read, ReadError::Refused(_)), "{read}");
}

#[tokio::test(start_paused = true)]
async fn a_log_continues_with_other_members() {
    let mut configs: Vec<OmniPaxosConfig> = (1..=3).map(|pid| config(pid, 3)).collect();
    configs.iter_mut().for_each(|config| config.server_config.continues = true);
    let joins = ServerConfig { pid: 4, ..Default::default() };
    configs.push(OmniPaxosConfig::observe(joins, &[1, 2, 3]));
    let (nodes, _cuts) = cluster_of(configs).await;
    nodes[0].append(Word::new("first")).await.unwrap();
    let next = ClusterConfig { configuration_id: 2, nodes: vec![1, 3, 4], ..Default::default() };
    let idx = nodes[1].change_members(next.clone(), MemberChange::default()).await.unwrap();
    assert_eq!(idx, 1);
    assert_eq!(nodes[3].append(Word::new("second")).await.unwrap(), 2);
    let mut log = nodes[0].decided(0);
    assert_eq!(entries(&mut log, 0, 1).await, ["first"]);
    assert!(matches!(
        log.next().await,
        Some(Ok(Decided::StopSign { idx: 1, stopsign })) if stopsign.next_config == next
    ));
    assert_eq!(entries(&mut log, 2, 1).await, ["second"]);
    // A log that does not continue has no such change.
    let (others, _cuts) = cluster().await;
    let refused = others[0].change_members(next, MemberChange::default()).await.unwrap_err();
    assert!(matches!(refused, ReconfigureError::EndsHere), "{refused}");
}

/// An entry whose size cannot be had.
#[derive(Clone, Debug)]
struct Bomb;

impl Entry for Bomb {
    type Snapshot = NoSnapshot;
    omnipaxos::without_unicache!();

    fn size_hint(&self) -> usize {
        panic!("no size")
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_entry_ends_the_node() {
    let (node, mut outgoing) =
        spawn_actor(config(1, 1), MemoryStorage::<Bomb>::default()).await.unwrap();
    let mut log = node.decided(0);
    let error = node.append(Bomb).await.unwrap_err();
    let AppendError::Ended { cause: NodeError::Panicked(place), entry: None } = error else {
        panic!("{error:?}")
    };
    assert_eq!(place, "the replica: no size");
    assert!(outgoing.recv().await.is_none());
    let ended = log.next().await.unwrap().unwrap_err();
    assert_eq!(ended, DecidedError::Ended(NodeError::Panicked(place)));
    assert!(log.next().await.is_none());
    assert!(matches!(node.shutdown().await, Err(NodeError::Panicked(_))));
}

#[tokio::test(start_paused = true)]
async fn an_append_behind_a_shutdown_returns_its_entry() {
    let node = Node::builder(config(1, 1), MemoryStorage::<Word>::default());
    let node = node.on_runtime().start().await.unwrap();
    let handle = node.handle();
    let before = handle.append_notify(Word::new("before")).unwrap();
    // In this order into one queue, from which the replica takes both at once.
    let (storage, late) = tokio::join!(biased; node.shutdown(), handle.append(Word::new("late")));
    assert!(storage.is_ok());
    assert!(matches!(
        late.unwrap_err(),
        AppendError::Ended { cause: NodeError::ShutDown, entry: Some(Word(word)) } if word == "late"
    ));
    assert_eq!(before.await.unwrap_err().known(), Known::Unknown);
}

/// A transport that needs time to stop.
struct SlowToStop(Arc<AtomicBool>);

impl Transport<Word> for SlowToStop {
    async fn start(&mut self, _own: u64, _inbox: Inbox<Word>) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, _to: u64, messages: &mut Vec<Message<Word>>) {
        messages.clear();
    }

    async fn stop(&mut self) {
        sleep(Duration::from_millis(100)).await;
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn streams_end_once_the_storage_and_the_transport_can_be_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let open = || PersistentStorage::try_open(PersistentStorageConfig::with_path(path));
    let is_stopped = Arc::new(AtomicBool::new(false));
    let node = Node::builder(config(1, 1), open().unwrap());
    let node = node.transport(SlowToStop(is_stopped.clone())).on_runtime().start().await.unwrap();
    let (mut events, mut membership) = (node.events(), node.membership());
    let is_free = || is_stopped.load(Ordering::Relaxed) && open().is_ok();
    let events_end = async {
        while events.next().await.is_some() {}
        assert!(is_free(), "the events have ended before the node");
    };
    let membership_ends = async {
        while membership.changed().await.is_ok() {}
        assert!(is_free(), "the membership has ended before the node");
    };
    drop(node);
    tokio::join!(events_end, membership_ends);
}

#[tokio::test(start_paused = true)]
async fn an_illegal_configuration_is_refused() {
    let started = Node::builder(config(4, 3), MemoryStorage::<Word>::default()).start().await;
    assert!(matches!(started, Err(StartError::Build(_))), "{started:?}");
}

#[tokio::test(start_paused = true)]
async fn times_may_be_of_any_length() {
    let node = Node::builder(config(1, 1), MemoryStorage::<Word>::default()).on_runtime();
    let node = node.start().await.unwrap();
    assert_eq!(node.read_index_within(Duration::MAX).await.unwrap(), 0);
    let node = Node::builder(config(1, 1), MemoryStorage::<Word>::default()).on_runtime();
    let node = node.tick(Duration::MAX).start().await.unwrap();
    assert_eq!(node.status().await.unwrap().decided_idx, 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    node.shutdown().await.unwrap();
}
