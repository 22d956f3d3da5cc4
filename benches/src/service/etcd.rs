//! etcd: its command line, and a client of its gRPC over HTTP/2.

use crate::{
    plan::{ServerPlan, System},
    protocol::Standing,
    Failure,
};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Method};
use std::{fmt::Write, process::Command};
use tokio::net::TcpStream;

/// The command that starts a server. One that is no founder joins a cluster that has
/// [added](Connection::add_member) it.
pub(crate) fn command(plan: &ServerPlan) -> Result<Command, Failure> {
    let ports = plan.own_ports()?;
    let mut cluster = String::new();
    for pid in plan.founders().chain([plan.pid].into_iter().filter(|_| !plan.is_founder())) {
        let comma = if cluster.is_empty() { "" } else { "," };
        write!(cluster, "{comma}{pid}={}", peer_url(plan.ports_of(pid)?.peer))?;
    }
    let state = if plan.is_founder() { "new" } else { "existing" };
    let peer = peer_url(ports.peer);
    let client = format!("http://127.0.0.1:{}", ports.client);
    let mut command = Command::new(System::Etcd.name());
    command
        .args(["--name", &plan.pid.to_string(), "--initial-cluster", &cluster])
        .args(["--initial-cluster-state", state])
        // Otherwise members change only once all have been connected for five seconds.
        .arg("--strict-reconfig-check=false")
        .arg("--data-dir")
        .arg(&plan.folder)
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--snapshot-count", &plan.snapshot_every.to_string()])
        .args(["--logger", "zap", "--log-level", "error"]);
    Ok(command)
}

fn peer_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

/// A message without a field that is read or set here.
#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
    #[prost(uint64, tag = "7")]
    raft_applied_index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemberListResponse {
    #[prost(message, repeated, tag = "2")]
    members: Vec<Member>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Member {
    #[prost(uint64, tag = "1")]
    id: u64,
    /// Empty until the member has started for the first time.
    #[prost(string, tag = "2")]
    name: String,
}

impl Member {
    fn pid(&self) -> Option<u64> {
        self.name.parse().ok()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemberAddRequest {
    #[prost(string, repeated, tag = "1")]
    peer_urls: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemberRemoveRequest {
    #[prost(uint64, tag = "1")]
    id: u64,
}

/// A connection of HTTP/2 that carries one call at a time.
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    address: String,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) async fn connect(port: u16) -> Result<Self, Failure> {
        let address = format!("127.0.0.1:{port}");
        let stream = TcpStream::connect(&address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::handshake(stream).await?;
        // It ends with the sender. Its errors are those of the calls.
        tokio::spawn(connection);
        Ok(Self { sender, address })
    }

    pub(crate) async fn put(&mut self, key: u64, value: Vec<u8>) -> Result<(), Failure> {
        let request = PutRequest { key: key_of(key), value };
        self.call::<_, Nothing>("/etcdserverpb.KV/Put", &request).await?;
        Ok(())
    }

    pub(crate) async fn get(&mut self, key: u64) -> Result<Option<Vec<u8>>, Failure> {
        let request = RangeRequest { key: key_of(key) };
        let mut response: RangeResponse = self.call("/etcdserverpb.KV/Range", &request).await?;
        Ok(response.kvs.pop().map(|found| found.value))
    }

    pub(crate) async fn status(&mut self) -> Result<Standing, Failure> {
        let status: StatusResponse =
            self.call("/etcdserverpb.Maintenance/Status", &Nothing {}).await?;
        let members = self.members().await?;
        let leader = members.iter().find(|member| member.id == status.leader);
        Ok(Standing {
            leader: leader.and_then(Member::pid),
            members: members.iter().filter_map(Member::pid).collect(),
            decided_idx: status.raft_applied_index,
            may_stop: false,
        })
    }

    async fn members(&mut self) -> Result<Vec<Member>, Failure> {
        let list: MemberListResponse =
            self.call("/etcdserverpb.Cluster/MemberList", &Nothing {}).await?;
        Ok(list.members)
    }

    /// Adds a member that is not started yet, and will listen on this port.
    pub(crate) async fn add_member(&mut self, peer_port: u16) -> Result<(), Failure> {
        let request = MemberAddRequest { peer_urls: vec![peer_url(peer_port)] };
        self.call::<_, Nothing>("/etcdserverpb.Cluster/MemberAdd", &request).await?;
        Ok(())
    }

    /// Removes all members but these.
    pub(crate) async fn keep_members(&mut self, kept: &[u64]) -> Result<(), Failure> {
        for member in self.members().await? {
            if member.pid().is_some_and(|pid| !kept.contains(&pid)) {
                let request = MemberRemoveRequest { id: member.id };
                self.call::<_, Nothing>("/etcdserverpb.Cluster/MemberRemove", &request).await?;
            }
        }
        Ok(())
    }

    /// Makes a unary call of gRPC.
    async fn call<Q, A>(&mut self, path: &str, message: &Q) -> Result<A, Failure>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut body) = sender.send_request(request, false)?;
        body.send_data(framed(message)?, true)?;
        let response = response.await?;
        check(response.headers())?;
        let mut body = response.into_body();
        let mut received = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            received.extend_from_slice(&chunk);
        }
        if let Some(trailers) = body.trailers().await? {
            check(&trailers)?;
        }
        let message = received.get(5..).ok_or("a response without a message")?;
        Ok(A::decode(message)?)
    }
}

/// Adds the flag of compression, which is off, and the length.
fn framed(message: &impl prost::Message) -> Result<Bytes, Failure> {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length)?);
    message.encode(&mut frame)?;
    Ok(frame.freeze())
}

/// Returns the error that headers or trailers contain.
fn check(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get("grpc-status") {
        Some(status) if status != "0" => {
            Err(format!("etcd: {status:?}, {:?}", headers.get("grpc-message")).into())
        }
        _ => Ok(()),
    }
}

fn key_of(key: u64) -> Vec<u8> {
    key.to_be_bytes().into()
}
