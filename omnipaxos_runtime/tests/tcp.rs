//! Three servers over real sockets.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{config, entries, hello, transports, within, Word};
use omnipaxos::{
    macros::Entry,
    storage::{Entry, NoSnapshot},
};
use omnipaxos_runtime::{
    errors::{AppendError, Known, NodeError, StartError},
    tcp::{AddressBook, TcpTransport},
    Node, NodeEvent,
};
use omnipaxos_storage::{
    memory_storage::MemoryStorage,
    persistent_storage::{PersistentStorage, PersistentStorageConfig},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, path::Path};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

type MemoryNode = Node<Word, MemoryStorage<Word>>;

async fn start(pid: u64, storage: MemoryStorage<Word>, transport: TcpTransport) -> MemoryNode {
    Node::builder(config(pid, 3), storage).transport(transport).start().await.unwrap()
}

async fn cluster() -> (AddressBook, Vec<MemoryNode>) {
    let (book, transports) = transports(3).await;
    let mut nodes = Vec::new();
    for (pid, transport) in (1..).zip(transports) {
        nodes.push(start(pid, MemoryStorage::default(), transport).await);
    }
    (book, nodes)
}

fn open(folder: &Path, pid: u64) -> PersistentStorage<Word> {
    let folder = folder.join(pid.to_string());
    PersistentStorage::open(PersistentStorageConfig::with_path(folder.to_str().unwrap()))
}

#[tokio::test]
async fn every_server_appends_and_reads() {
    let (_book, nodes) = cluster().await;
    let mut idxs = BTreeSet::new();
    for node in &nodes {
        let word = Word::new(format!("of {}", node.pid()));
        idxs.insert(within("append", node.append(word)).await.unwrap());
    }
    assert_eq!(idxs, BTreeSet::from([0, 1, 2]));
    let mut logs = Vec::new();
    for node in &nodes {
        assert!(within("read_index", node.read_index()).await.unwrap() >= 3);
        logs.push(entries(&mut node.decided(0), 0, 3).await);
    }
    assert_eq!(logs[0], ["of 1", "of 2", "of 3"]);
    assert!(logs.iter().all(|log| *log == logs[0]));
    assert_eq!(nodes[0].status().await.unwrap().decided_idx, 3);
}

