//! A transport over TCP.
//!
//! Each server connects to each other server of its [`AddressBook`], and sends on this connection
//! only. It receives on the connections that the others opened. So each connection has one writer
//! and one reader, and two servers need not agree on one of two connections.
//!
//! # Wire format
//! All numbers are big-endian. The connecting server sends at least 36 bytes:
//!
//! | bytes | content |
//! |---:|---|
//! | 4 | `OPXR` |
//! | 4 | version of this format: 1 |
//! | 8 | [version of the application](TcpTransport::application_version) |
//! | 8 | id of the connecting server |
//! | 8 | id of the server to which it connects |
//! | 4 | length of the announcement: at most 4,096 |
//! | that many | announcement. If it is not empty: length of an address (2 bytes), the address at which other servers reach the connecting server, in UTF-8, and what its program [announces](TcpTransport::announce) |
//!
//! The other server answers with 28 bytes:
//!
//! | bytes | content |
//! |---:|---|
//! | 4 | `OPXR` |
//! | 4 | version of this format there |
//! | 8 | version of the application there |
//! | 8 | id of the answering server |
//! | 4 | 0: accepted; 1: another version of this format; 2: another version of the application; 3: it is another server; 4: the connecting server is not in its address book, which has no room for a [guest](AddressBook#guests), or it has the certificate of another |
//!
//! If it accepts, frames follow from the connecting server. The accepting server sends a byte 0
//! every second, and nothing else. So the connecting server detects a cut link or a stopped process
//! within 5 seconds, or 10 if it was writing much, and connects again. A frame is the length of its body (4 bytes, at least 1)
//! and the body: one message, encoded by serde with the standard configuration of bincode 2. The
//! reader decodes a body as a whole, and no byte may follow the message. The reader closes the
//! connection at the first byte that does not fit, and if a message names another sender or
//! receiver than the connection.
//!
//! # Bounds
//! | what | bound |
//! |---|---|
//! | a frame, sent or received | [`max_frame_bytes`](TcpTransport::max_frame_bytes), default 16 MiB |
//! | frames that wait for one peer | [`max_queued_bytes`](TcpTransport::max_queued_bytes), default 16 MiB, and as many that are being written; further messages are dropped |
//! | messages that wait for the replica | see [`Inbox`] |
//! | connections of one peer | 1: a later one replaces the earlier |
//! | servers that connect and are in no address book | [`admit_guests`](AddressBook::admit_guests), default 0 |
//! | handshakes that begin | one in 5 ms, since they take time of the replica's thread |
//! | connections that wait for that | 64; a further one closes the oldest of them |
//! | handshakes under way | 64, for 5 seconds each; a further one ends the oldest of them |
//! | time for each 256 KiB of a frame, and between two frames, after which a connection is closed | [`idle_timeout`](TcpTransport::idle_timeout), default 60 s |
//! | time to write 256 KiB, after which a connection is closed | 5 s |
//! | time without a byte of the accepting server, after which a connection is closed | 5 s |
//!
//! A reader reserves memory for the bytes of a frame that have arrived, not for those that its length promises.
//! A length inside a message reserves at most 4 MiB, 256 MiB in a frame of 256 KiB or more, and 4 GiB in one of more
//! than 16 MiB. [`frame::decode`] describes two kinds of types of entries that need a limit of their own.
//!
//! # Security
//! Without TLS there is no encryption and no authentication: any program that reaches the port can
//! take part. So the transport listens on a loopback address only, unless
//! [`allow_remote`](TcpTransport::allow_remote) is called. Use a network that only the servers reach.
//!
//! With the feature `tls` and `TcpTransport::tls`, both ends of a connection present certificates. The
//! wire format above travels inside TLS 1.3. A program without the certificate of the server whose id
//! it sends gets no frame through.

mod address_book;
mod dialer;
pub mod frame;
mod handshake;
mod listener;
mod queue;
mod security;
#[cfg(test)]
mod tests;

pub use self::address_book::AddressBook;
#[cfg(feature = "tls")]
pub use self::security::{Tls, TlsError};

