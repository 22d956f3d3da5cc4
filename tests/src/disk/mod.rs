//! A disk that survives the crash of its server, and fails on request.

mod backing;
mod image;
mod snapshots;
mod storage;

pub use self::image::{Change, Image};
use self::{backing::BackingStorage, snapshots::Received};
use crate::{
    plan::Setting,
    rng::Rng,
    value::{is_refused, SimEntry},
};
use omnipaxos::{
    identity::Identity,
    storage::{SnapshotBytes, StorageOp, StorageResult},
};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt::{self, Debug, Formatter},
    rc::Rc,
};

/// How a list of operations is written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Atomicity {
    /// All of it or nothing.
    Atomic,
    /// One operation after another, as the provided method of the trait does. A write that compacts
    /// is whole all the same: `Storage` asks for that, since it moves indices.
    OneByOne,
}

/// Whether a disk does what it acknowledges; a lying one is a negative control of the checker.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Honesty {
    /// It does.
    Honest,
    /// Some writes are acknowledged, and lost if the server crashes before the next one.
    SkipsFlushes,
}

/// What goes wrong with a write.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server crashes.
    Crash,
    /// The write returns an error.
    Error,
}

/// A failure to come.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct WriteFault {
    /// Number of operations that still succeed: of whole writes where they are atomic.
    pub after: u64,
    /// What happens then.
    pub failure: Failure,
    /// Whether the operation that fails is done nevertheless.
    pub applied: bool,
}

/// How much of a failing write was done.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing of it.
    Nothing,
    /// Some of its operations, not all.
    Part,
    /// All of it.
    All,
}

/// What happened to a disk since the cluster asked last.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Accident {
    /// The server crashed in a write, of which this part was done.
    Crashed(Done),
    /// A write failed.
    WriteFailed,
    /// A read failed.
    ReadFailed,
}

/// How a disk was used.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls of `write_atomically`.
    pub writes: u64,
    /// Operations, in these calls and outside.
    pub ops: u64,
    /// Operations outside of `write_atomically`.
    pub direct_ops: u64,
    /// Calls of `write_received`, which are counted as writes as well.
    pub received: u64,
}

/// The values that some disk of a run has taken though others refuse them. A disk that refuses one
/// is to hold it only if the leader had it before.
pub type Taken = Rc<RefCell<BTreeSet<u64>>>;

/// Outputs that a slow disk needs to write what has come of a snapshot: the time of some heartbeat rounds, or
/// of many.
const SLOWNESS: [u64; 3] = [30, 100, 300];

/// A handle on a disk. Clones are handles on the same disk.
#[derive(Clone)]
pub struct SimDisk<T: SimEntry>(Rc<RefCell<Disk<T>>>);

/// Shows how often the disk was written. Its content is long, and the same for all clones.
impl<T: SimEntry> Debug for SimDisk<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Disk<T: SimEntry> {
    /// What the replica reads.
    image: Image<T>,
    /// The persistent storage that is written the same, if this run has them.
    backing: Option<BackingStorage<T>>,
    /// What survives a crash, where that is less than `image`: writes were skipped, or the snapshot of
    /// a compaction is not written yet.
    durable: Option<Box<Image<T>>>,
    /// Whether compactions may become durable after the call that writes them.
    writes_snapshots_later: bool,
    atomicity: Atomicity,
    honesty: Honesty,
    /// The values that some disk has taken though others refuse them.
    taken: Taken,
    /// Whether this one refuses them when it is asked.
    refuses: bool,
    /// Never lost: counted before the server is there.
    incarnation: u64,
    /// Made with the disk, if it has an id.
    id: Option<u64>,
    rng: Rng,
    /// Whether it has the bytes of its snapshots, and receives those of others in parts.
    has_bytes: bool,
    bytes_rng: Rng,
    /// Outputs that it needs to write what has come of a snapshot. If 0, it draws in each output.
    slowness: u64,
    received: Option<Received>,
    /// The bytes that were asked for last.
    earlier: Option<SnapshotBytes>,
    /// Whether the write that runs installs the snapshot that the storage below has received.
    installs_below: bool,
    write_fault: Option<WriteFault>,
    /// Number of reads that still succeed.
    read_fault: Option<u64>,
    accident: Option<Accident>,
    usage: Usage,
    change: Change,
    misuse: Option<String>,
    /// The operations written, in words, if they are traced.
    words: Option<Vec<String>>,
}

