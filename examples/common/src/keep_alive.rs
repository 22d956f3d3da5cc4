//! Connections whose other end vanishes.

use socket2::{SockRef, TcpKeepalive};
use std::{io, time::Duration};
use tokio::net::TcpStream;

/// The time without a packet after which the system asks whether the other end is there.
const IDLE: Duration = Duration::from_secs(30);

/// The time between two questions without an answer.
const INTERVAL: Duration = Duration::from_secs(10);

/// The time that sent bytes may wait for an acknowledgement. While they wait, the system does not ask.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

/// Lets the system break a connection if the machine at the other end is gone, or has forgotten it, or if the
/// program there reads nothing of what was sent. On Linux that takes two minutes. Elsewhere it takes longer if
/// sent bytes wait for an acknowledgement.
///
/// # Errors
/// The system refuses it.
pub fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL);
    let socket = SockRef::from(stream);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::{keep_alive, SockRef, TcpStream, IDLE, UNACKNOWLEDGED};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_system_takes_both_limits() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        keep_alive(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), IDLE);
    }
}
