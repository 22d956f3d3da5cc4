//! A replicated key-value store over TCP.
//!
//! Without arguments it demonstrates itself: three servers as child processes, a file loaded
//! through a client, the leader killed and restarted, then all three killed and restarted from
//! their disks, then one replaced by a new server; reads at followers, a transfer, a request whose
//! leader is killed before it answers; and the logs of all compared at the end.
#![forbid(unsafe_code)]

mod answers;
mod client;
mod clients;
mod cluster;
mod config;
mod demo;
mod listener;
mod members;
mod metrics;
mod places;
mod protocol;
mod round;
mod server;
mod service;
mod showcase;
mod state;
mod watchers;
mod wish;

use anyhow::{Context, Result};
use clap::{value_parser, Parser, Subcommand};
use client::Client;
use config::{Config, Part};
use example_common::{output::status_of, signals, Missing};
use members::Place;
use server::StorageKind;
use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};
use tracing_subscriber::EnvFilter;
use wish::Wish;

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
        /// Do not start if the storage is not there: for every start but the first. A server that
        /// starts without its storage has forgotten what it promised.
        #[arg(long)]
        must_exist: bool,
        /// Be an observer: learn what the nodes decide, without a vote. The pid of the
        /// configuration must be none of its nodes, and `[kv_store.peers]` must have an address
        /// for it. Observes all nodes, unless the configuration names some with `observes`.
        #[arg(long)]
        observe: bool,
        /// Join a running cluster, some of whose servers find each other at these addresses:
        /// PID=HOST:PORT. An observer until the members change to include this server:
        /// `client members add`. The configuration needs no nodes, and its own address alone in
        /// `[kv_store.peers]`. Right for each start of the server.
        #[arg(long, value_delimiter = ',', value_name = "PID=ADDR", conflicts_with = "observe")]
        join: Vec<Place>,
        /// Continue as an observer after this server was removed from the members. Default: it
        /// ends then, when the others do not need it any more.
        #[arg(long)]
        stay: bool,
        /// Serve its metrics to Prometheus at this address, over HTTP. Default: what the
        /// configuration says, or not at all.
        #[arg(long, value_name = "ADDR")]
        metrics: Option<SocketAddr>,
        /// End when the standard input does.
        #[arg(long, hide = true)]
        until_stdin_closes: bool,
    },
    /// Asks the servers for something.
    Client {
        /// Their addresses for clients; the first that answers serves.
        #[arg(long, value_delimiter = ',', required = true)]
        servers: Vec<String>,
        /// Give up after this number of seconds without an answer.
        #[arg(long, default_value_t = client::TIMEOUT.as_secs())]
        timeout: u64,
        /// Ask as this client. Default: a random number.
        #[arg(long)]
        client: Option<u64>,
        /// The number of the request. What this client has asked under it before is not done again.
        #[arg(long, requires = "client", default_value_t = 0)]
        #[arg(value_parser = value_parser!(u64).range(..u64::MAX / 2))]
        number: u64,
        #[command(subcommand)]
        request: Wish,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // They go to where the events could not be written, and panic if that is closed.
        .log_internal_errors(false)
        .init();
    match run(Arguments::parse().command).await {
        Ok(code) => code,
        Err(cause) => status_of("kv_store", &cause),
    }
}

async fn run(task: Option<Task>) -> Result<ExitCode> {
    match task {
        None => demo::run(None).await?,
        Some(Task::Demo { data }) => demo::run(data.as_deref()).await?,
        Some(Task::Server {
            config,
            storage,
            data,
            must_exist,
            observe,
            join,
            stay,
            metrics,
            until_stdin_closes,
        }) => {
            let part = match (observe, join.is_empty()) {
                (true, _) => Part::Observer,
                (false, true) => Part::AsConfigured,
                (false, false) => Part::Joins(join),
            };
            let mut config = Config::read(&config, part)?;
            config.stays = stay;
            config.data = data.unwrap_or(config.data);
            if must_exist {
                config.missing = Missing::IsRefused;
            }
            config.metrics_address = metrics.or(config.metrics_address);
            let pid = config.pid();
            let end = async {
                tokio::select! {
                    interrupted = signals::interrupted() => interrupted,
                    () = signals::stdin_closed(), if until_stdin_closes => Ok(()),
                }
            };
            let served = server::run(config, storage, end).await;
            served.with_context(|| format!("server {pid} ends"))?;
        }
        Some(Task::Client { servers, timeout, client, number, request }) => {
            let asker = match client {
                Some(id) => Client::named(id, number, servers.clone()),
                None => Client::new(servers.clone()),
            };
            let mut asker = asker.with_timeout(Duration::from_secs(timeout));
            return wish::grant(request, &servers, &mut asker).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}
