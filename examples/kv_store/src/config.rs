//! The configuration file of a server.

use crate::{members::Place, protocol::LONGEST_CHANGE};
use anyhow::{bail, Context, Result};
use example_common::Missing;
use omnipaxos::{util::NodeId, ClusterConfig, OmniPaxosConfig, ServerConfig};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// All that a server needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) omnipaxos: OmniPaxosConfig,
    /// Where clients find this server.
    pub(crate) client_address: String,
    /// Where Prometheus finds the metrics of this server, if it may.
    pub(crate) metrics_address: Option<SocketAddr>,
    /// Where servers find each other, this one included.
    pub(crate) peers: BTreeMap<NodeId, String>,
    /// Number of applied entries after which they are replaced by a snapshot.
    pub(crate) snapshot_every: u64,
    /// Where a server with a persistent storage keeps its log.
    pub(crate) data: PathBuf,
    /// What becomes of a start where it is not there.
    pub(crate) missing: Missing,
    /// Whether this server continues as an observer after it was removed from the members.
    pub(crate) stays: bool,
}

/// What a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A member, or an observer if the file makes it one.
    AsConfigured,
    /// An observer: of the servers that the file names, or else of all nodes.
    Observer,
    /// A server that joins, or joined: it observes these servers until the members change to include it.
    Joins(Vec<Place>),
}

/// The file, with which servers are observed.
fn observing(text: &str) -> Result<String> {
    let mut table: toml::Table = text.parse()?;
    let nodes = table.get("cluster_config").and_then(|cluster| cluster.get("nodes"));
    let mut others = nodes.and_then(toml::Value::as_array).cloned().unwrap_or_default();
    if let Some(server) = table.get_mut("server_config").and_then(toml::Value::as_table_mut) {
        let pid = server.get("pid").cloned();
        others.retain(|node| Some(node) != pid.as_ref());
        server.entry("observes").or_insert(others.into());
    }
    Ok(table.to_string())
}

/// The file of a server that joins. It needs to know no servers but these.
fn joining(text: &str, sources: &[Place]) -> Result<String> {
    let mut table: toml::Table = text.parse()?;
    let mut part = |name: &str| match table.entry(name).or_insert(toml::Table::new().into()) {
        toml::Value::Table(part) => Ok(std::mem::take(part)),
        _ => bail!("`{name}` is no table"),
    };
    let (mut server, mut kv_store) = (part("server_config")?, part("kv_store")?);
    let Some(pid) = server.get("pid").and_then(toml::Value::as_integer) else {
        bail!("[server_config] has no pid");
    };
    let own = pid.to_string();
    let mut peers = toml::Table::new();
    let own_address = kv_store.get("peers").and_then(|peers| peers.get(&own)).cloned();
    peers.extend(own_address.map(|address| (own, address)));
    let mut observes = Vec::new();
    for Place { pid: source, address } in sources {
        if i64::try_from(*source)? != pid {
            peers.insert(source.to_string(), address.clone().into());
            observes.push(toml::Value::Integer(i64::try_from(*source)?));
        }
    }
    if observes.is_empty() {
        bail!("server {pid} can join other servers only, and none is named");
    }
    kv_store.insert("peers".to_owned(), peers.into());
    server.insert("observes".to_owned(), observes.into());
    server.insert("continues".to_owned(), true.into());
    table.insert("server_config".to_owned(), server.into());
    table.insert("kv_store".to_owned(), kv_store.into());
    // The log contains the members.
    let unknown = "configuration_id = 0\nnodes = []".parse::<toml::Table>()?;
    table.insert("cluster_config".to_owned(), unknown.into());
    Ok(table.to_string())
}

/// The file, as far as the replication library does not read it.
#[derive(Deserialize)]
struct File {
    kv_store: Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    client_address: String,
    metrics_address: Option<SocketAddr>,
    /// By pid; TOML has no keys but strings.
    peers: BTreeMap<String, String>,
    #[serde(default = "snapshot_every")]
    snapshot_every: u64,
    data: Option<PathBuf>,
    #[serde(default)]
    must_exist: bool,
}

