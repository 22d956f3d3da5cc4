//! The connections between servers.
//!
//! Each server dials each other and sends on that connection only; what it receives comes on the
//! connections that the others opened. So there is one writer and one reader to a connection, and
//! nobody has to agree on which of two connections to keep.
//!
//! The first frame of a connection names its sender and where that listens, for servers and for clients.
//! So a server that is in no configuration file, as an observer, can be answered, and each server can
//! report to its clients where they find the others.

use crate::{
    frame::{self, FrameError, Kind},
    Input, Wire,
};
use anyhow::{bail, Context, Result};
use omnipaxos::{messages::Message, util::NodeId};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex, MutexGuard, PoisonError,
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

/// Messages that wait for one peer. When it is full, messages are dropped: the library sends again
/// what matters, and a slow peer must not cost memory.
const OUTBOX: usize = 4096;

/// Frames are gathered up to this size before they are written.
const GATHER: usize = 256 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The number of failed attempts in a row after which a server that is in no configuration file is forgotten.
const ATTEMPTS: u32 = 60;

/// The sending ends, one for each other server.
#[derive(Clone, Debug)]
pub struct Peers<T: Wire> {
    own: Arc<Hello>,
    /// The most servers that are in no configuration file.
    most_strangers: usize,
    outboxes: Arc<Mutex<BTreeMap<NodeId, Outbox<T>>>>,
    /// Where clients find the servers that have connected here.
    for_clients: Arc<Mutex<BTreeMap<NodeId, String>>>,
}

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hello {
    pid: NodeId,
    /// Where this server listens for others.
    address: String,
    /// Where this server listens for clients, if it reports that.
    for_clients: Option<String>,
}

#[derive(Debug)]
struct Outbox<T: Wire> {
    address: String,
    /// Whether no configuration names it. Then its dialer ends after a number of failed attempts.
    is_stranger: Arc<AtomicBool>,
    messages: mpsc::Sender<Message<T>>,
}

