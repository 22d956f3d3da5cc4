//! The key-value store of the examples: its command line, and a client.

use crate::{
    plan::{ServerPlan, System},
    protocol::Standing,
    Failure,
};
use example_common::frame::{self, Kind};
use omnipaxos::status::Status as ReplicaStatus;
use serde::{Deserialize, Serialize};
use std::{
    fmt::Write,
    fs,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        tcp::{OwnedReadHalf, OwnedWriteHalf},
        TcpStream,
    },
};

/// Returns the command that starts a server. Writes its configuration into its folder.
pub(crate) fn command(plan: &ServerPlan) -> Result<Command, Failure> {
    fs::create_dir_all(&plan.folder)?;
    let file = plan.folder.join("kv_store.toml");
    fs::write(&file, configuration(plan)?)?;
    let mut command = Command::new(System::KvStore.program().ok_or("no program")?);
    command.args(["server", "--until-stdin-closes", "--config"]).arg(file);
    command.arg("--data").arg(plan.folder.join("data"));
    Ok(command)
}

fn configuration(plan: &ServerPlan) -> Result<String, Failure> {
    let nodes: Vec<u64> = plan.founders().collect();
    let mut text = format!(
        "[cluster_config]\nconfiguration_id = 1\nnodes = {nodes:?}\n\
         [server_config]\npid = {}\ncontinues = true\n\
         [kv_store]\nclient_address = \"127.0.0.1:{}\"\nsnapshot_every = {}\n\
         [kv_store.peers]\n",
        plan.pid,
        plan.own_ports()?.client,
        plan.snapshot_every
    );
    for pid in nodes {
        writeln!(text, "{pid} = \"127.0.0.1:{}\"", plan.ports_of(pid)?.peer)?;
    }
    Ok(text)
}

/// A request. What is asked is a variant of an enum of the store: its number, then its fields.
#[derive(Serialize)]
struct Request<A> {
    client: u64,
    number: u64,
    oldest: u64,
    variant: u32,
    fields: A,
}

/// The numbers of the variants.
const PUT: u32 = 0;
const GET: u32 = 2;
const STATUS: u32 = 6;

#[derive(Deserialize)]
struct Response {
    number: u64,
    answer: Answer,
}

/// The variants are those of the store, in its order, up to the last one that is expected here.
#[derive(Debug, Deserialize)]
enum Answer {
    Done { _idx: u64 },
    Value(Option<String>),
    Changed { _key: String, _value: Option<String> },
    Status(Box<Status>),
}

#[derive(Debug, Deserialize)]
struct Status {
    replica: ReplicaStatus,
    _unanswered: u64,
    _keys: u64,
    _digest: u64,
}

/// The number of clients that this process has named. Each connection is a client of its own. The store's own
/// client takes a random number, so its entries are up to 8 bytes longer.
static CLIENTS: AtomicU64 = AtomicU64::new(0);

/// A connection that carries one request at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    client: u64,
    number: u64,
    /// Reused by each answer.
    body: Vec<u8>,
}

impl Connection {
    pub(crate) async fn connect(port: u16) -> Result<Self, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let client = CLIENTS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { reader: BufReader::new(reader), writer, client, number: 0, body: Vec::new() })
    }

    pub(crate) async fn put(&mut self, key: u64, value: Vec<u8>) -> Result<(), Failure> {
        let fields = (key.to_string(), String::from_utf8(value)?);
        match self.call(PUT, fields).await? {
            Answer::Done { .. } => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn get(&mut self, key: u64) -> Result<Option<Vec<u8>>, Failure> {
        match self.call(GET, key.to_string()).await? {
            Answer::Value(value) => Ok(value.map(String::into_bytes)),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn status(&mut self) -> Result<Standing, Failure> {
        let replica = match self.call(STATUS, ()).await? {
            Answer::Status(status) => status.replica,
            other => return Err(unexpected(&other)),
        };
        Ok(Standing {
            leader: replica.leader,
            members: replica.nodes.to_vec(),
            decided_idx: replica.decided_idx,
            may_stop: replica.may_stop == Some(true),
        })
    }

    async fn call(&mut self, variant: u32, fields: impl Serialize) -> Result<Answer, Failure> {
        self.number += 1;
        let Self { client, number, .. } = *self;
        let mut bytes = Vec::new();
        // All requests before this one are answered.
        let request = Request { client, number, oldest: number, variant, fields };
        frame::encode(Kind::Request, &request, &mut bytes)?;
        self.writer.write_all(&bytes).await?;
        let read = frame::read(&mut self.reader, Kind::Response, &mut self.body).await;
        match read? {
            Some(Response { number: of, answer }) if of == number => Ok(answer),
            Some(_) => Err("the server answered another request".into()),
            None => Err("the server has closed the connection".into()),
        }
    }
}

fn unexpected(answer: &Answer) -> Failure {
    format!("the server answered {answer:?}").into()
}
