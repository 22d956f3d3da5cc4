//! What a server does with the requests of its clients.

use crate::{
    answers::{Answers, Room},
    members::{self, Change as MembersChange, Members},
    places::Places,
    protocol::{Answer, Ask, Request, Response, Status, Why, MOST_WATCHES},
    state::{Change, Store},
    watchers::Watchers,
};
use anyhow::anyhow;
use futures_util::{
    future::{abortable, AbortHandle, BoxFuture},
    stream::{FuturesUnordered, StreamExt},
};
use omnipaxos::{leader_transfer::TransferErr, members::MemberChange, util::NodeId, ClusterConfig};
use omnipaxos_runtime::{
    errors::{
        AppendError, ExecuteError, NodeError, QueryError, ReadError, ReconfigureError,
        TransferError,
    },
    CommandId, Replicated,
};
use std::{future::Future, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::{watch, Mutex},
    task::spawn_blocking,
    time::timeout,
};

/// Requests of one client under way. Further ones are not read before.
const REQUESTS: usize = 1024;

/// The same for the bytes of their keys and values. The request that reaches this number is begun.
const REQUEST_BYTES: usize = 32 * 1024 * 1024;

/// The longest time for which a read waits for the leader. Then the client gets the reason, and asks another
/// server.
const READ_TIMEOUT: Duration = Duration::from_millis(750);

/// The longest time to connect to a server that is to join.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of heartbeat rounds without progress at a server that is to join after which a change of the
/// members is given up.
const MOST_SILENT_ROUNDS: u32 = 25;

/// A server, as its clients see it.
pub(crate) struct Service {
    pub(crate) store: Replicated<Store>,
    pub(crate) places: Arc<Places>,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) members: watch::Receiver<Members>,
    /// Held for a request for the status, so that many of them hold up no commands, and hold only one state.
    pub(crate) one_status: Arc<Mutex<()>>,
}

/// What is under way for one connection. It runs within the task of the connection, and only
/// [`beside`](Self::beside) something, or while [`may_grow`](Self::may_grow) waits: a task of its own for each request
/// would cost more than the request. If one panics, the connection ends.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    /// Each returns the bytes of its request.
    requests: FuturesUnordered<BoxFuture<'static, usize>>,
    /// Of the requests.
    bytes: usize,
    /// Sends the members, whenever they change.
    members: Option<AbortHandle>,
    /// The number of requests to watch.
    watches: usize,
}

