//! Accepts the connections of other servers, and reads their messages.

use super::{
    address_book::{AddressBook, Addresses},
    frame,
    handshake::{self, Announcement, HandshakeError},
    queue::Counters,
    security::Socket,
    Settings, PULSE,
};
use crate::inbox::Inbox;
use omnipaxos::{messages::Message, storage::Entry, util::NodeId};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, BufReader, ReadHalf, WriteHalf},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::{interval, sleep, timeout, Interval, MissedTickBehavior},
};

/// The largest number of connections whose handshake has not ended.
const MAX_HANDSHAKES: usize = 64;

/// The largest number of connections whose handshake has not begun.
const MAX_WAITING: usize = 64;

/// The time between the beginnings of two handshakes, at least. In one of TLS the thread of the replica signs,
/// before a stranger is known to be one.
const HANDSHAKE_INTERVAL: Duration = Duration::from_millis(5);

/// The time for the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The time to wait if the system accepts no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes read from a socket at once.
const READ_BYTES: usize = 64 * 1024;

/// Accepts connections.
pub(super) struct Listener<T: Entry> {
    listener: TcpListener,
    /// How to end each handshake under way, the oldest first.
    handshakes: VecDeque<Weak<Notify>>,
    /// Connections whose handshake has not begun, the oldest first.
    waiting: VecDeque<(TcpStream, SocketAddr)>,
    /// Number of handshakes that have begun.
    begun: u64,
    /// When the next handshake may begin.
    pace: Interval,
    readers: JoinSet<()>,
    shared: Arc<Shared<T>>,
}

/// What the readers share.
struct Shared<T: Entry> {
    settings: Settings,
    book: AddressBook,
    inbox: Inbox<T>,
    counters: Arc<Counters>,
    /// The present connection of each peer.
    present: Mutex<BTreeMap<NodeId, Present>>,
}

/// How to close a connection.
struct Present {
    /// The number of its handshake.
    number: u64,
    close: Arc<Notify>,
}

impl<T: Entry> Shared<T> {
    fn present(&self) -> MutexGuard<'_, BTreeMap<NodeId, Present>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a peer has a connection whose handshake began after that of this number. Then the peer
    /// has given up the earlier one.
    fn has_later(&self, peer: NodeId, number: u64) -> bool {
        self.present().get(&peer).is_some_and(|present| present.number > number)
    }

    /// Closes the earlier connection of a peer. Returns false if there is a [later](Self::has_later) one.
    fn replace(&self, peer: NodeId, new: Present) -> bool {
        let mut present = self.present();
        if present.get(&peer).is_some_and(|present| present.number > new.number) {
            return false;
        }
        if let Some(older) = present.insert(peer, new) {
            older.close.notify_one();
        }
        true
    }
}

impl<T> Listener<T>
where
    T: Entry + DeserializeOwned + Send + 'static,
    T::Snapshot: Send,
    Message<T>: Send,
{
    pub(super) fn new(
        listener: TcpListener,
        settings: Settings,
        book: AddressBook,
        inbox: Inbox<T>,
        counters: Arc<Counters>,
    ) -> Self {
        let present = Mutex::default();
        let shared = Arc::new(Shared { settings, book, inbox, counters, present });
        let mut pace = interval(HANDSHAKE_INTERVAL);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (handshakes, waiting, begun, readers) = Default::default();
        Self { listener, handshakes, waiting, begun, pace, readers, shared }
    }

    /// Closes the connections of servers that have left the address book.
    pub(super) fn follow(&mut self, addresses: &Addresses) {
        self.shared.present().retain(|peer, present| {
            let stays = addresses.get(*peer).is_some();
            if !stays {
                present.close.notify_one();
            }
            stays
        });
    }

    /// Closes all connections.
    pub(super) async fn close(mut self) {
        self.readers.shutdown().await;
    }

    /// Accepts connections without end, and begins their handshakes at a pace. It is cancel-safe.
    pub(super) async fn accept_all(&mut self) {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => self.keep(accepted),
                    Err(cause) => {
                        // Most likely out of descriptors: other connections must end first.
                        tracing::warn!("cannot accept a connection: {cause}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = self.pace.tick(), if !self.waiting.is_empty() => self.begin_oldest(),
            }
        }
    }

    /// Keeps a connection until its handshake begins. The oldest one is closed if too many wait: so each either
    /// begins or is closed soon, also while strangers connect more often than handshakes begin. A server may
    /// need several attempts then.
    fn keep(&mut self, accepted: (TcpStream, SocketAddr)) {
        self.waiting.push_back(accepted);
        if self.waiting.len() > MAX_WAITING {
            if let Some((_, from)) = self.waiting.pop_front() {
                self.shared.counters.refused.add_one();
                tracing::warn!(
                    "closed the connection from {from} before its handshake: too many wait"
                );
            }
        }
    }

    /// Begins the handshake of the connection that came first.
    fn begin_oldest(&mut self) {
        while self.readers.try_join_next().is_some() {}
        let Some((stream, from)) = self.waiting.pop_front() else {
            return;
        };
        let shared = self.shared.clone();
        let give_way = self.begin_handshake();
        self.begun += 1;
        let number = self.begun;
        self.readers.spawn(async move {
            if let Err(cause) = receive(&shared, stream, number, give_way).await {
                tracing::warn!("closed the connection from {from}: {cause}");
            }
        });
    }

    /// Makes room for a handshake: the oldest one ends if there are too many. So connections whose handshakes
    /// never end keep no server out.
    fn begin_handshake(&mut self) -> Arc<Notify> {
        self.handshakes.retain(|under_way| under_way.strong_count() > 0);
        if self.handshakes.len() >= MAX_HANDSHAKES {
            let oldest = self.handshakes.pop_front();
            if let Some(oldest) = oldest.and_then(|oldest| oldest.upgrade()) {
                oldest.notify_one();
            }
        }
        let give_way = Arc::new(Notify::new());
        self.handshakes.push_back(Arc::downgrade(&give_way));
        give_way
    }
}