/// What a disk is made of.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Memory alone.
    Memory,
    /// Memory, and beneath it a persistent storage, which must hold the same.
    Persistent,
}

impl<T: SimEntry> SimDisk<T> {
    /// An empty disk in memory, which lies about nothing and refuses nothing.
    pub fn plain(atomicity: Atomicity, seed: u64) -> Self {
        Self(Rc::new(RefCell::new(Disk {
            image: Image::default(),
            backing: None,
            durable: None,
            atomicity,
            honesty: Honesty::Honest,
            taken: Taken::default(),
            refuses: false,
            incarnation: 0,
            id: None,
            writes_snapshots_later: false,
            rng: Rng::of(&[seed]),
            has_bytes: false,
            bytes_rng: Rng::of(&[seed, 1]),
            slowness: 0,
            received: None,
            earlier: None,
            installs_below: false,
            write_fault: None,
            read_fault: None,
            accident: None,
            usage: Usage::default(),
            change: Change::Everything,
            misuse: None,
            words: None,
        })))
    }

    /// Lets the disk have the bytes of its snapshots, and receive those of others in parts. Lets the
    /// snapshots of compactions become durable after the writes that make them. A crash undoes
    /// a compaction whose snapshot is not durable.
    pub fn defer_snapshots(&self) {
        let mut disk = self.0.borrow_mut();
        disk.writes_snapshots_later = true;
        disk.has_bytes = true;
    }

    /// The snapshot of a compaction becomes durable, and that of each later one at once. Before that it
    /// may have to wait for a later write, which need not come.
    pub fn finish_snapshots(&self) {
        let mut disk = self.0.borrow_mut();
        disk.writes_snapshots_later = false;
        if disk.durable.take().is_some() {
            disk.change = Change::Everything;
        }
    }

    /// Whether it receives a snapshot now.
    pub fn is_receiving(&self) -> bool {
        self.0.borrow().received.is_some()
    }

    /// Ticks that it needs at rest to write what has come of a snapshot: there is an output in each.
    pub fn slowness(&self) -> u64 {
        let disk = self.0.borrow();
        if disk.has_bytes {
            disk.slowness
        } else {
            0
        }
    }

    /// Whether a crash now would undo a compaction.
    pub fn would_undo_compaction(&self) -> bool {
        self.0.borrow().durable.is_some()
    }

    /// Number of entries that the replica has compacted.
    pub fn compacted_idx(&self) -> u64 {
        self.0.borrow().image.compacted_idx
    }

    /// Forgets the failures that were planned.
    pub fn forget_faults(&self) {
        let mut disk = self.0.borrow_mut();
        (disk.write_fault, disk.read_fault) = (None, None);
    }

    /// An empty disk.
    pub fn new(setting: &Setting, at: usize, taken: Taken, seed: u64) -> Self {
        let (atomicity, honesty, medium) = (setting.atomicity, setting.honesty, setting.medium);
        let (backing, misuse) = match medium {
            Medium::Memory => (None, None),
            Medium::Persistent => match BackingStorage::new(Rng::of(&[seed, 2]).chance(2, 3)) {
                Ok(backing) => (Some(backing), None),
                Err(problem) => (None, Some(problem)),
            },
        };
        let (mut rng, mut bytes_rng) = (Rng::of(&[seed]), Rng::of(&[seed, 1]));
        let mut slow_rng = Rng::of(&[seed, 3]);
        let may_defer = honesty == Honesty::Honest && backing.is_none();
        Self(Rc::new(RefCell::new(Disk {
            image: Image::default(),
            writes_snapshots_later: may_defer && rng.chance(1, 2),
            backing,
            durable: None,
            atomicity,
            honesty,
            taken,
            refuses: setting.refusal.is_at(at),
            incarnation: 0,
            id: None,
            rng,
            has_bytes: bytes_rng.chance(2, 3),
            bytes_rng,
            slowness: if slow_rng.chance(1, 4) { slow_rng.pick(&SLOWNESS) } else { 0 },
            received: None,
            earlier: None,
            installs_below: false,
            write_fault: None,
            read_fault: None,
            accident: None,
            usage: Usage::default(),
            change: Change::Everything,
            misuse,
            words: None,
        })))
    }

    /// Gives the disk an id, as a lasting storage has.
    pub fn set_id(&self, id: u64) {
        self.0.borrow_mut().id = Some(id);
    }

