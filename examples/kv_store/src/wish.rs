//! The commands of the user of a client, and their answers.

use crate::{
    client::Client,
    members::{Addresses, Change, Place},
    protocol::{Answer, Ask},
};
use anyhow::{anyhow, bail, Context, Result};
use clap::{Parser, Subcommand};
use example_common::say;
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
    /// Prints the members, and where they are; or changes them.
    Members {
        #[command(subcommand)]
        change: Option<MembersWish>,
    },
}

/// How to change the members. The log and its state continue. The servers that join catch up first.
#[derive(Subcommand)]
pub(crate) enum MembersWish {
    /// Adds servers, each started with `kv_store server --join`.
    Add {
        /// The pid of each, and where servers find it.
        #[arg(required = true, value_name = "PID=HOST:PORT")]
        servers: Vec<Place>,
    },
    /// Removes servers, each of which ends when it is not needed any more.
    Remove {
        /// The pid of each.
        #[arg(required = true, value_name = "PID")]
        servers: Vec<NodeId>,
    },
    /// Removes servers and adds others, in one step: `replace 2 with 4=HOST:PORT`.
    Replace {
        /// Pids, `with`, and pids with addresses.
        #[arg(required = true, value_name = "PID... with PID=HOST:PORT")]
        words: Vec<String>,
    },
}

impl MembersWish {
    fn into_change(self) -> Result<Change> {
        match self {
            Self::Add { servers } => Ok(Change { add: addresses(servers)?, ..Change::default() }),
            Self::Remove { servers } => {
                Ok(Change { remove: servers.into_iter().collect(), ..Change::default() })
            }
            Self::Replace { words } => {
                let mut parts = words.split(|word| word == "with");
                let (Some(remove), Some(add), None) = (parts.next(), parts.next(), parts.next())
                else {
                    bail!("it is not `replace PID... with PID=HOST:PORT...`");
                };
                let pid =
                    |word: &String| word.parse().with_context(|| format!("`{word}` is no pid"));
                let place = |word: &String| word.parse().map_err(|why| anyhow!("`{word}`: {why}"));
                let remove = remove.iter().map(pid).collect::<Result<_>>()?;
                let add = addresses(add.iter().map(place).collect::<Result<_>>()?)?;
                Ok(Change { add, remove })
            }
        }
    }
}

/// Where each of these servers is. An error if one is named twice.
fn addresses(places: Vec<Place>) -> Result<Addresses> {
    let mut addresses = Addresses::new();
    for Place { pid, address } in places {
        if let Some(other) = addresses.insert(pid, address.clone()) {
            bail!("server {pid} is named twice, at {other} and at {address}");
        }
    }
    Ok(addresses)
}

/// A line of the standard input.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Line {
    #[command(subcommand)]
    request: Request,
}

/// Executes it. A failure, printed or returned, if that cannot be done.
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
        Request::Members { change: None } => (Ask::Members, None),
        Request::Members { change: Some(wish) } => {
            return in_words(client.change_members(wish.into_change()?).await?, None);
        }
        Request::Transfer { to } => (Ask::TransferLeadership { to }, Some(to)),
    };
    in_words(client.ask(ask).await?, pid_wanted)
}

/// The text of an answer. An error if it is not what was wanted.
fn in_words(answer: Answer, pid_wanted: Option<NodeId>) -> Result<String> {
    match answer {
        Answer::Done { idx } => Ok(format!("ok, at index {idx}")),
        Answer::Value(Some(value)) => Ok(value.to_string()),
        Answer::Value(None) => bail!("there is no such key"),
        Answer::Leads { pid } if Some(pid) == pid_wanted => Ok(format!("server {pid} leads now")),
        Answer::Members(members) => Ok(members.to_string()),
        Answer::MembersChanged { idx, waited_for, members } if waited_for.is_empty() => {
            Ok(format!("decided at index {idx}: {members}"))
        }
        Answer::MembersChanged { idx, waited_for, members } => Ok(format!(
            "decided at index {idx}, after {} caught up: {members}",
            servers(&waited_for)
        )),
        Answer::NotJoined(missing) => {
            bail!(
                "given up by this server, which has changed nothing: {} did not catch up",
                servers(&missing)
            )
        }
        Answer::Leads { pid } => bail!("the transfer was given up: server {pid} leads"),
        other @ (Answer::Changed { .. }
        | Answer::Status(_)
        | Answer::AskAgain(_)
        | Answer::Refused(_)) => bail!("the answer is {other:?}"),
    }
}

/// Names servers.
fn servers(pids: &[NodeId]) -> String {
    let names: Vec<String> = pids.iter().map(|pid| format!("server {pid}")).collect();
    names.join(" and ")
}

/// Answers all lines. It does nothing else while it waits for one.
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

fn print_change(key: &str, value: Option<&str>) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::MembersWish;

    #[test]
    fn a_server_is_added_at_one_address() {
        for (places, is_refused) in [("4=h:4 5=h:5", false), ("4=h:4 4=h:5", true)] {
            let words = places.split(' ');
            let servers = words.clone().map(|place| place.parse().unwrap()).collect();
            assert_eq!(MembersWish::Add { servers }.into_change().is_err(), is_refused, "{places}");
            let words = ["2", "with"].into_iter().chain(words).map(str::to_owned).collect();
            let change = MembersWish::Replace { words }.into_change();
            assert_eq!(change.is_err(), is_refused, "{places}");
        }
    }
}