use self::{
    address_book::Addresses,
    dialer::Dialer,
    handshake::Announcement,
    listener::Listener,
    queue::{Counters, Queue},
    security::Security,
};
use crate::{fitting::largest_encoding, inbox::Inbox, transport::Transport};
use omnipaxos::{messages::Message, storage::Entry, util::NodeId};
use serde::{de::DeserializeOwned, Serialize};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::{AbortHandle, JoinHandle, JoinSet},
};

/// The largest frame that can be configured, in bytes.
const LARGEST_FRAME: usize = 256 * 1024 * 1024;

/// The time between two bytes of the accepting server.
const PULSE: Duration = Duration::from_secs(1);

/// The time without such a byte after which the connecting server closes a connection.
const SILENCE: Duration = Duration::from_secs(5);

/// Settings that the tasks of a transport share.
#[derive(Clone, Debug)]
struct Settings {
    /// Set when the transport starts.
    own: NodeId,
    application_version: u64,
    max_frame_bytes: usize,
    max_queued_bytes: usize,
    idle_timeout: Duration,
    /// Encoded when the transport starts.
    announcement: Arc<[u8]>,
    security: Security,
}

/// The queues of all peers, by their ids.
type Queues = Arc<Mutex<BTreeMap<NodeId, Arc<Queue>>>>;

fn lock(queues: &Queues) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Queue>>> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A [`Transport`] over TCP: see the [module](self).
#[derive(Debug)]
pub struct TcpTransport {
    book: AddressBook,
    settings: Settings,
    listen: Listen,
    announces: Vec<u8>,
    allows_remote: bool,
    queues: Queues,
    counters: Arc<Counters>,
    running: Option<Running>,
}

/// Where a transport listens.
#[derive(Debug)]
enum Listen {
    /// At the address of this server in the address book.
    AtOwnAddress,
    At(String),
    On(TcpListener),
}

impl TcpTransport {
    /// Creates a transport that connects to the servers of `book`. It listens at the address that
    /// `book` has for its own server.
    pub fn new(book: AddressBook) -> Self {
        let settings = Settings {
            own: 0,
            application_version: 0,
            max_frame_bytes: 16 * 1024 * 1024,
            max_queued_bytes: 16 * 1024 * 1024,
            idle_timeout: Duration::from_secs(60),
            announcement: Vec::new().into(),
            security: Security::none(),
        };
        Self {
            book,
            settings,
            listen: Listen::AtOwnAddress,
            announces: Vec::new(),
            allows_remote: false,
            queues: Queues::default(),
            counters: Arc::default(),
            running: None,
        }
    }

    /// Listens at this address instead, as `host:port`: for a server that the others reach through
    /// another address.
    pub fn listen_at(mut self, address: impl Into<String>) -> Self {
        self.listen = Listen::At(address.into());
        self
    }

    /// Listens with this socket instead, which is bound already.
    pub fn listener(mut self, listener: TcpListener) -> Self {
        self.listen = Listen::On(listener);
        self
    }

    /// Announces something to the other servers with each connection, such as where clients find this one. The
    /// others read it with [`AddressBook::announced`].
    ///
    /// Together with the address of this server in the book it has at most 4,094 bytes. Otherwise the start of
    /// the node fails.
    pub fn announce(mut self, content: impl Into<Vec<u8>>) -> Self {
        self.announces = content.into();
        self
    }

    /// Allows to listen at an address that other machines can reach: see the
    /// [module](self#security).
    pub fn allow_remote(mut self) -> Self {
        self.allows_remote = true;
        self
    }

    /// Sets the version of the application, which both servers of a connection must share. Raise it
    /// with each change of the entry type that old servers cannot decode. Default 0.
    pub fn application_version(mut self, version: u64) -> Self {
        self.settings.application_version = version;
        self
    }

