//! Views for tools.

/// What a dashboard shows.
pub mod ui {
    pub use crate::ui::{ClusterState, OmniPaxosStates, LARGEST_PID_SHOWN};
}
