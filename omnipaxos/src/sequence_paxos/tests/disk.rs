//! Entries, snapshots and a storage for the tables.

use crate::{
    ballot::Ballot,
    config::ClusterConfig,
    storage::{
        apply, Entry, Epoch, ReadSnapshot, Reception, Snapshot, SnapshotBytes, SnapshotSource,
        StopSign, Storage, StorageOp, StorageResult,
    },
};
use std::sync::{Arc, Mutex};

/// An entry. No storage takes a `z`, and none with a limit below 9 a `y`. A write of an `x`
/// fails, and a storage that holds a `w` does not return it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::sequence_paxos) struct Letter(pub(super) char);

impl Entry for Letter {
    type Snapshot = Letters;
    crate::without_unicache!();

    fn size_hint(&self) -> usize {
        10
    }
}

/// A snapshot: the letters that it stands for.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::sequence_paxos) struct Letters(pub(super) String);

impl Snapshot<Letter> for Letters {
    fn create(entries: &[Letter]) -> Self {
        Self(entries.iter().map(|letter| letter.0).collect())
    }

    fn merge(&mut self, delta: Self) {
        self.0.push_str(&delta.0);
    }

    fn use_snapshots() -> bool {
        true
    }
}

/// A storage in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    log: Vec<Letter>,
    pub(super) promise: Ballot,
    pub(super) accepted_round: Ballot,
    decided_idx: u64,
    compacted_idx: u64,
    snapshot: Option<Letters>,
    stopsign: Option<StopSign>,
    epochs: Vec<Epoch>,
    /// What was written, the same for all clones.
    pub(super) written: Arc<Mutex<Vec<String>>>,
    /// What the storage does with encoded snapshots, the same for all clones.
    pub(super) encoded: Arc<Mutex<Encoded>>,
}

/// Snapshots as bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Encoded {
    /// The number of entries that the durable snapshot stands for, if the storage has its bytes.
    pub(super) durable_idx: Option<u64>,
    /// Whether the storage receives snapshots. The bytes of one are its letters, so that all can be
    /// decoded.
    pub(super) is_receiver: bool,
    /// Whether it writes nothing of what it receives.
    pub(super) is_slow: bool,
    received: Vec<u8>,
    /// Whether what was received is written and decoded.
    pub(super) is_ready: bool,
}

/// The number of bytes of a durable snapshot.
pub(super) const DURABLE_BYTES: u64 = 100;

/// A durable snapshot.
#[derive(Debug)]
struct Zeros;

impl ReadSnapshot for Zeros {
    fn read(&self, _offset: u64, len: usize) -> StorageResult<Vec<u8>> {
        Ok(vec![0; len])
    }
}

impl Storage<Letter> for Disk {
    fn write_atomically(&mut self, ops: &mut Vec<StorageOp<Letter>>) -> StorageResult<()> {
        let written: Vec<String> = ops.iter().map(shown_op).collect();
        self.written.lock().unwrap().push(written.join(", "));
        ops.drain(..).try_for_each(|op| apply(self, op))
    }

    fn write_compaction(&mut self, ops: &mut Vec<StorageOp<Letter>>) -> StorageResult<()> {
        self.write_atomically(ops)?;
        let mut written = self.written.lock().unwrap();
        let last = written.pop().unwrap_or_default();
        written.push(format!("{last} (durable later)"));
        Ok(())
    }

    fn snapshot_source(&mut self) -> StorageResult<SnapshotSource> {
        Ok(match self.encoded.lock().unwrap().durable_idx {
            Some(idx) => {
                let bytes = SnapshotBytes::new(idx, DURABLE_BYTES, 0, Arc::new(Zeros));
                SnapshotSource::Bytes(bytes)
            }
            None => SnapshotSource::Value,
        })
    }

    fn begin_receiving(&mut self, _bytes: u64) -> StorageResult<bool> {
        Ok(self.encoded.lock().unwrap().is_receiver)
    }

    fn receive(&mut self, mut part: Vec<u8>) -> StorageResult<()> {
        self.encoded.lock().unwrap().received.append(&mut part);
        Ok(())
    }