impl<T: Wire> Peers<T> {
    /// Starts to connect to all servers but `own`, which must have an address. Answers up to
    /// `most_strangers` servers besides.
    pub fn connect<Q, A>(
        own: NodeId,
        addresses: &BTreeMap<NodeId, String>,
        most_strangers: usize,
        inputs: &mpsc::Sender<Input<T, Q, A>>,
    ) -> Self
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        Self::connect_serving(own, None, addresses, most_strangers, inputs)
    }

    /// Does the same as [`connect`](Self::connect), and reports to the other servers where clients find
    /// this one.
    pub fn connect_serving<Q, A>(
        own: NodeId,
        for_clients: Option<String>,
        addresses: &BTreeMap<NodeId, String>,
        most_strangers: usize,
        inputs: &mpsc::Sender<Input<T, Q, A>>,
    ) -> Self
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        let address = addresses.get(&own).cloned().unwrap_or_default();
        let own = Arc::new(Hello { pid: own, address, for_clients });
        let peers =
            Self { own, most_strangers, outboxes: Arc::default(), for_clients: Arc::default() };
        peers.follow(addresses, inputs);
        peers
    }

    /// Connects to the servers of a configuration, at these addresses. The others that are known become
    /// strangers: they are forgotten once they cannot be reached for long.
    pub fn follow<Q, A>(
        &self,
        addresses: &BTreeMap<NodeId, String>,
        inputs: &mpsc::Sender<Input<T, Q, A>>,
    ) where
        Q: Send + 'static,
        A: Send + 'static,
    {
        let mut outboxes = self.lock();
        for (pid, outbox) in outboxes.iter() {
            outbox.is_stranger.store(!addresses.contains_key(pid), Ordering::Relaxed);
        }
        for (pid, address) in addresses.iter().filter(|(pid, _)| **pid != self.own.pid) {
            self.dial(&mut outboxes, *pid, address, false, inputs);
        }
    }

    /// Connects to a server that no configuration names yet.
    pub fn invite<Q, A>(&self, pid: NodeId, address: &str, inputs: &mpsc::Sender<Input<T, Q, A>>)
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        let mut outboxes = self.lock();
        let is_stranger = |known: &Outbox<T>| known.is_stranger.load(Ordering::Relaxed);
        if pid != self.own.pid && outboxes.get(&pid).is_none_or(is_stranger) {
            self.dial(&mut outboxes, pid, address, true, inputs);
        }
    }

    /// Returns where clients find the servers that have connected here, and this one.
    pub fn for_clients(&self) -> BTreeMap<NodeId, String> {
        let mut addresses = self.for_clients.lock().unwrap_or_else(PoisonError::into_inner).clone();
        addresses.extend(self.own.for_clients.clone().map(|own| (self.own.pid, own)));
        addresses
    }

    /// Starts to connect to a server, unless that is under way at this address.
    fn dial<Q, A>(
        &self,
        outboxes: &mut BTreeMap<NodeId, Outbox<T>>,
        peer: NodeId,
        address: &str,
        is_stranger: bool,
        inputs: &mpsc::Sender<Input<T, Q, A>>,
    ) where
        Q: Send + 'static,
        A: Send + 'static,
    {
        let is_same = |known: &Outbox<T>| known.address == address && !known.messages.is_closed();
        if outboxes.get(&peer).is_some_and(is_same) {
            return;
        }
        let (messages, receiver) = mpsc::channel(OUTBOX);
        let (address, is_stranger) = (address.to_owned(), Arc::new(AtomicBool::new(is_stranger)));
        let dialer = Dialer {
            own: self.own.clone(),
            peer,
            address: address.clone(),
            is_stranger: is_stranger.clone(),
        };
        outboxes.insert(peer, Outbox { address, is_stranger, messages });
        tokio::spawn(dialer.run(receiver, inputs.clone()));
    }

    /// A server has connected. A server that is in no configuration is dialled, so that it is answered.
    ///
    /// # Errors
    /// There is no place for it.
    fn meet<Q, A>(&self, hello: &Hello, inputs: &mpsc::Sender<Input<T, Q, A>>) -> Result<()>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        let Hello { pid, address, for_clients } = hello;
        let mut outboxes = self.lock();
        outboxes.retain(|_, outbox| !outbox.messages.is_closed());
        let is_stranger = |outbox: &Outbox<T>| outbox.is_stranger.load(Ordering::Relaxed);
        match outboxes.get(pid) {
            Some(known) if !is_stranger(known) || known.address == *address => {}
            Some(_) => self.dial(&mut outboxes, *pid, address, true, inputs),
            None => {
                let strangers = outboxes.values().filter(|outbox| is_stranger(outbox)).count();
                if *pid == self.own.pid || strangers >= self.most_strangers {
                    bail!("server {pid} is not known here, and there is no place for it");
                }
                info!("server {pid} is in no configuration, and is answered at {address}");
                self.dial(&mut outboxes, *pid, address, true, inputs);
            }
        }
        let mut known = self.for_clients.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|pid, _| outboxes.contains_key(pid));
        if let Some(for_clients) = for_clients {
            known.insert(*pid, for_clients.clone());
        }
        Ok(())
    }

    /// Sends a message to its receiver, or drops it.
    pub fn send(&self, message: Message<T>) {
        let to = message.get_receiver();
        let outboxes = self.lock();
        let Some(outbox) = outboxes.get(&to) else {
            return debug!("a message for server {to}, which is not known here");
        };
        if outbox.messages.try_send(message).is_err() {
            debug!("dropped a message: too many wait for server {to}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Outbox<T>>> {
        self.outboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a connection to one peer.
struct Dialer {
    own: Arc<Hello>,
    peer: NodeId,
    address: String,
    /// Whether it ends after [`ATTEMPTS`].
    is_stranger: Arc<AtomicBool>,
}

impl Dialer {
    async fn run<T: Wire, Q, A>(
        self,
        mut messages: mpsc::Receiver<Message<T>>,
        inputs: mpsc::Sender<Input<T, Q, A>>,
    ) {
        let mut pause = FIRST_PAUSE;
        let mut failed = 0;
        let gives_up = |failed| failed >= ATTEMPTS && self.is_stranger.load(Ordering::Relaxed);
        while !messages.is_closed() && !gives_up(failed) {
            failed = failed.saturating_add(1);
            if let Ok(Ok(stream)) =
                timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await
            {
                info!("connected to server {} at {}", self.peer, self.address);
                (pause, failed) = (FIRST_PAUSE, 0);
                match self.serve(stream, &mut messages, &inputs).await {
                    Ok(()) => return,
                    Err(cause) => info!("lost server {}: {cause:#}", self.peer),
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends until the connection breaks; `Ok` when there is nobody left who has something to send.
    async fn serve<T: Wire, Q, A>(
        &self,
        stream: TcpStream,
        messages: &mut mpsc::Receiver<Message<T>>,
        inputs: &mpsc::Sender<Input<T, Q, A>>,
    ) -> Result<()> {
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = stream.into_split();
        // What was meant for the time without connection is stale; the library sends it again.
        while messages.try_recv().is_ok() {}
        let mut frames = Vec::new();
        frame::encode(Kind::Hello, &*self.own, &mut frames)?;
        if inputs.send(Input::Connected(self.peer)).await.is_err() {
            return Ok(());
        }
        let mut nothing = [0; 1];
        loop {
            writer.write_all(&frames).await?;
            frames.clear();
            let first = tokio::select! {
                message = messages.recv() => message,
                read = reader.read(&mut nothing) => match read? {
                    0 => bail!("it closed the connection"),
                    _ => bail!("it spoke where it should listen"),
                },
            };
            let Some(first) = first else {
                return Ok(());
            };
            self.encode(&first, &mut frames);
            while frames.len() < GATHER {
                match messages.try_recv() {
                    Ok(message) => self.encode(&message, &mut frames),
                    Err(_) => break,
                }
            }
        }
    }

    fn encode<T: Wire>(&self, message: &Message<T>, frames: &mut Vec<u8>) {
        if let Err(cause) = frame::encode(Kind::Peer, message, frames) {
            warn!("cannot send a message to server {}: {cause}", self.peer);
        }
    }
}

/// Accepts the connections of other servers, forever.
///
/// # Errors
/// None: it never ends.
pub async fn listen<T, Q, A>(
    peers: Peers<T>,
    listener: TcpListener,
    inputs: mpsc::Sender<Input<T, Q, A>>,
) -> Result<()>
where
    T: Wire,
    Q: Send + Sync + 'static,
    A: Send + Sync + 'static,
{
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(cause) => {
                // Out of descriptors, most likely: others must end first.
                warn!("cannot accept a server: {cause}");
                sleep(LONGEST_PAUSE).await;
                continue;
            }
        };
        let (peers, inputs) = (peers.clone(), inputs.clone());
        tokio::spawn(async move {
            match receive(&peers, stream, &inputs).await {
                Ok(()) => debug!("server at {from} closed its connection"),
                Err(cause) => warn!("closed the server connection from {from}: {cause:#}"),
            }
        });
    }
}

async fn receive<T, Q, A>(
    peers: &Peers<T>,
    stream: TcpStream,
    inputs: &mpsc::Sender<Input<T, Q, A>>,
) -> Result<()>
where
    T: Wire,
    Q: Send + Sync + 'static,
    A: Send + Sync + 'static,
{
    let mut reader = BufReader::new(stream);
    let mut body = Vec::new();
    let hello: Option<Hello> = frame::read(&mut reader, Kind::Hello, &mut body).await?;
    let Some(hello) = hello else {
        return Ok(());
    };
    peers.meet(&hello, inputs)?;
    let (own, peer) = (peers.own.pid, hello.pid);
    // It may have sent messages on an earlier connection that never came.
    inputs.send(Input::Connected(peer)).await.context("the server stops")?;
    while let Some(message) = read_message(&mut reader, &mut body).await? {
        let (from, to) = (message.get_sender(), message.get_receiver());
        if from != peer || to != own {
            bail!("server {peer} sent a message from {from} to {to}");
        }
        inputs.send(Input::Peer(message)).await.context("the server stops")?;
    }
    Ok(())
}

async fn read_message<T: Wire>(
    reader: &mut BufReader<TcpStream>,
    body: &mut Vec<u8>,
) -> Result<Option<Message<T>>, FrameError> {
    frame::read(reader, Kind::Peer, body).await
}