    /// Plans a failure of a write.
    pub fn plan_write_fault(&self, fault: WriteFault) {
        self.0.borrow_mut().write_fault = Some(fault);
    }

    /// Plans a failure of a read, after `after` of them.
    pub fn plan_read_fault(&self, after: u64) {
        self.0.borrow_mut().read_fault = Some(after);
    }

    /// Repairs the disk, after a crash of its server: a compaction whose snapshot was not written is
    /// undone.
    pub fn restart(&self) {
        self.0.borrow_mut().lose_what_is_not_durable();
        self.0.borrow_mut().received = None;
        self.repair();
    }

    /// Forgets what was planned, and works again. What only seemed written is lost.
    pub fn repair(&self) {
        let mut disk = self.0.borrow_mut();
        disk.write_fault = None;
        disk.read_fault = None;
        disk.accident = None;
        // The storage below is opened again, and has forgotten what it had received.
        if let Some(received) = &mut disk.received {
            received.forget_below();
        }
        if !disk.writes_snapshots_later {
            disk.lose_what_is_not_durable();
        }
        let disk = &mut *disk;
        if let Some(Err(problem)) = disk.backing.as_mut().map(|below| below.reopen(&disk.image)) {
            disk.misuse.get_or_insert(problem);
        }
    }

    /// Lets nothing fail while `f` looks at the disk.
    pub fn undisturbed<R>(&self, f: impl FnOnce() -> R) -> R {
        let held = self.0.borrow_mut().read_fault.take();
        let result = f();
        self.0.borrow_mut().read_fault = held;
        result
    }

    /// What happened, if anything did since the last [`repair`](SimDisk::repair).
    pub fn accident(&self) -> Option<Accident> {
        self.0.borrow().accident
    }

    /// How the disk was used so far.
    pub fn usage(&self) -> Usage {
        self.0.borrow().usage
    }

    /// How the disk was misused first, if it was.
    pub fn misuse(&self) -> Option<String> {
        self.0.borrow().misuse.clone()
    }

    /// Begins to keep the operations in words.
    pub fn keep_words(&self) {
        self.0.borrow_mut().words = Some(Vec::new());
    }

    /// The operations since the last call, in words.
    pub fn take_words(&self) -> Vec<String> {
        self.0.borrow_mut().words.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Shows what would survive a crash now, and what changed since the last call.
    pub fn inspect<R>(&self, f: impl FnOnce(&Image<T>, Change) -> R) -> R {
        let mut disk = self.0.borrow_mut();
        let change = std::mem::replace(&mut disk.change, Change::NOTHING);
        f(disk.durable.as_deref().unwrap_or(&disk.image), change)
    }

    /// Shows what would survive a crash now.
    pub fn peek<R>(&self, f: impl FnOnce(&Image<T>) -> R) -> R {
        let disk = self.0.borrow();
        f(disk.durable.as_deref().unwrap_or(&disk.image))
    }

    fn check(&self, entry: &T) -> StorageResult<()> {
        let id = entry.id();
        let disk = self.0.borrow();
        match (is_refused(id), disk.refuses) {
            (true, true) => return Err(format!("no disk here holds {id}").into()),
            // Others may hold it before this one.
            (true, false) => drop(disk.taken.borrow_mut().insert(id)),
            (false, _) => {}
        }
        Ok(())
    }

    fn direct(&mut self, op: StorageOp<T>) -> StorageResult<u64> {
        let mut disk = self.0.borrow_mut();
        disk.usage.direct_ops += 1;
        disk.write(&mut vec![op])?;
        Ok(disk.image.log.len() as u64)
    }

    fn read<R>(&self, f: impl FnOnce(&Image<T>) -> R) -> StorageResult<R> {
        let mut disk = self.0.borrow_mut();
        if matches!(disk.accident, Some(Accident::Crashed(_))) {
            return Err("the server has crashed".into());
        }
        match disk.read_fault {
            Some(0) => {
                disk.read_fault = None;
                disk.accident = Some(Accident::ReadFailed);
                return Err("the read failed".into());
            }
            Some(left) => disk.read_fault = Some(left - 1),
            None => {}
        }
        Ok(f(&disk.image))
    }
}

/// Whether an operation gives up entries, or moves the indices of others.
fn is_compaction<T: SimEntry>(op: &StorageOp<T>) -> bool {
    match op {
        StorageOp::Trim(_) | StorageOp::SetCompactedIdx(_) | StorageOp::SetSnapshot(_) => true,
        StorageOp::AppendEntry(_)
        | StorageOp::AppendEntries(_)
        | StorageOp::AppendOnPrefix(..)
        | StorageOp::AppendShared(_)
        | StorageOp::AppendSharedOnPrefix(..)
        | StorageOp::SetPromise(_)
        | StorageOp::SetDecidedIndex(_)
        | StorageOp::SetAcceptedRound(_)
        | StorageOp::SetStopsign(_)
        | StorageOp::SetEpochs(_) => false,
    }
}

/// Whether an operation may be done.
enum Verdict {
    Do,
    Fail(WriteFault),
}

impl<T: SimEntry> Disk<T> {
    fn write(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        self.write_durably(ops)
    }

