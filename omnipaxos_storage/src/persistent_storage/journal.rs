//! The journal: a file of fixed size. A batch counts once it is written there.
//!
//! A sync of a file that grows also syncs the metadata of the file system. The journal is
//! overwritten in place, so its sync concerns only data. The commit log gets the same bytes, and is
//! synced when the journal is full. Only then is the journal written from its beginning again.
//!
//! Disks write sectors as a whole. Each sector of the journal contains a stamp, which no other
//! batch ever has, and a checksum. So if a loss of power leaves a sector unwritten, it has an older
//! stamp, and is distinguished from a damaged one.

use super::{
    error::StorageError,
    files::{read_exact_at, sync_folder, write_all_at},
    format::chunk,
};
use std::{
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

/// The size of a sector, which a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// The bytes of a batch in a sector. The rest is stamp and checksum.
const PAYLOAD_BYTES: usize = SECTOR_BYTES - 8 - 4;

/// The bytes of the length at the beginning of a batch.
const LENGTH_BYTES: usize = 8;

/// Size of a new journal. It doubles whenever it is full.
const LEAST_BYTES: u64 = 256 << 10;

/// The largest size. It limits the bytes that are replayed when a storage is opened.
const LARGEST_BYTES: u64 = 16 << 20;

/// The number of bytes that are written at a time to enlarge a journal.
const ZEROS_BYTES: u64 = 64 << 10;

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// The position of the next batch.
    at: u64,
    /// The stamp of the next batch.
    stamp: u64,
    /// The sectors of the batch that is being written.
    sectors: Vec<u8>,
}

/// The part of a checkpoint that concerns the journal.
#[derive(Copy, Clone, Debug)]
pub(super) struct Known {
    /// The stamp of the first batch after the checkpoint.
    pub(super) stamp: u64,
    /// The smallest size of the journal.
    pub(super) bytes: u64,
}

impl Journal {
    /// Creates the journal of a log, or creates it again, with this stamp for the first batch.
    pub(super) fn create(log_folder: &Path, stamp: u64) -> Result<Self, StorageError> {
        let path = path(log_folder);
        let file = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(StorageError::io("create", &path))?;
        let mut journal = Self { file, path, bytes: 0, at: 0, stamp, sectors: Vec::new() };
        journal.grow_to(LEAST_BYTES)?;
        sync_folder(log_folder)?;
        Ok(journal)
    }

    /// Opens the journal of a log that was closed. No batch in it counts.
    pub(super) fn reuse(log_folder: &Path, known: Known) -> Result<Self, StorageError> {
        let path = path(log_folder);
        let failed = || StorageError::io("open", &path);
        match File::options().read(true).write(true).open(&path) {
            Ok(file) => {
                let bytes = whole_sectors(file.metadata().map_err(failed())?.len());
                let stamp = known.stamp;
                let mut journal = Self { file, path, bytes, at: 0, stamp, sectors: Vec::new() };
                journal.grow_to(LEAST_BYTES)?;
                Ok(journal)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Self::create(log_folder, known.stamp)
            }
            Err(error) => Err(failed()(error)),
        }
    }

