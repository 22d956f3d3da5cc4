//! What the disk may hold after a loss of power.

use super::{record::Event, workload::Acknowledged};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

const SECTOR_BYTES: usize = 512;

/// How much of what was not synced is lost.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: only the process died.
    Nothing,
    /// All of it.
    Everything,
    /// Each write is kept, lost, or torn at sectors, as chance will.
    Some,
}

/// Faults that the storage does not have, to see that they would be noticed.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// The log's files are not synced.
    pub skip_log_syncs: bool,
    /// No folder is synced.
    pub skip_folder_syncs: bool,
    /// The files of large snapshots are not synced.
    pub skip_snapshot_syncs: bool,
    /// The files of the log that a batch frees are removed before it is written.
    pub remove_segments_early: bool,
    /// After a kill, the next process syncs nothing while it opens the storage.
    pub skip_opening_syncs: bool,
}

/// A recording, to be cut at any moment.
#[derive(Clone, Debug)]
pub struct Replay {
    events: Vec<Event>,
    /// The number of events before the process was killed, if another one followed.
    killed_at: Option<usize>,
}

/// A file as the system sees it: writes and truncations, and how many are surely on the disk.
#[derive(Clone, Debug, Default)]
struct Inode {
    changes: Vec<Change>,
    durable: usize,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

/// A change of names.
#[derive(Clone, Debug)]
enum Naming {
    File(PathBuf, usize),
    Folder(PathBuf),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
}

/// How many batches too early a file is removed, if a replay does that.
const EARLY_BATCHES: usize = 4;

/// The disk up to some moment.
#[derive(Default)]
struct Disk {
    inodes: Vec<Inode>,
    live: BTreeMap<PathBuf, usize>,
    namings: Vec<(Naming, bool)>,
    acknowledged: Acknowledged,
}

impl Replay {
    pub(super) fn new(events: Vec<Event>) -> Self {
        Self { events, killed_at: None }
    }

    /// Returns the recording in which the process is killed after `moment` events, and `next` is what another
    /// process did to the files that it left. The system still has what the killed one did not sync.
    #[must_use]
    pub fn killed_at(&self, moment: usize, next: Self) -> Self {
        let before = self.events.iter().take(moment).cloned();
        Self { events: before.chain(next.events).collect(), killed_at: Some(moment) }
    }

    /// Returns the events of the process that followed a kill, until it acknowledged what it had found.
    pub fn opening(&self) -> Range<usize> {
        let start = self.killed_at.unwrap_or(self.events.len());
        let events = self.events.iter().skip(start);
        let count = events.take_while(|event| !matches!(event, Event::Acknowledged(_))).count();
        start..start + count
    }

    /// Returns whether the opening syncs a folder before it changes a file there, and before it removes
    /// a segment.
    pub fn opening_syncs_first(&self, folder: &Path) -> bool {
        let opening = self.events.get(self.opening()).unwrap_or_default();
        let is_sync =
            |event: &&Event| matches!(event, Event::SyncFolder { path } if path == folder);
        let is_change = |event: &Event| match event {
            Event::Write { path, .. } | Event::Truncate { path, .. } | Event::Create { path } => {
                path.starts_with(folder)
            }
            Event::Unlink { path } => is_segment(path),
            _names_and_syncs => false,
        };
        let mut before = opening.iter().take_while(|event| !is_change(event));
        before.any(|event| is_sync(&event))
    }

    /// Returns the moments after a write to the journal that is not synced: a batch, or zeros that enlarge it.
    pub fn moments_before_syncs(&self) -> Vec<usize> {
        let is_journal = |path: &Path| is_log(path) && !is_segment(path);
        let is_write =
            |event: &Event| matches!(event, Event::Write { path, .. } if is_journal(path));
        (1..=self.events.len())
            .filter(|moment| self.events.get(moment - 1).is_some_and(is_write))
            .collect()
    }

    /// Returns the folders whose names were not made durable before something was acknowledged.
    pub fn folders_without_sync(&self) -> BTreeSet<PathBuf> {
        let mut unsynced = BTreeSet::new();
        for event in &self.events {
            match event {
                Event::CreateFolder { path } => {
                    unsynced.insert(path.clone());
                }
                Event::SyncFolder { path } => unsynced.retain(|made| made.parent() != Some(path)),
                Event::Acknowledged(_) => break,
                _files => {}
            }
        }
        unsynced
    }