    /// Sets the largest frame, in bytes: at least 1 KiB, at most 256 MiB. Default 16 MiB.
    ///
    /// A larger message is not sent. So the node limits the messages of its replica to less: see
    /// [`Transport::largest_message`]. An entry that may not fit is refused:
    /// [`AppendError::TooLarge`](crate::errors::AppendError::TooLarge). To choose a lower limit
    /// yourself, set [`ServerConfig::max_entry_bytes`](omnipaxos::ServerConfig::max_entry_bytes).
    /// Choose the same number at all servers.
    pub fn max_frame_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_frame_bytes = bytes.clamp(1024, LARGEST_FRAME);
        self
    }

    /// Sets how many bytes of frames may wait for one peer. If as many wait, further messages are
    /// dropped; the last frame may exceed it. Default 16 MiB.
    pub fn max_queued_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_queued_bytes = bytes;
        self
    }

    /// Sets the time after which a connection of a peer is closed: the time between two frames, and for
    /// each 256 KiB of a frame, or its rest. Default 60 s. Each server sends heartbeats, so a live
    /// connection is never silent for long.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = timeout;
        self
    }

    /// Secures all connections with TLS, and checks the certificates of the other servers. All servers
    /// of a cluster must do so. Then it may listen at an address that other machines can reach.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.settings.security = Security::tls(tls);
        self
    }

    /// Returns a view of the counters of this transport, which can be kept after the start.
    pub fn counters(&self) -> TcpCounters {
        TcpCounters(self.counters.clone())
    }

    async fn bind(&mut self, own: NodeId) -> io::Result<TcpListener> {
        let listen = std::mem::replace(&mut self.listen, Listen::AtOwnAddress);
        let (listener, address) = match listen {
            // It belongs to the runtime in which it was bound, which may end before this one.
            Listen::On(listener) => (TcpListener::from_std(listener.into_std()?)?, None),
            Listen::At(address) => (bind(&address).await?, Some(address)),
            Listen::AtOwnAddress => {
                let address = self.book.get(own).ok_or_else(|| {
                    let text = format!("server {own} has no address in the address book");
                    io::Error::new(io::ErrorKind::NotFound, text)
                })?;
                (bind(&address).await?, Some(address))
            }
        };
        let bound: SocketAddr = listener.local_addr()?;
        let is_safe = bound.ip().is_loopback() || self.settings.security.is_authenticated();
        if is_safe || self.allows_remote {
            return Ok(listener);
        }
        let address = address.unwrap_or_else(|| bound.to_string());
        let text = format!(
            "{address} can be reached from other machines, and connections are neither encrypted \
             nor authenticated: call `allow_remote` if only the servers reach this network"
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

async fn bind(address: &str) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|cause| {
        io::Error::new(cause.kind(), format!("cannot listen at {address}: {cause}"))
    })
}

/// What a [`TcpTransport`] has dropped and refused since its creation.
#[derive(Clone, Debug)]
pub struct TcpCounters(Arc<Counters>);

impl TcpCounters {
    /// Returns the number of messages that were dropped because the queue of their receiver was
    /// full. Messages to a server without a connection do not count.
    pub fn dropped_messages(&self) -> u64 {
        self.0.dropped.get()
    }

    /// Returns the number of messages that were dropped because they exceed a frame, or cannot be
    /// encoded.
    pub fn too_large_messages(&self) -> u64 {
        self.0.too_large.get()
    }

    /// Returns the number of incoming connections that were refused by the handshake, or closed before it.
    pub fn refused_connections(&self) -> u64 {
        self.0.refused.get()
    }

    /// Returns the number of incoming connections that were closed because of a malformed frame.
    pub fn malformed_frames(&self) -> u64 {
        self.0.malformed.get()
    }
}

