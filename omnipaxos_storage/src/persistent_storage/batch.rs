//! A batch as it stands in the log: one part or more, each a header record and its entries.
//!
//! A part is one append to the commit log. The last part of a batch bears the state that holds
//! once the batch is stored, so the last whole batch tells everything.

use super::{
    codec::{self, StoredBallot, StoredStopSign},
    error::StorageError,
};
use serde::{Deserialize, Serialize};

/// Version of the layout; a library reads its own.
pub(super) const FORMAT: u16 = 1;

/// Begins the payload of a header record.
const MAGIC: [u8; 4] = *b"OPXs";

/// Magic, format, length and checksum, before the header itself.
pub(super) const PREFIX_BYTES: usize = 4 + 2 + 4 + 4;

/// Bytes that the commit log puts before each payload: offset, size, checksum, metadata size.
pub(super) const RECORD_HEADER_BYTES: usize = 20;

/// What holds besides the entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) promise: Option<StoredBallot>,
    pub(super) accepted_round: Option<StoredBallot>,
    pub(super) decided_idx: u64,
    pub(super) compacted_idx: u64,
    pub(super) stopsign: Option<StoredStopSign>,
    pub(super) snapshot: Option<SnapshotRef>,
    /// Number of entries ever trimmed: the position of the first that is held.
    pub(super) first: u64,
    /// Position after the last entry.
    pub(super) end: u64,
}

/// Where in the database a snapshot is.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SnapshotRef {
    pub(super) id: u64,
    pub(super) bytes: u64,
    pub(super) crc: u32,
}

/// Begins a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Offset of the header record in the commit log.
    pub(super) offset: u64,
    /// Number of the batch; each is one above the last.
    pub(super) batch: u64,
    /// Number of the part in its batch, from 0.
    pub(super) part: u32,
    /// Position in the log of the first entry: what was there before is replaced from here on.
    pub(super) from: u64,
    /// Number of records that follow, an entry each.
    pub(super) records: u32,
    /// Their bytes, record headers included.
    pub(super) bytes: u64,
    /// Checksum of these bytes.
    pub(super) crc: u32,
    /// In the last part: what holds now.
    pub(super) state: Option<State>,
}

/// What a header record's payload may be.
#[derive(Debug)]
pub(super) enum Parsed {
    Header(Box<Header>),
    /// A header of another format.
    OtherFormat(u16),
    /// Not a header, or a damaged one.
    Damaged,
}

impl Header {
    /// The payload of the header record.
    pub(super) fn to_payload(&self) -> Result<Vec<u8>, StorageError> {
        let header = codec::encode("a batch header", self)?;
        let length = u32::try_from(header.len()).map_err(|_| StorageError::TooLarge {
            what: "a batch header",
            bytes: header.len() as u64,
            limit: u64::from(u32::MAX),
        })?;
        let mut payload = Vec::with_capacity(PREFIX_BYTES + header.len());
        payload.extend_from_slice(&MAGIC);
        payload.extend_from_slice(&FORMAT.to_le_bytes());
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        payload.extend_from_slice(&header);
        Ok(payload)
    }

    /// Reads a header record's payload.
    pub(super) fn parse(payload: &[u8]) -> Parsed {
        let Some((prefix, header)) = payload.split_at_checked(PREFIX_BYTES) else {
            return Parsed::Damaged;
        };
        let (Some(magic), Some(format), Some(length), Some(crc)) = (
            prefix.first_chunk::<4>(),
            chunk::<2>(prefix, 4).map(u16::from_le_bytes),
            chunk::<4>(prefix, 6).map(u32::from_le_bytes),
            chunk::<4>(prefix, 10).map(u32::from_le_bytes),
        ) else {
            return Parsed::Damaged;
        };
        if *magic != MAGIC || length as usize != header.len() || crc != crc32c::crc32c(header) {
            return Parsed::Damaged;
        }
        if format != FORMAT {
            return Parsed::OtherFormat(format);
        }
        codec::decode("a batch header", header)
            .map_or(Parsed::Damaged, |header| Parsed::Header(Box::new(header)))
    }

    /// Whether some whole header record lies in `bytes`, at any position.
    pub(super) fn is_any_in(bytes: &[u8]) -> bool {
        bytes.windows(MAGIC.len()).enumerate().any(|(at, window)| {
            window == MAGIC && {
                let rest = bytes.get(at..).unwrap_or_default();
                let length = chunk::<4>(rest, 6).map(u32::from_le_bytes).unwrap_or(u32::MAX);
                let end = PREFIX_BYTES.saturating_add(length as usize);
                rest.get(..end).is_some_and(|payload| {
                    matches!(Self::parse(payload), Parsed::Header(_) | Parsed::OtherFormat(_))
                })
            }
        })
    }
}

/// The `N` bytes of `bytes` at `at`.
pub(super) fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

#[cfg(test)]
mod tests {
    use super::{Header, Parsed, State};

    fn header() -> Header {
        Header {
            offset: 7,
            batch: 3,
            part: 0,
            from: 12,
            records: 2,
            bytes: 60,
            crc: 9,
            state: Some(State { decided_idx: 5, end: 14, ..State::default() }),
        }
    }

    #[test]
    fn a_header_reads_as_it_was_written() {
        let payload = header().to_payload().unwrap();
        assert!(matches!(Header::parse(&payload), Parsed::Header(read) if *read == header()));
        let mut around = vec![1; 50];
        around.extend_from_slice(&payload);
        around.extend_from_slice(&[0; 7]);
        assert!(Header::is_any_in(&around));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let payload = header().to_payload().unwrap();
        for bit in 0..payload.len() * 8 {
            let mut flipped = payload.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match Header::parse(&flipped) {
                Parsed::Damaged => {}
                Parsed::OtherFormat(_) => assert!((32..48).contains(&bit), "bit {bit}"),
                Parsed::Header(_) => panic!("bit {bit} went unnoticed"),
            }
        }
        for length in 0..payload.len() {
            assert!(matches!(Header::parse(&payload[..length]), Parsed::Damaged));
        }
    }
}
