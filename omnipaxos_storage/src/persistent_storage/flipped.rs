//! For tests: a file with one bit changed.

use super::files;
use std::{
    fs::{self, File},
    path::Path,
};

/// A file whose bits are changed in place. To write the whole file anew for each bit takes longer: file
/// systems wait for the disk when a file that became empty is closed.
pub(super) struct Flipped {
    file: File,
    bytes: Vec<u8>,
}

impl Flipped {
    pub(super) fn open(path: &Path) -> Self {
        let file = File::options().write(true).open(path).unwrap();
        Self { file, bytes: fs::read(path).unwrap() }
    }

    pub(super) fn bits(&self) -> usize {
        self.bytes.len() * 8
    }

    /// Cuts the file off, or fills it up with zeros.
    pub(super) fn set_len(&mut self, bytes: usize) {
        self.file.set_len(bytes as u64).unwrap();
        self.bytes.resize(bytes, 0);
    }

    /// A second time, the bit is what it was.
    pub(super) fn flip(&mut self, bit: usize) {
        let at = bit / 8;
        self.bytes[at] ^= 1 << (bit % 8);
        files::write_all_at(&self.file, &self.bytes[at..=at], at as u64).unwrap();
    }
}
