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

/// The largest announcement, in bytes.
pub(super) const MAX_ANNOUNCEMENT: usize = 4096;

/// What the connecting server reports of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Announcement {
    /// Where it listens for other servers; empty if it does not tell.
    pub(super) address: String,
    /// What the program passes on.
    pub(super) content: Vec<u8>,
}

impl Announcement {
    /// Encodes it. `None` if it is too large.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let length = u16::try_from(self.address.len()).ok()?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(self.address.as_bytes());
        bytes.extend(&self.content);
        Some(bytes).filter(|bytes| bytes.len() <= MAX_ANNOUNCEMENT)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let (length, rest) = bytes.split_first_chunk()?;
        let (address, content) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        let address = std::str::from_utf8(address).ok()?.to_owned();
        Some(Self { address, content: content.to_vec() })
    }
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
    #[error("the other server announces something that is too large or malformed")]
    Announcement,
    #[error("the other server has version {0} of the wire format, and this one has {VERSION}")]
    Version(u32),
    #[error("the other server has version {theirs} of the application, and this one has {ours}")]
    Application { theirs: u64, ours: u64 },
    #[error("server {0} answers at this address")]
    OtherServer(NodeId),
    #[error("this server is not in the address book there, which has no room for a guest")]
    NotInBook,
    #[error(
        "server {0} connected, and is not in the address book here, which has no room for a guest, or its \
         certificate is of another"
    )]
    Unlisted(NodeId),
    #[error("server {from} connected, and expects server {to} here")]
    Misdirected { from: NodeId, to: NodeId },
}

/// Sends a hello with an encoded announcement, and reads the answer.
pub(super) async fn connect<S>(
    stream: &mut S,
    hello: Hello,
    announcement: &[u8],
) -> Result<(), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let length = u32::try_from(announcement.len()).map_err(|_| HandshakeError::Announcement)?;
    let mut bytes = Vec::with_capacity(36 + announcement.len());
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend(hello.application_version.to_be_bytes());
    bytes.extend(hello.from.to_be_bytes());
    bytes.extend(hello.to.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(announcement);
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

/// Reads the hello of a connecting server, and answers it. Returns the server and what it announces.
pub(super) async fn accept<S>(
    stream: &mut S,
    own: NodeId,
    application_version: u64,
    is_admitted: impl Fn(NodeId, &Announcement) -> bool,
) -> Result<(NodeId, Announcement), HandshakeError>
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
    let length = stream.read_u32().await?;
    let length = usize::try_from(length).map_err(|_| HandshakeError::Announcement)?;
    if length > MAX_ANNOUNCEMENT {
        return Err(HandshakeError::Announcement);
    }
    let mut announcement = vec![0; length];
    stream.read_exact(&mut announcement).await?;
    let announcement = Announcement::decode(&announcement).ok_or(HandshakeError::Announcement)?;
    let (verdict, result) = if theirs != application_version {
        let ours = application_version;
        (Verdict::OtherApplication, Err(HandshakeError::Application { theirs, ours }))
    } else if to != own {
        (Verdict::OtherServer, Err(HandshakeError::Misdirected { from, to }))
    } else if from == own || !is_admitted(from, &announcement) {
        (Verdict::NotInBook, Err(HandshakeError::Unlisted(from)))
    } else {
        (Verdict::Accepted, Ok((from, announcement)))
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
    use super::{accept, connect, Announcement, HandshakeError, Hello, Verdict, MAX_ANNOUNCEMENT};
    use tokio::io::{duplex, AsyncReadExt, AsyncWriteExt};

    fn announcement() -> Announcement {
        Announcement { address: "h:1".to_owned(), content: vec![7, 8] }
    }

    async fn shake(
        hello: Hello,
    ) -> (Result<(), HandshakeError>, Result<(u64, Announcement), HandshakeError>) {
        let (mut here, mut there) = duplex(64);
        let accepting = accept(&mut there, 2, 5, |pid, announced| {
            assert_eq!(*announced, announcement());
            pid == 1
        });
        let announced = announcement().encode().unwrap();
        tokio::join!(connect(&mut here, hello, &announced), accepting)
    }

    #[tokio::test]
    async fn both_learn_the_same() {
        let right = Hello { application_version: 5, from: 1, to: 2 };
        let (connected, accepted) = shake(right).await;
        assert!(connected.is_ok());
        assert_eq!(accepted.unwrap(), (1, announcement()));

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
        let accepted = accept(&mut there, 2, 5, |_, _| true).await;
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
        let accepted = accept(&mut there, 2, 5, |_, _| true).await;
        assert!(matches!(accepted, Err(HandshakeError::Foreign)), "{accepted:?}");
        let (mut here, mut there) = duplex(64);
        there.write_all(b"HTTP/1.1 400 Bad Request\r\n").await.unwrap();
        let hello = Hello { application_version: 5, from: 1, to: 2 };
        let connected = connect(&mut here, hello, &[]).await;
        assert!(matches!(connected, Err(HandshakeError::Foreign)), "{connected:?}");
    }

    #[tokio::test]
    async fn a_malformed_announcement_is_refused() {
        let start = b"OPXR\0\0\0\x01\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02";
        for rest in
            [&[255; 4][..], &[0, 0, 0, 1, 0], &[0, 0, 0, 3, 0, 2, b'h'], &[0, 0, 0, 3, 0, 1, 255]]
        {
            let (mut here, mut there) = duplex(64);
            here.write_all(&[&start[..], rest].concat()).await.unwrap();
            let accepted = accept(&mut there, 2, 5, |_, _| true).await;
            assert!(matches!(accepted, Err(HandshakeError::Announcement)), "{accepted:?}");
        }
        let content = vec![0; MAX_ANNOUNCEMENT - 2];
        let largest = Announcement { address: String::new(), content };
        assert_eq!(largest.encode().map(|bytes| bytes.len()), Some(MAX_ANNOUNCEMENT));
        assert_eq!(Announcement { address: "h".to_owned(), ..largest }.encode(), None);
    }
}
