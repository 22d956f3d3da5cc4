//! The journal: two files of fixed size. A batch counts once it is written there.
//!
//! A sync of a file that grows also syncs the metadata of the file system. The journal is
//! overwritten in place, so its sync concerns only data. The commit log gets the same bytes. When a
//! file of the journal is full, the journal continues in the other one. Meanwhile a thread syncs the
//! commit log, records that, and enlarges the full file. Only then is that file written again.

use super::{
    error::StorageError,
    files::{read_exact_at, sync_folder, write_all_at},
    sectors::{push_batch, read_batches, written_bytes, Sector, SECTOR_BYTES},
};
use std::{
    fs::File,
    io::{self, ErrorKind},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The names of the files. Until format 2 there was only the first one.
const NAMES: [&str; 2] = ["journal", "journal_2"];

/// Size of a new file. It doubles whenever it is full.
const LEAST_BYTES: u64 = 256 << 10;

/// The largest size. It limits the bytes that are replayed when a storage is opened.
const LARGEST_BYTES: u64 = 8 << 20;

/// The number of bytes that are written at a time to enlarge a file.
const ZEROS_BYTES: u64 = 64 << 10;

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    /// The file that is written to.
    active: JournalFile,
    /// The other one. Its batches are needed until the next checkpoint is recorded.
    other: JournalFile,
    /// The position of the next batch in the active file.
    at: u64,
    /// The stamp of the next batch.
    stamp: u64,
    /// The sectors of the batch that is being written.
    sectors: Vec<u8>,
}

/// A file of the journal.
#[derive(Clone, Debug)]
pub(super) struct JournalFile {
    file: Arc<File>,
    path: PathBuf,
    /// Which of the files it is.
    number: usize,
    bytes: u64,
}

/// The part of a checkpoint that concerns the journal.
#[derive(Copy, Clone, Debug)]
pub(super) struct Known {
    /// The stamp of the first batch after the checkpoint.
    pub(super) stamp: u64,
    /// The sizes of the files. A file may be larger, if a crash has interrupted a checkpoint.
    pub(super) bytes: [u64; 2],
    /// Whether the journal had one file when the checkpoint was made.
    pub(super) is_single: bool,
}

/// Returns whether there is a journal in the folder of a log.
pub(super) fn exists(log_folder: &Path) -> bool {
    NAMES.iter().any(|name| log_folder.join(name).exists())
}

impl Journal {
    /// Creates the journal of a log, or creates it again, with this stamp for the first batch.
    pub(super) fn create(log_folder: &Path, stamp: u64) -> Result<Self, StorageError> {
        let [active, other] = [0, 1].map(|number| JournalFile::create(log_folder, number));
        let journal = Self::new([active?, other?], stamp);
        sync_folder(log_folder)?;
        Ok(journal)
    }

    /// Opens the journal of a log that was closed. No batch in it counts. The caller syncs the folder before
    /// the next checkpoint.
    ///
    /// # Errors
    /// It cannot be read, or a batch was written after the close: that of the checkpoint before was lost.
    pub(super) fn reuse(log_folder: &Path, known: Known) -> Result<Self, StorageError> {
        let [active, other] = [0, 1].map(|number| JournalFile::open_or_create(log_folder, number));
        let files = [active?, other?];
        for file in &files {
            let content = file.read()?;
            let is_later = |sector: &Sector<'_>| sector.stamp().is_some_and(|of| of >= known.stamp);
            if let Some(sector) = Sector::read_all(&content).iter().position(is_later) {
                return Err(StorageError::Corrupt {
                    path: file.path.clone(),
                    byte: (sector * SECTOR_BYTES) as u64,
                    what: "this batch is later than all that the database knows".to_string(),
                });
            }
        }
        Ok(Self::new(files, known.stamp))
    }

