//! The files of the states at one server.

use crate::handle::Handle;
use anyhow::{Context, Result};
use omnipaxos::util::NodeId;
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

/// A folder with a file for each state. A file has its name only once all of it is durable.
#[derive(Clone, Debug)]
pub(crate) struct Files(PathBuf);

impl Files {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self(folder.to_path_buf()))
    }

    /// Returns the path of the state of the first `idx` entries.
    pub(crate) fn path(&self, idx: u64) -> PathBuf {
        self.0.join(format!("state-{idx}"))
    }

    /// Writes a state. After an error, and after a crash, there is the state before or this one.
    pub(crate) fn write(&self, idx: u64, state: &[u8]) -> Result<()> {
        let (part, path) = (self.0.join("part"), self.path(idx));
        let write = || {
            let mut file = File::create(&part)?;
            file.write_all(state)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            // The name is durable, too.
            File::open(&self.0)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Returns a state, if it is the one that the handle names.
    pub(crate) fn read(&self, handle: &Handle) -> Option<Vec<u8>> {
        fs::read(self.path(handle.idx)).ok().filter(|state| handle.is_of(state))
    }

    /// Returns the handle of the last state, with `server` as the one that has it.
    pub(crate) fn last(&self, server: NodeId) -> Result<Option<Handle>> {
        let Some(idx) = self.indexes()?.into_iter().max() else {
            return Ok(None);
        };
        Ok(Some(Handle::of(server, idx, &fs::read(self.path(idx))?)))
    }

    /// Removes the states of fewer than `idx` entries.
    pub(crate) fn remove_before(&self, idx: u64) -> Result<()> {
        for earlier in self.indexes()?.into_iter().filter(|earlier| *earlier < idx) {
            fs::remove_file(self.path(earlier))?;
        }
        Ok(())
    }

    fn indexes(&self) -> Result<Vec<u64>> {
        let mut indexes = Vec::new();
        for file in fs::read_dir(&self.0)? {
            let name = file?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("state-"));
            indexes.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        Ok(indexes)
    }
}
