//! Replicated state machines over real sockets.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{config, transports, within, Sum};
use omnipaxos::{reads::ReadRefused, storage::StopSign, ClusterConfig};
use omnipaxos_runtime::{
    errors::{AppendError, ExecuteError, Known, NodeError, QueryError, ReadError},
    tcp::{AddressBook, TcpTransport},
    CommandId, IdentifiedCommand, Replicated, ReplicatedNode, StateMachine, MAX_OUTPUTS,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::{
    future::Future,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    task::Poll,
};
use tokio::task::JoinSet;

type Storage = MemoryStorage<IdentifiedCommand<Sum>>;
type Server = ReplicatedNode<Sum, Storage>;

async fn start(pid: u64, storage: Storage, transport: TcpTransport) -> Server {
    let server = Replicated::builder(config(pid, 3), storage, Sum::default());
    server.transport(transport).snapshot_every(50).start().await.unwrap()
}

async fn cluster() -> (AddressBook, Vec<Server>) {
    let (book, transports) = transports(3).await;
    let mut servers = Vec::new();
    for (pid, transport) in (1..).zip(transports) {
        servers.push(start(pid, Storage::default(), transport).await);
    }
    (book, servers)
}

#[tokio::test]
async fn commands_are_applied_in_one_order_and_read_at_every_server() {
    let (_book, servers) = cluster().await;
    let mut outputs = Vec::new();
    for number in 1..=6 {
        let server = &servers[number as usize % 3];
        let (idx, sum) = within("execute", server.execute(number)).await.unwrap();
        assert_eq!(idx, number as u64 - 1);
        outputs.push(sum);
    }
    assert_eq!(outputs, [1, 3, 6, 10, 15, 21]);
    for server in &servers {
        assert_eq!(within("query", server.query(|sum| sum.0)).await.unwrap(), 21);
        assert!(server.query_stale(|sum| sum.0).await.unwrap() <= 21);
    }
}

#[tokio::test]
async fn a_repeated_command_is_applied_once() {
    let (_book, servers) = cluster().await;
    let id = CommandId { client: 7, number: 0, oldest: 0 };
    let first = within("execute", servers[0].execute_as(id, 5)).await.unwrap();
    assert_eq!(first, (0, 5));
    // At another server, which has applied it, and twice at once.
    assert_eq!(within("query", servers[1].query(|sum| sum.0)).await.unwrap(), 5);
    let (again, once_more) = within("again", async {
        tokio::join!(servers[1].execute_as(id, 5), servers[1].execute_as(id, 5))
    })
    .await;
    assert_eq!((again.unwrap(), once_more.unwrap()), (first, first));
    let next = CommandId { number: 1, oldest: 1, ..id };
    assert_eq!(within("execute", servers[2].execute_as(next, 1)).await.unwrap().1, 6);
    // Once it has applied the answered number.
    assert_eq!(within("query", servers[0].query(|sum| sum.0)).await.unwrap(), 6);
    let forgotten = within("execute", servers[0].execute_as(id, 5)).await.unwrap_err();
    assert!(matches!(forgotten, ExecuteError::NumberTooOld));
    assert_eq!(forgotten.known(), Known::Unknown);
    assert_eq!(within("query", servers[0].query(|sum| sum.0)).await.unwrap(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_gets_a_snapshot() {
    let (book, mut servers) = cluster().await;
    within("execute", servers[0].execute(1)).await.unwrap();
    let storage = within("shutdown", servers.pop().unwrap().shutdown()).await.unwrap();
    let mut calls = JoinSet::new();
    for task in 0..20 {
        let server = servers[task % 2].handle();
        calls.spawn(async move {
            for _ in 0..10 {
                server.execute(1).await.unwrap();
            }
        });
    }
    while let Some(done) = within("execute", calls.join_next()).await {
        done.unwrap();
    }
    for server in &servers {
        assert!(server.log().status().await.unwrap().compacted_idx >= 50);
    }
    let back = start(3, storage, TcpTransport::new(book.clone())).await;
    assert_eq!(within("query", back.query(|sum| sum.0)).await.unwrap(), 201);
    assert_eq!(within("execute", back.execute(1)).await.unwrap(), (201, 202));
    // From its own snapshot.
    let storage = within("shutdown", back.shutdown()).await.unwrap();
    let back = start(3, storage, TcpTransport::new(book)).await;
    assert_eq!(within("query", back.query(|sum| sum.0)).await.unwrap(), 202);
}

#[tokio::test]
async fn a_panic_in_apply_ends_the_node() {
    let server = Replicated::builder(config(1, 1), Storage::default(), Sum::default());
    let server = server.start().await.unwrap();
    within("execute", server.execute(1)).await.unwrap();
    let other = server.handle();
    let error = within("execute", server.execute(13)).await.unwrap_err();
    assert_eq!(error.known(), Known::Unknown);
    let ExecuteError::Append(AppendError::Ended { cause, entry: None }) = error else {
        panic!("{error:?}")
    };
    let text = cause.to_string();
    assert!(
        text.contains("`apply` of the command at index 1") && text.contains("unlucky"),
        "{text}"
    );
    assert!(matches!(
        within("execute", other.execute(1)).await.unwrap_err(),
        ExecuteError::Append(AppendError::Ended { cause: NodeError::Panicked(_), entry: Some(1) })
    ));
    let query = within("query", other.query_stale(|sum| sum.0)).await.unwrap_err();
    assert_eq!(query, QueryError::Read(ReadError::Ended(cause.clone())));
    assert_eq!(within("shutdown", server.shutdown()).await.unwrap_err(), cause);
}

/// A state machine that panics in one of its methods, or waits in one.
struct Faulty {
    fault: &'static str,
    /// `apply` waits for it at each command but the first.
    may_apply: std::sync::mpsc::Receiver<()>,
}

impl Faulty {
    fn panic_in(fault: &'static str) -> Self {
        Self { fault, may_apply: std::sync::mpsc::channel().1 }
    }

    fn maybe_panic(&self, method: &str) {
        assert_ne!(self.fault, method, "bad luck");
    }
}

impl StateMachine for Faulty {
    type Command = ();
    type Output = ();
    type Snapshot = ();

    fn apply(&mut self, idx: u64, _command: &()) {
        if idx > 0 {
            // It fails once the sender is dropped, which also ends the wait.
            let _ = self.may_apply.recv();
        }
    }

    fn apply_stop_sign(&mut self, _idx: u64, _stop_sign: &StopSign) {
        self.maybe_panic("apply_stop_sign");
    }

    fn snapshot(&self) {
        self.maybe_panic("snapshot");
    }

    fn restore(&mut self, (): ()) {
        self.maybe_panic("restore");
    }
}

#[tokio::test]
async fn a_panic_in_another_method_ends_the_node_and_is_named() {
    let storage = MemoryStorage::default();
    let server = Replicated::builder(config(1, 1), storage, Faulty::panic_in("")).snapshot_every(1);
    let server = server.start().await.unwrap();
    within("execute", server.execute(())).await.unwrap();
    let is_compacted = async {
        while server.log().status().await.unwrap().compacted_idx == 0 {
            tokio::task::yield_now().await;
        }
    };
    within("the snapshot", is_compacted).await;
    let with_snapshot = within("shutdown", server.shutdown()).await.unwrap();
    for (fault, storage) in [
        ("snapshot", MemoryStorage::default()),
        ("apply_stop_sign", MemoryStorage::default()),
        ("restore", with_snapshot),
    ] {
        let server = Replicated::builder(config(1, 1), storage, Faulty::panic_in(fault));
        let server = server.snapshot_every(1).start().await.unwrap();
        if fault == "snapshot" {
            // It is applied before, or the node ends before.
            let _ = within("execute", server.execute(())).await;
        } else if fault == "apply_stop_sign" {
            let next =
                ClusterConfig { configuration_id: 2, nodes: vec![1, 2], ..Default::default() };
            // It is decided before, or the node ends before.
            let _ = within("reconfigure", server.log().reconfigure(next, None)).await;
        }
        let cause = within("the end", server.log().ended_with()).await.to_string();
        assert!(cause.contains(&format!("`{fault}`")) && cause.contains("bad luck"), "{cause}");
        assert_eq!(
            within("execute", server.execute(())).await.unwrap_err().known(),
            Known::NotDecided
        );
    }
}

#[tokio::test]
async fn calls_end_with_the_node_while_a_command_is_applied() {
    let (let_apply, may_apply) = std::sync::mpsc::channel();
    let machine = Faulty { fault: "", may_apply };
    let server = Replicated::builder(config(1, 1), MemoryStorage::default(), machine);
    let server = server.start().await.unwrap();
    within("execute", server.execute(())).await.unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..2 {
        let handle = server.handle();
        calls.spawn(async move { handle.execute(()).await.map(|_| ()).unwrap_err().known() });
    }
    let handle = server.handle();
    let is_decided = async {
        while server.log().status().await.unwrap().decided_idx < 3 {
            tokio::task::yield_now().await;
        }
    };
    within("both commands", is_decided).await;
    calls.spawn(async move {
        let ended = handle.query(|_| ()).await.unwrap_err();
        assert_eq!(ended, QueryError::Read(ReadError::Ended(NodeError::ShutDown)));
        Known::Unknown
    });
    let shutdown = tokio::spawn(server.shutdown());
    while let Some(known) = within("the calls", calls.join_next()).await {
        assert_eq!(known.unwrap(), Known::Unknown);
    }
    assert!(!shutdown.is_finished(), "the state machine is in use");
    drop(let_apply);
    within("shutdown", shutdown).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_that_waits_for_a_number_ends_with_the_node() {
    let (_book, mut transports) = transports(3).await;
    let alone = start(1, Storage::default(), transports.remove(0)).await;
    let handle = alone.handle();
    // They take all numbers, and their callers do not poll them any more.
    let mut held: Vec<_> = (0..MAX_OUTPUTS).map(|_| Box::pin(handle.execute(1))).collect();
    for call in &mut held {
        let once = std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context)));
        // All in one poll of this task.
        assert!(tokio::task::unconstrained(once).await.is_pending());
    }
    let last = alone.handle();
    let last = tokio::spawn(async move { last.execute(1).await.map(|_| ()).unwrap_err().known() });
    tokio::task::yield_now().await;
    within("shutdown", alone.shutdown()).await.unwrap();
    assert_eq!(within("the last call", last).await.unwrap(), Known::NotDecided);
}

/// Panics when it is dropped.
struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("boom");
        }
    }
}

