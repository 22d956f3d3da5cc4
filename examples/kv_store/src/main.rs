//! A replicated key-value store over TCP.
//!
//! Without arguments it demonstrates itself: three servers as child processes, a file loaded
//! through a client, the leader killed and restarted, then all three killed and restarted from
//! their disks, and the logs of all compared at the end.
#![forbid(unsafe_code)]

mod client;
mod cluster;
mod config;
mod demo;
mod frame;
mod peers;
mod protocol;
mod replica;
mod server;
mod signals;
mod state;

use anyhow::{bail, Context, Result};
use clap::{Parser, Subcommand};
use client::Client;
use protocol::{Answer, Ask};
use server::StorageKind;
use std::{io::IsTerminal, path::PathBuf, process::ExitCode};
use tracing_subscriber::EnvFilter;

/// A replicated key-value store. Without a command: a demonstration.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Starts three servers, loads a file, kills and restarts servers, and compares them.
    Demo {
        /// One record a line: key, space, value. Default: the file that comes with this program.
        #[arg(long)]
        data: Option<PathBuf>,
    },
    /// Runs one server.
    Server {
        /// Its configuration, in TOML.
        #[arg(long)]
        config: PathBuf,
        /// Where it keeps its log.
        #[arg(long, value_enum, default_value_t = StorageKind::Persistent)]
        storage: StorageKind,
        /// The folder of a persistent storage, made if it is not there. Default: what the
        /// configuration says, or `kv_store_data/` and the pid.
        #[arg(long)]
        data: Option<PathBuf>,
        /// End when the standard input does.
        #[arg(long, hide = true)]
        until_stdin_closes: bool,
    },
    /// Asks the servers for something.
    Client {
        /// Their addresses for clients; the first that answers serves.
        #[arg(long, value_delimiter = ',', required = true)]
        servers: Vec<String>,
        #[command(subcommand)]
        request: Wish,
    },
}

#[derive(Subcommand)]
enum Wish {
    /// Sets the value of a key.
    Put { key: String, value: String },
    /// Prints the value of a key, as far as the server asked has applied the log.
    Get { key: String },
    /// Removes a key.
    Delete { key: String },
    /// Prints the changes of all keys, or of those with a prefix, until interrupted.
    Watch {
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Prints how each of the servers is.
    Status,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(Arguments::parse().command).await {
        Ok(code) => code,
        Err(cause) => {
            eprintln!("kv_store: {cause:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(task: Option<Task>) -> Result<ExitCode> {
    match task {
        None => demo::run(None).await?,
        Some(Task::Demo { data }) => demo::run(data.as_deref()).await?,
        Some(Task::Server { config, storage, data, until_stdin_closes }) => {
            let mut config = config::Config::read(&config)?;
            config.data = data.unwrap_or(config.data);
            let pid = config.pid();
            let end = async {
                tokio::select! {
                    interrupted = signals::interrupted() => interrupted,
                    () = server::stdin_closed(), if until_stdin_closes => Ok(()),
                }
            };
            let served = server::run(config, storage, end).await;
            served.with_context(|| format!("server {pid} ends"))?;
        }
        Some(Task::Client { servers, request }) => return ask(servers, request).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(servers: Vec<String>, wish: Wish) -> Result<ExitCode> {
    let mut client = Client::new(servers.clone());
    let ask = match wish {
        Wish::Put { key, value } => Ask::Put { key, value },
        Wish::Get { key } => Ask::Get { key },
        Wish::Delete { key } => Ask::Delete { key },
        Wish::Watch { prefix } => {
            client.watch(prefix, print_change).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Wish::Status => return Ok(status(&servers).await),
    };
    match client.ask(ask).await? {
        Answer::Done { idx } => println!("ok, at index {idx}"),
        Answer::Value(Some(value)) => println!("{value}"),
        Answer::Value(None) => {
            eprintln!("there is no such key");
            return Ok(ExitCode::FAILURE);
        }
        other
        @ (Answer::Changed { .. } | Answer::Status(_) | Answer::Busy | Answer::Refused(_)) => {
            bail!("the answer is {other:?}")
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_change(key: String, value: Option<String>) {
    match value {
        Some(value) => println!("put {key} {value}"),
        None => println!("delete {key}"),
    }
}

/// Asks every server. A failure if one of them does not answer.
async fn status(servers: &[String]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for server in servers {
        match Client::status_of(server).await {
            Ok(status) => println!("{status}\n{}", status.details()),
            Err(cause) => {
                println!("{server}: {cause:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