/// The number of observers that may ask a server, unless the file says another, where the members may
/// change. Servers that join are among them.
const PLACES_OF_OBSERVERS: usize = 16;

fn snapshot_every() -> u64 {
    1000
}

impl Config {
    /// Reads the tables of the library and our own from the same file.
    pub(crate) fn read(path: &Path, part: Part) -> Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let text = match part {
            Part::AsConfigured => Ok(text),
            Part::Observer => observing(&text),
            Part::Joins(sources) => joining(&text, &sources),
        };
        let text = text.with_context(|| format!("in {name}"))?;
        let omnipaxos =
            OmniPaxosConfig::from_toml(&text).with_context(|| format!("cannot use {name}"))?;
        let File { kv_store } =
            toml::from_str(&text).with_context(|| format!("cannot parse {name}"))?;
        Self::new(omnipaxos, kv_store).with_context(|| format!("in {name}"))
    }

    fn new(mut omnipaxos: OmniPaxosConfig, table: Table) -> Result<Self> {
        // The longest change, and what a command has besides.
        omnipaxos.server_config.max_entry_bytes.get_or_insert(LONGEST_CHANGE + 1024);
        let peers: BTreeMap<NodeId, String> = table
            .peers
            .into_iter()
            .map(|(pid, address)| match pid.parse() {
                Ok(pid) => Ok((pid, address)),
                Err(_) => bail!("`{pid}` in [kv_store.peers] is not a pid"),
            })
            .collect::<Result<_>>()?;
        let nodes = &omnipaxos.cluster_config.nodes;
        let ServerConfig { pid, observes, .. } = &omnipaxos.server_config;
        // Once the log continues, the library leaves this to the storage.
        match (nodes.contains(pid), observes.is_empty()) {
            (true, false) => {
                bail!("pid {pid} is one of the nodes {nodes:?}: an observer has no vote")
            }
            (false, true) => bail!("pid {pid} must be one of the nodes {nodes:?}"),
            (true, true) | (false, false) => {}
        }
        if let Some(missing) = nodes.iter().find(|pid| !peers.contains_key(pid)) {
            bail!("[kv_store.peers] has no address for server {missing}");
        }
        if let Some(missing) = observes.iter().chain([pid]).find(|pid| !peers.contains_key(pid)) {
            bail!("[kv_store.peers] has no address for server {missing}");
        }
        let is_expected = |peer: &NodeId| {
            nodes.contains(peer) || observes.contains(peer) || (peer == pid && !observes.is_empty())
        };
        if let Some(stranger) = peers.keys().find(|peer| !is_expected(peer)) {
            bail!("server {stranger} in [kv_store.peers] is none of the nodes {nodes:?}");
        }
        if table.snapshot_every == 0 {
            bail!("snapshot_every must not be 0");
        }
        if omnipaxos.server_config.continues {
            if !omnipaxos.server_config.observes.is_empty() {
                // An observer learns with the log who the members are now.
                omnipaxos.cluster_config = ClusterConfig::default();
            }
            if omnipaxos.server_config.max_observers == 0 {
                omnipaxos.server_config.max_observers = PLACES_OF_OBSERVERS;
            }
        }
        let pid = omnipaxos.server_config.pid;
        let missing = match table.must_exist {
            true => Missing::IsRefused,
            false => Missing::IsMade,
        };
        let data = table.data.unwrap_or_else(|| format!("kv_store_data/{pid}").into());
        Ok(Self {
            data,
            missing,
            stays: false,
            omnipaxos,
            client_address: table.client_address,
            metrics_address: table.metrics_address,
            peers,
            snapshot_every: table.snapshot_every,
        })
    }

    pub(crate) fn pid(&self) -> NodeId {
        self.omnipaxos.server_config.pid
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Part};
    use std::path::Path;

    #[test]
    fn the_files_that_come_with_the_example() {
        for pid in 1..=3 {
            let file = format!("{}/config/node{pid}.toml", env!("CARGO_MANIFEST_DIR"));
            let config = Config::read(Path::new(&file), Part::AsConfigured).unwrap();
            assert_eq!(config.pid(), pid);
            assert_eq!(config.peers.len(), 3);
            assert_eq!(config.data, Path::new(&format!("kv_store_data/{pid}")));
        }
        let file = format!("{}/config/node4.toml", env!("CARGO_MANIFEST_DIR"));
        let sources = vec!["1=127.0.0.1:8001".parse().unwrap()];
        let config = Config::read(Path::new(&file), Part::Joins(sources)).unwrap();
        assert_eq!(config.pid(), 4);
    }

    #[test]
    fn an_observer_is_no_node_and_has_an_address() {
        let member =
            std::fs::read_to_string(format!("{}/config/node1.toml", env!("CARGO_MANIFEST_DIR")))
                .unwrap();
        let fourth = member
            .replace("pid = 1", "pid = 4")
            .replace("[kv_store.peers]", "[kv_store.peers]\n4 = \"127.0.0.1:8004\"");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Config::read(&path, Part::Observer).map_err(|error| format!("{error:#}"))
        };
        let server = read(&fourth).unwrap().omnipaxos.server_config;
        assert_eq!((server.pid, server.observes), (4, vec![1, 2, 3]));
        let of_two = fourth.replace("pid = 4", "pid = 4\nobserves = [2]");
        assert_eq!(read(&of_two).unwrap().omnipaxos.server_config.observes, [2]);
        for (text, says) in [
            (&member, "an observer has no vote"),
            (&fourth.replace("4 = \"127", "5 = \"127"), "no address for server 4"),
            (&fourth.replace("pid = 4", "pid = 4\nobserves = [9]"), "no address for server 9"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_server_that_joins_needs_its_own_address_alone() {
        let text = "[server_config]\npid = 4\n\n[kv_store]\nclient_address = \"h:7\"\n\n\
                    [kv_store.peers]\n4 = \"h:4\"\n9 = \"h:9\"\n";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        let read = |text: &str, sources: &[&str]| {
            std::fs::write(&path, text).unwrap();
            let sources = sources.iter().map(|source| source.parse().unwrap()).collect();
            Config::read(&path, Part::Joins(sources)).map_err(|error| format!("{error:#}"))
        };
        let config = read(text, &["1=h:1", "4=h:4", "2=h:2"]).unwrap();
        let server = &config.omnipaxos.server_config;
        assert_eq!((&*server.observes, server.continues), (&[1, 2][..], true));
        assert_eq!(config.peers.into_keys().collect::<Vec<_>>(), [1, 2, 4]);
        let founding =
            text.to_owned() + "\n[cluster_config]\nconfiguration_id = 1\nnodes = [1, 4]\n";
        let config = read(&founding, &["1=h:1"]).unwrap();
        assert!(config.omnipaxos.cluster_config.nodes.is_empty(), "the log says who they are");
        for (text, source, says) in [
            (text, "4=h:4", "server 4 can join other servers only"),
            (&*text.replace("4 = ", "5 = "), "1=h:1", "no address for server 4"),
            (&*text.replace("pid", "pit"), "1=h:1", "[server_config] has no pid"),
            (&*text.replace("kv_store", "kw_store"), "1=h:1", "client_address"),
        ] {
            let error = read(text, &[source]).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good =
            std::fs::read_to_string(format!("{}/config/node1.toml", env!("CARGO_MANIFEST_DIR")))
                .unwrap();
        let table = [
            ("3 = \"127", "x = \"127", "`x` in [kv_store.peers] is not a pid"),
            ("3 = \"127", "4 = \"127", "no address for server 3"),
            ("client_address", "klient_address", "klient_address"),
            ("snapshot_every", "metrics_address = \"9001\"\nsnapshot_every", "socket address"),
            ("snapshot_every = 1000", "snapshot_every = 0", "must not be 0"),
            ("pid = 1", "pid = 9", "pid 9"),
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        for (from, to, says) in table {
            assert!(good.contains(from), "{from}");
            std::fs::write(&path, good.replace(from, to)).unwrap();
            let error = format!("{:#}", Config::read(&path, Part::AsConfigured).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
