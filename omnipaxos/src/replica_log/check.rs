//! Asks the storage whether it can hold and return a value, before the value is written.

use super::ReplicaLog;
use crate::{
    errors::with_causes,
    messages::sequence_paxos::LONGEST_CAUSE,
    storage::{Entry, StopSign, Storage},
};
use std::error::Error;

/// Returns the text of an error with its causes, cut to the length that a message may contain.
#[cold]
fn cause(error: Box<dyn Error>) -> String {
    let mut text = with_causes(&*error);
    if let Some(end) = (0..=LONGEST_CAUSE).rev().find(|end| text.is_char_boundary(*end)) {
        text.truncate(end);
    }
    text
}

impl<T: Entry, B: Storage<T>> ReplicaLog<T, B> {
    /// Returns the size limit of an entry, in bytes as the storage counts them.
    pub(crate) fn max_entry_bytes(&self) -> u64 {
        self.storage.max_entry_bytes().unwrap_or(u64::MAX)
    }

    /// Checks that the storage can hold an entry; the error is the reason why not.
    #[inline]
    pub(crate) fn check_entry(&self, entry: &T, limit: u64) -> Result<(), String> {
        self.storage.check_entry(entry, limit).map_err(cause)
    }

    /// Checks that the storage can hold a stop sign.
    pub(crate) fn check_stopsign(&self, stopsign: &StopSign, limit: u64) -> Result<(), String> {
        self.storage.check_stopsign(stopsign, limit).map_err(cause)
    }

    /// Checks that the storage can hold a snapshot.
    pub(crate) fn check_snapshot(&self, snapshot: &T::Snapshot) -> Result<(), String> {
        self.storage.check_snapshot(snapshot).map_err(cause)
    }

    /// Checks that the storage can hold a snapshot of the first `idx` entries, before it replaces
    /// entries here.
    pub(super) fn check_own_snapshot(
        &self,
        idx: u64,
        snapshot: &T::Snapshot,
    ) -> Result<(), String> {
        match self.may_become_durable_later(idx) {
            true => self.storage.check_compaction(snapshot).map_err(cause),
            false => self.check_snapshot(snapshot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{cause, LONGEST_CAUSE};

    #[test]
    fn a_long_cause_is_cut_between_letters() {
        for (text, length) in [
            ("short".to_string(), 5),
            ("x".repeat(300), LONGEST_CAUSE),
            (format!("x{}", "ü".repeat(300)), LONGEST_CAUSE - 1),
        ] {
            let cut = cause(text.clone().into());
            assert_eq!(cut.len(), length);
            assert!(text.starts_with(&cut));
        }
    }
}
