//! The connections of clients to a server.

use crate::{
    frame::{self, FrameError, Kind},
    Input, Wire,
};
use anyhow::{Context, Result};
use serde::{de::DeserializeOwned, Serialize};
use std::time::Duration;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        tcp::{OwnedReadHalf, OwnedWriteHalf},
        TcpListener, TcpStream,
    },
    sync::mpsc,
    time::sleep,
};
use tracing::{debug, warn};

/// Answers that wait for one client.
const ANSWERS: usize = 4096;

/// Frames are gathered up to this size before they are written.
const GATHER: usize = 64 * 1024;

/// Listens at an address.
///
/// # Errors
/// It cannot.
pub async fn bind(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))
}

/// Accepts clients, forever. A request that is longer than a frame may be is not read, but answered
/// with what `refuse` makes of the reason; `None` closes the connection.
///
/// # Errors
/// None: it never ends.
pub async fn listen<T, Q, A>(
    listener: TcpListener,
    inputs: mpsc::Sender<Input<T, Q, A>>,
    refuse: fn(&FrameError) -> Option<A>,
) -> Result<()>
where
    T: Wire,
    Q: DeserializeOwned + Send + Sync + 'static,
    A: Serialize + Send + Sync + 'static,
{
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
            match serve(stream, inputs, refuse).await {
                Ok(()) => debug!("client at {from} is done"),
                Err(cause) => warn!("closed the client connection from {from}: {cause:#}"),
            }
        });
    }
}

/// Serves one client. Ends when either direction does.
async fn serve<T, Q, A>(
    stream: TcpStream,
    inputs: mpsc::Sender<Input<T, Q, A>>,
    refuse: fn(&FrameError) -> Option<A>,
) -> Result<()>
where
    T: Wire,
    Q: DeserializeOwned + Send + Sync + 'static,
    A: Serialize + Send + Sync + 'static,
{
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let (answers, receiver) = mpsc::channel(ANSWERS);
    tokio::select! {
        read = read_requests(reader, inputs, answers, refuse) => read,
        written = write_answers(writer, receiver) => written,
    }
}

async fn read_requests<T, Q, A>(
    reader: OwnedReadHalf,
    inputs: mpsc::Sender<Input<T, Q, A>>,
    answers: mpsc::Sender<A>,
    refuse: fn(&FrameError) -> Option<A>,
) -> Result<()>
where
    T: Wire,
    Q: DeserializeOwned + Send + Sync + 'static,
    A: Serialize + Send + Sync + 'static,
{
    let mut reader = BufReader::new(reader);
    let mut body = Vec::new();
    loop {
        match frame::read::<Q, _>(&mut reader, Kind::Request, &mut body).await {
            Ok(Some(request)) => {
                let input = Input::Client(request, answers.clone());
                inputs.send(input).await.context("the server stops")?;
            }
            Ok(None) => return Ok(()),
            Err(too_long @ FrameError::TooLong(length)) => {
                let answer = refuse(&too_long).ok_or(too_long)?;
                answers.send(answer).await.context("nobody takes answers")?;
                // Its sender reads no answer before it has sent all.
                frame::skip(&mut reader, length).await?;
            }
            Err(cause) => return Err(cause.into()),
        }
    }
}

async fn write_answers<A: Serialize>(
    mut writer: OwnedWriteHalf,
    mut answers: mpsc::Receiver<A>,
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
