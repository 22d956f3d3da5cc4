//! Replicas and messages on several threads, with entries that are `Send` and not `Sync`; and who
//! waits for whom.
//!
//! With the feature `unicache`, what a library does here needs `EncodeResult` and `UniCache` to be `Send`,
//! too, as in 0.2.2.

#![cfg(not(feature = "unicache"))]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    macros::Entry,
    messages::{sequence_paxos::PaxosMsg, Message},
    storage::{Entry, SharedEntries, Storage},
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::{
    memory_storage::MemoryStorage,
    persistent_storage::{PersistentStorage, PersistentStorageConfig},
};
use serde::{Deserialize, Serialize};
use std::{
    cell::Cell,
    io::{self, Write},
    sync::mpsc,
    thread,
};

/// `Send`, but not `Sync`.
#[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
struct Seen(Cell<u64>);

/// `Send` and `Sync`.
#[derive(Clone, Debug, Entry)]
struct Plain;

type Replica = OmniPaxos<Seen, MemoryStorage<Seen>>;

fn ship<X: Send + 'static>(_: X) {}

/// A library for any entry: it requires only `Send`.
fn send_on<T: Entry + Send + 'static>(message: Message<T>)
where
    T::Snapshot: Send,
{
    ship(message);
}

fn spawn<T: Entry + Send + 'static, B: Storage<T> + Send + 'static>(replica: OmniPaxos<T, B>)
where
    T::Snapshot: Send,
{
    thread::spawn(move || drop(replica)).join().unwrap();
}

/// A library for any entry, on a storage that it chooses.
fn spawn_on_ours<T>(memory: MemoryStorage<T>, disk: PersistentStorage<T>)
where
    T: Entry + Send + Serialize + for<'de> Deserialize<'de> + 'static,
    T::Snapshot: Send + Serialize + for<'de> Deserialize<'de>,
{
    ship(memory.clone());
    spawn(build(1, vec![1], memory));
    spawn(build(1, vec![1], disk));
}

fn is_sync<X: Sync>() {}

/// What can be shared in 0.2.2 can be shared here.
fn can_be_shared<T: Entry + Sync + Send>()
where
    T::Snapshot: Sync + Send,
{
    is_sync::<Message<T>>();
    is_sync::<MemoryStorage<T>>();
    is_sync::<OmniPaxos<T, MemoryStorage<T>>>();
}

fn build<T: Entry, B: Storage<T>>(pid: u64, nodes: Vec<u64>, storage: B) -> OmniPaxos<T, B> {
    let cluster = ClusterConfig { configuration_id: 1, nodes, ..Default::default() };
    let server = ServerConfig { pid, ..Default::default() };
    cluster.build_for_server(server, storage).unwrap()
}

/// Three servers, of which the first one leads.
fn cluster() -> Vec<Replica> {
    let mut servers: Vec<Replica> =
        (1..=3).map(|pid| build(pid, vec![1, 2, 3], MemoryStorage::default())).collect();
    for _ in 0..100 {
        servers.iter_mut().for_each(OmniPaxos::tick);
        exchange(&mut servers);
    }
    let leader = servers[0].get_current_leader().unwrap();
    servers.sort_by_key(|server| server.get_pid() != leader);
    servers
}

fn exchange(servers: &mut [Replica]) {
    loop {
        let messages: Vec<_> = servers.iter_mut().flat_map(OmniPaxos::outgoing_messages).collect();
        if messages.is_empty() {
            return;
        }
        for message in messages {
            let receiver = message.get_receiver();
            let to = servers.iter_mut().find(|server| server.get_pid() == receiver);
            to.unwrap().handle_incoming(message);
        }
    }
}

fn accepts(leader: &mut Replica) -> Vec<Message<Seen>> {
    let mut messages = leader.outgoing_messages();
    messages.retain(|message| match message {
        Message::SequencePaxos(paxos) => matches!(paxos.msg, PaxosMsg::AcceptDecide(_)),
        Message::BLE(_) => false,
    });
    messages
}

#[test]
fn what_holds_entries_that_are_sync_can_be_shared() {
    can_be_shared::<Plain>();
}

#[test]
fn replicas_move_to_other_threads() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = PersistentStorageConfig::default();
    config.set_path(folder.path().to_str().unwrap().into());
    spawn_on_ours::<Seen>(MemoryStorage::default(), PersistentStorage::open(config));
}