impl<T> Transport<T> for TcpTransport
where
    T: Entry + Serialize + DeserializeOwned + Send + 'static,
    T::Snapshot: Send,
    Message<T>: Send,
{
    async fn start(&mut self, own: NodeId, inbox: Inbox<T>) -> io::Result<()> {
        self.settings.own = own;
        let address = self.book.get(own).unwrap_or_default();
        let announcement = Announcement { address, content: std::mem::take(&mut self.announces) };
        let announcement = announcement.encode().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the announcement exceeds 4,096 bytes")
        })?;
        self.settings.announcement = announcement.into();
        let listener = self.bind(own).await?;
        let listener = Listener::new(
            listener,
            self.settings.clone(),
            self.book.clone(),
            inbox.clone(),
            self.counters.clone(),
        );
        let peers = Peers {
            settings: self.settings.clone(),
            queues: self.queues.clone(),
            dialers: JoinSet::new(),
            tasks: BTreeMap::new(),
            book: self.book.clone(),
            inbox,
        };
        let (stop, is_stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, peers, self.book.clone(), is_stopped));
        self.running = Some(Running { stop, task });
        Ok(())
    }

    fn send(&mut self, to: NodeId, messages: &mut Vec<Message<T>>) {
        let queue = lock(&self.queues).get(&to).cloned();
        match queue {
            Some(queue) => queue.push(messages.drain(..), &self.settings, &self.counters),
            None => {
                tracing::debug!("dropped messages to server {to}, which has no address");
                messages.clear();
            }
        }
    }

    fn largest_message(&self) -> Option<usize> {
        Some(self.settings.max_frame_bytes)
    }

    fn check_entry(&self, entry: &T) -> Result<(), String> {
        let (encoded, hint) = (frame::check(entry)?, entry.size_hint());
        let frame = self.settings.max_frame_bytes;
        match encoded <= largest_encoding(hint, frame) {
            true => Ok(()),
            false => Err(format!(
                "it takes {encoded} bytes encoded, more than one and a half times the {hint} that \
                 `Entry::size_hint` returns. So messages of such entries may exceed a frame ({frame} bytes). \
                 Let `size_hint` count the memory that an entry owns, or return the encoded size"
            )),
        }
    }

    async fn stop(&mut self) {
        if let Some(Running { stop, task }) = self.running.take() {
            // It is closed if the task has ended.
            let _ = stop.send(());
            let _ = task.await;
        }
    }
}

/// The task that serves both directions.
#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Serves both directions until it is stopped, the transport is dropped, or the node has ended. Then all
/// connections are closed.
async fn serve<T>(
    mut listener: Listener<T>,
    mut peers: Peers<T>,
    book: AddressBook,
    mut is_stopped: oneshot::Receiver<()>,
) where
    T: Entry + DeserializeOwned + Send + 'static,
    T::Snapshot: Send,
    Message<T>: Send,
{
    let mut addresses = book.subscribe();
    let inbox = peers.inbox.clone();
    loop {
        let now = addresses.borrow_and_update().clone();
        peers.follow(&now);
        listener.follow(&now);
        tokio::select! {
            () = listener.accept_all() => {}
            changed = addresses.changed() => if changed.is_err() {
                break;
            },
            () = inbox.closed() => break,
            // Also if the transport was dropped.
            _ = &mut is_stopped => break,
        }
    }
    peers.dialers.shutdown().await;
    listener.close().await;
}

/// The outgoing connections.
struct Peers<T: Entry> {
    settings: Settings,
    queues: Queues,
    dialers: JoinSet<()>,
    /// The address of each peer, and the task that keeps a connection to it.
    tasks: BTreeMap<NodeId, (String, AbortHandle)>,
    book: AddressBook,
    inbox: Inbox<T>,
}

impl<T> Peers<T>
where
    T: Entry + Send + 'static,
    Message<T>: Send,
{
    /// Begins and ends connections, so that they are those of the address book.
    fn follow(&mut self, addresses: &Addresses) {
        let own = self.settings.own;
        let mut queues = lock(&self.queues);
        self.tasks.retain(|peer, (address, task)| {
            let stays = addresses.get(*peer) == Some(address);
            if !stays {
                task.abort();
                if queues.remove(peer).is_some_and(|queue| queue.is_connected()) {
                    let (inbox, peer) = (self.inbox.clone(), *peer);
                    // It fails if the node has ended.
                    let report = async move {
                        let _ = inbox.lost(peer).await;
                    };
                    self.dialers.spawn(report);
                }
            }
            stays
        });
        while self.dialers.try_join_next().is_some() {}
        for (peer, address) in addresses.iter().filter(|(peer, _)| *peer != own) {
            if self.tasks.contains_key(&peer) {
                continue;
            }
            let queue = Arc::new(Queue::default());
            let dialer = Dialer {
                settings: self.settings.clone(),
                peer,
                address: address.clone(),
                queue: queue.clone(),
                book: self.book.clone(),
                inbox: self.inbox.clone(),
            };
            let task = self.dialers.spawn(dialer.run());
            queues.insert(peer, queue);
            self.tasks.insert(peer, (address.clone(), task));
        }
    }
}