    /// Opens the journal of a log, and reads the batches in it. The caller syncs the folder before the next
    /// checkpoint.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    pub(super) fn open(
        log_folder: &Path,
        known: Known,
    ) -> Result<(Self, Vec<Vec<u8>>), StorageError> {
        let first = JournalFile::open(log_folder, 0)?;
        let (files, found) = if known.is_single {
            let found = read(std::slice::from_ref(&first), known)?;
            ([first.at_least(LEAST_BYTES)?, JournalFile::create(log_folder, 1)?], found)
        } else {
            let files = [first, JournalFile::open(log_folder, 1)?];
            let found = read(&files, known)?;
            (files, found)
        };
        // An interrupted batch has the next stamp.
        let stamp = known.stamp + found.len() as u64 + 1;
        Ok((Self::new(files, stamp), found))
    }

    fn new([active, other]: [JournalFile; 2], stamp: u64) -> Self {
        Self { active, other, at: 0, stamp, sectors: Vec::new() }
    }

    /// Syncs the sizes of the files, which the next checkpoint records. A process may have been killed while
    /// it enlarged one.
    pub(super) fn sync_sizes(&self) -> Result<(), StorageError> {
        for JournalFile { file, path, .. } in [&self.active, &self.other] {
            file.sync_all().map_err(StorageError::io("sync", path))?;
        }
        Ok(())
    }

    /// Returns the part of the next checkpoint that concerns the journal.
    pub(super) fn known(&self) -> Known {
        let mut bytes = [self.active.bytes, self.other.bytes];
        if self.active.number > self.other.number {
            bytes.reverse();
        }
        Known { stamp: self.stamp, bytes, is_single: false }
    }

    /// Skips a stamp. A batch with a later one contradicts every checkpoint from before.
    pub(super) fn skip_stamp(&mut self) {
        self.stamp += 1;
    }

    /// Returns whether a batch of this size fits behind the present ones of the active file.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.active.bytes - self.at >= written_bytes(bytes)
    }

    /// Writes a batch and syncs it: the commit point.
    pub(super) fn write(&mut self, batch: &[u8]) -> Result<(), StorageError> {
        self.sectors.clear();
        push_batch(&mut self.sectors, batch, self.stamp);
        let JournalFile { file, path, .. } = &self.active;
        write_all_at(file, &self.sectors, self.at).map_err(StorageError::io("write to", path))?;
        file.sync_data().map_err(StorageError::io("sync", path))?;
        self.at += self.sectors.len() as u64;
        self.stamp += 1;
        Ok(())
    }

    /// Continues at the beginning of the other file, of which no batch is needed. Returns the file that
    /// was written to until now.
    pub(super) fn switch(&mut self) -> JournalFile {
        std::mem::swap(&mut self.active, &mut self.other);
        self.at = 0;
        self.sectors.shrink_to(LEAST_BYTES as usize);
        self.other.clone()
    }

    /// Takes over the other file after a change of its size.
    pub(super) fn replace_other(&mut self, file: JournalFile) {
        self.other = file;
    }
}

/// Returns the path of a file of the journal.
fn path_of(log_folder: &Path, number: usize) -> PathBuf {
    log_folder.join(NAMES.get(number).copied().unwrap_or_default())
}

/// Reads the batches in the files of a journal.
fn read(files: &[JournalFile], known: Known) -> Result<Vec<Vec<u8>>, StorageError> {
    let damaged = |file: usize, byte: u64, what: &str| StorageError::Corrupt {
        path: files.get(file).map(|file| file.path.clone()).unwrap_or_default(),
        byte,
        what: what.to_string(),
    };
    for (file, bytes) in files.iter().zip(known.bytes) {
        if file.bytes < bytes {
            return Err(damaged(file.number, file.bytes, "the journal ends too early"));
        }
    }
    let contents = files.iter().map(JournalFile::read).collect::<Result<Vec<_>, _>>()?;
    let sectors: Vec<_> = contents.iter().map(|content| Sector::read_all(content)).collect();
    read_batches(&sectors, known.stamp)
        .map_err(|bad| damaged(bad.file, (bad.sector * SECTOR_BYTES) as u64, bad.what))
}

impl JournalFile {
    fn create(log_folder: &Path, number: usize) -> Result<Self, StorageError> {
        let path = path_of(log_folder, number);
        let mut options = File::options();
        options.create(true).truncate(true).read(true).write(true);
        let file = options.open(&path).map_err(StorageError::io("create", &path))?;
        Self { file: Arc::new(file), path, number, bytes: 0 }.at_least(LEAST_BYTES)
    }

