//! A batch in the log: one part or more, each a header record and its entries.
//!
//! A part is one append to the commit log. The last part of a batch contains the state after the
//! batch. So the last complete batch contains the whole state.

use super::{
    codec::{self, StoredBallot, StoredEpoch, StoredStopSign},
    error::StorageError,
    format::{chunk, FORMAT},
    records::{seal, RECORD_HEADER_BYTES},
};
use serde::{Deserialize, Serialize};

/// The first bytes of the payload of a header record.
const MAGIC: [u8; 4] = *b"OPXs";

/// Bytes of magic, format, length and checksum, before the header itself.
pub(super) const PREFIX_BYTES: usize = 4 + 2 + 4 + 4;

/// The state of the storage besides the entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) promise: Option<StoredBallot>,
    pub(super) accepted_round: Option<StoredBallot>,
    pub(super) decided_idx: u64,
    pub(super) compacted_idx: u64,
    pub(super) stopsign: Option<StoredStopSign>,
    pub(super) snapshot: Option<SnapshotRef>,
    /// Number of entries ever trimmed: the position of the first one held.
    pub(super) first: u64,
    /// Position after the last entry.
    pub(super) end: u64,
    /// The epochs of a log that continues through reconfigurations. They follow the header, and
    /// take no byte if there are none.
    #[serde(skip)]
    pub(super) epochs: Vec<StoredEpoch>,
}

impl State {
    /// Returns the number of entries from one index to another: all but the stop signs between epochs have
    /// one. `None` if the first index is larger.
    pub(super) fn stored_among(&self, from: u64, to: u64) -> Option<u64> {
        let after_stop_sign =
            |epoch: &&StoredEpoch| from < epoch.first_idx() && epoch.first_idx() <= to;
        let stop_signs = self.epochs.iter().filter(after_stop_sign).count() as u64;
        to.checked_sub(from)?.checked_sub(stop_signs)
    }

    /// Returns the number of its bytes in a header.
    pub(super) fn encoded_len(&self) -> Result<u64, StorageError> {
        let epochs = match self.epochs.is_empty() {
            true => 0,
            false => codec::encoded_len("the epochs", &self.epochs)?,
        };
        Ok(codec::encoded_len("the state", self)? + epochs)
    }
}

/// The place of a snapshot in the database.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotRef {
    pub(super) id: u64,
    pub(super) bytes: u64,
    pub(super) crc: u32,
}

impl SnapshotRef {
    /// Returns the reference to a snapshot with these bytes.
    pub(super) fn of(id: u64, bytes: &[u8]) -> Self {
        Self { id, bytes: bytes.len() as u64, crc: crc32c::crc32c(bytes) }
    }
}

/// The header of a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Offset of the header record in the commit log.
    pub(super) offset: u64,
    /// Number of the batch; each is one above the last.
    pub(super) batch: u64,
    /// Number of the part in its batch, from 0.
    pub(super) part: u32,
    /// Position in the log of the first entry. Entries from there on are replaced.
    pub(super) from: u64,
    /// Number of records that follow, one per entry.
    pub(super) records: u32,
    /// The bytes of these records, including record headers. Each record has a checksum of its own.
    pub(super) bytes: u64,
    /// In the last part: the state after the batch.
    pub(super) state: Option<State>,
}

/// The content of a header record's payload.
#[derive(Debug)]
pub(super) enum Parsed {
    Header(Box<Header>),
    /// A header of another format.
    OtherFormat(u16),
    /// Not a header, or a damaged one.
    Damaged,
}

impl Header {
    /// Appends the header record to `bytes`.
    pub(super) fn push_record(&self, bytes: &mut Vec<u8>) -> Result<(), StorageError> {
        let start = bytes.len();
        let header_start = start + RECORD_HEADER_BYTES + PREFIX_BYTES;
        bytes.resize(header_start, 0);
        codec::encode_into("a batch header", self, bytes)?;
        if let Some(epochs) = self.state.as_ref().map(|state| &state.epochs) {
            if !epochs.is_empty() {
                codec::encode_into("the epochs", epochs, bytes)?;
            }
        }
        let header = bytes.get(header_start..).unwrap_or_default();
        let length = u32::try_from(header.len()).map_err(|_| StorageError::TooLarge {
            what: "a batch header",
            bytes: header.len() as u64,
            limit: u64::from(u32::MAX),
        })?;
        let crc = crc32c::crc32c(header);
        let prefix: [&[u8]; 4] =
            [&MAGIC, &FORMAT.to_le_bytes(), &length.to_le_bytes(), &crc.to_le_bytes()];
        let places = bytes.iter_mut().skip(start + RECORD_HEADER_BYTES);
        for (place, byte) in places.zip(prefix.into_iter().flatten()) {
            *place = *byte;
        }
        seal(bytes.get_mut(start..).unwrap_or_default(), self.offset);
        Ok(())
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
        Self::decode(header).map_or(Parsed::Damaged, |header| Parsed::Header(Box::new(header)))
    }

    fn decode(bytes: &[u8]) -> Result<Self, StorageError> {
        let (mut header, rest): (Self, _) = codec::decode_first("a batch header", bytes)?;
        if !rest.is_empty() {
            let epochs = codec::decode("the epochs", rest)?;
            let state = header.state.as_mut().ok_or_else(|| {
                StorageError::code("decode", "a batch header")("epochs without a state")
            })?;
            state.epochs = epochs;
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::{Header, Parsed, State, RECORD_HEADER_BYTES};
    use omnipaxos::{storage::Epoch, ClusterConfig};

    fn payload() -> Vec<u8> {
        let mut bytes = vec![1; 5];
        header().push_record(&mut bytes).unwrap();
        bytes.split_off(5 + RECORD_HEADER_BYTES)
    }

    fn header() -> Header {
        Header {
            offset: 7,
            batch: 3,
            part: 0,
            from: 12,
            records: 2,
            bytes: 60,
            state: Some(State { decided_idx: 5, end: 14, ..State::default() }),
        }
    }

    #[test]
    fn a_header_reads_as_it_was_written() {
        let payload = payload();
        assert!(matches!(Header::parse(&payload), Parsed::Header(read) if *read == header()));
    }

    #[test]
    fn epochs_follow_the_header() {
        let without = header();
        let state = State {
            epochs: vec![Epoch::new(7, ClusterConfig::default(), Some(vec![1])).into()],
            ..without.state.clone().unwrap()
        };
        let mut with = without;
        with.state = Some(state);
        let mut bytes = Vec::new();
        with.push_record(&mut bytes).unwrap();
        let payload = bytes.split_off(RECORD_HEADER_BYTES);
        assert!(matches!(Header::parse(&payload), Parsed::Header(read) if *read == with));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let payload = payload();
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
