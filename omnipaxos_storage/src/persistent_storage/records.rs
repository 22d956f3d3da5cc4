//! Entries encoded as records of the commit log, consecutive in one buffer.
//!
//! A record is, in little endian: its offset (8 bytes), the size of its payload (4), the payload's
//! CRC-32C (4), four zeros, which the commit log uses for metadata, and the payload.

use super::{codec, error::StorageError, format::chunk};
use serde::Serialize;
use std::ops::Range;

/// Bytes before each payload.
pub(super) const RECORD_HEADER_BYTES: usize = 20;

/// A larger buffer is freed after use.
const KEPT_BYTES: usize = 1 << 20;

/// Records without their headers, which need the offset of the first record.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    /// The end of each record.
    ends: Vec<usize>,
}

/// The content of a record header.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) struct RecordHeader {
    pub(super) offset: u64,
    pub(super) size: u32,
    crc: u32,
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Encodes a value as the next record.
    ///
    /// # Errors
    /// The value cannot be encoded, or has more than `limit` bytes. Then the buffer must be
    /// cleared.
    pub(super) fn push<V: Serialize>(
        &mut self,
        what: &'static str,
        value: &V,
        limit: usize,
    ) -> Result<(), StorageError> {
        let start = self.bytes.len() + RECORD_HEADER_BYTES;
        self.bytes.resize(start, 0);
        codec::encode_into(what, value, &mut self.bytes)?;
        let size = self.bytes.len() - start;
        if size > limit {
            return Err(StorageError::TooLarge { what, bytes: size as u64, limit: limit as u64 });
        }
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Keeps the first `count` records.
    pub(super) fn truncate(&mut self, count: usize) {
        self.ends.truncate(count);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// Removes the first `count` records.
    pub(super) fn drop_front(&mut self, count: usize) {
        let count = count.min(self.len());
        let gone = self.start(count);
        self.bytes.drain(..gone);
        self.ends.drain(..count);
        for end in &mut self.ends {
            *end -= gone;
        }
    }

    /// Removes all records, and frees an unusually large buffer.
    pub(super) fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES {
            *self = Self::default();
        }
        self.bytes.clear();
        self.ends.clear();
    }

    /// Returns the bytes of these records, including headers.
    pub(super) fn byte_len(&self, records: Range<usize>) -> usize {
        self.start(records.end) - self.start(records.start)
    }

    /// Writes the headers of these records. The first gets `offset`. Returns their bytes.
    pub(super) fn seal(&mut self, records: Range<usize>, offset: u64) -> &[u8] {
        let range = self.start(records.start)..self.start(records.end);
        for (record, offset) in records.zip(offset..) {
            let record = self.start(record)..self.start(record + 1);
            seal(self.bytes.get_mut(record).unwrap_or_default(), offset);
        }
        self.bytes.get(range).unwrap_or_default()
    }

    /// Returns the start of record `number`.
    fn start(&self, number: usize) -> usize {
        let before = number.checked_sub(1).and_then(|before| self.ends.get(before));
        before.copied().unwrap_or(0)
    }
}

/// Writes the header of the record in `record`, which has space for it.
pub(super) fn seal(record: &mut [u8], offset: u64) {
    if let Some((header, payload)) = record.split_first_chunk_mut::<RECORD_HEADER_BYTES>() {
        let offset = offset.to_le_bytes();
        let size = (payload.len() as u32).to_le_bytes();
        let crc = crc32c::crc32c(payload).to_le_bytes();
        let parts: [&[u8]; 4] = [&offset, &size, &crc, &[0; 4]];
        for (place, byte) in header.iter_mut().zip(parts.into_iter().flatten()) {
            *place = *byte;
        }
    }
}

impl RecordHeader {
    /// Reads the header at the beginning of `bytes`; `None` if there is none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let has_metadata = chunk::<4>(bytes, 16)? != [0; 4];
        let header = Self {
            offset: chunk::<8>(bytes, 0).map(u64::from_le_bytes)?,
            size: chunk::<4>(bytes, 8).map(u32::from_le_bytes)?,
            crc: chunk::<4>(bytes, 12).map(u32::from_le_bytes)?,
        };
        (!has_metadata).then_some(header)
    }

    /// Returns the bytes of the record, including this header.
    pub(super) fn record_bytes(&self) -> u64 {
        RECORD_HEADER_BYTES as u64 + u64::from(self.size)
    }

    /// Returns whether this is the payload that was written.
    pub(super) fn is_of(&self, payload: &[u8]) -> bool {
        payload.len() == self.size as usize && self.crc == crc32c::crc32c(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::{RecordHeader, Records, RECORD_HEADER_BYTES};
    use commitlog::message::{MessageBuf, MessageSet};

    fn records(values: &[u8]) -> Records {
        let mut records = Records::default();
        for value in values {
            records.push("a value", &vec![*value; 3], 10).unwrap();
        }
        records
    }

    #[test]
    fn are_what_the_commit_log_reads() {
        let mut ours = records(&[1, 2, 3]);
        let bytes = ours.seal(1..3, 7).to_vec();
        let theirs = MessageBuf::from_bytes(bytes).unwrap();
        let read: Vec<_> = theirs.iter().map(|m| (m.offset(), m.payload().to_vec())).collect();
        assert_eq!(read, [(7, vec![3, 2, 2, 2]), (8, vec![3, 3, 3, 3])]);
        assert!(theirs.iter().all(|message| message.verify_hash()));
    }

    #[test]
    fn are_cut_at_both_ends() {
        let mut ours = records(&[1, 2, 3, 4]);
        ours.drop_front(1);
        ours.truncate(2);
        assert_eq!((ours.len(), ours.byte_len(0..2)), (2, 48));
        let bytes = ours.seal(0..2, 0);
        assert_eq!(bytes.get(RECORD_HEADER_BYTES..24), Some([3, 2, 2, 2].as_slice()));
        assert_eq!(bytes.get(44..), Some([3, 3, 3, 3].as_slice()));
        ours.drop_front(9);
        assert_eq!((ours.len(), ours.seal(0..0, 0).len()), (0, 0));
    }

    #[test]
    fn over_the_limit_are_refused() {
        let mut ours = Records::default();
        assert!(ours.push("a value", &vec![1u8; 10], 10).is_err());
        ours.clear();
        assert!(ours.push("a value", &vec![1u8; 9], 10).is_ok());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let whole = records(&[5]).seal(0..1, 7).to_vec();
        let is_whole = |bytes: &[u8]| {
            RecordHeader::read(bytes).is_some_and(|header| {
                let payload = bytes.get(RECORD_HEADER_BYTES..).unwrap_or_default();
                header.offset == 7 && header.is_of(payload)
            })
        };
        assert!(is_whole(&whole));
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_whole(&flipped), "bit {bit}");
        }
    }
}
