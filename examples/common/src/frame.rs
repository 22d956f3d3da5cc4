//! How bytes become requests and responses, on every connection of a client.
//!
//! A frame is that of [`omnipaxos_runtime::tcp::frame`], and begins with a version and a kind. What does
//! not follow this to the letter is an error; the reader closes the connection.

use omnipaxos_runtime::tcp::frame as frames;
use serde::{de::DeserializeOwned, Serialize};
use std::io;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The version of frames and of all that they carry. Both ends must have the same one.
const VERSION: u8 = 3;

/// The longest body, in bytes.
pub const LONGEST_BODY: usize = 64 * 1024 * 1024;

/// Bytes of version and kind.
const HEAD: usize = 2;

/// A buffer that has grown beyond this is released at once: the next frame may be far off.
const KEPT_BYTES: usize = 1024 * 1024;

/// What the body of a frame is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// What a client asks.
    Request = 3,
    /// What it is answered.
    Response = 4,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Self, FrameError> {
        [Kind::Request, Kind::Response]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
            .ok_or(FrameError::Kind(byte))
    }
}

/// Why bytes are not a frame.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// It is no frame at all, or its body does not fit its kind.
    #[error(transparent)]
    Frame(frames::FrameError),
    /// It is shorter than its head.
    #[error("a frame of {0} bytes is too short to be one")]
    TooShort(usize),
    /// Its body is longer than a body may be. Of the frame, the length was read and nothing else.
    #[error("a frame of {0} bytes is longer than {LONGEST_BODY}")]
    TooLong(usize),
    /// It has another version.
    #[error("version {0} of the frame is not {VERSION}")]
    Version(u8),
    /// It has a kind that there is not.
    #[error("there is no frame of kind {0}")]
    Kind(u8),
    /// It has a kind that was not due.
    #[error("a frame of kind {got:?} where {want:?} was due")]
    Unexpected {
        /// What it is.
        got: Kind,
        /// What was due.
        want: Kind,
    },
}

impl From<frames::FrameError> for FrameError {
    fn from(error: frames::FrameError) -> Self {
        match error {
            frames::FrameError::TooLarge(length) => Self::TooLong(length),
            other => Self::Frame(other),
        }
    }
}

/// Appends a frame to `out`. After an error `out` is as before.
///
/// # Errors
/// The body cannot be encoded, or is too long.
pub fn encode<T: Serialize>(kind: Kind, body: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    Ok(frames::encode(&(VERSION, kind as u8, body), LONGEST_BODY + HEAD, out)?)
}

/// Reads the body of the next frame, which must be of the kind `want`. `None` where the connection ended
/// between two frames. `buffer` is used again and again.
///
/// # Errors
/// What comes is not such a frame.
pub async fn read<T, R>(
    from: &mut R,
    want: Kind,
    buffer: &mut Vec<u8>,
) -> Result<Option<T>, FrameError>
where
    T: DeserializeOwned,
    R: AsyncRead + Unpin,
{
    if !frames::read_body(from, LONGEST_BODY + HEAD, buffer).await? {
        return Ok(None);
    }
    let [version, kind, body @ ..] = &buffer[..] else {
        return Err(FrameError::TooShort(buffer.len()));
    };
    if *version != VERSION {
        return Err(FrameError::Version(*version));
    }
    let decoded = match Kind::from_byte(*kind)? {
        got if got == want => frames::decode(body)?,
        got => return Err(FrameError::Unexpected { got, want }),
    };
    if buffer.capacity() > KEPT_BYTES {
        *buffer = Vec::new();
    }
    Ok(Some(decoded))
}

