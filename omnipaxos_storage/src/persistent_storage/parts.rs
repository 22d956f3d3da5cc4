//! A batch as bytes, which are appended to the commit log and written to the journal.

use super::{
    batch::{Header, Parsed, State, PREFIX_BYTES},
    error::StorageError,
    format::SPARE_INDEX_ENTRIES,
    records::{RecordHeader, Records, RECORD_HEADER_BYTES},
};
use std::ops::Range;

/// The largest number of records in one part. The index of a segment always has room for them.
const RECORDS_PER_PART: usize = SPARE_INDEX_ENTRIES / 4;

/// Space for the header of a part without state.
const PART_HEADER_BYTES: usize = 256;

/// All parts of a batch.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) bytes: Vec<u8>,
    pub(super) parts: Vec<Part>,
    /// The state after the batch.
    pub(super) state: State,
}

/// One part, which is appended to the commit log at once.
#[derive(Debug)]
pub(super) struct Part {
    /// Its range in the bytes.
    pub(super) range: Range<usize>,
    /// Offset of its first record, the header.
    pub(super) offset: u64,
    /// Position in the log of its first entry.
    pub(super) position: u64,
    /// Number of entries.
    pub(super) count: u64,
}

/// The position of a batch.
#[derive(Copy, Clone, Debug)]
pub(super) struct Target {
    /// Its number.
    pub(super) batch: u64,
    /// The offset of its first record.
    pub(super) offset: u64,
    /// The largest part, in bytes.
    pub(super) part_bytes: usize,
}

/// Returns the largest payload that fits a part of this size.
pub(super) fn largest_payload(part_bytes: usize) -> usize {
    part_bytes - RECORD_HEADER_BYTES * 2 - PART_HEADER_BYTES
}

impl Parts {
    /// Creates a batch of entries that replace those from `from` on, with the state after it.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] if the state does not fit a part.
    pub(super) fn new(
        target: Target,
        from: u64,
        records: &mut Records,
        state: State,
    ) -> Result<Self, StorageError> {
        let ranges = split(records, &state, target.part_bytes)?;
        let mut made = Self {
            bytes: Vec::with_capacity(PART_HEADER_BYTES + records.byte_len(0..records.len())),
            parts: Vec::with_capacity(ranges.len()),
            state: State::default(),
        };
        let (mut offset, mut position) = (target.offset, from);
        let mut state = Some(state);
        let last = ranges.len().saturating_sub(1);
        for (number, range) in ranges.into_iter().enumerate() {
            let start = made.bytes.len();
            let count = range.len() as u64;
            let header = Header {
                offset,
                batch: target.batch,
                part: number as u32,
                from: position,
                records: range.len() as u32,
                bytes: records.byte_len(range.clone()) as u64,
                state: if number == last { state.take() } else { None },
            };
            header.push_record(&mut made.bytes)?;
            made.bytes.extend_from_slice(records.seal(range, offset + 1));
            let bytes = made.bytes.len() - start;
            assert!(bytes <= target.part_bytes, "{bytes} in a part of {}", target.part_bytes);
            made.parts.push(Part { range: start..made.bytes.len(), offset, position, count });
            made.state = header.state.unwrap_or_default();
            offset += 1 + count;
            position += count;
        }
        Ok(made)
    }

    /// Parses a batch that was created before and must be the next one; `None` if it is not.
    pub(super) fn parse(bytes: Vec<u8>, batch: u64, mut offset: u64) -> Option<Self> {
        let mut parts = Vec::new();
        let mut start = 0;
        loop {
            let rest = bytes.get(start..)?;
            let record = RecordHeader::read(rest)?;
            let header_end = usize::try_from(record.record_bytes()).ok()?;
            let payload = rest.get(RECORD_HEADER_BYTES..header_end)?;
            let Parsed::Header(header) = Header::parse(payload) else {
                return None;
            };
            if (header.batch, header.offset) != (batch, offset) {
                return None;
            }
            let end = start.checked_add(header_end)?.checked_add(header.bytes.try_into().ok()?)?;
            let count = u64::from(header.records);
            parts.push(Part { range: start..end, offset, position: header.from, count });
            offset += 1 + count;
            start = end;
            if let Some(state) = header.state {
                return (end == bytes.len()).then_some(Self { bytes, parts, state });
            }
        }
    }

    /// Returns the bytes of a part.
    pub(super) fn bytes_of(&self, part: &Part) -> &[u8] {
        self.bytes.get(part.range.clone()).unwrap_or_default()
    }
}

/// Splits records into parts of at most `room` bytes. The last part contains the state. If there is
/// no room for it beside entries, the last part has no entries: a stop sign can be large.
fn split(records: &Records, state: &State, room: usize) -> Result<Vec<Range<usize>>, StorageError> {
    let state_bytes = usize::try_from(state.encoded_len()?).unwrap_or(usize::MAX);
    let header_bytes =
        state_bytes.saturating_add(RECORD_HEADER_BYTES + PREFIX_BYTES + PART_HEADER_BYTES);
    if header_bytes > room {
        return Err(StorageError::TooLarge {
            what: "a stop sign with its metadata",
            bytes: header_bytes as u64,
            limit: room as u64,
        });
    }
    let mut ranges = Vec::new();
    let mut range = 0..0;
    for number in 0..records.len() {
        let with_it =
            RECORD_HEADER_BYTES + PART_HEADER_BYTES + records.byte_len(range.start..number + 1);
        if !range.is_empty() && (with_it > room || range.len() == RECORDS_PER_PART) {
            ranges.push(range);
            range = number..number;
        }
        range.end = number + 1;
    }
    let needs_own_header = header_bytes + records.byte_len(range.clone()) > room;
    ranges.push(range);
    if needs_own_header && !records.is_empty() {
        ranges.push(records.len()..records.len());
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::{largest_payload, Parts, Target};
    use crate::persistent_storage::{batch::State, records::Records};

    fn made(entries: usize) -> Parts {
        let part_bytes = 4096;
        let mut records = Records::default();
        for _ in 0..entries {
            records.push("a value", &vec![7u8; 1500], largest_payload(part_bytes)).unwrap();
        }
        let target = Target { batch: 3, offset: 20, part_bytes };
        let state = State { end: 100 + entries as u64, ..State::default() };
        Parts::new(target, 100, &mut records, state).unwrap()
    }

    #[test]
    fn a_batch_reads_as_it_was_made() {
        for entries in [0, 1, 2, 5] {
            let made = made(entries);
            assert_eq!(made.parts.len(), entries.div_ceil(2).max(1));
            let read = Parts::parse(made.bytes.clone(), 3, 20).unwrap();
            assert_eq!(read.state, made.state);
            let places = |parts: &Parts| -> Vec<_> {
                let of = |part: &super::Part| {
                    (part.range.clone(), part.offset, part.position, part.count)
                };
                parts.parts.iter().map(of).collect()
            };
            assert_eq!(places(&read), places(&made));
            assert!(Parts::parse(made.bytes.clone(), 4, 20).is_none(), "another batch");
            assert!(Parts::parse(made.bytes.clone(), 3, 21).is_none(), "another place");
            for length in 0..made.bytes.len() {
                let cut = made.bytes.get(..length).unwrap_or_default().to_vec();
                assert!(Parts::parse(cut, 3, 20).is_none(), "{length} bytes");
            }
        }
    }
}
