//! A server: its listeners and the task that owns the replica.

use crate::{
    config::Config,
    frame::{self, Kind},
    peers::{self, Peers},
    protocol::{Request, Response},
    replica::{Input, Replica},
    state::Command,
};
use anyhow::{Context, Result};
use omnipaxos::storage::Storage;
use omnipaxos_storage::{
    memory_storage::MemoryStorage,
    persistent_storage::{PersistentStorage, PersistentStorageConfig},
};
use std::{future::Future, path::Path, time::Duration};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        tcp::{OwnedReadHalf, OwnedWriteHalf},
        TcpListener, TcpStream,
    },
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::sleep,
};
use tracing::{debug, info, warn};

/// Inputs that wait for the replica; whoever has more waits.
const INPUTS: usize = 8192;

/// Answers that wait for one client.
const ANSWERS: usize = 4096;

/// Frames are gathered up to this size before they are written.
const GATHER: usize = 64 * 1024;

/// Where a server keeps its log.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StorageKind {
    /// In memory. A server that has stopped has forgotten what it promised: it must not be started
    /// again under its pid while the cluster lives.
    Memory,
    /// On disk, in the data folder.
    Persistent,
}

/// Serves until `end` comes true or something breaks, and closes the storage in either case.
pub(crate) async fn run(
    config: Config,
    storage: StorageKind,
    end: impl Future<Output = Result<()>>,
) -> Result<()> {
    let own = config.pid();
    let own_address = config.peers.get(&own).context("no address for this server")?;
    let for_peers = bind(own_address).await?;
    let for_clients = bind(&config.client_address).await?;
    info!("server {own} serves clients at {}", config.client_address);

    let (inputs, receiver) = mpsc::channel(INPUTS);
    let peers = Peers::connect(own, &config.peers, &inputs);
    let (stop, stopped) = oneshot::channel();
    // A thread of its own: it waits for the disk, and the network goes on meanwhile.
    let mut replica = spawn_blocking(move || match storage {
        StorageKind::Memory => {
            let replica = Replica::new(&config, MemoryStorage::default(), peers)?;
            Handle::current().block_on(replica.run(receiver, stopped))
        }
        StorageKind::Persistent => {
            let replica = Replica::new(&config, open(&config.data)?, peers)?;
            Handle::current().block_on(replica.run(receiver, stopped))
        }
    });
    let ended = tokio::select! {
        ended = &mut replica => return ended.context("the replica panicked")?,
        ended = peers::listen(own, for_peers, inputs.clone()) => ended,
        ended = listen(for_clients, inputs) => ended,
        ended = end => ended,
    };
    drop(stop);
    replica.await.context("the replica panicked")??;
    info!("server {own} has closed its storage");
    ended
}

/// Opens the storage in a folder, which is made if it is not there.
fn open(folder: &Path) -> Result<impl Storage<Command>> {
    let name = folder.to_str();
    let name = name.with_context(|| format!("{} is not UTF-8", folder.display()))?;
    let mut config = PersistentStorageConfig::default();
    config.set_path(name);
    let storage: PersistentStorage<Command> = PersistentStorage::try_open(config)
        .with_context(|| format!("cannot open the storage in {name}"))?;
    Ok(storage)
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
