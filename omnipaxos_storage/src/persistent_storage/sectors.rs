//! The batches of a journal, cut into sectors.
//!
//! Disks write sectors as a whole. Each sector contains a stamp, which no other batch ever has, and a
//! checksum. So if a loss of power leaves a sector unwritten, it has an older stamp, and is
//! distinguished from a damaged one.

use super::format::chunk;

/// The size of a sector, which a disk writes as a whole.
pub(super) const SECTOR_BYTES: usize = 512;

/// The bytes of a batch in a sector. The rest is stamp and checksum.
const PAYLOAD_BYTES: usize = SECTOR_BYTES - 8 - 4;

/// The bytes of the length at the beginning of a batch.
const LENGTH_BYTES: usize = 8;

/// Cuts a batch into sectors, which are added to `sectors`.
pub(super) fn push_batch(sectors: &mut Vec<u8>, batch: &[u8], stamp: u64) {
    let length = (batch.len() as u64).to_le_bytes();
    let (first, rest) = batch.split_at(batch.len().min(PAYLOAD_BYTES - LENGTH_BYTES));
    push_sector(sectors, &[&length, first], stamp);
    for payload in rest.chunks(PAYLOAD_BYTES) {
        push_sector(sectors, &[payload], stamp);
    }
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

/// Returns the number of bytes that a batch of this size has in the journal.
pub(super) fn written_bytes(bytes: usize) -> u64 {
    (sectors_of(bytes) as u64).saturating_mul(SECTOR_BYTES as u64)
}

/// Returns the number of sectors of a batch with this number of bytes.
fn sectors_of(bytes: usize) -> usize {
    bytes.saturating_add(LENGTH_BYTES).div_ceil(PAYLOAD_BYTES)
}

/// A sector as it was read.
#[derive(Copy, Clone, Debug)]
pub(super) enum Sector<'a> {
    /// A sector of the batch with this stamp. A sector that was never written has stamp 0.
    Of(u64, &'a [u8]),
    Damaged,
}

impl<'a> Sector<'a> {
    /// Reads the content of a file of the journal.
    pub(super) fn read_all(content: &'a [u8]) -> Vec<Self> {
        content.chunks_exact(SECTOR_BYTES).map(Self::read).collect()
    }

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

    /// Returns the stamp of a sound sector.
    pub(super) fn stamp(&self) -> Option<u64> {
        match self {
            Self::Of(stamp, _) => Some(*stamp),
            Self::Damaged => None,
        }
    }
}

/// A state that no loss of power can have caused.
#[derive(Debug, PartialEq)]
pub(super) struct Bad {
    /// The file, in the order in which the files were given.
    pub(super) file: usize,
    pub(super) sector: usize,
    pub(super) what: &'static str,
}

/// Why a batch was not read: the sector, and what is wrong with it.
type Fault = (usize, &'static str);

const WRONG_CHECKSUM: &str = "the checksum of this sector is wrong";

/// Returns the complete batches from stamp `first` on. The first one is at the beginning of a file. Each
/// other one is behind the one before, or at the beginning of the other file.
pub(super) fn read_batches(files: &[Vec<Sector<'_>>], first: u64) -> Result<Vec<Vec<u8>>, Bad> {
    let mut batches = Vec::new();
    let mut behind_last = None;
    for stamp in first.. {
        let batch = match find_begin(files, behind_last, stamp)? {
            Some((file, at)) => {
                let sectors = files.get(file).map(Vec::as_slice).unwrap_or_default();
                let batch = read_batch(sectors, at, stamp);
                let batch = batch.map_err(|(sector, what)| Bad { file, sector, what })?;
                batch.inspect(|batch| behind_last = Some((file, at + sectors_of(batch.len()))))
            }
            None => None,
        };
        let Some(batch) = batch else {
            return none_after(files, stamp).map(|()| batches);
        };
        batches.push(batch);
    }
    Ok(batches)
}

/// Returns the file and the sector at which the batch with this stamp begins; `None` if it was never
/// written.
fn find_begin(
    files: &[Vec<Sector<'_>>],
    behind_last: Option<(usize, usize)>,
    stamp: u64,
) -> Result<Option<(usize, usize)>, Bad> {
    let places = behind_last.into_iter().chain((0..files.len()).map(|file| (file, 0)));
    let mut damaged = None;
    for (file, sector) in places {
        match files.get(file).and_then(|sectors| sectors.get(sector)) {
            Some(Sector::Of(found, _)) if *found == stamp => return Ok(Some((file, sector))),
            None | Some(Sector::Of(..)) => {}
            Some(Sector::Damaged) => damaged = Some(Bad { file, sector, what: WRONG_CHECKSUM }),
        }
    }
    damaged.map_or(Ok(None), Err)
}

/// Checks that nothing was written after a batch that was never synced.
fn none_after(files: &[Vec<Sector<'_>>], stamp: u64) -> Result<(), Bad> {
    for (file, sectors) in files.iter().enumerate() {
        let is_later = |sector: &Sector<'_>| sector.stamp().is_some_and(|of| of > stamp);
        if let Some(sector) = sectors.iter().position(is_later) {
            return Err(Bad { file, sector, what: "the batch before this is lost" });
        }
    }
    Ok(())
}

/// Returns the batch with this stamp that begins at sector `at`; `None` if some other sector of it was
/// never written.
fn read_batch(sectors: &[Sector<'_>], at: usize, stamp: u64) -> Result<Option<Vec<u8>>, Fault> {
    let too_long = (at, "the length of this batch is wrong");
    let begin = match sectors.get(at) {
        Some(Sector::Of(_, payload)) => payload,
        None | Some(Sector::Damaged) => return Err((at, WRONG_CHECKSUM)),
    };
    let length = chunk::<LENGTH_BYTES>(begin, 0).map(u64::from_le_bytes);
    let length = length.and_then(|length| usize::try_from(length).ok()).ok_or(too_long)?;
    let end = at.checked_add(sectors_of(length));
    let own = end.and_then(|end| sectors.get(at..end)).ok_or(too_long)?;
    if own.iter().any(|sector| sector.stamp().is_some_and(|found| found != stamp)) {
        return Ok(None);
    }
    let mut batch = Vec::with_capacity(own.len() * PAYLOAD_BYTES);
    for (number, sector) in (at..).zip(own) {
        match sector {
            Sector::Of(_, payload) => batch.extend_from_slice(payload),
            Sector::Damaged => return Err((number, WRONG_CHECKSUM)),
        }
    }
    batch.drain(..LENGTH_BYTES);
    batch.truncate(length);
    Ok(Some(batch))
}
