//! A durable log: a file with one sync for each append.
//!
//! `openraft` 0.9 waits for an append before it does anything else, so a thread that syncs would
//! only add its delay.

use super::Types;
use crate::Failure;
use openraft::{
    storage::{LogFlushed, RaftLogStorage},
    Entry, LogId, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs::{self, File, OpenOptions},
    hash::{DefaultHasher, Hasher},
    io::{self, Write},
    ops::RangeBounds,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

/// What the file holds, in the order in which it happened.
#[derive(Serialize, Deserialize)]
enum Record {
    Vote(Vote<u64>),
    Entry(Entry<Types>),
    /// The entries from this index were removed.
    Truncate(u64),
    /// The entries up to this one were removed.
    Purge(LogId<u64>),
}

/// What the file means.
#[derive(Default)]
struct Contents {
    vote: Option<Vote<u64>>,
    purged: Option<LogId<u64>>,
    entries: BTreeMap<u64, Entry<Types>>,
}

impl Contents {
    fn take(&mut self, record: Record) {
        match record {
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Entry(entry) => {
                self.entries.insert(entry.log_id.index, entry);
            }
            Record::Truncate(from) => drop(self.entries.split_off(&from)),
            Record::Purge(log_id) => {
                self.entries = self.entries.split_off(&(log_id.index + 1));
                self.purged = Some(log_id);
            }
        }
    }

    /// Returns the bytes of a file that means the same.
    fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.vote.iter().for_each(|vote| encode(&Record::Vote(*vote), &mut bytes));
        self.purged.iter().for_each(|log_id| encode(&Record::Purge(*log_id), &mut bytes));
        for entry in self.entries.values() {
            encode(&Record::Entry(entry.clone()), &mut bytes);
        }
        bytes
    }
}

/// The log of a server. Clones share it.
#[derive(Clone)]
pub(super) struct LogStore(Arc<Mutex<Log>>);

struct Log {
    contents: Contents,
    tail: Tail,
    path: PathBuf,
}

impl LogStore {
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("log");
        let mut contents = Contents::default();
        read(&path, |record| contents.take(record))?;
        // Without a record that was torn, after which others would not be found.
        replace(&path, &contents.encoded())?;
        let tail = Tail::open(&path)?;
        Ok(Self(Arc::new(Mutex::new(Log { contents, tail, path }))))
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().expect("nothing panics while it holds the log")
    }
}

impl Log {
    /// Makes records durable with one sync.
    fn store(&mut self, records: impl IntoIterator<Item = Record>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            encode(&record, &mut bytes);
            self.contents.take(record);
        }
        self.tail.append(&bytes)
    }

    /// Removes the entries up to this one, and begins the file anew.
    fn purge(&mut self, log_id: LogId<u64>) -> io::Result<()> {
        self.contents.take(Record::Purge(log_id));
        replace(&self.path, &self.contents.encoded())?;
        self.tail = Tail::open(&self.path)?;
        Ok(())
    }
}

fn failed(error: io::Error) -> StorageError<u64> {
    StorageIOError::write_logs(&error).into()
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<Types>>, StorageError<u64>> {
        let log = self.log();
        Ok(log.contents.entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError<u64>> {
        let contents = &self.log().contents;
        let last = contents.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: contents.purged, last_log_id: last.or(contents.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        self.log().store([Record::Vote(*vote)]).map_err(failed)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        Ok(self.log().contents.vote)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.log().store(entries.into_iter().map(Record::Entry)).map_err(failed)?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.log().store([Record::Truncate(log_id.index)]).map_err(failed)
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.log().purge(log_id).map_err(failed)
    }
}

/// Zeros that are written after the records at once. So the file seldom grows, and a sync seldom
/// waits for the journal of the file system.
const PADDING: u64 = 4 << 20;

/// The end of the file: records, then zeros.
struct Tail {
    file: File,
    /// Where the records end.
    end: u64,
    /// Where the zeros end.
    length: u64,
}

impl Tail {
    /// Opens a file of records without zeros after them.
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        let end = file.metadata()?.len();
        Ok(Self { file, end, length: end })
    }

    /// Adds records, and makes them durable.
    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let end = self.end + records.len() as u64;
        if end > self.length {
            self.file.write_all_at(&vec![0; PADDING as usize], end)?;
            self.length = end + PADDING;
        }
        self.file.write_all_at(records, self.end)?;
        self.end = end;
        self.file.sync_data()
    }
}

/// Replaces a file by one with these bytes, which is durable.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = PathBuf::from(path);
    unfinished.set_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Length and checksum of a record.
const HEADER: usize = 12;

/// Adds a record, after its length and its checksum.
fn encode(record: &Record, bytes: &mut Vec<u8>) {
    let at = bytes.len();
    bytes.extend([0; HEADER]);
    bincode::serde::encode_into_std_write(record, bytes, bincode::config::standard())
        .expect("a record can be encoded, and a vector grows");
    let (header, record) = bytes[at..].split_at_mut(HEADER);
    let length = u32::try_from(record.len()).expect("an entry is small");
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..].copy_from_slice(&checksum(record).to_le_bytes());
}

fn checksum(record: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(record);
    hasher.finish()
}

/// Reads the records of a file, if it is there, up to the zeros or a record that was torn.
fn read(path: &Path, mut take: impl FnMut(Record)) -> Result<(), Failure> {
    if !path.exists() {
        return Ok(());
    }
    let bytes = fs::read(path)?;
    let mut left = bytes.as_slice();
    while let Some((length, rest)) = left.split_first_chunk() {
        let Some((expected, rest)) = rest.split_first_chunk() else { break };
        let length = u32::from_le_bytes(*length) as usize;
        let Some((record, rest)) = rest.split_at_checked(length) else { break };
        if length == 0 || checksum(record) != u64::from_le_bytes(*expected) {
            break;
        }
        take(bincode::serde::decode_from_slice(record, bincode::config::standard())?.0);
        left = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{LogStore, Record};
    use openraft::{Entry, EntryPayload, LogId, Vote};
    use std::{fs, io::Write};

    fn entry(index: u64) -> Record {
        let log_id = LogId::new(openraft::CommittedLeaderId::new(1, 1), index);
        Record::Entry(Entry { log_id, payload: EntryPayload::Blank })
    }

    #[test]
    fn a_log_is_read_back_without_a_torn_record() {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let log = LogStore::open(folder.path()).expect("the folder is empty");
        let vote = Vote::new(3, 1);
        let stored = [Record::Vote(vote), entry(1), entry(2), entry(3), Record::Truncate(3)];
        log.log().store(stored).expect("the disk works");
        let path = folder.path().join("log");
        let written = fs::read(&path).expect("the log is there");
        let end = log.log().tail.end as usize;
        drop(log);
        let mut torn = Vec::new();
        super::encode(&entry(3), &mut torn);
        let last = torn.len() - 1;
        torn[last] ^= 1;
        let mut file = fs::File::create(&path).expect("the folder is there");
        file.write_all(&[&written[..end], &torn].concat()).expect("the disk works");
        let log = LogStore::open(folder.path()).expect("the log can be read");
        let contents = &log.log().contents;
        assert_eq!(contents.vote, Some(vote));
        assert_eq!(contents.entries.keys().copied().collect::<Vec<_>>(), [1, 2]);
    }
}
