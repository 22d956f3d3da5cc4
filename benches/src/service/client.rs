//! A client with one connection.

use crate::{
    etcd, kv_store,
    plan::System,
    protocol::{Answer, Connection, Put, Request, Standing, Value},
    Failure,
};

/// A request that is measured.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    /// A linearizable read.
    Get,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
        }
    }
}

/// A connection to one server.
#[derive(Debug)]
pub(crate) enum Client {
    Frames(Connection),
    KvStore(kv_store::Connection),
    Etcd(etcd::Connection),
}

impl Client {
    pub(crate) async fn connect(system: System, port: u16) -> Result<Self, Failure> {
        Ok(match system {
            System::Ours | System::Openraft | System::OpenraftRocksdb => {
                Self::Frames(Connection::connect(port).await?)
            }
            System::KvStore => Self::KvStore(kv_store::Connection::connect(port).await?),
            System::Etcd => Self::Etcd(etcd::Connection::connect(port).await?),
        })
    }

    pub(crate) async fn put(&mut self, key: u64, value: Vec<u8>) -> Result<(), Failure> {
        match self {
            Self::Frames(connection) => {
                let request = Request::Put(Put { key, value: Value(value) });
                match connection.call(&request).await? {
                    Answer::Done => Ok(()),
                    other => Err(unexpected(other)),
                }
            }
            Self::KvStore(connection) => connection.put(key, value).await,
            Self::Etcd(connection) => connection.put(key, value).await,
        }
    }

    /// Returns the value of a key.
    pub(crate) async fn get(&mut self, key: u64) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Frames(connection) => match connection.call(&Request::Get(key)).await? {
                Answer::Found(found) => Ok(found.map(|value| value.0)),
                other => Err(unexpected(other)),
            },
            Self::KvStore(connection) => connection.get(key).await,
            Self::Etcd(connection) => connection.get(key).await,
        }
    }

    pub(crate) async fn status(&mut self) -> Result<Standing, Failure> {
        match self {
            Self::Frames(connection) => match connection.call(&Request::Status).await? {
                Answer::Status(standing) => Ok(standing),
                other => Err(unexpected(other)),
            },
            Self::KvStore(connection) => connection.status().await,
            Self::Etcd(connection) => connection.status().await,
        }
    }

    /// Tells the cluster that a server will start on this port, if it must know that before.
    pub(crate) async fn add_member(&mut self, peer_port: u16) -> Result<(), Failure> {
        match self {
            Self::Frames(_) | Self::KvStore(_) => Ok(()),
            Self::Etcd(connection) => connection.add_member(peer_port).await,
        }
    }

    pub(crate) async fn change_members(&mut self, members: Vec<u64>) -> Result<(), Failure> {
        match self {
            Self::Frames(connection) => {
                match connection.call(&Request::ChangeMembers(members)).await? {
                    Answer::Done => Ok(()),
                    other => Err(unexpected(other)),
                }
            }
            Self::KvStore(_) => Err("its members are not changed here".into()),
            Self::Etcd(connection) => connection.keep_members(&members).await,
        }
    }
}

fn unexpected(answer: Answer) -> Failure {
    match answer {
        Answer::Failed(reason) => reason.into(),
        other => format!("the server answered {other:?}").into(),
    }
}
