//! A terminal dashboard for a replica of [`omnipaxos`].
//!
//! Most programs need only [`OmniPaxosUI`]. Its parts are public for other dashboards, for example
//! of a whole cluster:
//!
//! - the model ([`App`]), which is drawn as a widget of [`ratatui`];
//! - its [`widgets`];
//! - the queue of log lines ([`LogQueue`]);
//! - the terminal ([`screen`]).
#![forbid(unsafe_code)]

mod app;
mod config;
mod dashboard;
mod log;
mod observation;
mod rates;
pub mod screen;
mod view;
pub mod widgets;

pub use app::{App, Lag, Link, Server};
pub use config::UIAppConfig;
pub use dashboard::OmniPaxosUI;
pub use log::{Log, LogItem, LogLine, LogQueue};
pub use observation::Observation;
pub use ratatui;
pub use rates::Rates;
