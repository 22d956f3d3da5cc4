//! Operations that differ between systems: reads and writes at a position, and the sync of a
//! folder.

use super::error::StorageError;
use std::{fs::File, io, path::Path};

/// Reads at a position, at most as many bytes as the buffer has.
///
/// On Windows this moves the cursor of the handle. So no handle that is used here is used through
/// its cursor: the journal and the indexes have handles of their own, and the commit log appends.
pub(super) fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_at(file, buffer, at)
    }
    #[cfg(windows)]
    {
        std::os::windows::fs::FileExt::seek_read(file, buffer, at)
    }
}

/// Writes at a position, possibly not all bytes. It moves the cursor as [`read_at`] does.
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::write_at(file, bytes, at)
    }
    #[cfg(windows)]
    {
        std::os::windows::fs::FileExt::seek_write(file, bytes, at)
    }
}

/// Reads at a position until the buffer is full.
///
/// # Errors
/// A read fails, or the file ends first.
pub(super) fn read_exact_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    fill(buffer, at, |buffer, at| read_at(file, buffer, at))
}

/// Writes all bytes at a position.
///
/// # Errors
/// A write fails, or writes nothing.
pub(super) fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    write_all(bytes, at, |bytes, at| write_at(file, bytes, at))
}

fn fill(
    mut rest: &mut [u8],
    mut at: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    while !rest.is_empty() {
        match read(rest, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                rest = rest.get_mut(count..).unwrap_or_default();
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn write_all(
    mut rest: &[u8],
    mut at: u64,
    mut write: impl FnMut(&[u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    while !rest.is_empty() {
        match write(rest, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                rest = rest.get(count..).unwrap_or_default();
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens a file to sync it. Windows syncs only through a handle with write access.
pub(super) fn open_to_sync(path: &Path) -> io::Result<File> {
    File::options().read(true).write(cfg!(windows)).open(path)
}

/// Makes the names in a folder durable.
///
/// On Windows a folder cannot be synced, and this does nothing: NTFS keeps names in a journal of
/// its own, in order. It does not promise that they are durable when this returns.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StorageError> {
    if cfg!(windows) {
        return Ok(());
    }
    File::open(folder)
        .and_then(|handle| handle.sync_all())
        .map_err(StorageError::io("sync", folder))
}

#[cfg(test)]
mod tests {
    use super::{fill, write_all};
    use std::io::{self, ErrorKind};

    /// Interrupts every second call, and handles three bytes at most in the others.
    fn some_of(calls: &mut u32, wanted: usize) -> io::Result<usize> {
        *calls += 1;
        match *calls % 2 {
            1 => Err(ErrorKind::Interrupted.into()),
            _ => Ok(wanted.min(3)),
        }
    }

    #[test]
    fn short_and_interrupted_writes_go_on_where_they_ended() {
        let (mut disk, mut calls) = ([0; 12], 0);
        write_all(&[1, 2, 3, 4, 5, 6, 7, 8], 2, |bytes, at| {
            let count = some_of(&mut calls, bytes.len())?;
            disk[at as usize..][..count].copy_from_slice(&bytes[..count]);
            Ok(count)
        })
        .unwrap();
        assert_eq!(disk, [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0]);
    }

    #[test]
    fn short_and_interrupted_reads_go_on_where_they_ended() {
        let disk = [0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let (mut buffer, mut calls) = ([0; 8], 0);
        let mut read = |buffer: &mut [u8], at: u64| {
            let rest = &disk[at as usize..];
            let count = some_of(&mut calls, buffer.len().min(rest.len()))?;
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        };
        fill(&mut buffer, 2, &mut read).unwrap();
        assert_eq!(buffer, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(fill(&mut buffer, 3, read).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_write_of_nothing_is_an_error() {
        let written = write_all(&[1], 0, |_, _| Ok(0));
        assert_eq!(written.unwrap_err().kind(), ErrorKind::WriteZero);
    }
}
