//! The application at one server: its state, and the files that other servers fetch.

use crate::handle::{digest, Handle, Line};
use anyhow::{ensure, Result};
use omnipaxos::{util::LogEntry, OmniPaxos};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
};

pub(crate) type Server = OmniPaxos<Line, MemoryStorage<Line>>;

pub(crate) struct Application {
    /// One file for each saved state.
    folder: PathBuf,
    /// Where other servers fetch these files.
    address: SocketAddr,
    pub(crate) applied_idx: u64,
    pub(crate) state: Vec<u8>,
}

impl Application {
    /// Creates the folder, and serves its files to other servers.
    pub(crate) fn start(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, served) = (listener.local_addr()?, folder.clone());
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                // After an error the receiver finds a wrong length or digest.
                let _ = serve(&served, connection);
            }
        });
        Ok(Self { folder, address, applied_idx: 0, state: Vec::new() })
    }

    /// Applies what the server has decided since the last call.
    pub(crate) fn catch_up(&mut self, server: &Server) -> Result<()> {
        for entry in server.read_decided_suffix(self.applied_idx).unwrap_or_default() {
            match entry {
                LogEntry::Decided(Line(line)) => {
                    self.state.extend(line.bytes().chain([b'\n']));
                    self.applied_idx += 1;
                }
                LogEntry::Snapshotted(compacted) => {
                    self.fetch(&compacted.snapshot)?;
                    self.applied_idx = compacted.trimmed_idx;
                }
                LogEntry::Undecided(_) | LogEntry::Trimmed(_) | LogEntry::StopSign(..) => {}
            }
        }
        Ok(())
    }

    /// Writes the state to a new file, and returns the handle of this file.
    pub(crate) fn save(&self) -> Result<Handle> {
        let file = format!("state-{}", self.applied_idx);
        let mut to = fs::File::create(self.folder.join(&file))?;
        to.write_all(&self.state)?;
        to.sync_all()?;
        let (bytes, digest) = (self.state.len() as u64, digest(&self.state));
        Ok(Handle { address: self.address, file, bytes, digest })
    }

    /// Fetches a state from the server that wrote it, and keeps a copy of the file.
    fn fetch(&mut self, handle: &Handle) -> Result<()> {
        let mut connection = TcpStream::connect(handle.address)?;
        writeln!(connection, "{}", handle.file)?;
        let mut state = Vec::new();
        connection.read_to_end(&mut state)?;
        ensure!(
            (state.len() as u64, digest(&state)) == (handle.bytes, handle.digest),
            "the file is not the one that the handle names"
        );
        fs::write(self.folder.join(&handle.file), &state)?;
        self.state = state;
        Ok(())
    }

    /// Removes the files of earlier states, once the storage has the handle of the last one. Until then
    /// a crash may bring an earlier handle back.
    pub(crate) fn remove_earlier(&self, server: &Server) -> Result<()> {
        let last = format!("state-{}", server.get_stored_compacted_idx()?);
        if !self.folder.join(&last).exists() {
            return Ok(());
        }
        for file in fs::read_dir(&self.folder)? {
            let path = file?.path();
            if path.file_name() != Some(last.as_ref()) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Sends the file that the other server names.
fn serve(folder: &Path, mut connection: TcpStream) -> Result<()> {
    let mut name = String::new();
    BufReader::new(connection.try_clone()?).read_line(&mut name)?;
    let name = name.trim_end();
    let idx = name.strip_prefix("state-").and_then(|idx| idx.parse::<u64>().ok());
    ensure!(idx.is_some(), "{name:?} is not the name of a state");
    Ok(connection.write_all(&fs::read(folder.join(name))?)?)
}