    fn open(log_folder: &Path, number: usize) -> Result<Self, StorageError> {
        let path = path_of(log_folder, number);
        let file =
            File::options().read(true).write(true).open(&path).map_err(|error| {
                match error.kind() {
                    ErrorKind::NotFound => StorageError::Missing { path: path.clone() },
                    _ => StorageError::io("open", &path)(error),
                }
            })?;
        let length = file.metadata().map_err(StorageError::io("read", &path))?.len();
        let bytes = length - length % SECTOR_BYTES as u64;
        Ok(Self { file: Arc::new(file), path, number, bytes })
    }

    fn open_or_create(log_folder: &Path, number: usize) -> Result<Self, StorageError> {
        match Self::open(log_folder, number) {
            Ok(file) => file.at_least(LEAST_BYTES),
            Err(StorageError::Missing { .. }) => Self::create(log_folder, number),
            Err(error) => Err(error),
        }
    }

    fn read(&self) -> Result<Vec<u8>, StorageError> {
        let mut content = vec![0; usize::try_from(self.bytes).unwrap_or(usize::MAX)];
        read_exact_at(&self.file, &mut content, 0).map_err(StorageError::io("read", &self.path))?;
        Ok(content)
    }

    /// Which of the files it is.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Enlarges a file that was full.
    pub(super) fn enlarged(self) -> Result<Self, StorageError> {
        let bytes = (self.bytes * 2).clamp(LEAST_BYTES, LARGEST_BYTES);
        self.at_least(bytes)
    }

