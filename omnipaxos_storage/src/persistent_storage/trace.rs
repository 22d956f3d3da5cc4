//! The trace in the journal of what the journal does not hold: a large batch, and what the database keeps beside
//! the checkpoint.
//!
//! A database ignores what it reads as a damaged end of its file. Then it has an earlier checkpoint, and the
//! journal must contradict that one. A batch does so if its stamp does not follow the checkpoint at once.

use super::{
    error::StorageError, large_snapshots::Compacted, parts::Parts, records::Records,
    PersistentStorage, Reason,
};

impl<T> PersistentStorage<T> {
    /// Makes a checkpoint of what the journal does not hold. [`write_trace`](Self::write_trace) follows before
    /// the caller learns that it is durable.
    pub(super) fn checkpoint_without_journal(
        &mut self,
        reason: Reason,
    ) -> Result<(), StorageError> {
        self.journal.skip_stamp();
        self.checkpoint(reason)
    }

    /// Writes a batch that changes nothing, and contradicts every checkpoint before the last one.
    pub(super) fn write_trace(&mut self) -> Result<(), StorageError> {
        let (state, mut no_records) = (self.state.clone(), Records::default());
        // A later compaction may have been deferred, or be of no use since the last batch.
        let batch = Compacted::of(&self.written).in_state(&state);
        let batch = Parts::new(self.log.target(), state.end, &mut no_records, batch)?;
        // With large metadata of a stop sign every batch may be larger than a file of the journal.
        match self.journal.has_room(batch.bytes.len()) {
            true => self.commit(batch, state, None),
            false => Ok(()),
        }
    }

    /// Leaves a trace of a change in the database beside the checkpoint.
    pub(super) fn note_change(&mut self) -> Result<(), StorageError> {
        self.checkpoint_without_journal(Reason::Changed)?;
        self.write_trace()
    }
}
