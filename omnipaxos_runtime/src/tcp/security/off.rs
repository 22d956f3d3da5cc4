//! Connections without TLS.

use super::Socket;
use omnipaxos::util::NodeId;
use std::io;
use tokio::net::TcpStream;

/// How connections are secured: not at all, without the feature `tls`.
#[derive(Clone, Debug)]
pub(in crate::tcp) struct Security;

impl Security {
    /// Returns the security of connections that are neither encrypted nor authenticated.
    pub(in crate::tcp) fn none() -> Self {
        Self
    }

    /// Returns whether any machine may connect.
    pub(in crate::tcp) fn is_authenticated(&self) -> bool {
        false
    }

    /// Returns the connection to `peer` as it is.
    pub(in crate::tcp) async fn connect(
        &self,
        stream: TcpStream,
        _peer: NodeId,
    ) -> io::Result<Socket> {
        Ok(Box::new(stream))
    }

    /// Returns the connection of another server as it is.
    pub(in crate::tcp) async fn accept(&self, stream: TcpStream) -> io::Result<(Socket, Identity)> {
        Ok((Box::new(stream), Identity))
    }
}

/// What is known of a connecting server: nothing.
#[derive(Debug)]
pub(in crate::tcp) struct Identity;

impl Identity {
    /// Returns whether the connection may be that of server `pid`.
    pub(in crate::tcp) fn is_of(&self, _pid: NodeId) -> bool {
        true
    }
}
