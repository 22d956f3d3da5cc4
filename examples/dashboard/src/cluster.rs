//! The servers, and what is done to them.

use crate::{
    board::Board,
    control,
    links::{Link, Orders},
    protocol::Report,
};
use anyhow::{bail, Context, Result};
use example_common::{free_ports, Directory, Processes};
use omnipaxos::util::NodeId;
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

/// Reports that wait to be taken.
const REPORTS: usize = 64;

/// Servers on this machine. When this is dropped, they are killed, and their files removed.
pub(crate) struct Cluster {
    /// Dropped before the files are removed, lest the servers make new ones.
    processes: Processes,
    /// What is known of them.
    board: Board,
    orders: Orders,
    peer_ports: Vec<u16>,
    /// The servers up to this one have a vote.
    members: u64,
    control_ports: BTreeMap<NodeId, u16>,
    reports: mpsc::Receiver<(NodeId, Report)>,
    started: Instant,
    directory: Directory,
}

impl Cluster {
    /// Starts the servers and waits until all have reported.
    pub(crate) async fn start(servers: u64, observers: u64, appends: u64) -> Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let mut cluster = Self::spawn(servers, observers, appends)?;
            match cluster.wait_for(START, "all servers report", Board::all_report).await {
                Ok(()) => return Ok(cluster),
                Err(cause) => last = Some(cause),
            }
        }
        Err(last.context("no attempt was made")?.context("the servers do not start"))
    }

    fn spawn(servers: u64, observers: u64, appends: u64) -> Result<Self> {
        let directory = Directory::create("dashboard")?;
        let nodes: Vec<NodeId> = (1..=servers + observers).collect();
        let ports = free_ports(2 * nodes.len())?;
        let (peer_ports, control_ports) = ports.split_at(nodes.len());
        let orders = Orders::new(appends);
        let (sender, reports) = mpsc::channel(REPORTS);
        for (pid, port) in nodes.iter().zip(control_ports) {
            tokio::spawn(control::run(*pid, *port, orders.clone(), sender.clone()));
        }
        let mut cluster = Self {
            processes: Processes::default(),
            board: Board::new(servers, observers),
            orders,
            peer_ports: peer_ports.to_vec(),
            members: servers,
            control_ports: nodes.iter().copied().zip(control_ports.iter().copied()).collect(),
            reports,
            started: Instant::now(),
            directory,
        };
        for pid in nodes {
            cluster.start_server(pid)?;
        }
        Ok(cluster)
    }

    fn start_server(&mut self, pid: NodeId) -> Result<()> {
        let control_port = self.control_ports.get(&pid).context("there is no such server")?;
        let data = self.directory.path().join(format!("data{pid}"));
        let ports: Vec<String> = self.peer_ports.iter().map(u16::to_string).collect();
        let arguments = [
            "server".into(),
            format!("--pid={pid}"),
            format!("--peer-ports={}", ports.join(",")),
            format!("--members={}", self.members),
            format!("--control-port={control_port}"),
            format!("--data={}", data.to_str().context("the temporary folder is not UTF-8")?),
        ];
        let complaints = File::create(self.complaints_of(pid)).context("cannot write a file")?;
        self.processes.start(pid, arguments, complaints.into())?;
        self.board.set_running(pid, true);
        Ok(())
    }

    /// Where a server writes why it cannot continue: the terminal belongs to the dashboard.
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
            self.board.hear(pid, report, now);
        }
        self.board.look(now);
        self.processes.check_alive().map_err(|cause| {
            let complaints =
                self.control_ports.keys().map(|pid| fs::read_to_string(self.complaints_of(*pid)));
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
        time_limit: Duration,
        what: &str,
        is_so: impl Fn(&Board) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            self.hear()?;
            if is_so(&self.board) {
                return Ok(());
            }
            if start.elapsed() > time_limit {
                bail!("it is not so after {time_limit:?}: {what}");
            }
            sleep(POLL).await;
        }
    }

    pub(crate) fn cut(&mut self, link: Link) {
        self.set_cut([link], true);
        self.note(format!("the link {link} is cut"));
    }

    pub(crate) fn heal(&mut self, link: Link) {
        self.set_cut([link], false);
        self.note(format!("the link {link} is healed"));
    }

    pub(crate) fn isolate(&mut self, pid: NodeId) {
        let servers: Vec<_> = self.control_ports.keys().copied().collect();
        let others = servers.into_iter().filter(|other| *other != pid);
        self.set_cut(others.map(|other| Link::between(pid, other)), true);
        self.note(format!("all links of server {pid} are cut"));
    }

    pub(crate) fn heal_all(&mut self) {
        self.set_cut(self.board.cut().clone(), false);
        self.note("all links are healed".to_owned());
    }

    fn set_cut(&mut self, links: impl IntoIterator<Item = Link>, is_cut: bool) {
        for link in links {
            self.board.set_cut(link, is_cut);
        }
        self.orders.set_cut(self.board.cut().clone());
    }

    /// Kills a server with SIGKILL.
    pub(crate) async fn kill(&mut self, pid: NodeId) -> Result<()> {
        self.processes.kill(&[pid]).await?;
        self.board.set_running(pid, false);
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
        self.board.note(text, self.started.elapsed());
    }

    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// How many entries each server is given with an order.
    pub(crate) fn appends(&self) -> u64 {
        self.orders.appends()
    }
}
