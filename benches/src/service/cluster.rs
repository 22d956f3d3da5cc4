//! The servers of one system, as processes.

use crate::{
    client::Client,
    etcd, kv_store,
    plan::{Ports, ServerPlan, System, FOUNDERS},
    process::Process,
    protocol::Standing,
    Failure,
};
use omnipaxos_benches::report;
use std::{collections::BTreeMap, net::TcpListener, process::Command, time::Duration};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// The longest wait for the servers. Then the program reports a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The time between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// The servers of one system. They are killed when it is dropped, and their folders are removed.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) system: System,
    snapshot_every: u64,
    ports: BTreeMap<u64, Ports>,
    running: BTreeMap<u64, Process>,
    /// The CPU time of the servers that were killed.
    killed: Duration,
    folder: TempDir,
}

impl Cluster {
    /// Starts the founders, on empty folders, and waits until each answers a write. Of `servers`, the
    /// others start later, but all know their addresses.
    pub(crate) async fn start(
        system: System,
        servers: u64,
        snapshot_every: u64,
    ) -> Result<Self, Failure> {
        let ports = free_ports(servers)?;
        // Beside the report: folders for temporary files are in memory on some machines, and a sync there is none.
        let (running, folder) = (BTreeMap::new(), tempfile::tempdir_in(report::folder()?)?);
        let killed = Duration::ZERO;
        let mut cluster = Self { system, snapshot_every, ports, running, killed, folder };
        for pid in 1..=FOUNDERS {
            cluster.start_server(pid)?;
        }
        for pid in 1..=FOUNDERS {
            cluster.until_it_answers(pid).await?;
        }
        Ok(cluster)
    }

    /// Starts a server, on the folder that it had before, if any.
    pub(crate) fn start_server(&mut self, pid: u64) -> Result<(), Failure> {
        let plan = ServerPlan {
            pid,
            folder: self.folder.path().join(pid.to_string()),
            snapshot_every: self.snapshot_every,
            ports: self.ports.clone(),
        };
        let mut command = match self.system {
            System::Etcd => etcd::command(&plan)?,
            System::KvStore => kv_store::command(&plan)?,
            System::OpenraftRocksdb => {
                let mut command = Command::new(self.system.program().ok_or("no program")?);
                command.args(plan.arguments());
                command
            }
            System::Ours | System::Openraft => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["serve", self.system.name()]).args(plan.arguments());
                command
            }
        };
        self.running.insert(pid, Process::start(&mut command)?);
        Ok(())
    }

    /// Kills a server. Its folder stays.
    pub(crate) fn kill(&mut self, pid: u64) -> Result<(), Failure> {
        if let Some(process) = self.running.remove(&pid) {
            self.killed += process.cpu_time()?;
        }
        Ok(())
    }

    pub(crate) fn peer_port(&self, pid: u64) -> Result<u16, Failure> {
        Ok(self.ports.get(&pid).ok_or("no such server")?.peer)
    }

    /// The client ports of the founders, from this one on.
    pub(crate) fn client_ports_from(&self, first: u64) -> Vec<u16> {
        let founders = self.ports.range(1..=FOUNDERS).map(|(_, ports)| ports.client);
        let mut ports: Vec<u16> = founders.collect();
        ports.rotate_left(first as usize - 1);
        ports
    }

    pub(crate) async fn client(&self, pid: u64) -> Result<Client, Failure> {
        let ports = self.ports.get(&pid).ok_or("no such server")?;
        Client::connect(self.system, ports.client).await
    }

    /// Returns what a server reports of itself, as soon as it answers.
    pub(crate) async fn status(&self, pid: u64) -> Result<Standing, Failure> {
        let answered = timeout(PATIENCE, async {
            loop {
                if let Ok(mut client) = self.client(pid).await {
                    if let Ok(standing) = client.status().await {
                        return standing;
                    }
                }
                sleep(PAUSE).await;
            }
        });
        answered.await.map_err(|_| format!("server {pid} reports nothing").into())
    }

    /// Returns the leader, as soon as a server knows it.
    pub(crate) async fn leader(&self) -> Result<u64, Failure> {
        for _ in 0..100 {
            for pid in self.running.keys() {
                if let Some(leader) = self.status(*pid).await?.leader {
                    return Ok(leader);
                }
            }
            sleep(PAUSE).await;
        }
        Err("there is no leader".into())
    }

    /// The CPU time of all servers, those that were killed included.
    pub(crate) fn cpu_time(&self) -> Result<Duration, Failure> {
        let running: Duration =
            self.running.values().map(Process::cpu_time).sum::<Result<_, _>>()?;
        Ok(self.killed + running)
    }

    /// The CPU time of a server that runs.
    pub(crate) fn cpu_time_of(&self, pid: u64) -> Result<Duration, Failure> {
        self.running.get(&pid).ok_or("no such server")?.cpu_time()
    }

    /// The resident memory of the server that has the most.
    pub(crate) fn resident_bytes(&self) -> Result<u64, Failure> {
        let mut largest = 0;
        for process in self.running.values() {
            largest = largest.max(process.resident_bytes()?);
        }
        Ok(largest)
    }

    async fn until_it_answers(&self, pid: u64) -> Result<(), Failure> {
        let answered = timeout(PATIENCE, async {
            loop {
                if let Ok(mut client) = self.client(pid).await {
                    if client.put(0, vec![0]).await.is_ok() {
                        return;
                    }
                }
                sleep(PAUSE).await;
            }
        });
        let system = self.system.name();
        answered.await.map_err(|_| format!("server {pid} of {system} does not answer").into())
    }
}

/// Finds ports that are free now.
fn free_ports(servers: u64) -> Result<BTreeMap<u64, Ports>, Failure> {
    let mut listeners = Vec::new();
    let mut free = || -> Result<u16, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        listeners.push(listener);
        Ok(port)
    };
    (1..=servers).map(|pid| Ok((pid, Ports { peer: free()?, client: free()? }))).collect()
}
