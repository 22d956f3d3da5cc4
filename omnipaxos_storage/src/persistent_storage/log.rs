//! The commit log: appends batches, syncs them, reads records.

use super::{
    background::{Background, Order},
    checkpoint::Place,
    error::StorageError,
    format::{log_file, SEGMENT_MAGIC, SPARE_INDEX_ENTRIES},
    log_reader::RunsReader,
    parts::{Part, Parts, Target},
    scan::Scanned,
    segments::{self, IndexRoom},
};
use commitlog::{message::MessageSet, AppendError, CommitLog, LogOptions, ReadError, ReadLimit};
use std::{
    collections::BTreeSet,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

/// The number of bytes after which the thread syncs them, so that little is left for the next checkpoint.
const SYNC_BYTES: u64 = 1 << 20;

/// The rest of a segment.
const REST: usize = u32::MAX as usize;

/// An open commit log.
pub(super) struct Log {
    commit: CommitLog,
    folder: PathBuf,
    segment_bytes: usize,
    /// The offsets of the first records of the segments.
    segments: BTreeSet<u64>,
    /// The position of the next record.
    end: Place,
    index_room: IndexRoom,
    batches: u64,
    /// Whether a segment was created whose name is not synced.
    has_unsynced_names: bool,
    /// Whether batches were appended since the last checkpoint was begun.
    is_changed: bool,
    /// The number of bytes that were appended since the thread last got a file to sync.
    unsynced: u64,
}

impl Log {
    /// Opens the commit log. Its files are scanned and repaired.
    pub(super) fn open(
        folder: &Path,
        segment_bytes: usize,
        found: &Scanned,
    ) -> Result<Self, StorageError> {
        let commit = open_commit_log(folder, segment_bytes)?;
        if commit.next_offset() != found.next_offset {
            return Err(StorageError::Corrupt {
                path: folder.to_path_buf(),
                byte: 0,
                what: format!(
                    "the commit log continues at record {}, not {}",
                    commit.next_offset(),
                    found.next_offset
                ),
            });
        }
        let mut segments: BTreeSet<u64> = found.segments.iter().map(|(base, _)| *base).collect();
        let mut end = found.end;
        let is_new = segments.is_empty();
        if is_new {
            // The commit log has created a segment.
            segments.insert(found.next_offset);
            end = Place { segment: found.next_offset, byte: SEGMENT_MAGIC.len() as u64 };
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
            has_unsynced_names: is_new,
            is_changed: false,
            unsynced: 0,
        })
    }

    /// Returns the position of the next batch.
    pub(super) fn target(&self) -> Target {
        Target {
            batch: self.batches,
            offset: self.commit.next_offset(),
            part_bytes: self.segment_bytes - SEGMENT_MAGIC.len(),
        }
    }

    pub(super) fn batches(&self) -> u64 {
        self.batches
    }

    /// Returns the end of the last batch.
    pub(super) fn end_of_batches(&self) -> Place {
        if self.batches == 0 {
            Place::default()
        } else {
            self.end
        }
    }

    /// Returns the segment with the last batch, which contains the state.
    pub(super) fn last_segment(&self) -> u64 {
        self.end.segment
    }

    /// Appends a batch. A thread syncs the files that are complete, and those with many bytes that are not
    /// synced.
    ///
    /// # Errors
    /// The append failed. It is not known which bytes were written.
    pub(super) fn append(
        &mut self,
        batch: &Parts,
        background: &mut Background,
    ) -> Result<(), StorageError> {
        for part in &batch.parts {
            self.append_part(part, batch.bytes_of(part), background)?;
        }
        self.batches += 1;
        if self.unsynced >= SYNC_BYTES && background.is_idle() {
            background.order(Order::Sync(self.last_file()));
            self.unsynced = 0;
        }
        Ok(())
    }

    fn append_part(
        &mut self,
        part: &Part,
        bytes: &[u8],
        background: &mut Background,
    ) -> Result<(), StorageError> {
        let records = part.count as usize + 1;
        let rolls = self.end.byte + bytes.len() as u64 > self.segment_bytes as u64;
        if rolls {
            background.order(Order::Sync(self.last_file()));
            self.unsynced = 0;
            segments::check_space(&self.folder, bytes.len(), records)?;
            self.index_room = IndexRoom::after(records);
        } else {
            self.index_room.take(&self.folder, self.end.segment, records)?;
        }
        self.commit.append_with_offsets(&Appended { bytes, records }).map_err(|error| {
            let source = match error {
                AppendError::Io(source) => source,
                AppendError::FreshIndexNotWritable
                | AppendError::FreshSegmentNotWritable
                | AppendError::MessageSizeExceeded
                | AppendError::InvalidOffset => io::Error::other(error.to_string()),
            };
            StorageError::io("append to", &self.folder)(source)
        })?;
        if rolls {
            self.segments.insert(part.offset);
            self.end = Place { segment: part.offset, byte: SEGMENT_MAGIC.len() as u64 };
            self.has_unsynced_names = true;
        }
        self.end.byte += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        self.is_changed = true;
        Ok(())
    }

    fn last_file(&self) -> PathBuf {
        log_file(&self.folder, self.end.segment)
    }

    /// Returns the file that the next checkpoint must sync. Every byte that is not synced is in it, or in a
    /// file that the thread was told to sync before.
    pub(super) fn take_unsynced_file(&mut self) -> Option<PathBuf> {
        self.unsynced = 0;
        std::mem::take(&mut self.is_changed).then(|| self.last_file())
    }

    /// Returns whether a file was created of which the name is not synced. The caller syncs it.
    pub(super) fn take_unsynced_names(&mut self) -> bool {
        std::mem::take(&mut self.has_unsynced_names)
    }

    /// Calls `visit` with the payloads of the records in `runs`, until it fails. The runs are in order, and each is in
    /// one segment.
    pub(super) fn visit(
        &self,
        runs: impl Iterator<Item = Range<u64>>,
        mut visit: impl FnMut(&[u8]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut runs = runs.peekable();
        while let Some(run) = runs.next() {
            let offset = run.start;
            let path = log_file(&self.folder, self.segment_of(offset));
            let segment_end = self.segments.range(offset + 1..).next().copied();
            let mut reader =
                RunsReader { run, later: &mut runs, segment_end, path: &path, visit: &mut visit };
            match self.commit.reader(&mut reader, offset, ReadLimit::max_bytes(REST)) {
                Ok(Some(visited)) => visited?,
                Ok(None) => {
                    let missing = io::Error::other(format!("record {offset} is not there"));
                    return Err(StorageError::io("read", path)(missing));
                }
                Err(error) => return Err(StorageError::io("read", path)(as_io(error))),
            }
        }
        Ok(())
    }

    /// Returns the segment that contains record `offset`.
    pub(super) fn segment_of(&self, offset: u64) -> u64 {
        self.segments.range(..=offset).next_back().copied().unwrap_or(0)
    }

    /// Returns the first segment.
    pub(super) fn first_segment(&self) -> u64 {
        self.segments.first().copied().unwrap_or(0)
    }

    /// Returns the segments before `first`.
    pub(super) fn segments_before(&self, first: u64) -> Vec<u64> {
        self.segments.range(..first).copied().collect()
    }

    /// Forgets the segments before `first`, of which the files were removed. The thread closes the files:
    /// that frees their space, and may take long.
    pub(super) fn forget_before(
        &mut self,
        first: u64,
        background: &mut Background,
    ) -> Result<(), StorageError> {
        self.segments = self.segments.split_off(&first);
        // The commit log keeps removed files open until it is opened again.
        let opened = open_commit_log(&self.folder, self.segment_bytes)?;
        background.order(Order::Close(Box::new(std::mem::replace(&mut self.commit, opened))));
        Ok(())
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
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

fn as_io(error: ReadError) -> io::Error {
    match error {
        ReadError::Io(error) => error,
        ReadError::CorruptLog => io::Error::new(io::ErrorKind::InvalidData, "damaged record"),
        ReadError::NoSuchSegment => io::Error::new(io::ErrorKind::NotFound, "no such segment"),
    }
}

/// Records with their offsets.
struct Appended<'a> {
    bytes: &'a [u8],
    records: usize,
}

impl MessageSet for Appended<'_> {
    fn bytes(&self) -> &[u8] {
        self.bytes
    }

    fn len(&self) -> usize {
        self.records
    }
}
