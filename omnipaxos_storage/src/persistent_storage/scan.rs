//! Reading the log from its files when a storage is opened: what is whole is kept, what a crash
//! left half written is cut off, and anything else is reported.

use super::{
    batch::{chunk, Header, Parsed, State, FORMAT, RECORD_HEADER_BYTES},
    checkpoint::{Checkpoint, Place},
    error::StorageError,
    runs::Runs,
    segments::{self, SEGMENT_MAGIC},
};
use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

const SECTOR_BYTES: u64 = 512;

/// What the log holds.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) runs: Runs,
    pub(super) state: State,
    pub(super) batches: u64,
    pub(super) next_offset: u64,
    pub(super) end: Place,
    /// The segments, and where in each its records begin.
    pub(super) segments: Vec<(u64, Vec<u32>)>,
    /// What a crash left after the end.
    pub(super) has_torn_tail: bool,
}

/// Why a part could not be read.
struct Bad {
    byte: u64,
    what: String,
    /// Whether the file ends where more should be.
    is_short: bool,
}

/// A part that was read.
struct Part {
    header: Header,
    /// Where its records begin, that of the header first.
    positions: Vec<u32>,
    end: u64,
}

struct Scanner<'a> {
    folder: &'a Path,
    checkpoint: &'a Checkpoint,
    found: Scanned,
    /// The parts of a batch that is not complete yet, and where it began.
    open_parts: Vec<Header>,
    open_from: Place,
}

/// Reads all segments in `folder`.
///
/// # Errors
/// The log is damaged, or a file cannot be read.
pub(super) fn scan(folder: &Path, checkpoint: &Checkpoint) -> Result<Scanned, StorageError> {
    let bases = segments::list(folder)?;
    let found = Scanned {
        next_offset: checkpoint.first_segment,
        end: Place { segment: checkpoint.first_segment, byte: 0 },
        ..Scanned::default()
    };
    let open_from = found.end;
    let mut scanner = Scanner { folder, checkpoint, found, open_parts: Vec::new(), open_from };
    for (number, base) in bases.iter().enumerate() {
        let is_last = number + 1 == bases.len();
        scanner.scan_segment(*base, is_last)?;
    }
    scanner.finish()
}

