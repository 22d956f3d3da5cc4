//! Servers as child processes, for the demonstration.

use crate::{
    client::Client,
    members::{Addresses, Change},
    protocol::{Answer, Status},
};
use anyhow::{bail, Context, Result};
use example_common::{free_ports, Directory, Processes};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::time::{sleep, Instant};

const NODES: [u64; 3] = [1, 2, 3];

/// Another process can take a port between our asking for it and the server's; then all is tried
/// again with others.
const ATTEMPTS: usize = 5;

const START: Duration = Duration::from_secs(15);

const POLL: Duration = Duration::from_millis(20);

/// Three servers on this machine. When this is dropped, they are killed, and their files removed.
pub(crate) struct Cluster {
    /// Dropped before the files are removed, lest the servers make new ones.
    processes: Processes,
    /// Where clients find each server, killed or not.
    client_addresses: BTreeMap<u64, String>,
    /// Where servers find each server.
    peer_addresses: Addresses,
    /// For a server that joined: the servers that it was started with.
    sources: BTreeMap<u64, String>,
    /// Holds their configuration files and their data.
    directory: Directory,
}

impl Cluster {
    /// Starts three servers and waits until they have a leader.
    pub(crate) async fn start() -> Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Self::try_start().await {
                Ok(cluster) => return Ok(cluster),
                Err(cause) => last = Some(cause),
            }
        }
        Err(last.context("no attempt was made")?.context("the servers do not start"))
    }

    async fn try_start() -> Result<Self> {
        let directory = Directory::create("kv_store")?;
        let ports = free_ports(2 * NODES.len())?;
        let (client_ports, peer_ports) = ports.split_at(NODES.len());
        let peer_addresses: Addresses = NODES
            .iter()
            .zip(peer_ports)
            .map(|(pid, port)| (*pid, format!("127.0.0.1:{port}")))
            .collect();
        let peers: String =
            peer_addresses.iter().map(|(pid, at)| format!("{pid} = \"{at}\"\n")).collect();
        let mut cluster = Self {
            processes: Processes::default(),
            client_addresses: BTreeMap::new(),
            peer_addresses,
            sources: BTreeMap::new(),
            directory,
        };
        for (pid, port) in NODES.into_iter().zip(client_ports) {
            let client_address = format!("127.0.0.1:{port}");
            let file = cluster.config_file(pid);
            std::fs::write(&file, config(pid, &client_address, &peers))
                .with_context(|| format!("cannot write {}", file.display()))?;
            cluster.client_addresses.insert(pid, client_address);
            cluster.start_server(pid, None)?;
        }
        cluster.wait_for_leader(START).await?;
        Ok(cluster)
    }

    fn config_file(&self, pid: u64) -> PathBuf {
        self.directory.path().join(format!("node{pid}.toml"))
    }

    /// Where the servers keep their data.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The address for clients of each server, killed or not.
    pub(crate) fn addresses(&self) -> BTreeMap<u64, String> {
        self.client_addresses.clone()
    }

    /// The process id of each server that runs.
    pub(crate) fn process_ids(&self) -> BTreeMap<u64, u32> {
        self.processes.ids()
    }

    /// Kills servers with SIGKILL, all at once: they have no time to send or write anything.
    pub(crate) async fn kill(&mut self, pids: &[u64]) -> Result<()> {
        self.processes.kill(pids).await
    }

    /// Starts a server that was killed: with the same configuration and what its disk holds.
    pub(crate) fn restart(&mut self, pid: u64) -> Result<()> {
        self.start_server(pid, Some("--must-exist"))
    }

    /// Lets a new server take the place of a killed one, which never comes back.
    pub(crate) async fn replace(&mut self, dead: u64) -> Result<u64> {
        let pid = self.peer_addresses.keys().last().copied().unwrap_or_default() + 1;
        let [client_address, peer_address] = free_ports(2)?
            .first_chunk()
            .map(|ports: &[u16; 2]| ports.map(|port| format!("127.0.0.1:{port}")))
            .context("no ports")?;
        let file = self.config_file(pid);
        let peers = format!("{pid} = \"{peer_address}\"\n");
        std::fs::write(&file, config(pid, &client_address, &peers))
            .with_context(|| format!("cannot write {}", file.display()))?;
        self.client_addresses.remove(&dead);
        self.peer_addresses.remove(&dead);
        let sources = self.peer_addresses.iter().map(|(pid, at)| format!("{pid}={at}"));
        self.sources.insert(pid, sources.collect::<Vec<_>>().join(","));
        self.start_server(pid, None)?;
        let add = Addresses::from([(pid, peer_address.clone())]);
        let change = Change { add, remove: [dead].into() };
        let mut client = Client::new(self.client_addresses.values().cloned().collect());
        match client.change_members(change).await? {
            Answer::MembersChanged { .. } | Answer::Members(_) => {}
            other => {
                bail!("server {pid} should replace server {dead}, and the answer is {other:?}")
            }
        }
        self.client_addresses.insert(pid, client_address);
        self.peer_addresses.insert(pid, peer_address);
        Ok(pid)
    }

    fn start_server(&mut self, pid: u64, more: Option<&str>) -> Result<()> {
        let (file, data) =
            (self.config_file(pid), self.directory.path().join(format!("data{pid}")));
        let options = ["server", "--storage", "persistent", "--until-stdin-closes", "--config"];
        let mut arguments: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        arguments.extend([file.as_os_str(), OsStr::new("--data"), data.as_os_str()]);
        if let Some(sources) = self.sources.get(&pid) {
            arguments.extend([OsStr::new("--join"), OsStr::new(sources)]);
        }
        arguments.extend(more.map(OsStr::new));
        self.processes.start(pid, arguments, Stdio::inherit())
    }

    /// Kills all servers that run and waits for their end.
    pub(crate) async fn kill_all(&mut self) -> Result<()> {
        let running: Vec<u64> = self.process_ids().into_keys().collect();
        self.kill(&running).await
    }

    /// Waits until all servers that run name the same leader, which is one of them.
    pub(crate) async fn wait_for_leader(&mut self, time_limit: Duration) -> Result<u64> {
        let start = Instant::now();
        loop {
            let leaders: Vec<_> =
                self.statuses().await.into_iter().map(|s| s.replica.leader).collect();
            if let Some(Some(leader)) = leaders.first().copied() {
                let agree = leaders.len() == self.process_ids().len()
                    && leaders.iter().all(|other| *other == Some(leader));
                if agree && self.process_ids().contains_key(&leader) {
                    return Ok(leader);
                }
            }
            self.processes.check_alive()?;
            if start.elapsed() > time_limit {
                bail!("after {time_limit:?} the servers name as leader {leaders:?}");
            }
            sleep(POLL).await;
        }
    }

    /// Waits until all servers that run have decided and applied the same log, and gives their statuses,
    /// equal or not.
    pub(crate) async fn wait_until_in_step(&mut self, time_limit: Duration) -> Result<Vec<Status>> {
        let start = Instant::now();
        loop {
            self.processes.check_alive()?;
            let statuses = self.statuses().await;
            if statuses.len() == self.process_ids().len() {
                let all_equal = statuses.iter().all(|status| {
                    status.replica.decided_idx == status.replica.accepted_idx
                        && statuses.iter().all(|other| in_step(status, other))
                });
                if all_equal || start.elapsed() > time_limit {
                    return Ok(statuses);
                }
            }
            if start.elapsed() > time_limit {
                bail!("not all servers answer");
            }
            sleep(POLL).await;
        }
    }

    /// The statuses of the servers that answer.
    pub(crate) async fn statuses(&self) -> Vec<Status> {
        let mut statuses = Vec::new();
        for (_, address) in
            self.client_addresses.iter().filter(|(pid, _)| self.processes.runs(**pid))
        {
            statuses.extend(Client::status_of(address).await.ok());
        }
        statuses
    }
}

/// Whether two servers have the same log and the same state.
pub(crate) fn in_step(a: &Status, b: &Status) -> bool {
    let shown = |status: &Status| {
        let replica = &status.replica;
        (replica.accepted_idx, replica.decided_idx, status.keys, status.digest)
    };
    shown(a) == shown(b)
}

fn config(pid: u64, client_address: &str, peers: &str) -> String {
    format!(
        "[cluster_config]\nconfiguration_id = 1\nnodes = {NODES:?}\n\n\
         [server_config]\npid = {pid}\nelection_tick_timeout = 20\n\
         resend_message_tick_timeout = 50\nmax_observers = 8\ncontinues = true\n\n\
         [kv_store]\nclient_address = \"{client_address}\"\n\n[kv_store.peers]\n{peers}"
    )
}
