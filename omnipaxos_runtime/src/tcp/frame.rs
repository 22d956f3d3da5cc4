//! Frames: a length and one encoded message.
//!
//! The transport sends them, and a protocol between a server and its clients can do the same. A
//! frame is the length of its body (4 bytes, big-endian, at least 1) and the body, in the standard
//! configuration of bincode 2. [`read_body`] and [`decode`] take any bytes: the bytes that have
//! arrived, a limit of the caller, and the limit in the rustdoc of [`decode`] bound the memory that
//! they reserve. [`decode`] also describes two kinds of types that need a limit of their own.
//!
//! `LengthDelimitedCodec` of tokio-util 0.7 also frames bodies. It reserves the announced length of
//! a frame before the body has arrived. So each silent connection can take the memory of the
//! largest frame.
//!
//! ```
//! use omnipaxos_runtime::tcp::frame;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), frame::FrameError> {
//! let mut bytes = Vec::new();
//! frame::encode(&("put", 7_u64), 1024, &mut bytes)?;
//! let (mut connection, mut body) = (&bytes[..], Vec::new());
//! while frame::read_body(&mut connection, 1024, &mut body).await? {
//!     let request: (String, u64) = frame::decode(&body)?;
//!     assert_eq!(request, ("put".to_owned(), 7));
//! }
//! # Ok(())
//! # }
//! ```

