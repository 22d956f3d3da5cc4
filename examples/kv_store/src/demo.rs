//! The demonstration: while a cluster loads a file, it loses its leader, then all its servers,
//! then one for good, which a new server replaces, and no record. Then it shows what else it can do.

use crate::{
    client::Client,
    cluster::{in_step, Cluster},
    protocol::{Answer, Ask, Status},
    showcase,
    state::{Change, State},
};
use anyhow::{bail, Context, Result};
use example_common::{output, say, signals::interrupted};
use std::{collections::BTreeMap, io::IsTerminal, path::Path, time::Duration};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

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
    // Dropping the cluster, on whichever way out, kills the servers and removes their files.
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
    let processes = cluster.process_ids();
    for (pid, address) in cluster.addresses() {
        let process = processes.get(&pid).copied().unwrap_or_default();
        let role = if pid == leader { ", the leader" } else { "" };
        say!("server {pid}{role}: process {process}, clients at {address}")?;
    }
    say!("they keep their logs in {}", cluster.directory().display())?;
    load_with_failures(&mut cluster, records).await?;
    let mut records = records.clone();
    showcase::run(&mut cluster, &mut records).await?;

    let statuses = cluster.wait_until_in_step(IN_STEP).await?;
    for status in &statuses {
        say!("{status}")?;
    }
    check_statuses(&statuses, &records)?;
    for (pid, address) in cluster.addresses() {
        check_records(&address, &records).await.with_context(|| format!("at server {pid}"))?;
        say!("server {pid}: all {} records read back", records.len())?;
    }
    cluster.kill_all().await?;
    say!("all three servers have the same log and the same state; no record is missing")?;
    Ok(())
}

/// What is done to the servers while the records are loaded.
#[derive(Copy, Clone, Debug)]
enum Failure {
    KillLeader,
    RestartKilled,
    KillAndRestartAll,
    KillAndReplaceLeader,
}

/// When each is due, in sixths of the records.
const FAILURES: [(usize, Failure); 4] = [
    (2, Failure::KillLeader),
    (3, Failure::RestartKilled),
    (4, Failure::KillAndRestartAll),
    (5, Failure::KillAndReplaceLeader),
];

/// Loads the records through one client. The load continues while servers are killed and restarted:
/// requests are under way then.
async fn load_with_failures(
    cluster: &mut Cluster,
    records: &BTreeMap<String, String>,
) -> Result<()> {
    let total = records.len();
    let asks: Vec<Ask> = records
        .iter()
        .map(|(key, value)| Ask::Put { key: key.clone(), value: value.clone() })
        .collect();
    let servers = cluster.addresses().into_values().collect();
    let (acknowledged, mut progress) = watch::channel(0);
    let start = Instant::now();
    let mut load = Load(tokio::spawn(async move {
        let mut client = Client::new(servers);
        client
            .ask_all(asks, |answered| {
                acknowledged.send_replace(answered);
            })
            .await
    }));
    let mut printer = Printer::new(total);
    let mut killed = None;
    for (due, failure) in FAILURES {
        // A number is copied out of the channel at once: the client waits while it is borrowed.
        let mut acknowledged = *progress.borrow_and_update();
        while acknowledged * 6 < total * due && progress.changed().await.is_ok() {
            acknowledged = *progress.borrow_and_update();
            printer.print(acknowledged, cluster.process_ids().len())?;
        }
        printer.end_line()?;
        fail(failure, cluster, &mut killed, acknowledged).await?;
    }
    while progress.changed().await.is_ok() {
        let acknowledged = *progress.borrow_and_update();
        printer.print(acknowledged, cluster.process_ids().len())?;
    }
    printer.end_line()?;
    let answers = (&mut load.0).await.context("the client broke")??;
    if let Some(odd) = answers.iter().find(|answer| !matches!(answer, Answer::Done { .. })) {
        bail!("a put was answered with {odd:?}");
    }
    let leader = cluster.wait_for_leader(IN_STEP).await?;
    say!(
        "loaded {} records in {:.2?}, with server {leader} as the last leader",
        answers.len(),
        start.elapsed()
    )?;
    Ok(())
}

/// Does to the servers what is due after this number of acknowledged records.
async fn fail(
    failure: Failure,
    cluster: &mut Cluster,
    killed: &mut Option<u64>,
    acknowledged: usize,
) -> Result<()> {
    match failure {
        Failure::KillLeader => {
            let leader = cluster.wait_for_leader(IN_STEP).await?;
            cluster.kill(&[leader]).await?;
            *killed = Some(leader);
            say!("after {acknowledged} records: killed server {leader}, the leader, with SIGKILL")?;
        }
        Failure::RestartKilled => {
            if let Some(pid) = killed.take() {
                cluster.restart(pid)?;
                say!("after {acknowledged} records: restarted server {pid} from its disk")?;
            }
        }
        Failure::KillAndRestartAll => {
            let all: Vec<u64> = cluster.process_ids().into_keys().collect();
            cluster.kill(&all).await?;
            say!(
                "after {acknowledged} records: killed all {} servers at once with SIGKILL",
                all.len()
            )?;
            for pid in &all {
                cluster.restart(*pid)?;
            }
            say!("restarted all {} servers from their disks", all.len())?;
        }
        Failure::KillAndReplaceLeader => {
            let dead = cluster.wait_for_leader(IN_STEP).await?;
            cluster.kill(&[dead]).await?;
            say!("after {acknowledged} records: killed server {dead}, the leader, for good")?;
            let new = cluster.replace(dead).await?;
            say!("server {new}, which is new, has caught up and is a member in its place")?;
        }
    }
    Ok(())
}

/// The task of the client, which ends with the demonstration.
struct Load(JoinHandle<Result<Vec<Answer>>>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// All servers must have the same log, and the state that the records make.
fn check_statuses(statuses: &[Status], records: &BTreeMap<String, String>) -> Result<()> {
    let (first, others) = statuses.split_first().context("no server answers")?;
    if statuses.len() != 3 || !others.iter().all(|other| in_step(first, other)) {
        bail!("the servers differ");
    }
    let mut expected = State::default();
    for (key, value) in records {
        expected.apply(&Change { key: key.clone(), value: Some(value.clone()) });
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
        if answer != Answer::Value(Some(value.as_str().into())) {
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
    /// Whether the last line is not ended yet.
    is_open: bool,
}

impl Printer {
    fn new(total: usize) -> Self {
        Self { total, next: 0, overwrites: std::io::stdout().is_terminal(), is_open: false }
    }

    fn print(&mut self, answered: usize, servers: usize) -> Result<()> {
        if answered < self.next {
            return Ok(());
        }
        let line =
            format!("{answered} of {} records acknowledged, with {servers} servers", self.total);
        if self.overwrites {
            self.next = answered + 1 + self.total / 100;
            self.is_open = true;
            output::print(format_args!("\r{line}"))
        } else {
            self.next = answered + 1 + self.total / PROGRESS_LINES;
            say!("{line}")
        }
    }

    fn end_line(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_open) {
            say!("")?;
        }
        Ok(())
    }
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
