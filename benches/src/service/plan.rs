//! The settings of a server process, which it gets as its arguments.

use crate::Failure;
use std::{collections::BTreeMap, path::PathBuf, process::Command};

/// The number of servers that a cluster begins with.
pub(crate) const FOUNDERS: u64 = 3;

/// What is measured.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Ours,
    /// The key-value store of the examples.
    KvStore,
    Openraft,
    /// The same, with the rocksdb store that openraft publishes.
    OpenraftRocksdb,
    Etcd,
}

impl System {
    pub(crate) const ALL: [Self; 5] =
        [Self::Ours, Self::KvStore, Self::Openraft, Self::OpenraftRocksdb, Self::Etcd];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::KvStore => "kv_store",
            Self::Openraft => "openraft",
            Self::OpenraftRocksdb => "openraft-rocksdb",
            Self::Etcd => "etcd",
        }
    }

    /// Returns the program of a server; `None` if that is this program.
    pub(crate) fn program(self) -> Option<&'static str> {
        match self {
            Self::Ours | Self::Openraft => None,
            Self::KvStore => Some("kv_store"),
            Self::OpenraftRocksdb => Some("service_openraft_rocksdb"),
            Self::Etcd => Some("etcd"),
        }
    }

    /// Returns whether the servers can be started.
    pub(crate) fn is_installed(self) -> bool {
        self.program().is_none_or(|name| {
            let version = Command::new(name).arg("--version").output();
            version.is_ok_and(|output| output.status.success())
        })
    }

    pub(crate) fn named(name: &str) -> Result<Self, Failure> {
        let found = Self::ALL.into_iter().find(|system| system.name() == name);
        found.ok_or_else(|| format!("no system is named {name}").into())
    }
}

/// The ports of a server, all on loopback.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) peer: u16,
    pub(crate) client: u16,
}

/// The settings of one server process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerPlan {
    pub(crate) pid: u64,
    pub(crate) folder: PathBuf,
    /// Commands between two snapshots.
    pub(crate) snapshot_every: u64,
    /// Of all servers, this one included.
    pub(crate) ports: BTreeMap<u64, Ports>,
}

impl ServerPlan {
    pub(crate) fn founders(&self) -> impl Iterator<Item = u64> {
        1..=FOUNDERS
    }

    pub(crate) fn is_founder(&self) -> bool {
        self.pid <= FOUNDERS
    }

    pub(crate) fn ports_of(&self, pid: u64) -> Result<Ports, Failure> {
        self.ports.get(&pid).copied().ok_or_else(|| format!("server {pid} has no ports").into())
    }

    pub(crate) fn own_ports(&self) -> Result<Ports, Failure> {
        self.ports_of(self.pid)
    }

    /// Returns the arguments that [`parse`](Self::parse) reads.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let ports: Vec<String> = self
            .ports
            .iter()
            .map(|(pid, ports)| format!("{pid}:{}:{}", ports.peer, ports.client))
            .collect();
        let folder = self.folder.display().to_string();
        vec![self.pid.to_string(), folder, self.snapshot_every.to_string(), ports.join(",")]
    }

    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let [pid, folder, snapshot_every, ports] = arguments else {
            return Err("a server takes four arguments".into());
        };
        Ok(Self {
            pid: pid.parse()?,
            folder: folder.into(),
            snapshot_every: snapshot_every.parse()?,
            ports: ports.split(',').map(parse_ports).collect::<Result<_, _>>()?,
        })
    }
}

fn parse_ports(text: &str) -> Result<(u64, Ports), Failure> {
    match text.split(':').collect::<Vec<_>>()[..] {
        [pid, peer, client] => {
            Ok((pid.parse()?, Ports { peer: peer.parse()?, client: client.parse()? }))
        }
        _ => Err(format!("{text:?} is no server with two ports").into()),
    }
}
