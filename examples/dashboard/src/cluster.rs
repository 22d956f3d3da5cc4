//! The servers, what is done to them, and what they tell.

use crate::{
    control,
    links::{Link, Orders},
    protocol::Report,
};
use anyhow::{bail, Context, Result};
use example_net::{free_ports, Directory, Processes};
use omnipaxos::{util::NodeId, ClusterConfig, OmniPaxosConfig, ServerConfig};
use omnipaxos_ui::{App, Log, LogItem, LogLine, Rates};
use slog::Level;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::sleep};

/// Another process can take a port between our asking for it and the server's; then all is tried
/// again with others.
const ATTEMPTS: usize = 5;

const START: Duration = Duration::from_secs(30);

pub(crate) const POLL: Duration = Duration::from_millis(50);

/// A server that runs and has not reported for so long does not answer.
const SILENCE: Duration = Duration::from_secs(2);

/// Reports that wait to be heard.
const REPORTS: usize = 64;

/// Servers on this machine. When this is dropped, they are killed, and their files removed.
pub(crate) struct Cluster {
    /// Dropped before the files are removed, lest the servers make new ones.
    processes: Processes,
    members: BTreeMap<NodeId, Member>,
    peer_ports: Vec<u16>,
    orders: Orders,
    reports: mpsc::Receiver<(NodeId, Report)>,
    started: Instant,
    rates: Rates,
    /// What all servers logged, and what was done to them.
    log: Log,
    directory: Directory,
}

/// A server, as the dashboard knows it.
pub(crate) struct Member {
    control_port: u16,
    /// What it showed if it had a dashboard of its own.
    pub(crate) app: App,
    /// Its last report in this life, and when that came.
    pub(crate) report: Option<(Report, Duration)>,
}

/// Whether a server is there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Killed,
    Silent,
    Reports,
}

