//! Servers as child processes, for the demonstration.

use crate::{client::Client, protocol::Status};
use anyhow::{bail, Context, Result};
use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
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
/// How long a process that was killed may take to end.
const END: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(20);

/// Three servers on this machine. When this is dropped, they are killed, and their files removed.
pub(crate) struct Cluster {
    servers: BTreeMap<u64, Server>,
    /// Holds their configuration files and their data.
    directory: Directory,
}

struct Server {
    /// `None` while it is killed.
    process: Option<Child>,
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
            let file = cluster.config_file(pid);
            std::fs::write(&file, config(pid, &client_address, &peers))
                .with_context(|| format!("cannot write {}", file.display()))?;
            cluster.servers.insert(pid, Server { process: None, client_address });
            cluster.restart(pid)?;
        }
        cluster.wait_for_leader(START).await?;
        Ok(cluster)
    }

    fn config_file(&self, pid: u64) -> PathBuf {
        self.directory.0.join(format!("node{pid}.toml"))
    }

    /// Where the servers keep their data.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory.0
    }

    /// The address for clients of each server, killed or not.
    pub(crate) fn addresses(&self) -> BTreeMap<u64, String> {
        self.servers.iter().map(|(pid, server)| (*pid, server.client_address.clone())).collect()
    }

    /// The process id of each server that runs.
    pub(crate) fn process_ids(&self) -> BTreeMap<u64, u32> {
        let servers = self.servers.iter();
        servers.filter_map(|(pid, server)| Some((*pid, server.process.as_ref()?.id()?))).collect()
    }

    /// Kills servers with SIGKILL, all at once: they have no time to say or write anything.
    pub(crate) async fn kill(&mut self, pids: &[u64]) -> Result<()> {
        let mut killed = Vec::new();
        for pid in pids {
            let server = self.servers.get_mut(pid).context("there is no such server")?;
            let mut process = server.process.take().context("the server does not run")?;
            process.start_kill().context("cannot kill a server")?;
            killed.push(process);
        }
        for mut process in killed {
            process.wait().await.context("cannot wait for a server")?;
        }
        Ok(())
    }

    /// Starts a server that was killed: with the same configuration and what its disk holds.
    pub(crate) fn restart(&mut self, pid: u64) -> Result<()> {
        let (file, data) = (self.config_file(pid), self.directory.0.join(format!("data{pid}")));
        let server = self.servers.get_mut(&pid).context("there is no such server")?;
        server.process = Some(spawn(&file, &data)?);
        Ok(())
    }

    /// Kills all servers that run and waits for their end.
    pub(crate) async fn kill_all(&mut self) -> Result<()> {
        let running: Vec<u64> = self.process_ids().into_keys().collect();
        self.kill(&running).await
    }

    /// Waits until all servers that run name the same leader, which is one of them.
    pub(crate) async fn wait_for_leader(&mut self, patience: Duration) -> Result<u64> {
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
            self.check_alive()?;
            if start.elapsed() > patience {
                bail!("after {patience:?} the servers name as leader {leaders:?}");
            }
            sleep(POLL).await;
        }
    }

    /// Waits until all servers that run have decided and applied the same log, and gives their statuses,
    /// equal or not.
    pub(crate) async fn wait_until_in_step(&mut self, patience: Duration) -> Result<Vec<Status>> {
        let start = Instant::now();
        loop {
            self.check_alive()?;
            let statuses = self.statuses().await;
            if statuses.len() == self.process_ids().len() {
                let all_equal = statuses.iter().all(|status| {
                    status.replica.decided_idx == status.replica.accepted_idx
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
        for server in self.servers.values().filter(|server| server.process.is_some()) {
            statuses.extend(Client::status_of(&server.client_address).await.ok());
        }
        statuses
    }

    fn check_alive(&mut self) -> Result<()> {
        for (pid, server) in &mut self.servers {
            if let Some(process) = &mut server.process {
                if let Some(status) = process.try_wait()? {
                    bail!("server {pid} ended by itself: {status}");
                }
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    /// Sees the processes end before their files are removed, lest they make new ones.
    fn drop(&mut self) {
        let mut processes: Vec<Child> =
            self.servers.values_mut().filter_map(|server| server.process.take()).collect();
        for process in &mut processes {
            if let Err(cause) = process.start_kill() {
                tracing::debug!("cannot kill a server: {cause}");
            }
        }
        let start = Instant::now();
        while processes.iter_mut().any(|process| matches!(process.try_wait(), Ok(None)))
            && start.elapsed() < END
        {
            std::thread::sleep(Duration::from_millis(1));
        }
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

fn spawn(config: &Path, data: &Path) -> Result<Child> {
    let program = std::env::current_exe().context("where is this program?")?;
    let mut command = Command::new(program);
    command
        .args(["server", "--storage", "persistent", "--until-stdin-closes", "--config"])
        .arg(config)
        .arg("--data")
        .arg(data)
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    // Ctrl-C goes to this program alone, which ends the servers in its own way.
    #[cfg(unix)]
    command.process_group(0);
    command.spawn().context("cannot start a server")
}

fn config(pid: u64, client_address: &str, peers: &str) -> String {
    format!(
        "[cluster_config]\nconfiguration_id = 1\nnodes = {NODES:?}\n\n\
         [server_config]\npid = {pid}\nelection_tick_timeout = 20\n\
         resend_message_tick_timeout = 50\n\n\
         [kv_store]\nclient_address = \"{client_address}\"\n\n[kv_store.peers]\n{peers}"
    )
}

/// Ports that nobody listens at, below those that the system gives to outgoing connections: while a
/// server is killed, its ports stay free.
fn free_ports(number: usize) -> Result<Vec<u16>> {
    let from = 10_000 + (random() % 20_000) as u16;
    // All are held until all are known, lest one be given out twice.
    let listeners: Vec<TcpListener> = (from..32_000)
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .take(number)
        .collect();
    if listeners.len() < number {
        bail!("no free ports");
    }
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

fn random() -> u64 {
    // Each `RandomState` has keys of its own from the operating system's random numbers.
    RandomState::new().build_hasher().finish()
}

/// A directory that is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("kv_store-{:016x}", random()));
        std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
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
