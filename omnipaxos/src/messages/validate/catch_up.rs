//! Validation of chunks of the decided log.

use super::{check, indices, MessageValidator, Reason};
use crate::{
    messages::sequence_paxos::{CatchUpChunk, SnapshotPiece},
    storage::Entry,
};

impl MessageValidator {
    /// Checks that a chunk does not end above its sender's decided index.
    pub(super) fn chunk<T: Entry>(&self, chunk: &CatchUpChunk<T>) -> Result<(), Reason> {
        self.configuration(chunk.config_id)?;
        indices(chunk.len().ok_or(Reason::Malformed)?, chunk.decided_idx)?;
        indices(chunk.base, chunk.from_idx)?;
        indices(chunk.compacted_idx, chunk.decided_idx)?;
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
}
