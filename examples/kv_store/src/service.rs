//! What a server does with the requests of its clients.

use crate::{
    members::{self, Change as MembersChange, Members},
    places::Places,
    protocol::{Answer, Ask, Request, Response, Status, Why, MOST_WATCHES},
    state::{Change, Store},
    watchers::Watchers,
};
use anyhow::anyhow;
use omnipaxos::{leader_transfer::TransferErr, members::MemberChange, util::NodeId};
use omnipaxos_runtime::{
    errors::{
        AppendError, ExecuteError, NodeError, QueryError, ReadError, ReconfigureError,
        TransferError,
    },
    CommandId, Replicated,
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch, Mutex},
    task::{spawn_blocking, AbortHandle, JoinSet},
    time::timeout,
};

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

/// What is under way for one connection.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    pub(crate) tasks: JoinSet<()>,
    /// Sends the members, whenever they change.
    members: Option<AbortHandle>,
    /// The number of requests to watch.
    watches: usize,
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
    /// Begins a request. What takes a while continues in a task. Changes are proposed in the order of the
    /// calls.
    pub(crate) fn begin(
        self: &Arc<Self>,
        request: Request,
        answers: &mpsc::Sender<Response>,
        under_way: &mut UnderWay,
    ) {
        let UnderWay { tasks, members, watches } = under_way;
        let Request { client, number, oldest, ask } = request;
        let service = self.clone();
        let to = answers.clone();
        if let Err(why) = ask.check() {
            tasks.spawn(answer(number, to, async { Ok(Answer::Refused(why)) }));
            return;
        }
        let id = CommandId { client, number, oldest };
        let change = match ask {
            Ask::Put { key, value } => Change { key, value: Some(value) },
            Ask::Delete { key } => Change { key, value: None },
            Ask::Get { key } => {
                tasks.spawn(answer(number, to, async move { service.get(key).await }));
                return;
            }
            Ask::GetStale { key } => {
                tasks.spawn(answer(number, to, async move { service.get_stale(key).await }));
                return;
            }
            Ask::TransferLeadership { to: pid } => {
                tasks.spawn(answer(number, to, async move { service.transfer(pid).await }));
                return;
            }
            Ask::Watch { .. } if *watches == MOST_WATCHES => {
                let why = format!("this connection watches {MOST_WATCHES} prefixes already");
                tasks.spawn(answer(number, to, async { Ok(Answer::Refused(why)) }));
                return;
            }
            Ask::Watch { prefix } => {
                *watches += 1;
                return self.watchers.add(prefix, number, to);
            }
            Ask::Status => {
                tasks.spawn(answer(number, to, async move { service.status().await }));
                return;
            }
            Ask::Members => {
                let sending = tasks.spawn(send_members(number, to, self.members.clone()));
                if let Some(earlier) = members.replace(sending) {
                    earlier.abort();
                }
                return;
            }
            Ask::ChangeMembers(change) => {
                let changed = async move { service.change_members(&change).await };
                tasks.spawn(answer(number, to, changed));
                return;
            }
        };
        match self.store.execute_notify(id, change) {
            Ok(executing) => {
                tasks.spawn(answer(number, to, async { executed(executing.await) }));
            }
            Err(refused) => {
                tasks.spawn(answer(number, to, async { executed(Err(refused)) }));
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

    /// Changes the members. Those that join need not run yet.
    ///
    /// The request may name servers of an earlier change that this server has not learned yet. So this
    /// server begins with a linearizable read.
    async fn change_members(&self, change: &MembersChange) -> Answered {
        if let Err(failed) = self.store.query_within(READ_TIMEOUT, |_| ()).await {
            return unread(failed);
        }
        let present = self.store.log().membership().borrow().configuration.clone();
        // The log names the members before the state machine has applied where they are.
        if present.nodes.is_empty() || !self.places.are_known(&present.nodes) {
            return Ok(Answer::AskAgain(Why::NoMembers));
        }
        let next = change.after(&present, &self.places.by_servers().borrow());
        let next = match next {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(Answer::Members(self.members.borrow().clone())),
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
async fn answer(
    number: u64,
    to: mpsc::Sender<Response>,
    answer: impl Future<Output = Answered> + Send,
) {
    if let Ok(answer) = answer.await {
        // The client may have gone.
        let _ = to.send(Response { number, answer }).await;
    }
}

/// Sends the members, now and whenever they change.
async fn send_members(
    number: u64,
    to: mpsc::Sender<Response>,
    mut members: watch::Receiver<Members>,
) {
    loop {
        let answer = Answer::Members(members.borrow_and_update().clone());
        let is_gone = to.send(Response { number, answer }).await.is_err();
        if is_gone || members.changed().await.is_err() {
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
