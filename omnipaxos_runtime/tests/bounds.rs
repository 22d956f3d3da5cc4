//! Connections that ask for more than the bounds of `omnipaxos_runtime::tcp`.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{
    config, entries, hello,
    storm::{storm, STRANGER},
    transports, within, Word,
};
use omnipaxos_runtime::{tcp::TcpCounters, Node};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::{io::ErrorKind, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, Instant},
};

const HANDSHAKE_INTERVAL: Duration = Duration::from_millis(5);
const MAX_WAITING: u32 = 64;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What a timer may be late by where the clock is paused: then it continues with the next timer whenever all
/// tasks wait, though bytes may have arrived meanwhile.
const LATE: Duration = Duration::from_secs(1);

struct Server {
    node: Node<Word, MemoryStorage<Word>>,
    address: String,
    counters: TcpCounters,
}

/// Server 1 of three. The others do not run.
async fn server() -> Server {
    let (book, mut transports) = transports(3).await;
    let transport = transports.remove(0);
    let counters = transport.counters();
    let node = Node::builder(config(1, 3), MemoryStorage::default()).transport(transport);
    let node = node.on_runtime().start().await.unwrap();
    Server { node, address: book.get(1).unwrap(), counters }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    /// Connects as server 2.
    async fn connect_as_peer(&self) -> TcpStream {
        let mut stream = self.connect().await;
        assert!(greets(&mut stream, 2).await, "accepted");
        stream
    }
}

/// Sends a hello. Returns whether it is accepted.
async fn greets(stream: &mut TcpStream, from: u64) -> bool {
    let mut answer = [0; 28];
    stream.write_all(&hello(1, from, 1)).await.is_ok()
        && within("an answer", stream.read_exact(&mut answer)).await.is_ok()
        && answer[24..] == [0; 4]
}

/// Waits until a connection is closed. Returns the bytes that came before.
async fn until_closed(stream: &mut TcpStream) -> usize {
    let mut bytes = Vec::new();
    // It may be reset.
    let _ = stream.read_to_end(&mut bytes).await;
    bytes.len()
}

fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[tokio::test]
async fn a_connection_too_many_ends_the_oldest_handshake() {
    let server = server().await;
    // If this machine does nothing for 5 seconds, all handshakes end.
    for _ in 0..3 {
        let refused = server.counters.refused_connections();
        let mut silent = Vec::new();
        for _ in 0..64 {
            silent.push(server.connect().await);
        }
        let mut peer = server.connect().await;
        assert!(greets(&mut peer, 2).await, "a server is kept out");
        within("the end of the oldest", until_closed(&mut silent[0])).await;
        let others_wait = silent[1..].iter().all(is_open);
        if others_wait && server.counters.refused_connections() == refused + 1 {
            assert!(greets(&mut silent[63], 3).await, "it has waited for its hello");
            assert!(is_open(&peer) || peer.try_read(&mut [0]).unwrap() == 1);
            return;
        }
    }
    panic!("not exactly the oldest one ends");
}

