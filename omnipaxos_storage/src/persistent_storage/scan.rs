//! Reads the log from its files when a storage is opened, up to the checkpoint. All of that is
//! certainly on the disk, so any difference from what was written is damage.

use super::{
    batch::{Header, Parsed, State},
    checkpoint::{Checkpoint, Place},
    error::StorageError,
    format::{self, FORMAT, SEGMENT_MAGIC},
    records::{RecordHeader, RECORD_HEADER_BYTES},
    runs::Runs,
};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

/// The content of the log up to the checkpoint.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) runs: Runs,
    pub(super) state: State,
    pub(super) batches: u64,
    pub(super) next_offset: u64,
    pub(super) end: Place,
    /// The segments, and the positions of the records in each.
    pub(super) segments: Vec<(u64, Vec<u32>)>,
}

/// Why a part could not be read.
enum Bad {
    Io(io::Error),
    Damaged { byte: u64, what: &'static str },
    Format(u16),
}

impl From<io::Error> for Bad {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads the files in `folder` up to the checkpoint.
///
/// # Errors
/// The log is damaged, or a file cannot be read.
pub(super) fn scan(folder: &Path, checkpoint: &Checkpoint) -> Result<Scanned, StorageError> {
    let mut scanner = Scanner {
        found: Scanned { next_offset: checkpoint.first_segment, ..Scanned::default() },
        open_parts: Vec::new(),
    };
    let corrupt = |segment: u64, byte: u64, what: &str| StorageError::Corrupt {
        path: format::log_file(folder, segment),
        byte,
        what: what.to_string(),
    };
    let durable = checkpoint.durable;
    while scanner.found.end != durable {
        let base = scanner.found.next_offset;
        if base > durable.segment {
            return Err(corrupt(durable.segment, durable.byte, "no batch ends here"));
        }
        let path = format::log_file(folder, base);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StorageError::Missing { path });
            }
            Err(error) => return Err(StorageError::io("open", path)(error)),
        };
        let end = (base == durable.segment).then_some(durable.byte);
        scanner.scan_segment(&file, base, end).map_err(|bad| match bad {
            Bad::Io(error) => StorageError::io("read", path)(error),
            Bad::Damaged { byte, what } => corrupt(base, byte, what),
            Bad::Format(found) => StorageError::Format { path, found, ours: FORMAT },
        })?;
        if scanner.found.next_offset == base {
            return Err(corrupt(base, SEGMENT_MAGIC.len() as u64, "this segment is empty"));
        }
    }
    let found = scanner.found;
    if found.batches != checkpoint.batches {
        let what =
            format!("{} batches end here, but {} were stored", found.batches, checkpoint.batches);
        return Err(corrupt(durable.segment, durable.byte, &what));
    }
    Ok(found)
}

struct Scanner {
    found: Scanned,
    /// The parts of a batch that is not complete.
    open_parts: Vec<Header>,
}

impl Scanner {
    /// Reads a segment up to `end`, or completely.
    fn scan_segment(&mut self, file: &File, base: u64, end: Option<u64>) -> Result<(), Bad> {
        let len = file.metadata()?.len();
        let end = end.unwrap_or(len);
        if len < end {
            return Err(Bad::Damaged { byte: len, what: "the segment ends too early" });
        }
        let mut cursor = Cursor { input: BufReader::with_capacity(1 << 20, file), at: 0, end };
        let mut magic = SEGMENT_MAGIC;
        cursor.fill(&mut magic)?;
        if magic != SEGMENT_MAGIC {
            return Err(Bad::Damaged { byte: 0, what: "the segment does not begin as one" });
        }
        self.found.segments.push((base, Vec::new()));
        while cursor.at < end {
            let header = self.read_part(&mut cursor)?;
            self.take(header, Place { segment: base, byte: cursor.at });
        }
        Ok(())
    }

    /// Reads the header record at the cursor, and skips the records that it announces.
    fn read_part(&mut self, cursor: &mut Cursor<'_>) -> Result<Header, Bad> {
        let start = cursor.at;
        let damaged = |what| Bad::Damaged { byte: start, what };
        let mut payload = Vec::new();
        cursor.record(self.found.next_offset, &mut payload)?;
        let header = match Header::parse(&payload) {
            Parsed::Header(header) => *header,
            Parsed::OtherFormat(format) => return Err(Bad::Format(format)),
            Parsed::Damaged => return Err(damaged("this is not the header of a batch")),
        };
        if !self.follows(&header) {
            return Err(damaged("this batch does not follow the one before it"));
        }
        let mut positions = Vec::with_capacity(1 + header.records as usize);
        positions.push(position(start));
        let body_start = cursor.at;
        for number in 1..=u64::from(header.records) {
            positions.push(position(cursor.at));
            cursor.record(header.offset + number, &mut payload)?;
        }
        if cursor.at - body_start != header.bytes {
            return Err(damaged("this batch has another length than its header says"));
        }
        if let Some((_, known)) = self.found.segments.last_mut() {
            known.extend(positions);
        }
        Ok(header)
    }

