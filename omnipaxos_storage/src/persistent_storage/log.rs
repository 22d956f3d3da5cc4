//! The commit log: appending batches, syncing them, reading entries.

use super::{
    batch::{chunk, Header, State, PREFIX_BYTES, RECORD_HEADER_BYTES},
    checkpoint::{sync_folder, Place},
    codec,
    error::StorageError,
    scan::Scanned,
    segments::{self, IndexRoom, SEGMENT_MAGIC, SPARE_INDEX_ENTRIES},
};
use commitlog::{
    message::{self, MessageError, MessageSet},
    reader::LogSliceReader,
    AppendError, CommitLog, LogOptions, ReadError, ReadLimit,
};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Records of one part. The index of a segment has room for so many at any time.
const RECORDS_PER_PART: usize = SPARE_INDEX_ENTRIES / 4;

/// Room for the header of a part without state.
const PART_HEADER_BYTES: usize = 256;

/// The least segment size; smaller settings are raised to it.
const LEAST_SEGMENT_BYTES: usize = 4 << 10;

/// The largest segment size: positions in a segment have 32 bits.
const LARGEST_SEGMENT_BYTES: usize = 3 << 30;

/// The whole rest of a segment.
const REST: usize = u32::MAX as usize;

/// An open commit log.
pub(super) struct Log {
    commit: CommitLog,
    folder: PathBuf,
    segment_bytes: usize,
    /// The offsets with which segments begin.
    segments: BTreeSet<u64>,
    /// Where the next record goes.
    end: Place,
    index_room: IndexRoom,
    batches: u64,
}

/// Where the entries of a part went.
pub(super) struct Put {
    pub(super) position: u64,
    pub(super) offset: u64,
    pub(super) count: u64,
}

impl Log {
    /// Opens the commit log, of which the files were scanned and repaired.
    pub(super) fn open(
        folder: &Path,
        segment_bytes: usize,
        found: &Scanned,
    ) -> Result<Self, StorageError> {
        let segment_bytes = segment_bytes.clamp(LEAST_SEGMENT_BYTES, LARGEST_SEGMENT_BYTES);
        let commit = open_commit_log(folder, segment_bytes)?;
        if commit.next_offset() != found.next_offset {
            return Err(StorageError::Corrupt {
                path: folder.to_path_buf(),
                byte: 0,
                what: format!(
                    "the commit log goes on at record {}, not {}",
                    commit.next_offset(),
                    found.next_offset
                ),
            });
        }
        let mut segments: BTreeSet<u64> = found.segments.iter().map(|(base, _)| *base).collect();
        let mut end = found.end;
        if segments.is_empty() {
            segments.insert(found.next_offset);
            sync_folder(folder)?;
        }
        if let Some(last) = segments.last().filter(|last| **last > end.segment || end.byte == 0) {
            end = Place { segment: *last, byte: SEGMENT_MAGIC.len() as u64 };
        }
        let records = found.segments.last().map_or(0, |(_, positions)| positions.len());
        Ok(Self {
            commit,
            folder: folder.to_path_buf(),
            segment_bytes,
            segments,
            end,
            index_room: IndexRoom::after(records),
            batches: found.batches,
        })
    }

    /// Where the next record goes: all before it is synced.
    pub(super) fn end(&self) -> Place {
        self.end
    }

    /// Whether the last segment holds a whole batch: it always does, unless a crash left nothing
    /// else in it.
    pub(super) fn ends_with_a_batch(&self) -> bool {
        self.end.byte > SEGMENT_MAGIC.len() as u64
    }

    pub(super) fn batches(&self) -> u64 {
        self.batches
    }

    /// The largest entry that fits a segment.
    pub(super) fn largest_entry(&self) -> usize {
        self.segment_bytes - SEGMENT_MAGIC.len() - RECORD_HEADER_BYTES * 2 - PART_HEADER_BYTES
    }

    /// Writes a batch and syncs it: the commit point. Entries replace what is at `from` and after.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] before anything was written; else it is not known what was.
    pub(super) fn write(
        &mut self,
        from: u64,
        entries: &[Vec<u8>],
        state: State,
    ) -> Result<Vec<Put>, StorageError> {
        let parts = self.parts(entries, &state)?;
        let mut puts = Vec::with_capacity(parts.len());
        let mut position = from;
        let mut rolled = false;
        let mut state = Some(state);
        let last = parts.len().saturating_sub(1);
        for (number, part) in parts.into_iter().enumerate() {
            let state = if number == last { state.take() } else { None };
            let offset = self.commit.next_offset();
            let bytes = self.part_bytes(offset, number, position, part, state)?;
            rolled |= self.append(offset, part.len() + 1, bytes, number > 0)?;
            let count = part.len() as u64;
            puts.push(Put { position, offset: offset + 1, count });
            position += count;
        }
        self.sync()?;
        if rolled {
            sync_folder(&self.folder)?;
        }
        self.batches += 1;
        Ok(puts)
    }

