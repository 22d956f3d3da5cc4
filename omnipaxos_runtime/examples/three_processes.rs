//! A key-value store in three processes, with its log on disk.
//!
//! `three_processes PID FOLDER` is server PID of 1 to 3. It reads commands from its standard input.
//! Without arguments, it starts the three servers and asks them.

use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};
use omnipaxos_runtime::{
    tcp::{AddressBook, TcpTransport},
    Replicated, StateMachine,
};
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, error::Error};
use tokio::io::{AsyncBufReadExt, BufReader};

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Command {
    Put(String, String),
    Delete(String),
}

#[derive(Default)]
struct Store(BTreeMap<String, String>);

impl StateMachine for Store {
    type Command = Command;
    /// The value before.
    type Output = Option<String>;
    type Snapshot = BTreeMap<String, String>;

    fn apply(&mut self, _idx: u64, command: &Command) -> Option<String> {
        match command.clone() {
            Command::Put(key, value) => self.0.insert(key, value),
            Command::Delete(key) => self.0.remove(&key),
        }
    }

    fn snapshot(&self) -> Self::Snapshot {
        self.0.clone()
    }

    fn restore(&mut self, snapshot: Self::Snapshot) {
        self.0 = snapshot;
    }
}

async fn run_server(pid: u64, folder: &str) -> Result<(), Box<dyn Error>> {
    let config = OmniPaxosConfig {
        cluster_config: ClusterConfig {
            configuration_id: 1,
            nodes: vec![1, 2, 3],
            ..Default::default()
        },
        server_config: ServerConfig { pid, continues: true, ..Default::default() },
    };
    let addresses = [(1, "127.0.0.1:7101"), (2, "127.0.0.1:7102"), (3, "127.0.0.1:7103")];
    let disk = PersistentStorageConfig::with_path(format!("{folder}/{pid}"));
    let disk = PersistentStorage::try_open(disk)?.with_background_encoding();
    let store = Replicated::builder(config, disk, Store::default())
        .transport(TcpTransport::new(AddressBook::from(addresses)))
        .start()
        .await?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["put", key, value] => {
                let (idx, before) = store.execute(Command::Put(key.into(), value.into())).await?;
                println!("server {pid}: command {idx} replaced {before:?}");
            }
            ["delete", key] => {
                let (idx, before) = store.execute(Command::Delete(key.into())).await?;
                println!("server {pid}: command {idx} removed {before:?}");
            }
            ["get", key] => {
                let key = key.to_owned();
                let value = store.query(move |store| store.0.get(&key).cloned()).await?;
                println!("server {pid}: {value:?}");
            }
            _ => println!("put KEY VALUE, delete KEY or get KEY"),
        }
    }
    store.shutdown().await?;
    Ok(())
}

/// Starts three servers, and asks one after the other.
fn ask_three_servers() -> Result<(), Box<dyn Error>> {
    use std::{io::prelude::*, process};
    let folder = std::env::temp_dir().join(format!("three_processes-{}", process::id()));
    let mut servers = Vec::new();
    for pid in ["1", "2", "3"] {
        let mut server = process::Command::new(std::env::current_exe()?);
        server.arg(pid).arg(&folder).stdin(process::Stdio::piped()).stdout(process::Stdio::piped());
        servers.push(server.spawn()?);
    }
    for (at, line) in [(0, "put colour green"), (1, "put colour blue"), (2, "get colour")] {
        println!("{line}");
        writeln!(servers[at].stdin.as_mut().ok_or("no standard input")?, "{line}")?;
        let mut answers = std::io::BufReader::new(servers[at].stdout.as_mut().ok_or("no output")?);
        let mut answer = String::new();
        answers.read_line(&mut answer)?;
        print!("{answer}");
    }
    for mut server in servers {
        // With the end of its standard input, a server ends.
        drop(server.stdin.take());
        assert!(server.wait()?.success());
    }
    Ok(std::fs::remove_dir_all(folder)?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().collect::<Vec<_>>().as_slice() {
        [_, pid, folder] => run_server(pid.parse()?, folder).await,
        _ => ask_three_servers(),
    }
}
