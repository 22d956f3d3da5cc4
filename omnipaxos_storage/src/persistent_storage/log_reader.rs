//! Reads records of a segment of the commit log.

use super::{
    error::StorageError,
    files::read_at,
    records::{RecordHeader, RECORD_HEADER_BYTES},
};
use commitlog::{message::MessageError, reader::LogSliceReader};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    iter::Peekable,
    ops::Range,
    path::Path,
};

/// How many bytes are read from the file at once.
const BUFFER_BYTES: usize = 16 << 10;

/// How many records may be between two runs that are read in one go. Between the entries of two batches there is one.
const NEAR: u64 = 4;

/// Reads the records of `run`, and of those later runs in the same segment that are near.
pub(super) struct RunsReader<'a, I: Iterator<Item = Range<u64>>, V> {
    pub(super) run: Range<u64>,
    pub(super) later: &'a mut Peekable<I>,
    /// The first record of the next segment.
    pub(super) segment_end: Option<u64>,
    pub(super) path: &'a Path,
    pub(super) visit: &'a mut V,
}

impl<I, V> LogSliceReader for RunsReader<'_, I, V>
where
    I: Iterator<Item = Range<u64>>,
    V: FnMut(&[u8]) -> Result<(), StorageError>,
{
    type Result = Result<(), StorageError>;

    fn read_from(
        &mut self,
        file: &File,
        position: u32,
        bytes: usize,
    ) -> Result<Self::Result, MessageError> {
        let at = u64::from(position);
        let input = BufReader::with_capacity(BUFFER_BYTES, At { file, at });
        let end = at + bytes as u64;
        let records = Records { path: self.path, input, at, end, payload: Vec::new() };
        Ok(self.visit_from(records))
    }
}

impl<I, V> RunsReader<'_, I, V>
where
    I: Iterator<Item = Range<u64>>,
    V: FnMut(&[u8]) -> Result<(), StorageError>,
{
    fn visit_from(&mut self, mut records: Records<'_>) -> Result<(), StorageError> {
        loop {
            for offset in self.run.clone() {
                let byte = records.at;
                let Some(payload) = records.next(offset)? else {
                    let what = "a record is not what was written".to_string();
                    return Err(StorageError::Corrupt {
                        path: self.path.to_path_buf(),
                        byte,
                        what,
                    });
                };
                (self.visit)(payload)?;
            }
            let Some(next) = self.next_near() else {
                return Ok(());
            };
            // If this fails, the index of the segment leads to the next run: nobody asked for these records.
            if !(self.run.end..next.start).all(|offset| records.pass(offset)) {
                return Ok(());
            }
            self.later.next();
            self.run = next;
        }
    }

    /// Returns the next run, if it is near.
    fn next_near(&mut self) -> Option<Range<u64>> {
        let next = self.later.peek()?;
        let is_near = next.start.checked_sub(self.run.end).is_some_and(|between| between <= NEAR);
        let is_here = self.segment_end.is_none_or(|end| next.start < end);
        (is_near && is_here).then(|| next.clone())
    }
}

/// The records of a segment from a position on.
struct Records<'a> {
    path: &'a Path,
    input: BufReader<At<'a>>,
    at: u64,
    end: u64,
    payload: Vec<u8>,
}

impl Records<'_> {
    /// Returns the payload of the next record, whose offset is given; `None` if it is not what was written.
    fn next(&mut self, offset: u64) -> Result<Option<&[u8]>, StorageError> {
        let read = self.read(offset, u32::MAX).map_err(StorageError::io("read", self.path))?;
        Ok(read.filter(|header| header.is_of(&self.payload)).map(|_| self.payload.as_slice()))
    }

    /// Passes over the next record, whose offset is given, if it is small. Returns whether it did.
    fn pass(&mut self, offset: u64) -> bool {
        self.read(offset, BUFFER_BYTES as u32).is_ok_and(|header| header.is_some())
    }

    /// Reads the next record, if its header is whole and its payload has at most `largest` bytes.
    fn read(&mut self, offset: u64, largest: u32) -> io::Result<Option<RecordHeader>> {
        let mut raw = [0; RECORD_HEADER_BYTES];
        self.input.read_exact(&mut raw)?;
        let is_whole = |header: &RecordHeader| {
            header.offset == offset && self.at + header.record_bytes() <= self.end
        };
        let header = RecordHeader::read(&raw).filter(is_whole);
        let Some(header) = header.filter(|header| header.size <= largest) else {
            return Ok(None);
        };
        self.payload.resize(header.size as usize, 0);
        self.input.read_exact(&mut self.payload)?;
        self.at += header.record_bytes();
        Ok(Some(header))
    }
}

/// Reads a file from a position of its own.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = read_at(self.file, buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