impl UnderWay {
    fn add(&mut self, bytes: usize, request: impl Future<Output = ()> + Send + 'static) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.requests.push(Box::pin(async move {
            request.await;
            bytes
        }));
    }

    /// Runs what is under way until `future` ends, and returns what that returns.
    pub(crate) async fn beside<R>(&mut self, future: impl Future<Output = R>) -> R {
        let mut future = pin!(future);
        loop {
            tokio::select! {
                biased;
                Some(bytes) = self.requests.next() => self.end(bytes),
                ended = &mut future => return ended,
            }
        }
    }

    /// Waits until the client may send further requests.
    pub(crate) async fn may_grow(&mut self) {
        while self.requests.len() >= REQUESTS || self.bytes >= REQUEST_BYTES {
            match self.requests.next().await {
                Some(bytes) => self.end(bytes),
                None => return,
            }
        }
    }

    fn end(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// There is no answer: the server ends, and closes the connection.
struct NoAnswer;

impl From<NodeError> for NoAnswer {
    fn from(_: NodeError) -> Self {
        Self
    }
}

type Answered = Result<Answer, NoAnswer>;

impl Service {
    /// Begins a request. What takes a while is added to `under_way`. Changes are proposed in the order of the calls.
    pub(crate) fn begin(
        self: &Arc<Self>,
        request: Request,
        answers: &Answers,
        under_way: &mut UnderWay,
    ) {
        let Request { client, number, oldest, ask } = request;
        let bytes = ask.bytes();
        let service = self.clone();
        let to = answers.clone();
        if let Err(why) = ask.check() {
            under_way.add(0, answer(number, to, async { Ok(Answer::Refused(why)) }));
            return;
        }
        let id = CommandId { client, number, oldest };
        let change = match ask {
            Ask::Put { key, value } => Change { key, value: Some(value) },
            Ask::Delete { key } => Change { key, value: None },
            Ask::Get { key } => {
                under_way.add(bytes, async move {
                    let first = service.get(key.clone()).await;
                    service.send_value(number, to, key, first).await;
                });
                return;
            }
            Ask::GetStale { key } => {
                under_way.add(bytes, async move {
                    let first = service.get_stale(key.clone()).await;
                    service.send_value(number, to, key, first).await;
                });
                return;
            }
            Ask::TransferLeadership { to: pid } => {
                under_way
                    .add(bytes, answer(number, to, async move { service.transfer(pid).await }));
                return;
            }
            Ask::Watch { .. } if under_way.watches == MOST_WATCHES => {
                let why = format!("this connection watches {MOST_WATCHES} prefixes already");
                under_way.add(0, answer(number, to, async { Ok(Answer::Refused(why)) }));
                return;
            }
            Ask::Watch { prefix } => {
                under_way.watches += 1;
                return self.watchers.add(prefix, number, to);
            }
            Ask::Status => {
                under_way.add(bytes, answer(number, to, async move { service.status().await }));
                return;
            }
            Ask::Members => {
                let sending = send_members(number, to, self.members.clone());
                let (sending, present) = abortable(sending);
                under_way.add(bytes, async {
                    // It is stopped by the next such request.
                    let _ = sending.await;
                });
                if let Some(earlier) = under_way.members.replace(present) {
                    earlier.abort();
                }
                return;
            }
            Ask::PresentMembers => {
                let members = async move { service.present_members().await };
                under_way.add(bytes, answer(number, to, members));
                return;
            }
            Ask::ChangeMembers { change, configuration_id } => {
                let changed =
                    async move { service.change_members(&change, configuration_id).await };
                under_way.add(bytes, answer(number, to, changed));
                return;
            }
        };
        match self.store.execute_notify(id, change) {
            Ok(executing) => {
                under_way.add(bytes, answer(number, to, async { executed(executing.await) }));
            }
            Err(refused) => {
                under_way.add(bytes, answer(number, to, async { executed(Err(refused)) }));
            }
        }
    }

    async fn get(&self, key: String) -> Answered {
        let get = move |store: &Store| store.state().get(&key).cloned();
        read(self.store.query_within(READ_TIMEOUT, get).await)
    }

    async fn get_stale(&self, key: String) -> Answered {
        read(self.store.query_stale(move |store| store.state().get(&key).cloned()).await)
    }

    /// Sends the value of a key, which was read first with this answer.
    ///
    /// While there is no room for the value, this holds none. Then it reads again: the state is not older, and
    /// the request is still under way, so a linearizable read stays linearizable. What is no value, as after a read
    /// that failed, needs no room: it is sent as it is.
    async fn send_value(&self, number: u64, to: Answers, key: String, first: Answered) {
        let mut read = first;
        let mut room: Option<Room> = None;
        while let Ok(answer) = read {
            let response = Response { number, answer };
            let bytes = response.bytes();
            let enough = room.take().filter(|room| room.has(bytes));
            if let Some(room) = enough.or_else(|| to.try_room(bytes)) {
                return to.send_in(room, response).await;
            }
            drop(response);
            room = Some(to.room(bytes).await);
            read = self.get_stale(key.clone()).await;
        }
    }

    async fn status(&self) -> Answered {
        let replica = self.store.log().status().await?;
        // One at a time: the digest takes longer the larger the values are, and the state that it needs stays in
        // memory.
        let one = self.one_status.clone().lock_owned().await;
        let state = match self.store.query_stale(|store| store.state().clone()).await {
            Ok(state) => state,
            Err(failed) => return unread(failed),
        };
        let (unanswered, keys) = (self.store.commands_under_way() as u64, state.number_of_keys());
        // It goes on if the client leaves.
        let digest = move || {
            let digest = state.digest();
            drop((state, one));
            digest
        };
        let digest = spawn_blocking(digest).await.map_err(|_| NoAnswer)?;
        Ok(Answer::Status(Box::new(Status { replica, unanswered, keys, digest })))
    }

    async fn transfer(&self, to: NodeId) -> Answered {
        match self.store.log().transfer_leadership(to).await {
            Ok(()) | Err(TransferError::Refused(TransferErr::ToItself)) => {
                Ok(Answer::Leads { pid: to })
            }
            Err(TransferError::Cancelled(pid)) => Ok(Answer::Leads { pid }),
            Err(TransferError::Refused(TransferErr::NotLeader(leader))) => {
                Ok(Answer::AskAgain(Why::NotLeader { leader }))
            }
            Err(TransferError::Refused(TransferErr::AlreadyTransferring(to))) => {
                Ok(Answer::AskAgain(Why::HandingOver { to }))
            }
            Err(TransferError::Ended(_)) => Err(NoAnswer),
            Err(refused) => Ok(Answer::Refused(refused.to_string())),
        }
    }

    /// Returns the id of the configuration that this server knows.
    fn present_id(&self) -> u32 {
        self.store.log().membership().borrow().configuration.configuration_id
    }

    async fn present_members(&self) -> Answered {
        Ok(match self.present_configuration().await {
            Ok(present) => Answer::Members(self.places.of(&present)),
            Err(not_known) => return not_known,
        })
    }

    /// Returns the latest configuration, with a linearizable read; or the answer that it is not known here.
    async fn present_configuration(&self) -> Result<ClusterConfig, Answered> {
        if let Err(failed) = self.store.query_within(READ_TIMEOUT, |_| ()).await {
            return Err(unread(failed));
        }
        let present = self.store.log().membership().borrow().configuration.clone();
        // The log names the members before the state machine has applied where they are.
        match present.nodes.is_empty() || !self.places.are_known(&present.nodes) {
            true => Err(Ok(Answer::AskAgain(Why::NoMembers))),
            false => Ok(present),
        }
    }

    /// Changes the members of a configuration. Those that join need not run yet.
    ///
    /// The request may name servers of an earlier change that this server has not learned yet. So this
    /// server begins with a linearizable read.
    async fn change_members(&self, change: &MembersChange, configuration_id: u32) -> Answered {
        let present = match self.present_configuration().await {
            Ok(present) => present,
            Err(not_known) => return not_known,
        };
        let next = change.after(configuration_id, &present, &self.places.by_servers().borrow());
        let next = match next {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(Answer::Members(self.places.of(&present))),
            Err(why) => return Ok(Answer::Refused(why)),
        };
        let joining = || next.joins.iter().filter_map(|pid| Some((*pid, next.addresses.get(pid)?)));
        for (pid, address) in joining() {
            // It may catch up. But as a member it would be looked for at this address.
            let Some(other) = self.places.of_connected(pid).filter(|other| other != address) else {
                continue;
            };
            if !answers(address).await {
                let why =
                    format!("server {pid} says that it is at {other}: nothing is at {address}");
                return Ok(Answer::Refused(why));
            }
        }
        let invitation = self.places.invite(joining());
        let how = MemberChange {
            metadata: Some(members::to_metadata(&next.addresses)),
            most_silent_rounds: MOST_SILENT_ROUNDS,
            ..MemberChange::default()
        };
        let next_id = next.configuration.configuration_id;
        let changed = self.store.log().change_members(next.configuration, how).await;
        match changed {
            Ok(idx) => {
                invitation.keep();
                let mut members = self.members.clone();
                let members = members.wait_for(|members| members.are_of(next_id)).await;
                let members = members.map_err(|_| NoAnswer)?.clone();
                Ok(Answer::MembersChanged { idx, waited_for: next.joins, members })
            }
            Err(ReconfigureError::Pending) => Ok(Answer::AskAgain(Why::ChangingMembers)),
            Err(ReconfigureError::NotDecided) => Ok(Answer::AskAgain(Why::OtherMembers)),
            // The members were changed meanwhile, perhaps by the same client at another server.
            Err(ReconfigureError::Config(_)) if self.present_id() >= next_id => {
                Ok(Answer::AskAgain(Why::OtherMembers))
            }
            Err(ReconfigureError::NotJoined(missing)) => Ok(Answer::NotJoined(missing)),
            Err(ReconfigureError::Unknown) => Ok(Answer::AskAgain(Why::Unknown)),
            Err(ReconfigureError::Ended(_)) => Err(NoAnswer),
            Err(refused) => Ok(Answer::Refused(format!("{:#}", anyhow!(refused)))),
        }
    }
}

/// Whether something accepts connections at an address.
async fn answers(address: &str) -> bool {
    timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .is_ok_and(|connected| connected.is_ok())
}

/// Sends the answer to a request, once it is there.
async fn answer(number: u64, to: Answers, answer: impl Future<Output = Answered> + Send) {
    if let Ok(answer) = answer.await {
        to.send(Response { number, answer }).await;
    }
}

/// Sends the members, now and whenever they change.
async fn send_members(number: u64, to: Answers, mut members: watch::Receiver<Members>) {
    loop {
        let answer = Answer::Members(members.borrow_and_update().clone());
        to.send(Response { number, answer }).await;
        if to.is_closed() || members.changed().await.is_err() {
            return;
        }
    }
}

/// Returns the answer to a command. It may have been decided earlier, when its client asked another server.
fn executed(executed: Result<(u64, ()), ExecuteError<Change>>) -> Answered {
    match executed {
        Ok((idx, ())) => Ok(Answer::Done { idx }),
        Err(ExecuteError::NumberTooOld) => Ok(Answer::answered_before()),
        Err(ExecuteError::OutputForgotten) => Ok(Answer::index_forgotten()),
        Err(ExecuteError::Append(AppendError::Busy(_))) => Ok(Answer::AskAgain(Why::Busy)),
        Err(ExecuteError::Append(AppendError::Unknown)) => Ok(Answer::AskAgain(Why::Unknown)),
        Err(ExecuteError::Append(AppendError::NotDecided)) => Ok(Answer::AskAgain(Why::NotDecided)),
        Err(ExecuteError::Append(AppendError::Ended { .. })) => Err(NoAnswer),
        Err(ExecuteError::Append(AppendError::Refused(why))) => Ok(Answer::Refused(why)),
        Err(refused) => Ok(Answer::Refused(refused.to_string())),
    }
}

fn read(value: Result<Option<Arc<str>>, QueryError>) -> Answered {
    value.map_or_else(unread, |value| Ok(Answer::Value(value)))
}

fn unread(failed: QueryError) -> Answered {
    match failed {
        QueryError::Read(ReadError::TimedOut(why)) => {
            let why = why.map_or_else(
                || "the leader, or a quorum of servers, does not answer".to_owned(),
                |why| why.to_string(),
            );
            Ok(Answer::AskAgain(Why::NotRead(why)))
        }
        QueryError::Read(ReadError::Busy) => {
            Ok(Answer::AskAgain(Why::NotRead(ReadError::Busy.to_string())))
        }
        QueryError::Read(ReadError::Ended(_)) => Err(NoAnswer),
        refused => Ok(Answer::Refused(format!("{:#}", anyhow!(refused)))),
    }
}

#[cfg(test)]
mod tests {
    use super::{ClusterConfig, Service, UnderWay, REQUEST_BYTES};
    use crate::{
        answers::{Answers, Waiting},
        members::{Addresses, Members},
        places::Places,
        protocol::{Answer, Ask, Request, Why},
        state::Store,
        watchers::Watchers,
    };
    use omnipaxos::{OmniPaxosConfig, ServerConfig};
    use omnipaxos_runtime::{tcp::AddressBook, Replicated};
    use omnipaxos_storage::memory_storage::MemoryStorage;
    use std::{
        sync::{Arc, Weak},
        time::Duration,
    };
    use tokio::{
        sync::{broadcast, mpsc, watch},
        task::yield_now,
        time::timeout,
    };

    const MIB: usize = 1024 * 1024;

    /// The service of a cluster of one server.
    async fn service() -> Arc<Service> {
        let nodes = vec![1];
        let config = OmniPaxosConfig {
            cluster_config: ClusterConfig { configuration_id: 1, nodes, ..Default::default() },
            server_config: ServerConfig { pid: 1, ..Default::default() },
        };
        let book = AddressBook::default();
        let places = Places::new(1, String::new(), Addresses::new(), Vec::new(), book);
        let (places, watchers) = (Arc::new(places), Arc::new(Watchers::default()));
        let store = Store::new(watchers.clone(), places.clone());
        let node = Replicated::builder(config, MemoryStorage::default(), store);
        let store = node.start().await.unwrap().handle();
        let members = watch::channel(Members::default()).1;
        Arc::new(Service { store, places, watchers, members, one_status: Arc::default() })
    }

    async fn next(receiver: &mut mpsc::Receiver<Waiting>) -> Waiting {
        receiver.recv().await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_bytes_of_requests_under_way_are_bounded() {
        let mut under_way = UnderWay::default();
        let (ends, _) = broadcast::channel::<()>(1);
        for _ in 0..2 {
            let mut end = ends.subscribe();
            under_way.may_grow().await;
            under_way.add(16 * MIB, async move { drop(end.recv().await) });
        }
        assert!(timeout(Duration::from_millis(1), under_way.may_grow()).await.is_err());
        ends.send(()).unwrap();
        under_way.may_grow().await;
        assert!(under_way.bytes < REQUEST_BYTES);
    }

    #[tokio::test]
    async fn a_read_that_failed_does_not_become_an_older_value() {
        let service = service().await;
        let (to, mut receiver) = Answers::new();
        let _all = to.try_room(usize::MAX).unwrap();
        let failed = Ok(Answer::AskAgain(Why::NotRead("no quorum".to_owned())));
        service.send_value(7, to, "key".to_owned(), failed).await;
        let answer = next(&mut receiver).await.response.answer;
        assert!(matches!(answer, Answer::AskAgain(Why::NotRead(_))), "{answer:?}");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_makes_the_server_hold_few_values() {
        let service = service().await;
        let key = || "key".to_owned();
        let value = |number: u64| number.to_string() + &"x".repeat(4 * MIB);
        // It reads its answers, and puts.
        let (others, mut to_other) = Answers::new();
        // It watches and gets, and does not read.
        let (slow, mut to_slow) = Answers::new();
        let (mut of_other, mut of_slow) = (UnderWay::default(), UnderWay::default());
        let ask = |number: u64, ask: Ask| Request { client: 1, number, oldest: number, ask };
        let watched = ask(0, Ask::Watch { prefix: key() });
        service.begin(watched, &slow, &mut of_slow);
        let mut values: Vec<Weak<str>> = Vec::new();
        for number in 1..=16 {
            let put = Ask::Put { key: key(), value: value(number) };
            service.begin(ask(number, put), &others, &mut of_other);
            let done = of_other.beside(next(&mut to_other)).await.response;
            assert!(matches!(done.answer, Answer::Done { .. }), "{done:?}");
            for number in [2 * number, 2 * number + 1] {
                let get = if number % 2 == 0 {
                    Ask::Get { key: key() }
                } else {
                    Ask::GetStale { key: key() }
                };
                service.begin(ask(number, get), &slow, &mut of_slow);
            }
            let read = service.store.query(|store| store.state().get("key").map(Arc::downgrade));
            values.push(of_slow.beside(read).await.unwrap().unwrap());
        }
        let held = || values.iter().filter(|value| value.strong_count() > 0).count();
        // Seven wait in 32 MiB, and one is in the state.
        let few_are_held = async {
            while held() > 8 {
                yield_now().await;
            }
        };
        let in_time = timeout(Duration::from_secs(10), of_slow.beside(few_are_held)).await;
        assert!(in_time.is_ok(), "{} values of 4 MiB", held());
        // Nothing is lost but changes, of which the watcher learns.
        let (mut answered, mut is_told) = (0, false);
        while answered < 32 || !is_told {
            let Waiting { response, room } = of_slow.beside(next(&mut to_slow)).await;
            drop(room);
            match response.answer {
                Answer::Value(Some(got)) => {
                    answered += 1;
                    let got: u64 = got.trim_end_matches('x').parse().unwrap();
                    assert!(got >= response.number / 2, "number {}: {got}", response.number);
                }
                Answer::Changed { .. } => assert!(!is_told),
                Answer::Refused(why) => is_told = why.contains("too many changes"),
                other => panic!("{other:?}"),
            }
        }
    }
}