#[test]
fn a_cluster_of_threads_replicates_entries_that_are_not_sync() {
    let inboxes: Vec<_> = (1..=3).map(|_| mpsc::channel()).collect();
    let senders: Vec<_> = inboxes.iter().map(|(sender, _)| sender.clone()).collect();
    let servers = inboxes.into_iter().zip(1..).map(|((_, inbox), pid)| {
        let senders = senders.clone();
        thread::spawn(move || {
            let mut server: Replica = build(pid, vec![1, 2, 3], MemoryStorage::default());
            server.append(Seen(Cell::new(pid))).unwrap();
            // After that, the others may still need this one.
            let mut more = 300;
            while more > 0 {
                server.tick();
                for message in server.outgoing_messages() {
                    send_on(message.clone());
                    let _ = senders[message.get_receiver() as usize - 1].send(message);
                }
                thread::sleep(std::time::Duration::from_millis(1));
                inbox.try_iter().for_each(|message| server.handle_incoming(message));
                more -= u32::from(server.get_decided_idx() == 3);
            }
            let mut log = Vec::new();
            server.for_each_decided(0, |Seen(number)| log.push(number.get()));
            log
        })
    });
    let servers: Vec<_> = servers.collect();
    let logs: Vec<_> = servers.into_iter().map(|server| server.join().unwrap()).collect();
    assert_eq!(logs[0], logs[1]);
    assert_eq!(logs[0], logs[2]);
}

/// The number in an entry that no other byte of a message is.
const MARK: u64 = 201;

/// Blocks at the entry until it is released.
struct Blocked {
    began: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

impl Write for Blocked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes == [MARK as u8] {
            self.began.send(()).unwrap();
            self.go_on.recv().unwrap();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A message that is serialised into a connection that takes nothing blocks neither the replica nor
/// the messages to others, though all share its entries.
#[test]
fn a_blocked_connection_blocks_nobody_else() {
    let mut servers = cluster();
    servers[0].append(Seen(Cell::new(MARK))).unwrap();
    let mut messages = accepts(&mut servers[0]);
    let (to_second, to_third) = (messages.pop().unwrap(), messages.pop().unwrap());
    let ((began, begins), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel());
    let blocked = thread::spawn(move || {
        let mut connection = Blocked { began, go_on: goes_on };
        bincode::serde::encode_into_std_write(
            &to_second,
            &mut connection,
            bincode::config::standard(),
        )
        .unwrap();
        to_second
    });
    begins.recv().unwrap();
    // It is in the middle of an entry. None of this waits for it:
    assert!(bincode::serde::encode_to_vec(&to_third, bincode::config::standard()).is_ok());
    assert!(!format!("{to_third:?}").is_empty());
    assert_eq!(servers[0].read_entries(..).unwrap().len(), 1);
    let third = servers.iter_mut().find(|server| server.get_pid() == to_third.get_receiver());
    third.unwrap().handle_incoming(to_third);
    exchange(&mut servers);
    let mut visited = 0;
    servers[0].for_each_decided(0, |_| visited += 1);
    assert_eq!((visited, servers[0].get_decided_idx()), (1, 1));
    go_on.send(()).unwrap();
    blocked.join().unwrap();
}

/// What visits entries may read them again, and wait for a thread that does.
#[test]
fn a_visitor_may_read() {
    let mut servers = cluster();
    servers[0].append(Seen(Cell::new(MARK))).unwrap();
    exchange(&mut servers);
    let (server, held) = (&servers[0], servers[0].clone());
    let mut visited = 0;
    server.for_each_decided(0, |_| {
        assert!(server.read(0).is_some());
        thread::scope(|scope| {
            let held = held.clone();
            let other = scope.spawn(move || held.read(0).is_some());
            assert!(other.join().unwrap());
        });
        visited += 1;
    });
    assert_eq!(visited, 1);
}

#[test]
fn entries_that_others_hold_are_written_as_a_vector_is() {
    fn written(entries: &impl Serialize) -> Vec<u8> {
        bincode::serde::encode_to_vec(entries, bincode::config::standard()).unwrap()
    }
    for len in [0, 1, 2, 15, 16, 17, 40] {
        let words: Vec<Seen> = (0..len).map(|number| Seen(Cell::new(number))).collect();
        let entries = SharedEntries::from(words.clone());
        let held = entries.clone();
        assert_eq!(written(&held), written(&words));
        drop(entries);
        assert_eq!(written(&held), written(&words));
    }
}
