//! Servers as child processes, for the demonstration.

use crate::{client::Client, protocol::Status};
use anyhow::{bail, Context, Result};
use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    time::{sleep, Instant},
};

const NODES: [u64; 3] = [1, 2, 3];

/// Another process can take a port between our asking for it and the server's; then all is tried
/// again with others.
const ATTEMPTS: usize = 5;

const START: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

/// Three servers on this machine. When this is dropped, they are killed.
pub(crate) struct Cluster {
    servers: BTreeMap<u64, Server>,
    /// Holds their configuration files.
    directory: Directory,
}

struct Server {
    process: Child,
    client_address: String,
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
        let directory = Directory::create()?;
        let ports = free_ports(2 * NODES.len())?;
        let (client_ports, peer_ports) = ports.split_at(NODES.len());
        let peers: String = NODES
            .iter()
            .zip(peer_ports)
            .map(|(pid, port)| format!("{pid} = \"127.0.0.1:{port}\"\n"))
            .collect();
        let mut cluster = Self { servers: BTreeMap::new(), directory };
        for (pid, port) in NODES.into_iter().zip(client_ports) {
            let client_address = format!("127.0.0.1:{port}");
            let file = cluster.directory.0.join(format!("node{pid}.toml"));
            std::fs::write(&file, config(pid, &client_address, &peers))
                .with_context(|| format!("cannot write {}", file.display()))?;
            let process = spawn(&file)?;
            cluster.servers.insert(pid, Server { process, client_address });
        }
        cluster.wait_for_leader(START).await?;
        Ok(cluster)
    }

    /// The address for clients of each server that was not killed.
    pub(crate) fn addresses(&self) -> BTreeMap<u64, String> {
        self.servers.iter().map(|(pid, server)| (*pid, server.client_address.clone())).collect()
    }

    /// The process id of each server that was not killed.
    pub(crate) fn process_ids(&self) -> BTreeMap<u64, Option<u32>> {
        self.servers.iter().map(|(pid, server)| (*pid, server.process.id())).collect()
    }

    /// Kills a server with SIGKILL: it has no time to say anything.
    pub(crate) async fn kill(&mut self, pid: u64) -> Result<()> {
        let mut server = self.servers.remove(&pid).context("there is no such server")?;
        server.process.kill().await.context("cannot kill a server")
    }

    /// Kills all servers and waits for their end.
    pub(crate) async fn kill_all(&mut self) -> Result<()> {
        for pid in NODES {
            if self.servers.contains_key(&pid) {
                self.kill(pid).await?;
            }
        }
        Ok(())
    }

    /// Waits until all servers name the same leader, which is one of them.
    pub(crate) async fn wait_for_leader(&mut self, patience: Duration) -> Result<u64> {
        let start = Instant::now();
        loop {
            let leaders: Vec<_> = self.statuses().await.into_iter().map(|s| s.leader).collect();
            if let Some(Some(leader)) = leaders.first().copied() {
                let agree = leaders.len() == self.servers.len()
                    && leaders.iter().all(|other| *other == Some(leader));
                if agree && self.servers.contains_key(&leader) {
                    return Ok(leader);
                }
            }
            self.check_alive()?;
            if start.elapsed() > patience {
                bail!("after {patience:?} the servers name as leader {leaders:?}");
            }
            sleep(POLL).await;
        }
    }

    /// Waits until all servers have decided and applied the same log, and gives their statuses,
    /// equal or not.
    pub(crate) async fn wait_until_in_step(&mut self, patience: Duration) -> Result<Vec<Status>> {
        let start = Instant::now();
        loop {
            self.check_alive()?;
            let statuses = self.statuses().await;
            if statuses.len() == self.servers.len() {
                let all_equal = statuses.iter().all(|status| {
                    status.decided_idx == status.log_len
                        && statuses.iter().all(|other| in_step(status, other))
                });
                if all_equal || start.elapsed() > patience {
                    return Ok(statuses);
                }
            }
            if start.elapsed() > patience {
                bail!("not all servers answer");
            }
            sleep(POLL).await;
        }
    }

    /// The statuses of the servers that answer.
    pub(crate) async fn statuses(&self) -> Vec<Status> {
        let mut statuses = Vec::new();
        for server in self.servers.values() {
            statuses.extend(Client::status_of(&server.client_address).await.ok());
        }
        statuses
    }

    fn check_alive(&mut self) -> Result<()> {
        for (pid, server) in &mut self.servers {
            if let Some(status) = server.process.try_wait()? {
                bail!("server {pid} ended by itself: {status}");
            }
        }
        Ok(())
    }
}

/// Whether two servers have the same log and the same state.
pub(crate) fn in_step(a: &Status, b: &Status) -> bool {
    (a.log_len, a.decided_idx, a.keys, a.digest) == (b.log_len, b.decided_idx, b.keys, b.digest)
}

fn spawn(config: &Path) -> Result<Child> {
    let program = std::env::current_exe().context("where is this program?")?;
    Command::new(program)
        .args(["server", "--until-stdin-closes", "--config"])
        .arg(config)
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start a server")
}

fn config(pid: u64, client_address: &str, peers: &str) -> String {
    format!(
        "[cluster_config]\nconfiguration_id = 1\nnodes = {NODES:?}\n\n\
         [server_config]\npid = {pid}\nelection_tick_timeout = 20\n\
         resend_message_tick_timeout = 50\n\n\
         [kv_store]\nclient_address = \"{client_address}\"\n\n[kv_store.peers]\n{peers}"
    )
}

/// Ports that nobody listens at.
fn free_ports(number: usize) -> Result<Vec<u16>> {
    // All are held until all are known, lest one be given out twice.
    let listeners: Vec<TcpListener> = (0..number)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .context("no free port")?;
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
    ports.collect()
}

/// A directory that is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn create() -> Result<Self> {
        let name = format!("kv_store-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(cause) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!("left {} behind: {cause}", self.0.display());
        }
    }
}