/// Serves one connection until it ends, or a later one of the same peer replaces it. Its handshake has this
/// number, and ends with `give_way`.
async fn receive<T>(
    shared: &Shared<T>,
    stream: TcpStream,
    number: u64,
    give_way: Arc<Notify>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    T: Entry + DeserializeOwned + 'static,
    Message<T>: Send,
{
    let Settings { own, application_version, .. } = shared.settings;
    stream.set_nodelay(true)?;
    // Counted before the connection is closed.
    let count_refused = || shared.counters.refused.add_one();
    let accepting = async {
        let secured = shared.settings.security.accept(stream).await;
        let (mut stream, identity) = secured.inspect_err(|_| count_refused())?;
        let is_admitted = |pid, announced: &Announcement| {
            // The book learns nothing from a handshake that is late.
            identity.is_of(pid)
                && !shared.has_later(pid, number)
                && shared.book.admits(pid, &announced.address)
        };
        let accepted = handshake::accept(&mut stream, own, application_version, is_admitted).await;
        let (peer, announced) = accepted.inspect_err(|_| count_refused())?;
        Ok::<_, HandshakeError>((stream, peer, announced))
    };
    let accepted = tokio::select! {
        accepted = timeout(HANDSHAKE_TIMEOUT, accepting) => accepted,
        () = give_way.notified() => {
            count_refused();
            return Err("too many handshakes are under way, and this is the oldest".into());
        }
    };
    let Ok(accepted) = accepted else {
        count_refused();
        return Err("the handshake took too long".into());
    };
    let (stream, peer, announced) = accepted?;
    drop(give_way);
    let close = Arc::new(Notify::new());
    if !shared.replace(peer, Present { number, close: close.clone() }) {
        return Err("the same server has connected again since".into());
    }
    shared.book.note(peer, announced.content);
    if !shared.book.contains(peer) {
        // It left the book during the handshake, too late for `follow`.
        close.notify_one();
    }
    // Messages on an earlier connection may be lost.
    let (reader, writer) = tokio::io::split(stream);
    let reading = async {
        shared.inbox.connected(peer).await?;
        read_all(shared, reader, peer).await
    };
    let read = tokio::select! {
        read = reading => read,
        Err(broken) = pulse(writer) => Err(broken.into()),
        () = close.notified() => Ok(()),
    };
    let mut present = shared.present();
    if present.get(&peer).is_some_and(|present| present.number == number) {
        present.remove(&peer);
    }
    drop(present);
    read
}

/// Sends a byte every second, by which the other server knows that the connection lives.
async fn pulse(mut writer: WriteHalf<Socket>) -> io::Result<()> {
    loop {
        sleep(PULSE).await;
        writer.write_all(&[0]).await?;
        writer.flush().await?;
    }
}

async fn read_all<T>(
    shared: &Shared<T>,
    reader: ReadHalf<Socket>,
    peer: NodeId,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    T: Entry + DeserializeOwned + 'static,
    Message<T>: Send,
{
    let Settings { own, max_frame_bytes, idle_timeout, .. } = shared.settings;
    let mut reader = BufReader::with_capacity(READ_BYTES, reader);
    let mut body = Vec::new();
    loop {
        let read = frame::read::<Message<T>, _>(
            &mut reader,
            max_frame_bytes,
            Some(idle_timeout),
            &mut body,
        );
        let (message, bytes) = match read.await {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(()),
            Err(error) => {
                if error.is_malformed() {
                    shared.counters.malformed.add_one();
                }
                return Err(error.into());
            }
        };
        let (from, to) = (message.get_sender(), message.get_receiver());
        if (from, to) != (peer, own) {
            shared.counters.malformed.add_one();
            return Err(format!("server {peer} sent a message from {from} to {to}").into());
        }
        shared.inbox.deliver(message, bytes).await?;
    }
}