    fn reception(&mut self) -> StorageResult<Reception> {
        let encoded = self.encoded.lock().unwrap();
        Ok(match encoded.is_ready {
            true => Reception::Ready,
            false if encoded.is_slow => Reception::Pending { written: 0 },
            false => Reception::Pending { written: encoded.received.len() as u64 },
        })
    }

    fn end_receiving(&mut self) -> StorageResult<()> {
        self.encoded.lock().unwrap().received.clear();
        Ok(())
    }

    fn write_received(&mut self, ops: &mut Vec<StorageOp<Letter>>) -> StorageResult<()> {
        let received = std::mem::take(&mut self.encoded.lock().unwrap().received);
        let snapshot = Letters(String::from_utf8(received)?);
        ops.insert(0, StorageOp::SetSnapshot(Some(snapshot)));
        self.write_atomically(ops)
    }

    fn append_entry(&mut self, entry: Letter) -> StorageResult<u64> {
        self.append_entries(vec![entry])
    }

    fn append_entries(&mut self, mut entries: Vec<Letter>) -> StorageResult<u64> {
        if entries.contains(&Letter('x')) {
            return Err("it does not write x".into());
        }
        self.log.append(&mut entries);
        self.get_log_len()
    }

    fn append_on_prefix(&mut self, from_idx: u64, entries: Vec<Letter>) -> StorageResult<u64> {
        self.log.truncate(usize::try_from(from_idx)?);
        self.append_entries(entries)
    }

    fn set_promise(&mut self, n_prom: Ballot) -> StorageResult<()> {
        self.promise = n_prom;
        Ok(())
    }

    fn set_decided_idx(&mut self, ld: u64) -> StorageResult<()> {
        self.decided_idx = ld;
        Ok(())
    }

    fn get_decided_idx(&self) -> StorageResult<u64> {
        Ok(self.decided_idx)
    }

    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()> {
        self.accepted_round = na;
        Ok(())
    }

    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        Ok(Some(self.accepted_round))
    }

    fn get_entries(&self, from: u64, to: u64) -> StorageResult<Vec<Letter>> {
        let range = usize::try_from(from)?..usize::try_from(to)?;
        let held = self.log.get(range).unwrap_or_default().iter();
        Ok(held.filter(|letter| letter.0 != 'w').cloned().collect())
    }

    fn get_log_len(&self) -> StorageResult<u64> {
        Ok(self.log.len() as u64)
    }

    fn get_suffix(&self, from: u64) -> StorageResult<Vec<Letter>> {
        self.get_entries(from, self.log.len() as u64)
    }

    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        Ok(Some(self.promise))
    }

    fn set_stopsign(&mut self, s: Option<StopSign>) -> StorageResult<()> {
        self.stopsign = s;
        Ok(())
    }

    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        Ok(self.stopsign.clone())
    }

    fn trim(&mut self, idx: u64) -> StorageResult<()> {
        self.log.drain(..usize::try_from(idx)?);
        Ok(())
    }

    fn set_compacted_idx(&mut self, idx: u64) -> StorageResult<()> {
        self.compacted_idx = idx;
        Ok(())
    }

    fn get_compacted_idx(&self) -> StorageResult<u64> {
        Ok(self.compacted_idx)
    }

    fn get_epochs(&self) -> StorageResult<Option<Vec<Epoch>>> {
        Ok(Some(self.epochs.clone()))
    }

    fn set_epochs(&mut self, epochs: Vec<Epoch>) -> StorageResult<()> {
        self.epochs = epochs;
        Ok(())
    }

    fn set_snapshot(&mut self, snapshot: Option<Letters>) -> StorageResult<()> {
        self.snapshot = snapshot;
        Ok(())
    }

    fn get_snapshot(&self) -> StorageResult<Option<Letters>> {
        Ok(self.snapshot.clone())
    }

    fn check_entry(&self, entry: &Letter, limit: u64) -> StorageResult<()> {
        match entry.0 {
            'z' => Err("no z".into()),
            'y' if limit < 9 => Err("no y".into()),
            _ => Ok(()),
        }
    }

    fn check_snapshot(&self, snapshot: &Letters) -> StorageResult<()> {
        match snapshot.0.contains('z') {
            true => Err("no z".into()),
            false => Ok(()),
        }
    }

    fn check_stopsign(&self, stopsign: &StopSign, limit: u64) -> StorageResult<()> {
        let metadata = stopsign.metadata.as_deref().unwrap_or_default();
        match metadata.contains(&b'z') || metadata.len() as u64 > limit {
            true => Err("no such stop sign".into()),
            false => Ok(()),
        }
    }
}

