//! A state that is too large for messages. The snapshot is a handle: server, name of a file, length
//! and digest. A server that lacks the state fetches the file itself, over a connection of its own.
//!
//! The server in the handle may end while it sends the file, or may have removed it since: the library
//! does not know of the file. Then the application asks the others for the last state that they have, which
//! may be a later one.
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
    sync::{Arc, Mutex},
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
    /// Number of entries that the state contains.
    idx: u64,
    bytes: u64,
    digest: u64,
}

impl Handle {
    fn file(&self) -> String {
        format!("state-{}", self.idx)
    }
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
    /// The last state in the folder.
    saved: Arc<Mutex<Option<Handle>>>,
}

impl Application {
    /// Serves the files of the folder to other servers.
    fn start(folder: PathBuf) -> Result<Self, Box<dyn Error>> {
        fs::create_dir_all(&folder)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, served) = (listener.local_addr()?, folder.clone());
        let saved = Arc::new(Mutex::new(None));
        let last = Arc::clone(&saved);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                // The other side finds out by length and digest.
                let _ = serve(&served, &last, connection);
            }
        });
        Ok(Self { folder, address, applied_idx: 0, state: Vec::new(), saved })
    }

    /// Writes the state to a new file, which other servers can fetch from now on.
    fn save(&self) -> Result<Handle, Box<dyn Error>> {
        let (bytes, digest) = (self.state.len() as u64, digest(&self.state));
        let handle = Handle { address: self.address, idx: self.applied_idx, bytes, digest };
        fs::File::create(self.folder.join(handle.file())).and_then(|mut to| {
            to.write_all(&self.state)?;
            to.sync_all()
        })?;
        *self.saved.lock().map_err(|_| "a thread panicked")? = Some(handle.clone());
        Ok(handle)
    }

    /// Takes the state of a snapshot: from the server that wrote it, or else the last one of another
    /// server, if its entries are decided here.
    fn restore(
        &mut self,
        handle: &Handle,
        server: &mut common::Server<Line>,
        others: &[SocketAddr],
    ) -> Result<(), Box<dyn Error>> {
        let mut fetched = fetch(handle).map(|state| (handle.clone(), state));
        for other in others.iter().filter(|other| **other != handle.address) {
            if fetched.is_ok() {
                break;
            }
            let last = ask_for_last(*other).and_then(|last| Ok((last.clone(), fetch(&last)?)));
            let decided = handle.idx..=server.get_decided_idx();
            fetched = last.and_then(|(last, state)| match decided.contains(&last.idx) {
                true => Ok((last, state)),
                false => Err("ask again when the entries of that state are decided here".into()),
            });
        }
        let (fetched, state) = fetched?;
        (self.applied_idx, self.state) = (fetched.idx, state);
        // The file is here, too: from now on this server is the one to ask.
        let own = self.save()?;
        if own.idx > server.get_compacted_idx() {
            server.compact_with(own.idx, own)?;
        }
        Ok(())
    }

    /// Applies what is decided. If that fails, it may be called again.
    fn catch_up(
        &mut self,
        server: &mut common::Server<Line>,
        others: &[SocketAddr],
    ) -> Result<(), Box<dyn Error>> {
        for entry in server.read_decided_suffix(self.applied_idx).unwrap_or_default() {
            match entry {
                LogEntry::Decided(Line(line)) => {
                    self.state.extend(line.bytes().chain([b'\n']));
                    self.applied_idx += 1;
                }
                LogEntry::Snapshotted(compacted) => {
                    self.restore(&compacted.snapshot, server, others)?;
                    // The entries that follow the state may begin later.
                    return self.catch_up(server, others);
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

/// Fetches a state from the server that wrote it.
fn fetch(handle: &Handle) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut connection = TcpStream::connect(handle.address)?;
    connection.write_all(format!("{}\n", handle.file()).as_bytes())?;
    let mut state = Vec::new();
    connection.take(handle.bytes + 1).read_to_end(&mut state)?;
    match (state.len() as u64, digest(&state)) == (handle.bytes, handle.digest) {
        true => Ok(state),
        false => Err("the file is not the one that the handle names".into()),
    }
}

/// Asks a server for the handle of its last state.
fn ask_for_last(address: SocketAddr) -> Result<Handle, Box<dyn Error>> {
    let mut connection = TcpStream::connect(address)?;
    connection.write_all(b"last\n")?;
    let mut line = String::new();
    BufReader::new(connection).read_line(&mut line)?;
    let mut numbers = line.split_whitespace().map(str::parse);
    let mut next = || numbers.next().ok_or("the server has no state");
    Ok(Handle { address, idx: next()??, bytes: next()??, digest: next()?? })
}

/// Sends the file that the other side names, or the handle of the last state.
fn serve(
    folder: &Path,
    last: &Mutex<Option<Handle>>,
    mut connection: TcpStream,
) -> Result<(), Box<dyn Error>> {
    let mut name = String::new();
    BufReader::new(connection.try_clone()?).read_line(&mut name)?;
    let name = name.trim_end();
    if name == "last" {
        let last = last.lock().map_err(|_| "a thread panicked")?.clone();
        let Handle { idx, bytes, digest, .. } = last.ok_or("there is none")?;
        return Ok(writeln!(connection, "{idx} {bytes} {digest}")?);
    }
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
    let addresses = applications.each_ref().map(|application| application.address);
    common::run(&mut servers, 30);
    for round in 1..=3 {
        for n in 1..=100 {
            servers[0].append(Line(format!("line {n} of round {round}")))?;
        }
        common::run(&mut servers, 20);
        for (server, application) in servers.iter_mut().zip(&mut applications) {
            application.catch_up(server, &addresses)?;
            server.compact_with(application.applied_idx, application.save()?)?;
        }
        common::run(&mut servers, 2);
        for (server, application) in servers.iter().zip(&applications) {
            application.remove_earlier(server)?;
        }
    }

    servers.append(&mut late);
    common::run(&mut servers, 60);
    // The source of its handle has gone, with half of the file on its way.
    let LogEntry::Snapshotted(compacted) = servers[2].read(0).ok_or("nothing is decided")? else {
        return Err("server 3 has entries, not a snapshot".into());
    };
    for gone in applications.iter().filter(|gone| gone.address == compacted.snapshot.address) {
        let path = gone.folder.join(compacted.snapshot.file());
        fs::File::options().write(true).open(path)?.set_len(compacted.snapshot.bytes / 2)?;
    }
    let mut application = start(3)?;
    application.catch_up(&mut servers[2], &addresses)?;
    println!(
        "the server that was late fetched a state of {} bytes after {} entries",
        application.state.len(),
        application.applied_idx
    );
    assert_eq!((application.applied_idx, &application.state), (300, &applications[0].state));
    Ok(())
}