    /// Cuts a batch into parts that fit a segment. The state is in the last, which has no entries if
    /// they leave no room for it: a stop sign can be large.
    fn parts<'a>(
        &self,
        entries: &'a [Vec<u8>],
        state: &State,
    ) -> Result<Vec<&'a [Vec<u8>]>, StorageError> {
        let room = self.segment_bytes - SEGMENT_MAGIC.len();
        let state_bytes = codec::encode("the state", state)?.len();
        let header_bytes = RECORD_HEADER_BYTES + PREFIX_BYTES + PART_HEADER_BYTES + state_bytes;
        if header_bytes > room {
            return Err(StorageError::TooLarge {
                what: "a stop sign with its metadata",
                bytes: header_bytes as u64,
                limit: room as u64,
            });
        }
        let mut parts = self.split(entries);
        let last = parts.last().copied().unwrap_or_default();
        let last_bytes: usize = last.iter().map(|entry| RECORD_HEADER_BYTES + entry.len()).sum();
        if !last.is_empty() && header_bytes + last_bytes > room {
            parts.push(&[]);
        }
        Ok(parts)
    }

    /// Cuts entries into parts that fit a segment. No entries make one part without any.
    fn split<'a>(&self, entries: &'a [Vec<u8>]) -> Vec<&'a [Vec<u8>]> {
        let room =
            self.segment_bytes - SEGMENT_MAGIC.len() - RECORD_HEADER_BYTES - PART_HEADER_BYTES;
        let mut parts = Vec::new();
        let mut rest = entries;
        loop {
            let mut bytes = 0;
            let fitting = rest
                .iter()
                .take(RECORDS_PER_PART)
                .take_while(|entry| {
                    bytes += RECORD_HEADER_BYTES + entry.len();
                    bytes <= room
                })
                .count();
            let (part, later) = rest.split_at(fitting.max(1).min(rest.len()));
            parts.push(part);
            if later.is_empty() {
                return parts;
            }
            rest = later;
        }
    }

    /// The records of a part, as the commit log writes them.
    fn part_bytes(
        &self,
        offset: u64,
        number: usize,
        from: u64,
        entries: &[Vec<u8>],
        state: Option<State>,
    ) -> Result<Vec<u8>, StorageError> {
        let mut body =
            Vec::with_capacity(entries.iter().map(|entry| RECORD_HEADER_BYTES + entry.len()).sum());
        for (record, entry) in (offset + 1..).zip(entries) {
            push_record(&mut body, record, entry)?;
        }
        let header = Header {
            offset,
            batch: self.batches,
            part: number as u32,
            from,
            records: entries.len() as u32,
            bytes: body.len() as u64,
            crc: crc32c::crc32c(&body),
            state,
        };
        let payload = header.to_payload()?;
        let mut bytes = Vec::with_capacity(RECORD_HEADER_BYTES + payload.len() + body.len());
        push_record(&mut bytes, offset, &payload)?;
        bytes.append(&mut body);
        let room = self.segment_bytes - SEGMENT_MAGIC.len();
        assert!(bytes.len() <= room, "a part of {} bytes in a room of {room}", bytes.len());
        Ok(bytes)
    }

    /// Appends one part. Returns whether a segment was begun.
    fn append(
        &mut self,
        offset: u64,
        records: usize,
        bytes: Vec<u8>,
        has_unsynced_parts: bool,
    ) -> Result<bool, StorageError> {
        let rolls = self.end.byte + bytes.len() as u64 > self.segment_bytes as u64;
        if rolls && has_unsynced_parts {
            self.sync()?;
        }
        if rolls {
            segments::check_space(&self.folder, bytes.len(), records)?;
            self.index_room = IndexRoom::after(records);
        } else {
            self.index_room.take(&self.folder, self.end.segment, records)?;
        }
        let written = bytes.len() as u64;
        let part = RawPart { bytes, records };
        self.commit.append_with_offsets(&part).map_err(|error| match error {
            AppendError::Io(source) => StorageError::io("append to", &self.folder)(source),
            AppendError::FreshIndexNotWritable
            | AppendError::FreshSegmentNotWritable
            | AppendError::MessageSizeExceeded
            | AppendError::InvalidOffset => {
                let refused = io::Error::other(error.to_string());
                StorageError::io("append to", &self.folder)(refused)
            }
        })?;
        if rolls {
            self.segments.insert(offset);
            self.end = Place { segment: offset, byte: SEGMENT_MAGIC.len() as u64 };
        }
        self.end.byte += written;
        Ok(rolls)
    }

    /// Syncs the file of the last segment. The commit log's own flush does not.
    fn sync(&mut self) -> Result<(), StorageError> {
        let last = self.commit.next_offset().saturating_sub(1);
        let path = segments::log_file(&self.folder, self.end.segment);
        self.commit
            .reader(&mut SyncFile, last, ReadLimit::max_bytes(REST))
            .map(drop)
            .map_err(|error| StorageError::io("sync", path)(as_io(error)))
    }

    /// The payloads of `count` records from `offset` on, which are in one segment.
    pub(super) fn read(&self, offset: u64, count: u64) -> Result<Vec<Vec<u8>>, StorageError> {
        let base = self.segments.range(..=offset).next_back().copied().unwrap_or(0);
        let path = segments::log_file(&self.folder, base);
        let mut records = ReadRecords { offset, count, damaged_at: None };
        let read = self.commit.reader(&mut records, offset, ReadLimit::max_bytes(REST));
        match (read, records.damaged_at) {
            (_, Some(byte)) => Err(StorageError::Corrupt {
                path,
                byte,
                what: "a record is not what was written".to_string(),
            }),
            (Ok(Some(payloads)), None) => Ok(payloads),
            (Ok(None), None) => {
                let missing = io::Error::other(format!("record {offset} is not there"));
                Err(StorageError::io("read", path)(missing))
            }
            (Err(error), None) => Err(StorageError::io("read", path)(as_io(error))),
        }
    }

    /// The segment that holds record `offset`.
    pub(super) fn segment_of(&self, offset: u64) -> u64 {
        self.segments.range(..=offset).next_back().copied().unwrap_or(0)
    }

    /// The first segment there is.
    pub(super) fn first_segment(&self) -> u64 {
        self.segments.first().copied().unwrap_or(0)
    }

    /// Removes the segments before `first`, and gives their space back.
    pub(super) fn remove_before(&mut self, first: u64) -> Result<(), StorageError> {
        let kept = self.segments.split_off(&first);
        for gone in std::mem::replace(&mut self.segments, kept) {
            segments::remove(&self.folder, gone)?;
        }
        sync_folder(&self.folder)?;
        // The commit log holds the files that were removed until it is opened anew.
        self.commit = open_commit_log(&self.folder, self.segment_bytes)?;
        Ok(())
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("folder", &self.folder)
            .field("segments", &self.segments)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

fn open_commit_log(folder: &Path, segment_bytes: usize) -> Result<CommitLog, StorageError> {
    let mut options = LogOptions::new(folder);
    options
        .segment_max_bytes(segment_bytes)
        .message_max_bytes(segment_bytes)
        .index_max_items(SPARE_INDEX_ENTRIES);
    CommitLog::new(options).map_err(StorageError::io("open the log in", folder))
}

fn push_record(bytes: &mut Vec<u8>, offset: u64, payload: &[u8]) -> Result<(), StorageError> {
    message::serialize(bytes, offset, [0u8; 0], payload).map_err(|_| StorageError::TooLarge {
        what: "a record",
        bytes: payload.len() as u64,
        limit: u64::from(u32::MAX),
    })
}

fn as_io(error: ReadError) -> io::Error {
    match error {
        ReadError::Io(error) => error,
        ReadError::CorruptLog => io::Error::new(io::ErrorKind::InvalidData, "damaged record"),
        ReadError::NoSuchSegment => io::Error::new(io::ErrorKind::NotFound, "no such segment"),
    }
}

/// Records with their offsets set.
struct RawPart {
    bytes: Vec<u8>,
    records: usize,
}

impl MessageSet for RawPart {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn len(&self) -> usize {
        self.records
    }
}

/// Syncs the file that it is given to read from.
struct SyncFile;

impl LogSliceReader for SyncFile {
    type Result = ();

    fn read_from(
        &mut self,
        file: &File,
        _position: u32,
        _bytes: usize,
    ) -> Result<(), MessageError> {
        file.sync_data().map_err(MessageError::IoError)
    }
}

/// Reads so many records, however long they are.
struct ReadRecords {
    offset: u64,
    count: u64,
    damaged_at: Option<u64>,
}

impl LogSliceReader for ReadRecords {
    type Result = Vec<Vec<u8>>;

    fn read_from(
        &mut self,
        file: &File,
        position: u32,
        bytes: usize,
    ) -> Result<Self::Result, MessageError> {
        let mut at = u64::from(position);
        let end = at + bytes as u64;
        let mut input = BufReader::with_capacity(64 << 10, At { file, at });
        let mut payloads = Vec::new();
        for offset in self.offset..self.offset + self.count {
            let mut header = [0; RECORD_HEADER_BYTES];
            input.read_exact(&mut header).map_err(MessageError::IoError)?;
            let stored_offset = chunk::<8>(&header, 0).map(u64::from_le_bytes);
            let size = chunk::<4>(&header, 8).map(u32::from_le_bytes).unwrap_or(u32::MAX);
            let crc = chunk::<4>(&header, 12).map(u32::from_le_bytes);
            let next = at + RECORD_HEADER_BYTES as u64 + u64::from(size);
            if stored_offset != Some(offset) || next > end {
                self.damaged_at = Some(at);
                return Err(MessageError::InvalidPayloadLength);
            }
            let mut payload = vec![0; size as usize];
            input.read_exact(&mut payload).map_err(MessageError::IoError)?;
            if crc != Some(crc32c::crc32c(&payload)) {
                self.damaged_at = Some(at);
                return Err(MessageError::InvalidHash);
            }
            payloads.push(payload);
            at = next;
        }
        Ok(payloads)
    }
}

/// A file read from a position, which is nobody else's.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
