//! Members that change, over real sockets: guests, announcements, and what a state machine learns.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::within;
use omnipaxos::{
    members::MemberChange, storage::StopSign, ClusterConfig, OmniPaxosConfig, ServerConfig,
};
use omnipaxos_runtime::{
    tcp::{AddressBook, TcpTransport},
    IdentifiedCommand, Replicated, ReplicatedNode, StateMachine,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::collections::BTreeMap;
use tokio::net::TcpListener;

/// The commands, and the metadata of the last stop sign.
#[derive(Clone, Debug, Default)]
struct Words(Vec<String>, Option<Vec<u8>>);

impl StateMachine for Words {
    type Command = String;
    type Output = usize;
    type Snapshot = (Vec<String>, Option<Vec<u8>>);

    fn apply(&mut self, _idx: u64, command: &String) -> usize {
        self.0.push(command.clone());
        self.0.len()
    }

    fn apply_stop_sign(&mut self, _idx: u64, stop_sign: &StopSign) {
        self.1.clone_from(&stop_sign.metadata);
    }

    fn snapshot(&self) -> Self::Snapshot {
        (self.0.clone(), self.1.clone())
    }

    fn restore(&mut self, (words, metadata): Self::Snapshot) {
        *self = Self(words, metadata);
    }
}

type Storage = MemoryStorage<IdentifiedCommand<Words>>;

/// A server with a book of its own.
struct Server {
    node: ReplicatedNode<Words, Storage>,
    book: AddressBook,
    address: String,
}

/// Starts a server whose book has these others, and itself.
async fn start(
    config: OmniPaxosConfig,
    listener: TcpListener,
    others: &BTreeMap<u64, String>,
) -> Server {
    let pid = config.server_config.pid;
    let address = listener.local_addr().unwrap().to_string();
    let book = AddressBook::from_iter(others.clone());
    book.set(pid, address.clone());
    book.admit_guests(2);
    let transport =
        TcpTransport::new(book.clone()).listener(listener).announce(format!("server {pid}"));
    let node = Replicated::builder(config, Storage::default(), Words::default());
    let node = node.transport(transport).start().await.unwrap();
    Server { node, book, address }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn founders() -> Vec<Server> {
    let listeners = [listener().await, listener().await, listener().await];
    let addresses: BTreeMap<u64, String> = (1..)
        .zip(&listeners)
        .map(|(pid, listener)| (pid, listener.local_addr().unwrap().to_string()))
        .collect();
    let mut servers = Vec::new();
    for (pid, listener) in (1..).zip(listeners) {
        let mut config = common::config(pid, 3);
        config.server_config.continues = true;
        config.server_config.max_observers = 2;
        servers.push(start(config, listener, &addresses).await);
    }
    servers
}

fn next(id: u32, nodes: &[u64]) -> ClusterConfig {
    ClusterConfig { configuration_id: id, nodes: nodes.to_vec(), ..Default::default() }
}

#[tokio::test]
async fn a_server_that_no_book_names_joins_and_one_leaves() {
    let mut servers = founders().await;
    within("execute", servers[0].node.execute("first".to_owned())).await.unwrap();
    // It knows servers 1 and 2. Server 3 learns of it with the stop sign.
    let joins = ServerConfig { pid: 4, max_observers: 2, ..Default::default() };
    let config = OmniPaxosConfig::observe(joins, &[1, 2]);
    let known = servers[..2].iter().map(|server| (server.node.log().pid(), server.address.clone()));
    let known: BTreeMap<u64, String> = known.collect();
    servers.push(start(config, listener().await, &known).await);
    let count = within("query", servers[3].node.query(|words| words.0.len())).await.unwrap();
    assert_eq!(count, 1, "a guest reads");
    let mut announced = servers[0].book.announced();
    let known = announced.wait_for(|all| all.get(&4).is_some_and(|content| content == b"server 4"));
    drop(within("the announcement", known).await.unwrap());

    let address = servers[3].address.clone();
    let metadata = Some(address.clone().into_bytes());
    let change = MemberChange { metadata: metadata.clone(), ..Default::default() };
    servers[1].book.invite(4, address);
    let changed = servers[1].node.log().change_members(next(2, &[1, 2, 4]), change);
    assert_eq!(within("the change", changed).await.unwrap(), 1);
    for server in &servers {
        let mut membership = server.node.log().membership();
        let began = membership.wait_for(|now| now.configuration == next(2, &[1, 2, 4]));
        drop(within("the configuration", began).await.unwrap());
    }
    // Everywhere but at server 3, the book follows the members: server 3 is a guest there.
    let addresses = |pids: &[u64]| {
        let address =
            |pid: &u64| (*pid, servers[usize::try_from(*pid).unwrap() - 1].address.clone());
        pids.iter().map(address).collect::<BTreeMap<_, _>>()
    };
    for at in [0, 1, 3] {
        servers[at].book.replace(addresses(&[1, 2, 4]));
    }
    let mut membership = servers[2].node.log().membership();
    let retired = membership.wait_for(|now| now.may_stop == Some(true));
    drop(within("the end of server 3", retired).await.unwrap());
    let storage = within("shutdown", servers.remove(2).node.shutdown()).await.unwrap();
    drop(storage);
    within("shutdown", servers.remove(0).node.shutdown()).await.unwrap();
    // Servers 2 and 4 are a quorum.
    let output = within("execute", servers[1].node.execute("second".to_owned())).await.unwrap();
    assert_eq!(output, (2, 2));
    for server in &servers {
        let state = within("query", server.node.query(Clone::clone)).await.unwrap();
        assert_eq!((state.0.len(), &state.1), (2, &metadata));
    }
}

#[tokio::test]
async fn transfers_to_the_same_server_end_together() {
    let servers = founders().await;
    within("execute", servers[0].node.execute("first".to_owned())).await.unwrap();
    let leader = servers[0].node.log().status().await.unwrap().leader.unwrap();
    let log = servers[usize::try_from(leader).unwrap() - 1].node.log();
    let to = leader % 3 + 1;
    let (first, second) = within("the transfers", async {
        tokio::join!(log.transfer_leadership(to), log.transfer_leadership(to))
    })
    .await;
    assert_eq!((first, second), (Ok(()), Ok(())));
}