    /// Number of moments at which power can be lost.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// What was done to the log for each acknowledgement, since the one before or the beginning.
    pub fn log_syncs(&self) -> Vec<LogSyncs> {
        let mut counts = Vec::new();
        let mut count = LogSyncs::default();
        for event in &self.events {
            match event {
                Event::SyncFile { path } if is_segment(path) => count.log += 1,
                Event::SyncFile { path } if is_log(path) => count.journal += 1,
                Event::Create { path } if is_segment(path) => count.segments_begun += 1,
                Event::Acknowledged(_) => counts.push(std::mem::take(&mut count)),
                Event::SyncFile { .. }
                | Event::Write { .. }
                | Event::Truncate { .. }
                | Event::Create { .. }
                | Event::CreateFolder { .. }
                | Event::Rename { .. }
                | Event::Unlink { .. }
                | Event::SyncFolder { .. } => {}
            }
        }
        counts
    }

    /// Builds in `target` what the files that were below `root` may be if power is lost after
    /// `moment` events. `base` holds the files as they were before the recording. Returns what was
    /// acknowledged by then.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn build(
        &self,
        moment: usize,
        loss: Loss,
        controls: Controls,
        chance: &mut impl FnMut(u64) -> u64,
        folders: Folders<'_>,
    ) -> io::Result<Acknowledged> {
        let mut disk = Disk::default();
        disk.load(folders.base, folders.root)?;
        let without_syncs = match controls.skip_opening_syncs {
            true => self.opening(),
            false => 0..0,
        };
        for (number, event) in self.events.iter().enumerate().take(moment) {
            let is_sync = matches!(event, Event::SyncFile { .. } | Event::SyncFolder { .. });
            if !(is_sync && without_syncs.contains(&number)) {
                disk.apply(event, controls);
            }
        }
        let mut acknowledgements = 0;
        let is_near = |event: &&Event| {
            acknowledgements += usize::from(matches!(event, Event::Acknowledged(_)));
            acknowledgements <= EARLY_BATCHES
        };
        for event in self.events.iter().skip(moment).take_while(is_near) {
            let is_early = matches!(event, Event::Unlink { path } if is_segment(path));
            if controls.remove_segments_early && is_early {
                disk.apply(event, controls);
            }
        }
        disk.write_to(loss, chance, &folders)?;
        Ok(disk.acknowledged)
    }
}

/// Whether this is a file of the log, or its journal.
fn is_log(path: &Path) -> bool {
    is_segment(path)
        || path.file_name().is_some_and(|name| name == "journal" || name == "journal_2")
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

fn is_snapshot(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snapshot."))
}

/// What a batch did to the files of the log and to its journal.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSyncs {
    /// How often the journal was synced.
    pub journal: usize,
    /// How often a file of the log was synced.
    pub log: usize,
    /// How many files were begun.
    pub segments_begun: usize,
}

/// Where a replay finds and puts files.
#[derive(Copy, Clone, Debug)]
pub struct Folders<'a> {
    /// The files before the recording; may not exist.
    pub base: &'a Path,
    /// Where the process had them.
    pub root: &'a Path,
    /// Where they are built.
    pub target: &'a Path,
}

impl Disk {
    /// The files as they were before: all on the disk.
    fn load(&mut self, folder: &Path, root: &Path) -> io::Result<()> {
        let Ok(entries) = fs::read_dir(folder) else {
            return Ok(());
        };
        for entry in entries {
            let entry = entry?;
            let path = root.join(entry.file_name());
            if entry.path().is_dir() {
                self.namings.push((Naming::Folder(path.clone()), true));
                self.load(&entry.path(), &path)?;
            } else {
                let bytes = fs::read(entry.path())?;
                let inode = self.inodes.len();
                let changes = vec![Change::Write { offset: 0, bytes }];
                self.inodes.push(Inode { changes, durable: 1 });
                self.live.insert(path.clone(), inode);
                self.namings.push((Naming::File(path, inode), true));
            }
        }
        Ok(())
    }

    fn apply(&mut self, event: &Event, controls: Controls) {
        match event {
            Event::Acknowledged(acknowledged) => self.acknowledged = *acknowledged,
            Event::Create { path } => {
                let inode = self.inodes.len();
                self.inodes.push(Inode::default());
                self.live.insert(path.clone(), inode);
                self.namings.push((Naming::File(path.clone(), inode), false));
            }
            Event::CreateFolder { path } => {
                self.namings.push((Naming::Folder(path.clone()), false));
            }
            Event::Rename { from, to } => {
                if let Some(inode) = self.live.remove(from) {
                    self.live.insert(to.clone(), inode);
                }
                self.namings.push((Naming::Rename(from.clone(), to.clone()), false));
            }
            Event::Unlink { path } => {
                self.live.remove(path);
                self.namings.push((Naming::Unlink(path.clone()), false));
            }
            Event::Write { path, offset, bytes } => {
                let change = Change::Write { offset: *offset as usize, bytes: bytes.clone() };
                self.change(path, change);
            }
            Event::Truncate { path, len } => {
                self.change(path, Change::Truncate { len: *len as usize });
            }
            Event::SyncFile { path } => {
                let is_skipped = controls.skip_log_syncs && is_log(path)
                    || controls.skip_snapshot_syncs && is_snapshot(path);
                if !is_skipped {
                    if let Some(inode) = self.inode(path) {
                        inode.durable = inode.changes.len();
                    }
                }
            }
            Event::SyncFolder { path } => {
                if !controls.skip_folder_syncs {
                    for (naming, is_durable) in &mut self.namings {
                        *is_durable |= naming.path().parent() == Some(path);
                    }
                }
            }
        }
    }