    fn lose_what_is_not_durable(&mut self) {
        if let Some(durable) = self.durable.take() {
            self.image = *durable;
            self.change = Change::Everything;
        }
    }

    fn write_whole(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        if matches!(self.accident, Some(Accident::Crashed(_))) {
            return Err("the server has crashed".into());
        }
        self.choose_honesty();
        match self.atomicity {
            Atomicity::Atomic => self.write_all(ops),
            Atomicity::OneByOne if ops.iter().any(is_compaction) => self.write_all(ops),
            Atomicity::OneByOne => self.write_each(ops),
        }
    }

    /// Writes a compaction, whose snapshot may become durable later. A waiting snapshot is replaced.
    fn write_compaction(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        if self.writes_snapshots_later && self.durable.is_none() && self.accident.is_none() {
            self.durable = Some(Box::new(self.image.clone()));
        }
        self.write_whole(ops)
    }

    /// Writes what is durable afterwards, and a compaction that waited perhaps.
    fn write_durably(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        if self.writes_snapshots_later
            && self.durable.is_some()
            && self.accident.is_none()
            && (ops.iter().any(is_compaction) || self.rng.chance(1, 6))
        {
            self.durable = None;
            self.change = Change::Everything;
        }
        self.write_whole(ops)
    }

    /// Keeps an identity, as a write that fails as others do.
    fn set_identity(&mut self, identity: Identity) -> StorageResult<()> {
        if matches!(self.accident, Some(Accident::Crashed(_))) {
            return Err("the server has crashed".into());
        }
        match self.verdict() {
            Verdict::Do => {
                self.keep_identity(identity);
                Ok(())
            }
            Verdict::Fail(fault) if fault.applied => {
                self.keep_identity(identity);
                self.fail(fault, Done::All)
            }
            Verdict::Fail(fault) => self.fail(fault, Done::Nothing),
        }
    }

    fn keep_identity(&mut self, identity: Identity) {
        if let Some(Err(problem)) =
            self.backing.as_mut().map(|below| below.set_identity(identity.clone()))
        {
            self.misuse.get_or_insert(problem);
        }
        if let Some(durable) = &mut self.durable {
            durable.identity = Some(identity.clone());
        }
        self.image.identity = Some(identity);
    }

    fn choose_honesty(&mut self) {
        match self.honesty {
            Honesty::Honest => {}
            Honesty::SkipsFlushes => {
                self.change = Change::Everything;
                if !self.rng.chance(1, 4) {
                    self.durable = None;
                } else if self.durable.is_none() {
                    self.durable = Some(Box::new(self.image.clone()));
                }
            }
        }
    }

    fn write_all(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        match self.verdict() {
            Verdict::Do => {
                self.write_to_backing(ops);
                ops.drain(..).for_each(|op| self.apply(op));
                Ok(())
            }
            Verdict::Fail(fault) if fault.applied => {
                self.write_to_backing(ops);
                ops.drain(..).for_each(|op| self.apply(op));
                self.fail(fault, Done::All)
            }
            Verdict::Fail(fault) => self.fail(fault, Done::Nothing),
        }
    }

    fn write_each(&mut self, ops: &mut Vec<StorageOp<T>>) -> StorageResult<()> {
        let total = ops.len();
        for (done, op) in ops.drain(..).enumerate() {
            match self.verdict() {
                Verdict::Do => {
                    self.write_to_backing(std::slice::from_ref(&op));
                    self.apply(op);
                }
                Verdict::Fail(fault) => {
                    let done = if fault.applied {
                        self.write_to_backing(std::slice::from_ref(&op));
                        self.apply(op);
                        done + 1
                    } else {
                        done
                    };
                    let done = match done {
                        0 => Done::Nothing,
                        done if done == total => Done::All,
                        _ => Done::Part,
                    };
                    return self.fail(fault, done);
                }
            }
        }
        Ok(())
    }