    /// Opens the journal of a log, and reads the batches in it.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    pub(super) fn open(
        log_folder: &Path,
        known: Known,
    ) -> Result<(Self, Vec<Vec<u8>>), StorageError> {
        let path = path(log_folder);
        let damaged = |byte: u64, what: &str| StorageError::Corrupt {
            path: path.clone(),
            byte,
            what: what.to_string(),
        };
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StorageError::Missing { path });
            }
            Err(error) => return Err(StorageError::io("open", &path)(error)),
        };
        let failed = || StorageError::io("read", &path);
        let len = file.metadata().map_err(failed())?.len();
        if len < known.bytes {
            return Err(damaged(len, "the journal ends too early"));
        }
        let mut content = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        read_exact_at(&file, &mut content, 0).map_err(failed())?;
        let sectors: Vec<Sector<'_>> =
            content.chunks_exact(SECTOR_BYTES).map(Sector::read).collect();
        let found = read_batches(&sectors, known.stamp)
            .map_err(|bad| damaged((bad.sector * SECTOR_BYTES) as u64, bad.what))?;
        let stamp = known.stamp + found.len() as u64;
        let bytes = whole_sectors(len);
        // An interrupted batch has the next stamp.
        let journal = Self { file, path, bytes, at: 0, stamp: stamp + 1, sectors: Vec::new() };
        Ok((journal, found))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the part of the next checkpoint that concerns the journal.
    pub(super) fn known(&self) -> Known {
        Known { stamp: self.stamp, bytes: self.bytes }
    }

    /// Returns whether a batch of this size fits behind the present ones.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes - self.at >= written_bytes(bytes)
    }

    /// Writes a batch and syncs it: the commit point.
    pub(super) fn write(&mut self, batch: &[u8]) -> Result<(), StorageError> {
        self.sectors.clear();
        let length = (batch.len() as u64).to_le_bytes();
        let (first, rest) = batch.split_at(batch.len().min(PAYLOAD_BYTES - LENGTH_BYTES));
        push_sector(&mut self.sectors, &[&length, first], self.stamp);
        for payload in rest.chunks(PAYLOAD_BYTES) {
            push_sector(&mut self.sectors, &[payload], self.stamp);
        }
        write_all_at(&self.file, &self.sectors, self.at)
            .map_err(StorageError::io("write to", &self.path))?;
        self.file.sync_data().map_err(StorageError::io("sync", &self.path))?;
        self.at += self.sectors.len() as u64;
        self.stamp += 1;
        Ok(())
    }

    /// Restarts at the beginning: its batches are synced in the commit log, as a checkpoint
    /// records.
    pub(super) fn restart(&mut self) {
        self.at = 0;
        self.sectors.shrink_to(LEAST_BYTES as usize);
    }

    /// Enlarges a journal that was restarted because it was full.
    pub(super) fn grow(&mut self) -> Result<(), StorageError> {
        self.grow_to((self.bytes * 2).clamp(LEAST_BYTES, LARGEST_BYTES))
    }

    fn grow_to(&mut self, bytes: u64) -> Result<(), StorageError> {
        if bytes > self.bytes {
            self.write_zeros(self.bytes..bytes)
                .and_then(|()| self.file.sync_all())
                .map_err(StorageError::io("make room in", &self.path))?;
            self.bytes = bytes;
        }
        Ok(())
    }

    fn write_zeros(&self, range: Range<u64>) -> io::Result<()> {
        let zeros = [0; ZEROS_BYTES as usize];
        let mut at = range.start;
        while at < range.end {
            let count = (range.end - at).min(ZEROS_BYTES);
            write_all_at(&self.file, &zeros[..count as usize], at)?;
            at += count;
        }
        Ok(())
    }
}

fn path(log_folder: &Path) -> PathBuf {
    log_folder.join("journal")
}

fn whole_sectors(bytes: u64) -> u64 {
    bytes - bytes % SECTOR_BYTES as u64
}

/// Returns the number of sectors of a batch with this number of bytes.
fn sectors_of(bytes: usize) -> usize {
    bytes.saturating_add(LENGTH_BYTES).div_ceil(PAYLOAD_BYTES)
}

fn written_bytes(bytes: usize) -> u64 {
    (sectors_of(bytes) as u64).saturating_mul(SECTOR_BYTES as u64)
}

fn push_sector(sectors: &mut Vec<u8>, payload: &[&[u8]], stamp: u64) {
    let start = sectors.len();
    for piece in payload {
        sectors.extend_from_slice(piece);
    }
    sectors.resize(start + PAYLOAD_BYTES, 0);
    sectors.extend_from_slice(&stamp.to_le_bytes());
    let crc = crc32c::crc32c(sectors.get(start..).unwrap_or_default());
    sectors.extend_from_slice(&crc.to_le_bytes());
}

/// A sector as it was read.
#[derive(Copy, Clone, Debug)]
enum Sector<'a> {
    /// A sector of the batch with this stamp. A sector that was never written has stamp 0.
    Of(u64, &'a [u8]),
    Damaged,
}

