//! A key-value store in three processes, with its log on disk.
//!
//! `three_processes PID FOLDER` is server PID of 1 to 3. It reads commands from its standard input.
//! Without arguments, it starts the three servers and asks them.

use omnipaxos::{errors::with_causes, ClusterConfig, OmniPaxosConfig, ServerConfig};
use omnipaxos_runtime::{
    tcp::{AddressBook, TcpTransport},
    Replicated, StateMachine,
};
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, error::Error};
use tokio::io::{AsyncBufReadExt, BufReader};

const CLUSTER: &str = "three_processes";
const ADDRESSES: [(u64, &str); 3] =
    [(1, "127.0.0.1:7111"), (2, "127.0.0.1:7112"), (3, "127.0.0.1:7113")];

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

async fn run_server(pid: &str, folder: &str) -> Result<(), Box<dyn Error>> {
    let pid = pid.parse().map_err(|_| format!("PID must be a number, not {pid:?}"))?;
    let config = OmniPaxosConfig {
        cluster_config: ClusterConfig {
            configuration_id: 1,
            nodes: vec![1, 2, 3],
            ..Default::default()
        },
        server_config: ServerConfig {
            pid,
            continues: true,
            cluster_name: Some(CLUSTER.into()),
            ..Default::default()
        },
    };
    let disk = PersistentStorageConfig::with_path(format!("{folder}/{pid}"));
    let disk = PersistentStorage::try_open(disk)?.with_background_encoding();
    let store = Replicated::builder(config, disk, Store::default())
        .transport(TcpTransport::new(AddressBook::from(ADDRESSES)))
        .start()
        .await?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            cause = store.log().ended_with() => return Err(cause.into()),
        };
        let Some(line) = line else { break };
        match answer(&store, &line).await {
            Ok(answer) => println!("server {pid}: {answer}"),
            Err(error) => println!("server {pid}: {}", with_causes(&*error)),
        }
    }
    store.shutdown().await?;
    Ok(())
}

async fn answer(store: &Replicated<Store>, line: &str) -> Result<String, Box<dyn Error>> {
    Ok(match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["put", key, value] => {
            let (idx, before) = store.execute(Command::Put(key.into(), value.into())).await?;
            format!("command {idx} replaced {before:?}")
        }
        ["delete", key] => {
            let (idx, before) = store.execute(Command::Delete(key.into())).await?;
            format!("command {idx} removed {before:?}")
        }
        ["get", key] => {
            let key = key.to_owned();
            format!("{:?}", store.query(move |store| store.0.get(&key).cloned()).await?)
        }
        _ => "put KEY VALUE, delete KEY or get KEY".into(),
    })
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
        if answers.read_line(&mut answer)? == 0 {
            return Err(format!("server {} has ended: see its error above", at + 1).into());
        }
        print!("{answer}");
    }
    for mut server in servers {
        // With the end of its standard input, a server ends.
        drop(server.stdin.take());
        let status = server.wait()?;
        if !status.success() {
            return Err(format!("a server ended with {status}").into());
        }
    }
    Ok(std::fs::remove_dir_all(folder)?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let ended = match std::env::args().collect::<Vec<_>>().as_slice() {
        [_, pid, folder] => run_server(pid, folder).await,
        [_] => ask_three_servers(),
        _ => Err("usage: three_processes [PID FOLDER]".into()),
    };
    if let Err(error) = ended {
        eprintln!("{}", with_causes(&*error));
        std::process::exit(1);
    }
}
