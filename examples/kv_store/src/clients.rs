//! The connections of clients to a server.

use crate::{
    answers::{Answers, Waiting},
    listener::serve_each,
    protocol::{Request, Response},
    service::{Service, UnderWay},
};
use anyhow::{Context, Result};
use example_common::{
    frame::{self, FrameError, Kind},
    keep_alive,
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{tcp::OwnedReadHalf, TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tracing::{debug, warn};

/// Frames are gathered up to this size before they are written.
const GATHER: usize = 64 * 1024;

/// Clients that are connected. Further ones are not accepted before one of these has gone.
const CLIENTS: usize = 512;

/// The time that a client may take to send a request of which the first byte has arrived, and to read what
/// was written to it at once.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(60);

/// Accepts clients, until the server ends.
pub(crate) async fn listen(listener: TcpListener, service: Arc<Service>) -> Infallible {
    let serve_one = |stream, from| {
        let service = service.clone();
        async move {
            match serve(stream, &service).await {
                Ok(()) => debug!("client at {from} is done"),
                Err(cause) => warn!("closed the client connection from {from}: {cause:#}"),
            }
        }
    };
    serve_each(listener, CLIENTS, "a client", serve_one).await
}

/// Serves one client. Ends when either direction does, and forgets what is under way.
async fn serve(stream: TcpStream, service: &Arc<Service>) -> Result<()> {
    stream.set_nodelay(true)?;
    keep_alive(&stream)?;
    let (reader, writer) = stream.into_split();
    let (answers, receiver) = Answers::new();
    tokio::select! {
        // Answers are written before further requests are read, however many the client sends.
        biased;
        written = write_answers(writer, receiver) => written,
        read = read_requests(reader, service, answers) => read,
    }
}

async fn read_requests(
    reader: OwnedReadHalf,
    service: &Arc<Service>,
    answers: Answers,
) -> Result<()> {
    let mut reader = BufReader::new(reader);
    let mut body = Vec::new();
    let mut under_way = UnderWay::default();
    loop {
        match under_way.beside(read_request(&mut reader, &mut body)).await? {
            Read::Request(request) => service.begin(request, &answers, &mut under_way),
            Read::End => return Ok(()),
            Read::TooLong(length) => {
                let answer = Response::to_too_long(&FrameError::TooLong(length));
                under_way.beside(answers.send(answer)).await;
                // Its sender reads no answer before it has sent all.
                let skipping = timeout(TRANSFER_TIMEOUT, frame::skip(&mut reader, length));
                under_way.beside(skipping).await.context("it sends too slowly")??;
            }
        }
        tokio::select! {
            biased;
            () = under_way.may_grow() => {}
            () = until_closed(reader.get_mut()) => return Ok(()),
        }
    }
}

/// Waits until the client has closed the connection. Without end if it has sent something before.
async fn until_closed(reader: &mut OwnedReadHalf) {
    match reader.peek(&mut [0]).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

/// What a client has sent.
enum Read {
    Request(Request),
    End,
    /// A frame that is too long, of which the length was read.
    TooLong(usize),
}

/// Waits for a request without a limit, and reads it within one.
async fn read_request<R: AsyncBufRead + Unpin>(reader: &mut R, body: &mut Vec<u8>) -> Result<Read> {
    reader.fill_buf().await?;
    let reading = frame::read(reader, Kind::Request, body);
    match timeout(TRANSFER_TIMEOUT, reading).await.context("it sends too slowly")? {
        Ok(Some(request)) => Ok(Read::Request(request)),
        Ok(None) => Ok(Read::End),
        Err(FrameError::TooLong(length)) => Ok(Read::TooLong(length)),
        Err(cause) => Err(cause.into()),
    }
}

async fn write_answers<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut answers: mpsc::Receiver<Waiting>,
) -> Result<()> {
    let (mut frames, mut written) = (Vec::new(), Vec::new());
    while let Some(first) = answers.recv().await {
        let mut next = Some(first);
        while let Some(Waiting { response, room }) = next {
            frame::encode(Kind::Response, &response, &mut frames)?;
            written.push(room);
            let has_more = frames.len() < GATHER;
            next = if has_more { answers.try_recv().ok() } else { None };
        }
        let writing = writer.write_all(&frames);
        timeout(TRANSFER_TIMEOUT, writing).await.context("it reads too slowly")??;
        written.clear();
        frames.clear();
        frames.shrink_to(2 * GATHER);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{read_request, write_answers, Answers, Read, TRANSFER_TIMEOUT};
    use crate::protocol::{Answer, Ask, Request, Response};
    use example_common::frame::{self, Kind};
    use std::time::Duration;
    use tokio::{
        io::{duplex, AsyncWriteExt, BufReader},
        time::{sleep, timeout, Instant},
    };

    #[tokio::test(start_paused = true)]
    async fn a_client_may_be_silent_but_not_within_a_request() {
        let (mut client, server) = duplex(64);
        let (mut reader, mut body) = (BufReader::new(server), Vec::new());
        let mut bytes = Vec::new();
        let request = Request { client: 1, number: 2, oldest: 2, ask: Ask::Status };
        frame::encode(Kind::Request, &request, &mut bytes).unwrap();
        let silent = timeout(100 * TRANSFER_TIMEOUT, read_request(&mut reader, &mut body));
        assert!(silent.await.is_err(), "it waits");
        client.write_all(&bytes).await.unwrap();
        let read = read_request(&mut reader, &mut body).await;
        assert!(matches!(read, Ok(Read::Request(read)) if read == request));
        let begun = Instant::now();
        let sending = async {
            for byte in &bytes[..bytes.len() - 1] {
                client.write_all(&[*byte]).await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            read = read_request(&mut reader, &mut body) => assert!(read.is_err()),
            () = sending => {}
        }
        assert_eq!(begun.elapsed(), TRANSFER_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_left() {
        let (_client, server) = duplex(1024);
        let (answers, receiver) = Answers::new();
        for number in 0..2 {
            let answer = Answer::Value(Some("x".repeat(1000).into()));
            answers.send(Response { number, answer }).await;
        }
        let written = timeout(10 * TRANSFER_TIMEOUT, write_answers(server, receiver)).await;
        assert!(written.expect("it waits for ever").is_err());
    }
}
