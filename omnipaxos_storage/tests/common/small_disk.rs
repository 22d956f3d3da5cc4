//! A disk that is full soon.

#![allow(dead_code, reason = "each suite uses a part")]

use std::{fs, path::Path, process::Command};

/// A small file system in memory.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` if this user may not mount one.
    pub(crate) fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path());
        let is_mounted = mount.output().is_ok_and(|output| output.status.success());
        if !is_mounted {
            println!("skipped: only root can mount a small file system");
        }
        is_mounted.then_some(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills the disk, except for `but` bytes.
    pub(crate) fn fill(&self, filler: &Path, but: u64) {
        let mut df = Command::new("df");
        let output = df.args(["-B1", "--output=avail"]).arg(self.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let free: u64 = text.lines().nth(1).unwrap().trim().parse().unwrap();
        fs::write(filler, vec![1; free.saturating_sub(but) as usize]).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A file may still be open.
        drop(Command::new("umount").arg("-l").arg(self.path()).output());
    }
}
