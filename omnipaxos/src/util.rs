//! Plain types that appear in the interface.

pub use crate::{
    ids::{ConfigurationId, NodeId, SequenceNumber, TrimmedIndex},
    log_entry::{LogEntry, SnapshottedEntry},
    membership::FlexibleQuorum,
};
