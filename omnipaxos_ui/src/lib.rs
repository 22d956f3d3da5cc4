//! A terminal dashboard for a replica of [`omnipaxos`].
//!
//! [`OmniPaxosUI`] is all that most programs need. The parts that it is made of are here for other
//! dashboards, of a whole cluster, say: the model ([`App`]), which is drawn as a widget of
//! [`ratatui`], the [`widgets`] that it is made of, the queue of log lines ([`LogQueue`]) and the
//! terminal ([`screen`]).
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