impl<'a> Sector<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::Of(0, &[]);
        }
        let (checked, crc) = bytes.split_at(SECTOR_BYTES - 4);
        let (payload, _) = checked.split_at(PAYLOAD_BYTES);
        match (chunk::<8>(checked, PAYLOAD_BYTES), chunk::<4>(crc, 0)) {
            (Some(stamp), Some(crc)) if crc32c::crc32c(checked) == u32::from_le_bytes(crc) => {
                Self::Of(u64::from_le_bytes(stamp), payload)
            }
            _ => Self::Damaged,
        }
    }

    fn stamp(&self) -> Option<u64> {
        match self {
            Self::Of(stamp, _) => Some(*stamp),
            Self::Damaged => None,
        }
    }
}

/// A state that no loss of power can have caused.
#[derive(Debug, PartialEq)]
struct Bad {
    sector: usize,
    what: &'static str,
}

/// Returns the complete batches from `first` on.
fn read_batches(sectors: &[Sector<'_>], first: u64) -> Result<Vec<Vec<u8>>, Bad> {
    let mut batches = Vec::new();
    let mut at = 0;
    for stamp in first.. {
        let Some(batch) = read_batch(sectors, at, stamp)? else {
            // This batch was never synced, so nothing was written after it.
            let mut later = (at..).zip(sectors.iter().skip(at));
            return match later.find(|(_, sector)| sector.stamp().is_some_and(|of| of > stamp)) {
                None => Ok(batches),
                Some((sector, _)) => Err(Bad { sector, what: "the batch before this is lost" }),
            };
        };
        at += sectors_of(batch.len());
        batches.push(batch);
    }
    Ok(batches)
}

/// Returns the batch with this stamp at sector `at`; `None` if some sector of it was never written.
fn read_batch(sectors: &[Sector<'_>], at: usize, stamp: u64) -> Result<Option<Vec<u8>>, Bad> {
    let damaged = |sector| Bad { sector, what: "the checksum of this sector is wrong" };
    let begin = match sectors.get(at) {
        Some(Sector::Of(found, payload)) if *found == stamp => payload,
        None | Some(Sector::Of(..)) => return Ok(None),
        Some(Sector::Damaged) => return Err(damaged(at)),
    };
    let too_long = Bad { sector: at, what: "the length of this batch is wrong" };
    let length = chunk::<LENGTH_BYTES>(begin, 0).map(u64::from_le_bytes);
    let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else {
        return Err(too_long);
    };
    let Some(own) = at.checked_add(sectors_of(length)).and_then(|end| sectors.get(at..end)) else {
        return Err(too_long);
    };
    if own.iter().any(|sector| sector.stamp().is_some_and(|found| found != stamp)) {
        return Ok(None);
    }
    let mut batch = Vec::with_capacity(own.len() * PAYLOAD_BYTES);
    for (number, sector) in (at..).zip(own) {
        match sector {
            Sector::Of(_, payload) => batch.extend_from_slice(payload),
            Sector::Damaged => return Err(damaged(number)),
        }
    }
    batch.drain(..LENGTH_BYTES);
    batch.truncate(length);
    Ok(Some(batch))
}

#[cfg(test)]
mod tests {
    use super::{Journal, Known, StorageError, LARGEST_BYTES, LEAST_BYTES, SECTOR_BYTES};
    use std::{
        fs::{self, File},
        path::Path,
    };

    const LENGTHS: [usize; 8] = [1, 491, 492, 493, 992, 993, 3000, 100];

    fn batch(number: usize) -> Vec<u8> {
        (0..LENGTHS.get(number).copied().unwrap_or(0)).map(|n| (n + number * 7) as u8).collect()
    }

    /// Writes the batches, and returns the end of each.
    fn written(folder: &Path) -> (Known, Vec<u64>) {
        let mut journal = Journal::create(folder, 1).unwrap();
        // An earlier round, which is overwritten in part.
        for _ in 0..30 {
            journal.write(&[9; 700]).unwrap();
        }
        journal.restart();
        let known = journal.known();
        let mut ends = Vec::new();
        for number in 0..LENGTHS.len() {
            journal.write(&batch(number)).unwrap();
            ends.push(journal.at);
        }
        (known, ends)
    }

    fn read(folder: &Path, known: Known) -> Result<usize, StorageError> {
        let (_, batches) = Journal::open(folder, known)?;
        for (number, found) in batches.iter().enumerate() {
            assert!(*found == batch(number), "batch {number}");
        }
        Ok(batches.len())
    }

    #[test]
    fn reads_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let (known, _) = written(folder.path());
        assert_eq!(read(folder.path(), known).unwrap(), LENGTHS.len());
        // A journal that does not know of a batch skips its stamp.
        let (journal, _) = Journal::open(folder.path(), known).unwrap();
        assert_eq!(journal.known().stamp, known.stamp + LENGTHS.len() as u64 + 1);
    }

    /// Every set of sectors that the last batch may lack.
    #[test]
    fn a_batch_that_lacks_a_sector_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let (known, ends) = written(folder.path());
        let file = folder.path().join("journal");
        let whole = fs::read(&file).unwrap();
        let (start, end) = (ends[5] as usize, ends[6] as usize);
        let sectors = (end - start) / SECTOR_BYTES;
        assert_eq!(sectors, 7);
        // As it was before the batch, and the one after it, were written.
        let older = &whole[end + 5 * SECTOR_BYTES..][..SECTOR_BYTES];
        for kept in 0..1 << sectors {
            let mut torn = whole.clone();
            torn[end..end + SECTOR_BYTES].copy_from_slice(older);
            for sector in 0..sectors {
                if kept & (1 << sector) == 0 {
                    let at = start + sector * SECTOR_BYTES;
                    torn[at..at + SECTOR_BYTES].copy_from_slice(older);
                }
            }
            fs::write(&file, torn).unwrap();
            let whole_batches = if kept == (1 << sectors) - 1 { 7 } else { 6 };
            assert_eq!(read(folder.path(), known).unwrap(), whole_batches, "{kept:b}");
        }
    }

    /// A flipped bit in what counts is reported; elsewhere it changes nothing.
    #[test]
    fn every_flipped_bit_is_reported_or_harmless() {
        let folder = tempfile::tempdir().unwrap();
        let (known, ends) = written(folder.path());
        let file = folder.path().join("journal");
        let mut bytes = fs::read(&file).unwrap();
        let used = *ends.last().unwrap() as usize;
        for bit in 0..(used + 2 * SECTOR_BYTES) * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, &bytes[..used + 4 * SECTOR_BYTES]).unwrap();
            let short = Known { bytes: 0, ..known };
            match read(folder.path(), short) {
                Ok(batches) => assert!(batches == LENGTHS.len() && bit >= used * 8, "bit {bit}"),
                Err(StorageError::Corrupt { byte, .. }) => {
                    let sector = (bit / 8 / SECTOR_BYTES * SECTOR_BYTES) as u64;
                    assert_eq!(byte, sector, "bit {bit}");
                }
                Err(error) => panic!("bit {bit}: {error}"),
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_lost_batch_before_others_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let (known, ends) = written(folder.path());
        let file = folder.path().join("journal");
        let mut bytes = fs::read(&file).unwrap();
        let sector = ends[2] as usize..ends[2] as usize + SECTOR_BYTES;
        bytes[sector].fill(0);
        fs::write(&file, bytes).unwrap();
        let error = read(folder.path(), known).unwrap_err().to_string();
        assert!(error.contains("the batch before this is lost"), "{error}");
    }

    #[test]
    fn a_missing_or_short_journal_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let (known, _) = written(folder.path());
        let file = folder.path().join("journal");
        File::options().write(true).open(&file).unwrap().set_len(LEAST_BYTES - 1).unwrap();
        let error = read(folder.path(), known).unwrap_err().to_string();
        assert!(error.contains("ends too early"), "{error}");
        fs::remove_file(&file).unwrap();
        let error = read(folder.path(), known).unwrap_err().to_string();
        assert!(error.contains("is missing"), "{error}");
    }

    #[test]
    fn grows_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(folder.path(), 1).unwrap();
        assert!(journal.has_room(200 << 10) && !journal.has_room(LEAST_BYTES as usize));
        for _ in 0..10 {
            journal.grow().unwrap();
        }
        assert_eq!(journal.known().bytes, LARGEST_BYTES);
        assert_eq!(fs::metadata(folder.path().join("journal")).unwrap().len(), LARGEST_BYTES);
        assert!(!journal.has_room(usize::MAX));
    }
}
