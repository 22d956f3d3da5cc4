//! What a process did to its files.

use super::workload::Acknowledged;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// The recorder, as a library to preload.
const SHIM: &str = include_str!("shim.c");

/// One thing that happened, in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    Write {
        path: PathBuf,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        path: PathBuf,
        len: u64,
    },
    Create {
        path: PathBuf,
    },
    CreateFolder {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    SyncFile {
        path: PathBuf,
    },
    SyncFolder {
        path: PathBuf,
    },
    /// The process printed what it has stored.
    Acknowledged(Acknowledged),
}

/// Builds and preloads the recorder.
#[derive(Debug)]
pub struct Recorder {
    library: PathBuf,
}

impl Recorder {
    /// Builds the recorder in `folder` with the C compiler, which Rust needs to link anyhow.
    ///
    /// # Errors
    /// There is no C compiler, or it fails.
    pub fn build(folder: &Path) -> io::Result<Self> {
        let source = folder.join("shim.c");
        let library = folder.join("shim.so");
        fs::write(&source, SHIM)?;
        let output = Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-w", "-o"])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"])
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(Self { library })
    }

    /// Makes `command` record into `log` what it does below `root`.
    pub fn watch(&self, command: &mut Command, root: &Path, log: &Path) {
        command.env("LD_PRELOAD", &self.library).env("SHIM_ROOT", root).env("SHIM_LOG", log);
    }
}

/// Reads a recording.
///
/// # Errors
/// The file is not there, or not a recording.
pub fn read_record(log: &Path) -> io::Result<super::Replay> {
    parse(&fs::read(log)?)
        .map(super::Replay::new)
        .ok_or_else(|| io::Error::other("not a recording"))
}

fn parse(bytes: &[u8]) -> Option<Vec<Event>> {
    let mut events = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(rest.get(..end)?).ok()?;
        rest = rest.get(end + 1..)?;
        let mut words = line.splitn(4, ' ');
        let kind = words.next()?;
        let offset: u64 = words.next()?.parse().ok()?;
        let length: usize = words.next()?.parse().ok()?;
        let (path, other) = words.next()?.rsplit_once('|')?;
        let (path, other) = (PathBuf::from(path), PathBuf::from(other));
        events.push(match kind {
            "W" => {
                let bytes = rest.get(..length)?.to_vec();
                rest = rest.get(length..)?;
                Event::Write { path, offset, bytes }
            }
            "T" => Event::Truncate { path, len: offset },
            "C" => Event::Create { path },
            "M" => Event::CreateFolder { path },
            "R" => Event::Rename { from: path, to: other },
            "U" => Event::Unlink { path },
            "F" => Event::SyncFile { path },
            "D" => Event::SyncFolder { path },
            "A" => {
                let stored_idx = other.to_str()?.parse().ok()?;
                Event::Acknowledged(Acknowledged { batches: offset, stored_idx })
            }
            _ => return None,
        });
    }
    Some(events)
}

#[cfg(test)]
mod tests {
    use super::{parse, Acknowledged, Event};

    #[test]
    fn reads_what_the_recorder_writes() {
        let events = parse(b"C 0 0 /a|\nW 3 2 /a|\nxyA 7 0 -|9\nR 0 0 /a|/b\n").unwrap();
        assert_eq!(events.len(), 4);
        assert!(matches!(&events[1], Event::Write { offset: 3, bytes, .. } if bytes == b"xy"));
        let acknowledged = Acknowledged { batches: 7, stored_idx: 9 };
        assert_eq!(events[2], Event::Acknowledged(acknowledged));
        assert_eq!(parse(b"Q 0 0 /a|\n"), None);
    }
}