#[tokio::test]
async fn a_killed_server_comes_back_with_its_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (book, transports) = transports(3).await;
    let mut nodes = Vec::new();
    for (pid, transport) in (1..).zip(transports) {
        let node = Node::builder(config(pid, 3), open(folder.path(), pid)).transport(transport);
        nodes.push(node.start().await.unwrap());
    }
    for number in 0..10 {
        let word = Word::new(number.to_string());
        within("append", nodes[number % 3].append(word)).await.unwrap();
    }
    // With its last handle the node ends, and closes its disk and its port.
    let killed = nodes.remove(0);
    let mut log = killed.decided(10);
    drop(killed);
    assert!(within("the end", log.next()).await.is_none());
    for number in 10..20 {
        let word = Word::new(number.to_string());
        within("append", nodes[number % 2].append(word)).await.unwrap();
    }
    let back = Node::builder(config(1, 3), open(folder.path(), 1))
        .transport(TcpTransport::new(book.clone()));
    let back = back.start().await.unwrap();
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(entries(&mut back.decided(0), 0, 20).await, expected);
    within("append", back.append(Word::new("again"))).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_returns_the_storage_and_frees_the_port() {
    let (book, mut nodes) = cluster().await;
    within("append", nodes[0].append(Word::new("first"))).await.unwrap();
    let node = nodes.remove(0);
    let (handle, mut log, mut events) = (node.handle(), node.decided(1), node.events());
    let storage = within("shutdown", node.shutdown()).await.unwrap();
    let error = handle.append(Word::new("late")).await.unwrap_err();
    assert_eq!(error.known(), Known::NotDecided);
    assert!(matches!(
        error,
        AppendError::Ended { cause: NodeError::ShutDown, entry: Some(Word(word)) } if word == "late"
    ));
    assert!(matches!(handle.append_notify(Word::new("late")), Err(AppendError::Ended { .. })));
    assert_eq!(handle.status().await.unwrap_err(), NodeError::ShutDown);
    assert!(log.next().await.is_none());
    while within("the last event", events.next()).await.is_some() {}
    let back = start(1, storage, TcpTransport::new(book)).await;
    assert_eq!(entries(&mut back.decided(0), 0, 1).await, ["first"]);
    assert_eq!(within("append", back.append(Word::new("second"))).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_under_load_ends_every_call() {
    let (_book, mut nodes) = cluster().await;
    within("append", nodes[0].append(Word::new("first"))).await.unwrap();
    let mut calls = JoinSet::new();
    for task in 0..8 {
        let handle = nodes[task % 3].handle();
        calls.spawn(async move {
            let mut decided = Vec::new();
            for number in 0..1000 {
                let word = Word::new(format!("{task} {number}"));
                match handle.append(word.clone()).await {
                    Ok(_) => decided.push(word.0),
                    Err(error) => {
                        assert!(matches!(
                            error,
                            AppendError::Ended { cause: NodeError::ShutDown, .. }
                        ));
                        return decided;
                    }
                }
            }
            decided
        });
    }
    let mut log = nodes[2].decided(0);
    entries(&mut log, 0, 100).await;
    let last = nodes.pop().unwrap();
    within("shutdown", last.shutdown()).await.unwrap();
    let mut decided = vec!["first".to_owned()];
    while let Some(ended) = within("the calls", calls.join_next()).await {
        decided.extend(ended.unwrap());
    }
    // What was reported as decided is in the log, once.
    let idx = within("read_index", nodes[0].read_index()).await.unwrap();
    let mut log = entries(&mut nodes[0].decided(0), 0, idx).await;
    log.sort();
    decided.sort();
    let in_log: BTreeSet<_> = log.iter().collect();
    assert_eq!(in_log.len(), log.len());
    assert!(decided.iter().all(|word| in_log.contains(word)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_futures_leave_nothing_behind() {
    let (_book, nodes) = cluster().await;
    within("append", nodes[0].append(Word::new("first"))).await.unwrap();
    let mut calls = JoinSet::new();
    for number in 0..300 {
        let handle = nodes[number % 3].handle();
        calls.spawn(async move {
            let word = Word::new(number.to_string());
            match number % 3 {
                0 => drop(handle.append(word).await),
                1 => drop(handle.read_index().await),
                _ => drop(handle.decided(5).next().await),
            }
        });
        if number % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    calls.shutdown().await;
    // All continues as before.
    for node in &nodes {
        within("append", node.append(Word::new("last"))).await.unwrap();
    }
    let idx = within("read_index", nodes[1].read_index()).await.unwrap();
    let mut log = entries(&mut nodes[1].decided(0), 0, idx).await;
    log.retain(|word| word != "last");
    let distinct: BTreeSet<_> = log.iter().collect();
    assert_eq!(distinct.len(), log.len(), "a dropped append is decided once at most");
}

#[tokio::test]
async fn leadership_is_transferred() {
    let (_book, nodes) = cluster().await;
    within("append", nodes[0].append(Word::new("first"))).await.unwrap();
    let mut events = nodes[0].events();
    let leader = nodes[0].status().await.unwrap().leader.unwrap();
    let next = leader % 3 + 1;
    let node = |pid: u64| &nodes[usize::try_from(pid).unwrap() - 1];
    let refused = node(next).transfer_leadership(leader).await.unwrap_err();
    assert!(refused.to_string().contains("only a leader"), "{refused}");
    within("transfer", node(leader).transfer_leadership(next)).await.unwrap();
    assert_eq!(node(leader).status().await.unwrap().leader, Some(next));
    let saw_it = async {
        loop {
            let event = events.next().await.unwrap().unwrap();
            if let NodeEvent::Replica(omnipaxos::events::Event::LeaderChanged {
                leader: Some(ballot),
                is_ready: true,
            }) = event
            {
                if ballot.pid == next {
                    return;
                }
            }
        }
    };
    within("the event", saw_it).await;
}

#[tokio::test]
async fn an_entry_that_no_frame_holds_is_refused_and_the_cluster_continues() {
    let (_book, transports) = transports(3).await;
    let mut nodes = Vec::new();
    for (pid, transport) in (1..).zip(transports) {
        let transport = transport.max_frame_bytes(64 * 1024);
        nodes.push(start(pid, MemoryStorage::default(), transport).await);
    }
    for (node, idx) in nodes.iter().zip(0..) {
        let large = Word::new("x".repeat(64 * 1024));
        match within("refuse", node.append(large)).await {
            Err(AppendError::TooLarge(..)) => {}
            other => panic!("{other:?}"),
        }
        let small = Word::new("x".repeat(15 * 1024));
        assert_eq!(within("append", node.append(small)).await.unwrap(), idx);
    }
}

/// Its size hint counts no text.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Unhinted(String);

impl Entry for Unhinted {
    type Snapshot = NoSnapshot;
}

#[tokio::test]
async fn an_entry_whose_size_hint_is_too_low_is_refused_and_the_cluster_continues() {
    let (_book, transports) = transports(3).await;
    let mut nodes = Vec::new();
    for (pid, transport) in (1..).zip(transports) {
        let node = Node::builder(config(pid, 3), MemoryStorage::<Unhinted>::default());
        nodes.push(node.transport(transport.max_frame_bytes(64 * 1024)).start().await.unwrap());
    }
    for (node, idx) in nodes.iter().zip(0..) {
        // One alone exceeds a frame; of the others, the messages of a replica that catches up would.
        for bytes in [100 * 1024, 1024] {
            match within("refuse", node.append(Unhinted("x".repeat(bytes)))).await {
                Err(AppendError::TooLarge(_, reason)) => {
                    assert!(reason.contains("size_hint"), "{reason}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(within("append", node.append(Unhinted("x".into()))).await.unwrap(), idx);
    }
}

/// bincode encodes it, and cannot decode it.
#[derive(Clone, Debug, Serialize, Deserialize, Entry)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

#[tokio::test]
async fn an_entry_that_no_receiver_can_decode_is_refused_and_the_node_continues() {
    let (_book, mut transports) = transports(1).await;
    let node = Node::builder(config(1, 1), MemoryStorage::<Untagged>::default())
        .transport(transports.remove(0))
        .start()
        .await
        .unwrap();
    for entry in [Untagged::Number(1), Untagged::Text("one".into())] {
        match within("refuse", node.append(entry)).await {
            Err(AppendError::TooLarge(_, reason)) => {
                assert!(reason.contains("decode"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(within("status", node.status()).await.unwrap().decided_idx, 0);
}

#[tokio::test]
async fn a_server_at_a_new_address_is_found() {
    let (book, mut nodes) = cluster().await;
    within("append", nodes[0].append(Word::new("first"))).await.unwrap();
    let storage = within("shutdown", nodes.pop().unwrap().shutdown()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    book.set(3, listener.local_addr().unwrap().to_string());
    let moved = start(3, storage, TcpTransport::new(book).listener(listener)).await;
    assert_eq!(entries(&mut moved.decided(0), 0, 1).await, ["first"]);
    // It is needed for a quorum now.
    within("shutdown", nodes.pop().unwrap().shutdown()).await.unwrap();
    within("append", moved.append(Word::new("second"))).await.unwrap();
}

#[tokio::test]
async fn only_loopback_addresses_are_listened_at() {
    let start = |transport: TcpTransport| {
        Node::builder(config(1, 1), MemoryStorage::<Word>::default()).transport(transport).start()
    };
    let book = AddressBook::from([(1, "0.0.0.0:0")]);
    let refused = start(TcpTransport::new(book.clone())).await.unwrap_err();
    let StartError::Transport(cause) = refused else { panic!("{refused}") };
    assert!(cause.to_string().contains("allow_remote"), "{cause}");
    start(TcpTransport::new(book).allow_remote()).await.unwrap();
    let nowhere = start(TcpTransport::new(AddressBook::default())).await.unwrap_err();
    assert!(matches!(nowhere, StartError::Transport(_)));
}

#[tokio::test]
async fn a_transport_that_does_not_start_leaves_the_storage_closed() {
    let folder = tempfile::tempdir().unwrap();
    for _attempt in 0..5 {
        let transport = TcpTransport::new(AddressBook::default());
        let storage = open(folder.path(), 1);
        let started = Node::builder(config(1, 1), storage).transport(transport).start().await;
        assert!(matches!(started, Err(StartError::Transport(_))));
    }
}

/// Sends bytes and returns what is answered until the connection is closed.
async fn sends(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is reset with unread bytes is closed, too.
    let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    answer
}

/// The handshake of a connection is late, and its server has connected again since.
#[tokio::test]
async fn a_late_handshake_does_not_replace_a_later_connection() {
    let (book, mut transports) = transports(3).await;
    let address = book.get(1).unwrap();
    let node = start(1, MemoryStorage::default(), transports.remove(0)).await;
    let mut late = TcpStream::connect(&address).await.unwrap();
    let mut later = TcpStream::connect(&address).await.unwrap();
    later.write_all(&hello(1, 2, 1)).await.unwrap();
    let mut answer = [0; 28];
    within("the handshake", later.read_exact(&mut answer)).await.unwrap();
    late.write_all(&hello(1, 2, 1)).await.unwrap();
    let mut rest = Vec::new();
    let _ = within("the end of the late connection", late.read_to_end(&mut rest)).await;
    let pulse = within("a sign of life", later.read(&mut [0])).await;
    assert_eq!(pulse.unwrap(), 1, "it is open");
    drop(node);
}

/// The program waits in another runtime, or in none.
#[test]
fn a_listener_may_be_bound_in_a_runtime_that_ends() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (binding, waiting) = (runtime(), runtime());
    let (address, node) = binding.block_on(async {
        let (book, mut transports) = transports(3).await;
        (book.get(1).unwrap(), start(1, MemoryStorage::default(), transports.remove(0)).await)
    });
    drop(binding);
    waiting.block_on(async {
        assert_eq!(
            sends(&address, b"GET / HTTP/1.1\r\n\r\n").await,
            b"",
            "it is accepted, and closed"
        );
        node.shutdown().await.unwrap();
    });
}

#[tokio::test]
async fn malformed_connections_are_closed_and_counted() {
    let (book, mut transports) = transports(3).await;
    let address = book.get(1).unwrap();
    let transport = transports.remove(0);
    let counters = transport.counters();
    let node = start(1, MemoryStorage::default(), transport).await;
    // Another version, another protocol, another receiver, an unknown sender.
    let answer = sends(&address, &hello(9, 2, 1)).await;
    assert_eq!((&answer[..8], answer[27]), (&b"OPXR\0\0\0\x01"[..], 1));
    assert_eq!(sends(&address, b"GET / HTTP/1.1\r\n\r\n").await, b"");
    assert_eq!(sends(&address, &hello(1, 2, 3)).await[27], 3);
    assert_eq!(sends(&address, &hello(1, 9, 1)).await[27], 4);
    assert_eq!(counters.refused_connections(), 4);
    assert_eq!(counters.malformed_frames(), 0);
    // A frame of 4 GiB, an empty one, and one that is no message.
    for frame in [&[255, 255, 255, 255][..], &[0, 0, 0, 0], &[0, 0, 0, 2, 77, 77]] {
        let answer = sends(&address, &[&hello(1, 2, 1)[..], frame].concat()).await;
        assert_eq!(answer.get(24..), Some(&[0; 4][..]), "accepted");
    }
    assert_eq!(counters.malformed_frames(), 3);
    assert!(node.status().await.is_ok());
}

#[tokio::test]
async fn a_cluster_survives_strangers_and_a_peer_of_another_version() {
    let (book, mut nodes) = cluster().await;
    within("append", nodes[0].append(Word::new("first"))).await.unwrap();
    within("shutdown", nodes.remove(0).shutdown()).await.unwrap();
    // In the place of server 1 there is a program that refuses all versions.
    let listener = TcpListener::bind(book.get(1).unwrap()).await.unwrap();
    let refusals = tokio::spawn(async move {
        for _ in 0..4 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut answer = b"OPXR".to_vec();
            answer.extend(7_u32.to_be_bytes());
            answer.extend([0; 16]);
            answer.extend(1_u32.to_be_bytes());
            stream.write_all(&answer).await.unwrap();
        }
    });
    within("append", nodes[0].append(Word::new("second"))).await.unwrap();
    within("four attempts", refusals).await.unwrap();
    assert_eq!(entries(&mut nodes[1].decided(0), 0, 2).await, ["first", "second"]);
}

#[tokio::test]
async fn a_silent_connection_is_replaced() {
    let (book, mut transports) = transports(3).await;
    // A program that accepts as server 2, and sends no byte afterwards.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    book.set(2, listener.local_addr().unwrap().to_string());
    let _node = start(1, MemoryStorage::default(), transports.remove(0)).await;
    let mut connections = Vec::new();
    for _ in 0..2 {
        let (mut stream, _) = within("a connection", listener.accept()).await.unwrap();
        let mut answer = b"OPXR".to_vec();
        answer.extend(1_u32.to_be_bytes());
        answer.extend(0_u64.to_be_bytes());
        answer.extend(2_u64.to_be_bytes());
        answer.extend([0; 4]);
        stream.write_all(&answer).await.unwrap();
        // Kept open: the other end closes it.
        connections.push(stream);
    }
}

#[tokio::test]
async fn a_server_that_leaves_the_book_is_reported_as_disconnected() {
    let (book, transports) = transports(3).await;
    let [one, two, _] = <[_; 3]>::try_from(transports).unwrap();
    let node = start(1, MemoryStorage::default(), one).await;
    let mut events = node.events();
    let _two = start(2, MemoryStorage::default(), two).await;
    let mut next = async || loop {
        match within("an event", events.next()).await {
            Some(Ok(NodeEvent::Connected(2))) => break true,
            Some(Ok(NodeEvent::Disconnected(2))) => break false,
            Some(_) => {}
            None => panic!("the node has ended"),
        }
    };
    // Its connection, and the one to it.
    assert!(next().await && next().await);
    book.remove(2);
    assert!(!next().await);
}
