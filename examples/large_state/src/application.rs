//! The application at one server: its state, and the files that other servers fetch.

use crate::handle::{digest, Handle, Line};
use anyhow::{ensure, Context, Result};
use omnipaxos::{util::LogEntry, OmniPaxos};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

pub(crate) type Server = OmniPaxos<Line, MemoryStorage<Line>>;

pub(crate) struct Application {
    /// One file for each saved state.
    folder: PathBuf,
    /// Where other servers fetch these files.
    pub(crate) address: SocketAddr,
    pub(crate) applied_idx: u64,
    pub(crate) state: Vec<u8>,
    /// The handle of the last state in the folder.
    saved: Arc<Mutex<Option<Handle>>>,
}

impl Application {
    /// Creates the folder, and serves its files to other servers.
    pub(crate) fn start(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, served) = (listener.local_addr()?, folder.clone());
        let saved = Arc::new(Mutex::new(None));
        let last = Arc::clone(&saved);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                // After an error the receiver finds a wrong length or digest.
                let _ = serve(&served, &last, connection);
            }
        });
        Ok(Self { folder, address, applied_idx: 0, state: Vec::new(), saved })
    }

    /// Applies what the server has decided since the last call. It may be called again after an error.
    pub(crate) fn catch_up(&mut self, server: &mut Server, others: &[SocketAddr]) -> Result<()> {
        for entry in server.read_decided_suffix(self.applied_idx).unwrap_or_default() {
            match entry {
                LogEntry::Decided(Line(line)) => {
                    self.state.extend(line.bytes().chain([b'\n']));
                    self.applied_idx += 1;
                }
                LogEntry::Snapshotted(compacted) => {
                    self.restore(&compacted.snapshot, server, others)?;
                    // The entries that follow the restored state may begin later.
                    return self.catch_up(server, others);
                }
                LogEntry::Undecided(_) | LogEntry::Trimmed(_) | LogEntry::StopSign(..) => {}
            }
        }
        Ok(())
    }

    /// Writes the state to a new file, and returns the handle of this file.
    pub(crate) fn save(&self) -> Result<Handle> {
        let (bytes, digest) = (self.state.len() as u64, digest(&self.state));
        let handle = Handle { address: self.address, idx: self.applied_idx, bytes, digest };
        let mut to = fs::File::create(self.path(&handle))?;
        to.write_all(&self.state)?;
        to.sync_all()?;
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.clone());
        Ok(handle)
    }

    /// Returns the path of the file of a state.
    pub(crate) fn path(&self, handle: &Handle) -> PathBuf {
        self.folder.join(handle.file())
    }

    /// Fetches the state of a handle. If the server that wrote it does not send it, fetches the last state of
    /// another server.
    fn restore(
        &mut self,
        handle: &Handle,
        server: &mut Server,
        others: &[SocketAddr],
    ) -> Result<()> {
        let mut fetched = fetch(handle).map(|state| (handle.idx, state));
        for other in others.iter().filter(|other| **other != handle.address) {
            if fetched.is_ok() {
                break;
            }
            fetched = ask_for_last(*other).and_then(|last| {
                ensure!(
                    (handle.idx..=server.get_decided_idx()).contains(&last.idx),
                    "the last state of {other} contains {} entries: ask again later",
                    last.idx
                );
                Ok((last.idx, fetch(&last)?))
            });
        }
        (self.applied_idx, self.state) = fetched?;
        // Other servers can fetch this state from here, too.
        let own = self.save()?;
        if own.idx > server.get_compacted_idx() {
            server.compact_with(own.idx, own)?;
        }
        Ok(())
    }

    /// Removes the files of earlier states, once the storage has the handle of the last one. Until then
    /// a crash may bring an earlier handle back.
    pub(crate) fn remove_earlier(&self, server: &Server) -> Result<()> {
        let stored_idx = server.get_stored_compacted_idx()?;
        if !self.folder.join(format!("state-{stored_idx}")).exists() {
            return Ok(());
        }
        for file in fs::read_dir(&self.folder)? {
            let path = file?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let number = name.and_then(|name| name.strip_prefix("state-"));
            let idx: Option<u64> = number.and_then(|number| number.parse().ok());
            if idx.is_some_and(|idx| idx < stored_idx) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Fetches a state from the server that wrote it.
fn fetch(handle: &Handle) -> Result<Vec<u8>> {
    let mut connection = TcpStream::connect(handle.address)?;
    writeln!(connection, "{}", handle.file())?;
    let mut state = Vec::new();
    connection.take(handle.bytes.saturating_add(1)).read_to_end(&mut state)?;
    ensure!(
        (state.len() as u64, digest(&state)) == (handle.bytes, handle.digest),
        "the file is not the one that the handle names"
    );
    Ok(state)
}

/// Asks a server for the handle of its last state.
fn ask_for_last(address: SocketAddr) -> Result<Handle> {
    let mut connection = TcpStream::connect(address)?;
    writeln!(connection, "last")?;
    let mut line = String::new();
    BufReader::new(connection).read_line(&mut line)?;
    let mut numbers = line.split_whitespace().map(str::parse);
    let mut next = || numbers.next().context("the server has no state");
    Ok(Handle { address, idx: next()??, bytes: next()??, digest: next()?? })
}

/// Sends the file that the other server names, or the handle of the last state.
fn serve(folder: &Path, last: &Mutex<Option<Handle>>, mut connection: TcpStream) -> Result<()> {
    let mut name = String::new();
    BufReader::new(connection.try_clone()?).read_line(&mut name)?;
    let name = name.trim_end();
    if name == "last" {
        let last = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Handle { idx, bytes, digest, .. } = last.context("there is no state")?;
        return Ok(writeln!(connection, "{idx} {bytes} {digest}")?);
    }
    let idx = name.strip_prefix("state-").and_then(|idx| idx.parse::<u64>().ok());
    ensure!(idx.is_some(), "{name:?} is not the name of a state");
    Ok(connection.write_all(&fs::read(folder.join(name))?)?)
}