#[tokio::test]
async fn a_panic_of_a_result_that_nobody_takes_ends_the_node() {
    let server = Replicated::builder(config(1, 1), Storage::default(), Sum::default());
    let server = server.start().await.unwrap();
    let handle = server.handle();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let query = tokio::spawn(async move {
        let query = move |_: &Sum| {
            begun.send(()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(100));
            Explosive
        };
        let _ = handle.query_stale(query).await.map(std::mem::forget);
    });
    tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
    query.abort();
    let cause = within("the end", server.log().ended_with()).await.to_string();
    assert!(cause.contains("query") && cause.contains("boom"), "{cause}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_applied_once_while_leaders_are_restarted() {
    let (book, mut servers) = cluster().await;
    within("execute", servers[0].execute(0)).await.unwrap();
    let mut calls = JoinSet::new();
    let stop = Arc::new(AtomicBool::new(false));
    for task in 0..8 {
        let (server, stop) = (servers[task % 2].handle(), stop.clone());
        calls.spawn(async move {
            let mut executed = 0;
            while !stop.load(Ordering::Relaxed) {
                server.execute(1).await.unwrap();
                executed += 1;
            }
            executed
        });
    }
    for _ in 0..4 {
        // Server 3 leads, and ends in the middle of the load.
        let is_leader = async {
            loop {
                let leader = servers[0].log().status().await.unwrap().leader;
                if leader == Some(3) {
                    return;
                }
                if let Some(leader) = leader.and_then(|pid| usize::try_from(pid).ok()) {
                    // It may lose leadership meanwhile.
                    let _ = servers[leader - 1].log().transfer_leadership(3).await;
                }
            }
        };
        within("server 3 leads", is_leader).await;
        let idx = within("read", servers[0].log().read_index()).await.unwrap();
        let storage = within("shutdown", servers.pop().unwrap().shutdown()).await.unwrap();
        let after = within("execute", servers[0].execute(0)).await.unwrap().0;
        assert!(after >= idx);
        servers.push(start(3, storage, TcpTransport::new(book.clone())).await);
    }
    stop.store(true, Ordering::Relaxed);
    let mut executed = 0;
    while let Some(count) = within("the calls", calls.join_next()).await {
        executed += count.unwrap();
    }
    for server in &servers {
        assert_eq!(within("query", server.query(|sum| sum.0)).await.unwrap(), executed);
    }
}

/// Counts the bytes of texts, and leaves it to the library how large a command is.
#[derive(Default)]
struct Texts(usize);

impl StateMachine for Texts {
    type Command = String;
    type Output = ();
    type Snapshot = usize;

    fn apply(&mut self, _idx: u64, command: &String) {
        self.0 += command.len();
    }

    fn snapshot(&self) -> usize {
        self.0
    }

    fn restore(&mut self, snapshot: usize) {
        self.0 = snapshot;
    }
}

/// Together they exceed a frame many times.
#[tokio::test]
async fn messages_of_commands_that_own_memory_fit_into_frames() {
    let (_book, transports) = transports(3).await;
    let mut transports = (1..).zip(transports);
    let start = |(pid, transport): (u64, TcpTransport)| {
        let server =
            Replicated::builder(config(pid, 3), MemoryStorage::default(), Texts::default());
        server.transport(transport.max_frame_bytes(64 * 1024)).start()
    };
    let one = start(transports.next().unwrap()).await.unwrap();
    let two = start(transports.next().unwrap()).await.unwrap();
    let mut commands = JoinSet::new();
    for _ in 0..200 {
        let server = one.handle();
        commands.spawn(async move { server.execute("x".repeat(5000)).await.map(|_| ()) });
    }
    while let Some(executed) = within("execute", commands.join_next()).await {
        executed.unwrap().unwrap();
    }
    let three = start(transports.next().unwrap()).await.unwrap();
    for server in [&two, &three] {
        assert_eq!(within("catch up", server.query(|texts| texts.0)).await.unwrap(), 1_000_000);
    }
}

#[tokio::test]
async fn the_node_ends_with_its_last_handle() {
    let server = Replicated::builder(config(1, 1), Storage::default(), Sum::default());
    let server = server.start().await.unwrap();
    let mut log = server.log().decided(0);
    let handle = server.handle();
    drop(server);
    assert_eq!(within("execute", handle.execute(2)).await.unwrap(), (0, 2));
    drop(handle);
    assert!(matches!(within("the entry", log.next()).await, Some(Ok(_)) | None));
    while within("the end", log.next()).await.is_some() {}
}

#[tokio::test]
async fn a_command_that_is_waited_for_keeps_no_node_alive() {
    let mut config = config(1, 2);
    config.server_config.max_pending_entries = 1;
    let server = Replicated::builder(config, Storage::default(), Sum::default());
    let server = server.start().await.unwrap();
    let mut log = server.log().decided(0);
    // The other server is down, so no command is decided.
    let undecided = CommandId { client: 7, number: 0, oldest: 0 };
    let undecided = server.execute_notify(undecided, 5).unwrap();
    let refused = CommandId { client: 7, number: 1, oldest: 0 };
    let first = server.execute_notify(refused, 6).unwrap();
    let second = server.execute_notify(refused, 6).unwrap();
    let error = within("the refusal", first).await.unwrap_err();
    assert!(matches!(error, ExecuteError::Append(AppendError::Busy(6))), "{error:?}");
    drop(server);
    assert!(within("the end", log.next()).await.is_none());
    let error = within("the undecided command", undecided).await.unwrap_err();
    assert!(matches!(
        error,
        ExecuteError::Append(AppendError::Ended { cause: NodeError::ShutDown, entry: None })
    ));
    // This call would have proposed the command again.
    let error = within("the refused command", second).await.unwrap_err();
    assert!(matches!(
        error,
        ExecuteError::Append(AppendError::Ended { cause: NodeError::ShutDown, entry: Some(6) })
    ));
}

#[tokio::test]
async fn a_panic_in_a_query_fails_only_the_query() {
    let server = Replicated::builder(config(1, 1), Storage::default(), Sum::default());
    let server = server.start().await.unwrap();
    let panicked = within("query", server.query(|_| -> i64 { panic!("no") })).await.unwrap_err();
    assert_eq!(panicked, QueryError::Panicked("no".to_owned()));
    assert_eq!(within("execute", server.execute(2)).await.unwrap(), (0, 2));
    assert_eq!(within("query", server.query(|sum| sum.0)).await.unwrap(), 2);
}

/// Counts the bytes of its commands.
#[derive(Default)]
struct Total(usize);

impl StateMachine for Total {
    type Command = Vec<u8>;
    type Output = usize;
    type Snapshot = usize;

    fn apply(&mut self, _idx: u64, command: &Vec<u8>) -> usize {
        self.0 += command.len();
        self.0
    }
    fn snapshot(&self) -> usize {
        self.0
    }
    fn restore(&mut self, snapshot: usize) {
        self.0 = snapshot;
    }
}

/// The server shares this thread: it takes nothing before the first wait.
#[tokio::test]
async fn large_commands_that_wait_are_bounded() {
    const MIB: usize = 1024 * 1024;
    let server = Replicated::builder(config(1, 1), MemoryStorage::default(), Total::default());
    let server = server.on_runtime().start().await.unwrap();
    let id = |number| CommandId { client: 7, number, oldest: 0 };
    let executing: Vec<_> =
        (0..31).map(|number| server.execute_notify(id(number), vec![0; MIB]).unwrap()).collect();
    let refused = server.execute_notify(id(31), vec![0; MIB]).unwrap_err();
    assert_eq!(refused.known(), Known::NotDecided);
    assert!(
        matches!(&refused, ExecuteError::Append(AppendError::Busy(bytes)) if bytes.len() == MIB)
    );
    assert_eq!(server.commands_under_way(), 31);
    // A call that waits for room gets it.
    let waits = within("execute", server.execute_as(id(31), vec![0; MIB])).await;
    assert_eq!(waits.unwrap(), (31, 32 * MIB));
    for (number, executing) in (1..).zip(executing) {
        assert_eq!(executing.await.unwrap(), (number as u64 - 1, number * MIB));
    }
}

#[tokio::test]
async fn commands_are_proposed_in_the_order_of_the_calls_and_once_each() {
    let (_book, servers) = cluster().await;
    let id = |number| CommandId { client: 7, number, oldest: 0 };
    let executing: Vec<_> =
        (0..50).map(|number| servers[1].execute_notify(id(number), 1).unwrap()).collect();
    // While they are under way, they are repeated; two of the calls are given up.
    let mut again: Vec<_> =
        (0..50).map(|number| servers[1].execute_notify(id(number), 1).unwrap()).collect();
    again.truncate(48);
    let mut last = None;
    for (number, executing) in (1..).zip(executing) {
        let (idx, sum) = within("execute", executing).await.unwrap();
        assert_eq!(sum, number);
        assert!(last < Some(idx));
        last = Some(idx);
    }
    for (number, executing) in (1..).zip(again) {
        assert_eq!(within("again", executing).await.unwrap().1, number);
    }
    assert_eq!(servers[1].commands_under_way(), 0);
    let decided_idx = servers[1].log().status().await.unwrap().decided_idx;
    assert_eq!(decided_idx, 50, "no command is in the log twice");
}

#[tokio::test]
async fn a_state_machine_may_share_the_thread_of_the_replica() {
    let server = Replicated::builder(config(1, 1), Storage::default(), Sum::default());
    let server = server.machine_on_replica_thread().snapshot_every(10).start().await.unwrap();
    for number in 0..25 {
        assert_eq!(
            within("execute", server.execute(2)).await.unwrap(),
            (number, 2 * number as i64 + 2)
        );
        let sum = within("query", server.query(|sum| sum.0)).await.unwrap();
        assert_eq!(sum, 2 * number as i64 + 2);
    }
    assert_eq!(server.log().status().await.unwrap().compacted_idx, 20);
    let error = within("execute", server.execute(13)).await.unwrap_err();
    assert_eq!(error.known(), Known::Unknown);
    let ended = within("the end", server.shutdown()).await.unwrap_err();
    assert!(matches!(ended, NodeError::Panicked(_)), "{ended}");
}

#[tokio::test]
async fn a_query_without_a_quorum_reports_why_in_time() {
    let (_book, mut transports) = transports(3).await;
    let alone = start(1, Storage::default(), transports.remove(0)).await;
    let limit = std::time::Duration::from_millis(50);
    let query = within("query", alone.query_within(limit, |sum| sum.0)).await.unwrap_err();
    let QueryError::Read(ReadError::TimedOut(Some(ReadRefused::NoLeader))) = query else {
        panic!("{query:?}")
    };
    let read = within("read", alone.log().read_index_within(limit)).await.unwrap_err();
    assert_eq!(read, ReadError::TimedOut(Some(ReadRefused::NoLeader)));
    assert_eq!(within("query", alone.query_stale(|sum| sum.0)).await.unwrap(), 0);
}

/// Counts the stop signs before each snapshot.
#[derive(Default)]
struct StopSigns(u64);

impl StateMachine for StopSigns {
    type Command = u64;
    type Output = ();
    type Snapshot = u64;

    fn apply(&mut self, _idx: u64, _command: &u64) {}

    fn apply_stop_sign(&mut self, _idx: u64, _stop_sign: &StopSign) {
        self.0 += 1;
    }

    fn snapshot(&self) -> u64 {
        self.0
    }

    fn restore(&mut self, stop_signs: u64) {
        self.0 = stop_signs;
    }
}

#[tokio::test]
async fn a_stop_sign_that_ends_the_log_is_applied_once_to_each_state() {
    let storage = MemoryStorage::<IdentifiedCommand<StopSigns>>::default();
    let server = Replicated::builder(config(1, 1), storage, StopSigns::default());
    let server = server.snapshot_every(2).start().await.unwrap();
    server.execute(1).await.unwrap();
    let next = ClusterConfig { configuration_id: 2, nodes: vec![2], ..Default::default() };
    assert_eq!(server.log().reconfigure(next, None).await.unwrap(), 1);
    let applied = |server: &Replicated<StopSigns>| {
        let server = server.clone();
        async move { while server.query_stale(|stop_signs| stop_signs.0).await.unwrap() == 0 {} }
    };
    within("the stop sign", applied(&server)).await;
    // The snapshot, if there is one, is made before the next query.
    server.query_stale(|_| ()).await.unwrap();
    let storage = within("shutdown", server.shutdown()).await.unwrap();
    let server = Replicated::builder(config(1, 1), storage, StopSigns::default());
    let server = server.snapshot_every(2).start().await.unwrap();
    within("the stop sign", applied(&server)).await;
    server.query_stale(|_| ()).await.unwrap();
    assert_eq!(server.query_stale(|stop_signs| stop_signs.0).await.unwrap(), 1);
}
