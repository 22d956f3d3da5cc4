//! A server: a process that ends with the dashboard that has started it.

use crate::{
    board,
    cuts::{Cuts, Cuttable},
    protocol::{Change, Line, Number, Order, Refusal, Report},
};
use anyhow::{anyhow, Context, Result};
use example_common::{
    bind,
    frame::{self, Kind},
    open_storage, signals, Missing,
};
use omnipaxos::{members::MemberChange, util::NodeId, ClusterConfig};
use omnipaxos_runtime::{
    errors::ReconfigureError,
    tcp::{AddressBook, TcpTransport},
    Decided, DecidedLog, Node, OmniPaxosHandle,
};
use omnipaxos_ui::LogQueue;
use std::{
    path::PathBuf,
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc, Mutex, MutexGuard, PoisonError,
    },
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// Ticks of a heartbeat round.
const ROUND: u64 = 20;

/// Ticks after which what was not acknowledged is sent again at the latest.
const RESEND: u64 = 50;

/// Heartbeat rounds without progress after which a server that is to join is given up: 10 seconds.
const SILENT_ROUNDS: u32 = 50;

/// Log lines that wait for the next report.
const WAITING_LINES: usize = 1024;

/// What a server needs to know.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which server it is.
    #[arg(long)]
    pid: NodeId,
    /// The port at which it receives messages of the other servers. Their ports come with the orders.
    #[arg(long)]
    peer_port: u16,
    /// How many servers are members at first. Their pids are 1, 2 and so on.
    #[arg(long)]
    founders: u64,
    /// The servers that it observes until the members include it. None if it is a founder.
    #[arg(long, value_delimiter = ',')]
    observes: Vec<NodeId>,
    /// The port at which it receives the orders of the dashboard.
    #[arg(long)]
    control_port: u16,
    /// The folder of its log.
    #[arg(long)]
    data: PathBuf,
    /// It was started before: its log must be there.
    #[arg(long)]
    again: bool,
}

impl Options {
    pub(crate) fn pid(&self) -> NodeId {
        self.pid
    }
}

