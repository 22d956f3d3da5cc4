//! Connections whose other end vanishes.

use socket2::{SockRef, TcpKeepalive};
use std::{io, time::Duration};
use tokio::net::TcpStream;

/// The time without a packet after which the system asks whether the other end is there.
const IDLE: Duration = Duration::from_secs(30);

/// The time between two questions without an answer.
const INTERVAL: Duration = Duration::from_secs(10);

/// Lets the system break a connection that is idle if the machine at the other end is gone, or has forgotten
/// it. On Linux that takes two minutes.
///
/// # Errors
/// The system refuses it.
pub fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
