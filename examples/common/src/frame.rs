//! How bytes become requests and responses, on every connection of a client.
//!
//! A frame is a length (4 bytes, big endian, of all that follows), a version, a kind and a body in
//! bincode. What does not follow this to the letter is an error; the reader closes the connection.

use serde::{de::DeserializeOwned, Serialize};
use std::io;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The version of frames and of all that they carry. Both ends must have the same one.
const VERSION: u8 = 2;

/// The longest body, in bytes.
pub const LONGEST_BODY: usize = 64 * 1024 * 1024;

/// Bytes of version and kind.
const HEAD: usize = 2;

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
    /// The connection ended within a frame.
    #[error("the connection ended within a frame")]
    Truncated,
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
    /// The body cannot be encoded.
    #[error("the body cannot be encoded")]
    Encode(#[from] bincode::error::EncodeError),
    /// The body does not fit its kind.
    #[error("the body is not what its kind says")]
    Decode(#[from] bincode::error::DecodeError),
    /// The body is longer than what is encoded in it.
    #[error("{0} bytes are left over behind the body")]
    LeftOver(usize),
}

/// Appends a frame to `out`. After an error `out` is as before.
///
/// # Errors
/// The body cannot be encoded, or is too long.
pub fn encode<T: Serialize>(kind: Kind, body: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    let encoded = append(kind, body, out);
    if encoded.is_err() {
        out.truncate(start);
    }
    encoded
}

fn append<T: Serialize>(kind: Kind, body: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, VERSION, kind as u8]);
    bincode::serde::encode_into_std_write(body, out, bincode::config::standard())?;
    let length = out.len() - start - 4;
    let prefix = u32::try_from(length).map_err(|_| FrameError::TooLong(length))?;
    if length > LONGEST_BODY + HEAD {
        return Err(FrameError::TooLong(length));
    }
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&prefix.to_be_bytes());
    }
    Ok(())
}

/// Reads the body of the next frame, which must be of the kind `want`, into `body`. `None` where
/// the connection ended between two frames.
///
/// # Errors
/// What comes is not such a frame.
pub async fn read<T, R>(
    from: &mut R,
    want: Kind,
    body: &mut Vec<u8>,
) -> Result<Option<T>, FrameError>
where
    T: DeserializeOwned,
    R: AsyncRead + Unpin,
{
    let Some(length) = read_length(from).await? else {
        return Ok(None);
    };
    if length < HEAD {
        return Err(FrameError::TooShort(length));
    }
    if length > LONGEST_BODY + HEAD {
        return Err(FrameError::TooLong(length));
    }
    let (version, kind) = (from.read_u8().await, from.read_u8().await);
    match version.map_err(within_frame)? {
        VERSION => {}
        other => return Err(FrameError::Version(other)),
    }
    let got = Kind::from_byte(kind.map_err(within_frame)?)?;
    if got != want {
        return Err(FrameError::Unexpected { got, want });
    }
    // The buffer grows with what arrives, not with what the length promises.
    body.clear();
    let due = length - HEAD;
    if from.take(due as u64).read_to_end(body).await? < due {
        return Err(FrameError::Truncated);
    }
    decode(body).map(Some)
}

/// Reads the rest of a frame that is [too long](FrameError::TooLong), and keeps nothing of it.
///
/// # Errors
/// The connection broke or ended before.
pub async fn skip<R: AsyncRead + Unpin>(from: &mut R, length: usize) -> Result<(), FrameError> {
    let mut rest = from.take(length as u64);
    match tokio::io::copy(&mut rest, &mut tokio::io::sink()).await? {
        skipped if skipped == length as u64 => Ok(()),
        _ => Err(FrameError::Truncated),
    }
}

async fn read_length<R: AsyncRead + Unpin>(from: &mut R) -> Result<Option<usize>, FrameError> {
    let mut prefix = Vec::with_capacity(4);
    match from.take(4).read_to_end(&mut prefix).await? {
        0 => Ok(None),
        _ => match <[u8; 4]>::try_from(prefix) {
            // On a machine where this does not fit, it is too long in any case.
            Ok(bytes) => Ok(Some(usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX))),
            Err(_) => Err(FrameError::Truncated),
        },
    }
}

fn within_frame(cause: io::Error) -> FrameError {
    if cause.kind() == io::ErrorKind::UnexpectedEof {
        return FrameError::Truncated;
    }
    FrameError::Io(cause)
}

/// Decodes a whole body: what is left over is an error. The limit keeps a forged length inside the
/// body from allocating more than a body may have.
fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let config = bincode::config::standard().with_limit::<LONGEST_BODY>();
    let (value, used) = bincode::serde::decode_from_slice(body, config)?;
    match body.len() - used {
        0 => Ok(value),
        left => Err(FrameError::LeftOver(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::{encode, read, FrameError, Kind, LONGEST_BODY};

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
            assert!(matches!(read, Err(FrameError::Truncated)), "{end}: {read:?}");
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
        for length in [0_u32, 1] {
            let read = read_all(&length.to_be_bytes()).await;
            assert!(matches!(read, Err(FrameError::TooShort(_))), "{read:?}");
        }
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
        assert!(matches!(read, Err(FrameError::LeftOver(1))), "{read:?}");
        let mut shorter = frame();
        shorter.pop();
        shorter[3] -= 1;
        let read = read_all(&shorter).await;
        assert!(matches!(read, Err(FrameError::Decode(_))), "{read:?}");
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
