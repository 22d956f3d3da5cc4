//! Frames: a length and one encoded message.

use serde::{de::DeserializeOwned, Serialize};
use std::io;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of the length.
const PREFIX: usize = 4;

/// A buffer that has grown beyond this is released once it is empty again.
pub(super) const KEPT_BYTES: usize = 1024 * 1024;

/// The number of bytes from which on a body is decoded on another thread.
const LARGE: usize = 256 * 1024;

/// Why bytes are not a frame, or a message cannot become one.
#[derive(Debug, Error)]
pub(super) enum FrameError {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("the connection ended within a frame")]
    Truncated,
    #[error("a frame without a body")]
    Empty,
    #[error("a frame of {0} bytes exceeds the limit")]
    TooLarge(usize),
    #[error("a message cannot be decoded: the code of its type panicked")]
    Panicked,
    #[error("the message cannot be encoded")]
    Encode(#[from] bincode::error::EncodeError),
    #[error("the body is not a message")]
    Decode(#[from] bincode::error::DecodeError),
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

/// Appends a frame to `out`. After an error, `out` is as before.
pub(super) fn encode<M: Serialize>(
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
    bincode::serde::encode_into_std_write(message, out, bincode::config::standard())?;
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
/// `None` if the connection ended between two frames.
pub(super) async fn read<M, R>(
    from: &mut R,
    max_bytes: usize,
    body: &mut Vec<u8>,
) -> Result<Option<(M, usize)>, FrameError>
where
    M: DeserializeOwned + Send + 'static,
    R: AsyncRead + Unpin,
{
    let mut prefix = [0; PREFIX];
    let mut read = 0;
    while read < PREFIX {
        match from.read(&mut prefix[read..]).await? {
            0 if read == 0 => return Ok(None),
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
    if from.take(length as u64).read_to_end(body).await? < length {
        return Err(FrameError::Truncated);
    }
    let message = match body.len() < LARGE {
        true => decode(body)?,
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

/// Decodes a whole body. A limit keeps a forged length inside it from reserving more memory. It counts what
/// values take in memory: up to 16 bytes for each byte of the body.
fn decode<M: DeserializeOwned>(body: &[u8]) -> Result<M, FrameError> {
    let config = bincode::config::standard();
    let decoded = match body.len() < LARGE {
        true => bincode::serde::decode_from_slice(body, config.with_limit::<{ 16 * LARGE }>()),
        false => {
            let config = config.with_limit::<{ super::LARGEST_FRAME }>();
            bincode::serde::decode_from_slice(body, config)
        }
    };
    let (message, used) = decoded?;
    match body.len() - used {
        0 => Ok(message),
        left => Err(FrameError::LeftOver(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::{encode, read, FrameError, LARGE};
    use serde::{Deserialize, Deserializer};
    use std::thread::{self, ThreadId};

    type Body = (u64, String);

    fn frame() -> Vec<u8> {
        let mut frame = Vec::new();
        encode(&(7_u64, "seven".to_owned()), 100, &mut frame).unwrap();
        frame
    }

    async fn read_all(mut bytes: &[u8]) -> Result<Vec<Body>, FrameError> {
        let mut all = Vec::new();
        let mut body = Vec::new();
        while let Some((message, _)) = read(&mut bytes, 100, &mut body).await? {
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
            let read = read::<Where, _>(&mut &frame[..], 3 * LARGE, &mut Vec::new()).await;
            let (Where(decoded), length) = read.unwrap().unwrap();
            assert!(length > bytes);
            assert_eq!(decoded == thread::current().id(), is_here, "{bytes} bytes");
        }
    }

    #[tokio::test]
    async fn reads_what_was_encoded() {
        let frames = [frame(), frame()].concat();
        let body = (7, "seven".to_owned());
        assert_eq!(read_all(&frames).await.unwrap(), [body.clone(), body]);
        assert_eq!(read_all(&[]).await.unwrap(), []);
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