/// One write, as in `wrote +cd at 2, decided 3`.
fn shown_op(op: &StorageOp<Letter>) -> String {
    let text = |entries: &[Letter]| entries.iter().map(|letter| letter.0).collect::<String>();
    match op {
        StorageOp::AppendEntry(entry) => format!("+{}", entry.0),
        StorageOp::AppendEntries(entries) => format!("+{}", text(entries)),
        StorageOp::AppendOnPrefix(idx, entries) => format!("+{} at {idx}", text(entries)),
        StorageOp::AppendShared(entries) => format!("+{}", text(&entries.lock())),
        StorageOp::AppendSharedOnPrefix(idx, entries) => {
            format!("+{} at {idx}", text(&entries.lock()))
        }
        StorageOp::SetPromise(n) => format!("promise {}.{}", n.n, n.pid),
        StorageOp::SetDecidedIndex(idx) => format!("decided {idx}"),
        StorageOp::SetAcceptedRound(n) => format!("accepted {}.{}", n.n, n.pid),
        StorageOp::SetCompactedIdx(idx) => format!("compacted {idx}"),
        StorageOp::SetEpochs(epochs) => format!("{} epochs", epochs.len()),
        StorageOp::Trim(count) => format!("trim {count}"),
        StorageOp::SetStopsign(stopsign) => match stopsign {
            Some(_) => "$".to_string(),
            None => "no $".to_string(),
        },
        StorageOp::SetSnapshot(snapshot) => {
            format!("snapshot {}", snapshot.as_ref().map_or("none", |snapshot| &snapshot.0))
        }
    }
}

impl Disk {
    pub(super) fn holding(promise: Ballot, accepted_round: Ballot, log: &str) -> Self {
        let compacted = log.chars().filter(|c| ['_', '*'].contains(c)).count();
        let snapshot = log.contains('*').then(|| Letters("*".repeat(compacted)));
        let decided = |c: &char| c.is_ascii_uppercase() || ['_', '*', '!'].contains(c);
        Self {
            promise,
            accepted_round,
            log: letters(&log.to_ascii_lowercase()),
            decided_idx: log.chars().filter(decided).count() as u64,
            compacted_idx: compacted as u64,
            snapshot,
            stopsign: log.contains(['$', '!']).then(stopsign),
            epochs: Vec::new(),
            written: Arc::default(),
            encoded: Arc::default(),
        }
    }

    pub(super) fn shown(&self, decided_idx: u64) -> String {
        let gone = if self.snapshot.is_some() { "*" } else { "_" };
        let mut shown = gone.repeat(usize::try_from(self.compacted_idx).unwrap());
        for (Letter(letter), idx) in self.log.iter().zip(self.compacted_idx..) {
            let is_decided = idx < decided_idx;
            shown.push(if is_decided { letter.to_ascii_uppercase() } else { *letter });
        }
        if self.stopsign.is_some() {
            shown.push(if decided_idx > shown.len() as u64 { '!' } else { '$' });
        }
        match shown.is_empty() {
            true => "-".to_string(),
            false => shown,
        }
    }
}

pub(super) fn stopsign() -> StopSign {
    stopsign_with(None)
}

/// A stop sign with metadata. No storage takes a `z` in them.
pub(super) fn stopsign_with(metadata: Option<&str>) -> StopSign {
    let (configuration_id, nodes) = (2, vec![1, 2, 3]);
    let next = ClusterConfig { configuration_id, nodes, flexible_quorum: None };
    StopSign::with(next, metadata.map(|text| text.as_bytes().to_vec()))
}

pub(super) fn letters(text: &str) -> Vec<Letter> {
    text.chars().filter(char::is_ascii_lowercase).map(Letter).collect()
}
