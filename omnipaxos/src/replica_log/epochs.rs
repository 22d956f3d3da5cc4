//! The epochs of a log that continues through reconfigurations.
//!
//! The stop sign of an epoch keeps its index, and the next epoch begins after it. The storage keeps
//! the epochs, and no position for the stop signs between them.

use super::{named, ReplicaLog, Unstored};
use crate::{
    ballot::Ballot,
    errors::Halted,
    ids::ConfigurationId,
    storage::{Entry, Epoch, StopSign, Storage},
};

/// Whether the log continues through reconfigurations.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Continuity {
    /// A decided stop sign ends the log.
    Ends,
    /// It continues. The epochs from the one on in which the compacted index lies, in order; none
    /// before this server has learned the first one.
    Continues(Vec<Epoch>),
}

impl Continuity {
    pub(super) fn epochs(&self) -> &[Epoch] {
        match self {
            Continuity::Ends => &[],
            Continuity::Continues(epochs) => epochs,
        }
    }
}

/// Returns the stop signs between stored epochs, with their indices.
pub(super) fn stop_signs_between(epochs: &[Epoch]) -> impl Iterator<Item = (u64, StopSign)> + '_ {
    epochs.iter().filter_map(|epoch| {
        let idx = epoch.first_idx.checked_sub(1)?;
        Some((idx, StopSign::with(epoch.configuration.clone(), epoch.metadata.clone())))
    })
}

impl<T: Entry, B: Storage<T>> ReplicaLog<T, B> {
    /// Returns whether the log continues through reconfigurations.
    #[inline]
    pub(crate) fn continues(&self) -> bool {
        matches!(self.continuity, Continuity::Continues(_))
    }

    /// Returns whether a stop sign is decided, and nothing can follow.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.decided_stopsign().is_some() && !self.continues()
    }

    /// Returns the epochs in the storage; `None` if it keeps none.
    ///
    /// # Errors
    /// The storage failed.
    pub(crate) fn stored_epochs(&self) -> Result<Option<Vec<Epoch>>, Halted> {
        named(self.storage.get_epochs(), "read the epochs")
    }

    /// Lets the log continue through reconfigurations. A `founding` epoch is stored at once.
    ///
    /// # Errors
    /// The storage failed.
    pub(crate) fn set_continues(
        &mut self,
        stored: Vec<Epoch>,
        founding: Option<Epoch>,
    ) -> Result<(), Halted> {
        let epochs = match founding {
            Some(founding) => {
                let epochs = vec![founding];
                named(self.storage.set_epochs(epochs.clone()), "store the first epoch")?;
                epochs
            }
            None => stored,
        };
        self.continuity = Continuity::Continues(epochs);
        Ok(())
    }

    /// Returns the present epoch, if it is known.
    pub(crate) fn present_epoch(&self) -> Option<&Epoch> {
        self.continuity.epochs().last()
    }

    /// Returns the epochs from the one on in which the compacted index lies.
    pub(crate) fn epochs(&self) -> &[Epoch] {
        self.continuity.epochs()
    }

    /// Returns the epoch of the record `idx`.
    pub(crate) fn epoch_of(&self, idx: u64) -> Option<&Epoch> {
        self.continuity.epochs().iter().rev().find(|epoch| epoch.first_idx <= idx)
    }

    /// Returns whether an epoch is a later one than the present.
    pub(super) fn is_later(&self, epoch: &Epoch) -> bool {
        self.present_epoch().is_none_or(|present| epoch.first_idx > present.first_idx)
    }

    /// Returns whether this server may send a snapshot of the first `idx` records: its log knows in which
    /// epoch the snapshot ends.
    pub(crate) fn knows_epoch_of(&self, idx: u64) -> bool {
        !self.continues() || self.epoch_of(idx).is_some()
    }

    /// Returns the epoch that a server in configuration `config_id` may begin: the one of a snapshot
    /// that it received, or the one after a decided stop sign.
    pub(crate) fn due_epoch(&self, config_id: ConfigurationId) -> Option<Epoch> {
        let is_present = |epoch: &&Epoch| epoch.configuration.configuration_id == config_id;
        if let Some(reached) = self.present_epoch().filter(|epoch| !is_present(epoch)) {
            return Some(reached.clone());
        }
        let idx = self.stopsign_idx()?;
        let StopSign { next_config, metadata } = self.decided_stopsign()?.clone();
        Some(Epoch::new(idx + 1, next_config, metadata))
    }

    /// Forgets what was accepted in the present epoch, since the log has reached a later one.
    pub(crate) fn forget_accepted_round(&mut self) {
        self.accepted_round = Ballot::default();
    }

    /// Begins an epoch. What was promised and accepted concerned the epoch before, and all that is
    /// in the log is chosen. The entries after the stop sign were chosen in unknown ballots of this
    /// epoch. So a leader of it that was overtaken may lack them.
    pub(crate) fn begin_epoch(&mut self, epoch: Epoch) {
        debug_assert!(
            self.decided_idx >= epoch.first_idx,
            "I25: {} are decided, and the epoch begins at {}",
            self.decided_idx,
            epoch.first_idx
        );
        debug_assert_eq!(self.len(), self.decided_idx, "I25: all in the log is chosen");
        let Continuity::Continues(epochs) = &mut self.continuity else {
            return;
        };
        let first_idx = epoch.first_idx;
        if epochs.last() != Some(&epoch) {
            epochs.push(epoch);
            self.tail.begin_epoch();
            self.unstored.stopsign = true;
        }
        (self.promise, self.accepted_round) = (Ballot::default(), Ballot::default());
        self.unstored = Unstored {
            promise: false,
            accepted_round: false,
            epochs: true,
            decided_idx: true,
            is_decided_idx_due: true,
            ..self.unstored
        };
        self.decided_at_promise = self.decided_idx;
        self.chosen_idx = first_idx;
        self.lowest_reported = u64::MAX;
        let len = self.len();
        self.ids.materialize_ids(len);
        self.ids.accept_in(Ballot::default(), len);
    }

    /// Records that the log, of which a snapshot stands for the beginning, has reached this epoch.
    pub(super) fn reach(&mut self, epoch: Epoch) {
        if let Continuity::Continues(epochs) = &mut self.continuity {
            *epochs = vec![epoch];
            self.unstored.epochs = true;
        }
    }

    /// Forgets the epochs before the one in which the compacted index of the storage lies. A crash may
    /// undo a later compaction (I24), and the stop signs after that index must be known then.
    ///
    /// # Errors
    /// The storage failed.
    pub(super) fn forget_epochs(&mut self) -> Result<(), Halted> {
        if let Continuity::Continues(epochs) = &mut self.continuity {
            let compacted_idx =
                named(self.storage.get_stored_compacted_idx(), "read the stored compacted index")?;
            let ended = epochs.iter().skip(1).take_while(|next| next.first_idx <= compacted_idx);
            let ended = ended.count();
            self.unstored.epochs |= ended > 0;
            epochs.drain(..ended);
        }
        Ok(())
    }
}
