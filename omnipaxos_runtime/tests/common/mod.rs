//! Clusters for the tests.

#![allow(dead_code, reason = "each suite uses a part")]

pub(crate) mod storm;

use omnipaxos::{macros::Entry, ClusterConfig, OmniPaxosConfig, ServerConfig};
use omnipaxos_runtime::{
    tcp::{AddressBook, TcpTransport},
    Decided, DecidedLog, StateMachine,
};
use serde::{Deserialize, Serialize};
use std::{future::Future, time::Duration};
use tokio::net::TcpListener;

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Entry)]
pub(crate) struct Word(pub(crate) String);

impl Word {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

pub(crate) fn config(pid: u64, servers: u64) -> OmniPaxosConfig {
    OmniPaxosConfig {
        cluster_config: ClusterConfig {
            configuration_id: 1,
            nodes: (1..=servers).collect(),
            ..Default::default()
        },
        server_config: ServerConfig { pid, ..Default::default() },
    }
}

/// Adds numbers, and returns the sum. It panics at 13.
#[derive(Debug, Default)]
pub(crate) struct Sum(pub(crate) i64);

impl StateMachine for Sum {
    type Command = i64;
    type Output = i64;
    type Snapshot = i64;

    fn apply(&mut self, _idx: u64, command: &i64) -> i64 {
        assert_ne!(*command, 13, "unlucky");
        self.0 += command;
        self.0
    }

    fn snapshot(&self) -> i64 {
        self.0
    }

    fn restore(&mut self, snapshot: i64) {
        self.0 = snapshot;
    }
}

/// Transports of servers 1 to `servers` on free ports, and their addresses.
pub(crate) async fn transports(servers: u64) -> (AddressBook, Vec<TcpTransport>) {
    let book = AddressBook::default();
    let mut transports = Vec::new();
    for pid in 1..=servers {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        book.set(pid, listener.local_addr().unwrap().to_string());
        transports.push(TcpTransport::new(book.clone()).listener(listener));
    }
    (book, transports)
}

/// What a program that is no server sends: the hello of server `from` with this version.
pub(crate) fn hello(version: u32, from: u64, to: u64) -> Vec<u8> {
    let mut bytes = b"OPXR".to_vec();
    bytes.extend(version.to_be_bytes());
    bytes.extend(0_u64.to_be_bytes());
    bytes.extend(from.to_be_bytes());
    bytes.extend(to.to_be_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// Ends a test that hangs.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(output) => output,
        Err(_) => panic!("it hangs: {what}"),
    }
}

/// The next `number` entries of a log, with their indices checked from `from` on.
pub(crate) async fn entries(log: &mut DecidedLog<Word>, from: u64, number: u64) -> Vec<String> {
    let mut words = Vec::new();
    for expected in from..from + number {
        match within("the next entry", log.next()).await {
            Some(Ok(Decided::Entry { idx, entry })) => {
                assert_eq!(idx, expected);
                words.push(entry.0);
            }
            other => panic!("at {expected}: {other:?}"),
        }
    }
    words
}