    fn verdict(&mut self) -> Verdict {
        match self.write_fault {
            Some(fault) if fault.after == 0 => {
                self.write_fault = None;
                Verdict::Fail(fault)
            }
            Some(fault) => {
                self.write_fault = Some(WriteFault { after: fault.after - 1, ..fault });
                Verdict::Do
            }
            None => Verdict::Do,
        }
    }

    fn fail(&mut self, fault: WriteFault, done: Done) -> StorageResult<()> {
        if done == Done::Part {
            self.change = Change::Torn;
        }
        self.accident = Some(match fault.failure {
            Failure::Crash => Accident::Crashed(done),
            Failure::Error => Accident::WriteFailed,
        });
        Err("the write failed".into())
    }

    fn write_to_backing(&mut self, ops: &[StorageOp<T>]) {
        let installs = self.installs_below;
        let write = |below: &mut BackingStorage<T>| match installs {
            true => below.write_received(ops.get(1..).unwrap_or_default().to_vec()),
            false => below.write(ops.to_vec()),
        };
        if let Some(Err(problem)) = self.backing.as_mut().map(write) {
            self.misuse.get_or_insert(problem);
        }
    }

    fn apply(&mut self, op: StorageOp<T>) {
        self.usage.ops += 1;
        if let Some(words) = &mut self.words {
            words.push(crate::describe::op(&op));
        }
        if let Err(misuse) = self.watch_values(&op) {
            self.misuse.get_or_insert(misuse);
        }
        if self.writes_snapshots_later && !is_compaction(&op) {
            self.apply_to_durable(op.clone());
        }
        match self.image.apply(op) {
            Ok(change) => self.change = self.change.and(change),
            Err(misuse) => {
                self.misuse.get_or_insert(misuse);
            }
        }
    }

    /// Applies an operation to what survives a crash, which holds more entries at the beginning.
    fn apply_to_durable(&mut self, op: StorageOp<T>) {
        let Some(durable) = &mut self.durable else { return };
        // Not the difference of the compacted indices, which count stop signs of a log that continues.
        let more = (durable.log.len() - self.image.log.len()) as u64;
        let moved = match op {
            StorageOp::AppendOnPrefix(idx, entries) => {
                StorageOp::AppendOnPrefix(idx + more, entries)
            }
            StorageOp::AppendSharedOnPrefix(idx, entries) => {
                StorageOp::AppendSharedOnPrefix(idx + more, entries)
            }
            op @ (StorageOp::AppendEntry(_)
            | StorageOp::AppendEntries(_)
            | StorageOp::AppendShared(_)
            | StorageOp::SetPromise(_)
            | StorageOp::SetDecidedIndex(_)
            | StorageOp::SetAcceptedRound(_)
            | StorageOp::SetCompactedIdx(_)
            | StorageOp::SetEpochs(_)
            | StorageOp::Trim(_)
            | StorageOp::SetStopsign(_)
            | StorageOp::SetSnapshot(_)) => op,
        };
        self.change = Change::Everything;
        if let Err(misuse) = durable.apply(moved) {
            self.misuse.get_or_insert(misuse);
        }
    }

    /// A value that this disk refuses may come only from a leader whose disk takes it.
    fn watch_values(&self, op: &StorageOp<T>) -> Result<(), String> {
        let shared;
        let entries = match op {
            StorageOp::AppendEntry(entry) => std::slice::from_ref(entry),
            StorageOp::AppendEntries(entries) | StorageOp::AppendOnPrefix(_, entries) => entries,
            StorageOp::AppendShared(entries) | StorageOp::AppendSharedOnPrefix(_, entries) => {
                shared = entries.lock();
                &*shared
            }
            StorageOp::SetPromise(_)
            | StorageOp::SetDecidedIndex(_)
            | StorageOp::SetAcceptedRound(_)
            | StorageOp::SetCompactedIdx(_)
            | StorageOp::Trim(_)
            | StorageOp::SetStopsign(_)
            | StorageOp::SetSnapshot(_)
            | StorageOp::SetEpochs(_) => return Ok(()),
        };
        for id in entries.iter().map(SimEntry::id).filter(|id| is_refused(*id)) {
            if self.refuses && !self.taken.borrow().contains(&id) {
                return Err(format!("{id} is written, which the disk refuses"));
            }
        }
        Ok(())
    }
}