use serde::{de::DeserializeOwned, Serialize};
use std::{
    error::Error,
    future::Future,
    io,
    panic::{catch_unwind, AssertUnwindSafe},
    time::Duration,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

/// Bytes of the length.
const PREFIX: usize = 4;

/// A buffer that has grown beyond this is released once it is empty again.
pub(super) const KEPT_BYTES: usize = 1024 * 1024;

/// The number of bytes from which on a body is decoded on another thread.
const LARGE: usize = 256 * 1024;

/// The number of bytes of the largest body whose values take 256 MiB at most, at 16 bytes for each.
const VERY_LARGE: usize = 16 * 1024 * 1024;

/// Bytes of a body that are read under one time limit.
const PART: usize = 256 * 1024;

/// Why bytes are not a frame, or a message cannot become one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The connection ended within a frame.
    #[error("the connection ended within a frame")]
    Truncated,
    /// The frame has no body.
    #[error("a frame without a body")]
    Empty,
    /// The body has this number of bytes, more than the limit. Nothing of it was read.
    #[error("a frame of {0} bytes exceeds the limit")]
    TooLarge(usize),
    /// The code of the type of the message panicked.
    #[error("a message cannot be decoded: the code of its type panicked")]
    Panicked,
    /// The message cannot be encoded.
    #[error("the message cannot be encoded")]
    Encode(#[source] Box<dyn Error + Send + Sync>),
    /// The body is not a message of the type.
    #[error("the body is not a message")]
    Decode(#[source] Box<dyn Error + Send + Sync>),
    /// This number of bytes follow the message in its body.
    #[error("{0} bytes are left over behind the message")]
    LeftOver(usize),
}

impl FrameError {
    /// Returns whether the other server sent something that is not a frame.
    pub(super) fn is_malformed(&self) -> bool {
        match self {
            Self::Io(_) | Self::Truncated | Self::Encode(_) => false,
            Self::Panicked
            | Self::Empty
            | Self::TooLarge(_)
            | Self::Decode(_)
            | Self::LeftOver(_) => true,
        }
    }
}

/// Appends a frame to `out`: the length of the body in 4 bytes, the highest first, then the body. After an error, `out` is as
/// before. [`decode`] takes the body without the length.
///
/// # Errors
/// - [`FrameError::Encode`] if the message cannot be encoded.
/// - [`FrameError::TooLarge`] if its body has more than `max_bytes` bytes.
pub fn encode<M: Serialize>(
    message: &M,
    max_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let start = out.len();
    let encoded = append(message, max_bytes, out);
    if encoded.is_err() {
        out.truncate(start);
    }
    encoded
}

fn append<M: Serialize>(
    message: &M,
    max_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    bincode::serde::encode_into_std_write(message, out, bincode::config::standard())
        .map_err(|cause| FrameError::Encode(cause.into()))?;
    let length = out.len() - start - PREFIX;
    let prefix = u32::try_from(length).map_err(|_| FrameError::TooLarge(length))?;
    if length > max_bytes {
        return Err(FrameError::TooLarge(length));
    }
    if let Some(place) = out.get_mut(start..start + PREFIX) {
        place.copy_from_slice(&prefix.to_be_bytes());
    }
    Ok(())
}

/// Reads the next message, using `body` as a buffer, and returns it with the bytes of its body.
/// `None` if the connection ended between two frames. Each part of a frame must arrive within `limit`, if
/// there is one.
pub(super) async fn read<M, R>(
    from: &mut R,
    max_bytes: usize,
    limit: Option<Duration>,
    body: &mut Vec<u8>,
) -> Result<Option<(M, usize)>, FrameError>
where
    M: DeserializeOwned + Send + 'static,
    R: AsyncRead + Unpin,
{
    if !read_parts(from, max_bytes, limit, body).await? {
        return Ok(None);
    }
    let length = body.len();
    let message = match length < LARGE {
        // Else a panic would end the task that reads, and nobody would learn why.
        true => catch_unwind(AssertUnwindSafe(|| decode(body)))
            .map_err(|_panic| FrameError::Panicked)??,
        false => {
            // Meanwhile the replica, which may be on this thread, continues.
            let large = std::mem::take(body);
            let decoding = tokio::task::spawn_blocking(move || decode(&large));
            decoding.await.map_err(|_panic| FrameError::Panicked)??
        }
    };
    if body.capacity() > KEPT_BYTES {
        *body = Vec::new();
    }
    Ok(Some((message, length)))
}

/// Reads the body of the next frame into `body`, in place of what it contains. Returns `false` if the connection
/// ended between two frames.
///
/// It is not cancel-safe: if the future is dropped, a part of a frame may have been read.
///
/// # Errors
/// - [`FrameError::Io`] and [`FrameError::Truncated`] if the connection breaks or ends within a frame.
/// - [`FrameError::Empty`] and [`FrameError::TooLarge`] for a length of 0, or above `max_bytes`.
pub async fn read_body<R: AsyncRead + Unpin>(
    from: &mut R,
    max_bytes: usize,
    body: &mut Vec<u8>,
) -> Result<bool, FrameError> {
    read_parts(from, max_bytes, None, body).await
}

/// The time limit is for each part, so that a slow link may take long for a large frame.
async fn read_parts<R: AsyncRead + Unpin>(
    from: &mut R,
    max_bytes: usize,
    limit: Option<Duration>,
    body: &mut Vec<u8>,
) -> Result<bool, FrameError> {
    let mut prefix = [0; PREFIX];
    let mut read = 0;
    while read < PREFIX {
        match within(limit, from.read(&mut prefix[read..])).await? {
            0 if read == 0 => return Ok(false),
            0 => return Err(FrameError::Truncated),
            more => read += more,
        }
    }
    // Where this does not fit, it is too large in any case.
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length == 0 {
        return Err(FrameError::Empty);
    }
    if length > max_bytes {
        return Err(FrameError::TooLarge(length));
    }
    // The buffer grows with the bytes that arrive, not with the promised length.
    body.clear();
    while body.len() < length {
        let part = PART.min(length - body.len());
        let mut reader = (&mut *from).take(part as u64);
        if within(limit, reader.read_to_end(body)).await? < part {
            return Err(FrameError::Truncated);
        }
    }
    Ok(true)
}

/// Reads, for at most this time.
async fn within<R>(
    limit: Option<Duration>,
    reading: impl Future<Output = io::Result<R>>,
) -> io::Result<R> {
    match limit {
        Some(limit) => match timeout(limit, reading).await {
            Ok(read) => read,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        },
        None => reading.await,
    }
}

/// Decodes a whole body: what follows the length in a frame of [`encode`].
///
/// A forged length inside it reserves at most 4 MiB, 256 MiB if the body has at least 256 KiB, or 4 GiB if it has more
/// than 16 MiB, and only until this function returns.
///
/// Two kinds of types need a limit of their own in `Deserialize`, if a stranger may send the body. A type that contains
/// itself, such as a tree, takes stack for each level, and a thread without stack ends the process. A list of
/// values without content, such as `Vec<()>`, takes time for each value, and no byte of the body.
///
/// # Errors
/// [`FrameError::Decode`] or [`FrameError::LeftOver`] if the body is not one message and nothing else.
pub fn decode<M: DeserializeOwned>(body: &[u8]) -> Result<M, FrameError> {
    // The limit counts what values take in memory: up to 16 bytes for each byte of the body.
    let config = bincode::config::standard();
    let decoded = match body.len() {
        ..LARGE => bincode::serde::decode_from_slice(body, config.with_limit::<{ 16 * LARGE }>()),
        LARGE..=VERY_LARGE => {
            bincode::serde::decode_from_slice(body, config.with_limit::<{ 16 * VERY_LARGE }>())
        }
        _larger => {
            let config = config.with_limit::<{ super::LARGEST_FRAME.saturating_mul(16) }>();
            bincode::serde::decode_from_slice(body, config)
        }
    };
    let (message, used) = decoded.map_err(|cause| FrameError::Decode(cause.into()))?;
    match body.len() - used {
        0 => Ok(message),
        left => Err(FrameError::LeftOver(left)),
    }
}

/// Checks that a receiver can decode a part of a message. bincode encodes some types that it cannot decode.
/// Returns the encoded size in bytes.
///
/// # Errors
/// Returns why it cannot.
pub(super) fn check<M: Serialize + DeserializeOwned>(part: &M) -> Result<usize, String> {
    let config = bincode::config::standard();
    let encoded = bincode::serde::encode_to_vec(part, config)
        .map_err(|cause| format!("it cannot be encoded: {cause}"))?;
    decode::<M>(&encoded).map(|_decoded| encoded.len()).map_err(|failed| {
        let cause = failed.source().map_or_else(|| failed.to_string(), ToString::to_string);
        format!(
            "a receiver could not decode it ({cause}): bincode cannot decode types with serde's \
             `tag`, `untagged`, `flatten` or `skip_serializing_if`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{encode, read, FrameError, LARGE};
    use serde::{Deserialize, Deserializer};
    use std::{
        thread::{self, ThreadId},
        time::Duration,
    };
    use tokio::io::AsyncWriteExt;

    type Body = (u64, String);

    const LIMIT: Option<Duration> = Some(Duration::from_secs(60));

    fn frame() -> Vec<u8> {
        let mut frame = Vec::new();
        encode(&(7_u64, "seven".to_owned()), 100, &mut frame).unwrap();
        frame
    }

    async fn read_all(mut bytes: &[u8]) -> Result<Vec<Body>, FrameError> {
        let mut all = Vec::new();
        let mut body = Vec::new();
        while let Some((message, _)) = read(&mut bytes, 100, LIMIT, &mut body).await? {
            all.push(message);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_large_body_is_decoded_on_another_thread() {
        #[derive(Debug, PartialEq)]
        struct Where(ThreadId);

        impl<'de> Deserialize<'de> for Where {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?;
                Ok(Self(thread::current().id()))
            }
        }

        for (bytes, is_here) in [(10, true), (2 * LARGE, false)] {
            let mut frame = Vec::new();
            encode(&"x".repeat(bytes), 3 * LARGE, &mut frame).unwrap();
            let read = read::<Where, _>(&mut &frame[..], 3 * LARGE, LIMIT, &mut Vec::new()).await;
            let (Where(decoded), length) = read.unwrap().unwrap();
            assert!(length > bytes);
            assert_eq!(decoded == thread::current().id(), is_here, "{bytes} bytes");
        }
    }

    #[tokio::test]
    async fn a_panic_while_a_message_is_decoded_is_an_error() {
        struct Panics;

        impl<'de> Deserialize<'de> for Panics {
            fn deserialize<D: Deserializer<'de>>(_from: D) -> Result<Self, D::Error> {
                panic!("code of the type of a message")
            }
        }

        for bytes in [10, 2 * LARGE] {
            let mut frame = Vec::new();
            encode(&"x".repeat(bytes), 3 * LARGE, &mut frame).unwrap();
            let read = read::<Panics, _>(&mut &frame[..], 3 * LARGE, LIMIT, &mut Vec::new()).await;
            assert!(matches!(read, Err(FrameError::Panicked)), "{bytes} bytes");
        }
    }

    #[tokio::test]
    async fn reads_what_was_encoded() {
        let frames = [frame(), frame()].concat();
        let body = (7, "seven".to_owned());
        assert_eq!(read_all(&frames).await.unwrap(), [body.clone(), body]);
        assert_eq!(read_all(&[]).await.unwrap(), []);
    }

    /// 100 KB a second, for longer than the time limit of a part.
    #[tokio::test(start_paused = true)]
    async fn a_large_frame_may_take_long_and_a_silent_end_may_not() {
        const BYTES: usize = 9 << 20;
        let mut frame = Vec::new();
        encode(&"x".repeat(BYTES), 2 * BYTES, &mut frame).unwrap();
        for sent in [frame.len(), frame.len() - 1] {
            let (mut near, mut far) = tokio::io::duplex(20_000);
            let is_whole = sent == frame.len();
            let frame = frame.clone();
            let sending = tokio::spawn(async move {
                for part in frame[..sent].chunks(10_000) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    far.write_all(part).await.unwrap();
                }
                std::future::pending::<()>().await;
            });
            let read = read::<String, _>(&mut near, 2 * BYTES, LIMIT, &mut Vec::new()).await;
            match is_whole {
                true => assert_eq!(read.unwrap().unwrap().0.len(), BYTES),
                false => {
                    assert!(matches!(read, Err(FrameError::Io(_))), "it waits for the last byte")
                }
            }
            sending.abort();
        }
    }

    #[tokio::test]
    async fn detects_every_truncation() {
        let frame = frame();
        for end in 1..frame.len() {
            let read = read_all(&frame[..end]).await;
            assert!(matches!(read, Err(FrameError::Truncated)), "{end}: {read:?}");
        }
    }

    #[tokio::test]
    async fn refuses_lengths_out_of_bounds_at_once() {
        let read = read_all(&[0; 4]).await;
        assert!(matches!(read, Err(FrameError::Empty)), "{read:?}");
        for length in [101, u32::MAX] {
            let read = read_all(&length.to_be_bytes()).await;
            assert!(matches!(read, Err(FrameError::TooLarge(_))), "{read:?}");
        }
    }

    #[tokio::test]
    async fn refuses_a_body_that_is_not_one_message() {
        let mut longer = frame();
        longer.push(0);
        longer[3] += 1;
        let read = read_all(&longer).await;
        assert!(matches!(read, Err(FrameError::LeftOver(1))), "{read:?}");
        let mut shorter = frame();
        shorter.pop();
        shorter[3] -= 1;
        let read = read_all(&shorter).await;
        assert!(matches!(read, Err(FrameError::Decode(_))), "{read:?}");
        // A string that promises more bytes than there are.
        let read = read_all(&[0, 0, 0, 10, 7, 253, 255, 255, 255, 255, 255, 255, 0, 0]).await;
        assert!(matches!(read, Err(FrameError::Decode(_))), "{read:?}");
    }

    #[test]
    fn a_message_that_is_too_large_leaves_no_trace() {
        let mut out = vec![1, 2, 3];
        let encoded = encode(&"x".repeat(100), 100, &mut out);
        assert!(matches!(encoded, Err(FrameError::TooLarge(101))), "{encoded:?}");
        assert_eq!(out, [1, 2, 3]);
    }
}