impl Scanner<'_> {
    fn path(&self, base: u64) -> PathBuf {
        segments::log_file(self.folder, base)
    }

    fn corrupt(&self, place: Place, what: impl Into<String>) -> StorageError {
        StorageError::Corrupt {
            path: self.path(place.segment),
            byte: place.byte,
            what: what.into(),
        }
    }

    fn scan_segment(&mut self, base: u64, is_last: bool) -> Result<(), StorageError> {
        if base != self.found.next_offset {
            let missing = Place { segment: self.found.next_offset, byte: 0 };
            return Err(self.corrupt(missing, "this segment is missing"));
        }
        let path = self.path(base);
        let file = File::open(&path).map_err(StorageError::io("open", &path))?;
        let len = file.metadata().map_err(StorageError::io("read", &path))?.len();
        let mut magic = [0; 2];
        if file.read_exact_at(&mut magic, 0).is_err() || magic != SEGMENT_MAGIC {
            let is_half_made = len < 2 || magic == [0, 0];
            let bad =
                Bad { byte: 0, what: "the segment has no magic".into(), is_short: is_half_made };
            return self.cut_or_report(&file, Place { segment: base, byte: 0 }, len, bad, is_last);
        }
        self.found.segments.push((base, Vec::new()));
        let mut at = Place { segment: base, byte: 2 };
        let mut reader = Cursor { input: BufReader::with_capacity(1 << 20, &file), at: 0, len };
        reader.skip_magic().map_err(StorageError::io("read", &path))?;
        while at.byte < len {
            if self.open_parts.is_empty() {
                self.open_from = at;
            }
            let read = self.read_part(&mut reader).map_err(StorageError::io("read", &path))?;
            match read.and_then(|part| self.check(part, at)) {
                Ok(part) => {
                    at.byte = part.end;
                    self.take(part, at);
                }
                Err(bad) => {
                    if let Some(found) = bad.other_format() {
                        return Err(StorageError::Format { path, found, ours: FORMAT });
                    }
                    return self.cut_or_report(&file, self.open_from, len, bad, is_last);
                }
            }
        }
        if self.open_parts.is_empty() {
            self.found.end = at;
        }
        Ok(())
    }

    /// Reads the header record at the cursor, and the records that it announces.
    fn read_part(&self, reader: &mut Cursor<'_>) -> std::io::Result<Result<Part, Bad>> {
        let start = reader.at;
        let (_, payload) = match reader.record(self.found.next_offset)? {
            Ok(record) => record,
            Err(bad) => return Ok(Err(bad)),
        };
        let header = match Header::parse(&payload) {
            Parsed::Header(header) => *header,
            Parsed::OtherFormat(format) => {
                return Ok(Err(Bad {
                    byte: start,
                    what: format!("{OTHER_FORMAT}{format}"),
                    is_short: false,
                }));
            }
            Parsed::Damaged => {
                return Ok(Err(Bad {
                    byte: start,
                    what: "this is not the header of a batch".into(),
                    is_short: false,
                }));
            }
        };
        let mut positions = vec![position(start)];
        let mut crc = 0;
        let body_start = reader.at;
        for number in 0..u64::from(header.records) {
            positions.push(position(reader.at));
            let (raw, payload) = match reader.record(header.offset + 1 + number)? {
                Ok(record) => record,
                Err(bad) => return Ok(Err(bad)),
            };
            crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &raw), &payload);
        }
        if crc != header.crc || reader.at - body_start != header.bytes {
            return Ok(Err(Bad {
                byte: body_start,
                what: "the checksum of a batch is wrong".into(),
                is_short: false,
            }));
        }
        Ok(Ok(Part { header, positions, end: reader.at }))
    }

    /// Whether the part is the one that must follow.
    fn check(&self, part: Part, at: Place) -> Result<Part, Bad> {
        let header = &part.header;
        // The first segment kept may begin within a batch, of which the rest is not needed.
        let is_first = self.found.batches == 0 && self.open_parts.is_empty();
        let (batch, part_number) = match self.open_parts.last() {
            Some(before) => (before.batch, before.part + 1),
            None => (self.found.batches, 0),
        };
        let follows = header.offset == self.found.next_offset
            && (is_first || (header.batch, header.part) == (batch, part_number));
        if follows {
            Ok(part)
        } else {
            let what = "this batch does not follow the one before it".into();
            Err(Bad { byte: at.byte, what, is_short: false })
        }
    }

    fn take(&mut self, part: Part, end: Place) {
        let Part { header, positions, .. } = part;
        self.found.next_offset = header.offset + 1 + u64::from(header.records);
        if let Some((_, known)) = self.found.segments.last_mut() {
            known.extend(positions);
        }
        self.open_parts.push(header);
        let Some(state) = self.open_parts.last().and_then(|header| header.state.clone()) else {
            return;
        };
        for part in self.open_parts.drain(..) {
            self.found.runs.put(part.from, part.offset + 1, u64::from(part.records));
            self.found.batches = part.batch + 1;
        }
        self.found.runs.trim(state.first);
        self.found.state = state;
        self.found.end = end;
    }

    /// Cuts off what a crash may have left: it is in the last segment, beyond what is known to be
    /// synced, nothing whole comes after it, and it is short or holds a sector that was never
    /// written. Anything else is damage.
    fn cut_or_report(
        &mut self,
        file: &File,
        from: Place,
        len: u64,
        bad: Bad,
        is_last: bool,
    ) -> Result<(), StorageError> {
        let place = Place { segment: self.segment_of_bad(from, &bad), byte: bad.byte };
        let is_torn = is_last && from >= self.checkpoint.durable && {
            let rest = read_from(file, bad.byte, len)
                .map_err(StorageError::io("read", self.path(place.segment)))?;
            // Past the magic of the bad header itself.
            let after = rest.get(RECORD_HEADER_BYTES + 4..).unwrap_or_default();
            !Header::is_any_in(after) && (bad.is_short || has_unwritten_sector(&rest, bad.byte))
        };
        if !is_torn {
            return Err(self.corrupt(place, bad.what));
        }
        self.forget_open_parts();
        self.found.has_torn_tail = true;
        Ok(())
    }

    /// The segment that is being read, which is a later one than where its batch began, perhaps.
    fn segment_of_bad(&self, from: Place, bad: &Bad) -> u64 {
        match self.found.segments.last() {
            Some((base, _)) if bad.byte > 0 => *base,
            Some(_) | None => from.segment.max(self.found.next_offset),
        }
    }

    /// Forgets the parts of a batch that was not completed.
    fn forget_open_parts(&mut self) {
        if let Some(first) = self.open_parts.first() {
            self.found.next_offset = first.offset;
        }
        self.open_parts.clear();
        let end = self.found.end;
        self.found.segments.retain(|(base, _)| *base <= end.segment);
        if let Some((_, positions)) = self.found.segments.last_mut() {
            positions.retain(|position| u64::from(*position) < end.byte);
        }
    }

    fn finish(mut self) -> Result<Scanned, StorageError> {
        if !self.open_parts.is_empty() {
            if self.open_from < self.checkpoint.durable {
                return Err(self.corrupt(self.open_from, "a batch ends before its last part"));
            }
            self.forget_open_parts();
            self.found.has_torn_tail = true;
        }
        let (end, batches) = (self.found.end, self.found.batches);
        if end < self.checkpoint.durable || batches < self.checkpoint.batches {
            let what = format!(
                "the log ends here after {batches} batches, but {} were stored",
                self.checkpoint.batches
            );
            return Err(self.corrupt(end, what));
        }
        Ok(self.found)
    }
}

