//! The connections of clients to a server.

use crate::{protocol::Response, service::Service};
use anyhow::{Context, Result};
use example_common::frame::{self, FrameError, Kind};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        tcp::{OwnedReadHalf, OwnedWriteHalf},
        TcpListener, TcpStream,
    },
    sync::mpsc,
    task::JoinSet,
    time::sleep,
};
use tracing::{debug, warn};

/// Answers that wait for one client. One that does not read them waits for its next ones.
const ANSWERS: usize = 4096;

/// Requests of one client under way. Further ones are not read before.
const REQUESTS: usize = 1024;

/// Frames are gathered up to this size before they are written.
const GATHER: usize = 64 * 1024;

/// Accepts clients, until the server ends.
pub(crate) async fn listen(listener: TcpListener, service: Arc<Service>) -> Infallible {
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
        let service = service.clone();
        tokio::spawn(async move {
            match serve(stream, &service).await {
                Ok(()) => debug!("client at {from} is done"),
                Err(cause) => warn!("closed the client connection from {from}: {cause:#}"),
            }
        });
    }
}

/// Serves one client. Ends when either direction does, and forgets what is under way.
async fn serve(stream: TcpStream, service: &Arc<Service>) -> Result<()> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let (answers, receiver) = mpsc::channel(ANSWERS);
    tokio::select! {
        read = read_requests(reader, service, answers) => read,
        written = write_answers(writer, receiver) => written,
    }
}

async fn read_requests(
    reader: OwnedReadHalf,
    service: &Arc<Service>,
    answers: mpsc::Sender<Response>,
) -> Result<()> {
    let mut reader = BufReader::new(reader);
    let mut body = Vec::new();
    let mut under_way = JoinSet::new();
    loop {
        match frame::read(&mut reader, Kind::Request, &mut body).await {
            Ok(Some(request)) => service.begin(request, &answers, &mut under_way),
            Ok(None) => return Ok(()),
            Err(too_long @ FrameError::TooLong(length)) => {
                let answer = Response::to_too_long(&too_long);
                answers.send(answer).await.context("nobody takes answers")?;
                // Its sender reads no answer before it has sent all.
                frame::skip(&mut reader, length).await?;
            }
            Err(cause) => return Err(cause.into()),
        }
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= REQUESTS {
            under_way.join_next().await;
        }
    }
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
