//! A state that is too large for messages. The snapshot is a handle: server, name of a file, length
//! and digest. A server that lacks the state fetches the file itself, over a connection of its own.
//!
//! A real application hashes with a cryptographic function.
#![allow(clippy::disallowed_methods, reason = "not the core")]

mod common;

use omnipaxos::{macros::Entry, storage::Snapshot, util::LogEntry};
use serde::{Deserialize, Serialize};
use std::{
    collections::hash_map::DefaultHasher,
    error::Error,
    fs,
    hash::Hasher,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
};

/// A line that is added to the state, which is a file.
#[derive(Clone, Debug, Entry, Serialize, Deserialize)]
#[snapshot(Handle)]
struct Line(String);

/// Names a state without containing it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Handle {
    /// Where the file can be fetched.
    address: SocketAddr,
    file: String,
    bytes: u64,
    digest: u64,
}

impl Snapshot<Line> for Handle {
    fn create(_: &[Line]) -> Self {
        unreachable!("can_create is false: only the application writes files")
    }

    fn merge(&mut self, _: Self) {
        unreachable!("can_create is false")
    }

    fn use_snapshots() -> bool {
        true
    }

    fn can_create() -> bool {
        false
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// The application at one server, with a folder for its states.
struct Application {
    folder: PathBuf,
    address: SocketAddr,
    applied_idx: u64,
    state: Vec<u8>,
}

impl Application {
    /// Serves the files of the folder to other servers.
    fn start(folder: PathBuf) -> Result<Self, Box<dyn Error>> {
        fs::create_dir_all(&folder)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, served) = (listener.local_addr()?, folder.clone());
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                // The other side finds out by length and digest.
                let _ = serve(&served, connection);
            }
        });
        Ok(Self { folder, address, applied_idx: 0, state: Vec::new() })
    }

    /// Writes the state to a new file, which other servers can fetch from now on.
    fn save(&self) -> Result<Handle, Box<dyn Error>> {
        let file = format!("state-{}", self.applied_idx);
        fs::File::create(self.folder.join(&file)).and_then(|mut to| {
            to.write_all(&self.state)?;
            to.sync_all()
        })?;
        let (bytes, digest) = (self.state.len() as u64, digest(&self.state));
        Ok(Handle { address: self.address, file, bytes, digest })
    }

    /// Fetches a state from the server that wrote it, and keeps a copy of the file.
    fn fetch(&mut self, handle: &Handle) -> Result<(), Box<dyn Error>> {
        let mut connection = TcpStream::connect(handle.address)?;
        connection.write_all(format!("{}\n", handle.file).as_bytes())?;
        let mut state = Vec::new();
        connection.read_to_end(&mut state)?;
        if (state.len() as u64, digest(&state)) != (handle.bytes, handle.digest) {
            return Err("the file is not the one that the handle names".into());
        }
        fs::write(self.folder.join(&handle.file), &state)?;
        self.state = state;
        Ok(())
    }

    fn catch_up(&mut self, server: &common::Server<Line>) -> Result<(), Box<dyn Error>> {
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

    /// Removes the files of earlier states. Not before the handle of the last one is durable: after a
    /// crash the log may still begin with an earlier one.
    fn remove_earlier(&self, server: &common::Server<Line>) -> Result<(), Box<dyn Error>> {
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

/// Sends the file that the other side names.
fn serve(folder: &Path, mut connection: TcpStream) -> Result<(), Box<dyn Error>> {
    let mut name = String::new();
    BufReader::new(connection.try_clone()?).read_line(&mut name)?;
    let name = name.trim_end();
    if name.strip_prefix("state-").is_none_or(|idx| idx.parse::<u64>().is_err()) {
        return Err("this is not the name of a state".into());
    }
    Ok(connection.write_all(&fs::read(folder.join(name))?)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let start = |pid| Application::start(folder.path().join(format!("server-{pid}")));
    let mut servers = common::cluster(3);
    let mut late = servers.split_off(2);
    let mut applications = [start(1)?, start(2)?];
    common::run(&mut servers, 30);
    for round in 1..=3 {
        for n in 1..=100 {
            servers[0].append(Line(format!("line {n} of round {round}")))?;
        }
        common::run(&mut servers, 20);
        for (server, application) in servers.iter_mut().zip(&mut applications) {
            application.catch_up(server)?;
            server.compact_with(application.applied_idx, application.save()?)?;
        }
        common::run(&mut servers, 2);
        for (server, application) in servers.iter().zip(&applications) {
            application.remove_earlier(server)?;
        }
    }

    servers.append(&mut late);
    common::run(&mut servers, 60);
    let mut application = start(3)?;
    application.catch_up(&servers[2])?;
    println!(
        "the server that was late fetched a state of {} bytes after {} entries",
        application.state.len(),
        application.applied_idx
    );
    assert_eq!((application.applied_idx, &application.state), (300, &applications[0].state));
    Ok(())
}