/// Reads the rest of a frame that is [too long](FrameError::TooLong), and keeps nothing of it.
///
/// # Errors
/// The connection broke or ended before.
pub async fn skip<R: AsyncRead + Unpin>(from: &mut R, length: usize) -> Result<(), FrameError> {
    let mut rest = from.take(length as u64);
    match tokio::io::copy(&mut rest, &mut tokio::io::sink()).await? == length as u64 {
        true => Ok(()),
        false => Err(frames::FrameError::Truncated.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{encode, frames, read, FrameError, Kind, LONGEST_BODY};

    use frames::FrameError::{Decode, Empty, LeftOver, Truncated};
    use FrameError::Frame;

    type Body = (u64, String);

    fn frame() -> Vec<u8> {
        let mut frame = Vec::new();
        encode(Kind::Request, &(7_u64, "seven".to_owned()), &mut frame).unwrap();
        frame
    }

    async fn read_all(mut bytes: &[u8]) -> Result<Vec<Body>, FrameError> {
        let mut all = Vec::new();
        while let Some(body) = read(&mut bytes, Kind::Request, &mut Vec::new()).await? {
            all.push(body);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn what_was_encoded_is_read() {
        let mut frames = frame();
        frames.extend(frame());
        let body = (7, "seven".to_owned());
        assert_eq!(read_all(&frames).await.unwrap(), [body.clone(), body]);
        assert_eq!(read_all(&[]).await.unwrap(), []);
    }

    #[tokio::test]
    async fn every_truncation_is_noticed() {
        let frame = frame();
        for end in 1..frame.len() {
            let read = read_all(&frame[..end]).await;
            assert!(matches!(read, Err(Frame(Truncated))), "{end}: {read:?}");
        }
    }

    #[tokio::test]
    async fn a_wrong_head_is_noticed() {
        let spoilt = |at: usize, byte: u8| {
            let mut frame = frame();
            frame[at] = byte;
            frame
        };
        let read = read_all(&spoilt(4, 1)).await;
        assert!(matches!(read, Err(FrameError::Version(1))), "{read:?}");
        let read = read_all(&spoilt(5, 99)).await;
        assert!(matches!(read, Err(FrameError::Kind(99))), "{read:?}");
        let read = read_all(&spoilt(5, Kind::Response as u8)).await;
        assert!(matches!(read, Err(FrameError::Unexpected { .. })), "{read:?}");
    }

    #[tokio::test]
    async fn lengths_out_of_bounds_are_refused_at_once() {
        let read = read_all(&[0; 4]).await;
        assert!(matches!(read, Err(Frame(Empty))), "{read:?}");
        let read = read_all(&[0, 0, 0, 1, 2]).await;
        assert!(matches!(read, Err(FrameError::TooShort(1))), "{read:?}");
        for length in [LONGEST_BODY as u32 + 3, u32::MAX] {
            let read = read_all(&length.to_be_bytes()).await;
            assert!(matches!(read, Err(FrameError::TooLong(_))), "{read:?}");
        }
    }

    #[tokio::test]
    async fn a_body_must_be_all_of_the_frame_and_no_more() {
        let mut longer = frame();
        longer.push(0);
        longer[3] += 1;
        let read = read_all(&longer).await;
        assert!(matches!(read, Err(Frame(LeftOver(1)))), "{read:?}");
        let mut shorter = frame();
        shorter.pop();
        shorter[3] -= 1;
        let read = read_all(&shorter).await;
        assert!(matches!(read, Err(Frame(Decode(_)))), "{read:?}");
    }

    #[tokio::test]
    async fn no_garbage_is_read_as_a_frame_that_was_not_written() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for length in 1..400 {
            let garbage: Vec<u8> = (0..length)
                .map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed as u8
                })
                .collect();
            assert!(read_all(&garbage).await.is_err());
            let mut body = frame();
            body.truncate(6);
            body.extend(&garbage);
            body[..4].copy_from_slice(&(garbage.len() as u32 + 2).to_be_bytes());
            // May decode by chance; must never panic, nor allocate what it promises.
            drop(read_all(&body).await);
        }
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        let mut out = vec![1, 2, 3];
        let long = "x".repeat(LONGEST_BODY + 1);
        assert!(matches!(encode(Kind::Request, &long, &mut out), Err(FrameError::TooLong(_))));
        assert_eq!(out, [1, 2, 3]);
    }
}
