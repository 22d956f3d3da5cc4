//! A server: its listeners and the task that owns the replica.

use crate::{
    config::Config,
    frame::{self, Kind},
    peers::{self, Peers},
    protocol::{Request, Response},
    replica::{Input, Replica},
};
use anyhow::{Context, Result};
use std::time::Duration;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        tcp::{OwnedReadHalf, OwnedWriteHalf},
        TcpListener, TcpStream,
    },
    sync::{mpsc, oneshot},
    time::sleep,
};
use tracing::{debug, info, warn};

/// Inputs that wait for the replica; whoever has more waits.
const INPUTS: usize = 8192;

/// Answers that wait for one client.
const ANSWERS: usize = 4096;

/// Frames are gathered up to this size before they are written.
const GATHER: usize = 64 * 1024;

/// Serves until something breaks.
pub(crate) async fn run(config: Config) -> Result<()> {
    let own = config.pid();
    let own_address = config.peers.get(&own).context("no address for this server")?;
    let for_peers = bind(own_address).await?;
    let for_clients = bind(&config.client_address).await?;
    info!("server {own} serves clients at {}", config.client_address);

    let (inputs, receiver) = mpsc::channel(INPUTS);
    let peers = Peers::connect(own, &config.peers, &inputs);
    let replica = Replica::new(&config, peers)?;
    tokio::select! {
        stopped = replica.run(receiver) => stopped,
        stopped = peers::listen(own, for_peers, inputs.clone()) => stopped,
        stopped = listen(for_clients, inputs) => stopped,
    }
}

/// Returns when the standard input ends. With this, a server that another process has started and
/// holds the other end of does not outlive it, however that process ends.
pub(crate) async fn stdin_closed() {
    let (sender, closed) = oneshot::channel::<()>();
    // Not a task: the runtime would wait for the read, and a server that fails would not end.
    std::thread::spawn(move || {
        let read = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        debug!("the standard input ended: {read:?}");
        drop(sender);
    });
    drop(closed.await);
}

async fn bind(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))
}

/// Accepts clients, for ever.
async fn listen(listener: TcpListener, inputs: mpsc::Sender<Input>) -> Result<()> {
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(cause) => {
                // Out of descriptors, most likely: others must end first.
                warn!("cannot accept a client: {cause}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let inputs = inputs.clone();
        tokio::spawn(async move {
            match serve(stream, inputs).await {
                Ok(()) => debug!("client at {from} is done"),
                Err(cause) => warn!("closed the client connection from {from}: {cause:#}"),
            }
        });
    }
}

/// Serves one client. Ends when either direction does.
async fn serve(stream: TcpStream, inputs: mpsc::Sender<Input>) -> Result<()> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let (answers, receiver) = mpsc::channel(ANSWERS);
    tokio::select! {
        read = read_requests(reader, inputs, answers) => read,
        written = write_answers(writer, receiver) => written,
    }
}

async fn read_requests(
    reader: OwnedReadHalf,
    inputs: mpsc::Sender<Input>,
    answers: mpsc::Sender<Response>,
) -> Result<()> {
    let mut reader = BufReader::new(reader);
    let mut body = Vec::new();
    while let Some(request) =
        frame::read::<Request, _>(&mut reader, Kind::Request, &mut body).await?
    {
        let input = Input::Client(request, answers.clone());
        inputs.send(input).await.context("the server stops")?;
    }
    Ok(())
}

async fn write_answers(
    mut writer: OwnedWriteHalf,
    mut answers: mpsc::Receiver<Response>,
) -> Result<()> {
    let mut frames = Vec::new();
    while let Some(first) = answers.recv().await {
        frame::encode(Kind::Response, &first, &mut frames)?;
        while frames.len() < GATHER {
            match answers.try_recv() {
                Ok(response) => frame::encode(Kind::Response, &response, &mut frames)?,
                Err(_) => break,
            }
        }
        writer.write_all(&frames).await?;
        frames.clear();
    }
    Ok(())
}
