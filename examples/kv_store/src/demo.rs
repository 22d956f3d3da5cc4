//! The demonstration: a cluster loses its leader while it loads a file, and nothing else.

use crate::{
    client::Client,
    cluster::{in_step, Cluster},
    protocol::{Answer, Ask, Status},
    state::{Change, Command, State},
};
use anyhow::{bail, Context, Result};
use std::{collections::BTreeMap, io::IsTerminal, path::Path, time::Duration};
use tokio::{sync::watch, time::Instant};

/// The file that comes with the example.
const WORDS: &str = include_str!("../data/rust_book_words.txt");

/// Lines of progress on a terminal are overwritten; elsewhere there are this many.
const PROGRESS_LINES: usize = 10;

const IN_STEP: Duration = Duration::from_secs(20);

/// Runs the demonstration with the records of `data`, or of the file that comes with it. An error
/// if anything is not as it should be.
pub(crate) async fn run(data: Option<&Path>) -> Result<()> {
    let records = match data {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            parse(&text.with_context(|| format!("cannot read {}", path.display()))?)
        }
        None => parse(WORDS),
    }?;
    // Dropping the cluster, on whichever way out, kills the servers.
    tokio::select! {
        result = demonstrate(&records) => result,
        interrupted = interrupted() => {
            interrupted?;
            bail!("interrupted")
        }
    }
}

/// One record a line: key, space, value. Lines that begin with `#` are remarks.
fn parse(text: &str) -> Result<BTreeMap<String, String>> {
    let mut records = BTreeMap::new();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in lines {
        let (key, value) = line.split_once(' ').with_context(|| format!("no value in `{line}`"))?;
        if records.insert(key.to_owned(), value.to_owned()).is_some() {
            bail!("two records for `{key}`");
        }
    }
    Ok(records)
}

async fn demonstrate(records: &BTreeMap<String, String>) -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let leader = cluster.wait_for_leader(IN_STEP).await?;
    for (pid, address) in cluster.addresses() {
        let process = cluster.process_ids().get(&pid).copied().flatten().unwrap_or_default();
        let role = if pid == leader { ", the leader" } else { "" };
        println!("server {pid}{role}: process {process}, clients at {address}");
    }
    load_and_kill(&mut cluster, records).await?;

    let statuses = cluster.wait_until_in_step(IN_STEP).await?;
    for status in &statuses {
        println!("{status}");
    }
    check_statuses(&statuses, records)?;
    for (pid, address) in cluster.addresses() {
        check_records(&address, records).await.with_context(|| format!("at server {pid}"))?;
        println!("server {pid}: all {} records read back", records.len());
    }
    cluster.kill_all().await?;
    println!("the servers left have the same log and the same state; no record is missing");
    Ok(())
}

/// Loads the records through one client, and kills the leader when half of them are acknowledged.
async fn load_and_kill(cluster: &mut Cluster, records: &BTreeMap<String, String>) -> Result<()> {
    let total = records.len();
    let asks: Vec<Ask> = records
        .iter()
        .map(|(key, value)| Ask::Put { key: key.clone(), value: value.clone() })
        .collect();
    let servers = cluster.addresses().into_values().collect();
    let (acknowledged, mut progress) = watch::channel(0);
    let start = Instant::now();
    let load = tokio::spawn(async move {
        let mut client = Client::new(servers);
        client
            .ask_all(asks, |answered| {
                acknowledged.send_replace(answered);
            })
            .await
    });
    let mut printer = Printer::new(total);
    let mut killed = None;
    while progress.changed().await.is_ok() {
        let answered = *progress.borrow_and_update();
        printer.print(answered, &killed);
        if killed.is_none() && 2 * answered >= total {
            // The load goes on meanwhile: requests are under way when the leader dies.
            let leader = cluster.wait_for_leader(IN_STEP).await?;
            cluster.kill(leader).await?;
            printer.end_line();
            println!("killed server {leader}, the leader, with SIGKILL");
            killed = Some(leader);
        }
    }
    let answers = load.await.context("the client broke")??;
    printer.end_line();
    if let Some(odd) = answers.iter().find(|answer| **answer != Answer::Done) {
        bail!("a put was answered with {odd:?}");
    }
    let leader = cluster.wait_for_leader(IN_STEP).await?;
    println!(
        "loaded {} records in {:.2?}, with server {leader} as the new leader",
        answers.len(),
        start.elapsed()
    );
    Ok(())
}

/// All servers left must have the same log, and the state that the records make.
fn check_statuses(statuses: &[Status], records: &BTreeMap<String, String>) -> Result<()> {
    let (first, others) = statuses.split_first().context("no server is left")?;
    if statuses.len() != 2 || !others.iter().all(|other| in_step(first, other)) {
        bail!("the servers left differ");
    }
    let mut expected = State::default();
    for (number, (key, value)) in (0..).zip(records) {
        let change = Change { key: key.clone(), value: Some(value.clone()) };
        expected.apply(&Command { client: 0, number, oldest: 0, change });
    }
    if first.keys != expected.number_of_keys() || first.digest != expected.digest() {
        bail!(
            "the records make {} keys and digest {:016x}",
            expected.number_of_keys(),
            expected.digest()
        );
    }
    Ok(())
}

/// Reads every record back.
async fn check_records(address: &str, records: &BTreeMap<String, String>) -> Result<()> {
    let mut client = Client::new(vec![address.to_owned()]);
    let asks = records.keys().map(|key| Ask::Get { key: key.clone() }).collect();
    let answers = client.ask_all(asks, |_| ()).await?;
    for ((key, value), answer) in records.iter().zip(answers) {
        if answer != Answer::Value(Some(value.clone())) {
            bail!("`{key}` was put as `{value}`, and is read as {answer:?}");
        }
    }
    Ok(())
}

/// Shows how far the load is.
struct Printer {
    total: usize,
    /// Number of acknowledged records at which the next line is due.
    next: usize,
    overwrites: bool,
}

impl Printer {
    fn new(total: usize) -> Self {
        Self { total, next: 0, overwrites: std::io::stdout().is_terminal() }
    }

    fn print(&mut self, answered: usize, killed: &Option<u64>) {
        if answered < self.next {
            return;
        }
        let servers = if killed.is_some() { 2 } else { 3 };
        let line =
            format!("{answered} of {} records acknowledged, with {servers} servers", self.total);
        if self.overwrites {
            self.next = answered + 1 + self.total / 100;
            print!("\r{line}");
        } else {
            self.next = answered + 1 + self.total / PROGRESS_LINES;
            println!("{line}");
        }
    }

    fn end_line(&mut self) {
        if self.overwrites {
            println!();
        }
    }
}

/// Returns when the user or the system asks this process to end.
async fn interrupted() -> Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{signal, SignalKind};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupt = tokio::signal::ctrl_c() => interrupt?,
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{parse, WORDS};

    #[test]
    fn the_data_that_comes_with_the_example() {
        let records = parse(WORDS).unwrap();
        assert!(records.len() >= 3000);
        assert_eq!(records.get("ownership").map(String::as_str), Some("177"));
    }

    #[test]
    fn bad_data() {
        assert!(parse("# remark\n\na 1\nb 2 3\n").unwrap().len() == 2);
        assert!(parse("a\n").is_err());
        assert!(parse("a 1\na 2\n").is_err());
    }
}
