//! The first bytes of a connection: see the wire format in the module above.

use omnipaxos::util::NodeId;
use std::io;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const MAGIC: [u8; 4] = *b"OPXR";

/// The version of the wire format.
const VERSION: u32 = 1;

/// What the connecting server sends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) application_version: u64,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
}

/// What the accepting server answers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    OtherVersion,
    OtherApplication,
    OtherServer,
    NotInBook,
}

impl Verdict {
    const ALL: [(Self, u32); 5] = [
        (Self::Accepted, 0),
        (Self::OtherVersion, 1),
        (Self::OtherApplication, 2),
        (Self::OtherServer, 3),
        (Self::NotInBook, 4),
    ];

    fn code(self) -> u32 {
        // Each verdict is in the table.
        Self::ALL.iter().find(|(verdict, _)| *verdict == self).map_or(u32::MAX, |(_, code)| *code)
    }

    fn from_code(code: u32) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == code).map(|(verdict, _)| *verdict)
    }
}

/// Why a handshake failed.
#[derive(Debug, Error)]
pub(super) enum HandshakeError {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("the other program has another protocol")]
    Foreign,
    #[error("the other server has version {0} of the wire format, and this one has {VERSION}")]
    Version(u32),
    #[error("the other server has version {theirs} of the application, and this one has {ours}")]
    Application { theirs: u64, ours: u64 },
    #[error("server {0} answers at this address")]
    OtherServer(NodeId),
    #[error("this server is not in the address book there")]
    NotInBook,
    #[error("server {0} connected, and is not in the address book here, or its certificate is of another")]
    Unlisted(NodeId),
    #[error("server {from} connected, and expects server {to} here")]
    Misdirected { from: NodeId, to: NodeId },
}

/// Sends a hello, and reads the answer.
pub(super) async fn connect<S>(stream: &mut S, hello: Hello) -> Result<(), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = Vec::with_capacity(36);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend(hello.application_version.to_be_bytes());
    bytes.extend(hello.from.to_be_bytes());
    bytes.extend(hello.to.to_be_bytes());
    bytes.extend([0; 4]);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    let version = read_start(stream).await?;
    let theirs = stream.read_u64().await?;
    let answering = stream.read_u64().await?;
    let ours = hello.application_version;
    match Verdict::from_code(stream.read_u32().await?) {
        Some(Verdict::Accepted) if answering == hello.to => Ok(()),
        Some(Verdict::Accepted | Verdict::OtherServer) => {
            Err(HandshakeError::OtherServer(answering))
        }
        Some(Verdict::OtherVersion) => Err(HandshakeError::Version(version)),
        Some(Verdict::OtherApplication) => Err(HandshakeError::Application { theirs, ours }),
        Some(Verdict::NotInBook) => Err(HandshakeError::NotInBook),
        None => Err(HandshakeError::Foreign),
    }
}

/// Reads the hello of a connecting server, and answers it. Returns the server.
pub(super) async fn accept<S>(
    stream: &mut S,
    own: NodeId,
    application_version: u64,
    is_in_book: impl Fn(NodeId) -> bool,
) -> Result<NodeId, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let version = read_start(stream).await?;
    if version != VERSION {
        // What follows is of another format.
        answer(stream, own, application_version, Verdict::OtherVersion).await?;
        return Err(HandshakeError::Version(version));
    }
    let theirs = stream.read_u64().await?;
    let from = stream.read_u64().await?;
    let to = stream.read_u64().await?;
    let _reserved = stream.read_u32().await?;
    let (verdict, result) = if theirs != application_version {
        let ours = application_version;
        (Verdict::OtherApplication, Err(HandshakeError::Application { theirs, ours }))
    } else if to != own {
        (Verdict::OtherServer, Err(HandshakeError::Misdirected { from, to }))
    } else if from == own || !is_in_book(from) {
        (Verdict::NotInBook, Err(HandshakeError::Unlisted(from)))
    } else {
        (Verdict::Accepted, Ok(from))
    };
    answer(stream, own, application_version, verdict).await?;
    result
}

/// Reads the magic bytes and the version.
async fn read_start<S: AsyncRead + Unpin>(stream: &mut S) -> Result<u32, HandshakeError> {
    let mut magic = [0; 4];
    stream.read_exact(&mut magic).await?;
    match magic {
        MAGIC => Ok(stream.read_u32().await?),
        _foreign => Err(HandshakeError::Foreign),
    }
}

async fn answer<S: AsyncWrite + Unpin>(
    stream: &mut S,
    own: NodeId,
    application_version: u64,
    verdict: Verdict,
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(28);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend(application_version.to_be_bytes());
    bytes.extend(own.to_be_bytes());
    bytes.extend(verdict.code().to_be_bytes());
    stream.write_all(&bytes).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::{accept, connect, HandshakeError, Hello, Verdict};
    use tokio::io::{duplex, AsyncReadExt, AsyncWriteExt};

    async fn shake(hello: Hello) -> (Result<(), HandshakeError>, Result<u64, HandshakeError>) {
        let (mut here, mut there) = duplex(64);
        let accepting = accept(&mut there, 2, 5, |pid| pid == 1);
        tokio::join!(connect(&mut here, hello), accepting)
    }

    #[tokio::test]
    async fn both_learn_the_same() {
        let right = Hello { application_version: 5, from: 1, to: 2 };
        let (connected, accepted) = shake(right).await;
        assert!(connected.is_ok());
        assert_eq!(accepted.unwrap(), 1);

        let (connected, accepted) = shake(Hello { application_version: 6, ..right }).await;
        assert!(matches!(connected, Err(HandshakeError::Application { theirs: 5, ours: 6 })));
        assert!(matches!(accepted, Err(HandshakeError::Application { theirs: 6, ours: 5 })));

        let (connected, accepted) = shake(Hello { to: 3, ..right }).await;
        assert!(matches!(connected, Err(HandshakeError::OtherServer(2))));
        assert!(matches!(accepted, Err(HandshakeError::Misdirected { from: 1, to: 3 })));

        for from in [2, 9] {
            let (connected, accepted) = shake(Hello { from, ..right }).await;
            assert!(matches!(connected, Err(HandshakeError::NotInBook)));
            assert!(matches!(accepted, Err(HandshakeError::Unlisted(pid)) if pid == from));
        }
    }

    #[tokio::test]
    async fn another_version_is_answered_with_the_own() {
        let (mut here, mut there) = duplex(64);
        here.write_all(b"OPXR\0\0\0\x07").await.unwrap();
        let accepted = accept(&mut there, 2, 5, |_| true).await;
        assert!(matches!(accepted, Err(HandshakeError::Version(7))), "{accepted:?}");
        let mut answer = [0; 28];
        here.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[..8], *b"OPXR\0\0\0\x01");
        assert_eq!(answer[24..], Verdict::OtherVersion.code().to_be_bytes());
    }

    #[tokio::test]
    async fn another_protocol_is_detected_by_both() {
        let (mut here, mut there) = duplex(64);
        here.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let accepted = accept(&mut there, 2, 5, |_| true).await;
        assert!(matches!(accepted, Err(HandshakeError::Foreign)), "{accepted:?}");
        let (mut here, mut there) = duplex(64);
        there.write_all(b"HTTP/1.1 400 Bad Request\r\n").await.unwrap();
        let hello = Hello { application_version: 5, from: 1, to: 2 };
        let connected = connect(&mut here, hello).await;
        assert!(matches!(connected, Err(HandshakeError::Foreign)), "{connected:?}");
    }
}
