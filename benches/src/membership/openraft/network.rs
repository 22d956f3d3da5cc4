//! Calls between servers, as two messages on the links of the simulation.

use super::{Node, Types};
use openraft::{
    error::{InstallSnapshotError, NetworkError, RPCError, RaftError},
    network::{RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest,
        InstallSnapshotResponse, VoteRequest, VoteResponse,
    },
    EmptyNode,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::oneshot;

const SERIALISED: bincode::config::Configuration = bincode::config::standard();

/// A message on its way.
pub(super) struct Packet {
    pub(super) to: u64,
    pub(super) bytes: Vec<u8>,
}

/// A request of another server.
pub(super) struct Request {
    from: u64,
    number: u64,
    call: Call,
}

#[derive(Serialize, Deserialize)]
enum Wire {
    Call { from: u64, number: u64, call: Call },
    Answer { number: u64, answer: Answer },
}

#[derive(Serialize, Deserialize)]
enum Call {
    Append(AppendEntriesRequest<Types>),
    Install(InstallSnapshotRequest<Types>),
    Vote(VoteRequest<u64>),
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Appended(AppendEntriesResponse<u64>),
    Installed(InstallSnapshotResponse<u64>),
    Voted(VoteResponse<u64>),
    Failed,
}

fn decode(bytes: &[u8]) -> Wire {
    let (wire, _) = bincode::serde::decode_from_slice(bytes, SERIALISED)
        .expect("what was serialised can be deserialised");
    wire
}

/// The kind of a message.
pub(super) fn kind(bytes: &[u8]) -> &'static str {
    match decode(bytes) {
        Wire::Call { call: Call::Append(_), .. } => "append",
        Wire::Call { call: Call::Install(_), .. } => "install",
        Wire::Call { call: Call::Vote(_), .. } => "vote",
        Wire::Answer { .. } => "answer",
    }
}

/// What a server sends, and its calls that wait for an answer.
#[derive(Clone, Default)]
pub(super) struct Outbox(Arc<Mutex<Calls>>);

#[derive(Default)]
struct Calls {
    packets: Vec<Packet>,
    calls: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
}

impl Outbox {
    pub(super) fn take(&self) -> Vec<Packet> {
        let mut calls = self.calls();
        calls.waiting.retain(|_, waiting| !waiting.is_closed());
        std::mem::take(&mut calls.packets)
    }

    /// Passes an answer on, or returns a request.
    pub(super) fn receive(&self, bytes: &[u8]) -> Option<Request> {
        match decode(bytes) {
            Wire::Call { from, number, call } => Some(Request { from, number, call }),
            Wire::Answer { number, answer } => {
                if let Some(waiting) = self.calls().waiting.remove(&number) {
                    // The call may have been given up.
                    let _ = waiting.send(answer);
                }
                None
            }
        }
    }

    /// Does what a request asks for, and sends the answer.
    pub(super) async fn answer(&self, node: &Node, request: Request) {
        let answer = match request.call {
            Call::Append(call) => node.append_entries(call).await.map(Answer::Appended).ok(),
            Call::Install(call) => node.install_snapshot(call).await.map(Answer::Installed).ok(),
            Call::Vote(call) => node.vote(call).await.map(Answer::Voted).ok(),
        };
        let answer = answer.unwrap_or(Answer::Failed);
        self.calls().push(request.from, &Wire::Answer { number: request.number, answer });
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().expect("nothing panics while it holds the calls")
    }
}

impl Calls {
    fn push(&mut self, to: u64, wire: &Wire) {
        let bytes = bincode::serde::encode_to_vec(wire, SERIALISED);
        let bytes = bytes.expect("a message can be serialised");
        self.packets.push(Packet { to, bytes });
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Connection {
        Connection { pid: self.pid, target, outbox: self.outbox.clone() }
    }
}

/// Connects a server with the others.
pub(super) struct Network {
    pub(super) pid: u64,
    pub(super) outbox: Outbox,
}

/// Calls one server.
pub(super) struct Connection {
    pid: u64,
    target: u64,
    outbox: Outbox,
}

impl Connection {
    async fn call(&self, call: Call) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        {
            let mut calls = self.outbox.calls();
            calls.calls += 1;
            let number = calls.calls;
            calls.waiting.insert(number, answer);
            calls.push(self.target, &Wire::Call { from: self.pid, number, call });
        }
        answered.await.ok()
    }
}

fn failed<E: std::error::Error>() -> RPCError<u64, EmptyNode, E> {
    RPCError::Network(NetworkError::new(&io::Error::other("the other server failed")))
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64>>> {
        match self.call(Call::Append(request)).await {
            Some(Answer::Appended(answer)) => Ok(answer),
            _ => Err(failed()),
        }
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> Result<
        InstallSnapshotResponse<u64>,
        RPCError<u64, EmptyNode, RaftError<u64, InstallSnapshotError>>,
    > {
        match self.call(Call::Install(request)).await {
            Some(Answer::Installed(answer)) => Ok(answer),
            _ => Err(failed()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64>>> {
        match self.call(Call::Vote(request)).await {
            Some(Answer::Voted(answer)) => Ok(answer),
            _ => Err(failed()),
        }
    }
}