/// The clock is paused: it shows what the server waits for, not how quick this machine is.
#[tokio::test(start_paused = true)]
async fn strangers_that_connect_all_the_time_leave_the_replica_time() {
    let server = server().await;
    let (address, begun) = (server.address.clone(), Instant::now());
    let stranger = move || {
        let address = address.clone();
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(&[7; 64]).await;
            until_closed(&mut stream).await
        })
    };
    // The oldest are closed before their turn, the other ones after it.
    let strangers: Vec<_> = (0..2 * MAX_WAITING).map(|_| stranger()).collect();
    for stranger in strangers {
        within("the end of a stranger", stranger).await.unwrap();
    }
    assert_eq!(server.counters.refused_connections(), u64::from(2 * MAX_WAITING));
    assert!(begun.elapsed() >= (MAX_WAITING - 1) * HANDSHAKE_INTERVAL, "{:?}", begun.elapsed());

    // A server gets in while more connect than have a turn.
    let strangers = tokio::spawn(async move {
        loop {
            drop(stranger());
            sleep(Duration::from_millis(3)).await;
        }
    });
    let connects = async {
        let mut pause = HANDSHAKE_INTERVAL;
        while !greets(&mut server.connect().await, 2).await {
            // A server waits another time before each attempt, too.
            pause += Duration::from_millis(1);
            sleep(pause).await;
        }
    };
    within("a server's turn", connects).await;
    strangers.abort();
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_five_seconds() {
    let server = server().await;
    let whole = hello(1, 2, 1);
    for sent in [&[][..], &whole[..3], &whole[..35]] {
        let begun = Instant::now();
        let mut stream = server.connect().await;
        stream.write_all(sent).await.unwrap();
        assert_eq!(until_closed(&mut stream).await, 0);
        let took = begun.elapsed();
        assert!((HANDSHAKE_TIMEOUT..HANDSHAKE_TIMEOUT + LATE).contains(&took), "{took:?}");
    }
    // Also if bytes arrive all the time.
    let begun = Instant::now();
    let mut stream = server.connect().await;
    for byte in &whole[..35] {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(900)).await;
    }
    until_closed(&mut stream).await;
    let took = begun.elapsed();
    assert!(took < 2 * HANDSHAKE_TIMEOUT, "{took:?}");
    assert_eq!(server.counters.refused_connections(), 4);
    assert!(server.node.status().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_whole_frame_is_closed_after_a_minute() {
    let server = server().await;
    let mut stream = server.connect_as_peer().await;
    let begun = Instant::now();
    let pulses = until_closed(&mut stream).await;
    let took = begun.elapsed();
    assert!((IDLE_TIMEOUT - LATE..IDLE_TIMEOUT + LATE).contains(&took), "{took:?}");
    assert!((58..=60).contains(&pulses), "{pulses} bytes, one each second");
    // A frame of which a byte arrives now and then is none.
    let (mut reader, mut writer) = server.connect_as_peer().await.into_split();
    let begun = Instant::now();
    let writing = tokio::spawn(async move {
        while writer.write_all(&[0, 1, 1, 1]).await.is_ok() {
            sleep(Duration::from_secs(7)).await;
        }
    });
    let _ = reader.read_to_end(&mut Vec::new()).await;
    let took = begun.elapsed();
    assert!((IDLE_TIMEOUT - LATE..IDLE_TIMEOUT + LATE).contains(&took), "{took:?}");
    writing.await.unwrap();
    assert_eq!(server.counters.malformed_frames(), 0);
}

#[tokio::test]
async fn a_new_connection_of_a_peer_replaces_the_older() {
    let server = server().await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(server.connect_as_peer().await);
    }
    let mut last = streams.pop().unwrap();
    for mut older in streams {
        within("the end of an older connection", until_closed(&mut older)).await;
    }
    let pulse = within("a pulse", last.read_u8()).await;
    assert_eq!(pulse.unwrap(), 0);
    assert_eq!(server.counters.refused_connections(), 0);
}

#[tokio::test]
async fn nothing_is_read_of_what_is_too_large() {
    let server = server().await;
    // An announcement, and after the handshake a frame, of which the rest never comes.
    let mut stream = server.connect().await;
    let start = hello(1, 2, 1);
    let announces = [&start[..32], &4097_u32.to_be_bytes()].concat();
    stream.write_all(&announces).await.unwrap();
    assert_eq!(within("the end", until_closed(&mut stream)).await, 0);
    assert_eq!(server.counters.refused_connections(), 1);
    let mut stream = server.connect_as_peer().await;
    stream.write_all(&(16 * 1024 * 1024 + 1_u32).to_be_bytes()).await.unwrap();
    within("the end", until_closed(&mut stream)).await;
    assert_eq!(server.counters.malformed_frames(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_continues_among_connections_of_strangers() {
    let (book, transports) = transports(3).await;
    // Nobody listens there.
    book.set(STRANGER, "127.0.0.1:1");
    let counters = transports[0].counters();
    let mut nodes = Vec::new();
    for (pid, transport) in (1..).zip(transports) {
        let node = Node::builder(config(pid, 3), MemoryStorage::default()).transport(transport);
        nodes.push(node.start().await.unwrap());
    }
    within("append", nodes[0].append(Word::new("first"))).await.unwrap();
    let address = book.get(1).unwrap();
    let storming = tokio::spawn({
        let counters = counters.clone();
        async move { storm(&address, counters, true).await }
    });
    let mut appended = 1;
    while !storming.is_finished() || appended < 30 {
        let node = &nodes[appended as usize % 3];
        within("append", node.append(Word::new(appended.to_string()))).await.unwrap();
        appended += 1;
    }
    storming.await.unwrap();
    assert!(counters.malformed_frames() > 0);
    let status = nodes[0].status().await.unwrap();
    assert!(status.dropped.from_strangers > 0, "{:?}", status.dropped);
    // Each append is decided once, and nothing else.
    let numbers = (1..appended).map(|number| number.to_string());
    let expected: Vec<String> = std::iter::once("first".to_owned()).chain(numbers).collect();
    for node in &nodes {
        let length = node.read_index().await.unwrap();
        assert_eq!(entries(&mut node.decided(0), 0, length).await, expected);
    }
}