/// Serves until the standard input ends, a signal comes, or something fails.
pub(crate) async fn run(options: Options) -> Result<()> {
    let Options { pid, peer_port, founders, observes, control_port, data, again } = options;
    let own_address = address(peer_port);
    let for_peers = bind(&own_address).await?;
    let for_control = bind(&address(control_port)).await?;

    let log = LogQueue::with_room(WAITING_LINES);
    let mut config = board::config(pid, founders, &observes);
    config.server_config.election_tick_timeout = ROUND;
    config.server_config.resend_message_tick_timeout = RESEND;
    config.server_config.custom_logger = Some(log.logger());
    let cuts = Cuts::default();
    // Of the other servers it knows nothing until the first order comes.
    let book = AddressBook::from([(pid, own_address)]);
    let tcp = TcpTransport::new(book.clone()).listener(for_peers);
    let transport = Cuttable { tcp, cuts: cuts.clone() };
    let missing = if again { Missing::IsRefused } else { Missing::IsMade };
    let storage = open_storage(&data, missing)?;
    let node = Node::builder(config, storage).transport(transport).start().await?;
    let digest = Arc::new(AtomicU64::new(0));
    let changes = Changes::default();
    let server = Server { node: node.handle(), cuts, book, digest: digest.clone(), log, changes };
    let ended = tokio::select! {
        cause = node.ended_with() => return Err(cause.into()),
        failed = digest_decided(node.decided(0), &digest) => failed,
        ended = server.obey_all(for_control) => ended,
        ended = signals::interrupted() => ended,
        () = signals::stdin_closed() => Ok(()),
    };
    node.shutdown().await?;
    ended
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The replica, and what makes it a part of this show.
struct Server {
    node: OmniPaxosHandle<Number>,
    cuts: Cuts,
    book: AddressBook,
    /// Digest of all entries decided here.
    digest: Arc<AtomicU64>,
    log: LogQueue,
    changes: Changes,
}

impl Server {
    /// Serves the dashboard, which has one connection, and a new one after it lost the last. A newer
    /// connection replaces the one before, and orders that were not read there are not obeyed.
    async fn obey_all(&self, listener: TcpListener) -> Result<()> {
        let mut accepted = listener.accept().await;
        loop {
            let (stream, _) = accepted.context("cannot accept the dashboard")?;
            accepted = tokio::select! {
                biased;
                newer = listener.accept() => newer,
                // It breaks off in the middle of an exchange if the dashboard is killed.
                _ = self.obey(stream) => listener.accept().await,
            };
        }
    }

    async fn obey(&self, mut stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let (reader, mut writer) = stream.split();
        let mut reader = BufReader::new(reader);
        let (mut frames, mut body) = (Vec::new(), Vec::new());
        while let Some(order) = frame::read(&mut reader, Kind::Request, &mut body).await? {
            self.take(order);
            frames.clear();
            frame::encode(Kind::Response, &self.report().await?, &mut frames)?;
            writer.write_all(&frames).await?;
        }
        Ok(())
    }

    fn take(&self, order: Order) {
        self.cuts.set(order.cut);
        self.book.replace(order.ports.into_iter().map(|(pid, port)| (pid, address(port))));
        if let Some(change) = order.change {
            self.changes.propose(&self.node, change);
        }
        let numbers = order.first..order.first.saturating_add(order.count);
        // If there is no room, the others of the order are left out.
        let appending: Vec<_> =
            numbers.map_while(|number| self.node.append_notify(Number { number }).ok()).collect();
        tokio::spawn(async move {
            for append in appending {
                // Nobody asks for the index, nor why there is none.
                drop(append.await);
            }
        });
    }

    async fn report(&self) -> Result<Report> {
        Ok(Report {
            status: self.node.status().await?,
            digest: self.digest.load(Ordering::SeqCst),
            log: self.log.take().into_iter().map(Line::from).collect(),
            refusal: self.changes.take_refusal(),
        })
    }
}

/// The changes of members that this server proposes, one at a time.
#[derive(Clone, Debug, Default)]
struct Changes(Arc<Mutex<Proposed>>);

#[derive(Debug, Default)]
struct Proposed {
    is_pending: bool,
    refusal: Option<Refusal>,
}

impl Changes {
    /// Proposes a change, unless one is pending.
    fn propose(&self, node: &OmniPaxosHandle<Number>, change: Change) {
        if std::mem::replace(&mut self.lock().is_pending, true) {
            return;
        }
        let (node, changes) = (node.clone(), self.clone());
        tokio::spawn(async move {
            let Change { configuration_id, nodes } = change.clone();
            let next = ClusterConfig { configuration_id, nodes, ..Default::default() };
            let how = MemberChange { most_silent_rounds: SILENT_ROUNDS, ..Default::default() };
            let changed = node.change_members(next, how).await;
            let mut proposed = changes.lock();
            proposed.is_pending = false;
            match changed {
                // If the members are still not those that are wanted, another order comes.
                Ok(_)
                | Err(
                    ReconfigureError::Pending
                    | ReconfigureError::NotDecided
                    | ReconfigureError::Unknown
                    | ReconfigureError::Ended(_),
                ) => {}
                Err(why) => {
                    let why = format!("{:#}", anyhow!(why));
                    proposed.refusal = Some(Refusal { change, why });
                }
            }
        });
    }

    fn take_refusal(&self) -> Option<Refusal> {
        self.lock().refusal.take()
    }

    fn lock(&self) -> MutexGuard<'_, Proposed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the digest of all that is decided.
async fn digest_decided(mut log: DecidedLog<Number>, digest: &AtomicU64) -> Result<()> {
    while let Some(item) = log.next().await {
        if let Decided::Entry { entry, .. } = item? {
            let digest_before = digest.load(Ordering::SeqCst);
            digest.store(digest_with(digest_before, entry.number), Ordering::SeqCst);
        }
    }
    Ok(())
}

/// The digest of one more number: other numbers, or the same in another order, have another.
fn digest_with(digest: u64, number: u64) -> u64 {
    // As in FNV: https://datatracker.ietf.org/doc/html/draft-eastlake-fnv
    number.to_be_bytes().iter().fold(digest ^ 0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{control, links::Orders};
    use omnipaxos_runtime::tcp::TcpTransport;
    use omnipaxos_storage::memory_storage::MemoryStorage;
    use std::{future::Future, time::Duration};
    use tokio::{
        sync::mpsc,
        time::{sleep, timeout},
    };

    /// The time that each part of a test may take.
    const LIMIT: Duration = Duration::from_secs(30);

    /// Returns the port of a listener that accepts nothing yet, and the server that will.
    async fn server() -> (u16, impl Future<Output = Result<()>>) {
        let listener = bind(&address(0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let for_peers = bind(&address(0)).await.unwrap();
        let book = AddressBook::from([(1, for_peers.local_addr().unwrap().to_string())]);
        let cuts = Cuts::default();
        let tcp = TcpTransport::new(book.clone()).listener(for_peers);
        let transport = Cuttable { tcp, cuts: cuts.clone() };
        let storage = MemoryStorage::<Number>::default();
        let node = Node::builder(board::config(1, 3, &[]), storage).transport(transport);
        let node = node.start().await.unwrap();
        let (digest, log) = (Arc::new(AtomicU64::new(0)), LogQueue::with_room(WAITING_LINES));
        let changes = Changes::default();
        let server = Server { node: node.handle(), cuts, book, digest, log, changes };
        let serves = async move {
            let ended = server.obey_all(listener).await;
            drop(node);
            ended
        };
        (port, serves)
    }

    async fn send_order(port: u16, appends: u64) -> TcpStream {
        let mut stream = TcpStream::connect(address(port)).await.unwrap();
        let mut bytes = Vec::new();
        frame::encode(Kind::Request, &Orders::new(appends).next_for(1), &mut bytes).unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn an_idle_client_does_not_lock_the_dashboard_out() {
        let (port, serves) = server().await;
        let serves = tokio::spawn(serves);
        let _idle = TcpStream::connect(address(port)).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        let (sender, mut reports) = mpsc::channel(1);
        let dashboard = tokio::spawn(control::run(1, port, Orders::new(0), sender));
        let report = timeout(LIMIT, reports.recv()).await;
        assert!(matches!(report, Ok(Some((1, _)))), "{report:?}");
        dashboard.abort();
        serves.abort();
    }

    /// As after SIGSTOP and SIGCONT.
    #[tokio::test]
    async fn orders_on_connections_that_were_replaced_are_not_obeyed() {
        let (port, serves) = server().await;
        drop(send_order(port, 4).await);
        let mut stream = send_order(port, 0).await;
        let serves = tokio::spawn(serves);
        let mut body = Vec::new();
        let report = frame::read::<Report, _>(&mut stream, Kind::Response, &mut body);
        let status = timeout(LIMIT, report).await.unwrap().unwrap().unwrap().status;
        assert_eq!(status.waiting.entries + status.pending.entries, 0);
        serves.abort();
    }
}
