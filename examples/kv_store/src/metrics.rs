//! Serves the metrics of this process to Prometheus, over HTTP.

use crate::listener::serve_each;
use anyhow::{bail, Context, Result};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::{convert::Infallible, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
    task::spawn_blocking,
    time::{interval, timeout},
};
use tracing::debug;

/// Connections that are served. Further ones are not accepted before one of these has ended.
const CONNECTIONS: usize = 16;

/// The time that a request and its answer may take together.
const SERVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes of a request.
const LONGEST_REQUEST: u64 = 16 * 1024;

/// The time between two rounds of upkeep in the recorder.
const UPKEEP: Duration = Duration::from_secs(5);

/// Makes the recorder of the process, and serves what it has.
///
/// # Errors
/// The address cannot be used, or the process has a recorder.
pub(crate) async fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    let pages = PrometheusBuilder::new().install_recorder()?;
    let upkeep = pages.clone();
    tokio::spawn(async move {
        let mut rounds = interval(UPKEEP);
        loop {
            rounds.tick().await;
            upkeep.run_upkeep();
        }
    });
    tokio::spawn(listen(listener, pages));
    Ok(())
}

async fn listen(listener: TcpListener, pages: PrometheusHandle) -> Infallible {
    let serve_one = |stream, from| {
        let pages = pages.clone();
        async move {
            if let Err(cause) = answer_in_time(stream, pages).await {
                debug!("did not serve metrics to {from}: {cause:#}");
            }
        }
    };
    serve_each(listener, CONNECTIONS, "a connection for metrics", serve_one).await
}

async fn answer_in_time<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    pages: PrometheusHandle,
) -> Result<()> {
    timeout(SERVE_TIMEOUT, answer(stream, pages)).await.context("the other end is too slow")?
}

/// Reads a request, and answers it with a page.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    pages: PrometheusHandle,
) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let method_and_path = read_request(&mut stream).await?;
    let (method, path) = method_and_path.split_once(' ').context("it is not HTTP")?;
    let (status, mut page) = match (method, path) {
        ("GET" | "HEAD", "/metrics" | "/") => {
            ("200 OK", spawn_blocking(move || pages.render()).await?)
        }
        _ => ("404 Not Found", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        page.len()
    );
    if method == "HEAD" {
        page.clear();
    }
    stream.write_all((head + &page).as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

/// Reads a request up to the end of its head, and returns its method and path.
async fn read_request(stream: impl AsyncBufReadExt + Unpin) -> Result<String> {
    let mut lines = stream.take(LONGEST_REQUEST).lines();
    let first = lines.next_line().await?.context("there is no request")?;
    loop {
        match lines.next_line().await?.as_deref() {
            Some("") => break,
            Some(_header) => {}
            None => bail!("the request has no end"),
        }
    }
    let (request, _version) = first.rsplit_once(' ').context("it is not HTTP")?;
    Ok(request.split_once('?').map_or(request, |(path, _query)| path).to_owned())
}

#[cfg(test)]
mod tests {
    use super::{answer_in_time, listen, CONNECTIONS, SERVE_TIMEOUT};
    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
    use std::time::Duration;
    use tokio::{
        io::{duplex, AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time::{timeout, Instant},
    };

    const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n";

    fn pages() -> PrometheusHandle {
        PrometheusBuilder::new().build_recorder().handle()
    }

    /// Sends a request, and returns the answer.
    async fn ask(request: &[u8]) -> String {
        let (mut client, server) = duplex(1024);
        client.write_all(request).await.unwrap();
        client.shutdown().await.unwrap();
        // A request that is none has no answer.
        let _ = answer_in_time(server, pages()).await;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_answered_and_what_is_none_is_not() {
        for path in ["/", "/metrics", "/metrics?name=x"] {
            let answer = ask(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await;
            let (head, page) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains(&format!("Content-Length: {}\r\n", page.len())), "{head}");
        }
        let head = ask(b"HEAD /metrics HTTP/1.1\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(ask(b"POST /metrics HTTP/1.1\r\n\r\n").await.contains(" 404 "));
        for none in [&b""[..], b"GET /metrics HTTP/1.1\r\n", b"GET\r\n\r\n", b"\xff\r\n\r\n"] {
            assert_eq!(ask(none).await, "");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_long_or_is_long_is_dropped() {
        let (_client, server) = duplex(1024);
        let begun = Instant::now();
        assert!(answer_in_time(server, pages()).await.is_err());
        assert_eq!(begun.elapsed(), SERVE_TIMEOUT);
        let (mut client, server) = duplex(1024);
        let sends = async move {
            loop {
                // It fails once the server has left.
                if client.write_all(b"x: y\r\n").await.is_err() {
                    return;
                }
            }
        };
        let (served, ()) = tokio::join!(answer_in_time(server, pages()), sends);
        assert!(served.is_err());
        assert_eq!(begun.elapsed(), SERVE_TIMEOUT);
    }

    #[tokio::test]
    async fn a_connection_too_many_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(listen(listener, pages()));
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(GET).await.unwrap();
        let mut answer = String::new();
        let soon = Duration::from_millis(50);
        assert!(timeout(soon, client.read_to_string(&mut answer)).await.is_err());
        silent.pop();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(" 200 OK"), "{answer}");
    }
}