const OTHER_FORMAT: &str = "format ";

impl Bad {
    fn other_format(&self) -> Option<u16> {
        self.what.strip_prefix(OTHER_FORMAT).and_then(|format| format.parse().ok())
    }
}

/// Reads records from a segment.
struct Cursor<'a> {
    input: BufReader<&'a File>,
    at: u64,
    len: u64,
}

impl Cursor<'_> {
    fn skip_magic(&mut self) -> std::io::Result<()> {
        self.input.read_exact(&mut [0; 2])?;
        self.at = 2;
        Ok(())
    }

    /// The record header and payload at the cursor, if they are those of record `offset`.
    #[allow(clippy::type_complexity, reason = "a record: its header and its payload")]
    fn record(
        &mut self,
        offset: u64,
    ) -> std::io::Result<Result<([u8; RECORD_HEADER_BYTES], Vec<u8>), Bad>> {
        let start = self.at;
        let bad = |what: &str, is_short| Ok(Err(Bad { byte: start, what: what.into(), is_short }));
        let mut raw = [0; RECORD_HEADER_BYTES];
        match self.input.read_exact(&mut raw) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return bad("the file ends within a record", true);
            }
            Err(error) => return Err(error),
        }
        self.at += RECORD_HEADER_BYTES as u64;
        let stored_offset = chunk::<8>(&raw, 0).map(u64::from_le_bytes);
        if stored_offset != Some(offset) {
            return bad("the offset of a record is wrong", false);
        }
        let size = u64::from(chunk::<4>(&raw, 8).map(u32::from_le_bytes).unwrap_or(u32::MAX));
        if size > self.len.saturating_sub(self.at) {
            return bad("the file ends within a record", true);
        }
        let mut payload = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        self.input.read_exact(&mut payload)?;
        self.at += size;
        Ok(Ok((raw, payload)))
    }
}

fn position(byte: u64) -> u32 {
    u32::try_from(byte).unwrap_or(u32::MAX)
}

/// The bytes of a file from `start` to `len`.
pub(super) fn read_from(file: &File, start: u64, len: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len.saturating_sub(start)).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

/// Whether some sector of the disk, as far as it lies in `bytes` that begin at `start`, is zero.
fn has_unwritten_sector(bytes: &[u8], start: u64) -> bool {
    let to_boundary = SECTOR_BYTES - start % SECTOR_BYTES;
    let (head, rest) = bytes.split_at(bytes.len().min(to_boundary as usize));
    std::iter::once(head)
        .chain(rest.chunks(SECTOR_BYTES as usize))
        .any(|sector| !sector.is_empty() && sector.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use super::has_unwritten_sector;

    #[test]
    fn sectors_are_those_of_the_disk() {
        let mut bytes = vec![1; 2000];
        assert!(!has_unwritten_sector(&bytes, 700));
        bytes[324..836].fill(0);
        assert!(has_unwritten_sector(&bytes, 700), "sector 1024..1536 begins at 324");
        assert!(!has_unwritten_sector(&bytes, 600));
        assert!(has_unwritten_sector(&[0, 0, 1], 510), "the end of a sector");
        assert!(!has_unwritten_sector(&[], 0));
    }
}