    fn at_least(mut self, bytes: u64) -> Result<Self, StorageError> {
        if bytes > self.bytes {
            self.write_zeros(self.bytes..bytes)
                .and_then(|()| self.file.sync_all())
                .map_err(StorageError::io("make room in", &self.path))?;
            self.bytes = bytes;
        }
        Ok(self)
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

#[cfg(test)]
mod tests {
    use super::{Journal, Known, StorageError, LARGEST_BYTES, LEAST_BYTES, SECTOR_BYTES};
    use crate::persistent_storage::flipped::Flipped;
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
        journal.switch();
        journal.switch();
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
        let used = *ends.last().unwrap() as usize;
        // The files are short: each bit takes less time.
        let mut flipped = Flipped::open(&file);
        flipped.set_len(used + 4 * SECTOR_BYTES);
        fs::write(folder.path().join("journal_2"), [0; SECTOR_BYTES]).unwrap();
        for bit in 0..(used + 2 * SECTOR_BYTES) * 8 {
            flipped.flip(bit);
            let short = Known { bytes: [0, 0], ..known };
            match read(folder.path(), short) {
                Ok(batches) => assert!(batches == LENGTHS.len() && bit >= used * 8, "bit {bit}"),
                Err(StorageError::Corrupt { byte, .. }) => {
                    let sector = (bit / 8 / SECTOR_BYTES * SECTOR_BYTES) as u64;
                    assert_eq!(byte, sector, "bit {bit}");
                }
                Err(error) => panic!("bit {bit}: {error}"),
            }
            flipped.flip(bit);
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

    /// Batches in both files: those of the first one, and then those of the second one.
    fn written_in_both(folder: &Path) -> (Known, u64) {
        let mut journal = Journal::create(folder, 1).unwrap();
        let known = journal.known();
        (0..4).for_each(|number| journal.write(&batch(number)).unwrap());
        journal.switch();
        (4..LENGTHS.len()).for_each(|number| journal.write(&batch(number)).unwrap());
        (known, journal.at)
    }

    #[test]
    fn batches_continue_in_the_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let (known, end) = written_in_both(folder.path());
        assert_eq!(read(folder.path(), known).unwrap(), LENGTHS.len());
        // Once more: the first file is overwritten from its beginning. Only what is after the checkpoint
        // counts.
        let mut journal = Journal::open(folder.path(), known).unwrap().0;
        let known = journal.known();
        journal.switch();
        (0..3).for_each(|number| journal.write(&batch(number)).unwrap());
        assert_ne!(journal.at, end);
        assert_eq!(read(folder.path(), known).unwrap(), 3);
        journal.switch();
        (3..6).for_each(|number| journal.write(&batch(number)).unwrap());
        assert_eq!(read(folder.path(), known).unwrap(), 6);
    }

    /// Every sector of the second file that may be missing: only the batches before it count, if it is in
    /// the last one, and otherwise something is lost.
    #[test]
    fn what_the_second_file_lacks_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (known, end) = written_in_both(folder.path());
        let file = folder.path().join("journal_2");
        let whole = fs::read(&file).unwrap();
        let last = (end as usize / SECTOR_BYTES) - 1;
        for sector in 0..=last {
            let mut torn = whole.clone();
            torn[sector * SECTOR_BYTES..][..SECTOR_BYTES].fill(0);
            fs::write(&file, torn).unwrap();
            match read(folder.path(), known) {
                Ok(batches) => assert!(sector == last && batches == LENGTHS.len() - 1, "{sector}"),
                Err(error) => {
                    let lost = error.to_string().contains("the batch before this is lost");
                    assert!(lost && sector < last, "{sector}: {error}");
                }
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_either_file_is_reported_or_harmless() {
        let folder = tempfile::tempdir().unwrap();
        let (known, _) = written_in_both(folder.path());
        let bytes = 24 * SECTOR_BYTES;
        let files = super::NAMES.map(|name| folder.path().join(name));
        for file in &files {
            Flipped::open(file).set_len(bytes);
        }
        for file in files {
            let mut flipped = Flipped::open(&file);
            for bit in (0..flipped.bits()).step_by(7) {
                flipped.flip(bit);
                match read(folder.path(), Known { bytes: [0, 0], ..known }) {
                    Ok(batches) => assert_eq!(batches, LENGTHS.len(), "bit {bit} of {file:?}"),
                    Err(StorageError::Corrupt { path, byte, .. }) => {
                        assert_eq!(path, file, "bit {bit}");
                        assert_eq!(byte, (bit / 8 / SECTOR_BYTES * SECTOR_BYTES) as u64);
                    }
                    Err(error) => panic!("bit {bit} of {file:?}: {error}"),
                }
                flipped.flip(bit);
            }
        }
    }

    /// A folder of the time when there was one file.
    #[test]
    fn a_single_file_gets_a_second_one() {
        let folder = tempfile::tempdir().unwrap();
        let (known, _) = written(folder.path());
        let second = folder.path().join("journal_2");
        fs::remove_file(&second).unwrap();
        let error = read(folder.path(), known).unwrap_err().to_string();
        assert!(error.contains("is missing"), "{error}");
        // That file was larger than a new one is now.
        let large = 16 << 20;
        let first = folder.path().join("journal");
        File::options().write(true).open(first).unwrap().set_len(large).unwrap();
        let single = Known { is_single: true, bytes: [large, 0], ..known };
        assert_eq!(read(folder.path(), single).unwrap(), LENGTHS.len());
        assert_eq!(fs::metadata(second).unwrap().len(), LEAST_BYTES);
    }

    #[test]
    fn a_missing_or_short_journal_is_reported() {
        for name in super::NAMES {
            let folder = tempfile::tempdir().unwrap();
            let (known, _) = written(folder.path());
            let file = folder.path().join(name);
            File::options().write(true).open(&file).unwrap().set_len(LEAST_BYTES - 1).unwrap();
            let error = read(folder.path(), known).unwrap_err().to_string();
            assert!(error.contains("ends too early"), "{error}");
            fs::remove_file(&file).unwrap();
            let error = read(folder.path(), known).unwrap_err().to_string();
            assert!(error.contains("is missing"), "{error}");
        }
    }

    #[test]
    fn a_full_file_grows_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(folder.path(), 1).unwrap();
        assert!(journal.has_room(200 << 10) && !journal.has_room(LEAST_BYTES as usize));
        for _ in 0..14 {
            let full = journal.switch().enlarged().unwrap();
            journal.replace_other(full);
        }
        assert_eq!(journal.known().bytes, [LARGEST_BYTES; 2]);
        for name in super::NAMES {
            assert_eq!(fs::metadata(folder.path().join(name)).unwrap().len(), LARGEST_BYTES);
        }
        assert!(!journal.has_room(usize::MAX));
    }
}
