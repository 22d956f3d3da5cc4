//! What the dashboard and a server send each other, and what the log holds.

use omnipaxos::{
    macros::Entry,
    status::Status,
    util::{ConfigurationId, NodeId},
};
use omnipaxos_ui::{LogItem, LogLine};
use serde::{Deserialize, Serialize};
use slog::Level;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
pub(crate) struct Number {
    pub(crate) number: u64,
}

/// The orders of the dashboard to a server, sent repeatedly. Answered with a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The servers from and to which it drops all messages.
    pub(crate) cut: BTreeSet<NodeId>,
    /// The first number to append.
    pub(crate) first: u64,
    /// How many numbers to append, from the first on.
    pub(crate) count: u64,
    /// The ports at which the servers receive messages of each other.
    pub(crate) ports: BTreeMap<NodeId, u16>,
    /// The change of members that this server is to propose, unless it has.
    pub(crate) change: Option<Change>,
}

/// A change of the members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    /// The configuration that is to begin.
    pub(crate) configuration_id: ConfigurationId,
    /// Its members, in order.
    pub(crate) nodes: Vec<NodeId>,
}

/// A change of the members that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) change: Change,
    pub(crate) why: String,
}

/// How a server is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) status: Status,
    /// Digest of all entries decided there.
    pub(crate) digest: u64,
    /// What it logged since the last report.
    pub(crate) log: Vec<Line>,
    /// The change of the members that was refused since the last report.
    pub(crate) refusal: Option<Refusal>,
}

/// A part of a log, as it travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Line {
    Text { level: String, text: String },
    Dropped(u64),
}

impl From<LogItem> for Line {
    fn from(item: LogItem) -> Self {
        match item {
            LogItem::Line(LogLine { level, text, .. }) => {
                Self::Text { level: level.as_str().to_owned(), text }
            }
            LogItem::Dropped(lines) => Self::Dropped(lines),
            other => {
                Self::Text { level: Level::Info.as_str().to_owned(), text: format!("{other:?}") }
            }
        }
    }
}

impl Line {
    /// The line with the time at which it came: servers have no common clock.
    pub(crate) fn at(self, at: Duration) -> LogItem {
        match self {
            Self::Text { level, text } => {
                LogItem::Line(LogLine { at, level: level.parse().unwrap_or(Level::Info), text })
            }
            Self::Dropped(lines) => LogItem::Dropped(lines),
        }
    }
}
