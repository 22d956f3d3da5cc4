//! A live cluster of servers that are processes of this machine and talk over TCP, in a dashboard
//! from which their links are cut and healed, and they are killed and restarted, added and removed.
#![forbid(unsafe_code)]

mod board;
mod cluster;
mod control;
mod cuts;
mod links;
mod live;
mod members;
mod plain;
mod protocol;
mod server;
mod view;

use anyhow::{bail, Context, Result};
use clap::{Parser, Subcommand};
use cluster::Cluster;
use example_common::{output::status_of, signals};
use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

/// The exit status of a program that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// A live cluster in the terminal, to be cut, killed and healed.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    server: Option<Task>,
    /// How many servers.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(3..=9))]
    servers: u64,
    /// How many observers besides: servers without a vote that learn what the others decide.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=3))]
    observers: u64,
    /// How many entries each server is given to append, ten times a second.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    appends: u64,
    /// Print a line a second, cut, kill, restart, heal, add a server and remove another on the way, and
    /// exit with status 0 if all servers agree in the end.
    #[arg(long)]
    plain: bool,
    /// How long that takes.
    #[arg(long, default_value_t = 20, requires = "plain")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Panic after this number of seconds, to see that the terminal is as before.
    #[arg(long, hide = true)]
    panic_after: Option<u64>,
}

#[derive(Subcommand)]
enum Task {
    /// Runs one server, for the dashboard that has started it.
    #[command(hide = true)]
    Server(server::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(cause) => status_of("dashboard", &cause),
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    if let Some(Task::Server(options)) = arguments.server {
        let pid = options.pid();
        server::run(options).await.with_context(|| format!("server {pid} ends"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.plain && !io::stdout().is_terminal() {
        bail!("the standard output is no terminal. Without one: --plain --seconds 20");
    }
    // Dropping the cluster, on whichever way out, kills the servers and removes their files.
    let show = async {
        let mut cluster =
            Cluster::start(arguments.servers, arguments.observers, arguments.appends).await?;
        if arguments.plain {
            plain::run(&mut cluster, Duration::from_secs(arguments.seconds)).await
        } else {
            live::run(&mut cluster, arguments.panic_after.map(Duration::from_secs)).await
        }
    };
    tokio::select! {
        shown = show => match shown? {
            End::Done => Ok(ExitCode::SUCCESS),
            End::Interrupted => Ok(ExitCode::from(INTERRUPTED)),
        },
        interrupted = signals::interrupted() => {
            interrupted?;
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// How a show ended that did not fail.
enum End {
    /// As it should.
    Done,
    /// With Ctrl-C.
    Interrupted,
}
