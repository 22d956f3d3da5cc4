//! Validation of chunks of the decided log.

use super::{check, indices, MessageValidator, Reason};
use crate::{
    messages::sequence_paxos::{CatchUpChunk, SnapshotPiece},
    storage::{Entry, Epoch},
};

impl MessageValidator {
    /// Checks that a chunk does not end above its sender's decided index.
    pub(super) fn chunk<T: Entry>(&self, chunk: &CatchUpChunk<T>) -> Result<(), Reason> {
        self.configuration(chunk.config_id)?;
        indices(chunk.len().ok_or(Reason::Malformed)?, chunk.decided_idx)?;
        indices(chunk.base, chunk.from_idx)?;
        indices(chunk.compacted_idx, chunk.decided_idx)?;
        if let Some(epoch) = &chunk.epoch {
            self.epoch(epoch, chunk)?;
        }
        if let Some(piece) = &chunk.piece {
            return self.piece(piece, chunk);
        }
        let end = chunk.from_idx.saturating_add(chunk.entries.len() as u64);
        self.ids(chunk.ids.as_deref(), end)?;
        chunk.stopsign.as_ref().map_or(Ok(()), |stopsign| self.stopsign(stopsign))
    }

    /// A piece must lie within its snapshot, which sums up decided entries, and travels alone.
    fn piece<T: Entry>(
        &self,
        piece: &SnapshotPiece,
        chunk: &CatchUpChunk<T>,
    ) -> Result<(), Reason> {
        let is_alone = chunk.entries.is_empty() && chunk.snapshot.is_none();
        check(is_alone && chunk.stopsign.is_none() && chunk.from_idx == chunk.base)?;
        check(!piece.bytes.is_empty() && piece.end().is_some_and(|end| end <= piece.encoding.len))?;
        indices(piece.encoding.idx, chunk.decided_idx)?;
        self.ids(chunk.ids.as_deref(), piece.encoding.idx)
    }

    /// Checks the epoch in which the first record after a snapshot lies: it is above the configuration
    /// of this server, and has begun by then. A stop sign in the chunk ends that epoch.
    fn epoch<T: Entry>(&self, epoch: &Epoch, chunk: &CatchUpChunk<T>) -> Result<(), Reason> {
        let Epoch { first_idx, configuration, .. } = epoch;
        check(self.continues && configuration.configuration_id > self.config_id)?;
        check(configuration.validate().is_ok())?;
        let from_idx = chunk.piece.as_ref().map_or(chunk.from_idx, |piece| piece.encoding.idx);
        indices(*first_idx, from_idx)?;
        let next = chunk.stopsign.as_ref().map(|stopsign| &stopsign.next_config);
        check(next.is_none_or(|next| next.configuration_id > configuration.configuration_id))
    }
}