impl Cluster {
    /// Starts the servers and waits until all have reported.
    pub(crate) async fn start(servers: u64, appends: u64) -> Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let mut cluster = Self::spawn(servers, appends)?;
            match cluster.wait_for(START, "all servers report", Self::all_report).await {
                Ok(()) => return Ok(cluster),
                Err(cause) => last = Some(cause),
            }
        }
        Err(last.context("no attempt was made")?.context("the servers do not start"))
    }

    fn spawn(servers: u64, appends: u64) -> Result<Self> {
        let directory = Directory::create("dashboard")?;
        let nodes: Vec<NodeId> = (1..=servers).collect();
        let ports = free_ports(2 * nodes.len())?;
        let (peer_ports, control_ports) = ports.split_at(nodes.len());
        let orders = Orders::new(appends);
        let (sender, reports) = mpsc::channel(REPORTS);
        let members = nodes.iter().zip(control_ports).map(|(pid, control_port)| {
            tokio::spawn(control::run(*pid, *control_port, orders.clone(), sender.clone()));
            let app = App::new(config(*pid, nodes.clone()).into());
            (*pid, Member { control_port: *control_port, app, report: None })
        });
        let mut cluster = Self {
            processes: Processes::default(),
            members: members.collect(),
            peer_ports: peer_ports.to_vec(),
            orders,
            reports,
            started: Instant::now(),
            rates: Rates::default(),
            log: Log::default(),
            directory,
        };
        for pid in nodes {
            cluster.start_server(pid)?;
        }
        Ok(cluster)
    }

    fn start_server(&mut self, pid: NodeId) -> Result<()> {
        let control_port = self.member(pid)?.control_port;
        let data = self.directory.path().join(format!("data{pid}"));
        let ports: Vec<String> = self.peer_ports.iter().map(u16::to_string).collect();
        let arguments = [
            "server".into(),
            format!("--pid={pid}"),
            format!("--peer-ports={}", ports.join(",")),
            format!("--control-port={control_port}"),
            format!("--data={}", data.to_str().context("the temporary folder is not UTF-8")?),
        ];
        let complaints = File::create(self.complaints_of(pid)).context("cannot write a file")?;
        self.processes.start(pid, arguments, complaints.into())
    }

    /// Where a server says why it cannot go on: the terminal belongs to the dashboard.
    fn complaints_of(&self, pid: NodeId) -> PathBuf {
        self.directory.path().join(format!("complaints{pid}.txt"))
    }

    /// Takes in what the servers have reported.
    ///
    /// # Errors
    /// One of them ended by itself.
    pub(crate) fn hear(&mut self) -> Result<()> {
        let now = self.started.elapsed();
        while let Ok((pid, report)) = self.reports.try_recv() {
            // What a server sent before it was killed may come after.
            let (true, Some(member)) = (self.processes.runs(pid), self.members.get_mut(&pid))
            else {
                continue;
            };
            let items: Vec<_> = report.log.iter().cloned().map(|line| line.at(now)).collect();
            member.app.observe(&report.status, now);
            member.app.log_mut().extend(items.iter().cloned());
            self.log.extend(items);
            member.report = Some((report, now));
        }
        self.rates.observe(self.decided_idx(), now);
        self.processes.check_alive().map_err(|cause| {
            let complaints =
                self.members.keys().map(|pid| fs::read_to_string(self.complaints_of(*pid)));
            let all: Vec<_> = complaints.flatten().filter(|text| !text.is_empty()).collect();
            cause.context(all.join(" ").trim().to_owned())
        })
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// It is not, for too long, or a server ended by itself.
    pub(crate) async fn wait_for(
        &mut self,
        patience: Duration,
        what: &str,
        is_so: impl Fn(&Self) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            self.hear()?;
            if is_so(self) {
                return Ok(());
            }
            if start.elapsed() > patience {
                bail!("it is not so after {patience:?}: {what}");
            }
            sleep(POLL).await;
        }
    }

    pub(crate) fn cut(&mut self, link: Link) {
        self.orders.cut(link);
        self.note(format!("the link {link} is cut"));
    }

    pub(crate) fn heal(&mut self, link: Link) {
        self.orders.heal(link);
        self.note(format!("the link {link} is healed"));
    }

    pub(crate) fn isolate(&mut self, pid: NodeId) {
        for other in self.members.keys().filter(|other| **other != pid) {
            self.orders.cut(Link::between(pid, *other));
        }
        self.note(format!("all links of server {pid} are cut"));
    }

    pub(crate) fn heal_all(&mut self) {
        self.orders.heal_all();
        self.note("all links are healed".to_owned());
    }

    /// Kills a server with SIGKILL.
    pub(crate) async fn kill(&mut self, pid: NodeId) -> Result<()> {
        self.processes.kill(&[pid]).await?;
        self.member(pid)?.report = None;
        self.note(format!("server {pid} is killed"));
        Ok(())
    }

    /// Starts a server that was killed, with what its disk holds.
    pub(crate) fn restart(&mut self, pid: NodeId) -> Result<()> {
        self.start_server(pid)?;
        self.note(format!("server {pid} is started again, from its disk"));
        Ok(())
    }

    pub(crate) fn set_appends(&mut self, appends: u64) {
        self.orders.set_appends(appends);
        self.note(format!("each server is given {appends} entries ten times a second"));
    }

    fn note(&mut self, text: String) {
        let at = self.started.elapsed();
        self.log.extend([LogItem::Line(LogLine { at, level: Level::Warning, text })]);
    }

    fn member(&mut self, pid: NodeId) -> Result<&mut Member> {
        self.members.get_mut(&pid).context("there is no such server")
    }

    pub(crate) fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    pub(crate) fn orders(&self) -> &Orders {
        &self.orders
    }

    pub(crate) fn rates(&self) -> &Rates {
        &self.rates
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn presence(&self, pid: NodeId) -> Presence {
        let report = self.members.get(&pid).and_then(|member| member.report.as_ref());
        match report {
            _ if !self.processes.runs(pid) => Presence::Killed,
            Some((_, at)) if self.started.elapsed().saturating_sub(*at) < SILENCE => {
                Presence::Reports
            }
            Some(_) | None => Presence::Silent,
        }
    }

    /// The last reports of the servers that run.
    pub(crate) fn reports(&self) -> impl Iterator<Item = &Report> {
        self.members.values().filter_map(|member| member.report.as_ref()).map(|(report, _)| report)
    }

    fn all_report(&self) -> bool {
        self.members.keys().all(|pid| self.presence(*pid) == Presence::Reports)
    }

    /// The largest decided index of any server.
    pub(crate) fn decided_idx(&self) -> u64 {
        self.reports().map(|report| report.status.decided_idx).max().unwrap_or(0)
    }

    /// The server that leads in the highest ballot, if any does.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = |report: &&Report| report.status.leader == Some(report.status.pid);
        let highest = self.reports().filter(leads).max_by_key(|report| report.status.ballot)?;
        Some(highest.status.pid)
    }

    /// Whether all servers run, have decided the same log, and hold nothing else.
    pub(crate) fn all_agree(&self) -> bool {
        let Some(first) = self.reports().next() else {
            return false;
        };
        self.all_report()
            && self.reports().all(|Report { status, digest, .. }| {
                status.waiting.entries == 0
                    && status.kept.entries == 0
                    && status.accepted_idx == status.decided_idx
                    && (status.decided_idx, *digest) == (first.status.decided_idx, first.digest)
            })
    }
}

/// As far as a dashboard needs to know it.
fn config(pid: NodeId, nodes: Vec<NodeId>) -> OmniPaxosConfig {
    OmniPaxosConfig {
        cluster_config: ClusterConfig { configuration_id: 1, nodes, ..Default::default() },
        server_config: ServerConfig { pid, ..Default::default() },
    }
}
