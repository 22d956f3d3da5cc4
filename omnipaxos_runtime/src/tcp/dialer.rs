//! Keeps a connection to one peer, and writes to it.

use super::{
    address_book::AddressBook,
    handshake::{self, HandshakeError, Hello},
    queue::Queue,
    security::Socket,
    Settings, SILENCE,
};
use crate::{inbox::Inbox, random::random};
use omnipaxos::{storage::Entry, util::NodeId};
use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{lookup_host, TcpStream},
    time::{sleep, sleep_until, timeout, Instant},
};

/// The time to connect to one address and for the handshake. Short, since a lost packet is repeated later
/// and later.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The time to find the addresses of a name. Resolvers wait 5 seconds for a name server before they ask
/// the next one.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes that are written under one time limit.
const WRITE_BYTES: usize = 256 * 1024;

/// The number of failed attempts in a row after which a guest is forgotten.
const MAX_ATTEMPTS: u32 = 60;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Keeps a connection to one peer.
pub(super) struct Dialer<T: Entry> {
    pub(super) settings: Settings,
    pub(super) peer: NodeId,
    pub(super) address: String,
    pub(super) queue: Arc<Queue>,
    pub(super) book: AddressBook,
    pub(super) inbox: Inbox<T>,
}

impl<T: Entry> Dialer<T> {
    /// Connects, again and again, until the task is aborted or the node has ended.
    pub(super) async fn run(self) {
        let Self { peer, address, .. } = &self;
        let mut pause = FIRST_PAUSE;
        let mut failed: u32 = 0;
        // Reported once, until it changes.
        let mut last_failure = String::new();
        loop {
            match self.connect().await {
                Ok(stream) => {
                    tracing::info!("connected to server {peer} at {address}");
                    last_failure.clear();
                    failed = 0;
                    let connected = Instant::now();
                    self.queue.connect();
                    if self.inbox.connected(*peer).await.is_err() {
                        return;
                    }
                    let Err(cause) = self.write_all(stream).await;
                    // A server that closes each connection at once is not asked more and more often.
                    if connected.elapsed() > LONGEST_PAUSE {
                        pause = FIRST_PAUSE;
                    }
                    tracing::info!("lost server {peer} at {address}: {cause}");
                    let is_reported = self.inbox.lost(*peer).await.is_ok();
                    // Only now: if this task is aborted before, the one that aborts it reports the loss.
                    self.queue.disconnect();
                    if !is_reported {
                        return;
                    }
                }
                Err(failure) => {
                    failed = failed.saturating_add(1);
                    if failed >= MAX_ATTEMPTS {
                        // That ends this task.
                        self.book.forget_guest(*peer);
                    }
                    let text = failure.to_string();
                    if text != last_failure {
                        failure.log(*peer, address);
                        last_failure = text;
                    }
                }
            }
            sleep(with_jitter(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect(&self) -> Result<Socket, Failure> {
        let found = timeout(RESOLVE_TIMEOUT, lookup_host(&self.address)).await;
        let found = found.map_err(|_| Failure::NotFound)?.map_err(Failure::Unreachable)?;
        connect_to_first(found, |address| self.connect_to(address)).await
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<Socket, Failure> {
        let Settings { own, application_version, .. } = self.settings;
        let hello = Hello { application_version, from: own, to: self.peer };
        let stream = TcpStream::connect(address).await.map_err(Failure::Unreachable)?;
        stream.set_nodelay(true).map_err(Failure::Unreachable)?;
        let secured = self.settings.security.connect(stream, self.peer).await;
        let mut stream = secured.map_err(Failure::Security)?;
        handshake::connect(&mut stream, hello, &self.settings.announcement).await?;
        Ok(stream)
    }

    /// Writes the frames that wait, all at once where they are few, until the connection breaks.
    async fn write_all(&self, stream: Socket) -> Result<std::convert::Infallible, io::Error> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut frames = Vec::new();
        let mut pulses = [0; 64];
        let mut last_pulse = Instant::now();
        loop {
            tokio::select! {
                biased;
                // First, since bytes may have come while this server wrote.
                read = reader.read(&mut pulses) => {
                    if read? == 0 {
                        return Err(io::Error::other("it closed the connection"));
                    }
                    last_pulse = Instant::now();
                    continue;
                }
                () = sleep_until(last_pulse + SILENCE) => return Err(io::Error::other("it is silent")),
                () = self.queue.take(&mut frames) => {}
            }
            // The time limit is for each part, so that much may wait for a slow link.
            for part in frames.chunks(WRITE_BYTES) {
                let writing = async {
                    writer.write_all(part).await?;
                    writer.flush().await
                };
                match timeout(SILENCE, writing).await {
                    Ok(written) => written?,
                    Err(_) => return Err(io::Error::other("it does not read")),
                }
            }
        }
    }
}

/// Connects to one of these addresses. The time limit is for each, since one may be dead.
async fn connect_to_first<S, F>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<S, Failure>
where
    F: Future<Output = Result<S, Failure>>,
{
    let mut last_failure = Failure::NotFound;
    for address in addresses {
        match timeout(CONNECT_TIMEOUT, connect(address)).await.unwrap_or(Err(Failure::TimedOut)) {
            Ok(connected) => return Ok(connected),
            // Where a server has answered, its answer is the reason.
            Err(_other) if last_failure.is_answer() => {}
            Err(failure) => last_failure = failure,
        }
    }
    Err(last_failure)
}

/// Why there is no connection.
#[derive(Debug, Error)]
enum Failure {
    #[error("its name is not resolved")]
    NotFound,
    #[error("{0}")]
    Unreachable(io::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("{0}")]
    Security(io::Error),
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
}

impl Failure {
    /// Whether the other end has answered.
    fn is_answer(&self) -> bool {
        match self {
            Self::NotFound | Self::Unreachable(_) | Self::TimedOut => false,
            Self::Security(_) | Self::Handshake(_) => true,
        }
    }

    /// Logs it: as a warning if it does not pass when the other server is started.
    fn log(&self, peer: NodeId, address: &str) {
        match self.is_answer() {
            false => tracing::info!("cannot connect to server {peer} at {address}: {self}"),
            true => tracing::warn!("cannot connect to server {peer} at {address}: {self}"),
        }
    }
}

/// Returns a time between half of `pause` and `pause`, so that servers do not connect in step.
fn with_jitter(pause: Duration) -> Duration {
    let half = pause / 2;
    let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_nanos(random() % nanos)
}

#[cfg(test)]
mod tests {
    use super::{connect_to_first, with_jitter, Failure, CONNECT_TIMEOUT, LONGEST_PAUSE};
    use std::{io, net::SocketAddr};
    use tokio::time::Instant;

    #[test]
    fn jitter_is_at_most_half() {
        for _ in 0..100 {
            let pause = with_jitter(LONGEST_PAUSE);
            assert!((LONGEST_PAUSE / 2..LONGEST_PAUSE).contains(&pause));
        }
    }

    /// A name may have an address at which nothing answers, before one that works.
    #[tokio::test(start_paused = true)]
    async fn each_address_of_a_name_is_tried() {
        let addresses = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let connect = |address: SocketAddr| async move {
            match address.port() {
                1 => std::future::pending().await,
                2 => Err(Failure::Unreachable(io::ErrorKind::ConnectionRefused.into())),
                port => Ok(port),
            }
        };
        let begun = Instant::now();
        let connected = connect_to_first(addresses, connect).await;
        assert_eq!((connected.unwrap(), begun.elapsed()), (3, CONNECT_TIMEOUT));
        let failed = connect_to_first(addresses[..1].to_vec(), connect).await;
        assert!(matches!(failed, Err(Failure::TimedOut)));
        let refused = |address: SocketAddr| async move {
            match address.port() {
                1 => Err::<(), _>(Failure::Security(io::ErrorKind::InvalidData.into())),
                _ => Err(Failure::TimedOut),
            }
        };
        let failed = connect_to_first(addresses, refused).await;
        assert!(matches!(failed, Err(Failure::Security(_))), "what a server has answered");
        let failed = connect_to_first([], connect).await;
        assert!(matches!(failed, Err(Failure::NotFound)));
    }
}
