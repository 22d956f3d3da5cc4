//! The servers, and what is done to them.

use crate::{
    board::{self, Board, Presence},
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
    process::ExitStatus,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};

/// Another process can take a port between our asking for it and the server's; then all is tried
/// again with others.
const ATTEMPTS: usize = 5;

const START: Duration = Duration::from_secs(30);

pub(crate) const POLL: Duration = Duration::from_millis(50);

/// The most servers at one time: with more, the screen has no room for their links.
const MOST_SERVERS: usize = 12;

/// Reports that wait to be taken.
const REPORTS: usize = 64;

/// Servers on this machine. When this is dropped, they are killed, and their files removed.
pub(crate) struct Cluster {
    /// Dropped before the files are removed, lest the servers make new ones.
    processes: Processes,
    /// What is known of them.
    board: Board,
    orders: Orders,
    /// The first members have the pids up to this one.
    founders: u64,
    places: BTreeMap<NodeId, Place>,
    /// The pid of the next server. None is used twice: a new server knows nothing of what one of the same
    /// pid has promised.
    next_pid: NodeId,
    sender: mpsc::Sender<(NodeId, Report)>,
    reports: mpsc::Receiver<(NodeId, Report)>,
    started: Instant,
    directory: Directory,
}

/// Where a server is found.
struct Place {
    peer_port: u16,
    control_port: u16,
    /// The servers that it observes until the members include it. None if it is a founder.
    observes: Vec<NodeId>,
    /// Whether it was started again.
    is_restarted: bool,
    /// The task that gives it orders.
    control: JoinHandle<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.control.abort();
    }
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
        let (sender, reports) = mpsc::channel(REPORTS);
        let mut cluster = Self {
            processes: Processes::default(),
            board: Board::new(servers),
            orders: Orders::new(appends),
            founders: servers,
            places: BTreeMap::new(),
            next_pid: 1,
            sender,
            reports,
            started: Instant::now(),
            directory,
        };
        let founders: Vec<NodeId> = (1..=servers).collect();
        for (number, ports) in cluster.ports(servers + observers)?.into_iter().enumerate() {
            let observes = if number < founders.len() { Vec::new() } else { founders.clone() };
            cluster.add_server(ports, observes)?;
        }
        Ok(cluster)
    }

    /// Two ports for each of a number of new servers. A server that was killed keeps its own.
    fn ports(&self, servers: u64) -> Result<Vec<[u16; 2]>> {
        let is_taken = |port: &u16| {
            self.places.values().any(|place| [place.peer_port, place.control_port].contains(port))
        };
        for _ in 0..ATTEMPTS {
            let ports = free_ports(2 * usize::try_from(servers)?)?;
            if !ports.iter().any(is_taken) {
                let (pairs, _) = ports.as_chunks();
                return Ok(pairs.to_vec());
            }
        }
        bail!("no free ports")
    }

    /// Starts a server that was not there before.
    fn add_server(&mut self, ports: [u16; 2], observes: Vec<NodeId>) -> Result<NodeId> {
        let pid = self.next_pid;
        self.next_pid += 1;
        let [peer_port, control_port] = ports;
        let control = control::run(pid, control_port, self.orders.clone(), self.sender.clone());
        let control = tokio::spawn(control);
        self.board.add(pid, board::config(pid, self.founders, &observes));
        let is_restarted = false;
        let place = Place { peer_port, control_port, observes, is_restarted, control };
        self.places.insert(pid, place);
        self.set_ports();
        self.start_server(pid)?;
        Ok(pid)
    }

    fn set_ports(&self) {
        let ports = self.places.iter().map(|(pid, place)| (*pid, place.peer_port));
        self.orders.set_ports(ports.collect());
    }

    fn start_server(&mut self, pid: NodeId) -> Result<()> {
        let Place { peer_port, control_port, observes, is_restarted, .. } =
            self.places.get(&pid).context("there is no such server")?;
        let data = self.directory.path().join(format!("data{pid}"));
        let mut arguments = vec![
            "server".into(),
            format!("--pid={pid}"),
            format!("--peer-port={peer_port}"),
            format!("--founders={}", self.founders),
            format!("--control-port={control_port}"),
            format!("--data={}", data.to_str().context("the temporary folder is not UTF-8")?),
        ];
        if !observes.is_empty() {
            let observes: Vec<String> = observes.iter().map(NodeId::to_string).collect();
            arguments.push(format!("--observes={}", observes.join(",")));
        }
        if *is_restarted {
            arguments.push("--again".into());
        }
        let complaints = File::create(self.complaints_of(pid)).context("cannot write a file")?;
        self.processes.start(pid, arguments, complaints.into())?;
        self.board.set_running(pid, true);
        Ok(())
    }

    /// Where a server writes why it cannot continue: the terminal belongs to the dashboard.
    fn complaints_of(&self, pid: NodeId) -> PathBuf {
        self.directory.path().join(format!("complaints{pid}.txt"))
    }

    /// Takes in what the servers have reported, and continues the change of the members that the user
    /// wants.
    ///
    /// # Errors
    /// One of them failed.
    pub(crate) async fn hear(&mut self) -> Result<()> {
        let now = self.started.elapsed();
        while let Ok((pid, report)) = self.reports.try_recv() {
            self.board.hear(pid, report, now);
        }
        self.board.look(now);
        while let Some((pid, status)) = self.processes.take_ended()? {
            self.heed_end(pid, status)?;
        }
        for (pid, presence) in self.board.dismissed() {
            if presence != Presence::Killed {
                self.processes.kill(&[pid]).await?;
            }
            self.forget(pid);
            self.note(format!("server {pid} is no member, and has ended"));
        }
        self.orders.set_change(self.board.ask());
        Ok(())
    }

    /// A server that a signal has ended counts as killed, and so does one that does not start again.
    ///
    /// # Errors
    /// It failed otherwise.
    fn heed_end(&mut self, pid: NodeId, status: ExitStatus) -> Result<()> {
        let mut text = format!("server {pid} has ended: {status}");
        let complaints = fs::read_to_string(self.complaints_of(pid)).unwrap_or_default();
        if !complaints.trim().is_empty() {
            text = format!("{text}: {}", complaints.trim());
        }
        // A signal that asks it to end has it end with success.
        let is_failure = status.code().is_some_and(|code| code != 0);
        if is_failure && !self.is_starting_again(pid) {
            bail!(text);
        }
        self.board.set_running(pid, false);
        self.note(text);
        Ok(())
    }

    fn is_starting_again(&self, pid: NodeId) -> bool {
        let server = self.board.servers().get(&pid);
        self.places.get(&pid).is_some_and(|place| place.is_restarted)
            && server.is_some_and(|server| server.report.is_none())
    }

    /// Forgets a server that does not run.
    fn forget(&mut self, pid: NodeId) {
        self.board.forget(pid);
        self.places.remove(&pid);
        self.orders.set_cut(self.board.cut().clone());
        self.set_ports();
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// It is not, for too long, or a server failed.
    pub(crate) async fn wait_for(
        &mut self,
        time_limit: Duration,
        what: &str,
        is_so: impl Fn(&Board) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            self.hear().await?;
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
        let servers: Vec<_> = self.places.keys().copied().collect();
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

    /// Starts a server that was killed, with what its disk holds. Without it, the server does not start: it
    /// would have forgotten what it has promised.
    pub(crate) fn restart(&mut self, pid: NodeId) {
        let others: Vec<NodeId> =
            self.places.keys().copied().filter(|other| *other != pid).collect();
        if let Some(place) = self.places.get_mut(&pid) {
            place.is_restarted = true;
            if !place.observes.is_empty() {
                // The servers that it was started with may have gone.
                place.observes = others;
            }
        }
        match self.start_server(pid) {
            Ok(()) => self.note(format!("server {pid} is started again, from its disk")),
            Err(cause) => self.note(format!("server {pid} cannot be started again: {cause:#}")),
        }
    }

    /// Starts a new server, which observes, catches up, and becomes a member. In place of another one, if
    /// that is given.
    pub(crate) fn add(&mut self, in_place_of: Option<NodeId>) -> Result<()> {
        if self.places.len() >= MOST_SERVERS {
            self.note(format!("there are {MOST_SERVERS} servers: no more fit on the screen"));
            return Ok(());
        }
        let sources = self.places.keys().copied().collect();
        let ports = self.ports(1)?.pop().context("no free ports")?;
        let pid = self.add_server(ports, sources)?;
        self.board.members_mut().want(pid);
        match in_place_of {
            None => self.note(format!("server {pid} is started, and joins")),
            Some(other) => {
                self.board.members_mut().want_without(other);
                self.note(format!(
                    "server {pid} is started, and takes the place of server {other}"
                ));
            }
        }
        Ok(())
    }

    /// Removes a server, or takes that back: see [`Board::remove`].
    pub(crate) fn remove(&mut self, pid: NodeId) {
        self.board.remove(pid, self.started.elapsed());
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
