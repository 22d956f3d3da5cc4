//! The connections between servers.
//!
//! Each server dials each other and sends on that connection only; what it receives comes on the
//! connections that the others opened. So there is one writer and one reader to a connection, and
//! nobody has to agree on which of two connections to keep.

use crate::{
    frame::{self, FrameError, Kind},
    Input, Wire,
};
use anyhow::{bail, Context, Result};
use omnipaxos::{messages::Message, util::NodeId};
use std::{collections::BTreeMap, time::Duration};
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

/// The sending ends, one for each other server.
#[derive(Debug)]
pub struct Peers<T: Wire> {
    outboxes: BTreeMap<NodeId, mpsc::Sender<Message<T>>>,
}

impl<T: Wire> Peers<T> {
    /// Starts to connect to all servers but `own`.
    pub fn connect<Q, A>(
        own: NodeId,
        addresses: &BTreeMap<NodeId, String>,
        inputs: &mpsc::Sender<Input<T, Q, A>>,
    ) -> Self
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        let mut outboxes = BTreeMap::new();
        for (peer, address) in addresses.iter().filter(|(peer, _)| **peer != own) {
            let (outbox, messages) = mpsc::channel(OUTBOX);
            outboxes.insert(*peer, outbox);
            let dialer = Dialer { own, peer: *peer, address: address.clone() };
            tokio::spawn(dialer.run(messages, inputs.clone()));
        }
        Self { outboxes }
    }

    /// Sends a message to its receiver, or drops it.
    pub fn send(&self, message: Message<T>) {
        let to = message.get_receiver();
        let Some(outbox) = self.outboxes.get(&to) else {
            return warn!("a message for server {to}, which is not known here");
        };
        if outbox.try_send(message).is_err() {
            debug!("dropped a message: too many wait for server {to}");
        }
    }
}

/// Keeps a connection to one peer.
struct Dialer {
    own: NodeId,
    peer: NodeId,
    address: String,
}

impl Dialer {
    async fn run<T: Wire, Q, A>(
        self,
        mut messages: mpsc::Receiver<Message<T>>,
        inputs: mpsc::Sender<Input<T, Q, A>>,
    ) {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Ok(Ok(stream)) =
                timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await
            {
                info!("connected to server {} at {}", self.peer, self.address);
                pause = FIRST_PAUSE;
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
        // What was meant for the time without connection is stale; the library says it anew.
        while messages.try_recv().is_ok() {}
        let mut frames = Vec::new();
        frame::encode(Kind::Hello, &self.own, &mut frames)?;
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

/// Accepts the connections of other servers, for ever.
///
/// # Errors
/// None: it goes on.
pub async fn listen<T, Q, A>(
    own: NodeId,
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
        let inputs = inputs.clone();
        tokio::spawn(async move {
            match receive(own, stream, &inputs).await {
                Ok(()) => debug!("server at {from} closed its connection"),
                Err(cause) => warn!("closed the server connection from {from}: {cause:#}"),
            }
        });
    }
}

async fn receive<T, Q, A>(
    own: NodeId,
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
    let hello: Option<NodeId> = frame::read(&mut reader, Kind::Hello, &mut body).await?;
    let Some(peer) = hello else {
        return Ok(());
    };
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
