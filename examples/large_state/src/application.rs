//! The application at one server: its state, and the files of states that other servers fetch.

use crate::{
    files::Files,
    handle::{Handle, Line},
    transfer,
};
use anyhow::{anyhow, bail, ensure, Context, Result};
use omnipaxos::{
    util::{LogEntry, NodeId},
    OmniPaxos,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::Path,
};

pub(crate) type Server = OmniPaxos<Line, MemoryStorage<Line>>;

/// Where the servers serve their states.
pub(crate) type Addresses = BTreeMap<NodeId, SocketAddr>;

pub(crate) struct Application {
    pid: NodeId,
    files: Files,
    pub(crate) address: SocketAddr,
    pub(crate) applied_idx: u64,
    pub(crate) state: Vec<u8>,
}

impl Application {
    /// Begins without a state, and serves the files that the folder has from before.
    pub(crate) fn start(pid: NodeId, folder: &Path) -> Result<Self> {
        let files = Files::open(folder)?;
        let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
        let address = listener.local_addr()?;
        transfer::serve(listener, pid, files.clone());
        Ok(Self { pid, files, address, applied_idx: 0, state: Vec::new() })
    }

    /// Applies what the server has decided since the last call. If that includes entries which only a state
    /// stands for, returns its handle: the caller gets it with [`find`](Self::find) and [`install`](Self::install).
    pub(crate) fn catch_up(&mut self, server: &Server) -> Result<Option<Handle>> {
        for entry in server.read_decided_suffix(self.applied_idx).unwrap_or_default() {
            match entry {
                LogEntry::Decided(Line(line)) => {
                    self.state.extend(line.bytes().chain([b'\n']));
                    self.applied_idx += 1;
                }
                // It has an index, and changes nothing here.
                LogEntry::StopSign(..) => self.applied_idx += 1,
                LogEntry::Snapshotted(compacted) => return Ok(Some(compacted.snapshot)),
                LogEntry::Trimmed(idx) => {
                    bail!("the entries before {idx} are gone, without a state")
                }
                LogEntry::Undecided(_) => break,
            }
        }
        Ok(None)
    }

    /// Takes over a state of entries that the server has decided. Other servers can fetch it from here, too.
    pub(crate) fn install(
        &mut self,
        handle: &Handle,
        state: Vec<u8>,
        server: &mut Server,
    ) -> Result<()> {
        let decided_idx = server.get_decided_idx();
        ensure!(
            handle.idx <= decided_idx,
            "the state contains {} entries, and {decided_idx} are decided here: install it later",
            handle.idx
        );
        (self.applied_idx, self.state) = (handle.idx, state);
        let own = self.save()?;
        if own.idx > server.get_compacted_idx() {
            server.compact_with(own.idx, own)?;
        }
        Ok(())
    }

    /// Writes the state to a file, unless it is there, and returns its handle.
    pub(crate) fn save(&self) -> Result<Handle> {
        let handle = Handle::of(self.pid, self.applied_idx, &self.state);
        if self.files.read(&handle).is_none() {
            self.files.write(self.applied_idx, &self.state)?;
        }
        Ok(handle)
    }

    /// Removes the files of earlier states, once the storage has the handle of the last one. Until then
    /// a crash may bring an earlier handle back.
    pub(crate) fn remove_earlier(&self, server: &Server) -> Result<()> {
        let stored_idx = server.get_stored_compacted_idx()?;
        match self.files.path(stored_idx).exists() {
            true => self.files.remove_before(stored_idx),
            false => Ok(()),
        }
    }

    /// Finds the state of a handle, or a later one: in the own files, at the server that wrote it, or at another
    /// one. This may take long. A real application does it on a thread, since the replica must go on.
    pub(crate) fn find(&self, handle: &Handle, addresses: &Addresses) -> Result<(Handle, Vec<u8>)> {
        if let Some(state) = self.files.read(handle) {
            return Ok((handle.clone(), state));
        }
        let mut failures = Vec::new();
        let others = addresses.iter().filter(|(pid, _)| **pid != handle.server);
        for (pid, address) in addresses.get_key_value(&handle.server).into_iter().chain(others) {
            let found = match *pid == handle.server {
                true => Ok(handle.clone()),
                false => transfer::ask_for_last(*address, *pid).and_then(|last| {
                    ensure!(last.idx >= handle.idx, "its last state contains {} entries", last.idx);
                    // A later state may be damaged at its server. A real application keeps the digest beside it.
                    let named = Handle { server: *pid, ..handle.clone() };
                    Ok(if last.idx == handle.idx { named } else { last })
                }),
            };
            match found.and_then(|found| Ok((transfer::fetch(*address, &found)?, found))) {
                Ok((state, found)) => return Ok((found, state)),
                Err(error) => failures.push(format!("server {pid}: {error:#}")),
            }
        }
        Err(anyhow!(failures.join("; ")).context("no server sends the state: ask again later"))
    }
}