    fn inode(&mut self, path: &Path) -> Option<&mut Inode> {
        let inode = *self.live.get(path)?;
        self.inodes.get_mut(inode)
    }

    fn change(&mut self, path: &Path, change: Change) {
        if let Some(inode) = self.inode(path) {
            inode.changes.push(change);
        }
    }

    fn write_to(
        &self,
        loss: Loss,
        chance: &mut impl FnMut(u64) -> u64,
        folders: &Folders<'_>,
    ) -> io::Result<()> {
        // The journal of a file system keeps names in order: what is durable, and then some.
        let surely = self.namings.iter().rposition(|(_, is_durable)| *is_durable);
        let surely = surely.map_or(0, |last| last + 1);
        let kept = match loss {
            Loss::Nothing => self.namings.len(),
            Loss::Everything => surely,
            Loss::Some => surely + chance((self.namings.len() - surely) as u64 + 1) as usize,
        };
        let mut names: BTreeMap<&Path, usize> = BTreeMap::new();
        let mut made: BTreeSet<&Path> = BTreeSet::new();
        for (naming, _) in self.namings.iter().take(kept) {
            match naming {
                Naming::File(path, inode) => {
                    names.insert(path, *inode);
                }
                Naming::Folder(path) => {
                    made.insert(path);
                }
                Naming::Rename(from, to) => {
                    if let Some(inode) = names.remove(from.as_path()) {
                        names.insert(to, inode);
                    }
                }
                Naming::Unlink(path) => {
                    names.remove(path.as_path());
                }
            }
        }
        match fs::remove_dir_all(folders.target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => fs::create_dir_all(folders.target)?,
        }
        let place = |path: &Path| {
            path.strip_prefix(folders.root).map(|inside| folders.target.join(inside)).ok()
        };
        for folder in made.into_iter().filter_map(place) {
            fs::create_dir_all(folder)?;
        }
        for (path, inode) in names {
            if let (Some(path), Some(inode)) = (place(path), self.inodes.get(inode)) {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::write(path, inode.content(loss, chance))?;
            }
        }
        Ok(())
    }
}

impl Naming {
    fn path(&self) -> &Path {
        match self {
            Naming::File(path, _)
            | Naming::Folder(path)
            | Naming::Rename(path, _)
            | Naming::Unlink(path) => path,
        }
    }
}

impl Inode {
    /// What the file holds after the loss.
    fn content(&self, loss: Loss, chance: &mut impl FnMut(u64) -> u64) -> Vec<u8> {
        let mut content = Vec::new();
        for (number, change) in self.changes.iter().enumerate() {
            let is_durable = number < self.durable;
            let fate = match (is_durable, loss) {
                (true, _) | (false, Loss::Nothing) => Fate::Kept,
                (false, Loss::Everything) => Fate::Lost,
                (false, Loss::Some) => match chance(10) {
                    0..4 => Fate::Lost,
                    4..6 => Fate::Kept,
                    _ => Fate::Torn,
                },
            };
            change.apply(fate, &mut content, chance);
        }
        content
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    Torn,
}

impl Change {
    fn apply(&self, fate: Fate, content: &mut Vec<u8>, chance: &mut impl FnMut(u64) -> u64) {
        match (self, fate) {
            (_, Fate::Lost) => {}
            (Change::Truncate { len }, Fate::Kept | Fate::Torn) => content.resize(*len, 0),
            (Change::Write { offset, bytes }, Fate::Kept) => put(content, *offset, bytes),
            (Change::Write { offset, bytes }, Fate::Torn) => {
                // The file may have grown already, or not; of its sectors some are written, each
                // whole. So what is written over is torn at the bounds of sectors only.
                let grown = match chance(2) {
                    0 => bytes.len(),
                    _ => chance(bytes.len() as u64 + 1) as usize,
                };
                let end = grown.max(content.len().saturating_sub(*offset).min(bytes.len()));
                if end > 0 && content.len() < offset + end {
                    content.resize(offset + end, 0);
                }
                let mut start = 0;
                while start < end {
                    let boundary = ((offset + start) / SECTOR_BYTES + 1) * SECTOR_BYTES - offset;
                    let stop = boundary.min(end);
                    if chance(10) < 6 {
                        put(content, offset + start, bytes.get(start..stop).unwrap_or_default());
                    }
                    start = stop;
                }
            }
        }
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}
