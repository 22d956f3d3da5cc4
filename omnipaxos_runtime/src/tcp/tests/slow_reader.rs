//! A server that accepts a connection and does not read.

use super::{servers, Text};
use crate::{
    inbox::{Inbox, Incoming},
    tcp::{
        address_book::AddressBook,
        dialer::Dialer,
        handshake,
        queue::{Counters, Queue},
        security::Security,
        Settings, SILENCE,
    },
};
use omnipaxos::messages::Message;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    net::TcpSocket,
    time::{sleep, timeout, Instant},
};

const ENTRY_BYTES: usize = 1024 * 1024;

/// More than two sockets hold.
const ALL_BYTES: usize = 16 * 1024 * 1024;

/// Messages of server 1 with an entry in it.
fn large_messages() -> Vec<Message<Text>> {
    let mut servers = servers(2);
    let mut messages = Vec::new();
    for round in 0.. {
        servers.iter_mut().for_each(|server| server.tick());
        for at in [0, 1] {
            for message in servers[at].outgoing_messages() {
                servers[1 - at].handle_incoming(message);
            }
        }
        if round == 100 {
            servers[0].append(Text(String::new(), vec![7; ENTRY_BYTES])).unwrap();
            servers[0].take_outgoing_messages(&mut messages);
            return messages;
        }
    }
    unreachable!("a round returns");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_read_is_closed() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(8).unwrap();
    let settings = Settings {
        own: 1,
        application_version: 0,
        max_frame_bytes: 2 * ENTRY_BYTES,
        max_queued_bytes: ALL_BYTES,
        idle_timeout: Duration::from_secs(60),
        announcement: Vec::new().into(),
        security: Security::none(),
    };
    let queue = Arc::new(Queue::default());
    let (inbox, mut incoming) = Inbox::<Text>::new();
    let dialer = Dialer {
        settings: settings.clone(),
        peer: 2,
        address: listener.local_addr().unwrap().to_string(),
        queue: queue.clone(),
        book: AddressBook::default(),
        inbox,
    };
    let dialing = tokio::spawn(dialer.run());
    let (mut stream, _) = listener.accept().await.unwrap();
    handshake::accept(&mut stream, 2, 0, |_, _| true).await.unwrap();
    assert!(matches!(incoming.recv().await, Some(Incoming::Connected(2))));
    // It lives, as its pulses show.
    let (_unread, mut writer) = stream.into_split();
    let pulses = tokio::spawn(async move {
        while writer.write_all(&[0]).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let (messages, counters) = (large_messages(), Counters::default());
    for _ in 0..ALL_BYTES / ENTRY_BYTES {
        queue.push(messages.iter().cloned(), &settings, &counters);
    }
    let begun = Instant::now();
    let lost = timeout(10 * SILENCE, incoming.recv()).await.expect("the connection stays open");
    assert!(matches!(lost, Some(Incoming::Lost(2))));
    assert!(begun.elapsed() >= SILENCE, "{:?}", begun.elapsed());
    // It is tried again.
    timeout(SILENCE, listener.accept()).await.expect("another connection").unwrap();
    dialing.abort();
    pulses.abort();
}