    /// Returns whether a part is the expected one.
    fn follows(&self, header: &Header) -> bool {
        let (batch, part) = match self.open_parts.last() {
            Some(before) => (before.batch, before.part + 1),
            None => (self.found.batches, 0),
        };
        // The first segment may begin within a batch. The rest of that batch is not needed.
        let is_first = self.found.batches == 0 && self.open_parts.is_empty();
        header.offset == self.found.next_offset
            && (is_first || (header.batch, header.part) == (batch, part))
    }

    fn take(&mut self, header: Header, end: Place) {
        self.found.next_offset = header.offset + 1 + u64::from(header.records);
        let state = header.state.clone();
        self.open_parts.push(header);
        if let Some(state) = state {
            for part in self.open_parts.drain(..) {
                self.found.runs.put(part.from, part.offset + 1, u64::from(part.records));
                self.found.batches = part.batch + 1;
            }
            self.found.runs.trim(state.first);
            self.found.state = state;
            self.found.end = end;
        }
    }
}

/// Reads records from a segment.
struct Cursor<'a> {
    input: BufReader<&'a File>,
    at: u64,
    end: u64,
}

impl Cursor<'_> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Bad> {
        if bytes.len() as u64 > self.end - self.at {
            return Err(Bad::Damaged { byte: self.at, what: "this record is cut off" });
        }
        self.input.read_exact(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Reads the payload of record `offset` at the cursor.
    fn record(&mut self, offset: u64, payload: &mut Vec<u8>) -> Result<(), Bad> {
        let start = self.at;
        let damaged = |what| Bad::Damaged { byte: start, what };
        let mut raw = [0; RECORD_HEADER_BYTES];
        self.fill(&mut raw)?;
        let header = RecordHeader::read(&raw).ok_or(damaged("this is not a record"))?;
        if header.offset != offset {
            return Err(damaged("the offset of this record is wrong"));
        }
        if u64::from(header.size) > self.end - self.at {
            return Err(damaged("this record is cut off"));
        }
        payload.resize(header.size as usize, 0);
        self.fill(payload)?;
        match header.is_of(payload) {
            true => Ok(()),
            false => Err(damaged("the checksum of this record is wrong")),
        }
    }
}

fn position(byte: u64) -> u32 {
    u32::try_from(byte).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{scan, Scanned};
    use crate::persistent_storage::{
        background::Background,
        checkpoint::{Checkpoint, Place},
        flipped::Flipped,
        format,
        large_snapshots::Wait,
        log::Log,
        parts::{largest_payload, Parts},
        records::Records,
        segments,
    };
    use std::{fs, path::Path};

    /// Writes batches of up to three entries to a log with segments of 4 KiB.
    fn written(folder: &Path) -> Checkpoint {
        let mut log = Log::open(folder, 4096, &Scanned::default()).unwrap();
        let mut background = Background::start(folder).unwrap();
        for batch in 0..8u64 {
            let target = log.target();
            let mut records = Records::default();
            for entry in 0..batch % 4 {
                let value = vec![entry as u8; 300];
                records.push("a value", &value, largest_payload(target.part_bytes)).unwrap();
            }
            let parts = Parts::new(target, batch, &mut records, Default::default()).unwrap();
            log.append(&parts, &mut background).unwrap();
        }
        assert!(background.next(Wait::UntilWritten).unwrap().is_none());
        Checkpoint {
            first_segment: 0,
            durable: log.end_of_batches(),
            batches: log.batches(),
            stamp: 0,
            journal_bytes: [0, 0],
            is_closed: true,
            format: format::CHECKPOINT_FORMAT,
        }
    }

    #[test]
    fn every_flipped_bit_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = written(folder.path());
        assert_eq!(scan(folder.path(), &checkpoint).unwrap().batches, 8);
        let segments = segments::list(folder.path()).unwrap();
        assert!(segments.len() > 1);
        for base in segments {
            let file = format::log_file(folder.path(), base);
            let mut flipped = Flipped::open(&file);
            for bit in 0..flipped.bits() {
                flipped.flip(bit);
                assert!(scan(folder.path(), &checkpoint).is_err(), "bit {bit} of segment {base}");
                flipped.flip(bit);
            }
        }
    }

    #[test]
    fn a_log_that_ends_elsewhere_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = written(folder.path());
        let refused = |checkpoint: Checkpoint| {
            scan(folder.path(), &checkpoint).expect_err("it is read").to_string()
        };
        let elsewhere =
            |segment, byte| Checkpoint { durable: Place { segment, byte }, ..checkpoint.clone() };
        let Place { segment, byte } = checkpoint.durable;
        assert!(refused(elsewhere(segment, byte + 1)).contains("ends too early"));
        assert!(refused(elsewhere(segment, byte - 1)).contains("cut off"));
        assert!(refused(elsewhere(segment + 9, byte)).contains("is missing"));
        let fewer = Checkpoint { batches: 7, ..checkpoint.clone() };
        assert!(refused(fewer).contains("8 batches end here, but 7 were stored"));
        fs::remove_file(format::log_file(folder.path(), 0)).unwrap();
        assert!(refused(checkpoint.clone()).contains("is missing"));
    }
}
