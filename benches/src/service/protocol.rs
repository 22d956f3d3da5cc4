//! The client port of the services in Rust: frames with a request, and frames with its answer.

use crate::Failure;
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::{future::Future, io};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{
        tcp::{OwnedReadHalf, OwnedWriteHalf},
        TcpListener, TcpStream,
    },
};

/// The largest frame. A snapshot of 100,000 values fits.
const MAX_FRAME: u32 = 256 << 20;

/// A value of the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Value(#[serde(with = "serde_bytes")] pub(crate) Vec<u8>);

/// A command of the store: sets the value of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Put {
    pub(crate) key: u64,
    pub(crate) value: Value,
}

/// What a client asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Put(Put),
    /// A linearizable read.
    Get(u64),
    Status,
    ChangeMembers(Vec<u64>),
}

/// What a server answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Found(Option<Value>),
    Status(Standing),
    Failed(String),
}

/// What a server reports of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) leader: Option<u64>,
    pub(crate) members: Vec<u64>,
    /// Length of the decided log here.
    pub(crate) decided_idx: u64,
    /// Whether the server was removed, and the others do not need it.
    pub(crate) may_stop: bool,
}

/// A connection with frames in both directions.
#[derive(Debug)]
pub(crate) struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Connection {
    pub(crate) async fn connect(port: u16) -> io::Result<Self> {
        Self::new(TcpStream::connect(("127.0.0.1", port)).await?)
    }

    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Self { reader: BufReader::new(reader), writer })
    }

    /// Sends a request, and waits for its answer.
    pub(crate) async fn call<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        request: &Q,
    ) -> Result<A, Failure> {
        write_frame(&mut self.writer, request).await?;
        let answer = read_frame(&mut self.reader).await?;
        Ok(answer.ok_or(io::ErrorKind::UnexpectedEof).map_err(io::Error::from)?)
    }

    /// Waits for a request. `None` at the end.
    pub(crate) async fn receive<Q: DeserializeOwned>(&mut self) -> Result<Option<Q>, Failure> {
        read_frame(&mut self.reader).await
    }

    pub(crate) async fn answer<A: Serialize>(&mut self, answer: &A) -> Result<(), Failure> {
        write_frame(&mut self.writer, answer).await
    }
}

/// Accepts connections, and answers the requests of each in order.
pub(crate) async fn listen<Q, A, H, F>(port: u16, handler: H) -> Result<(), Failure>
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + Send + Sync + 'static,
    H: Fn() -> F + Send + 'static,
    F: Handler<Q, A>,
{
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let mut handler = handler();
        tokio::spawn(async move {
            let mut connection = Connection::new(stream)?;
            while let Some(request) = connection.receive().await? {
                connection.answer(&handler.handle(request).await).await?;
            }
            Ok::<_, Failure>(())
        });
    }
}

/// Answers the requests of one connection.
pub(crate) trait Handler<Q, A>: Send + 'static {
    fn handle(&mut self, request: Q) -> impl Future<Output = A> + Send;
}

async fn write_frame<T: Serialize>(
    writer: &mut (impl AsyncWrite + Unpin),
    content: &T,
) -> Result<(), Failure> {
    let mut frame = vec![0; 4];
    bincode::serde::encode_into_std_write(content, &mut frame, bincode::config::standard())?;
    let length = u32::try_from(frame.len() - 4)?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(writer.write_all(&frame).await?)
}

async fn read_frame<T: DeserializeOwned>(
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, Failure> {
    let length = match reader.read_u32_le().await {
        Ok(length) if length <= MAX_FRAME => length,
        Ok(length) => return Err(format!("a frame of {length} bytes is too long").into()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut frame = vec![0; length as usize];
    reader.read_exact(&mut frame).await?;
    Ok(Some(bincode::serde::decode_from_slice(&frame, bincode::config::standard())?.0))
}
