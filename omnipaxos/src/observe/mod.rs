//! Observation of a replica: events, a status, log messages, metrics, views for dashboards.

pub mod events;
pub(crate) mod metrics;
pub mod status;
pub(crate) mod trace;
pub(crate) mod ui;
