//! What the user of a client wants, and is told.

use crate::{
    client::Client,
    protocol::{Answer, Ask},
};
use anyhow::{anyhow, bail, Context, Result};
use clap::{Parser, Subcommand};
use example_net::say;
use omnipaxos::util::NodeId;
use std::process::ExitCode;

/// What is wanted.
#[derive(Subcommand)]
pub(crate) enum Wish {
    #[command(flatten)]
    Once(Request),
    /// Prints the changes of all keys, or of those with a prefix, until interrupted.
    Watch {
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Prints how each of the servers is.
    Status,
    /// Reads requests from the standard input, one a line, and answers each with a line.
    Lines,
}

/// What is asked, and answered once.
#[derive(Subcommand)]
pub(crate) enum Request {
    /// Sets the value of a key.
    Put { key: String, value: String },
    /// Prints the value of a key. All that was done before is seen, at whichever server.
    Get {
        key: String,
        /// Read at once what the server asked has applied, which may be behind.
        #[arg(long)]
        stale: bool,
    },
    /// Removes a key.
    Delete { key: String },
    /// Lets another server lead, as before the leader is stopped for maintenance.
    Transfer {
        /// The pid of the server that is to lead.
        to: NodeId,
    },
}

/// A line of the standard input.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Line {
    #[command(subcommand)]
    request: Request,
}

/// Does what is wanted. A failure, said or returned, if it cannot be done.
pub(crate) async fn grant(wish: Wish, servers: &[String], client: &mut Client) -> Result<ExitCode> {
    match wish {
        Wish::Once(request) => say!("{}", ask(request, client).await?)?,
        Wish::Watch { prefix } => client.watch(prefix, print_change).await?,
        Wish::Status => return status(servers).await,
        Wish::Lines => lines(client).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What there is to print. An error if it is not what was wanted.
async fn ask(request: Request, client: &mut Client) -> Result<String> {
    let (ask, pid_wanted) = match request {
        Request::Put { key, value } => (Ask::Put { key, value }, None),
        Request::Delete { key } => (Ask::Delete { key }, None),
        Request::Get { key, stale: false } => (Ask::Get { key }, None),
        Request::Get { key, stale: true } => (Ask::GetStale { key }, None),
        Request::Transfer { to } => (Ask::TransferLeadership { to }, Some(to)),
    };
    match client.ask(ask).await? {
        Answer::Done { idx } => Ok(format!("ok, at index {idx}")),
        Answer::Value(Some(value)) => Ok(value),
        Answer::Value(None) => bail!("there is no such key"),
        Answer::Leads { pid } if Some(pid) == pid_wanted => Ok(format!("server {pid} leads now")),
        Answer::Leads { pid } => bail!("the transfer was given up: server {pid} leads"),
        other @ (Answer::Changed { .. }
        | Answer::Status(_)
        | Answer::AskAgain(_)
        | Answer::Refused(_)) => bail!("the answer is {other:?}"),
    }
}

/// Answers lines until there are no more. Nothing else goes on while it waits for one.
async fn lines(client: &mut Client) -> Result<()> {
    for line in std::io::stdin().lines() {
        let line = line.context("cannot read the standard input")?;
        let answered = match Line::try_parse_from(line.split_whitespace()) {
            Ok(Line { request }) => ask(request, client).await,
            Err(why) => Err(anyhow!("`{line}` is no request: {}", first_line(&why))),
        };
        match answered {
            Ok(answer) => say!("{answer}")?,
            Err(cause) => say!("error: {cause:#}")?,
        }
    }
    Ok(())
}

fn first_line(why: &clap::Error) -> String {
    let text = why.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn print_change(key: String, value: Option<String>) -> Result<()> {
    match value {
        Some(value) => say!("put {key} {value}"),
        None => say!("delete {key}"),
    }
}

/// Asks every server. A failure if one of them does not answer.
async fn status(servers: &[String]) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for server in servers {
        match Client::status_of(server).await {
            Ok(status) => say!("{status}\n{}", status.details())?,
            Err(cause) => {
                say!("{server}: {cause:#}")?;
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
