//! Servers that join a cluster.

use super::{kv_store, Cluster};
use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Stdio},
};

/// A server that no configuration file of the others names.
pub struct Joiner {
    pub process: Child,
    pub pid: u64,
    config: PathBuf,
    sources: String,
    pub client_address: String,
    peer_address: String,
}

impl Joiner {
    /// Starts server `pid`, which knows these servers: `1=ADDRESS,2=ADDRESS`.
    pub fn start(cluster: &Cluster, pid: u64, sources: &str) -> Self {
        let addresses: Vec<String> =
            free_ports(2).iter().map(|p| format!("127.0.0.1:{p}")).collect();
        let (client_address, peer_address) = (addresses[0].clone(), addresses[1].clone());
        let folder = cluster.directory.path();
        let config = folder.join(format!("joiner{pid}.toml"));
        let text = format!(
            "[server_config]\npid = {pid}\nelection_tick_timeout = 20\n\n\
             [kv_store]\nclient_address = \"{client_address}\"\nsnapshot_every = 20\n\
             data = '{}'\n\n[kv_store.peers]\n{pid} = \"{peer_address}\"\n",
            folder.join(format!("joiner{pid}")).display()
        );
        std::fs::write(&config, text).unwrap();
        let process = Self::spawn(&config, sources);
        let sources = sources.to_owned();
        Self { process, pid, config, sources, client_address, peer_address }
    }

    fn spawn(config: &PathBuf, sources: &str) -> Child {
        let mut command = kv_store();
        command.args(["server", "--until-stdin-closes", "--join", sources, "--config"]);
        command.arg(config).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub fn restart(&mut self) {
        self.kill();
        self.process = Self::spawn(&self.config, &self.sources);
    }

    pub fn client_port(&self) -> u16 {
        port_of(&self.client_address)
    }

    pub fn peer_port(&self) -> u16 {
        port_of(&self.peer_address)
    }

    /// How it is named in `members add`.
    pub fn place(&self) -> String {
        format!("{}={}", self.pid, self.peer_address)
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn port_of(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

/// Ports below those that the system gives to outgoing connections, so that they stay free.
pub fn free_ports(number: usize) -> Vec<u16> {
    let from = 10_000 + (RandomState::new().build_hasher().finish() % 20_000) as u16;
    let listeners: Vec<_> = (from..32_000)
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .take(number)
        .collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}
